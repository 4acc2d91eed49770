//! Products with weights in floating point, for AVX2 with FMA and F16C.
//!
//! Their bodies in plain code are the oracle. Left to the compiler they stay scalar: it does not see
//! that eight halves can be widened at once, which the processor does in one instruction.

use super::blocks::{load, load_f32, load_half, store_f32, tree};
use crate::kernels::bodies::{FloatFormat, widen as widen_plain};
use std::arch::x86_64::*;

/// Formats as constants, so that each gets code of its own.
mod constant {
    pub(super) const F32: u8 = 0;
    pub(super) const F16: u8 = 1;
    pub(super) const BF16: u8 = 2;
}

/// Rows that are multiplied at once: their sums hide each other's latency.
const AT_ONCE: usize = 4;

/// Eight weights, widened. `B` is their size in bytes: 32 for single precision, else 16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn eight<const F: u8, const B: usize>(bytes: &[u8; B]) -> __m256 {
    match F {
        constant::F32 => _mm256_castsi256_ps(load(bytes.first_chunk().unwrap_or(&[0; 32]))),
        constant::F16 => _mm256_cvtph_ps(load_half(bytes.first_chunk().unwrap_or(&[0; 16]))),
        _ => {
            let halves = load_half(bytes.first_chunk().unwrap_or(&[0; 16]));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const F: u8, const B: usize>(weights: &[u8], x: &[f32], out: &mut [f32]) {
    let row_bytes = x.len() * B / 8;
    let (whole, rest) = x.as_chunks::<8>();
    let mut last = [0f32; 8];
    last[..rest.len()].copy_from_slice(rest);
    let groups = weights.chunks(AT_ONCE * row_bytes.max(1));
    for (out, rows) in out.chunks_mut(AT_ONCE).zip(groups) {
        // Fewer than four rows at the end: the last one stands in for those that are missing.
        let mut lanes = [_mm256_setzero_ps(); AT_ONCE];
        let mut chunks: [&[[u8; B]]; AT_ONCE] = [&[]; AT_ONCE];
        let mut ends: [&[u8]; AT_ONCE] = [&[]; AT_ONCE];
        for (r, (chunks, end)) in chunks.iter_mut().zip(&mut ends).enumerate() {
            let row = &rows[r.min(out.len() - 1) * row_bytes..][..row_bytes];
            (*chunks, *end) = row.as_chunks::<B>();
        }
        let [a, b, c, d] = chunks;
        for ((((x, a), b), c), d) in whole.iter().zip(a).zip(b).zip(c).zip(d) {
            let x = load_f32(x);
            lanes[0] = _mm256_fmadd_ps(eight::<F, B>(a), x, lanes[0]);
            lanes[1] = _mm256_fmadd_ps(eight::<F, B>(b), x, lanes[1]);
            lanes[2] = _mm256_fmadd_ps(eight::<F, B>(c), x, lanes[2]);
            lanes[3] = _mm256_fmadd_ps(eight::<F, B>(d), x, lanes[3]);
        }
        if !rest.is_empty() {
            let x = load_f32(&last);
            for (lanes, end) in lanes.iter_mut().zip(ends) {
                let mut bytes = [0; B];
                bytes[..end.len()].copy_from_slice(end);
                *lanes = _mm256_fmadd_ps(eight::<F, B>(&bytes), x, *lanes);
            }
        }
        for (out, lanes) in out.iter_mut().zip(lanes) {
            *out = tree(lanes);
        }
    }
}

pub(super) fn float_matvec(format: FloatFormat, weights: &[u8], x: &[f32], out: &mut [f32]) {
    // SAFETY: promise 1: this entry is only in tables that need these features.
    unsafe {
        match format {
            FloatFormat::F32 => rows::<{ constant::F32 }, 32>(weights, x, out),
            FloatFormat::F16 => rows::<{ constant::F16 }, 16>(weights, x, out),
            FloatFormat::Bf16 => rows::<{ constant::BF16 }, 16>(weights, x, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn row<const F: u8, const B: usize>(format: FloatFormat, row: &[u8], out: &mut [f32]) {
    let (bytes, rest) = row.as_chunks::<B>();
    let (whole, last) = out.split_at_mut((bytes.len() * 8).min(out.len()));
    for (out, bytes) in whole.as_chunks_mut::<8>().0.iter_mut().zip(bytes) {
        store_f32(out, eight::<F, B>(bytes));
    }
    widen_plain(format, rest, last);
}

pub(super) fn widen(format: FloatFormat, weights: &[u8], out: &mut [f32]) {
    // SAFETY: promise 1: this entry is only in tables that need these features.
    unsafe {
        match format {
            FloatFormat::F32 => row::<{ constant::F32 }, 32>(format, weights, out),
            FloatFormat::F16 => row::<{ constant::F16 }, 16>(format, weights, out),
            FloatFormat::Bf16 => row::<{ constant::BF16 }, 16>(format, weights, out),
        }
    }
}
