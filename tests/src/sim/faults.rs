//! What may go wrong in a run. Each seed chooses a subset and how often each strikes, so that some
//! runs are all crashes and others all slow links: uniform noise would hide what only one kind finds.

use exo_protocol::rng::Rng;
use std::fmt;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A host dies without a word, and comes back later.
    Crash,
    /// A connection is reset, with whatever was under way.
    Reset,
    /// A connection delivers nothing for a while.
    Stall,
    /// One end believes in a connection that the other has forgotten.
    HalfOpen,
    /// An engine takes seconds over one command.
    SlowEngine,
    /// An engine fails one step.
    BadStep,
    /// An engine fails everything for a while.
    BadEngine,
    /// An engine answers nothing for longer than anybody waits.
    HungEngine,
    /// A host's clock jumps forward, as when a laptop slept.
    Sleep,
    /// A host's clock is too fast or too slow, all the time.
    Drift,
    /// Two groups of hosts do not reach each other for a while.
    Partition,
    /// Some hosts reach others that do not reach them.
    OneWay,
    /// A link has the bandwidth of a bad telephone line, all the time.
    SlowLink,
    /// A second host runs under the id of another for a while.
    Clone,
    /// A host knows the base protocol only, all the time.
    BaseOnly,
    /// A client goes away.
    Cancel,
    /// A host leaves in order, and comes back later.
    Leave,
    /// A discovery file is wrong for a while.
    Discovery,
    /// Somebody connects, again and again, and says nothing.
    Strangers,
    /// A host has another model under the same name, all the time.
    OtherModel,
    /// One of several addresses of a host does not work for a while.
    DeadAddress,
    /// A host gets another address in the place of one.
    MovedAddress,
    /// One of several addresses of a host is slow for a while.
    SlowAddress,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::Crash,
        Self::Reset,
        Self::Stall,
        Self::HalfOpen,
        Self::SlowEngine,
        Self::BadStep,
        Self::BadEngine,
        Self::HungEngine,
        Self::Sleep,
        Self::Drift,
        Self::Partition,
        Self::OneWay,
        Self::SlowLink,
        Self::Clone,
        Self::BaseOnly,
        Self::Cancel,
        Self::Leave,
        Self::Discovery,
        Self::Strangers,
        Self::OtherModel,
        Self::DeadAddress,
        Self::MovedAddress,
        Self::SlowAddress,
    ];

    /// What strikes addresses, where hosts have several.
    pub(crate) const ADDRESSES: [Self; 3] =
        [Self::DeadAddress, Self::MovedAddress, Self::SlowAddress];

    /// What breaks connections or keeps them from delivering at once.
    pub(crate) const CUTS: [Self; 14] = [
        Self::Crash,
        Self::Reset,
        Self::Stall,
        Self::HalfOpen,
        Self::Sleep,
        Self::Partition,
        Self::OneWay,
        Self::SlowLink,
        Self::Clone,
        Self::Discovery,
        Self::Strangers,
        Self::DeadAddress,
        Self::MovedAddress,
        Self::SlowAddress,
    ];

    /// What keeps a host or a link from doing anything for longer than it takes to notice.
    pub(crate) const DELAYS: [Self; 10] = [
        Self::Stall,
        Self::SlowEngine,
        Self::Sleep,
        Self::Partition,
        Self::OneWay,
        Self::SlowLink,
        Self::Clone,
        Self::DeadAddress,
        Self::MovedAddress,
        Self::SlowAddress,
    ];

    /// The most times per thousand draws. What lasts, or takes a host away, comes less often.
    fn most(self) -> u64 {
        match self {
            Self::Reset | Self::Stall | Self::HalfOpen | Self::Cancel => 100,
            Self::SlowEngine | Self::BadStep => 20,
            Self::Crash | Self::Discovery => 40,
            Self::Partition | Self::OneWay | Self::Sleep | Self::Leave => 25,
            Self::DeadAddress | Self::MovedAddress | Self::SlowAddress => 25,
            Self::BadEngine | Self::HungEngine | Self::Clone | Self::Strangers => 15,
            // Drawn once for each host or link.
            Self::Drift | Self::SlowLink => 1000,
            Self::BaseOnly | Self::OtherModel => 400,
        }
    }
}

/// How often each kind strikes in a run, in times per thousand draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults([u64; Fault::ALL.len()]);

impl Faults {
    /// A subset with weights; now and then the empty one.
    #[must_use]
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut faults = Self::default();
        let none = rng.below(16) == 0;
        let addresses = |kind: &Fault| Fault::ADDRESSES.contains(kind);
        for kind in Fault::ALL.into_iter().filter(|kind| !addresses(kind)) {
            let chosen = rng.below(4) == 0 && !none;
            let weight = 1 + rng.below(kind.most());
            if chosen {
                faults.0[kind as usize] = weight;
            }
        }
        // Who speaks the base protocol alone does not say who it is: with a wrong address, a ring
        // is asked that nobody meant, and nobody can know.
        if faults.weight(Fault::BaseOnly) > 0 {
            faults.0[Fault::Discovery as usize] = 0;
        }
        faults
    }

    /// Those that strike addresses too; where nothing strikes, now and then.
    pub(super) fn of_addresses(&mut self, rng: &mut Rng) {
        let none = self.is_none() && rng.below(2) == 0;
        for kind in Fault::ADDRESSES {
            let chosen = rng.below(2) == 0 && !none;
            let weight = 1 + rng.below(kind.most());
            if chosen {
                self.0[kind as usize] = weight;
            }
        }
    }

    /// These, hardly ever, of themselves.
    pub(super) fn of(kinds: &[Fault]) -> Self {
        let mut faults = Self::default();
        kinds.iter().for_each(|kind| faults.0[*kind as usize] = 1);
        faults
    }

    /// Times per thousand draws.
    #[must_use]
    pub fn weight(&self, kind: Fault) -> u64 {
        self.0[kind as usize]
    }

    /// Whether nothing strikes at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How often each kind struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// One more.
    pub fn count(&mut self, kind: Fault) {
        self.0[kind as usize] += 1;
    }

    /// How often this kind struck.
    #[must_use]
    pub fn of(&self, kind: Fault) -> u64 {
        self.0[kind as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, one) in self.0.iter_mut().zip(other.0) {
            *sum += one;
        }
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in Fault::ALL.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{kind:?} {}", self.of(kind))?;
        }
        Ok(())
    }
}

/// Between two draws of the faults.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How long the noisy phase lasts.
pub(crate) const NOISE: Duration = Duration::from_secs(30);
