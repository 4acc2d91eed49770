//! How a token is chosen: by rules that all engines share.

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
    /// choose.
    pub fn shape(&self, logits: &mut [f32]) {
        if let Some(shaping) = &self.shaping {
            shaping.apply(logits, self.temperature);
        }
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
        }
    }
}

/// What changes logits before a token is chosen, in this order: the repetition penalty, the other
/// two, the biases, and then `min_p` by what came of it.
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
    /// The tokens of the answer so far, where that matters; the node fills it in.
    pub answer: Vec<u32>,
}

impl Shaping {
    /// As many tokens as may have a bias.
    pub const BIASES: usize = 1024;

    /// Whether the tokens of the answer matter.
    #[must_use]
    pub fn looks_back(&self) -> bool {
        self.repetition != 1.0 || self.frequency != 0.0 || self.presence != 0.0
    }

    /// Whether it changes nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.looks_back() && self.min_p <= 0.0 && self.bias.is_empty()
    }

    fn apply(&self, logits: &mut [f32], temperature: f32) {
        let logit = |token: u32| usize::try_from(token).ok();
        if self.looks_back() {
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for token in &self.answer {
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
        if self.min_p > 0.0 && temperature > 0.0 {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let least = best + temperature * logarithm(self.min_p.min(1.0));
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
            answer: Vec::new(),
        }
    }
}

/// The natural logarithm of a number in `0..=1`, good to a millionth: `core` has none, and the same
/// arithmetic everywhere gives the same answers everywhere.
fn logarithm(x: f32) -> f32 {
    if x <= f32::MIN_POSITIVE {
        return f32::NEG_INFINITY;
    }
    // x = m * 2^e with m in 0.75..1.5, and ln m = 2 artanh((m - 1) / (m + 1)).
    let (mut m, mut e) = (f64::from(x), 0_i32);
    while m < 0.75 {
        m *= 2.0;
        e -= 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    let (square, mut power, mut sum) = (z * z, z, 0.0);
    for odd in (1..16).step_by(2) {
        sum += power / f64::from(odd);
        power *= square;
    }
    (2.0 * sum + f64::from(e) * core::f64::consts::LN_2) as f32
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
        sampling.shape(&mut logits);
        logits
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
    fn the_logarithm_is_one() {
        for (x, expected) in [
            (1.0, 0.0),
            (0.5, -core::f32::consts::LN_2),
            (0.1, -core::f32::consts::LN_10),
            (0.8, -0.223_143_55),
            (1e-6, -13.815_511),
        ] {
            assert!((logarithm(x) - expected).abs() < 1e-5, "{x}");
        }
        assert_eq!(logarithm(0.0), f32::NEG_INFINITY);
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
