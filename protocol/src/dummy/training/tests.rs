//! The gradient is the loss's slope, and a cut changes nothing.

use super::*;
use crate::dummy::{DummyEngine, LAYERS, MODEL};
use crate::engine::{Engine, EngineCommand, EngineEvent};
use crate::id::CallId;

const CALL: CallId = CallId(1);

fn setup() -> TrainSetup {
    TrainSetup {
        name: "test".into(),
        trainable: Trainable::Full { last_layers: 0 },
        optimizer: Optimizer::Sgd,
        learning_rate: 0.125,
        seed: 1,
        resume: None,
    }
}

/// One engine for each range of layers.
struct Ring(Vec<(DummyEngine, Shard)>);

fn ask(engine: &mut DummyEngine, command: TrainCommand) -> Result<TrainEvent, FailureKind> {
    match engine.execute(EngineCommand::Train(command), &mut |_| {}) {
        EngineEvent::Trained(event) => Ok(event),
        EngineEvent::Failed { failure, .. } => Err(failure.kind),
        other => panic!("{other:?}"),
    }
}

fn begin(engine: &mut DummyEngine, shard: &Shard, setup: &TrainSetup) -> Result<u64, FailureKind> {
    let load = EngineCommand::Load {
        call: CALL,
        shard: shard.clone(),
    };
    engine.execute(load, &mut |_| {});
    let begin = TrainCommand::Begin {
        call: CALL,
        shard: shard.clone(),
        job: "j".into(),
        setup: Arc::new(setup.clone()),
    };
    ask(engine, begin).map(|event| match event {
        TrainEvent::Begun { trainable, .. } => trainable,
        other => panic!("{other:?}"),
    })
}

impl Ring {
    fn new(cuts: &[u32], setup: &TrainSetup) -> Self {
        let starts = core::iter::once(&0).chain(cuts);
        let ends = cuts.iter().chain([&LAYERS]);
        let ring = starts.zip(ends).map(|(&start, &end)| {
            let shard = Shard::new(MODEL.into(), start..end, LAYERS).expect("layers");
            let mut engine = DummyEngine::new();
            begin(&mut engine, &shard, setup).expect("it trains");
            (engine, shard)
        });
        Self(ring.collect())
    }

