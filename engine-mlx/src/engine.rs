//! The engine: commands in, completions out.

use crate::batch::{Done, Job, groups};
use crate::cache::KvCache;
use crate::input::Checked;
use crate::shard::{Found, ShardModel};
use crate::train::{Base, Trainer, adapt};
use crate::weights::Form;
use crate::{ComputeDtype, MlxError, MlxOptions, OpenModel, WeightForm};
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineInput, Sampling, TrainCommand, TrainEvent,
};
use exo_protocol::id::{CallId, RequestId};
use mlx_rs::{Array, Device, DeviceType, Dtype, memory};
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

/// The fields of an [`EngineCommand::Forward`].
struct Ask {
    call: CallId,
    request: RequestId,
    position: u32,
    input: EngineInput,
    sampling: Option<Sampling>,
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

    fn load(
        &mut self,
        call: CallId,
        shard: Shard,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> Result<EngineEvent, MlxError> {
        if let Some(loaded) = self.shards.get(&shard) {
            return Ok(loaded.told(call));
        }
        if shard.is_empty() {
            let (start, end, layers) = (shard.start, shard.end, shard.layers);
            return Err(MlxError::Range { start, end, layers });
        }
        let model = (self.open)(&shard.model)?;
        let found = model.config().layers;
        if found != shard.layers {
            let (model, asked) = (shard.model.to_string(), shard.layers);
            return Err(MlxError::Layers {
                model,
                asked,
                found,
            });
        }
        let found = Found::new(&model, shard.range())?;
        let form = self.form(&found)?;
        let total = found.work();
        let mut ready = found.load(form, &mut |done| {
            progress(EngineEvent::Progress { call, done, total });
        })?;
        // A stage can do without what tells it, which may be another node's part of the files.
        let mut fingerprint = model.fingerprint().unwrap_or_else(|error| {
            tracing::warn!(%shard, "nobody can check that it is the same model everywhere: {error}");
            0
        });
        if let Some(adapter) = &self.options.adapter
            && let Some(adapted) = adapt(&mut ready, &shard.model, fingerprint, adapter)?
        {
            fingerprint = adapted;
        }
        let bytes = ready.bytes();
        let device = self.device();
        tracing::info!(%shard, bytes, device, dtype = ?form.dtype, packed = form.packed, "loaded");
        let loaded = Loaded {
            model,
            shard: ready,
            bytes,
            fingerprint,
        };
        let told = loaded.told(call);
        self.shards.insert(shard, loaded);
        Ok(told)
    }

    /// What the weights become: the quickest form on this device that fits into memory.
    fn form(&self, found: &Found) -> Result<Form, MlxError> {
        let dtype = match self.options.dtype {
            Some(ComputeDtype::F32) => Dtype::Float32,
            Some(ComputeDtype::F16) => Dtype::Float16,
            Some(ComputeDtype::Bf16) => Dtype::Bfloat16,
            None if self.gpu => found.half(),
            None => Dtype::Float32,
        };
        let form = |packed| Form { dtype, packed };
        let check = |packed| {
            let bytes = found.bytes(form(packed));
            let cache = found.smallest_cache(form(packed), self.chunk());
            self.check_memory(
                "the shard, with the smallest KV cache,",
                bytes.saturating_add(cache),
                self.memory_used(),
            )
        };
        let packed = match self.options.weights {
            WeightForm::Packed => true,
            WeightForm::Dense => false,
            WeightForm::Auto => self.gpu || check(false).is_err(),
        };
        check(packed)?;
        Ok(form(packed))
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

    /// Checks a forward and takes its cache; `reserved` bytes are for others of the same step.
    fn prepare(&mut self, shard: &Shard, ask: Ask, reserved: u64) -> Result<Job, MlxError> {
        let chunk = self.chunk();
        let loaded = self
            .shards
            .get(shard)
            .ok_or_else(|| MlxError::Input(format!("{shard} is not loaded")))?;
        let input = Checked::new(&loaded.model, &loaded.shard, &ask.input)?;
        let Ask {
            call,
            request,
            sampling,
            ..
        } = ask;
        let position = ask.position as usize;
        let caches = self.requests.get(&request);
        let cached = caches.and_then(|caches| caches.get(shard));
        let len = cached.map_or(0, KvCache::len);
        if position > len {
            return Err(MlxError::Input(format!(
                "the input begins at position {position}, but only {len} positions of request \
                 {request} are cached for {shard}"
            )));
        }
        let context = match self.options.max_context {
            0 => loaded.shard.config.context,
            limit => limit.min(loaded.shard.config.context),
        };
        let positions = position.saturating_add(input.len());
        if positions > context as usize {
            return Err(MlxError::Context {
                positions: positions as u64,
                context,
            });
        }
        let shape = loaded.shard.cache_shape(chunk);
        let before = cached.map_or(0, KvCache::bytes);
        let after = match cached {
            Some(cache) => {
                cache.can_return(position)?;
                cache.bytes_for(positions)
            }
            None => shape.bytes(positions),
        };
        let used = self.memory_used().saturating_sub(before);
        self.check_memory("the KV cache", after, used.saturating_add(reserved))?;
        let mine = self.requests.get_mut(&request);
        let taken = mine.and_then(|caches| caches.remove(shard));
        let mut cache = taken.unwrap_or_else(|| KvCache::new(shape));
        cache.return_to(position);
        Ok(Job {
            call,
            request,
            input,
            sampling,
            cache,
        })
    }

    /// Runs forwards on one shard: one of any length, or several of one position.
    fn forward(&mut self, shard: &Shard, asks: Vec<Ask>, tell: &mut dyn FnMut(EngineEvent)) {
        let mut jobs: Vec<Job> = Vec::with_capacity(asks.len());
        let mut reserved = 0u64;
        for ask in asks {
            let call = ask.call;
            match self.prepare(shard, ask, reserved) {
                Ok(job) => {
                    let positions = job.cache.len() + job.input.len();
                    reserved = reserved.saturating_add(job.cache.bytes_for(positions));
                    jobs.push(job);
                }
                Err(error) => tell(failed(call, error)),
            }
        }
        let Some(loaded) = self.shards.get(shard).filter(|_| !jobs.is_empty()) else {
            return;
        };
        match loaded.shard.run(&mut jobs, self.chunk()) {
            Ok(done) => {
                for (job, done) in jobs.into_iter().zip(done) {
                    let Done {
                        output,
                        positions,
                        logits,
                    } = done;
                    self.logits = logits.or(self.logits.take());
                    let caches = self.requests.entry(job.request).or_default();
                    caches.insert(shard.clone(), job.cache);
                    tell(EngineEvent::Forwarded {
                        call: job.call,
                        output,
                        positions,
                    });
                }
            }
            Err(error) => {
                let message = error.to_string();
                for job in jobs {
                    let error = MlxError::mlx("computing", &message);
                    tell(failed(job.call, error));
                }
                self.requests.retain(|_, caches| !caches.is_empty());
            }
        }
    }

    fn train(&mut self, command: TrainCommand) -> Result<EngineEvent, MlxError> {
        let shards = &self.shards;
        let done = self.trainer.execute(command, |shard| {
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

impl MlxEngine {
    /// Runs forwards that go together, and nothing else.
    fn forward_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        let mut on = None;
        let mut asks = Vec::with_capacity(commands.len());
        for command in commands {
            if let EngineCommand::Forward {
                call,
                shard,
                request,
                position,
                input,
                sampling,
            } = command
            {
                on = Some(shard);
                asks.push(Ask {
                    call,
                    request,
                    position,
                    input,
                    sampling,
                });
            }
        }
        if let Some(shard) = on {
            self.forward(&shard, asks, tell);
        }
    }
}
