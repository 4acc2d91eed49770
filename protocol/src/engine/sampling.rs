//! How a token is chosen: by rules that all engines share.

use super::scores::logarithm;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// How the last stage chooses a token. The same fields with the same logits choose the same token
/// on every engine: randomness comes only from `seed` and the token's position.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Zero is greedy; else logits are divided by it.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; one keeps all.
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; zero keeps all.
    pub top_k: u32,
    /// Seeds the choice at every position.
    pub seed: u64,
    /// What changes the logits before all that; `None` is nothing.
    pub shaping: Option<Arc<Shaping>>,
    /// How likely the token was is told with it, and the same of this many of the likeliest ones
    /// ([`Scores`](super::Scores)); `None` tells nothing.
    pub scores: Option<u8>,
}

impl Sampling {
    /// The number in `0..1` that chooses at `position`: of `seed` and the position alone
    /// (SplitMix64), so that every engine draws the same one.
    #[must_use]
    pub fn uniform(&self, position: u32) -> f64 {
        let mut bits = self.seed;
        for add in [u64::from(position), 0] {
            bits = bits.wrapping_add(add).wrapping_add(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^= bits >> 31;
        }
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Changes `logits` (one for each token id) as [`Shaping`] says. Engines do this before they
    /// choose. `mask` makes those of tokens negative infinity that the
    /// [grammar](Shaping::grammar) does not allow next; it is called if there is one.
    ///
    /// # Errors
    /// Those of `mask`.
    pub fn shape<E>(
        &self,
        logits: &mut [f32],
        mask: impl FnOnce(&Shaping, &str, &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(shaping) = &self.shaping else {
            return Ok(());
        };
        if shaping.force(logits) {
            return Ok(());
        }
        shaping.penalise(logits);
        if let Some(grammar) = &shaping.grammar {
            mask(shaping, grammar, logits)?;
        }
        shaping.drop_unlikely(logits, self.temperature);
        Ok(())
    }

    /// The token that the answer has at `index` whatever the logits are, if it is to have one.
    #[must_use]
    pub fn forced(&self, index: usize) -> Option<u32> {
        self.shaping.as_ref()?.forced.get(index).copied()
    }

    /// Whether an earlier version, or a reference node, would choose otherwise or tell less.
    #[must_use]
    pub fn is_demanding(&self) -> bool {
        let shapes = self.shaping.as_ref();
        self.scores.is_some() || shapes.is_some_and(|shaping| !shaping.is_nothing())
    }

    /// Whether the choice depends on the tokens of the answer so far.
    #[must_use]
    pub fn looks_back(&self) -> bool {
        self.shaping
            .as_ref()
            .is_some_and(|shaping| shaping.looks_back())
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            shaping: None,
            scores: None,
        }
    }
}

/// What changes logits before a token is chosen, in this order: the repetition penalty, the other
/// two, the biases, the grammar, and then `min_p` by what came of it. Of a token that is forced
/// nothing else counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Shaping {
    /// Drops tokens that are less likely than the likeliest times this; zero keeps all. Without
    /// effect when the choice is greedy.
    pub min_p: f32,
    /// Logits of tokens of the answer so far are divided by it if they are positive, and multiplied
    /// if not; one changes nothing.
    pub repetition: f32,
    /// Taken off a token's logit for each time that the answer has it.
    pub frequency: f32,
    /// Taken off a token's logit once if the answer has it.
    pub presence: f32,
    /// Added to the logits of these tokens.
    pub bias: Vec<(u32, f32)>,
    /// What the answer's text has to be, in the form of `docs/PROTOCOL.md` §15. Engines compile it
    /// for their tokenizer, or fail.
    pub grammar: Option<Arc<str>>,
    /// What the answer begins with, whatever the logits are: so a text that is there already gets
    /// its scores. End tokens among them end nothing, and penalties do not count them. Not together
    /// with a grammar.
    pub forced: Vec<u32>,
    /// The tokens of the answer so far, those that were forced included, where that matters; the
    /// node fills it in.
    pub answer: Vec<u32>,
}

impl Shaping {
    /// As many tokens as may have a bias.
    pub const BIASES: usize = 1024;
    /// As many bytes as a grammar may have.
    pub const GRAMMAR: usize = 256 << 10;
    /// As many tokens as may be forced.
    pub const FORCED: usize = 4096;

    /// Whether the tokens of the answer matter.
    #[must_use]
    pub fn looks_back(&self) -> bool {
        self.penalises() || self.grammar.is_some() || !self.forced.is_empty()
    }

    fn penalises(&self) -> bool {
        self.repetition != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }

    /// Whether it changes nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.looks_back() && self.min_p <= 0.0 && self.bias.is_empty()
    }

    /// Leaves only the token that is forced, if one is. One that the model does not have is none.
    fn force(&self, logits: &mut [f32]) -> bool {
        let token = self.forced.get(self.answer.len());
        let at = token.and_then(|&token| usize::try_from(token).ok());
        let Some(at) = at.filter(|&at| at < logits.len()) else {
            return false;
        };
        for (token, logit) in logits.iter_mut().enumerate() {
            *logit = if token == at { 0.0 } else { f32::NEG_INFINITY };
        }
        true
    }

