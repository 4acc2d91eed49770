//! The engine: commands in, completions out.

mod forward;
mod load;

use crate::batch::groups;
use crate::cache::KvCache;
use crate::measure;
use crate::shard::ShardModel;
use crate::train::{Base, Room, Trainer};
use crate::{MlxError, MlxOptions, OpenModel};
use exo_models::Model;
use exo_models::guide::Guides;
use exo_protocol::Shard;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent, TrainCommand, TrainEvent};
use exo_protocol::id::{CallId, RequestId};
use exo_protocol::topology::Speed;
use mlx_rs::{Array, Device, DeviceType, memory};
use std::collections::BTreeMap;
use std::fmt;

/// Runs layer ranges of models with MLX.
///
/// Any number of shards may be loaded at once, and each may have any number of requests; a request
/// has one KV cache on each shard that it went through. MLX binds what it computes to the thread
/// that asked, so an engine stays on the thread that made it.
///
/// A command that is refused leaves everything as it was. Only when MLX itself fails in the middle
/// of a computation, the KV caches it was about to extend are dropped; their requests can begin
/// again at position zero.
pub struct MlxEngine {
    options: MlxOptions,
    open: OpenModel,
    gpu: bool,
    shards: BTreeMap<Shard, Loaded>,
    requests: BTreeMap<RequestId, BTreeMap<Shard, KvCache>>,
    logits: Option<Array>,
    /// Of requests whose answers have a form.
    guides: Guides,
    trainer: Trainer,
}

#[derive(Debug)]
struct Loaded {
    model: Model,
    shard: ShardModel,
    bytes: u64,
    fingerprint: u64,
}

impl Loaded {
    /// The completion of its load.
    fn told(&self, call: CallId) -> EngineEvent {
        EngineEvent::Loaded {
            call,
            bytes: self.bytes,
            fingerprint: self.fingerprint,
        }
    }
}

impl fmt::Debug for MlxEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlxEngine")
            .field("options", &self.options)
            .field("device", &self.device())
            .field("shards", &self.shards.keys())
            .field("requests", &self.requests.keys())
            .finish_non_exhaustive()
    }
}

impl MlxEngine {
    /// An engine with nothing loaded, on MLX's default device.
    ///
    /// # Errors
    /// [`MlxError::Mlx`] when MLX has no device.
    pub fn new(options: MlxOptions, open: OpenModel) -> Result<Self, MlxError> {
        let device = Device::try_default().and_then(|device| device.get_type());
        let device = device.map_err(|error| MlxError::mlx("looking for a device", error))?;
        let gpu = matches!(device, DeviceType::Gpu);
        tracing::debug!(gpu, "mlx engine");
        let trainer = Trainer::new(options.checkpoints.clone());
        Ok(Self {
            options,
            open,
            gpu,
            shards: BTreeMap::new(),
            requests: BTreeMap::new(),
            logits: None,
            guides: Guides::default(),
            trainer,
        })
    }

    /// The logits of the last position of the last [`EngineCommand::Forward`] that sampled, one
    /// for each token id; empty before.
    #[must_use]
    pub fn last_logits(&self) -> Vec<f32> {
        let values = self.logits.as_ref().map(|logits| logits.contiguous());
        let values = values.transpose().ok().flatten();
        let values = values.and_then(|logits| logits.to_vec_exact::<f32>().ok());
        values.unwrap_or_default()
    }

    /// Bytes in weights, KV caches and what learns.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        let weights = self.shards.values().map(|loaded| loaded.bytes);
        let caches = self.requests.values().flat_map(BTreeMap::values);
        let used = weights.chain(caches.map(KvCache::bytes)).sum::<u64>();
        used.saturating_add(self.trainer.bytes())
    }

    /// What computes: `cpu` or `gpu`.
    #[must_use]
    pub fn device(&self) -> &'static str {
        if self.gpu { "gpu" } else { "cpu" }
    }

    fn check_memory(&self, what: &'static str, needed: u64, used: u64) -> Result<(), MlxError> {
        match self.options.memory_limit {
            Some(limit) if needed.saturating_add(used) > limit => Err(MlxError::Memory {
                what,
                needed,
                used,
                limit,
            }),
            _ => Ok(()),
        }
    }

    fn chunk(&self) -> usize {
        (self.options.chunk as usize).max(1)
    }

    fn unload(&mut self, shard: &Shard) {
        self.shards.remove(shard);
        self.trainer.forget(shard);
        self.requests.retain(|_, caches| {
            caches.remove(shard);
            !caches.is_empty()
        });
        self.give_back();
    }

    fn free(&mut self, request: &RequestId) {
        self.guides.forget(request);
        if self.requests.remove(request).is_some() {
            self.give_back();
        }
    }

    /// MLX keeps freed memory for what it computes next; after something large it goes.
    fn give_back(&self) {
        if let Err(error) = memory::clear_cache() {
            tracing::warn!("MLX keeps memory that is free: {error}");
        }
    }

    fn train(&mut self, command: TrainCommand) -> Result<EngineEvent, MlxError> {
        let shards = &self.shards;
        let room = Room {
            used: self.memory_used(),
            limit: self.options.memory_limit,
        };
        let done = self.trainer.execute(command, room, |shard| {
            let loaded = shards.get(shard)?;
            Some(Base {
                model: &loaded.shard,
                id: loaded.model.id(),
                fingerprint: loaded.fingerprint,
            })
        });
        if matches!(done, Ok(TrainEvent::Ended { .. })) {
            self.give_back();
        }
        done.map(EngineEvent::Trained)
    }
}

fn failed(call: CallId, error: MlxError) -> EngineEvent {
    EngineEvent::Failed {
        call,
        failure: error.into(),
    }
}

impl Engine for MlxEngine {
    fn measure(&mut self) -> Option<Speed> {
        let measured = measure::speed(self.gpu);
        self.give_back();
        measured.unwrap_or_else(|error| {
            tracing::warn!("MLX cannot be measured: {error}");
            None
        })
    }

    fn memory(&self) -> Option<u64> {
        Some(self.memory_used())
    }

    fn execute(
        &mut self,
        command: EngineCommand,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        let call = command.call();
        let done = match command {
            EngineCommand::Load { shard, .. } => self.load(call, shard, progress),
            EngineCommand::Unload { shard, .. } => {
                self.unload(&shard);
                Ok(EngineEvent::Unloaded { call })
            }
            EngineCommand::Forward { .. } => {
                let mut done = None;
                self.forward_all(vec![command], &mut |event| done = Some(event));
                done.ok_or_else(|| MlxError::mlx("computing", "nothing came of it"))
            }
            EngineCommand::Free { request, .. } => {
                self.free(&request);
                Ok(EngineEvent::Freed { call })
            }
            EngineCommand::Train(command) => self.train(command),
        };
        done.unwrap_or_else(|error| failed(call, error))
    }

    fn execute_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        for group in groups(commands) {
            match <[EngineCommand; 1]>::try_from(group) {
                Ok([command]) => {
                    let done = self.execute(command, tell);
                    tell(done);
                }
                Err(group) => self.forward_all(group, tell),
            }
        }
    }
}
