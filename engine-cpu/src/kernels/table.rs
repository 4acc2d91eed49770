//! The table itself.

use super::activations::{self, Q8x8, Q8x16};
use super::bodies::{self, FLOAT_TOKENS, FloatFormat, PAGE};
use super::curves;
use super::format::Format;
use super::packed::PackedRows;
use super::panel::{self, Panel, Tile};
use crate::unchecked;

/// One implementation of each kernel. All are safe to call with anything: lengths that do not
/// match are a panic at worst.
#[derive(Debug)]
#[non_exhaustive]
pub struct Kernels {
    /// What it needs of the processor, such as `avx2`.
    pub name: &'static str,
    /// `matvec(format, weights, x, out)`: `out[r]` = row `r` of `weights` · `x`.
    pub matvec: fn(Format, &[u8], &[Q8x8], &mut [f32]),
    /// `unpack(panel, format, rows, row_bytes)`: fills a panel with up to eight rows.
    pub unpack: fn(&mut Panel, Format, &[u8], usize),
    /// `packed_matvec(weights, x, out)`: `out[r]` = row `r` of `weights` · `x`.
    pub packed_matvec: fn(&PackedRows<'_>, &[Q8x8], &mut [f32]),
    /// `unpack_packed(panel, rows)`: fills a panel with up to eight rows.
    pub unpack_packed: fn(&mut Panel, &PackedRows<'_>),
    /// `tile(panel, x, out)`: the panel's rows times sixteen tokens.
    pub tile: fn(&Panel, &[Q8x16], &mut Tile),
    /// `quantise(x, out)`: the elements of one token.
    pub quantise: fn(&[f32], &mut [Q8x8]),
    /// `interleave(tokens, out)`: up to sixteen quantised tokens.
    pub interleave: fn(&[&[Q8x8]], &mut [Q8x16]),
    /// `float_matvec(format, weights, x, out)`: `out[r]` = row `r` of `weights` · `x`.
    pub float_matvec: fn(FloatFormat, &[u8], &[f32], &mut [f32]),
    /// `widen(format, row, out)`: a row of weights as `f32`.
    pub widen: fn(FloatFormat, &[u8], &mut [f32]),
    /// `read(format, row, out)`: a row of quantised weights as `f32`.
    pub read: fn(Format, &[u8], &mut [f32]),
    /// `read_packed(rows, out)`: the first of packed rows as `f32`.
    pub read_packed: fn(&PackedRows<'_>, &mut [f32]),
    /// `float_tile(row, tokens)`: one widened row times four tokens.
    pub float_tile: fn(&[f32], [&[f32]; FLOAT_TOKENS]) -> [f32; FLOAT_TOKENS],
    /// `rms_norm(x, weight, eps, out)`.
    pub rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// `silu_product(gate, up)`: `gate` = silu(`gate`) × `up`.
    pub silu_product: fn(&mut [f32], &[f32]),
    /// `gelu_product(gate, up)`: `gate` = gelu(`gate`) × `up`, by the tanh approximation.
    pub gelu_product: fn(&mut [f32], &[f32]),
    /// `sigmoid(x)`, in place.
    pub sigmoid: fn(&mut [f32]),
    /// `soft_cap(x, cap)`: every `x` becomes `cap` × tanh(`x` / `cap`).
    pub soft_cap: fn(&mut [f32], f32),
    /// `add(x, y)`: `x` += `y`.
    pub add: fn(&mut [f32], &[f32]),
    /// `softmax(x)`: exponentials in place; returns 1 / their sum.
    pub softmax: fn(&mut [f32]) -> f32,
    /// `scores(query, keys, out)`: the query times a page of keys `[element][position]`.
    pub scores: fn(&[f32], &[f32], &mut [f32; PAGE]),
    /// `weigh(weights, values, out)`: adds a page of weighted values `[position][element]`.
    pub weigh: fn(&[f32], &[f32], &mut [f32]),
    /// `widen_f16(halves, out)`: half precision to single.
    pub widen_f16: fn(&[u16], &mut [f32]),
}

impl Kernels {
    /// Plain code: works anywhere, and is what the others are tested against.
    pub const SCALAR: Self = Self {
        name: "scalar",
        matvec: bodies::matvec,
        unpack: |panel, format, rows, row_bytes| panel.unpack(format, rows, row_bytes),
        packed_matvec: bodies::packed_matvec,
        unpack_packed: |panel, rows| panel.unpack_packed(rows),
        tile: panel::tile,
        quantise: activations::quantise,
        interleave: activations::interleave,
        float_matvec: bodies::float_matvec,
        widen: bodies::widen,
        read: bodies::read,
        read_packed: bodies::read_packed,
        float_tile: bodies::float_tile,
        rms_norm: bodies::rms_norm,
        silu_product: curves::silu_product,
        gelu_product: curves::gelu_product,
        sigmoid: curves::sigmoid,
        soft_cap: curves::soft_cap,
        add: bodies::add,
        softmax: bodies::softmax,
        scores: bodies::scores,
        weigh: bodies::weigh,
        widen_f16: bodies::widen_f16,
    };

    /// Every implementation this processor can run, the best one last.
    #[must_use]
    pub fn available() -> Vec<&'static Self> {
        let mut all: Vec<&'static Self> = vec![&Self::SCALAR];
        all.extend(unchecked::kernels());
        all
    }

    /// The best implementation this processor can run.
    #[must_use]
    pub fn detect() -> &'static Self {
        Self::available().pop().unwrap_or(&Self::SCALAR)
    }
}
