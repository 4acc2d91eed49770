//! Products of weights with the activations of some tokens.

use crate::kernels::{GROUP, Kernels, Q8x8, Q8x16, ROWS, Tile};
use crate::machine::{Machine, Scratch, grown, scratch};
use crate::matrix::{Linear, Rows};
use crate::unchecked::tiles;
use std::ops::Range;

/// From so many tokens on, weights are unpacked once for all of them.
const GROUP_FROM: usize = 4;

/// What enters a product: `tokens` rows of `cols` activations, in every form the kernels want.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    tokens: usize,
    cols: usize,
    quantised: bool,
    floats: Vec<f32>,
    /// `[token][chunk]`, when there are few tokens.
    chunks: Vec<Q8x8>,
    /// `[group of tokens][block]`, when there are many.
    groups: Vec<Q8x16>,
}

impl Inputs {
    /// Takes `tokens` rows of `cols` elements, which `fill(token, row)` writes, to be multiplied
    /// with the matrices in `by`.
    pub(crate) fn fill<'a>(
        &mut self,
        machine: &mut Machine,
        (tokens, cols): (usize, usize),
        by: impl IntoIterator<Item = &'a Linear>,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        (self.tokens, self.cols) = (tokens, cols);
        self.quantised = machine.quantises && by.into_iter().any(|by| by.matrix.is_quantised());
        let (kernels, pool, scratches) = machine.split();
        let floats = grown(&mut self.floats, tokens * cols, 0.0);
        pool.run_tiles(floats, cols, (GROUP, cols), |mut tile, _| {
            for token in tile.rows() {
                fill(token, tile.row(token));
            }
        });
        if !self.quantised {
            return;
        }
        let (floats, per_token) = (&*floats, Q8x8::count(cols));
        if tokens < GROUP_FROM {
            let chunks = grown(&mut self.chunks, tokens * per_token, Q8x8::ZERO);
            for (row, chunks) in floats
                .chunks_exact(cols)
                .zip(chunks.chunks_exact_mut(per_token))
            {
                (kernels.quantise)(row, chunks);
            }
            return;
        }
        let blocks = cols.div_ceil(32);
        let groups = grown(
            &mut self.groups,
            tokens.div_ceil(GROUP) * blocks,
            Q8x16::ZERO,
        );
        pool.run_tiles(groups, blocks, (1, blocks), |mut tile, worker| {
            let mut scratch = scratch(scratches, worker);
            for group in tile.rows() {
                let rows = group * GROUP * cols..((group + 1) * GROUP).min(tokens) * cols;
                let rows = floats[rows].chunks_exact(cols);
                let chunks = grown(&mut scratch.chunks, GROUP * per_token, Q8x8::ZERO);
                let count = rows.len();
                for (row, chunks) in rows.zip(chunks.chunks_exact_mut(per_token)) {
                    (kernels.quantise)(row, chunks);
                }
                let mut tokens: [&[Q8x8]; GROUP] = [&[]; GROUP];
                for (token, chunks) in tokens.iter_mut().zip(chunks.chunks_exact(per_token)) {
                    *token = chunks;
                }
                (kernels.interleave)(&tokens[..count], tile.row(group));
            }
        });
    }

    /// How many rows it holds.
    pub(crate) fn rows(&self) -> usize {
        self.tokens
    }

    /// Elements of a row.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Row `token` of what it holds.
    pub(crate) fn row(&self, token: usize) -> &[f32] {
        &self.floats[token * self.cols..][..self.cols]
    }

    /// `[tokens, Σ rows]` = inputs × the matrices side by side (+ their biases).
    ///
    /// With `add`, the products are added to what `out` holds.
    pub(crate) fn multiply(
        &self,
        machine: &mut Machine,
        parts: &[&Linear],
        add: bool,
        out: &mut [f32],
    ) {
        let cols: usize = parts.iter().map(|part| part.matrix.rows()).sum();
        let piece = machine.piece(cols);
        let (kernels, pool, scratches) = machine.split();
        pool.run_tiles(out, cols, (self.tokens, piece), |mut tile, worker| {
            let mut scratch = scratch(scratches, worker);
            let mut start = 0;
            for part in parts {
                let end = start + part.matrix.rows();
                let inside = tile.cols().start.max(start)..tile.cols().end.min(end);
                if !inside.is_empty() {
                    let rows = inside.start - start..inside.end - start;
                    let mut target = Target {
                        start: inside.start - tile.cols().start,
                        add,
                    };
                    self.part(kernels, &mut scratch, part, rows, &mut tile, &mut target);
                }
                start = end;
            }
        });
    }

    /// Adds to `x` what it gives multiplied with `by`: as it is, or normed with a weight and an
    /// epsilon. `branch` is for its own use.
    pub(crate) fn add_product(
        &self,
        machine: &mut Machine,
        by: &Linear,
        (norm, eps): (Option<&[f32]>, f32),
        branch: &mut Vec<f32>,
        x: &mut [f32],
    ) {
        match norm {
            None => self.multiply(machine, &[by], true, x),
            Some(norm) => {
                let branch = grown(branch, x.len(), 0.0);
                self.multiply(machine, &[by], false, branch);
                add_normed(machine, branch, norm, eps, x);
            }
        }
    }

    fn part(
        &self,
        kernels: &Kernels,
        scratch: &mut Scratch,
        part: &Linear,
        rows: Range<usize>,
        tile: &mut tiles::Tile<'_, f32>,
        target: &mut Target,
    ) {
        let matrix = &part.matrix;
        let bias = part.bias.as_ref().map(|bias| &bias[rows.clone()]);
        let weights = matrix.some(rows.clone());
        let per_token = Q8x8::count(self.cols);
        let chunks = |t: usize| &self.chunks[t * per_token..][..per_token];
        let few = self.tokens < GROUP_FROM;
        match weights {
            Rows::Quantised(format, bytes) if self.quantised && few => {
                for t in 0..self.tokens {
                    let products = grown(&mut scratch.floats, rows.len(), 0.0);
                    (kernels.matvec)(format, bytes, chunks(t), products);
                    target.write(kernels, products, bias, tile.row(t));
                }
            }
            Rows::Packed(weights) if self.quantised && few => {
                for t in 0..self.tokens {
                    let products = grown(&mut scratch.floats, rows.len(), 0.0);
                    (kernels.packed_matvec)(&weights, chunks(t), products);
                    target.write(kernels, products, bias, tile.row(t));
                }
            }
            Rows::Quantised(..) | Rows::Packed(_) if self.quantised => {
                for first in (0..rows.len()).step_by(ROWS) {
                    let height = ROWS.min(rows.len() - first);
                    let start = rows.start + first;
                    match matrix.some(start..start + height) {
                        Rows::Quantised(format, bytes) => {
                            let row_bytes = matrix.row_bytes();
                            (kernels.unpack)(&mut scratch.panel, format, bytes, row_bytes);
                        }
                        Rows::Packed(weights) => {
                            (kernels.unpack_packed)(&mut scratch.panel, &weights);
                        }
                        Rows::Float(..) => {}
                    }
                    let bias = bias.map(|bias| &bias[first..][..height]);
                    let target = Target {
                        start: target.start + first,
                        ..*target
                    };
                    self.panel(kernels, scratch, (height, bias), &target, tile);
                }
            }
            Rows::Float(format, bytes) if few => {
                for t in 0..self.tokens {
                    let x = &self.floats[t * self.cols..][..self.cols];
                    let products = grown(&mut scratch.floats, rows.len(), 0.0);
                    (kernels.float_matvec)(format, bytes, x, products);
                    target.write(kernels, products, bias, tile.row(t));
                }
            }
            _ => {
                for (r, row) in rows.enumerate() {
                    let wide = grown(&mut scratch.floats, self.cols, 0.0);
                    matrix.read_row(row, kernels, wide);
                    let bias = bias.map(|bias| &bias[r..=r]);
                    for first in (0..self.tokens).step_by(4) {
                        let token = |i: usize| (first + i).min(self.tokens - 1);
                        let x = std::array::from_fn(|i| {
                            &self.floats[token(i) * self.cols..][..self.cols]
                        });
                        let products = (kernels.float_tile)(wide, x);
                        for (t, product) in (first..self.tokens).zip(products) {
                            let target = Target {
                                start: target.start + r,
                                ..*target
                            };
                            target.write(kernels, &[product], bias, tile.row(t));
                        }
                    }
                }
            }
        }
    }

    /// The rows in the scratch's panel times all tokens.
    #[inline(always)]
    fn panel(
        &self,
        kernels: &Kernels,
        scratch: &Scratch,
        (height, bias): (usize, Option<&[f32]>),
        target: &Target,
        tile: &mut tiles::Tile<'_, f32>,
    ) {
        let blocks = self.cols.div_ceil(32);
        let mut products: Tile = [[0.0; GROUP]; ROWS];
        for (g, x) in self.groups.chunks_exact(blocks).enumerate() {
            let first = g * GROUP;
            if first >= self.tokens {
                break;
            }
            (kernels.tile)(&scratch.panel, x, &mut products);
            for (t, column) in (first..self.tokens).zip(transpose(&products)) {
                let row = tile.row(t);
                match (bias, height) {
                    (None, ROWS) => target.write_all(&column, row),
                    _ => target.write(kernels, &column[..height], bias, row),
                }
            }
        }
    }
}