    /// The loss of an example, from which all learn if they are to.
    fn example(&mut self, step: u32, tokens: &[u32], learn: bool) -> f32 {
        let mut input = ExampleInput::Tokens {
            tokens: tokens.to_vec(),
            batch: 2,
        };
        let targets = Targets {
            tokens: tokens.iter().map(|token| token + 1).collect(),
            counted: vec![(0, 2), (1, 2)],
        };
        let mut found = None;
        for (engine, shard) in &mut self.0 {
            let forward = TrainCommand::Forward {
                call: CALL,
                job: "j".into(),
                step,
                input: input.clone(),
                targets: shard.is_last().then(|| targets.clone()),
                learn,
            };
            match ask(engine, forward).expect("an example") {
                TrainEvent::Forwarded { hidden, .. } => input = ExampleInput::Hidden(hidden),
                TrainEvent::Compared { loss, gradient, .. } => found = Some((loss, gradient)),
                other => panic!("{other:?}"),
            }
        }
        let (loss, mut gradient) = found.expect("the last one compares");
        for (engine, _) in self.0.iter_mut().rev().skip(1) {
            let Some(came) = gradient.take() else { break };
            let backward = TrainCommand::Backward {
                call: CALL,
                job: "j".into(),
                step,
                gradient: came,
            };
            match ask(engine, backward).expect("a gradient") {
                TrainEvent::Learned { gradient: next, .. } => gradient = next,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(gradient, None, "the first one gives none");
        loss
    }

    fn weights(&self) -> Vec<f32> {
        let of = |(engine, _): &(DummyEngine, Shard)| {
            let job = engine.trainer.jobs.get("j").expect("it was begun");
            job.weights.clone()
        };
        self.0.iter().flat_map(of).collect()
    }
}

const TOKENS: [u32; 4] = [3, 9, 14, 20];

#[test]
fn rings_of_any_cut_learn_the_same_bit_for_bit() {
    let mut whole = Ring::new(&[], &setup());
    let expected: Vec<f32> = (1..20)
        .map(|step| whole.example(step, &TOKENS, true))
        .collect();
    assert!(
        expected.last() < expected.first(),
        "it learns: {expected:?}"
    );
    for cuts in [&[4][..], &[1], &[7], &[2, 5], &[1, 2, 3, 4, 5, 6, 7]] {
        let mut ring = Ring::new(cuts, &setup());
        let losses: Vec<f32> = (1..20)
            .map(|step| ring.example(step, &TOKENS, true))
            .collect();
        assert_eq!(losses, expected, "{cuts:?}");
        assert_eq!(ring.weights(), whole.weights(), "{cuts:?}");
    }
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let rate = setup().learning_rate;
    let (mut ring, before) = (
        Ring::new(&[3], &setup()),
        Ring::new(&[3], &setup()).weights(),
    );
    ring.example(1, &TOKENS, true);
    for (layer, (was, is)) in before.iter().zip(ring.weights()).enumerate() {
        let slope = (was - is) / rate;
        let loss = |by: f32| {
            let mut ring = Ring::new(&[], &setup());
            let job = ring.0[0].0.trainer.jobs.get_mut("j").expect("begun");
            job.weights[layer] += by;
            ring.example(1, &TOKENS, false)
        };
        let step = 1.0 / 64.0;
        let measured = (loss(step) - loss(-step)) / (2.0 * step);
        assert!(
            (slope - measured).abs() < 1e-3 * slope.abs().max(1.0),
            "layer {layer}: {slope} and {measured}"
        );
    }
}

#[test]
fn only_what_is_to_learn_learns() {
    let with = |trainable| TrainSetup {
        trainable,
        ..setup()
    };
    let untrained = Ring::new(&[4], &setup()).weights();
    let mut ring = Ring::new(&[4], &with(Trainable::Full { last_layers: 3 }));
    ring.example(1, &TOKENS, true);
    let weights = ring.weights();
    let changed: Vec<bool> = weights
        .iter()
        .zip(&untrained)
        .map(|(a, b)| a != b)
        .collect();
    assert_eq!(
        changed,
        [false, false, false, false, false, true, true, true]
    );
    let mut ring = Ring::new(&[4], &setup());
    ring.example(0, &TOKENS, false);
    assert_eq!(ring.weights(), untrained, "it only compared");
    let shard = Shard::new(MODEL.into(), 0..8, LAYERS).expect("layers");
    for (trainable, expected) in [
        (Trainable::Full { last_layers: 0 }, 8),
        (Trainable::Full { last_layers: 3 }, 3),
        (Trainable::Full { last_layers: 99 }, 8),
        (Trainable::Nothing, 0),
    ] {
        let begun = begin(&mut DummyEngine::new(), &shard, &with(trainable));
        assert_eq!(begun, Ok(expected));
    }
}

#[test]
fn a_checkpoint_is_gone_on_from() {
    let shard = Shard::new(MODEL.into(), 0..8, LAYERS).expect("layers");
    let mut ring = Ring::new(&[], &setup());
    ring.example(1, &TOKENS, true);
    let engine = &mut ring.0[0].0;
    let save = TrainCommand::Save {
        call: CALL,
        job: "j".into(),
        iteration: 1,
    };
    let file = String::from("test/0-7-1.dummy");
    assert_eq!(
        ask(engine, save),
        Ok(TrainEvent::Saved { call: CALL, file })
    );
    let expected: Vec<f32> = (2..5)
        .map(|step| ring.example(step, &TOKENS, true))
        .collect();
    let again = TrainSetup {
        resume: Some(1),
        ..setup()
    };
    assert_eq!(begin(&mut ring.0[0].0, &shard, &again), Ok(8));
    let found: Vec<f32> = (2..5)
        .map(|step| ring.example(step, &TOKENS, true))
        .collect();
    assert_eq!(found, expected);
    let missing = begin(&mut DummyEngine::new(), &shard, &again);
    assert_eq!(missing, Err(FailureKind::BadInput));
}

#[test]
fn what_is_no_example_is_refused() {
    let mut ring = Ring::new(&[4], &setup());
    let engine = &mut ring.0[1].0;
    let hidden = |shape: &[usize], dtype: DType| {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let tensor = Tensor::new(dtype, shape.to_vec(), vec![0; bytes].into());
        tensor.expect("the bytes match")
    };
    let mut forward = |input, targets: usize, counted| {
        let forward = TrainCommand::Forward {
            call: CALL,
            job: "j".into(),
            step: 1,
            input,
            targets: Some(Targets {
                tokens: vec![1; targets],
                counted,
            }),
            learn: true,
        };
        ask(engine, forward).map(|_| ())
    };
    let refused = Err(FailureKind::BadInput);
    let good = || ExampleInput::Hidden(hidden(&[1, 2, 1], DType::F32));
    assert_eq!(forward(good(), 2, vec![(0, 2)]), Ok(()));
    assert_eq!(forward(good(), 1, vec![(0, 2)]), refused);
    assert_eq!(forward(good(), 2, vec![]), refused);
    assert_eq!(forward(good(), 2, vec![(0, u32::MAX)]), Ok(()));
    for (shape, dtype) in [
        (&[1, 2, 2][..], DType::F32),
        (&[2, 1], DType::F32),
        (&[1, 0, 1], DType::F32),
        (&[1, 2, 1], DType::F16),
    ] {
        let input = ExampleInput::Hidden(hidden(shape, dtype));
        assert_eq!(forward(input, 2, vec![(0, 2)]), refused, "{shape:?}");
    }
    for (tokens, batch) in [(0, 1), (3, 2), (2, 0)] {
        let tokens = vec![1; tokens];
        let input = ExampleInput::Tokens { tokens, batch };
        assert_eq!(forward(input, 2, vec![(0, 1)]), refused);
    }
    let backward = |step| TrainCommand::Backward {
        call: CALL,
        job: "j".into(),
        step,
        gradient: hidden(&[1, 2, 1], DType::F32),
    };
    assert_eq!(ask(engine, backward(1)), Err(FailureKind::BadInput));
    let unknown = TrainCommand::Save {
        call: CALL,
        job: "other".into(),
        iteration: 1,
    };
    assert_eq!(ask(engine, unknown), Err(FailureKind::BadInput));
    let adam = TrainSetup {
        optimizer: Optimizer::AdamW { weight_decay: 0.0 },
        ..setup()
    };
    let shard = Shard::new(MODEL.into(), 0..8, LAYERS).expect("layers");
    let begun = begin(&mut DummyEngine::new(), &shard, &adam);
    assert_eq!(begun, Err(FailureKind::Unsupported));
}
