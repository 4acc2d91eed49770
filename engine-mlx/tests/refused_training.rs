//! Learning that is refused: what comes from peers, users and files, and what does not fit.
#![cfg(mlx)]

mod common;

use common::school::{School, lora, rows};
use common::stories;
use exo_engine_mlx::MlxOptions;
use exo_protocol::engine::{FailureKind, Optimizer, TrainSetup, Trainable};

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = stories();
    let setup = lora(2);
    let mut school = School::new(&model, &[7], &setup, folder.path()).expect("it begins");
    school.example(&rows(1, 6, 0), 0, true).expect("it learns");
    school.save();
    let resume = |change: &dyn Fn(&mut TrainSetup)| {
        let mut setup = TrainSetup {
            resume: Some(1),
            ..setup.clone()
        };
        change(&mut setup);
        let begun = School::new(&model, &[], &setup, folder.path());
        begun
            .err()
            .map(|failure| failure.message)
            .unwrap_or_default()
    };
    assert_eq!(resume(&|_| {}), "");
    assert_eq!(resume(&|setup| setup.learning_rate = 0.5), "");
    let told = resume(&|setup| setup.resume = Some(2));
    assert!(
        told.contains("no checkpoint of layers 6-7 after 2 steps; there are files of steps 1"),
        "{told}"
    );
    let told = resume(&|setup| setup.seed = 6);
    assert!(
        told.contains("is not of this job: its seed is 5, expected 6"),
        "{told}"
    );
    let told = resume(&|setup| setup.trainable = Trainable::Full { last_layers: 2 });
    assert!(
        told.contains("its trainable is lora rank=4 scale=2 last_layers=2"),
        "{told}"
    );
    let told = resume(&|setup| setup.name = "../lesson".to_owned());
    assert!(told.contains("cannot name a job"), "{told}");
    // One that was cut off in the middle.
    let path = folder.path().join("lesson/0-6-1.safetensors");
    let bytes = std::fs::read(&path).expect("it is there");
    std::fs::write(&path, &bytes[..bytes.len() - 4]).expect("it is written");
    let told = resume(&|_| {});
    assert!(told.contains("0-6-1.safetensors is damaged"), "{told}");
    std::fs::remove_file(&path).expect("it is there");
    let told = resume(&|_| {});
    assert!(
        told.contains("no checkpoint of layers 6 after 1 steps"),
        "{told}"
    );
}

