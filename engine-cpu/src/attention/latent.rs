//! Latent attention: what the cache keeps of a position is one compressed vector for all heads.
//!
//! A head's key is `[U·c, r]`, with the compressed vector `c`, the head's own matrix `U` and the
//! turned part `r` that all heads share; its value is `V·c`. A query `[p, t]` meets it in
//! `p·(U·c) + t·r = (Uᵀ·p)·c + t·r`, and the weighted sum of values is `V` times the weighted sum
//! of the `c`. So queries are brought to the width of `c` first and values to their own at the end,
//! and between the two all heads attend to `[c, r]` as their key and to `c` as their value. That is
//! so for one position as for many, for the bits to be the same.

use super::Entry;
use crate::kernels::FLOAT_TOKENS;
use crate::layer::Latent;
use crate::machine::{Machine, grown, scratch};
use crate::product::Inputs;
use exo_models::ModelConfig;

/// Rows of a product that are written together.
const TOKENS: usize = 64;

/// Buffers of latent attention, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct LatentBuffers {
    /// `[row][compressed query or query, compressed key and value, turned part of the key]`.
    down: Vec<f32>,
    inputs: Inputs,
    queries: Vec<f32>,
    values: Vec<f32>,
}

impl LatentBuffers {
    /// Writes `[row][queries, [c, r], c]` of the rows of `x` to `qkv`, with the queries as wide as
    /// `[c, r]`.
    pub(super) fn project(
        &mut self,
        machine: &mut Machine,
        inputs: &mut Inputs,
        entry: &Entry<'_>,
        weights: &Latent,
        qkv: &mut Vec<f32>,
    ) {
        let config = entry.config;
        let Some(latent) = config.latent else { return };
        let (rows, heads) = (entry.rows(), config.heads);
        let (rank, plain) = (latent.kv_rank, latent.plain_dim);
        let kernels = machine.kernels;
        let first = match &weights.query_down {
            Some((down, _)) => down,
            None => &weights.query,
        };
        let parts = [first, &weights.kv_down];
        entry.fill(machine, inputs, parts);
        let (q, kv) = (first.matrix.rows(), rank + latent.rope_dim);
        let down_stride = q + kv;
        let down = grown(&mut self.down, rows * down_stride, 0.0);
        inputs.multiply(machine, &parts, false, down);
        let down = &*down;
        let (queries, query_stride) = match &weights.query_down {
            None => (down, down_stride),
            Some((_, norm)) => {
                let shape = (rows, q);
                self.inputs
                    .fill(machine, shape, [&weights.query], |t, row| {
                        let compressed = &down[t * down_stride..][..q];
                        (kernels.rms_norm)(compressed, norm, latent.norm_eps, row);
                    });
                let stride = heads * config.head_dim;
                let queries = grown(&mut self.queries, rows * stride, 0.0);
                self.inputs
                    .multiply(machine, &[&weights.query], false, queries);
                (&*queries, stride)
            }
        };

        let stride = heads * kv + kv + rank;
        let qkv = grown(qkv, rows * stride, 0.0);
        let (_, pool, scratches) = machine.split();
        // As wide as a head's query; behind the last one come `[c, r]`, then `c` alone.
        pool.run_tiles(qkv, stride, (TOKENS, kv), |mut tile, worker| {
            let part = tile.cols().start / kv;
            if part >= heads {
                for t in tile.rows() {
                    let row = tile.row(t);
                    let (compressed, turned) = down[t * down_stride + q..][..kv].split_at(rank);
                    let (out, behind) = row.split_at_mut(rank);
                    (kernels.rms_norm)(compressed, &weights.kv_norm, latent.norm_eps, out);
                    if part == heads {
                        behind.copy_from_slice(turned);
                        entry.turn(t, behind, 1.0);
                    }
                }
                return;
            }
            let mut scratch = scratch(scratches, worker);
            let matrix = grown(&mut scratch.floats, plain * rank, 0.0);
            let first = part * (plain + latent.value_dim);
            for (r, row) in matrix.chunks_exact_mut(rank).enumerate() {
                weights.kv_up.read_row(first + r, kernels, row);
            }
            for t in tile.rows() {
                let query = &queries[t * query_stride + part * config.head_dim..];
                let (query, turned) = query[..config.head_dim].split_at(plain);
                let (out, behind) = tile.row(t).split_at_mut(rank);
                out.fill(0.0);
                (kernels.weigh)(query, matrix, out);
                out.iter_mut().for_each(|x| *x *= config.score_scale);
                behind.copy_from_slice(turned);
                entry.turn(t, behind, config.score_scale);
            }
        });
    }

    /// The values `[row][head][element]` of weighted sums of compressed vectors, `[row][head][c]`.
    pub(super) fn values(
        &mut self,
        machine: &mut Machine,
        config: &ModelConfig,
        weights: &Latent,
        attended: &[f32],
    ) -> &[f32] {
        let Some(latent) = config.latent else {
            return &[];
        };
        let (rank, dim) = (latent.kv_rank, latent.value_dim);
        let cols = config.heads * rank;
        let rows = attended.len() / cols;
        let stride = config.heads * dim;
        let values = grown(&mut self.values, rows * stride, 0.0);
        let kernels = machine.kernels;
        let (_, pool, scratches) = machine.split();
        pool.run_tiles(values, stride, (TOKENS, dim), |mut tile, worker| {
            let mut scratch = scratch(scratches, worker);
            let up = grown(&mut scratch.floats, rank, 0.0);
            let head = tile.cols().start / dim;
            let first = head * (latent.plain_dim + dim) + latent.plain_dim;
            let tokens = tile.rows();
            for r in 0..dim {
                weights.kv_up.read_row(first + r, kernels, up);
                for four in tokens.clone().step_by(FLOAT_TOKENS) {
                    let x = std::array::from_fn(|i| {
                        let t = (four + i).min(tokens.end - 1);
                        &attended[t * cols + head * rank..][..rank]
                    });
                    let products = (kernels.float_tile)(up, x);
                    for (t, product) in (four..tokens.end).zip(products) {
                        tile.row(t)[r] = product;
                    }
                }
            }
        });
        values
    }
}
