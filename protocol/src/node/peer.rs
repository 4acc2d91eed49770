//! A peer that discovery named: where it is, whether it answers, what it said of itself.

use super::find::{Found, Source};
use super::status::{AddressStatus, HopStatus};
use crate::config::{COMMAND, Timing};
use crate::id::{ConnectionId, DialId, NodeId};
use crate::rng::Rng;
use crate::tensor::DTypeFamily;
use crate::time::Instant;
use crate::topology::{Capabilities, LinkMetrics};
use crate::wire::TopologyReply;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Numbers peers within one node; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerKey(pub(super) u64);

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    /// `host:port`.
    pub(super) address: String,
    /// The id that discovery gave it.
    pub(super) expected: Option<NodeId>,
    /// The id that it gave itself, or that stands for it.
    pub(super) node: Option<NodeId>,
    /// How discovery found it, the label of its edge.
    pub(super) description: String,
    /// Until it tells its own.
    pub(super) configured: Option<Capabilities>,
    /// Its last word on itself and its edges.
    pub(super) reply: Option<TopologyReply>,
    /// Everything but a reference peer's health checks goes over this link.
    pub(super) data: Link,
    /// Health checks of a reference peer that is computing go over this one.
    pub(super) probe: Link,
    /// It can be reached: over the connection that this node dialled, or over one of its own.
    pub(super) up: bool,
    /// It answered over the connection that this node dialled.
    pub(super) dialed_up: bool,
    /// Since when, if it is.
    pub(super) up_since: Instant,
    /// It speaks the extension.
    pub(super) own: bool,
    /// Extended connections that it opened to this node.
    pub(super) inbound: Vec<ConnectionId>,
    /// Who names it; a peer that nobody names is forgotten when it goes.
    pub(super) source: Option<Source>,
    /// When it was announced last, and how good the way to it is, if discovery is by broadcasts.
    pub(super) heard: Option<Heard>,
    /// It said that it leaves: nothing new is placed on it.
    pub(super) leaving: bool,
    /// The dtype names it writes.
    pub(super) family: Option<DTypeFamily>,
    pub(super) health_at: Instant,
    pub(super) topology_at: Instant,
    pub(super) rtt: Option<Duration>,
    /// Bytes per second that get there, as large messages showed.
    pub(super) goodput: Option<u64>,
    /// How quick the link is, as others are told.
    pub(super) link: LinkMetrics,
    pub(super) hops: Hops,
    failures: u32,
    /// It answered once at this address.
    pub(super) answered: bool,
    /// Its current run of failures was told to the application.
    pub(super) told: bool,
}

/// What was announced of a peer last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) priority: i64,
}

/// Where one link to a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Not connected; dial at the given time.
    Idle(Instant),
    /// Dialling; give up at the given time.
    Dialing(DialId, Instant),
    /// Connected.
    Open(ConnectionId),
}

impl Link {
    /// Not connected, and nobody wants it to be.
    pub(super) const UNUSED: Self = Self::Idle(Instant::FAR_FUTURE);

    pub(super) fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Open(connection) => Some(connection),
            Self::Idle(_) | Self::Dialing(..) => None,
        }
    }
}

impl Peer {
    /// A peer that discovery names.
    pub(super) fn new(found: Found, now: Instant) -> Self {
        Self {
            source: Some(found.source),
            address: found.address,
            node: found.node.clone(),
            expected: found.node,
            description: found.description,
            configured: found.capabilities,
            reply: None,
            data: Link::Idle(now),
            probe: Link::UNUSED,
            up: false,
            dialed_up: false,
            up_since: now,
            own: false,
            inbound: Vec::new(),
            heard: None,
            leaving: false,
            family: None,
            health_at: Instant::FAR_FUTURE,
            topology_at: Instant::FAR_FUTURE,
            rtt: None,
            goodput: None,
            link: LinkMetrics::default(),
            hops: Hops::default(),
            failures: 0,
            answered: false,
            told: false,
        }
    }

    /// A peer that discovery does not name: it came by itself.
    pub(super) fn unnamed(node: NodeId, remote: String, now: Instant) -> Self {
        let found = Found {
            source: Source::Direct,
            node: None,
            address: remote,
            description: String::from("IN"),
            capabilities: None,
            priority: None,
        };
        let mut peer = Self::new(found, now);
        peer.source = None;
        peer.node = Some(node);
        peer.data = Link::UNUSED;
        peer
    }

    /// Whether it is reached by a command instead of a host and a port.
    pub(super) fn is_behind_command(&self) -> bool {
        self.address.starts_with(COMMAND)
    }

