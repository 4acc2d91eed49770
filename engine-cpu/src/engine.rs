//! The engine: commands in, completions out.

mod forward;

use crate::error::CpuError;
use crate::kernels::Kernels;
use crate::kv::{Kv, KvShape};
use crate::machine::Machine;
use crate::measure;
use crate::options::CpuOptions;
use crate::pass::Buffers;
use crate::shard::ShardModel;
use exo_models::guide::Guides;
use exo_models::{Model, ModelError};
use exo_protocol::Shard;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent, EngineOutput};
use exo_protocol::id::{CallId, RequestId};
use exo_protocol::topology::Speed;
use forward::{Ready, Step};
use std::collections::BTreeMap;
use std::fmt;

/// Finds the model that a name on the wire means.
pub type OpenModel = Box<dyn Fn(&str) -> Result<Model, ModelError>>;

/// Runs layer ranges of models on the processor.
///
/// Any number of shards may be loaded at once, and each may have any number of requests; a request
/// has one KV cache on each shard that it went through. The same inputs give the same outputs, bit
/// for bit: however a model is cut into shards, however a prompt is cut into inputs, and whatever
/// the number of threads.
pub struct CpuEngine {
    options: CpuOptions,
    open: OpenModel,
    machine: Machine,
    buffers: Buffers,
    logits: Vec<f32>,
    shards: BTreeMap<Shard, Loaded>,
    requests: BTreeMap<RequestId, BTreeMap<Shard, Kv>>,
    /// Of requests whose answers have a form.
    guides: Guides,
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

impl fmt::Debug for CpuEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuEngine")
            .field("options", &self.options)
            .field("kernels", &self.machine.kernels.name)
            .field("shards", &self.shards.keys())
            .field("requests", &self.requests.keys())
            .finish_non_exhaustive()
    }
}

impl CpuEngine {
    /// An engine with nothing loaded.
    ///
    /// # Errors
    /// [`CpuError::Threads`] when the system starts no more threads.
    pub fn new(options: CpuOptions, open: OpenModel) -> Result<Self, CpuError> {
        Self::with_kernels(options, open, Kernels::detect())
    }

    /// An engine that computes with `kernels`, one of [`Kernels::available`].
    ///
    /// # Errors
    /// [`CpuError::Threads`] when the system starts no more threads.
    pub fn with_kernels(
        options: CpuOptions,
        open: OpenModel,
        kernels: &'static Kernels,
    ) -> Result<Self, CpuError> {
        let threads = options.threads.max(1);
        let machine = Machine::new(kernels, threads, options.precision)
            .map_err(|source| CpuError::Threads { threads, source })?;
        tracing::debug!(kernels = kernels.name, threads, "cpu engine");
        Ok(Self {
            options,
            open,
            machine,
            buffers: Buffers::default(),
            logits: Vec::new(),
            shards: BTreeMap::new(),
            requests: BTreeMap::new(),
            guides: Guides::default(),
        })
    }

    /// The logits of the last position of the last [`EngineCommand::Forward`] that sampled, one
    /// for each token id; empty before.
    #[must_use]
    pub fn last_logits(&self) -> &[f32] {
        &self.logits
    }

