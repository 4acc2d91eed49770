//! The engine: commands in, completions out.

use crate::error::CpuError;
use crate::input::{Checked, to_tensor};
use crate::kernels::Kernels;
use crate::kv::Kv;
use crate::machine::Machine;
use crate::matrix::Matrix;
use crate::options::CpuOptions;
use crate::pass::{Buffers, Run, forward};
use crate::sampling::choose;
use crate::shard::ShardModel;
use exo_models::{Model, ModelError};
use exo_protocol::Shard;
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, EngineInput, EngineOutput, Sampling,
};
use exo_protocol::id::{CallId, RequestId};
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
        let range = shard.range();
        if shard.is_empty() {
            let (start, end, layers) = (shard.start, shard.end, shard.layers);
            return Err(CpuError::Range { start, end, layers });
        }
        let model = (self.open)(&shard.model)?;
        let found = model.config().layers;
        if found != shard.layers {
            let (model, asked) = (shard.model.to_string(), shard.layers);
            return Err(CpuError::Layers {
                model,
                asked,
                found,
            });
        }
        let ready = ShardModel::load(&model, range)?;
        let bytes = ready.bytes();
        let page = ready.kv_shape(self.options.precision).bytes(1);
        self.check_memory(
            "the shard, with the smallest KV cache,",
            bytes.saturating_add(page),
            self.memory_used(),
        )?;
        if self.options.read_ahead {
            read_ahead(&ready, bytes, &mut |done| {
                progress(EngineEvent::Progress {
                    call,
                    done,
                    total: bytes,
                });
            });
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

    fn forward(
        &mut self,
        shard: &Shard,
        request: RequestId,
        position: u32,
        input: &EngineInput,
        sampling: Option<&Sampling>,
    ) -> Result<(EngineOutput, u32), CpuError> {
        let loaded = self
            .shards
            .get(shard)
            .ok_or_else(|| CpuError::Input(format!("{shard} is not loaded")))?;
        let input = Checked::new(&loaded.model, &loaded.shard, input)?;
        let count = input.len(loaded.shard.config.hidden);
        let cached = self
            .requests
            .get(&request)
            .and_then(|caches| caches.get(shard));
        let len = cached.map_or(0, Kv::len);
        if position as usize > len {
            return Err(CpuError::Input(format!(
                "the input begins at position {position}, but only {len} positions of request \
                 {request} are cached for {shard}"
            )));
        }
        let context = match self.options.max_context {
            0 => loaded.shard.config.context,
            limit => limit.min(loaded.shard.config.context),
        };
        let positions = u64::from(position) + count as u64;
        let (Ok(added), true) = (u32::try_from(count), positions <= u64::from(context)) else {
            return Err(CpuError::Context { positions, context });
        };
        let positions = position as usize + count;
        let shape = loaded.shard.kv_shape(self.options.precision);
        let before = cached.map_or(0, Kv::bytes);
        let after = cached.map_or_else(|| shape.bytes(positions), |kv| kv.bytes_for(positions));
        self.check_memory(
            "the KV cache",
            after,
            self.memory_used().saturating_sub(before),
        )?;

        let mut fresh = Kv::new(shape);
        let kv = match self
            .requests
            .get_mut(&request)
            .and_then(|caches| caches.get_mut(shard))
        {
            Some(kv) => kv,
            None => &mut fresh,
        };
        if kv.reserve(positions).is_err() {
            kv.trim(0);
            return Err(CpuError::Allocation { positions });
        }
        // From here on nothing fails, and what lies beyond the position is forgotten.
        kv.set_len(position as usize);
        kv.trim(positions);
        let last = loaded.shard.is_last();
        let mut runs = [Run {
            kv,
            input: input.borrowed(),
            logits: last && sampling.is_some(),
            out: match sampling {
                Some(_) if last => std::mem::take(&mut self.logits),
                _ => Vec::new(),
            },
        }];
        forward(
            &loaded.shard,
            &mut self.machine,
            &mut self.buffers,
            &mut runs,
        );
        let [Run { out, .. }] = runs;
        let output = match sampling {
            _ if !last => EngineOutput::Hidden(to_tensor(&out, count)?),
            None => EngineOutput::Nothing,
            Some(sampling) => {
                self.logits = out;
                let position = u32::try_from(positions).unwrap_or(u32::MAX);
                let token = choose(&self.logits, sampling, position);
                EngineOutput::Token {
                    token,
                    end: loaded.shard.config.eos.contains(&token),
                }
            }
        };
        if fresh.len() > 0 {
            self.requests
                .entry(request)
                .or_default()
                .insert(shard.clone(), fresh);
        }
        Ok((output, added))
    }
}

impl Engine for CpuEngine {
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
            } => self
                .forward(&shard, request, position, &input, sampling.as_ref())
                .map(|(output, positions)| EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                }),
            EngineCommand::Free { request, .. } => {
                self.requests.remove(&request);
                Ok(EngineEvent::Freed { call })
            }
            EngineCommand::Train(_) => Err(CpuError::Training),
        };
        done.unwrap_or_else(|error| EngineEvent::Failed {
            call,
            failure: error.into(),
        })
    }
}

/// Touches every page of the weights, so that the first token does not wait for the disk.
fn read_ahead(shard: &ShardModel, total: u64, report: &mut dyn FnMut(u64)) {
    const PAGE: usize = 4096;
    const STEP: usize = 8 << 20;
    let mut done = 0;
    let parts = shard.matrices().flat_map(Matrix::parts);
    for part in parts {
        for piece in part.chunks(STEP) {
            let sum = piece.iter().step_by(PAGE).fold(0u8, |sum, byte| sum ^ byte);
            std::hint::black_box(sum);
            done += piece.len() as u64;
            if done == total || piece.len() == STEP {
                report(done);
            }
        }
    }
}
