//! What happens when: a queue whose order is time, then the order of scheduling.

use super::ways::Place;
use exo_protocol::{DialId, Instant};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names one end of one connection; the number that its host's node knows.
pub(crate) type End = usize;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Happening {
    /// A host's deadline may be due.
    Wake(usize, u64),
    /// The bytes that left this end first arrive.
    Arrive(End),
    /// A pipe that stalled goes on.
    Resume(End),
    /// An end hears that the other side knows nothing of its connection.
    Reset(End),
    /// A dial (of a host, in one of its lives, to an address) has gone there and back.
    Dialed(usize, u64, DialId, Place),
    /// A dial is given up by the system.
    DialTimedOut(usize, u64, DialId),
    /// A host's engine is half-way through a load.
    Progress(usize, u64),
    /// The engine of a host is done with a command.
    Computed(usize, u64),
    /// Faults and clients strike.
    Draw,
    /// A host that is down comes back.
    Start(usize, u64),
    /// A host that leaves goes down.
    Leave(usize, u64),
    /// The oldest partition ends.
    Heal,
    /// A discovery file is right again.
    Rewrite(usize),
    /// An address works again.
    Revive(Place),
    /// An address is quick again.
    Hasten(Place),
    /// A host is told, in this life, where the others are.
    Learn(usize, u64),
    /// A datagram arrives.
    Heard(u64),
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, happening)));
    }

    /// The next thing, if it happens by `end`.
    pub(crate) fn pop_until(&mut self, end: Instant) -> Option<(Instant, Happening)> {
        if self.heap.peek()?.0.0 > end {
            return None;
        }
        let Reverse((at, _, happening)) = self.heap.pop()?;
        Some((at, happening))
    }
}
