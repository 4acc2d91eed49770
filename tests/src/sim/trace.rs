//! What happens, as a hash to compare runs by, and as text for people.

use exo_protocol::{Input, Instant, Output};

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    prints: bool,
}

/// The most of a line that says anything.
const WIDTH: usize = 400;

impl Trace {
    pub(crate) fn new(seed: u64, prints: bool) -> Self {
        let hash = seed ^ 0xcbf2_9ce4_8422_2325;
        Self { hash, prints }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.hash = (self.hash ^ number)
            .wrapping_mul(0x0100_0000_01b3)
            .rotate_left(29);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.number(u64::from(*byte));
        }
    }

    pub(crate) fn say(&self, now: Instant, what: impl FnOnce() -> String) {
        if !self.prints {
            return;
        }
        let text = what();
        let mut end = text.len().min(WIDTH);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        println!(
            "{now} {}{}",
            &text[..end],
            if end < text.len() { "…" } else { "" }
        );
    }

    /// What a host is told.
    pub(crate) fn input(&mut self, now: Instant, host: usize, input: &Input) {
        self.number(now.as_nanos());
        // Bytes that came were hashed when they came.
        let kind = match input {
            Input::Opened { .. } => 1,
            Input::DialFailed { .. } => 2,
            Input::Received { .. } => 3,
            Input::Progress { .. } => 4,
            Input::Sent { .. } => 5,
            Input::Lost { .. } => 6,
            Input::DiscoveryFile(_) => 7,
            Input::Engine(_) => 8,
            Input::Command(_) => 9,
            Input::Interfaces(_) => 10,
            Input::Datagram { .. } => 11,
            Input::Answered { .. } => 12,
            Input::Asked { .. } => 13,
        };
        self.number(host as u64 * 16 + kind);
        if !matches!(input, Input::Sent { .. } | Input::Progress { .. }) {
            self.say(now, || format!("n{host} <- {input:?}"));
        }
    }

    /// What a host wants.
    pub(crate) fn output(&mut self, now: Instant, host: usize, output: &Output) {
        self.say(now, || format!("n{host} -> {output:?}"));
    }
}
