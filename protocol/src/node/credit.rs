//! How much of what is heavy may be under way: the sender's account and the receiver's.

/// The sender's account. It is overdrawn by one step at most: the one that was sent while there was
/// something left.
#[derive(Debug)]
pub(super) struct Credit {
    window: u64,
    /// Bytes sent that were not returned.
    owed: u64,
}

/// The receiver returned more than it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected at most the {owed} bytes that were sent to be granted anew, got {granted}")]
pub(super) struct OverGranted {
    pub(super) granted: u32,
    pub(super) owed: u64,
}

impl Credit {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window: u64::from(window),
            owed: 0,
        }
    }

    /// Whether there is anything left, be it less than the next step takes.
    pub(super) fn may_send(&self) -> bool {
        self.owed < self.window
    }

    /// Pays for a step.
    pub(super) fn spend(&mut self, bytes: usize) {
        debug_assert!(self.may_send(), "nothing was left");
        self.owed = self.owed.saturating_add(bytes as u64);
    }

    /// Takes back what was paid for and never went. A receiver that granted it already, without
    /// having got it, has only itself to blame.
    pub(super) fn undo(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(bytes as u64);
    }

    /// Takes back what the receiver is done with.
    pub(super) fn grant(&mut self, bytes: u32) -> Result<(), OverGranted> {
        let over = OverGranted {
            granted: bytes,
            owed: self.owed,
        };
        self.owed = self.owed.checked_sub(u64::from(bytes)).ok_or(over)?;
        Ok(())
    }
}

/// The receiver's account.
#[derive(Debug)]
pub(super) struct Window {
    window: u64,
    /// Bytes that came and are still in use.
    outstanding: u64,
    /// Bytes that are done with, of which the sender does not know yet.
    waiting: u64,
    /// At least as large as every step among these.
    largest: u64,
}

/// The sender began a step when it had no credit left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected no step with {used} bytes in use of a window of {window}, got one of {bytes} bytes"
)]
pub(super) struct Overdrawn {
    pub(super) bytes: usize,
    pub(super) used: u64,
    pub(super) window: u64,
}

impl Window {
    pub(super) fn new(window: u32) -> Self {
        Self {
            window: u64::from(window),
            outstanding: 0,
            waiting: 0,
            largest: 0,
        }
    }

    /// A step began to come.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Overdrawn> {
        let step = bytes as u64;
        let used = self.outstanding.saturating_add(self.waiting);
        let largest = self.largest.max(step);
        // Steps overtake each other between the sender's account and the wire, so the one that
        // overdrew need not be the last to begin. Without the largest, all have room in any order.
        if used.saturating_add(step) - largest >= self.window {
            return Err(Overdrawn {
                bytes,
                used,
                window: self.window,
            });
        }
        self.outstanding = self.outstanding.saturating_add(step);
        self.largest = largest;
        Ok(())
    }

    /// Bytes that were charged are done with. Says how many to tell the sender of: lumps, so that
    /// the return is no traffic of its own.
    pub(super) fn release(&mut self, bytes: usize) -> Option<u32> {
        debug_assert!(
            bytes as u64 <= self.outstanding,
            "more is released than came"
        );
        let done = self.outstanding.min(bytes as u64);
        self.outstanding -= done;
        self.waiting = self.waiting.saturating_add(done);
        let told = self.lump();
        self.largest = self.largest.min(self.outstanding + self.waiting);
        told
    }

    /// What is to be told, and counts as told.
    fn lump(&mut self) -> Option<u32> {
        // A sender without credit whose steps are all done with has a whole window waiting here,
        // so that either lump gets it going again.
        let lump = if self.outstanding > 0 {
            self.window / 4
        } else {
            self.window / 16
        };
        if self.waiting < lump.max(1) {
            return None;
        }
        let told = u32::try_from(self.waiting).unwrap_or(u32::MAX);
        self.waiting -= u64::from(told);
        Some(told)
    }

    /// Bytes that came and are still in use.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }
}

#[cfg(test)]
mod tests;
