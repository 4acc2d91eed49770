//! The one clock of a node.

use exo_protocol::Instant;
use std::time::Duration;

/// Monotonic time since the runtime started, as the node counts it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// It begins to run.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::after_origin(self.origin.elapsed())
    }

    /// How long until `at`; zero when it is past.
    #[must_use]
    pub fn until(&self, at: Instant) -> Duration {
        at.saturating_since(self.now())
    }
}
