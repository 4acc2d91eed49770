//! What training and evaluating have in common: a node, a model, a job.

use super::batches::Batches;
use super::data::{DataError, Dataset, Split};
use super::encoder::Encoder;
use super::job::{Job, JobError, Ready};
use super::options::Options;
use crate::Failed;
use crate::app::App;
use crate::cli::EngineKind;
use crate::random;
use crate::run::Loading;
use crate::signals::Stop;
use crate::speaker::Speaker;
use exo_protocol::engine::{TrainSetup, Trainable};
use exo_protocol::{RequestId, Stage, Train};
use std::io::Write;
use std::sync::Arc;

/// A node that has the model, and what it was asked for.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) app: &'a App,
    pub(super) stop: &'a Stop,
    pub(super) options: &'a Options,
    pub(super) speaker: Speaker,
}

impl<'a> Session<'a> {
    /// Finds the model.
    pub(super) fn new(
        app: &'a App,
        stop: &'a Stop,
        options: &'a Options,
        engine: EngineKind,
    ) -> Result<Self, Failed> {
        if !engine.trains() {
            let name = engine.name();
            tracing::warn!("the {name} engine of this node does not train, others have to");
            if !exo_engine_mlx::AVAILABLE {
                tracing::warn!("{}", exo_engine_mlx::MlxError::NotBuilt);
            }
        }
        let id = app.library().name(&options.model).map_err(Failed::Model)?;
        let speaker = app.library().speaker(Some(&id));
        let speaker = speaker.map_err(|error| Failed::Ask(error.into()))?;
        Ok(Self {
            app,
            stop,
            options,
            speaker,
        })
    }

    /// One of the three files, in batches. A sequence may have one token more than the model looks
    /// back on: the last one is only a target.
    pub(super) fn batches(&self, split: Split) -> Result<Batches, DataError> {
        let recipe = &self.options.recipe;
        let longest = self.speaker.context().saturating_add(1);
        Ok(Batches::new(
            Dataset::open(&self.options.data, split)?,
            Encoder::new(self.speaker.clone(), recipe.mask_prompt),
            recipe.batch_size,
            recipe.max_seq_length.min(longest),
            recipe.seed,
        ))
    }

    /// Forms the ring of a job.
    pub(super) fn begin(
        &self,
        name: &str,
        trainable: Trainable,
        resume: Option<u32>,
    ) -> Result<(Job<'a>, Ready), JobError> {
        let recipe = &self.options.recipe;
        let train = Train {
            job: RequestId::from(random::uuid()),
            model: self.speaker.id(),
            layers: self.speaker.layers(),
            bytes: self.speaker.bytes(),
            fingerprint: self.speaker.fingerprint(),
            setup: Arc::new(TrainSetup {
                name: name.to_owned(),
                trainable,
                optimizer: recipe.optimizer,
                learning_rate: recipe.learning_rate,
                seed: recipe.seed,
                resume,
            }),
        };
        let mut loading = Loading::new();
        let mut waiting = || loading.show(self.app.events().loading());
        let begun = Job::begin(self.app, self.stop, train, &mut waiting);
        loading.end();
        begun
    }
}

/// `stories over a (layers 0-3), b (layers 4-7)`.
pub(super) fn tell_ring(out: &mut dyn Write, model: &str, ring: &[Stage]) -> std::io::Result<()> {
    let stage = |stage: &Stage| {
        let (first, last) = (stage.shard.start, stage.shard.end);
        format!("{} (layers {first}-{last})", stage.node)
    };
    let ring: Vec<String> = ring.iter().map(stage).collect();
    writeln!(out, "{model} over {}", ring.join(", "))
}
