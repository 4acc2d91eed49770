//! Learning: true gradients wherever a model is cut, and jobs that go on.
#![cfg(mlx)]

mod common;

use common::school::{School, difference, lora, rows};
use common::stories;
use exo_engine_mlx::{MlxOptions, WeightForm};
use exo_models::Model;
use exo_protocol::engine::{FailureKind, Optimizer, TrainSetup, Trainable};
use std::collections::BTreeMap;
use std::path::Path;

/// Learns some steps and returns the parameters.
fn learned(cuts: &[u32], setup: &TrainSetup, steps: u32) -> (Vec<f32>, BTreeMap<String, Vec<f32>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut school = School::new(&stories(), cuts, setup, folder.path()).expect("it begins");
    let losses = (0..steps).map(|step| {
        let example = school.example(&rows(2, 8, step), 1, true);
        example.expect("it learns").0
    });
    let losses = losses.collect();
    (losses, school.save())
}

#[test]
fn gradients_are_the_same_wherever_a_model_is_cut() {
    // With SGD what a parameter loses in a step is the rate times its gradient.
    let all: [(Trainable, &[&[u32]]); 3] = [
        (lora(0).trainable, &[&[1], &[7], &[2, 5]]),
        (Trainable::Full { last_layers: 0 }, &[&[4]]),
        (Trainable::Full { last_layers: 3 }, &[&[6]]),
    ];
    for (trainable, cuts) in all {
        let setup = TrainSetup {
            trainable,
            optimizer: Optimizer::Sgd,
            learning_rate: 1e-2,
            ..lora(0)
        };
        let (losses, whole) = learned(&[], &setup, 2);
        for cuts in cuts {
            let (cut_losses, cut) = learned(cuts, &setup, 2);
            let off = difference(&whole, &cut);
            assert!(off < 1e-5, "{:?} {cuts:?}: {off}", setup.trainable);
            for (a, b) in losses.iter().zip(&cut_losses) {
                assert!((a - b).abs() < 1e-4, "{losses:?} {cut_losses:?}");
            }
        }
    }
}

