//! A request that was submitted here, as its origin sees it.

use super::extended::Route;
use super::failure::Failure;
use super::input::Submit;
use super::output::Stage;
use crate::engine::Sampling;
use crate::id::{ModelId, NodeId, RequestId};
use crate::time::Instant;
use crate::topology::ModelCost;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A request from [`Command::Submit`](super::Command::Submit) to its last event.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) model: ModelId,
    pub(super) layers: u32,
    pub(super) bytes: u64,
    pub(super) cost: ModelCost,
    pub(super) fingerprint: u64,
    pub(super) prompt_text: Arc<str>,
    pub(super) prompt: Vec<u32>,
    pub(super) end_tokens: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) max_tokens: u32,
    /// The answer so far.
    pub(super) answer: Vec<u32>,
    /// The stages in order; frozen for this epoch.
    pub(super) ring: Vec<Stage>,
    /// For each stage, positions that its KV cache is known to have.
    pub(super) held: Vec<u32>,
    /// How many rings it had before this one.
    pub(super) epoch: u32,
    /// A reference node takes part: the ring speaks the base protocol and cannot be replaced.
    pub(super) plain: bool,
    /// Nodes that failed it, and how often.
    pub(super) failed: BTreeMap<NodeId, u32>,
    /// Nodes that must not take part at the moment.
    pub(super) avoid: BTreeSet<NodeId>,
    /// Rings in a row in which no token came.
    pub(super) setbacks: u32,
    /// A stage of this epoch has lost its cache: the next ring computes everything anew.
    pub(super) cold: bool,
    /// Nodes that may hold something for it.
    pub(super) touched: BTreeSet<NodeId>,
    /// The way to a first stage on another node.
    pub(super) feed: Option<Route>,
    /// No ring can be formed at the moment.
    pub(super) waiting: Option<Waiting>,
    pub(super) until: Instant,
    /// The time that it was given.
    pub(super) seconds: u64,
    /// What its steps cost is told.
    pub(super) trace: bool,
}

/// A request between two rings.
#[derive(Debug)]
pub(super) struct Waiting {
    /// What it ends with if no ring can be formed in time.
    pub(super) failure: Failure,
    pub(super) until: Instant,
    /// Then there is another try; otherwise it is the end.
    pub(super) again: bool,
}

impl Client {
    /// So many failures without a token between them and a node is not asked again.
    const UNFORGIVEN: u32 = 3;
    /// The count of a node that cannot do better.
    const NEVER: u32 = u32::MAX;

    pub(super) fn new(submit: Submit, max_tokens: u32, now: Instant) -> Self {
        Self {
            model: submit.model,
            layers: submit.layers,
            bytes: submit.bytes,
            cost: submit.cost,
            fingerprint: submit.fingerprint,
            prompt_text: submit.prompt,
            prompt: submit.tokens,
            end_tokens: submit.end_tokens,
            sampling: submit.sampling,
            max_tokens: submit.max_tokens.min(max_tokens),
            answer: Vec::new(),
            ring: Vec::new(),
            held: Vec::new(),
            epoch: 0,
            plain: false,
            failed: BTreeMap::new(),
            avoid: BTreeSet::new(),
            setbacks: 0,
            cold: false,
            touched: BTreeSet::new(),
            feed: None,
            waiting: None,
            until: now + submit.timeout,
            seconds: submit.timeout.as_secs(),
            trace: submit.trace,
        }
    }

    /// When it needs attention.
    pub(super) fn deadline(&self) -> Instant {
        let waiting = self.waiting.as_ref().map(|waiting| waiting.until);
        waiting.map_or(self.until, |until| until.min(self.until))
    }

    /// Tokens told, which is also the next one's number.
    pub(super) fn told(&self) -> u32 {
        u32::try_from(self.answer.len()).unwrap_or(u32::MAX)
    }

    /// Positions that it has at its end.
    pub(super) fn positions(&self) -> u32 {
        self.prompt_len().saturating_add(self.max_tokens)
    }

    /// Tokens of the prompt.
    pub(super) fn prompt_len(&self) -> u32 {
        u32::try_from(self.prompt.len()).unwrap_or(u32::MAX)
    }

    /// Whether `node` computes a stage of it.
    pub(super) fn involves(&self, node: &str) -> bool {
        self.ring.iter().any(|stage| &*stage.node == node)
    }

    /// A token came: every stage has computed all positions before it.
    pub(super) fn confirmed(&mut self) {
        let positions = self
            .prompt_len()
            .saturating_add(self.told())
            .saturating_sub(1);
        self.held.fill(positions);
        self.setbacks = 0;
        self.failed.retain(|_, count| *count == Self::NEVER);
    }

