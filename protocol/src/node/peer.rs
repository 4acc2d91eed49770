//! A peer that discovery named: where it is, whether it answers, what it said of itself.

use super::address::Address;
use super::downloads::Told;
use super::measure::Survey;
use super::moving::Retiring;
use super::pace::Pace;
use super::status::{AddressStatus, HopStatus, Traffic};
use crate::config::COMMAND;
use crate::id::{ConnectionId, DialId, NodeId};
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

/// A peer: a node, with all addresses at which it is or is said to be. No two peers have the same id.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its id: what it said, or what discovery says.
    pub(super) node: Option<NodeId>,
    /// Where it may be reached, in the order in which that became known. A peer that came by itself
    /// and that nobody names has none, and is forgotten when it goes.
    pub(super) addresses: Vec<Address>,
    /// Where it is connected or dialled, or was last; or whence it came.
    pub(super) address: String,
    /// Its last word on itself and its edges.
    pub(super) reply: Option<TopologyReply>,
    /// Everything but a reference peer's health checks goes over this link.
    pub(super) data: Link,
    /// Health checks of a reference peer that is computing go over this one.
    pub(super) probe: Link,
    /// How its addresses are measured.
    pub(super) survey: Survey,
    /// The connection that `data` took the place of, until all that goes over it has ended.
    pub(super) retiring: Option<Retiring>,
    /// It can be reached: over the connection that this node dialled, or over one of its own.
    pub(super) up: bool,
    /// It answered over the connection that this node dialled.
    pub(super) dialed_up: bool,
    /// Since when, if it is.
    pub(super) up_since: Instant,
    /// It speaks the extension.
    pub(super) own: bool,
    /// Extended connections that it opened to this node, the newest last.
    pub(super) inbound: Vec<ConnectionId>,
    /// It said that it leaves: nothing new is placed on it.
    pub(super) leaving: bool,
    /// The dtype names it writes.
    pub(super) family: Option<DTypeFamily>,
    pub(super) health_at: Instant,
    pub(super) topology_at: Instant,
    pub(super) rtt: Option<Duration>,
    /// The round trip behind steps of requests.
    pub(super) loaded: Option<Duration>,
    /// Whether the link is as quick as it was.
    pub(super) pace: Pace,
    /// Bytes per second that get there, as large messages showed.
    pub(super) goodput: Goodput,
    /// Bytes that were sent last only to see that, and over which connection.
    pub(super) padded: Option<(ConnectionId, usize)>,
    /// How quick the link is, as others are told.
    pub(super) link: LinkMetrics,
    pub(super) hops: Hops,
    pub(super) traffic: Traffic,
    /// What it said of its downloads.
    pub(super) downloads: Told,
    /// That it is gone was told to the application.
    pub(super) told: bool,
}

