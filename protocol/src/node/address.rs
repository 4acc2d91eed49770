//! An address of a peer: who says that the peer is there, and what came of trying.

use super::find::{Found, Source};
use super::status::AddressStatus;
use crate::config::{COMMAND, Timing};
use crate::id::NodeId;
use crate::rng::Rng;
use crate::time::Instant;
use crate::topology::Capabilities;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

/// Round trips that differ by less than this are alike, however small they are.
const ALIKE: Duration = Duration::from_micros(200);

/// Attempts in vain after which an address where the peer was takes turns with those where it only
/// is said to be.
const TIRED: u32 = 3;

/// An address at which a peer is, or is said to be.
#[derive(Debug)]
pub(super) struct Address {
    /// `host:port`.
    pub(super) address: String,
    /// Who says so; an address that nobody names is forgotten.
    pub(super) names: Vec<Name>,
    /// The peer answered there.
    pub(super) verified: bool,
    /// How often in a row one of the two was taken for a second node of the same id.
    refusals: u32,
    /// Median round trip when it was measured last.
    pub(super) rtt: Option<Duration>,
    /// Not dialled before.
    pub(super) again: Instant,
    failures: u32,
    /// Its current run of failures was told to the application.
    pub(super) told: bool,
}

/// What one source says of an address.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) source: Source,
    /// Who it says is there.
    pub(super) node: Option<NodeId>,
    pub(super) description: String,
    pub(super) capabilities: Option<Capabilities>,
    /// Of an announcement: when it was heard last, and how good it says that the way is.
    pub(super) heard: Option<Heard>,
}

/// What was announced of an address last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) priority: i64,
}

impl Name {
    pub(super) fn new(mut found: Found, now: Instant) -> (String, Self) {
        if let Some(capabilities) = &mut found.capabilities {
            capabilities.tidy();
        }
        let heard = found.priority.map(|priority| Heard { at: now, priority });
        let name = Self {
            source: found.source,
            node: found.node,
            description: found.description,
            capabilities: found.capabilities,
            heard,
        };
        (found.address, name)
    }
}

impl Address {
    pub(super) fn new(address: String, name: Name, now: Instant) -> Self {
        Self {
            address,
            names: alloc::vec![name],
            verified: false,
            refusals: 0,
            rtt: None,
            again: now,
            failures: 0,
            told: false,
        }
    }

    /// A source says what it says of this address, for the first time or anew.
    pub(super) fn name(&mut self, name: Name) {
        // An announcement takes the place of the last one, whoever it says is there; a list may
        // name two nodes here.
        let same = |known: &&mut Name| {
            known.source == name.source && (known.node == name.node || name.heard.is_some())
        };
        match self.names.iter_mut().find(same) {
            Some(known) => *known = name,
            None => self.names.push(name),
        }
    }

    /// Whether nothing but announcements names it.
    pub(super) fn is_announced(&self) -> bool {
        self.names.iter().all(|name| name.heard.is_some())
    }

    /// Whether only strangers say that the peer is here.
    pub(super) fn is_hearsay(&self) -> bool {
        !self.verified && self.is_announced()
    }

    /// Whether it is a command instead of a host and a port.
    pub(super) fn is_command(&self) -> bool {
        self.address.starts_with(COMMAND)
    }

    /// How good the way is, if announcements say so.
    pub(super) fn priority(&self) -> Option<i64> {
        let heard = self.names.iter().filter_map(|name| name.heard);
        heard.map(|heard| heard.priority).max()
    }

    /// When it was announced last; never if it is not only announced.
    pub(super) fn heard(&self) -> Option<Instant> {
        let heard = self.names.iter().filter_map(|name| name.heard);
        let last = heard.map(|heard| heard.at).max();
        last.filter(|_| self.is_announced())
    }

    /// What the way is called: in a list, or else by the announcement heard last.
    pub(super) fn description(&self) -> &str {
        let best = self.names.iter().max_by_key(|name| {
            let heard = name.heard.map(|heard| heard.at);
            (heard.is_none(), heard)
        });
        best.map_or("", |name| &name.description)
    }

    /// What is smaller is dialled first. An address that failed is behind one that did not.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let worst = Duration::MAX;
        (
            !self.verified,
            self.failures,
            self.is_announced(),
            self.rtt.unwrap_or(worst),
            Reverse(self.priority()),
        )
    }

    /// A dial or a connection came to nothing: doubling waits, spread by a quarter so that a ring
    /// that starts at once does not dial in step.
    pub(super) fn failed(&mut self, now: Instant, timing: &Timing, rng: &mut Rng) {
        let doublings = self.failures.max(self.refusals).min(16);
        self.failures = self.failures.saturating_add(1);
        // A clone stays one until somebody does something about it.
        let longest = match self.refusals > 0 {
            true => timing.measure_most.max(timing.redial_max),
            false if self.is_command() => timing.command_redial_max,
            false => timing.redial_max,
        };
        let wait = timing
            .redial_min
            .saturating_mul(1 << doublings)
            .min(longest);
        let quarter = u64::try_from(wait.as_nanos() / 4).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(rng.below(quarter.saturating_add(1)));
        // Never at once, or a failing dial would keep the node busy for ever.
        self.again = now + wait.saturating_sub(jitter).max(Duration::from_millis(1));
    }

    /// One of the two is refused as a clone, though it may have answered first.
    pub(super) fn refused(&mut self) {
        self.refusals = self.refusals.saturating_add(1);
    }

    /// Neither is refused any more.
    pub(super) fn stayed(&mut self) {
        self.refusals = 0;
    }

    /// The peer answered: the next failure is the first again.
    pub(super) fn succeeded(&mut self) {
        self.verified = true;
        self.failures = 0;
        self.told = false;
    }

    /// Whether the peer was there, and was not at so many attempts since that others get a turn.
    pub(super) fn is_tired(&self) -> bool {
        self.verified && self.failures >= TIRED
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn status(&self, in_use: bool, rtt: Option<Duration>) -> AddressStatus {
        let mut sources: Vec<Source> = self.names.iter().map(|name| name.source.clone()).collect();
        sources.sort_unstable();
        sources.dedup();
        AddressStatus {
            address: self.address.clone(),
            sources,
            description: self.description().into(),
            in_use,
            verified: self.verified,
            rtt: self.rtt.or(rtt),
            failures: self.failures,
        }
    }
}

/// A way to a peer, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) rtt: Duration,
    pub(super) priority: Option<i64>,
}

impl Way {
    /// Whether it is worth a change from the one in use: clearly quicker, or no slower over a
    /// better interface. The two tests are apart enough that chance does not change it back.
    pub(super) fn is_better_than(self, used: Self) -> bool {
        let quicker = used.rtt.saturating_sub(self.rtt);
        if quicker > ALIKE && self.rtt < used.rtt / 10 * 7 {
            return true;
        }
        let slower = self.rtt.saturating_sub(used.rtt);
        let alike = slower <= ALIKE.max(used.rtt / 10);
        match (self.priority, used.priority) {
            (Some(here), Some(there)) => alike && here > there,
            _ => false,
        }
    }
}

/// The middle one of some round trips.
pub(super) fn median(mut trips: Vec<Duration>) -> Option<Duration> {
    trips.sort_unstable();
    trips.get(trips.len() / 2).copied()
}

#[cfg(test)]
mod tests;
