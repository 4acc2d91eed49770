//! The client of a request is told every token of its answer once and in order, the answer that a
//! ring without faults gives, and nothing after its end.
//!
//! A token is a pure function of all tokens before it and of the sampling, so the answer is known
//! here without any ring.
//!
//! Broken on purpose: a token is told twice. Seed 0 with 3 hosts shows it.

use super::layers_in_order::{chain, scramble};
use super::must;
use exo_protocol::FinishReason;
use exo_protocol::engine::Sampling;
use std::sync::Arc;

/// Ends an answer.
pub(crate) const END: u32 = 9;

/// The first token of every prompt is this, and the mean length of the answer.
pub(crate) const FIRST: u32 = 100;

/// The token after a position: `hash` is that of all tokens up to it, `first` the first of them.
pub(crate) fn sample(hash: u64, first: u32, sampling: &Sampling) -> u32 {
    if let Some(token) = forced(sampling) {
        return token;
    }
    let key = if sampling.temperature > 0.0 {
        let shape = u64::from(sampling.temperature.to_bits()) << 32
            ^ u64::from(sampling.top_p.to_bits())
            ^ u64::from(sampling.top_k) << 8;
        scramble(sampling.seed ^ shape)
    } else {
        0
    };
    // A penalty hangs on every token of the answer.
    let key = match &sampling.shaping {
        Some(shaping) if shaping.looks_back() => (0..)
            .zip(&shaping.answer)
            .fold(!key, |key, (at, token)| chain(key, *token, at)),
        _ => key,
    };
    let drawn = scramble(hash ^ key);
    let mean = u64::from(first.saturating_sub(FIRST).max(1));
    if drawn.is_multiple_of(mean) {
        END
    } else {
        1000 + u32::try_from((drawn >> 32) % 50_000).unwrap_or(0)
    }
}

/// The token that has to come next, whatever the model says.
fn forced(sampling: &Sampling) -> Option<u32> {
    sampling.forced(sampling.shaping.as_ref()?.answer.len())
}

/// Tokens that may be missing unnoticed in a ring of the base protocol.
const MOST_SKIPPED: u32 = 400;

/// What a client has been told of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    hash: u64,
    position: u32,
    /// Of the prompt.
    pub(crate) first: u32,
    sampling: Sampling,
    /// Whether a stage may not know the sampling: the base protocol has no place for it.
    pub(crate) unseeded: bool,
    most: u32,
    told: u32,
    /// Tokens that were never told.
    skipped: u32,
    ended: bool,
}

impl Answer {
    /// Whether its request wants to know how likely tokens were.
    pub(crate) fn wants_scores(&self) -> bool {
        self.sampling.scores.is_some()
    }

    pub(crate) fn new(prompt: &[u32], sampling: Sampling, most: u32) -> Self {
        let mut answer = Self {
            hash: 0,
            position: 0,
            first: prompt.first().copied().unwrap_or(0),
            sampling,
            unseeded: false,
            most,
            told: 0,
            skipped: 0,
            ended: false,
        };
        for token in prompt {
            answer.enter(*token);
        }
        answer
    }

    fn enter(&mut self, token: u32) {
        self.hash = chain(self.hash, token, self.position);
        self.position += 1;
    }

    fn follow(&mut self, token: u32) {
        self.enter(token);
        if let Some(shaping) = &mut self.sampling.shaping {
            Arc::make_mut(shaping).answer.push(token);
        }
    }

    /// Results of the base protocol have no number: when the connection between a last stage and an
    /// origin that is no stage was gone for a while, nobody can tell that some are missing. Then
    /// the answer goes on further on.
    fn skips_to(&mut self, token: u32) -> bool {
        for sampling in [self.sampling.clone(), Sampling::default()] {
            let mut ahead = self.clone();
            while self.unseeded && ahead.skipped < MOST_SKIPPED {
                let missing = sample(ahead.hash, ahead.first, &sampling);
                ahead.follow(missing);
                ahead.skipped += 1;
                if ahead.expects(token) {
                    *self = ahead;
                    return true;
                }
            }
        }
        false
    }

    fn expects(&self, token: u32) -> bool {
        token == sample(self.hash, self.first, &self.sampling)
            || self.unseeded && token == sample(self.hash, self.first, &Sampling::default())
    }

    /// A token was told.
    pub(crate) fn token(&mut self, index: u32, token: u32) -> Result<(), String> {
        must(!self.ended, || format!("token {token} after the end"))?;
        must(index == self.told, || {
            format!("token {index} was told after {} tokens", self.told)
        })?;
        must(self.told < self.most, || {
            format!("token {index} of at most {}", self.most)
        })?;
        must(self.expects(token) || self.skips_to(token), || {
            let expected = sample(self.hash, self.first, &self.sampling);
            format!("token {index} is {token}, a ring without faults gives {expected}")
        })?;
        self.told += 1;
        self.follow(token);
        Ok(())
    }

    /// The answer is complete.
    pub(crate) fn finished(&self, reason: FinishReason, tokens: u32) -> Result<(), String> {
        let (complete, count) = match reason {
            // What is forced ends nothing.
            FinishReason::Stop => {
                let chosen = forced(&self.sampling).is_none();
                (chosen && self.expects(END), self.told + 1)
            }
            FinishReason::Length => (self.told == self.most, self.told),
        };
        // The stage that ended it counted those that were skipped.
        let complete = complete || self.skipped > 0 || self.clone().skips_to(END);
        must(complete, || {
            format!(
                "{reason:?} after {} of at most {} tokens",
                self.told, self.most
            )
        })?;
        must(tokens == count, || {
            format!("{tokens} tokens are counted, {count} were generated")
        })
    }

    /// The request ended, in whatever way.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        must(!self.ended, || String::from("a second end was told"))?;
        self.ended = true;
        Ok(())
    }
}
