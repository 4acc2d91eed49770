//! How likely tokens were, by arithmetic that all engines share: `core` has no logarithm, and the same
//! arithmetic everywhere gives the same numbers everywhere.

use alloc::vec::Vec;

/// How likely the model found a token that was chosen, and the likeliest ones in its place: natural
/// logarithms of their probabilities, before anything changed the logits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// The likeliest tokens, the first one first, as many as were asked for.
    pub likeliest: Vec<(u32, f32)>,
}

impl Scores {
    /// As many of the likeliest tokens as are told.
    pub const MOST: usize = 20;

    /// Of `logits`, one for each token id; `most` of the likeliest, and never more than
    /// [`Scores::MOST`]. What is no number has no probability.
    #[must_use]
    pub fn of(logits: &[f32], chosen: u32, most: u8) -> Self {
        let most = usize::from(most).min(Self::MOST);
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let relative = |logit: f32| f64::from(logit) - f64::from(best);
        let sum: f64 = logits
            .iter()
            .map(|&logit| exponential(relative(logit)))
            .sum();
        // The best one alone makes it one at least.
        let whole = if sum >= 1.0 {
            -logarithm(1.0 / sum)
        } else {
            0.0
        };
        let score = |logit: f32| {
            let score = (relative(logit) - whole) as f32;
            if score.is_nan() {
                f32::NEG_INFINITY
            } else {
                score
            }
        };
        let mut likeliest: Vec<(u32, f32)> = Vec::with_capacity(most + 1);
        for (token, &logit) in (0..).zip(logits) {
            let last = likeliest
                .last()
                .map_or(f32::NEG_INFINITY, |&(_, last)| last);
            if logit.is_nan() || likeliest.len() >= most && logit <= last {
                continue;
            }
            let at = likeliest.partition_point(|&(_, other)| other >= logit);
            likeliest.insert(at, (token, logit));
            likeliest.truncate(most);
        }
        for (_, logit) in &mut likeliest {
            *logit = score(*logit);
        }
        let chosen = usize::try_from(chosen).ok().and_then(|at| logits.get(at));
        Self {
            chosen: chosen.map_or(f32::NEG_INFINITY, |&logit| score(logit)),
            likeliest,
        }
    }
}

/// The natural logarithm of a number in `0..=1`.
pub(super) fn logarithm(x: f64) -> f64 {
    if x <= f64::MIN_POSITIVE {
        return f64::NEG_INFINITY;
    }
    // x = m * 2^e with m in 0.75..1.5, and ln m = 2 artanh((m - 1) / (m + 1)).
    let (mut m, mut e) = (x, 0_i32);
    while m < 0.75 {
        m *= 2.0;
        e -= 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    let (square, mut power, mut sum) = (z * z, z, 0.0);
    for odd in (1..24).step_by(2) {
        sum += power / f64::from(odd);
        power *= square;
    }
    2.0 * sum + f64::from(e) * core::f64::consts::LN_2
}

/// e to the power of a number that is not above zero; zero for what is no number.
fn exponential(x: f64) -> f64 {
    if x.is_nan() || x < -700.0 {
        return 0.0;
    }
    // x = n ln 2 + r with r around zero, and e^x = 2^n e^r.
    let n = (x * core::f64::consts::LOG2_E - 0.5) as i32;
    let r = x - f64::from(n) * core::f64::consts::LN_2;
    let mut sum = 1.0;
    for term in (1..14).rev() {
        sum = 1.0 + sum * r / f64::from(term);
    }
    let exponent = u64::try_from(1023 + n).unwrap_or(0);
    sum * f64::from_bits(exponent << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12 * b.abs().max(1e-3)
    }

    #[test]
    fn the_logarithm_and_the_exponential_are_what_they_are_called() {
        for (x, expected) in [
            (1.0, 0.0),
            (0.5, -core::f64::consts::LN_2),
            (0.1, -core::f64::consts::LN_10),
            (0.8, -0.223_143_551_314_209_7),
            (1e-6, -13.815_510_557_964_274),
        ] {
            assert!(close(logarithm(x), expected), "{x}");
            assert!(close(exponential(expected), x), "{expected}");
        }
        assert_eq!(logarithm(0.0), f64::NEG_INFINITY);
        assert_eq!(exponential(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        // e^0 + e^-1 + e^-2 = 1.503214724408055, and its logarithm is 0.4076059644443804.
        let logits = [3.0, 5.0, f32::NAN, 4.0, f32::NEG_INFINITY];
        let scores = Scores::of(&logits, 3, 2);
        let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
        assert!(near(scores.chosen, -1.407_606), "{scores:?}");
        let [(first, one), (second, two)] = scores.likeliest[..] else {
            panic!("{scores:?}")
        };
        assert_eq!((first, second), (1, 3));
        assert!(near(one, -0.407_606) && near(two, -1.407_606), "{scores:?}");
        assert_eq!(Scores::of(&logits, 2, 0).chosen, f32::NEG_INFINITY);
        assert_eq!(Scores::of(&logits, 99, 0).chosen, f32::NEG_INFINITY);
        assert_eq!(
            Scores::of(&[], 0, 3),
            Scores {
                chosen: f32::NEG_INFINITY,
                likeliest: vec![]
            }
        );
        let equal = Scores::of(&[1.0; 30], 0, u8::MAX).likeliest;
        assert_eq!(equal.len(), Scores::MOST);
        assert!(
            equal.iter().zip(0..).all(|(&(token, _), at)| token == at),
            "{equal:?}"
        );
    }
}
