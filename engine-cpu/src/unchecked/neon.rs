//! NEON, which every 64-bit ARM has.
//!
//! Only what the compiler does not find by itself is here: the plain bodies are already compiled
//! for NEON on ARM. On other processors this file is compiled for tests alone, against a model of
//! the instructions ([`model`]).

#![allow(
    unused_unsafe,
    reason = "where NEON is a matter of course, or modelled, calls are safe"
)]

use crate::kernels::format::Block;
use crate::kernels::{
    BLOCK, Form, Format, GROUP, Kernels, PackedRows, Panel, Q8x8, Q8x16, ROWS, Tile, tree,
};

#[cfg(not(target_arch = "aarch64"))]
mod model;
#[cfg(test)]
mod tests;

#[cfg(not(target_arch = "aarch64"))]
use model::*;
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;

pub(super) static KERNELS: Kernels = Kernels {
    name: "neon",
    matvec,
    packed_matvec,
    tile,
    ..Kernels::SCALAR
};

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn load_i8(from: &[i8; 16]) -> int8x16_t {
    // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
    unsafe { vld1q_s8(from.as_ptr()) }
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn load_u8(from: &[u8; 16]) -> uint8x16_t {
    // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
    unsafe { vld1q_u8(from.as_ptr()) }
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn load_i32(from: &[i32; 4]) -> int32x4_t {
    // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
    unsafe { vld1q_s32(from.as_ptr()) }
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn load_f32(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn store_f32(to: &mut [f32; 4], value: float32x4_t) {
    // SAFETY: promise 2: 16 bytes, borrowed for writing; the store is unaligned.
    unsafe { vst1q_f32(to.as_mut_ptr(), value) }
}

/// Sixteen unsigned quants less their offset: in eight signed bits in every format.
#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn signed(quants: &[u8; 16], offset: uint8x16_t) -> int8x16_t {
    vreinterpretq_s8_u8(vsubq_u8(load_u8(quants), offset))
}

/// The products of sixteen pairs of bytes, two and two added.
///
/// Fits 16 bits: weights are at least -128, activations within ±127.
#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn dot(w: int8x16_t, x: int8x16_t) -> i32 {
    let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
    let high = vmull_high_s8(w, x);
    vaddvq_s32(vpadalq_s16(vpaddlq_s16(low), high))
}

/// What makes quants signed bytes: their offset, or half of what 8 bits hold when they have none;
/// and how much of that is too much.
fn signs(form: Form) -> (u8, i32) {
    let offset = if form.bits == 8 { 128 } else { form.offset };
    (offset as u8, offset - form.offset)
}

/// The blocks of a row times `x`.
#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn row(form: Form, blocks: usize, block: impl Fn(usize) -> Block, x: &[Q8x8]) -> f32 {
    let (offset, too_much) = signs(form);
    let offset = vdupq_n_u8(offset);
    let mut lanes = [0f32; 8];
    for b in 0..blocks {
        let w = block(b);
        let (chunk, lane) = (&x[b / 8], b % 8);
        let (quants, _) = w.quants.as_chunks::<16>();
        let (activations, _) = chunk.quants[lane].as_chunks::<16>();
        let half = |half: usize| {
            let product = dot(signed(&quants[half], offset), load_i8(&activations[half]));
            w.factors[half] * (product + too_much * chunk.sums[half][lane])
        };
        let sum = (half(0) + half(1)) as f32;
        let acc = &mut lanes[lane];
        *acc = (w.scale * chunk.scales[lane]).mul_add(sum, *acc);
        *acc = w.min.mul_add(chunk.weighted[lane], *acc);
    }
    tree(lanes)
}

#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn rows(format: Format, weights: &[u8], x: &[Q8x8], out: &mut [f32]) {
    let row_bytes = weights.len() / out.len().max(1);
    let blocks = row_bytes / format.unit_bytes() * (format.unit() / BLOCK);
    for (out, bytes) in out.iter_mut().zip(weights.chunks_exact(row_bytes.max(1))) {
        *out = row(Form::of(format), blocks, |b| format.block(bytes, b), x);
    }
}

