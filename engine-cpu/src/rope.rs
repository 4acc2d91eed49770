//! Rotary position embedding.

use exo_models::{RopeConfig, RopeLayout};

/// The angles of a layer's positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    layout: RopeLayout,
    /// Radians per position, for each pair of elements that turn.
    frequencies: Vec<f64>,
    /// What the elements that turn are multiplied by.
    magnitude: f32,
}

impl Rope {
    pub(crate) fn new(config: &RopeConfig) -> Self {
        Self {
            layout: config.layout,
            frequencies: config.frequencies(),
            magnitude: config.magnitude(),
        }
    }

    /// How many elements of a head turn, from its first one on.
    pub(crate) fn dims(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Writes cosine and sine of each pair at `position`; `out` holds [`Rope::dims`] elements.
    pub(crate) fn angles(&self, position: usize, out: &mut [f32]) {
        for (pair, frequency) in out.chunks_exact_mut(2).zip(&self.frequencies) {
            // In double precision, so that libraries which round differently still agree.
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            pair.copy_from_slice(&[cos as f32, sin as f32]);
        }
    }

    /// Turns a head by `angles`, and multiplies all of it by `scale`.
    pub(crate) fn turn(&self, head: &mut [f32], angles: &[f32], scale: f32) {
        let dims = self.dims().min(head.len());
        let (turned, rest) = head.split_at_mut(dims);
        if scale != 1.0 {
            rest.iter_mut().for_each(|x| *x *= scale);
        }
        let scale = scale * self.magnitude;
        let rotate = |a: &mut f32, b: &mut f32, angle: &[f32]| {
            if let [cos, sin] = *angle {
                (*a, *b) = ((*a * cos - *b * sin) * scale, (*a * sin + *b * cos) * scale);
            }
        };
        match self.layout {
            RopeLayout::Interleaved => {
                for (pair, angle) in turned.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
                    if let [a, b] = pair {
                        rotate(a, b, angle);
                    }
                }
            }
            RopeLayout::Half => {
                let (low, high) = turned.split_at_mut(dims / 2);
                for ((a, b), angle) in low.iter_mut().zip(high).zip(angles.chunks_exact(2)) {
                    rotate(a, b, angle);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
