//! Rotary position embedding.

use exo_models::{ModelConfig, RopeLayout, RopeScaling};
use std::f64::consts::TAU;

/// The angles of a model's positions.
#[derive(Debug)]
pub(crate) struct Rope {
    layout: RopeLayout,
    /// Radians per position, for each pair of elements of a head.
    frequencies: Vec<f64>,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let base = f64::from(config.rope_theta);
        let frequencies = (0..config.head_dim / 2)
            .map(|i| base.powf(-2.0 * i as f64 / config.head_dim as f64))
            .map(|frequency| scaled(frequency, config.rope_scaling))
            .collect();
        Self {
            layout: config.rope,
            frequencies,
        }
    }

    /// Writes cosine and sine of each pair at `position`; `out` holds `head_dim` elements.
    pub(crate) fn angles(&self, position: usize, out: &mut [f32]) {
        for (pair, frequency) in out.chunks_exact_mut(2).zip(&self.frequencies) {
            // In double precision, so that libraries which round differently still agree.
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            pair.copy_from_slice(&[cos as f32, sin as f32]);
        }
    }

    /// Turns every head in `heads` by `angles`, and multiplies by `scale`.
    pub(crate) fn turn(&self, heads: &mut [f32], angles: &[f32], scale: f32) {
        let rotate = |a: &mut f32, b: &mut f32, angle: &[f32]| {
            if let [cos, sin] = *angle {
                (*a, *b) = ((*a * cos - *b * sin) * scale, (*a * sin + *b * cos) * scale);
            }
        };
        for head in heads.chunks_exact_mut(angles.len().max(1)) {
            match self.layout {
                RopeLayout::Interleaved => {
                    for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
                        if let [a, b] = pair {
                            rotate(a, b, angle);
                        }
                    }
                }
                RopeLayout::Half => {
                    let (low, high) = head.split_at_mut(angles.len() / 2);
                    for ((a, b), angle) in low.iter_mut().zip(high).zip(angles.chunks_exact(2)) {
                        rotate(a, b, angle);
                    }
                }
            }
        }
    }
}

/// A frequency as the model was stretched to see it.
fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Linear { factor } => frequency / f64::from(factor),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        } => {
            let (factor, low, high) = (
                f64::from(factor),
                f64::from(low_freq_factor),
                f64::from(high_freq_factor),
            );
            // How often the angle goes round within the context of the first training.
            let turns = f64::from(original_context) * frequency / TAU;
            if turns < low {
                frequency / factor
            } else if turns > high {
                frequency
            } else {
                let kept = (turns - low) / (high - low);
                frequency * (kept + (1.0 - kept) / factor)
            }
        }
        _ => frequency,
    }
}

#[cfg(test)]
mod tests;