#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn packed_rows(weights: PackedRows<'_>, x: &[Q8x8], out: &mut [f32]) {
    let (form, blocks) = (Form::packed(weights.bits), weights.blocks());
    for (r, out) in out.iter_mut().enumerate() {
        *out = row(form, blocks, |b| weights.block(r, b), x);
    }
}

fn packed_matvec(weights: &PackedRows<'_>, x: &[Q8x8], out: &mut [f32]) {
    let with = |bits| PackedRows { bits, ..*weights };
    // SAFETY: promise 1: this entry is only in the table that needs NEON.
    unsafe {
        match weights.bits {
            2 => packed_rows(with(2), x, out),
            3 => packed_rows(with(3), x, out),
            4 => packed_rows(with(4), x, out),
            6 => packed_rows(with(6), x, out),
            _ => packed_rows(with(8), x, out),
        }
    }
}

fn matvec(format: Format, weights: &[u8], x: &[Q8x8], out: &mut [f32]) {
    /// The format is a constant in each arm: its unpacking becomes straight code.
    macro_rules! each {
        ($($name:ident),*) => {
            match format {
                // SAFETY: promise 1: this entry is only in the table that needs NEON.
                $(Format::$name => unsafe { rows(Format::$name, weights, x, out) },)*
            }
        };
    }
    each!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K);
}

/// Rows of a panel that are multiplied at once: their sums fit the registers.
const AT_ONCE: usize = 4;

#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn panel_tile(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    let (offset, too_much) = signs(panel.form());
    let offset = vdupq_n_u8(offset);
    for first in (0..ROWS).step_by(AT_ONCE) {
        for quarter in 0..GROUP / 4 {
            let zero = vdupq_n_f32(0.0);
            let mut lanes = [[zero; AT_ONCE]; 8];
            for (b, (w, x)) in panel.blocks().iter().zip(x).enumerate() {
                let mut sums = [vdupq_n_s32(0); AT_ONCE];
                for half in 0..2 {
                    let mut products = [vdupq_n_s32(0); AT_ONCE];
                    for s in half * 4..half * 4 + 4 {
                        let x = x.quants[s].as_flattened().as_chunks::<16>().0[quarter];
                        let x = load_i8(&x);
                        for (r, product) in products.iter_mut().enumerate() {
                            // Four weights, once for each of four tokens.
                            let four = w.quants[first + r].as_chunks::<4>().0[s];
                            let four = vdupq_n_s32(i32::from_le_bytes(four));
                            let w = vsubq_u8(vreinterpretq_u8_s32(four), offset);
                            let w = vreinterpretq_s8_u8(w);
                            let low = vmull_s8(vget_low_s8(w), vget_low_s8(x));
                            let high = vmull_high_s8(w, x);
                            *product = vpadalq_s16(*product, vpaddq_s16(low, high));
                        }
                    }
                    let taken = load_i32(&x.sums[half].as_chunks::<4>().0[quarter]);
                    let back = vdupq_n_s32(too_much);
                    for (r, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
                        let product = vmlaq_s32(product, taken, back);
                        let factor = vdupq_n_s32(w.factors[half][first + r]);
                        *sum = vmlaq_s32(*sum, product, factor);
                    }
                }
                let scales = load_f32(&x.scales.as_chunks::<4>().0[quarter]);
                let weighted = load_f32(&x.weighted.as_chunks::<4>().0[quarter]);
                for (r, lane) in lanes[b % 8].iter_mut().enumerate() {
                    let scale = vmulq_f32(vdupq_n_f32(w.scales[first + r]), scales);
                    *lane = vfmaq_f32(*lane, scale, vcvtq_f32_s32(sums[r]));
                    *lane = vfmaq_f32(*lane, vdupq_n_f32(w.mins[first + r]), weighted);
                }
            }
            for r in 0..AT_ONCE {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| vaddq_f32(lanes[i][r], lanes[i + 4][r]));
                let sum = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
                store_f32(&mut out[first + r].as_chunks_mut::<4>().0[quarter], sum);
            }
        }
    }
}

fn tile(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    // SAFETY: promise 1: this entry is only in the table that needs NEON.
    unsafe {
        panel_tile(panel, x, out);
    }
}
