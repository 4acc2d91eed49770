//! Learning: the gradients of a shard, and what becomes of its parameters.
//!
//! A shard learns by the same forward pass with which it answers. To go back through it, the
//! forward is computed once more and differentiated by MLX, so nothing but the input of an example
//! is kept in between. Gradients are true ones: those of a model that is cut are those of the whole
//! one.
//!
//! Experts get no adapters, and layers with experts are not trained whole: what they learn would
//! hang on which of them a position chooses. Their shared part and attention learn.

mod init;
mod job;
mod loss;
mod name;
mod optimizer;
mod parameters;
mod room;
mod store;

use crate::shard::ShardModel;
use crate::{MlxError, TrainError};
use exo_protocol::Shard;
use exo_protocol::engine::{TrainCommand, TrainEvent};
use exo_protocol::id::RequestId;
use job::Job;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use room::Room;
pub(crate) use store::adapt;

/// A shard that is loaded, and what its model is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base<'a> {
    /// The shard.
    pub(crate) model: &'a ShardModel,
    /// The model's name.
    pub(crate) id: &'a str,
    /// What the model is.
    pub(crate) fingerprint: u64,
}

/// The jobs of an engine.
#[derive(Debug)]
pub(crate) struct Trainer {
    /// Where this node's checkpoints are.
    folder: Option<PathBuf>,
    jobs: BTreeMap<RequestId, Job>,
}

impl Trainer {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        let jobs = BTreeMap::new();
        Self { folder, jobs }
    }

    /// Bytes of what learns, and of the optimisers' states.
    pub(crate) fn bytes(&self) -> u64 {
        self.jobs.values().map(Job::bytes).sum()
    }

    /// The shard is gone, and what learned on it.
    pub(crate) fn forget(&mut self, shard: &Shard) {
        self.jobs.retain(|_, job| job.shard() != shard);
    }

    /// Does a part of a job. `base` finds a shard that is loaded.
    ///
    /// # Errors
    /// When the job or its shard is not here, the input does not fit, memory is short, or MLX fails. The job stays
    /// as it was before the command; only an example that was kept may be gone.
    pub(crate) fn execute<'a>(
        &mut self,
        command: TrainCommand,
        room: Room,
        base: impl Fn(&Shard) -> Option<Base<'a>>,
    ) -> Result<TrainEvent, MlxError> {
        let call = command.call();
        let find = |shard: &Shard| {
            let missing = || TrainError::Input(format!("{shard} is not loaded"));
            base(shard).ok_or_else(missing)
        };
        let (id, command) = match command {
            TrainCommand::Begin {
                shard, job, setup, ..
            } => {
                let base = find(&shard)?;
                room.check("what learns", room::of_job(base.model, &setup))?;
                let begun = Job::begin(base, shard, setup, self.folder.as_deref())?;
                let (trainable, iteration) = (begun.trainable(), begun.done());
                self.jobs.insert(job, begun);
                return Ok(TrainEvent::Begun {
                    call,
                    trainable,
                    iteration,
                });
            }
            TrainCommand::End { job, .. } => {
                self.jobs.remove(&job);
                return Ok(TrainEvent::Ended { call });
            }
            TrainCommand::Forward { ref job, .. }
            | TrainCommand::Backward { ref job, .. }
            | TrainCommand::Save { ref job, .. } => (job.clone(), command),
        };
        let unknown = || TrainError::Input(format!("job {id} was not begun here"));
        let job = self.jobs.get_mut(&id).ok_or_else(unknown)?;
        let base = find(job.shard())?;
        match command {
            TrainCommand::Forward {
                step,
                input,
                targets,
                learn,
                ..
            } => job.forward(base, room, call, step, &input, targets.as_ref(), learn),
            TrainCommand::Backward { step, gradient, .. } => {
                let gradient = job.backward(base, step, &gradient)?;
                Ok(TrainEvent::Learned { call, gradient })
            }
            TrainCommand::Save { iteration, .. } => {
                let file = job.save(base, iteration, self.folder.as_deref())?;
                Ok(TrainEvent::Saved { call, file })
            }
            TrainCommand::Begin { .. } | TrainCommand::End { .. } => Err(unknown().into()),
        }
    }
}
