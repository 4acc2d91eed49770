//! The one clock of a node.

use exo_protocol::Instant;
use std::time::Duration;

/// Monotonic time since the runtime started, as the node counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::after_origin(self.origin.elapsed())
    }

    /// How long until `at`; zero when it is past.
    pub(crate) fn until(&self, at: Instant) -> Duration {
        at.saturating_since(self.now())
    }
}