    /// When to dial again after one more failure: doubling waits, spread by a quarter so that a
    /// ring that starts at once does not dial in step.
    pub(super) fn redial_after_failure(
        &mut self,
        now: Instant,
        timing: &Timing,
        rng: &mut Rng,
    ) -> Instant {
        let longest = if self.is_behind_command() {
            timing.command_redial_max
        } else {
            timing.redial_max
        };
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let wait = timing
            .redial_min
            .saturating_mul(1 << doublings)
            .min(longest);
        let quarter = u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(rng.below(quarter.saturating_add(1)));
        // Never at once, or a failing dial would keep the node busy for ever.
        now + wait.saturating_sub(jitter).max(Duration::from_millis(1))
    }

    /// Takes over what was measured; says whether others are to be told.
    pub(super) fn measured(&mut self) -> bool {
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let now = LinkMetrics {
            rtt_us: self.rtt.map(|rtt| micros(rtt).max(1)),
            goodput: self.goodput,
        };
        let told = self.link;
        self.link = told.follow(now);
        told != self.link
    }

    /// It answered: the next failure is the first again.
    pub(super) fn succeeded(&mut self) {
        self.answered = true;
        self.failures = 0;
        self.told = false;
    }

    /// Where it may be reached.
    pub(super) fn addresses(&self) -> Vec<AddressStatus> {
        let status = |source: &Source| AddressStatus {
            address: self.address.clone(),
            sources: alloc::vec![source.clone()],
            description: self.description.clone(),
            in_use: true,
            verified: self.answered,
            rtt: self.rtt.filter(|_| self.dialed_up),
            failures: self.failures,
        };
        self.source.iter().map(status).collect()
    }

    /// What it said of itself, once it said anything.
    pub(super) fn capabilities(&self) -> Option<&Capabilities> {
        let node = self.node.as_deref()?;
        let reply = self.reply.as_ref()?;
        let own = reply.nodes.iter().find(|(id, _)| id == node);
        own.map(|(_, capabilities)| capabilities)
    }

    /// How it wants dtypes spelled: as it spells them itself, before that by its chip.
    pub(super) fn family(&self) -> DTypeFamily {
        let by_chip = || {
            let chip = self
                .capabilities()
                .or(self.configured.as_ref())
                .map(|c| c.chip.as_str());
            let apple = chip.is_some_and(|chip| chip.starts_with("Apple"));
            if apple {
                DTypeFamily::Mlx
            } else {
                DTypeFamily::Numpy
            }
        };
        self.family.unwrap_or_else(by_chip)
    }
}

/// How long the last hand-overs of tensors took.
#[derive(Debug, Default)]
pub(super) struct Hops {
    count: u64,
    bytes: u64,
    last: VecDeque<Duration>,
}

impl Hops {
    /// Samples kept: enough for a 99th percentile, little enough to sort in a snapshot.
    const KEPT: usize = 512;

    /// A tensor of this many bytes went.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        self.count = self.count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// It took this long to hear back.
    pub(super) fn record(&mut self, elapsed: Duration) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(elapsed);
    }

    pub(super) fn status(&self) -> HopStatus {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let percentile = |percent: usize| {
            let index = sorted
                .len()
                .saturating_sub(1)
                .saturating_mul(percent)
                .div_ceil(100);
            sorted.get(index).copied().unwrap_or_default()
        };
        HopStatus {
            count: self.count,
            bytes: self.bytes,
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redial_waits_double_up_to_the_maximum() {
        let timing = Timing::default();
        let mut rng = Rng::new(3);
        let mut peer = Peer::unnamed("n".into(), "h:1".into(), Instant::ZERO);
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(peer.redial_after_failure(Instant::ZERO, &timing, &mut rng) - Instant::ZERO);
        }
        let bounds = |wait: Duration| (wait * 3 / 4)..=wait;
        let mut behind = Peer::unnamed("n".into(), "command x".into(), Instant::ZERO);
        let last = (0..40).map(|_| behind.redial_after_failure(Instant::ZERO, &timing, &mut rng));
        let last = last.last().map(|at| at - Instant::ZERO);
        assert!(last.is_some_and(|wait| bounds(timing.command_redial_max).contains(&wait)));
        assert!(
            waits
                .first()
                .is_some_and(|w| bounds(timing.redial_min).contains(w)),
            "{waits:?}"
        );
        assert!(
            waits
                .last()
                .is_some_and(|w| bounds(timing.redial_max).contains(w)),
            "{waits:?}"
        );
    }

    #[test]
    fn percentiles_of_the_last_samples() {
        let mut hops = Hops::default();
        for millis in 0..1000 {
            hops.record(Duration::from_millis(millis));
        }
        let status = hops.status();
        assert_eq!(status.p50, Duration::from_millis(488 + 256));
        assert_eq!(status.p99, Duration::from_millis(994));
        assert_eq!(Hops::default().status().p99, Duration::ZERO);
    }
}
