//! Rotary position embedding, as numbers that an engine only has to multiply with.

use std::f64::consts::TAU;

/// How positions turn the queries and keys of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f32,
    /// How many elements of a head turn, from its first one on; even, and at most its width.
    pub dims: usize,
    /// How they pair up.
    pub layout: RopeLayout,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// How the rows of Q and K are ordered, which decides what rotates with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeLayout {
    /// Hugging Face: element `i` of a head pairs with `i + dims / 2`.
    Half,
    /// The Llama family in GGUF, and DeepSeek: element `2i` pairs with `2i + 1`.
    Interleaved,
}

/// How the frequencies of the rotary embedding are stretched for long contexts.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum RopeScaling {
    /// As trained.
    #[default]
    None,
    /// Positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// Llama 3.1: long wavelengths divided by a factor, short ones kept, between them a ramp.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f32,
        /// Wavelengths above `original_context / low_freq_factor` are long.
        low_freq_factor: f32,
        /// Wavelengths below `original_context / high_freq_factor` are short.
        high_freq_factor: f32,
        /// The context the model was first trained with.
        original_context: u32,
    },
    /// Phi 3: a divisor for each pair, and the turned elements multiplied.
    ///
    /// The long factors serve every position, as mlx-lm 0.31 does it: a KV cache cannot change its
    /// frequencies when a text grows past the original context.
    LongRope {
        /// One divisor for each pair.
        factors: Vec<f32>,
        /// The turned elements of queries and keys are multiplied by this.
        magnitude: f32,
    },
    /// YaRN, as DeepSeek uses it: pairs that turn often in the original context are kept, those
    /// that turn seldom divided, between them a ramp over the pairs' numbers.
    Yarn {
        /// The divisor of pairs that turn seldom.
        factor: f32,
        /// The context the model was first trained with.
        original_context: u32,
        /// Pairs that turn more often than this are kept.
        beta_fast: f32,
        /// Pairs that turn less often than this are divided.
        beta_slow: f32,
        /// The turned elements of queries and keys are multiplied by this.
        magnitude: f32,
    },
}

impl RopeConfig {
    /// Radians per position for each of the `dims / 2` pairs.
    #[must_use]
    pub fn frequencies(&self) -> Vec<f64> {
        let base = f64::from(self.theta);
        let plain = |pair: usize| base.powf(-2.0 * pair as f64 / self.dims as f64);
        (0..self.dims / 2)
            .map(|pair| self.scaled(pair, plain(pair)))
            .collect()
    }

    /// What the turned elements of queries and keys are multiplied by; nearly always one.
    #[must_use]
    pub fn magnitude(&self) -> f32 {
        match self.scaling {
            RopeScaling::LongRope { magnitude, .. } | RopeScaling::Yarn { magnitude, .. } => {
                magnitude
            }
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
        }
    }

    /// A pair's frequency as the model was stretched to see it.
    fn scaled(&self, pair: usize, frequency: f64) -> f64 {
        match &self.scaling {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / f64::from(*factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let (factor, low, high) = (
                    f64::from(*factor),
                    f64::from(*low_freq_factor),
                    f64::from(*high_freq_factor),
                );
                // How often the angle goes round within the context of the first training.
                let turns = f64::from(*original_context) * frequency / TAU;
                if turns < low {
                    frequency / factor
                } else if turns > high {
                    frequency
                } else {
                    let kept = (turns - low) / (high - low);
                    frequency * (kept + (1.0 - kept) / factor)
                }
            }
            RopeScaling::LongRope { factors, .. } => {
                frequency / f64::from(factors.get(pair).copied().unwrap_or(1.0))
            }
            RopeScaling::Yarn {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                ..
            } => {
                // The number of the pair that turns `turns` times within the original context.
                let pair_of = |turns: f32| {
                    let wavelength = f64::from(*original_context) / (f64::from(turns) * TAU);
                    self.dims as f64 * wavelength.ln() / (2.0 * f64::from(self.theta).ln())
                };
                let low = pair_of(*beta_fast).floor().max(0.0);
                let high = pair_of(*beta_slow).ceil().min(self.dims as f64 - 1.0);
                let width = if low == high { 0.001 } else { high - low };
                let divided = ((pair as f64 - low) / width).clamp(0.0, 1.0);
                let factor = f64::from(*factor);
                frequency * (divided / factor + (1.0 - divided))
            }
        }
    }
}

#[cfg(test)]
mod tests;
