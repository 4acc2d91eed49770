//! The processor as the layers see it: kernels, threads, and buffers that live from call to call.

use crate::kernels::{GROUP, Kernels, Panel, Q8x8, Q8x16, ROWS, Tile};
use crate::matrix::{Kind, Matrix};
use crate::unchecked::pool::Pool;
use crate::unchecked::tiles;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From so many tokens on, weights are unpacked once for all of them.
const GROUP_FROM: usize = 4;

/// Kernels, threads and each thread's scratch.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: Pool,
    scratch: Vec<Mutex<Scratch>>,
}

/// What a thread needs while it works on a piece.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) floats: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) sums: Vec<f32>,
    chunks: Vec<Q8x8>,
    panel: Panel,
}

impl Scratch {
    /// The first `len` floats, whatever they hold.
    pub(crate) fn floats(&mut self, len: usize) -> &mut [f32] {
        grown(&mut self.floats, len, 0.0)
    }
}

/// The first `len` elements of `buffer`, which only ever grows.
pub(crate) fn grown<T: Clone>(buffer: &mut Vec<T>, len: usize, zero: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, zero);
    }
    &mut buffer[..len]
}

/// Lends a thread its scratch. Nobody else ever holds it: the lock is for the borrow checker.
pub(crate) fn scratch(of: &[Mutex<Scratch>], worker: usize) -> MutexGuard<'_, Scratch> {
    of[worker].lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(kernels: &'static Kernels, threads: usize) -> std::io::Result<Self> {
        let pool = Pool::new(threads)?;
        let scratch = (0..pool.width()).map(|_| Mutex::default()).collect();
        Ok(Self {
            kernels,
            pool,
            scratch,
        })
    }

    /// The parts, for closures that run on the pool and use the rest.
    pub(crate) fn split(&mut self) -> (&'static Kernels, &mut Pool, &[Mutex<Scratch>]) {
        (self.kernels, &mut self.pool, &self.scratch)
    }

    /// Columns of one piece when `cols` are shared out: a few pieces for each thread, for threads
    /// may be slow, and whole cache lines.
    fn piece(&self, cols: usize) -> usize {
        const EACH: usize = 4;
        match self.pool.width() {
            1 => cols,
            width => (cols / (width * EACH))
                .next_multiple_of(2 * ROWS)
                .max(2 * ROWS),
        }
    }
}

/// What enters a product: `tokens` rows of `cols` activations, in every form the kernels want.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    tokens: usize,
    cols: usize,
    floats: Vec<f32>,
    /// `[token][chunk]`, when there are few tokens.
    chunks: Vec<Q8x8>,
    /// `[group of tokens][block]`, when there are many.
    groups: Vec<Q8x16>,
}

impl Inputs {
    /// Takes `tokens` rows of `cols` elements, which `fill(token, row)` writes.
    pub(crate) fn fill(
        &mut self,
        machine: &mut Machine,
        tokens: usize,
        cols: usize,
        quantise: bool,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        (self.tokens, self.cols) = (tokens, cols);
        let (kernels, pool, scratches) = machine.split();
        let floats = grown(&mut self.floats, tokens * cols, 0.0);
        pool.run_tiles(floats, cols, (GROUP, cols), |mut tile, _| {
            for token in tile.rows() {
                fill(token, tile.row(token));
            }
        });
        if !quantise {
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

    /// `[tokens, Σ rows]` = inputs × the matrices side by side (+ their biases).
    ///
    /// With `add`, the products are added to what `out` holds.
    pub(crate) fn multiply(
        &self,
        machine: &mut Machine,
        parts: &[Part<'_>],
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

    fn part(
        &self,
        kernels: &Kernels,
        scratch: &mut Scratch,
        part: &Part<'_>,
        rows: Range<usize>,
        tile: &mut tiles::Tile<'_, f32>,
        target: &mut Target,
    ) {
        let matrix = part.matrix;
        let row_bytes = matrix.row_bytes();
        let bytes = &matrix.bytes()[rows.start * row_bytes..rows.end * row_bytes];
        let bias = part.bias.map(|bias| &bias[rows.clone()]);
        let per_token = Q8x8::count(self.cols);
        match matrix.kind() {
            Kind::Quantised(format) if self.tokens < GROUP_FROM => {
                for t in 0..self.tokens {
                    let x = &self.chunks[t * per_token..][..per_token];
                    let products = scratch.floats(rows.len());
                    (kernels.matvec)(format, bytes, x, products);
                    target.write(kernels, products, bias, tile.row(t));
                }
            }
            Kind::Quantised(format) => {
                let blocks = self.cols.div_ceil(32);
                let mut products: Tile = [[0.0; GROUP]; ROWS];
                for (p, rows) in bytes.chunks(ROWS * row_bytes).enumerate() {
                    (kernels.unpack)(&mut scratch.panel, format, rows, row_bytes);
                    let height = rows.len() / row_bytes;
                    let bias = bias.map(|bias| &bias[p * ROWS..][..height]);
                    for (g, x) in self.groups.chunks_exact(blocks).enumerate() {
                        let first = g * GROUP;
                        if first >= self.tokens {
                            break;
                        }
                        (kernels.tile)(&scratch.panel, x, &mut products);
                        let target = Target {
                            start: target.start + p * ROWS,
                            ..*target
                        };
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
            Kind::Float(format) if self.tokens < GROUP_FROM => {
                for t in 0..self.tokens {
                    let x = &self.floats[t * self.cols..][..self.cols];
                    let products = scratch.floats(rows.len());
                    (kernels.float_matvec)(format, bytes, x, products);
                    target.write(kernels, products, bias, tile.row(t));
                }
            }
            Kind::Float(format) => {
                for (r, row) in bytes.chunks_exact(row_bytes).enumerate() {
                    let wide = scratch.floats(self.cols);
                    (kernels.widen)(format, row, wide);
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
}

/// A matrix of a product, and what is added to its results.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) bias: Option<&'a [f32]>,
}

impl<'a> From<&'a Matrix> for Part<'a> {
    fn from(matrix: &'a Matrix) -> Self {
        Self { matrix, bias: None }
    }
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
