//! Everything a transformer needs besides quantised products, as plain loops.
//!
//! These functions are compiled several times: once as they are, and once inside a function that
//! may use wider vectors. Rust never reorders or fuses floating-point operations, so every copy
//! gives the same bits; the loops are written in lanes to let the compiler use the vectors.

use super::activations::Q8x8;
use super::curves::exp;
use super::format::{BLOCK, Block, Format, bf16_to_f32, f16_to_f32, u16_at, u32_at};
use super::packed::PackedRows;
use super::panel::tree;

/// Positions whose keys and values are stored together.
pub const PAGE: usize = 64;

/// A weight format that is multiplied in floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatFormat {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
}

impl FloatFormat {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// `out[r]` = row `r` of `weights` · `x`, the rows being of equal length.
#[inline(always)]
pub(crate) fn matvec(format: Format, weights: &[u8], x: &[Q8x8], out: &mut [f32]) {
    let row_bytes = weights.len() / out.len().max(1);
    let blocks = row_bytes / format.unit_bytes() * (format.unit() / 32);
    let offset = format.offset();
    for (out, row) in out.iter_mut().zip(weights.chunks_exact(row_bytes.max(1))) {
        *out = dot(blocks, offset, |b| format.block(row, b), x);
    }
}

/// `out[r]` = row `r` of `weights` · `x`.
#[inline(always)]
pub(crate) fn packed_matvec(weights: &PackedRows<'_>, x: &[Q8x8], out: &mut [f32]) {
    for (r, out) in out.iter_mut().enumerate() {
        *out = dot(weights.blocks(), 0, |b| weights.block(r, b), x);
    }
}

/// The blocks of a row · `x`.
#[inline(always)]
fn dot(blocks: usize, offset: i32, block: impl Fn(usize) -> Block, x: &[Q8x8]) -> f32 {
    let mut lanes = [0f32; 8];
    for b in 0..blocks {
        let w = block(b);
        let (chunk, lane) = (&x[b / 8], b % 8);
        let half = |half: usize| -> i32 {
            let product: i32 = (half * 16..half * 16 + 16)
                .map(|i| i32::from(w.quants[i]) * i32::from(chunk.quants[lane][i]))
                .sum();
            w.factors[half] * (product - offset * chunk.sums[half][lane])
        };
        let sum = (half(0) + half(1)) as f32;
        let acc = &mut lanes[lane];
        *acc = (w.scale * chunk.scales[lane]).mul_add(sum, *acc);
        *acc = w.min.mul_add(chunk.weighted[lane], *acc);
    }
    tree(lanes)
}

/// Eight elements from `at` on; what lies past the end is zero.
#[inline(always)]
fn eight(format: FloatFormat, row: &[u8], at: usize) -> [f32; 8] {
    let size = format.bytes();
    let bytes = &row[at * size..];
    let element = |i: usize| match format {
        FloatFormat::F32 => f32::from_bits(u32_at(bytes, i * 4)),
        FloatFormat::F16 => f16_to_f32(u16_at(bytes, i * 2)),
        FloatFormat::Bf16 => bf16_to_f32(u16_at(bytes, i * 2)),
    };
    if bytes.len() >= 8 * size {
        let bytes = &bytes[..8 * size];
        let _ = bytes;
        std::array::from_fn(element)
    } else {
        std::array::from_fn(|i| {
            if i < bytes.len() / size {
                element(i)
            } else {
                0.0
            }
        })
    }
}

/// A row of weights as `f32`.
#[inline(always)]
pub(crate) fn widen(format: FloatFormat, row: &[u8], out: &mut [f32]) {
    match format {
        FloatFormat::F32 => {
            for (out, bytes) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        FloatFormat::F16 => {
            for (out, bytes) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *out = f16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
        FloatFormat::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *out = bf16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
    }
}

/// A row of quantised weights as `f32`.
#[inline(always)]
pub(crate) fn read(format: Format, row: &[u8], out: &mut [f32]) {
    let offset = format.offset();
    for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        read_block(&format.block(row, b), offset, out);
    }
}

/// The first of packed rows as `f32`.
#[inline(always)]
pub(crate) fn read_packed(rows: &PackedRows<'_>, out: &mut [f32]) {
    for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        read_block(&rows.block(0, b), 0, out);
    }
}

#[inline(always)]
fn read_block(block: &Block, offset: i32, out: &mut [f32]) {
    let halves = out.chunks_exact_mut(BLOCK / 2);
    let quants = block.quants.chunks_exact(BLOCK / 2);
    for ((out, quants), factor) in halves.zip(quants).zip(block.factors) {
        for (out, quant) in out.iter_mut().zip(quants) {
            let quant = factor * (i32::from(*quant) - offset);
            *out = block.scale.mul_add(quant as f32, block.min);
        }
    }
}

/// `out[r]` = row `r` of `weights` · `x`, both in floating point.
#[inline(always)]
pub(crate) fn float_matvec(format: FloatFormat, weights: &[u8], x: &[f32], out: &mut [f32]) {
    match format {
        FloatFormat::F32 => float_rows(FloatFormat::F32, weights, x, out),
        FloatFormat::F16 => float_rows(FloatFormat::F16, weights, x, out),
        FloatFormat::Bf16 => float_rows(FloatFormat::Bf16, weights, x, out),
    }
}

#[inline(always)]
fn float_rows(format: FloatFormat, weights: &[u8], x: &[f32], out: &mut [f32]) {
    // Four rows at once hide the latency of the sums.
    const AT_ONCE: usize = 4;
    let row_bytes = x.len() * format.bytes();
    for (out, rows) in out
        .chunks_mut(AT_ONCE)
        .zip(weights.chunks(AT_ONCE * row_bytes.max(1)))
    {
        let row = |r: usize| &rows[r.min(out.len() - 1) * row_bytes..][..row_bytes];
        let rows: [&[u8]; AT_ONCE] = std::array::from_fn(row);
        let mut lanes = [[0f32; 8]; AT_ONCE];
        let (chunks, rest) = x.as_chunks::<8>();
        for (i, x) in chunks.iter().enumerate() {
            for (lanes, row) in lanes.iter_mut().zip(rows) {
                accumulate(lanes, &eight(format, row, 8 * i), x);
            }
        }
        if !rest.is_empty() {
            let mut x = [0f32; 8];
            x[..rest.len()].copy_from_slice(rest);
            for (lanes, row) in lanes.iter_mut().zip(rows) {
                accumulate(lanes, &eight(format, row, 8 * chunks.len()), &x);
            }
        }
        for (out, lanes) in out.iter_mut().zip(lanes) {
            *out = tree(lanes);
        }
    }
}

#[inline(always)]
fn accumulate(lanes: &mut [f32; 8], w: &[f32; 8], x: &[f32; 8]) {
    for i in 0..8 {
        lanes[i] = w[i].mul_add(x[i], lanes[i]);
    }
}

/// Tokens that the kernel `float_tile` takes at once.
pub const FLOAT_TOKENS: usize = 4;

/// One widened row · four tokens.
#[inline(always)]
pub(crate) fn float_tile(w: &[f32], x: [&[f32]; FLOAT_TOKENS]) -> [f32; FLOAT_TOKENS] {
    let mut lanes = [[0f32; 8]; FLOAT_TOKENS];
    let (chunks, rest) = w.as_chunks::<8>();
    let x: [&[f32]; FLOAT_TOKENS] = std::array::from_fn(|t| &x[t][..w.len()]);
    for (i, w) in chunks.iter().enumerate() {
        for (lanes, x) in lanes.iter_mut().zip(x) {
            if let Some(x) = x[8 * i..].first_chunk::<8>() {
                accumulate(lanes, w, x);
            }
        }
    }
    for (lanes, x) in lanes.iter_mut().zip(x) {
        for (i, w) in rest.iter().enumerate() {
            lanes[i] = w.mul_add(x[8 * chunks.len() + i], lanes[i]);
        }
    }
    lanes.map(tree)
}

/// `out` = `x` / root-mean-square(`x`) × `weight`.
#[inline(always)]
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mut lanes = [0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for x in chunks {
        accumulate(&mut lanes, x, x);
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = x.mul_add(*x, *lane);
    }
    let scale = 1.0 / (tree(lanes) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// `x` += `y`.
#[inline(always)]
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `x` becomes e to the power of (`x` - its maximum); returns 1 / the sum.
#[inline(always)]
pub(crate) fn softmax(x: &mut [f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 8];
    let (chunks, rest) = x.as_chunks_mut::<8>();
    for chunk in chunks.iter() {
        for (most, x) in most.iter_mut().zip(chunk) {
            *most = most.max(*x);
        }
    }
    let most = most
        .iter()
        .chain(rest.iter())
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    let mut sums = [0f32; 8];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - most);
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *x = exp(*x - most);
        *sum += *x;
    }
    1.0 / tree(sums)
}

/// `out[p]` = `query` · key `p` for a page of keys, stored `[element][position]`.
#[inline(always)]
pub(crate) fn scores(query: &[f32], keys: &[f32], out: &mut [f32; PAGE]) {
    // Half a page at a time: so many sums stay in registers.
    const HALF: usize = PAGE / 2;
    for half in 0..2 {
        let mut sums = [0f32; HALF];
        for (q, keys) in query.iter().zip(keys.as_chunks::<PAGE>().0) {
            for (sum, key) in sums.iter_mut().zip(&keys[half * HALF..][..HALF]) {
                *sum = q.mul_add(*key, *sum);
            }
        }
        out[half * HALF..][..HALF].copy_from_slice(&sums);
    }
}

/// `out` += Σ `weights[p]` × value `p`, over a page of values stored `[position][element]`.
#[inline(always)]
pub(crate) fn weigh(weights: &[f32], values: &[f32], out: &mut [f32]) {
    const STRIP: usize = 32;
    let width = out.len();
    let (strips, rest) = out.as_chunks_mut::<STRIP>();
    let whole = strips.len() * STRIP;
    for (s, strip) in strips.iter_mut().enumerate() {
        let mut sums = *strip;
        for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
            if let Some(row) = row[s * STRIP..].first_chunk::<STRIP>() {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum = weight.mul_add(*value, *sum);
                }
            }
        }
        *strip = sums;
    }
    for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
        for (out, value) in rest.iter_mut().zip(&row[whole..]) {
            *out = weight.mul_add(*value, *out);
        }
    }
}

/// Half precision to single.
#[inline(always)]
pub(crate) fn widen_f16(halves: &[u16], out: &mut [f32]) {
    for (out, half) in out.iter_mut().zip(halves) {
        *out = f16_to_f32(*half);
    }
}