#[test]
fn the_loss_falls_as_the_gradient_says() {
    // To first order a step changes the loss by the rate times the gradient's square.
    let rate = 1e-5;
    let setup = TrainSetup {
        trainable: Trainable::Full { last_layers: 0 },
        optimizer: Optimizer::Sgd,
        learning_rate: rate,
        ..lora(0)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut school = School::new(&stories(), &[3], &setup, folder.path()).expect("it begins");
    let example = rows(2, 16, 0);
    let before = school.save();
    let (first, positions) = school.example(&example, 0, true).expect("it learns");
    let (second, _) = school.example(&example, 0, false).expect("it compares");
    assert_eq!(positions, 30);
    let after = school.save();
    let lost = before
        .iter()
        .flat_map(|(name, old)| old.iter().zip(&after[name]));
    let square: f64 = lost
        .map(|(old, new)| (f64::from(old - new) / f64::from(rate)).powi(2))
        .sum();
    let expected = f64::from(rate) * square;
    let found = f64::from(first - second);
    assert!(
        (found / expected - 1.0).abs() < 0.05,
        "the loss fell by {found}, the gradient says {expected}"
    );
}

#[test]
fn gradients_are_those_of_mlx_lm() {
    // The loss of `rows(2, 16, 0)` on the built-in model in single precision, and the sums of the
    // squares of its gradients, by mlx-lm 0.31.3 and `mlx.nn.value_and_grad` over the whole model.
    const LOSS: f32 = 11.563_282;
    const ALL_LAYERS: f64 = 5_452.049_5;
    let some = [
        ("layers.0.attn_q", 39.742_851),
        ("layers.3.ffn_down", 19.604_301),
        ("layers.7.attn_norm", 1.249_670),
        ("layers.5.attn_k", 10.253_930),
    ];
    let setup = TrainSetup {
        trainable: Trainable::Full { last_layers: 0 },
        optimizer: Optimizer::Sgd,
        learning_rate: 1.0,
        ..lora(0)
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut school = School::new(&stories(), &[3], &setup, folder.path()).expect("it begins");
    let before = school.save();
    let (loss, _) = school.example(&rows(2, 16, 0), 0, true).expect("it learns");
    assert!((loss / LOSS - 1.0).abs() < 1e-5, "{loss}");
    let after = school.save();
    let square = |name: &String| {
        let lost = before[name].iter().zip(&after[name]);
        lost.map(|(old, new)| f64::from(old - new).powi(2))
            .sum::<f64>()
    };
    let all: f64 = before.keys().map(square).sum();
    assert!((all / ALL_LAYERS - 1.0).abs() < 1e-4, "{all}");
    for (name, expected) in some {
        let found = square(&name.to_owned());
        assert!((found / expected - 1.0).abs() < 1e-4, "{name}: {found}");
    }
}

#[test]
fn adapters_learn_and_the_rest_stays() {
    let setup = lora(2);
    let folder = tempfile::tempdir().expect("a folder");
    let mut school = School::new(&stories(), &[4], &setup, folder.path()).expect("it begins");
    // Rank 4 in two layers of hidden 192, FFN 512, and keys and values of 64.
    let in_and_out = [
        (192, 192),
        (192, 64),
        (192, 64),
        (192, 192),
        (192, 512),
        (192, 512),
        (512, 192),
    ];
    let numbers: u64 = in_and_out.iter().map(|(a, b)| 4 * (a + b)).sum();
    assert_eq!(school.trainable, 2 * numbers);
    let example = rows(3, 10, 1);
    let losses: Vec<f32> = (0..30)
        .map(|_| school.example(&example, 0, true).expect("it learns").0)
        .collect();
    assert!(losses[29] < losses[0] * 0.8, "{losses:?}");
    let learned = school.save();
    let learned: Vec<&String> = learned.keys().collect();
    assert!(
        learned
            .iter()
            .all(|name| name.contains("layers.6.") || name.contains("layers.7."))
    );
    assert_eq!(learned.len(), 2 * 7 * 2 * 3, "{learned:?}");
}

#[test]
fn what_is_filled_up_does_not_count() {
    let setup = lora(0);
    let folder = tempfile::tempdir().expect("a folder");
    let mut school = School::new(&stories(), &[], &setup, folder.path()).expect("it begins");
    let row = rows(1, 9, 3);
    let alone = school.example(&row, 0, false).expect("it compares");
    let mut padded = row[0].clone();
    padded.extend([0, 0, 0]);
    let targets = |counted| exo_protocol::engine::Targets {
        tokens: padded[1..].to_vec(),
        counted: vec![counted],
    };
    let forward = |counted| exo_protocol::engine::TrainCommand::Forward {
        call: exo_protocol::id::CallId(1),
        job: common::school::job(),
        step: 0,
        input: exo_protocol::engine::ExampleInput::Tokens {
            tokens: padded[..11].to_vec(),
            batch: 1,
        },
        targets: Some(targets(counted)),
        learn: false,
    };
    let compare = |school: &mut School, counted| match common::school::train(
        school.engine(0),
        forward(counted),
    ) {
        Ok(exo_protocol::engine::TrainEvent::Compared {
            loss, positions, ..
        }) => (loss, positions),
        other => panic!("{other:?}"),
    };
    let (loss, positions) = compare(&mut school, (0, 8));
    assert_eq!(positions, 8);
    assert!((loss - alone.0).abs() < 1e-4, "{loss}, not {}", alone.0);
    assert_eq!(compare(&mut school, (5, 5)), (0.0, 0));
}

#[test]
fn a_job_goes_on_as_if_it_had_never_stopped() {
    for (setup, again) in [
        (lora(3), &[2, 6][..]),
        (
            TrainSetup {
                trainable: Trainable::Full { last_layers: 1 },
                ..lora(0)
            },
            &[],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let model = stories();
        let mut school = School::new(&model, &[5], &setup, folder.path()).expect("it begins");
        let lesson = |school: &mut School, step| {
            school
                .example(&rows(2, 8, step), 0, true)
                .expect("it learns")
                .0
        };
        for step in 0..3 {
            lesson(&mut school, step);
        }
        school.save();
        let through: Vec<f32> = (3..6).map(|step| lesson(&mut school, step)).collect();
        // The same ring, and one that is cut elsewhere.
        for cuts in [&[5][..], again] {
            let resumed = TrainSetup {
                resume: Some(3),
                ..setup.clone()
            };
            let mut school =
                School::new(&model, cuts, &resumed, folder.path()).expect("it goes on");
            assert_eq!(school.done, 3);
            let losses: Vec<f32> = (3..6).map(|step| lesson(&mut school, step)).collect();
            for (a, b) in through.iter().zip(&losses) {
                assert!(
                    (a - b).abs() < 1e-4,
                    "{cuts:?}: {losses:?}, not {through:?}"
                );
            }
        }
    }
}

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
fn every_family_learns_the_same_wherever_it_is_cut() {
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/families/checkpoints");
    let mut names: Vec<_> = std::fs::read_dir(checkpoints)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    names.sort();
    assert!(names.len() > 20, "{names:?}");
    for path in names {
        let name = path.display();
        let model = Model::open(&path).expect("a model");
        let config = model.config();
        let tokens = |step| -> Vec<Vec<u32>> {
            let vocab = u32::try_from(config.vocab).expect("a small one");
            let rows = rows(2, 7, step).into_iter();
            rows.map(|row| row.into_iter().map(|token| token % vocab).collect())
                .collect()
        };
        // Packed weights stay packed beside their adapters.
        for form in [WeightForm::Packed, WeightForm::Dense] {
            if form == WeightForm::Dense && config.mlx_quantization.is_none() {
                continue;
            }
            let mut options = MlxOptions::default();
            options.weights = form;
            let setup = TrainSetup {
                optimizer: Optimizer::Sgd,
                learning_rate: 0.05,
                ..lora(0)
            };
            let learned = |cuts: &[u32]| {
                let folder = tempfile::tempdir().expect("a folder");
                let school =
                    School::with_options(&model, cuts, &setup, folder.path(), options.clone());
                let mut school = school.unwrap_or_else(|failure| panic!("{name}: {failure}"));
                for step in 0..3 {
                    let example = school.example(&tokens(step), 0, true);
                    example.unwrap_or_else(|failure| panic!("{name}: {failure}"));
                }
                school.save()
            };
            let whole = learned(&[]);
            let moved = whole.iter().filter(|(name, _)| name.ends_with("lora_b"));
            for (parameter, values) in moved {
                let moved = values.iter().any(|value| *value != 0.0);
                assert!(moved, "{name}: {parameter} did not learn");
            }
            let off = difference(&whole, &learned(&[1]));
            assert!(off < 1e-4, "{name} {form:?}: {off}");
        }
    }
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