    fn penalise(&self, logits: &mut [f32]) {
        let logit = |token: u32| usize::try_from(token).ok();
        if self.penalises() {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for token in self.answer.iter().skip(self.forced.len()) {
                *counts.entry(*token).or_default() += 1;
            }
            for (token, count) in counts {
                let Some(logit) = logit(token).and_then(|at| logits.get_mut(at)) else {
                    continue;
                };
                *logit = if *logit > 0.0 {
                    *logit / self.repetition
                } else {
                    *logit * self.repetition
                };
                *logit -= self.frequency * count as f32 + self.presence;
            }
        }
        for (token, bias) in &self.bias {
            if let Some(logit) = logit(*token).and_then(|at| logits.get_mut(at)) {
                *logit += bias;
            }
        }
    }

    fn drop_unlikely(&self, logits: &mut [f32], temperature: f32) {
        if self.min_p > 0.0 && temperature > 0.0 {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let least = best + temperature * logarithm(self.min_p.min(1.0).into()) as f32;
            for logit in logits.iter_mut().filter(|logit| **logit < least) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

impl Default for Shaping {
    fn default() -> Self {
        Self {
            min_p: 0.0,
            repetition: 1.0,
            frequency: 0.0,
            presence: 0.0,
            bias: Vec::new(),
            grammar: None,
            forced: Vec::new(),
            answer: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn shaped(shaping: Shaping, temperature: f32, logits: &[f32]) -> Vec<f32> {
        let sampling = Sampling {
            temperature,
            shaping: Some(Arc::new(shaping)),
            ..Sampling::default()
        };
        let mut logits = logits.to_vec();
        let masked = sampling.shape(&mut logits, |_, _, logits| {
            logits[0] = f32::NEG_INFINITY;
            Ok::<_, ()>(())
        });
        assert_eq!(masked, Ok(()));
        logits
    }

    #[test]
    fn what_a_grammar_forbids_no_bias_brings_back_and_min_p_judges_the_rest() {
        let shaping = Shaping {
            grammar: Some("{}".into()),
            bias: vec![(0, 100.0)],
            min_p: 0.5,
            ..Shaping::default()
        };
        assert!(shaping.looks_back() && !shaping.is_nothing());
        let gone = f32::NEG_INFINITY;
        assert_eq!(
            shaped(shaping, 1.0, &[9.0, 2.0, 1.9, 1.0]),
            [gone, 2.0, 1.9, gone]
        );
    }

    #[test]
    fn penalties_fall_on_what_was_said() {
        let shaping = Shaping {
            repetition: 2.0,
            frequency: 0.5,
            presence: 0.25,
            answer: vec![0, 1, 1, 9],
            ..Shaping::default()
        };
        let logits = shaped(shaping, 0.0, &[4.0, -1.0, 3.0]);
        assert_eq!(logits, [2.0 - 0.75, -2.0 - 1.25, 3.0]);
    }

    #[test]
    fn what_is_forced_comes_first_and_is_not_counted() {
        let forced = |answer: &[u32]| Shaping {
            presence: 1.0,
            bias: vec![(0, 100.0)],
            min_p: 0.5,
            forced: vec![2, 9, 1],
            answer: answer.to_vec(),
            ..Shaping::default()
        };
        let gone = f32::NEG_INFINITY;
        let logits = [1.0, f32::NAN, -5.0];
        assert_eq!(shaped(forced(&[]), 1.0, &logits), [gone, gone, 0.0]);
        assert_eq!(shaped(forced(&[2, 9]), 0.0, &logits), [gone, 0.0, gone]);
        // A token that there is not is not forced.
        assert_eq!(shaped(forced(&[2]), 0.0, &[1.0, 1.0, 1.0])[0], 101.0);
        let free = Shaping {
            bias: vec![],
            ..forced(&[2, 9, 1, 1])
        };
        assert_eq!(shaped(free, 0.0, &[1.0, 1.0, 1.0]), [1.0, 0.0, 1.0]);
        let sampling = Sampling {
            shaping: Some(Arc::new(forced(&[]))),
            ..Sampling::default()
        };
        assert!(sampling.looks_back() && sampling.is_demanding());
        assert_eq!((sampling.forced(2), sampling.forced(3)), (Some(1), None));
    }

    #[test]
    fn biases_are_added_and_unknown_tokens_do_no_harm() {
        let shaping = Shaping {
            bias: vec![(1, 100.0), (2, -100.0), (u32::MAX, 1.0)],
            ..Shaping::default()
        };
        assert_eq!(shaped(shaping, 0.0, &[1.0, 1.0, 1.0]), [1.0, 101.0, -99.0]);
    }

    #[test]
    fn min_p_drops_what_is_much_less_likely_than_the_best() {
        let shaping = Shaping {
            min_p: 0.5,
            ..Shaping::default()
        };
        // ln 0.5 = -0.693…
        let logits = [3.0, 2.4, 2.2];
        let gone = f32::NEG_INFINITY;
        assert_eq!(shaped(shaping.clone(), 1.0, &logits), [3.0, 2.4, gone]);
        assert_eq!(shaped(shaping.clone(), 0.5, &logits), [3.0, gone, gone]);
        assert_eq!(shaped(shaping, 0.0, &logits), logits, "greedy needs none");
    }

    #[test]
    fn what_does_nothing_is_known() {
        assert!(Shaping::default().is_nothing());
        let bias = vec![(1, 1.0)];
        assert!(
            !Shaping {
                bias,
                ..Shaping::default()
            }
            .is_nothing()
        );
        assert!(!Sampling::default().looks_back());
    }
}
