//! Rotary position embedding.

use exo_models::{ModelConfig, RopeLayout};

/// The angles of a model's positions.
#[derive(Debug)]
pub(crate) struct Rope {
    layout: RopeLayout,
    /// Radians per position, for each pair of elements of a head.
    frequencies: Vec<f64>,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        Self {
            layout: config.rope.layout,
            frequencies: config.rope.frequencies(),
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

#[cfg(test)]
mod tests;
