//! What may go wrong in a run. Each seed chooses a subset and how often each strikes, so that some
//! runs are all crashes and others all slow links: uniform noise would hide what only one kind finds.

use exo_protocol::rng::Rng;
use std::time::Duration;

/// How often each kind of fault strikes in a run, in times per thousand draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A host dies without a word, and comes back later.
    pub crash: u64,
    /// A connection is reset, with whatever was under way.
    pub reset: u64,
    /// A connection delivers nothing for a while.
    pub stall: u64,
    /// One end believes in a connection that the other has forgotten.
    pub half_open: u64,
    /// A host's engine takes its time.
    pub slow_engine: u64,
    /// A host's engine fails a step.
    pub bad_engine: u64,
    /// A host's clock jumps forward, as when a laptop slept.
    pub sleep: u64,
    /// A client goes away.
    pub cancel: u64,
}

/// How often each kind struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// See [`Faults::crash`].
    pub crash: u64,
    /// See [`Faults::reset`].
    pub reset: u64,
    /// See [`Faults::stall`].
    pub stall: u64,
    /// See [`Faults::half_open`].
    pub half_open: u64,
    /// See [`Faults::slow_engine`].
    pub slow_engine: u64,
    /// See [`Faults::bad_engine`].
    pub bad_engine: u64,
    /// See [`Faults::sleep`].
    pub sleep: u64,
    /// See [`Faults::cancel`].
    pub cancel: u64,
}

impl Faults {
    /// A subset with weights.
    #[must_use]
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut weight = || if rng.below(3) == 0 { rng.below(120) } else { 0 };
        Self {
            crash: weight(),
            reset: weight(),
            stall: weight(),
            half_open: weight(),
            slow_engine: weight(),
            bad_engine: weight(),
            sleep: weight(),
            cancel: weight(),
        }
    }
}

/// Between two draws of the faults.
pub(crate) const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How long the noisy phase lasts.
pub(crate) const NOISE: Duration = Duration::from_secs(40);
