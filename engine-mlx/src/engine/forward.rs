//! Forwards: checked, run, and told.

use super::{MlxEngine, failed};
use crate::MlxError;
use crate::batch::{Done, Job};
use crate::cache::KvCache;
use crate::input::Checked;
use exo_protocol::Shard;
use exo_protocol::engine::{EngineCommand, EngineEvent, EngineInput, Sampling};
use exo_protocol::id::{CallId, RequestId};

/// The fields of an [`EngineCommand::Forward`].
struct Ask {
    call: CallId,
    request: RequestId,
    position: u32,
    input: EngineInput,
    sampling: Option<Sampling>,
}

impl MlxEngine {
    /// Runs forwards that go together, and nothing else.
    pub(super) fn forward_all(
        &mut self,
        commands: Vec<EngineCommand>,
        tell: &mut dyn FnMut(EngineEvent),
    ) {
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
        let shaping = sampling
            .as_ref()
            .and_then(|sampling| sampling.shaping.as_ref());
        let shaping = shaping.filter(|_| loaded.shard.is_last());
        let allowed = match shaping.and_then(|shaping| Some((shaping, shaping.grammar.as_ref()?))) {
            Some((shaping, grammar)) => {
                let guides = &mut self.guides;
                Some(guides.allowed(&request, &loaded.model, grammar, &shaping.answer)?)
            }
            None => None,
        };
        let mine = self.requests.get_mut(&request);
        let taken = mine.and_then(|caches| caches.remove(shard));
        let mut cache = taken.unwrap_or_else(|| KvCache::new(shape));
        cache.return_to(position);
        Ok(Job {
            call,
            request,
            input,
            sampling,
            allowed,
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
}
