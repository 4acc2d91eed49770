//! The node's news: each request's to whoever waits for it, the rest to the log.

use crate::engines;
use crate::identity;
use crate::logging::DISCOVERY;
use crate::metrics::Metrics;
use crate::sharing::Post;
use crate::traces::Traces;
use crate::wake::Wake;
use exo_protocol::id::{NodeId, RequestId};
use exo_protocol::{Event, ModelId, Shard, Stage};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Where news goes. Never waits: the node calls it.
#[derive(Debug, Default)]
pub struct Events {
    waiting: Mutex<BTreeMap<RequestId, Sender<Event>>>,
    rings: Mutex<BTreeMap<ModelId, Vec<Stage>>>,
    loading: Mutex<BTreeMap<Shard, Load>>,
    stopping: AtomicBool,
    drained: AtomicBool,
    watched: Mutex<Vec<Weak<Wake>>>,
    metrics: Arc<Metrics>,
    traces: Traces,
    /// Where news of files goes.
    post: OnceLock<Post>,
}

/// A load that is under way.
#[derive(Clone, Copy, Debug)]
struct Load {
    done: u64,
    total: u64,
    told: Instant,
}

/// As many models' last rings are remembered.
const RINGS: usize = 16;

/// Between two lines about the same load.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

impl Events {
    /// Everything that will be told of `request`.
    pub fn of(&self, request: RequestId) -> Receiver<Event> {
        let (sender, receiver) = mpsc::channel();
        lock(&self.waiting).insert(request, sender);
        receiver
    }

