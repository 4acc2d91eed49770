//! An engine with a watch beside it.

use super::Metrics;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent};
use exo_protocol::id::{CallId, ModelId};
use exo_protocol::shard::Shard;
use exo_protocol::topology::Speed;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Measures what an engine takes over its commands, and knows what it holds.
pub struct Timed {
    inner: Box<dyn Engine>,
    metrics: Arc<Metrics>,
    /// Bytes of the weights of each shard.
    held: BTreeMap<Shard, u64>,
}

impl std::fmt::Debug for Timed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timed").finish_non_exhaustive()
    }
}

/// What a command was about.
enum About {
    Model(ModelId),
    Load(Shard),
    Unload(Shard),
}

impl Timed {
    /// `inner`, measured for `metrics`.
    #[must_use]
    pub fn new(inner: Box<dyn Engine>, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            metrics,
            held: BTreeMap::new(),
        }
    }

    /// KV caches grow and go with every command.
    fn weigh(&self) {
        if let Some(bytes) = self.inner.memory() {
            self.metrics.holds(bytes);
        }
    }
}

/// Something is done that took this long.
fn done(
    metrics: &Metrics,
    held: &mut BTreeMap<Shard, u64>,
    about: Option<About>,
    event: &EngineEvent,
    took: Duration,
) {
    let model = match &about {
        Some(About::Model(model)) => Some(model.as_str()),
        _ => None,
    };
    metrics.computed(model, event, took);
    match (about, event) {
        (Some(About::Load(shard)), EngineEvent::Loaded { bytes, .. }) => {
            held.insert(shard, *bytes);
        }
        (Some(About::Unload(shard)), EngineEvent::Unloaded { .. }) => {
            held.remove(&shard);
        }
        _ => return,
    }
    let bytes = held
        .values()
        .fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    metrics
        .weights
        .set(i64::try_from(bytes).unwrap_or(i64::MAX));
}

fn about(command: &EngineCommand) -> Option<(CallId, About)> {
    Some(match command {
        EngineCommand::Load { call, shard } => (*call, About::Load(shard.clone())),
        EngineCommand::Unload { call, shard } => (*call, About::Unload(shard.clone())),
        EngineCommand::Forward { call, shard, .. } => (*call, About::Model(shard.model.clone())),
        _ => return None,
    })
}

impl Engine for Timed {
    fn measure(&mut self) -> Option<Speed> {
        self.inner.measure()
    }

    fn memory(&self) -> Option<u64> {
        self.inner.memory()
    }

    fn execute(
        &mut self,
        command: EngineCommand,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        let about = about(&command).map(|(_, about)| about);
        let since = Instant::now();
        let event = self.inner.execute(command, progress);
        done(
            &self.metrics,
            &mut self.held,
            about,
            &event,
            since.elapsed(),
        );
        self.weigh();
        event
    }

    /// Of commands that are computed together, the first that is done bears the time of all.
    fn execute_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        let mut open: BTreeMap<CallId, About> = commands.iter().filter_map(about).collect();
        let (metrics, held) = (&self.metrics, &mut self.held);
        let mut since = Instant::now();
        self.inner.execute_all(commands, &mut |event| {
            if !matches!(event, EngineEvent::Progress { .. }) {
                let now = Instant::now();
                let took = now.saturating_duration_since(since);
                done(metrics, held, open.remove(&event.call()), &event, took);
                since = now;
            }
            tell(event);
        });
        self.weigh();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::dummy::DummyEngine;

    #[test]
    fn an_engine_with_a_watch_tells_its_speed() {
        let speed = Speed {
            decode: 7,
            prefill: 8,
        };
        let inner = Box::new(DummyEngine::with_speed(speed));
        let mut timed = Timed::new(inner, Arc::default());
        assert_eq!(timed.measure(), Some(speed));
    }
}
