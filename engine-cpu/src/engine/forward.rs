//! Steps of requests: checked one by one, computed together where that is faster.

use super::{CpuEngine, Loaded};
use crate::error::CpuError;
use crate::input::{Checked, to_tensor};
use crate::kernels::GROUP;
use crate::kv::Kv;
use crate::pass::{Run, forward};
use crate::sampling::choose;
use exo_models::guide::Guides;
use exo_protocol::Shard;
use exo_protocol::engine::{EngineInput, EngineOutput, Sampling, Scores};
use exo_protocol::id::{CallId, RequestId};

/// Inputs up to this length are computed together: they read the weights once then. Longer ones
/// keep the kernels busy alone, and would only hold up the others.
const SHORT: usize = GROUP;

/// What an [`EngineCommand::Forward`](exo_protocol::engine::EngineCommand::Forward) asks for.
pub(super) struct Step {
    pub(super) call: CallId,
    pub(super) request: RequestId,
    pub(super) position: u32,
    pub(super) input: EngineInput,
    pub(super) sampling: Option<Sampling>,
}

/// A step that was checked; its cache has room for it and ends where it begins.
pub(super) struct Ready {
    pub(super) call: CallId,
    pub(super) request: RequestId,
    input: Checked,
    sampling: Option<Sampling>,
    added: u32,
    /// Positions after it.
    positions: usize,
}

impl Ready {
    /// Whether it is better computed with others.
    pub(super) fn is_short(&self) -> bool {
        self.added as usize <= SHORT
    }
}

impl CpuEngine {
    /// Checks a step and makes room for it; nothing else of it can fail. A refusal forgets nothing.
    pub(super) fn prepare(&mut self, shard: &Shard, step: Step) -> Result<Ready, CpuError> {
        let Step {
            call,
            request,
            position,
            input,
            sampling,
        } = step;
        let loaded = self
            .shards
            .get(shard)
            .ok_or_else(|| CpuError::Input(format!("{shard} is not loaded")))?;
        let input = Checked::new(&loaded.model, &loaded.shard, &input)?;
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
        let known = self
            .requests
            .get_mut(&request)
            .and_then(|caches| caches.get_mut(shard));
        let is_known = known.is_some();
        let kv = known.unwrap_or(&mut fresh);
        if kv.reserve(positions).is_err() {
            kv.trim(0);
            return Err(CpuError::Allocation { positions });
        }
        // What lies beyond the position is forgotten.
        kv.set_len(position as usize);
        kv.trim(positions);
        if !is_known {
            let caches = self.requests.entry(request.clone()).or_default();
            caches.insert(shard.clone(), fresh);
        }
        Ok(Ready {
            call,
            request,
            input,
            sampling,
            added,
            positions,
        })
    }

    /// Computes steps of different requests on one shard; tells what comes out of each, and how
    /// many positions it added.
    pub(super) fn compute(
        &mut self,
        shard: &Shard,
        steps: Vec<Ready>,
        tell: &mut dyn FnMut(CallId, Result<(EngineOutput, u32), CpuError>),
    ) {
        let Some(loaded) = self.shards.get(shard) else {
            return;
        };
        let last = loaded.shard.is_last();
        // On loan while they are computed with.
        let mut caches: Vec<Kv> = steps
            .iter()
            .filter_map(|step| self.requests.get_mut(&step.request)?.remove(shard))
            .collect();
        let mut runs: Vec<Run<'_>> = steps
            .iter()
            .zip(&mut caches)
            .map(|(step, kv)| Run {
                kv,
                input: step.input.borrowed(),
                logits: last && step.sampling.is_some(),
                out: Vec::new(),
            })
            .collect();
        if let Some(run) = runs.iter_mut().rfind(|run| run.logits) {
            run.out = std::mem::take(&mut self.logits);
        }
        forward(
            &loaded.shard,
            &mut self.machine,
            &mut self.buffers,
            &mut runs,
        );
        let outs: Vec<Vec<f32>> = runs.into_iter().map(|run| run.out).collect();
        for (step, kv) in steps.iter().zip(caches) {
            let of_request = self.requests.entry(step.request.clone()).or_default();
            of_request.insert(shard.clone(), kv);
        }
        for (step, mut out) in steps.into_iter().zip(outs) {
            let output = match step.sampling {
                _ if !last => to_tensor(&out, step.added as usize).map(EngineOutput::Hidden),
                None => Ok(EngineOutput::Nothing),
                Some(sampling) => {
                    let position = u32::try_from(step.positions).unwrap_or(u32::MAX);
                    let guides = &mut self.guides;
                    let chosen =
                        sample(loaded, guides, &step.request, &sampling, &mut out, position);
                    self.logits = out;
                    chosen
                }
            };
            tell(step.call, output.map(|output| (output, step.added)));
        }
    }
}

/// Chooses the token that `sampling` wants at `position` from `logits`, which are changed as it says.
fn sample(
    loaded: &Loaded,
    guides: &mut Guides,
    request: &RequestId,
    sampling: &Sampling,
    logits: &mut [f32],
    position: u32,
) -> Result<EngineOutput, CpuError> {
    let raw = sampling.scores.map(|most| (most, logits.to_vec()));
    sampling.shape(logits, |shaping, grammar, logits| {
        let allowed = guides.allowed(request, &loaded.model, grammar, &shaping.answer)?;
        allowed.apply(logits);
        Ok::<_, CpuError>(())
    })?;
    let token = choose(logits, sampling, position);
    let end = loaded.shard.config.eos.contains(&token);
    Ok(match raw {
        Some((most, raw)) => EngineOutput::Scored {
            token,
            end,
            scores: Scores::of(&raw, token, most),
        },
        None => EngineOutput::Token { token, end },
    })
}
