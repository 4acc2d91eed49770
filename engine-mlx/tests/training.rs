//! Learning: true gradients wherever a model is cut, and jobs that go on.
#![cfg(mlx)]

mod common;

use common::school::{School, difference, lora, rows};
use common::stories;
use exo_engine_mlx::{MlxOptions, WeightForm};
use exo_models::Model;
use exo_protocol::engine::{Optimizer, TrainSetup, Trainable};
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
