//! What each query finds in a KV cache.

use crate::kernels::PAGE;
use crate::kv::Kv;
use crate::machine::{Machine, grown, scratch};
use std::ops::Range;

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
    /// Positions that a position sees, itself among them; all before it if none.
    pub(crate) window: Option<usize>,
    /// Scores `s` become `cap` × tanh(`s` / `cap`).
    pub(crate) cap: Option<f32>,
}

/// Bytes of scores a thread holds at most, unless one token needs more: they should stay in its
/// cache.
const SCORES: usize = 256 << 10;
/// Tokens that share a piece at most: together they widen each page once.
const TOKENS: usize = 16;
/// Query heads that share a piece at most, so that there are pieces for all threads also where many
/// of them share one key and value head.
const HEADS: usize = 8;

impl Queries<'_> {
    /// The positions that token `t` sees.
    fn seen(&self, t: usize) -> Range<usize> {
        let end = self.position + t + 1;
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        start..end
    }

    /// The pages that some of `tokens` see something of.
    fn pages(&self, tokens: Range<usize>) -> Range<usize> {
        let (first, last) = (tokens.start, tokens.end.saturating_sub(1));
        self.seen(first).start / PAGE..self.seen(last).end.div_ceil(PAGE)
    }

    /// How many query heads share a piece: always of one key and value head.
    fn heads_per_piece(&self) -> usize {
        let most = self.group.min(HEADS);
        let divisor = (1..=most).rfind(|heads| self.group.is_multiple_of(*heads));
        divisor.unwrap_or(1)
    }

    /// How many tokens share a piece, when there are `tokens` in all.
    fn tokens_per_piece(&self, tokens: usize) -> usize {
        let pages = self.pages(tokens.saturating_sub(TOKENS)..tokens).len();
        let token = 4 * self.heads_per_piece() * PAGE * pages.max(1);
        (SCORES / token).clamp(1, TOKENS)
    }
}

/// The part of `slice` where `positions` are, if it begins with position `start`.
fn part(positions: &Range<usize>, start: usize) -> Range<usize> {
    positions.start - start..positions.end - start
}

/// Writes `[token][head][element]` to `out`: for every token the values of the positions that it
/// sees, weighted by how well their keys answer its queries.
pub(crate) fn attend(
    machine: &mut Machine,
    kv: &Kv,
    layer: usize,
    queries: Queries<'_>,
    out: &mut [f32],
) {
    let stride = queries.stride;
    let group = queries.heads_per_piece();
    let (key_dim, value_dim) = (kv.shape().key_dim, kv.shape().value_dim);
    let tokens = queries.rows.len() / stride.max(1);
    let cols = out.len() / tokens.max(1);
    let pieces = (queries.tokens_per_piece(tokens), group * value_dim);
    let (kernels, pool, scratches) = machine.split();
    pool.run_tiles(out, cols, pieces, |mut tile, worker| {
        let scratch = &mut *scratch(scratches, worker);
        let first = tile.cols().start / value_dim;
        let head = first / queries.group;
        let tokens = tile.rows();
        let pages = queries.pages(tokens.clone());
        let (start, padded) = (pages.start * PAGE, pages.len() * PAGE);
        let scores = grown(&mut scratch.scores, tokens.len() * group * padded, 0.0);
        let wide = grown(&mut scratch.floats, key_dim.max(value_dim) * PAGE, 0.0);
        // What of a page a token sees.
        let seen = |t: usize, p: usize| {
            let seen = queries.seen(t);
            seen.start.max(p * PAGE)..seen.end.min((p + 1) * PAGE)
        };
        for p in pages.clone() {
            let keys = kv.keys((layer, head, p), kernels, wide);
            for (t, scores) in tokens.clone().zip(scores.chunks_exact_mut(group * padded)) {
                if seen(t, p).is_empty() {
                    continue;
                }
                let row = &queries.rows[t * stride + first * key_dim..][..group * key_dim];
                let heads = row.chunks_exact(key_dim);
                for (query, scores) in heads.zip(scores.chunks_exact_mut(padded)) {
                    let page = &mut scores[p * PAGE - start..];
                    if let Some(page) = page.first_chunk_mut::<PAGE>() {
                        (kernels.scores)(query, keys, page);
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
            let seen = part(&queries.seen(t), start);
            for (scores, sum) in scores.chunks_exact_mut(padded).zip(sums) {
                let scores = &mut scores[seen.clone()];
                if let Some(cap) = queries.cap {
                    (kernels.soft_cap)(scores, cap);
                }
                *sum = (kernels.softmax)(scores);
            }
            tile.row(t).fill(0.0);
        }
        for p in pages {
            let values = kv.values((layer, head, p), kernels, wide);
            for (t, scores) in tokens.clone().zip(scores.chunks_exact(group * padded)) {
                let seen = seen(t, p);
                if seen.is_empty() {
                    continue;
                }
                let values = &values[(seen.start - p * PAGE) * value_dim..];
                let outs = tile.row(t).chunks_exact_mut(value_dim);
                for (out, scores) in outs.zip(scores.chunks_exact(padded)) {
                    (kernels.weigh)(&scores[part(&seen, start)], values, out);
                }
            }
        }
        for (t, sums) in tokens.zip(sums.chunks_exact(group)) {
            for (out, sum) in tile.row(t).chunks_exact_mut(value_dim).zip(sums) {
                out.iter_mut().for_each(|out| *out *= sum);
            }
        }
    });
}

#[cfg(test)]
mod tests;