#[test]
fn nothing_that_comes_from_a_peer_ends_an_engine() {
    use exo_protocol::engine::{ExampleInput, Targets, TrainCommand, TrainEvent};
    use exo_protocol::id::CallId;
    use exo_protocol::{DType, Tensor};
    let folder = tempfile::tempdir().expect("a folder");
    let setup = lora(0);
    let mut school = School::new(&stories(), &[4], &setup, folder.path()).expect("it begins");
    let (call, job) = (CallId(3), common::school::job());
    let hidden = |shape: &[usize], dtype: DType| {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Tensor::new(dtype, shape.to_vec(), vec![0; bytes].into()).expect("it fits")
    };
    let forward = |input: ExampleInput, targets: Option<Targets>| TrainCommand::Forward {
        call,
        job: job.clone(),
        step: 1,
        input,
        targets,
        learn: true,
    };
    let tokens = |tokens: &[u32], batch| ExampleInput::Tokens {
        tokens: tokens.to_vec(),
        batch,
    };
    let targets = |tokens: &[u32], counted: &[(u32, u32)]| {
        Some(Targets {
            tokens: tokens.to_vec(),
            counted: counted.to_vec(),
        })
    };
    let good = hidden(&[1, 2, 192], DType::F32);
    for (stage, command) in [
        (0, forward(tokens(&[], 0), None)),
        (0, forward(tokens(&[], 1), None)),
        (0, forward(tokens(&[1, 2, 3], 2), None)),
        (0, forward(tokens(&[1, 2], 0), None)),
        (0, forward(tokens(&[1, 4_000_000_000], 1), None)),
        (0, forward(tokens(&[5; 600], 1), None)),
        (0, forward(tokens(&[1, 2], 1), targets(&[2, 3], &[(0, 2)]))),
        (0, forward(ExampleInput::Hidden(good.clone()), None)),
        (1, forward(tokens(&[1, 2], 1), targets(&[2, 3], &[(0, 2)]))),
        (1, forward(ExampleInput::Hidden(good.clone()), None)),
        (
            1,
            forward(ExampleInput::Hidden(good.clone()), targets(&[2], &[(0, 2)])),
        ),
        (
            1,
            forward(ExampleInput::Hidden(good.clone()), targets(&[2, 3], &[])),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(good.clone()),
                targets(&[2, 3], &[(0, 3)]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(good.clone()),
                targets(&[2, 3], &[(2, 1)]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(good.clone()),
                targets(&[2, 9999], &[(0, 2)]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(hidden(&[2, 192], DType::F32)),
                targets(&[2, 3], &[(0, 2)]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(hidden(&[1, 2, 64], DType::F32)),
                targets(&[2, 3], &[(0, 2)]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(hidden(&[0, 2, 192], DType::F32)),
                targets(&[], &[]),
            ),
        ),
        (
            1,
            forward(
                ExampleInput::Hidden(hidden(&[1, 2, 192], DType::I32)),
                targets(&[2, 3], &[(0, 2)]),
            ),
        ),
        (
            0,
            TrainCommand::Backward {
                call,
                job: job.clone(),
                step: 1,
                gradient: good,
            },
        ),
        (
            0,
            TrainCommand::Save {
                call,
                job: job.clone(),
                iteration: 7,
            },
        ),
        (
            0,
            TrainCommand::Save {
                call,
                job: "other".into(),
                iteration: 0,
            },
        ),
    ] {
        let told = format!("{command:?}");
        let failure = common::school::train(school.engine(stage), command).expect_err(&told);
        let kinds = [FailureKind::BadInput, FailureKind::ContextFull];
        assert!(kinds.contains(&failure.kind), "{told}: {failure:?}");
    }
    // A gradient of another step, or of another shape; then there is nothing left to go back to.
    for (step, shape) in [(2, [1, 2, 192]), (1, [2, 1, 192])] {
        let command = forward(tokens(&[1, 2], 1), None);
        let event = common::school::train(school.engine(0), command);
        assert!(
            matches!(event, Ok(TrainEvent::Forwarded { .. })),
            "{event:?}"
        );
        let gradient = hidden(&shape, DType::F32);
        let command = TrainCommand::Backward {
            call,
            job: job.clone(),
            step,
            gradient,
        };
        common::school::train(school.engine(0), command).expect_err("it does not fit");
    }
    // A number that is none changes nothing.
    let nan = Tensor::new(
        DType::F32,
        vec![1, 2, 192],
        [0xff; 2 * 192 * 4].to_vec().into(),
    );
    let nan = ExampleInput::Hidden(nan.expect("it fits"));
    let command = forward(nan, targets(&[2, 3], &[(0, 2)]));
    let failure = common::school::train(school.engine(1), command).expect_err("it is not finite");
    assert!(
        failure
            .message
            .contains("the loss of step 1 is not a finite number"),
        "{failure:?}"
    );
    school
        .example(&rows(1, 6, 0), 0, true)
        .expect("it still learns");
}

#[test]
fn a_setup_that_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |change: &dyn Fn(&mut TrainSetup)| {
        let mut setup = lora(0);
        change(&mut setup);
        let begun = School::new(&stories(), &[], &setup, folder.path());
        begun
            .err()
            .map(|failure| failure.message)
            .unwrap_or_default()
    };
    let lora = |rank, scale| Trainable::Lora {
        rank,
        scale,
        last_layers: 0,
    };
    let told = refused(&|setup| setup.trainable = lora(0, 1.0));
    assert!(told.contains("adapters of rank 0; expected 1 to"), "{told}");
    let told = refused(&|setup| setup.trainable = lora(u32::MAX, 1.0));
    assert!(told.contains("adapters of rank 4294967295"), "{told}");
    let told = refused(&|setup| setup.trainable = lora(1, f32::NAN));
    assert!(told.contains("adapters multiplied by NaN"), "{told}");
    let told = refused(&|setup| setup.learning_rate = f32::INFINITY);
    assert!(told.contains("a learning rate of inf"), "{told}");
    let told = refused(&|setup| setup.optimizer = Optimizer::AdamW { weight_decay: 2.0 });
    assert!(told.contains("a weight decay of 2"), "{told}");
    let told = refused(&|setup| {
        setup.trainable = Trainable::Nothing;
        setup.resume = Some(1);
    });
    assert!(told.contains("nothing to go on with"), "{told}");
}

#[test]
fn what_does_not_fit_is_refused_with_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let begin = |setup: &TrainSetup, mebibytes: u64| {
        let mut options = MlxOptions::default();
        options.memory_limit = Some(mebibytes << 20);
        School::with_options(&stories(), &[], setup, folder.path(), options)
    };
    // 15 MB of weights; whole layers take six times their 14 MB to learn.
    let full = TrainSetup {
        trainable: Trainable::Full { last_layers: 0 },
        ..lora(0)
    };
    let failure = begin(&full, 32).err().expect("it does not fit");
    assert_eq!(failure.kind, FailureKind::OutOfMemory);
    let told = &failure.message;
    assert!(told.starts_with("what learns needs 75"), "{told}");
    let mut school = begin(&lora(0), 32).expect("adapters are small");
    let example = school.example(&rows(8, 400, 0), 0, true);
    let failure = example.expect_err("it does not fit");
    assert_eq!(failure.kind, FailureKind::OutOfMemory);
    assert!(
        failure.message.starts_with("the example needs"),
        "{failure}"
    );
    school.example(&rows(1, 8, 0), 0, true).expect("it fits");
}
