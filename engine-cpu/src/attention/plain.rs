//! Queries, keys and values from the hidden state.

use super::Entry;
use crate::layer::Plain;
use crate::machine::{Machine, grown, scratch};
use crate::product::Inputs;

/// Writes `[row][queries, keys, values]` to `qkv`.
pub(super) fn project(
    machine: &mut Machine,
    inputs: &mut Inputs,
    entry: &Entry<'_>,
    weights: &Plain,
    qkv: &mut Vec<f32>,
) {
    let config = entry.config;
    let (head_dim, eps) = (config.head_dim, config.norm_eps);
    let (q, k) = (config.heads * head_dim, config.kv_heads * head_dim);
    let stride = q + 2 * k;
    let kernels = machine.kernels;
    entry.fill(machine, inputs, &weights.qkv);
    let qkv = grown(qkv, entry.rows() * stride, 0.0);
    inputs.multiply(machine, &weights.qkv.each_ref(), false, qkv);

    // Each head is normed, turned by its position, and (queries only) scaled for its scores.
    let norms = weights.norms.as_ref();
    let (_, pool, scratches) = machine.split();
    pool.run_tiles(qkv, stride, (16, stride), |mut tile, worker| {
        let mut scratch = scratch(scratches, worker);
        let copy = grown(&mut scratch.floats, head_dim, 0.0);
        for t in tile.rows() {
            let (queries, rest) = tile.row(t).split_at_mut(q);
            for (heads, norm, scale) in [
                (queries, norms.map(|[q, _]| q), config.score_scale),
                (&mut rest[..k], norms.map(|[_, k]| k), 1.0),
            ] {
                for head in heads.chunks_exact_mut(head_dim) {
                    if let Some(norm) = norm {
                        copy.copy_from_slice(head);
                        (kernels.rms_norm)(copy, norm, eps, head);
                    }
                    entry.turn(t, head, scale);
                }
            }
        }
    });
}