    /// What computes: the name of the instruction set in use.
    #[must_use]
    pub fn kernels(&self) -> &'static str {
        self.machine.kernels.name
    }

    /// Bytes in weights and KV caches.
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        let weights = self.shards.values().map(|loaded| loaded.bytes);
        let caches = self
            .requests
            .values()
            .flat_map(BTreeMap::values)
            .map(Kv::bytes);
        weights.chain(caches).sum()
    }

    fn check_memory(&self, what: &'static str, needed: u64, used: u64) -> Result<(), CpuError> {
        match self.options.memory_limit {
            Some(limit) if needed.saturating_add(used) > limit => Err(CpuError::Memory {
                what,
                needed,
                used,
                limit,
            }),
            _ => Ok(()),
        }
    }

    fn load(
        &mut self,
        call: CallId,
        shard: Shard,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> Result<EngineEvent, CpuError> {
        if let Some(loaded) = self.shards.get(&shard) {
            return Ok(loaded.told(call));
        }
        if shard.is_empty() {
            let (start, end, layers) = (shard.start, shard.end, shard.layers);
            return Err(CpuError::Range { start, end, layers });
        }
        let model = (self.open)(&shard.model)?;
        let config = model.config();
        if config.layers != shard.layers {
            return Err(CpuError::Layers {
                model: shard.model.to_string(),
                asked: shard.layers,
                found: config.layers,
            });
        }
        ShardModel::check(config)?;
        let weights = model.weights(shard.range())?;
        let bytes = weights.bytes();
        let page = KvShape::of(config, shard.len() as usize, self.options.precision).bytes(1);
        self.check_memory(
            "the shard, with the smallest KV cache,",
            bytes.saturating_add(page),
            self.memory_used(),
        )?;
        let ready = ShardModel::load(config.clone(), &weights)?;
        if self.options.read_ahead {
            weights.check_numbers(&mut |done| {
                progress(EngineEvent::Progress {
                    call,
                    done,
                    total: bytes,
                });
            })?;
        }
        // A stage can do without what tells it, which may be another node's part of the files.
        let fingerprint = model.fingerprint().unwrap_or_else(|error| {
            tracing::warn!(%shard, "nobody can check that it is the same model everywhere: {error}");
            0
        });
        tracing::info!(%shard, bytes, kernels = self.machine.kernels.name, "loaded");
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

    fn unload(&mut self, shard: &Shard) {
        self.shards.remove(shard);
        self.requests.retain(|_, caches| {
            caches.remove(shard);
            !caches.is_empty()
        });
    }

    fn forward(&mut self, shard: &Shard, step: Step) -> Result<(EngineOutput, u32), CpuError> {
        let ready = self.prepare(shard, step)?;
        let mut computed = None;
        self.compute(shard, vec![ready], &mut |_, result| computed = Some(result));
        computed.unwrap_or_else(|| Err(CpuError::Input(format!("{shard} is not loaded"))))
    }
}

impl Engine for CpuEngine {
    fn measure(&mut self) -> Option<Speed> {
        measure::speed(&mut self.machine)
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
            EngineCommand::Forward {
                shard,
                request,
                position,
                input,
                sampling,
                ..
            } => {
                let step = Step {
                    call,
                    request,
                    position,
                    input,
                    sampling,
                };
                self.forward(&shard, step)
                    .map(|(output, positions)| EngineEvent::Forwarded {
                        call,
                        output,
                        positions,
                    })
            }
            EngineCommand::Free { request, .. } => {
                self.requests.remove(&request);
                self.guides.forget(&request);
                Ok(EngineEvent::Freed { call })
            }
            EngineCommand::Train(_) => Err(CpuError::Training),
        };
        done.unwrap_or_else(|error| failed(call, error))
    }

    fn execute_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        let mut together = Together::default();
        for command in commands {
            let EngineCommand::Forward {
                call,
                shard,
                request,
                position,
                input,
                sampling,
            } = command
            else {
                together.compute(self, tell);
                let done = self.execute(command, tell);
                tell(done);
                continue;
            };
            if !together.admits(&shard, &request) {
                together.compute(self, tell);
            }
            let step = Step {
                call,
                request,
                position,
                input,
                sampling,
            };
            match self.prepare(&shard, step) {
                Ok(ready) => {
                    let short = ready.is_short();
                    if !short {
                        together.compute(self, tell);
                    }
                    together.shard = Some(shard);
                    together.steps.push(ready);
                    if !short {
                        together.compute(self, tell);
                    }
                }
                Err(error) => {
                    together.compute(self, tell);
                    tell(failed(call, error));
                }
            }
        }
        together.compute(self, tell);
    }
}

/// Steps that wait to be computed together.
#[derive(Default)]
struct Together {
    shard: Option<Shard>,
    steps: Vec<Ready>,
}

impl Together {
    /// Whether a step may join: on the same shard, and of a request that is not among them.
    fn admits(&self, shard: &Shard, request: &RequestId) -> bool {
        self.steps.is_empty()
            || self.shard.as_ref() == Some(shard)
                && self.steps.iter().all(|step| step.request != *request)
    }

    /// Computes them, and tells what comes of each.
    fn compute(&mut self, engine: &mut CpuEngine, tell: &mut dyn FnMut(EngineEvent)) {
        let steps = std::mem::take(&mut self.steps);
        let Some(shard) = self.shard.take().filter(|_| !steps.is_empty()) else {
            return;
        };
        engine.compute(&shard, steps, &mut |call, result| {
            tell(match result {
                Ok((output, positions)) => EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                },
                Err(error) => failed(call, error),
            });
        });
    }
}

fn failed(call: CallId, error: CpuError) -> EngineEvent {
    EngineEvent::Failed {
        call,
        failure: error.into(),
    }
}
