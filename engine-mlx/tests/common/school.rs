//! A ring of engines that learns, driven by hand.

use super::{engine, execute, load, request, shard};
use exo_engine_mlx::checkpoint::CheckpointFile;
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::{
    EngineCommand, EngineEvent, EngineFailure, ExampleInput, Optimizer, Targets, TrainCommand,
    TrainEvent, TrainSetup, Trainable,
};
use exo_protocol::id::{CallId, RequestId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Stages in order, each with an engine of its own.
pub(crate) struct School {
    stages: Vec<(MlxEngine, Shard)>,
    folder: std::path::PathBuf,
    pub(crate) trainable: u64,
    pub(crate) done: u32,
}

const CALL: CallId = CallId(9);

pub(crate) fn job() -> RequestId {
    request("job")
}

pub(crate) fn lora(last_layers: u32) -> TrainSetup {
    TrainSetup {
        name: "lesson".to_owned(),
        trainable: Trainable::Lora {
            rank: 4,
            scale: 2.0,
            last_layers,
        },
        optimizer: Optimizer::AdamW { weight_decay: 0.01 },
        learning_rate: 1e-3,
        seed: 5,
        resume: None,
    }
}

/// Gives a part of a job to an engine.
pub(crate) fn train(
    engine: &mut MlxEngine,
    command: TrainCommand,
) -> Result<TrainEvent, EngineFailure> {
    match execute(engine, EngineCommand::Train(command)) {
        EngineEvent::Trained(event) => Ok(event),
        EngineEvent::Failed { failure, .. } => Err(failure),
        other => panic!("{other:?}"),
    }
}

impl School {
    /// A ring that is cut before each of `cuts`.
    pub(crate) fn new(
        model: &Model,
        cuts: &[u32],
        setup: &TrainSetup,
        folder: &Path,
    ) -> Result<Self, EngineFailure> {
        Self::with_options(model, cuts, setup, folder, MlxOptions::default())
    }

    pub(crate) fn with_options(
        model: &Model,
        cuts: &[u32],
        setup: &TrainSetup,
        folder: &Path,
        mut options: MlxOptions,
    ) -> Result<Self, EngineFailure> {
        options.checkpoints = Some(folder.to_owned());
        let layers = model.config().layers;
        let ends = [&[0], cuts, &[layers]].concat();
        let mut school = Self {
            stages: Vec::new(),
            folder: folder.to_owned(),
            trainable: 0,
            done: 0,
        };
        for ends in ends.windows(2) {
            let mut engine = engine(model, options.clone());
            let shard = shard(ends[0]..ends[1], layers);
            load(&mut engine, &shard)?;
            let begun = train(
                &mut engine,
                TrainCommand::Begin {
                    call: CALL,
                    shard: shard.clone(),
                    job: job(),
                    setup: Arc::new(setup.clone()),
                },
            )?;
            let TrainEvent::Begun {
                trainable,
                iteration,
                ..
            } = begun
            else {
                panic!("{begun:?}");
            };
            school.trainable += trainable;
            school.done = iteration;
            school.stages.push((engine, shard));
        }
        Ok(school)
    }

    /// Sends rows of tokens through; each token but the first of a row is a target, those from
    /// `counted` on count.
    pub(crate) fn example(
        &mut self,
        rows: &[Vec<u32>],
        counted: u32,
        learn: bool,
    ) -> Result<(f32, u32), EngineFailure> {
        let step = self.done + u32::from(learn);
        let targets = Targets {
            tokens: rows.iter().flat_map(|row| row[1..].to_vec()).collect(),
            counted: rows
                .iter()
                .map(|row| (counted, row.len() as u32 - 1))
                .collect(),
        };
        let mut input = ExampleInput::Tokens {
            tokens: rows
                .iter()
                .flat_map(|row| row[..row.len() - 1].to_vec())
                .collect(),
            batch: rows.len() as u32,
        };
        let mut compared = None;
        let last = self.stages.len() - 1;
        for (at, (engine, _)) in self.stages.iter_mut().enumerate() {
            let forward = TrainCommand::Forward {
                call: CALL,
                job: job(),
                step,
                input: input.clone(),
                targets: (at == last).then(|| targets.clone()),
                learn,
            };
            match train(engine, forward)? {
                TrainEvent::Forwarded { hidden, .. } => input = ExampleInput::Hidden(hidden),
                TrainEvent::Compared {
                    loss,
                    positions,
                    gradient,
                    ..
                } => compared = Some((loss, positions, gradient)),
                other => panic!("{other:?}"),
            }
        }
        let (loss, positions, mut gradient) = compared.expect("the last stage compares");
        for (engine, _) in self.stages[..last].iter_mut().rev().filter(|_| learn) {
            let backward = TrainCommand::Backward {
                call: CALL,
                job: job(),
                step,
                gradient: gradient.take().expect("only the first stage gives none"),
            };
            match train(engine, backward)? {
                TrainEvent::Learned { gradient: next, .. } => gradient = next,
                other => panic!("{other:?}"),
            }
        }
        assert!(gradient.is_none(), "the first stage has nobody before it");
        self.done = step;
        Ok((loss, positions))
    }

    /// Has all stages write checkpoints; all tensors in them, by name.
    pub(crate) fn save(&mut self) -> BTreeMap<String, Vec<f32>> {
        let mut tensors = BTreeMap::new();
        for (engine, _) in &mut self.stages {
            let save = TrainCommand::Save {
                call: CALL,
                job: job(),
                iteration: self.done,
            };
            let saved = train(engine, save).expect("the folder can be written");
            let TrainEvent::Saved { file, .. } = saved else {
                panic!("{saved:?}");
            };
            let path = self.folder.join("lesson").join(file);
            let mut file = CheckpointFile::open(&path).expect("it was just written");
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            for name in names {
                let shape = file.shape(&name).expect("it has one");
                let bytes = file.read(&name, &shape).expect("it is whole");
                let words = bytes.chunks_exact(4);
                let floats = words.map(|word| f32::from_le_bytes(word.try_into().expect("four")));
                let before = tensors.insert(name, floats.collect());
                assert!(before.is_none(), "each stage has its own layers");
            }
        }
        tensors
    }

    pub(crate) fn engine(&mut self, stage: usize) -> &mut MlxEngine {
        &mut self.stages[stage].0
    }

    pub(crate) fn shard(&self, stage: usize) -> Shard {
        self.stages[stage].1.clone()
    }
}

/// Rows of tokens without a pattern, in the vocabulary of the built-in model.
pub(crate) fn rows(count: u32, length: u32, salt: u32) -> Vec<Vec<u32>> {
    let token = |row: u32, at: u32| (row * 977 + at * at * 31 + at * 7 + salt * 131) % 2000 + 3;
    (0..count)
        .map(|row| (0..length).map(|at| token(row, at)).collect())
        .collect()
}

/// The largest difference, by the largest number.
pub(crate) fn difference(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert!(a.keys().eq(b.keys()), "the same parameters learn");
    let pairs = a
        .iter()
        .flat_map(|(name, values)| values.iter().zip(&b[name]));
    let (mut most, mut scale) = (0.0_f32, 0.0_f32);
    for (a, b) in pairs {
        most = most.max((a - b).abs());
        scale = scale.max(a.abs());
    }
    most / scale
}