/// Adds the rows of `branch`, normed, to those of `x`.
pub(crate) fn add_normed(
    machine: &mut Machine,
    branch: &[f32],
    norm: &[f32],
    eps: f32,
    x: &mut [f32],
) {
    let width = norm.len();
    let (kernels, pool, scratches) = machine.split();
    pool.run_tiles(x, width, (GROUP, width), |mut tile, worker| {
        let mut scratch = scratch(scratches, worker);
        let normed = grown(&mut scratch.floats, width, 0.0);
        for t in tile.rows() {
            (kernels.rms_norm)(&branch[t * width..][..width], norm, eps, normed);
            (kernels.add)(tile.row(t), normed);
        }
    });
}

/// Where in a row of the output, and how.
#[derive(Clone, Copy, Debug)]
struct Target {
    start: usize,
    add: bool,
}

/// `[token][row]` of `[row][token]`.
#[inline]
fn transpose(tile: &Tile) -> [[f32; ROWS]; GROUP] {
    std::array::from_fn(|t| std::array::from_fn(|r| tile[r][t]))
}

impl Target {
    /// [`Target::write`] for whole panels without biases, which is nearly always.
    #[inline(always)]
    fn write_all(&self, products: &[f32; ROWS], row: &mut [f32]) {
        if let Some(row) = row
            .get_mut(self.start..)
            .and_then(<[f32]>::first_chunk_mut::<ROWS>)
        {
            match self.add {
                true => row
                    .iter_mut()
                    .zip(products)
                    .for_each(|(row, product)| *row += product),
                false => *row = *products,
            }
        }
    }

    #[inline(always)]
    fn write(&self, kernels: &Kernels, products: &[f32], bias: Option<&[f32]>, row: &mut [f32]) {
        let row = &mut row[self.start..][..products.len()];
        if self.add {
            if products.len() <= ROWS {
                row.iter_mut()
                    .zip(products)
                    .for_each(|(row, product)| *row += product);
            } else {
                (kernels.add)(row, products);
            }
        } else {
            row.copy_from_slice(products);
        }
        if let Some(bias) = bias {
            row.iter_mut()
                .zip(bias)
                .for_each(|(row, bias)| *row += bias);
        }
    }
}
