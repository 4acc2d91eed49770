//! Causal attention over a KV cache.

use crate::kernels::PAGE;
use crate::kv::Kv;
use crate::machine::{Machine, grown, scratch};

/// What one call attends with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queries<'a> {
    /// `[token][stride]`; each row begins with the queries of all heads, turned and scaled.
    pub(crate) rows: &'a [f32],
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Position of the first token; the rest follow.
    pub(crate) position: usize,
    /// Query heads that share a key and value head.
    pub(crate) group: usize,
    /// Elements of a head.
    pub(crate) head_dim: usize,
}

/// Bytes of scores a thread holds at most, unless one token needs more: they should stay in its
/// cache.
const SCORES: usize = 256 << 10;
/// Tokens that share a piece at most: together they widen each page once.
const TOKENS: usize = 16;

/// Writes `[token][head][element]` to `out`: for every token the values up to its own position,
/// weighted by how well their keys answer its queries.
pub(crate) fn attend(
    machine: &mut Machine,
    kv: &Kv,
    layer: usize,
    queries: Queries<'_>,
    out: &mut [f32],
) {
    let Queries {
        rows,
        stride,
        position,
        group,
        head_dim,
    } = queries;
    let width = group * head_dim;
    let tokens = rows.len() / stride.max(1);
    let padded = (position + tokens).next_multiple_of(PAGE);
    let per_piece = (SCORES / (4 * group * padded)).clamp(1, TOKENS);
    let cols = out.len() / tokens.max(1);
    let (kernels, pool, scratches) = machine.split();
    pool.run_tiles(out, cols, (per_piece, width), |mut tile, worker| {
        let scratch = &mut *scratch(scratches, worker);
        let head = tile.cols().start / width;
        let tokens = tile.rows();
        let pages = (position + tokens.end).div_ceil(PAGE);
        let scores = grown(&mut scratch.scores, tokens.len() * group * padded, 0.0);
        let page = grown(&mut scratch.floats, head_dim * PAGE, 0.0);
        for p in 0..pages {
            (kernels.widen_f16)(kv.keys(layer, head, p), page);
            for (t, scores) in tokens.clone().zip(scores.chunks_exact_mut(group * padded)) {
                if p * PAGE > position + t {
                    continue;
                }
                let row = &rows[t * stride + head * width..][..width];
                let queries = row.chunks_exact(head_dim);
                for (query, scores) in queries.zip(scores.chunks_exact_mut(padded)) {
                    if let Some(scores) = scores[p * PAGE..].first_chunk_mut::<PAGE>() {
                        (kernels.scores)(query, page, scores);
                    }
                }
            }
        }
        let sums = grown(&mut scratch.sums, tokens.len() * group, 0.0);
        for (t, (scores, sums)) in tokens.clone().zip(
            scores
                .chunks_exact_mut(group * padded)
                .zip(sums.chunks_exact_mut(group)),
        ) {
            for (scores, sum) in scores.chunks_exact_mut(padded).zip(sums) {
                *sum = (kernels.softmax)(&mut scores[..=position + t]);
            }
            tile.row(t).fill(0.0);
        }
        for p in 0..pages {
            (kernels.widen_f16)(kv.values(layer, head, p), page);
            for (t, scores) in tokens.clone().zip(scores.chunks_exact(group * padded)) {
                let end = (position + t + 1).min((p + 1) * PAGE);
                let outs = tile.row(t).chunks_exact_mut(head_dim);
                for (out, scores) in outs.zip(scores.chunks_exact(padded)) {
                    if let Some(weights) = scores.get(p * PAGE..end) {
                        (kernels.weigh)(weights, page, out);
                    }
                }
            }
        }
        for (t, sums) in tokens.zip(sums.chunks_exact(group)) {
            for (out, sum) in tile.row(t).chunks_exact_mut(head_dim).zip(sums) {
                out.iter_mut().for_each(|out| *out *= sum);
            }
        }
    });
}