    /// A node failed the request. `passing`: it may do better the next time, once or twice.
    pub(super) fn blame(&mut self, node: &NodeId, passing: bool) {
        let count = self.failed.entry(node.clone()).or_default();
        *count = if passing {
            count.saturating_add(1)
        } else {
            Self::NEVER
        };
        self.avoid.insert(node.clone());
    }

    /// Without those that failed it there is no ring: those that may do better get another chance.
    /// Says whether there is one.
    pub(super) fn forgive(&mut self) -> bool {
        let before = self.avoid.len();
        let failed = &self.failed;
        self.avoid.retain(|node| {
            failed
                .get(node)
                .is_some_and(|count| *count >= Self::UNFORGIVEN)
        });
        self.avoid.len() < before
    }

    /// For each stage of `ring`, what it need not compute anew: what it has from the ring before,
    /// in as far as no stage behind it lacks it.
    pub(super) fn keep_for(&self, ring: &[Stage]) -> Vec<u32> {
        let mut keep = Vec::with_capacity(ring.len());
        let mut most = if self.cold { 0 } else { u32::MAX };
        for stage in ring.iter().rev() {
            let before = self.ring.iter().position(|old| old == stage);
            let held = before.and_then(|index| self.held.get(index).copied());
            most = most.min(held.unwrap_or(0));
            keep.push(most);
        }
        keep.reverse();
        keep
    }
}

/// Requests that are over here, up to some epoch of theirs, newest last: a late word must not
/// revive one.
#[derive(Debug, Default)]
pub(super) struct Ended {
    order: VecDeque<RequestId>,
    over: BTreeMap<RequestId, Over>,
}

#[derive(Clone, Copy, Debug)]
struct Over {
    epoch: u32,
    /// Its origin knows.
    known: bool,
}

impl Ended {
    /// Over for good.
    pub(super) const ALL: u32 = u32::MAX;

    pub(super) fn insert(&mut self, request: RequestId, epoch: u32, known: bool, limit: usize) {
        if let Some(over) = self.over.get_mut(&request) {
            if epoch >= over.epoch {
                *over = Over { epoch, known };
            }
            return;
        }
        self.over.insert(request.clone(), Over { epoch, known });
        self.order.push_back(request);
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.over.remove(&oldest);
            }
        }
    }

    /// Whether this epoch of it is over.
    pub(super) fn covers(&self, request: &str, epoch: u32) -> bool {
        self.over
            .get(request)
            .is_some_and(|over| epoch <= over.epoch)
    }

    /// Whether this epoch of it is over and its origin knows.
    pub(super) fn is_known(&self, request: &str, epoch: u32) -> bool {
        let over = self.over.get(request);
        over.is_some_and(|over| over.known && epoch <= over.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use alloc::vec;
    use core::time::Duration;

    #[test]
    fn ended_requests_are_forgotten_oldest_first() {
        let mut ended = Ended::default();
        for (id, epoch) in [("a", 0), ("b", 3), ("a", Ended::ALL), ("c", 0)] {
            ended.insert(id.into(), epoch, true, 2);
        }
        assert!(!ended.covers("a", 0));
        assert!(ended.covers("b", 3) && !ended.covers("b", 4));
        assert!(ended.covers("c", 0));
    }

    fn stage(node: &str, range: core::ops::Range<u32>) -> Stage {
        Stage {
            node: node.into(),
            shard: Shard::new("m".into(), range, 8).expect("a range of layers"),
        }
    }

    #[test]
    fn only_the_stages_behind_the_last_change_keep_their_cache() {
        let mut client = Client::new(
            Submit {
                request: "r".into(),
                model: "m".into(),
                layers: 8,
                bytes: 0,
                cost: Default::default(),
                fingerprint: 0,
                prompt: "".into(),
                tokens: vec![1, 2, 3],
                end_tokens: vec![],
                sampling: Sampling::default(),
                max_tokens: 9,
                timeout: Duration::from_secs(1),
                trace: false,
            },
            9,
            Instant::ZERO,
        );
        client.ring = vec![stage("a", 0..3), stage("b", 3..5), stage("c", 5..8)];
        client.held = vec![0; 3];
        let ring = client.ring.clone();
        assert_eq!(client.keep_for(&ring), [0, 0, 0]);
        client.answer = vec![7, 8];
        client.confirmed();
        assert_eq!(
            client.keep_for(&ring),
            [4, 4, 4],
            "the last token is not computed yet"
        );
        let other = [stage("a", 0..3), stage("d", 3..5), stage("c", 5..8)];
        assert_eq!(client.keep_for(&other), [0, 0, 4]);
        let cut = [stage("a", 0..4), stage("c", 4..8)];
        assert_eq!(client.keep_for(&cut), [0, 0]);
    }
}