/// Nobody notices it beside what it takes to wake up whoever waits.
const HARDLY: Duration = Duration::from_micros(10);

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
    pub(super) fn new(node: Option<NodeId>, address: Address) -> Self {
        let (at, now) = (address.address.clone(), address.again);
        let mut peer = Self::unnamed(node, at, now);
        peer.addresses.push(address);
        peer.schedule();
        peer
    }

    /// A peer that discovery does not name: it came by itself.
    pub(super) fn unnamed(node: Option<NodeId>, remote: String, now: Instant) -> Self {
        Self {
            node,
            addresses: Vec::new(),
            address: remote,
            reply: None,
            data: Link::UNUSED,
            probe: Link::UNUSED,
            survey: Survey::default(),
            retiring: None,
            up: false,
            dialed_up: false,
            up_since: now,
            own: false,
            inbound: Vec::new(),
            leaving: false,
            family: None,
            health_at: Instant::FAR_FUTURE,
            topology_at: Instant::FAR_FUTURE,
            rtt: None,
            loaded: None,
            pace: Pace::default(),
            goodput: Goodput::default(),
            padded: None,
            link: LinkMetrics::default(),
            hops: Hops::default(),
            traffic: Traffic::default(),
            downloads: Told::default(),
            told: false,
        }
    }

    // --- its addresses --------------------------------------------------------------------------

    pub(super) fn entry(&self, address: &str) -> Option<&Address> {
        self.addresses.iter().find(|entry| entry.address == address)
    }

    /// Whether it is reached by a command instead of a host and a port.
    pub(super) fn is_behind_command(&self) -> bool {
        self.address.starts_with(COMMAND)
    }

    pub(super) fn entry_mut(&mut self, address: &str) -> Option<&mut Address> {
        let mut all = self.addresses.iter_mut();
        all.find(|entry| entry.address == address)
    }

    /// Where it is connected or dialled, or was last, if that is still named.
    pub(super) fn current(&mut self) -> Option<&mut Address> {
        let mut all = self.addresses.iter_mut();
        all.find(|entry| entry.address == self.address)
    }

    /// Whether something goes on at an address that a change there would disturb.
    pub(super) fn uses(&self, address: &str) -> bool {
        self.address == address && !matches!(self.data, Link::Idle(_))
    }

    /// Keeps one more address, of at most `limit`. What strangers say that came to nothing makes
    /// room first, and for a list anything that strangers say. Says whether it was kept.
    pub(super) fn keep(&mut self, address: Address, limit: usize) -> bool {
        if self.addresses.len() >= limit {
            let listed = !address.is_announced();
            let spare = |entry: &&Address| {
                entry.is_hearsay() && !self.uses(&entry.address) && (listed || entry.has_failed())
            };
            let worst = self.addresses.iter().filter(spare).max_by_key(|e| e.rank());
            let Some(worst) = worst.map(|entry| entry.address.clone()) else {
                return false;
            };
            self.addresses.retain(|entry| entry.address != worst);
        }
        self.addresses.push(address);
        true
    }

    /// The address to dial now, if one is due. A dial in vain takes longer than the wait for the
    /// next: two addresses where the peer was once would keep all others from ever being tried.
    pub(super) fn best_due(&self, now: Instant) -> Option<&Address> {
        let tired = self.entry(&self.address).is_some_and(Address::is_tired);
        let due = self.addresses.iter().filter(|entry| entry.again <= now);
        due.min_by_key(|entry| (entry.verified == tired, entry.rank()))
    }

    /// When not connected: dial when the first address is due.
    pub(super) fn schedule(&mut self) {
        if let Link::Idle(_) = self.data {
            let all = self.addresses.iter().map(|entry| entry.again);
            self.data = Link::Idle(all.min().unwrap_or(Instant::FAR_FUTURE));
        }
    }

    /// Whether nothing is known of it but what strangers say.
    pub(super) fn is_hearsay(&self) -> bool {
        let hearsay = self.addresses.iter().all(Address::is_hearsay);
        hearsay && !self.up && !self.addresses.is_empty()
    }

    /// What is called its id where it is named.
    pub(super) fn claimed(&self) -> Option<&NodeId> {
        let names = self.addresses.iter().flat_map(|entry| &entry.names);
        names.filter_map(|name| name.node.as_ref()).next()
    }

    /// The label of the edge to it.
    pub(super) fn description(&self) -> &str {
        let current = self.entry(&self.address);
        let named = current.or_else(|| self.addresses.first());
        named.map_or("IN", Address::description)
    }

    /// What to assume of the machine until it tells.
    pub(super) fn configured(&self) -> Option<&Capabilities> {
        let names = self.addresses.iter().flat_map(|entry| &entry.names);
        let (mut listed, mut heard) = (None, None);
        for name in names {
            let first = match name.heard {
                None => &mut listed,
                Some(_) => &mut heard,
            };
            *first = first.or(name.capabilities.as_ref());
        }
        listed.or(heard)
    }

    /// All of them, for people.
    pub(super) fn address_status(&self) -> Vec<AddressStatus> {
        let status = |entry: &Address| {
            let in_use = entry.address == self.address;
            entry.status(in_use, self.rtt.filter(|_| in_use && self.dialed_up))
        };
        self.addresses.iter().map(status).collect()
    }

    // --- what it is -----------------------------------------------------------------------------

    /// Takes over what was measured; says whether others are to be told. After a series the round
    /// trip is told as it is: there will not be a better one soon.
    pub(super) fn measured(&mut self, series: bool) -> bool {
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let now = LinkMetrics {
            rtt_us: self.rtt.map(|rtt| micros(rtt).max(1)),
            loaded_us: self.loaded.map(|trip| micros(trip).max(1)),
            goodput: self.goodput.best(),
        };
        let told = self.link;
        let rtt_us = told.rtt_us.filter(|_| !series);
        // What held for another way does not stay.
        let loaded_us = told.loaded_us.filter(|_| now.loaded_us.is_some());
        let told_still = LinkMetrics {
            rtt_us,
            loaded_us,
            ..told
        };
        self.link = told_still.follow(now);
        told != self.link
    }

    /// Whether so many bytes take little of a round trip, as far as is known, or hardly any time.
    pub(super) fn is_little(&self, bytes: usize) -> bool {
        let known = self.goodput.best().zip(self.rtt);
        known.is_some_and(|(rate, rtt)| {
            let bytes = u128::try_from(bytes).unwrap_or(u128::MAX);
            let nanos = bytes.saturating_mul(1_000_000_000) / u128::from(rate.max(1));
            nanos <= (rtt / 10).max(HARDLY).as_nanos()
        })
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
                .or(self.configured())
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

/// How quick the way is for what is large, in bytes per second.
#[derive(Debug, Default)]
pub(super) struct Goodput(VecDeque<u64>);

impl Goodput {
    /// Samples kept.
    const KEPT: usize = 8;

    pub(super) fn record(&mut self, rate: u64) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(rate);
    }

    /// The best of the last ones: whatever disturbs a measurement makes it worse.
    pub(super) fn best(&self) -> Option<u64> {
        self.0.iter().copied().max()
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
    use super::super::address::Name;
    use super::super::find::{Found, Source};
    use super::*;
    use crate::config::Timing;
    use crate::rng::Rng;
    use alloc::vec;

    fn address(at: &str) -> Address {
        let found = Found {
            source: Source::Manual,
            node: None,
            address: at.into(),
            description: String::new(),
            capabilities: None,
            priority: None,
        };
        let (at, name) = Name::new(found, Instant::ZERO);
        Address::new(at, name, Instant::ZERO)
    }

    #[test]
    fn every_address_is_tried_however_many_are_dead_where_the_peer_was() {
        let mut peer = Peer::new(None, address("was:1"));
        for at in ["was:2", "new:1", "new:2"] {
            assert!(peer.keep(address(at), 8));
        }
        for entry in peer.addresses.iter_mut().take(2) {
            entry.succeeded();
        }
        let (mut rng, mut tried) = (Rng::new(3), vec![]);
        for _ in 0..11 {
            // A dial takes so long that all of them are due.
            let due = peer.best_due(Instant::FAR_FUTURE).expect("one is due");
            peer.address = due.address.clone();
            tried.push(peer.address.clone());
            if let Some(entry) = peer.current() {
                entry.failed(Instant::ZERO, &Timing::default(), &mut rng);
            }
        }
        // At first nobody else, then by turns.
        let mut expected = vec!["was:1", "was:2", "was:1", "was:2", "was:1"];
        expected.extend(["new:1", "was:2", "new:2", "was:1", "new:1", "was:2"]);
        assert_eq!(tried, expected);
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