    /// Everything that will be told of any of `requests`, through one channel.
    pub fn of_all<'a>(&self, requests: impl IntoIterator<Item = &'a RequestId>) -> Receiver<Event> {
        let (sender, receiver) = mpsc::channel();
        let mut waiting = lock(&self.waiting);
        for request in requests {
            waiting.insert(request.clone(), sender.clone());
        }
        receiver
    }

    /// What is known of the ways of tokens.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// What is counted and measured.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Nobody waits for `request` any more.
    pub fn forget(&self, request: &RequestId) {
        self.metrics.forget(request);
        lock(&self.waiting).remove(request);
    }

    /// The rings of the last requests, by model.
    #[must_use]
    pub fn rings(&self) -> BTreeMap<ModelId, Vec<Stage>> {
        lock(&self.rings).clone()
    }

    /// Bytes done and bytes in all of the layers that this node loads right now, if it does.
    #[must_use]
    pub fn loading(&self) -> Option<(u64, u64)> {
        let loading = lock(&self.loading);
        let sum = loading
            .values()
            .fold((0_u64, 0_u64), |(done, total), load| {
                (
                    done.saturating_add(load.done),
                    total.saturating_add(load.total),
                )
            });
        (!loading.is_empty()).then_some(sum)
    }

    /// The layers that this node loads right now, with bytes done and bytes in all.
    #[must_use]
    pub fn loads(&self) -> Vec<(Shard, u64, u64)> {
        let loading = lock(&self.loading);
        let load = |(shard, load): (&Shard, &Load)| (shard.clone(), load.done, load.total);
        loading.iter().map(load).collect()
    }

    /// Rings after each piece of news, for as long as somebody else keeps the bell.
    pub fn watch(&self, wake: &Arc<Wake>) {
        let mut watched = lock(&self.watched);
        watched.retain(|known| known.strong_count() > 0);
        watched.push(Arc::downgrade(wake));
    }

    fn ring(&self) {
        for wake in lock(&self.watched).iter().filter_map(Weak::upgrade) {
            wake.ring();
        }
    }

    /// Where news of files goes; only the first is heard.
    pub(crate) fn files_with(&self, post: Post) {
        let _ = self.post.set(post);
    }

    /// This node is about to stop: peers that go are no news any more.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.ring();
    }

    /// Whether this node is about to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether nothing depends on this node any more, after it was told to leave.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Takes one piece of news.
    pub fn handle(&self, event: Event) {
        self.take(event);
        self.ring();
    }

    fn take(&self, event: Event) {
        self.metrics.hear(&event);
        self.traces.hear(&event);
        let request = match &event {
            Event::Accepted { request, ring }
            | Event::JobReady {
                job: request, ring, ..
            } => {
                self.remember(ring);
                request
            }
            Event::ExampleDone { job, .. }
            | Event::JobSaved { job, .. }
            | Event::JobEnded { job }
            | Event::JobFailed { job, .. } => job,
            Event::Token { request, .. }
            | Event::Finished { request, .. }
            | Event::Failed { request, .. }
            | Event::Rejected { request, .. } => request,
            _ => return self.log(event),
        };
        tracing::trace!("{event:?}");
        // Nobody waits when the client is gone; then the news is old.
        let waiting = lock(&self.waiting);
        if let Some(sender) = waiting.get(request) {
            let _ = sender.send(event);
        }
    }

    fn remember(&self, ring: &[Stage]) {
        let Some(stage) = ring.first() else { return };
        let mut rings = lock(&self.rings);
        if rings.len() >= RINGS && !rings.contains_key(&stage.shard.model) {
            rings.pop_first();
        }
        rings.insert(stage.shard.model.clone(), ring.to_vec());
    }

    fn log(&self, event: Event) {
        // Whoever wants to know more sees which peer each line is about.
        let _span = peer_of(&event)
            .map(|node| tracing::debug_span!(target: DISCOVERY, "peer", %node).entered());
        match event {
            Event::PeerUp { node, address } => {
                tracing::info!(target: DISCOVERY, "peer {node} is up at {address}");
            }
            Event::PeerEngine { node, engine } => {
                let engine = engines::words(&engine);
                tracing::info!(target: DISCOVERY, "peer {node} computes with {engine}");
            }
            Event::PeerDown {
                node,
                address,
                reason,
            } if self.stopping.load(Ordering::Relaxed) => {
                tracing::debug!(target: DISCOVERY, "peer {node} at {address} is gone: {reason}");
            }
            Event::PeerDown {
                node,
                address,
                reason,
            } => {
                tracing::warn!(target: DISCOVERY, "peer {node} at {address} is gone: {reason}");
            }
            Event::PeerUnreachable {
                node,
                address,
                reason,
            } => {
                let name = node.as_ref().map_or("a peer", |node| node.as_str());
                tracing::info!(
                    target: DISCOVERY,
                    "{name} at {address} cannot be reached: {reason}; trying again"
                );
            }
            Event::ConnectionRefused {
                remote,
                node,
                reason,
            } => {
                let name = node
                    .as_ref()
                    .map_or("an unnamed node", |node| node.as_str());
                tracing::warn!("connection of {name} from {remote} closed: {reason}");
            }
            Event::DiscoveryRejected { reason } => {
                tracing::warn!(
                    target: DISCOVERY,
                    "the list of peers cannot be used, the last good one stays: {reason}"
                );
            }
            Event::BroadcastTrouble { reason } => {
                tracing::warn!(target: DISCOVERY, "{reason}");
            }
            Event::PeerMoved {
                node,
                from,
                to,
                reason,
            } => {
                tracing::info!(
                    target: DISCOVERY,
                    "peer {node} is reached at {to} now, not at {from} any more: {reason}"
                );
            }
            Event::LinkSlow {
                node,
                address,
                rtt,
                before,
            } => {
                let ms = |time: Duration| time.as_secs_f64() * 1000.0;
                tracing::warn!(
                    target: DISCOVERY,
                    "link to {node}: {:.1} ms via {address}, was {:.1} ms",
                    ms(rtt),
                    ms(before)
                );
            }
            Event::PeerRestarted { node } => {
                tracing::info!(
                    target: DISCOVERY,
                    "peer {node} was started anew: what it held for requests is lost"
                );
            }
            Event::PeerLeaving { node } => {
                tracing::info!(
                    target: DISCOVERY,
                    "peer {node} is leaving: nothing new is placed on it"
                );
            }
            Event::DuplicateNode {
                node,
                first,
                second,
            } => {
                let first = if first.is_empty() {
                    "here".to_owned()
                } else {
                    format!("at {first}")
                };
                tracing::error!(
                    target: DISCOVERY,
                    "two nodes are called {node}: one {first}, and one at {second}, which is \
                     refused; start one of them with another --node-id, or remove its home folder \
                     ({}) if it was copied from the other",
                    identity::home().display()
                );
            }
            Event::Recovering {
                request,
                reason,
                epoch,
                ring,
            } => {
                self.remember(&ring);
                let id = self.metrics.id_of(&request);
                let id = id.as_deref().unwrap_or(request.as_str());
                let _span = tracing::info_span!("request", id).entered();
                let nodes: Vec<&str> = ring.iter().map(|stage| stage.node.as_str()).collect();
                tracing::warn!(
                    "request {request} goes on over {} (ring {}): {reason}",
                    nodes.join(", "),
                    epoch.saturating_add(1)
                );
            }
            Event::Drained => {
                tracing::debug!("nothing depends on this node any more");
                self.drained.store(true, Ordering::Relaxed);
            }
            Event::TopologyChanged => tracing::debug!(target: DISCOVERY, "the topology changed"),
            Event::Loading { shard, done, total } => self.progress(&shard, done, total),
            Event::Loaded { shard, bytes } => {
                lock(&self.loading).remove(&shard);
                tracing::info!("{shard} are ready ({} MiB)", bytes >> 20);
            }
            event @ (Event::FilesWanted { .. } | Event::Part { .. } | Event::PartWanted { .. }) => {
                if let Some(post) = self.post.get() {
                    post.take(event);
                }
            }
            Event::Unloaded { shard } => tracing::info!("{shard} are not in memory any more"),
            Event::EngineFailed { shard, reason } => {
                lock(&self.loading).remove(&shard);
                tracing::error!("{shard}: {reason}");
            }
            // The trace of its request tells.
            Event::StepTimed { .. } => {}
            other => tracing::debug!("{other:?}"),
        }
    }

    fn progress(&self, shard: &Shard, done: u64, total: u64) {
        let mut loading = lock(&self.loading);
        let told = loading.get(shard).map(|load| load.told);
        let recent = told.filter(|told| told.elapsed() < PROGRESS_EVERY);
        if recent.is_none() && done < total {
            tracing::info!("loading {shard}: {} of {} MiB", done >> 20, total >> 20);
        }
        let told = recent.unwrap_or_else(Instant::now);
        loading.insert(shard.clone(), Load { done, total, told });
    }
}

fn peer_of(event: &Event) -> Option<&NodeId> {
    match event {
        Event::PeerUp { node, .. }
        | Event::PeerDown { node, .. }
        | Event::PeerMoved { node, .. }
        | Event::PeerRestarted { node }
        | Event::PeerEngine { node, .. }
        | Event::PeerLeaving { node }
        | Event::LinkSlow { node, .. } => Some(node),
        Event::PeerUnreachable { node, .. } | Event::ConnectionRefused { node, .. } => {
            node.as_ref()
        }
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::FinishReason;

    fn token(request: &str, index: u32) -> Event {
        Event::Token {
            request: request.into(),
            index,
            token: 7,
            scores: None,
        }
    }

    #[test]
    fn everybody_hears_of_their_own_request_only() {
        let events = Events::default();
        let (first, second) = (events.of("a".into()), events.of("b".into()));
        events.handle(token("a", 0));
        events.handle(token("b", 0));
        events.handle(token("nobody", 0));
        let reason = FinishReason::Stop;
        events.handle(Event::Finished {
            request: "a".into(),
            reason,
            tokens: 2,
        });
        assert_eq!(first.try_iter().count(), 2);
        assert_eq!(second.try_iter().collect::<Vec<_>>(), [token("b", 0)]);
        events.forget(&"a".into());
        events.handle(token("a", 1));
        assert!(first.recv().is_err());
    }

    #[test]
    fn a_load_is_known_until_it_is_over() {
        let events = Events::default();
        let shard = Shard {
            model: "m".into(),
            start: 0,
            end: 7,
            layers: 8,
        };
        assert_eq!(events.loading(), None);
        events.handle(Event::Loading {
            shard: shard.clone(),
            done: 1,
            total: 4,
        });
        events.handle(Event::Loading {
            shard: shard.clone(),
            done: 3,
            total: 4,
        });
        assert_eq!(events.loading(), Some((3, 4)));
        events.handle(Event::Loaded { shard, bytes: 4 });
        assert_eq!(events.loading(), None);
    }

    #[test]
    fn a_node_that_may_go_is_known() {
        let events = Events::default();
        events.handle(Event::PeerLeaving { node: "x".into() });
        assert!(!events.drained());
        events.handle(Event::Drained);
        assert!(events.drained());
    }

    #[test]
    fn the_last_ring_of_each_model_is_remembered() {
        let events = Events::default();
        for (model, node) in [("m", "x"), ("n", "y"), ("m", "z")] {
            let shard = Shard {
                model: model.into(),
                start: 0,
                end: 7,
                layers: 8,
            };
            let ring = vec![Stage {
                node: node.into(),
                shard,
            }];
            events.handle(Event::Accepted {
                request: "a".into(),
                ring,
            });
        }
        let rings = events.rings();
        assert_eq!(rings.len(), 2);
        assert_eq!(rings[&ModelId::from("m")][0].node.as_str(), "z");
        let mut ring = rings[&ModelId::from("m")].clone();
        ring[0].node = "left".into();
        events.handle(Event::Recovering {
            request: "a".into(),
            reason: "z is gone".into(),
            epoch: 1,
            ring,
        });
        assert_eq!(events.rings()[&ModelId::from("m")][0].node.as_str(), "left");
    }
}
