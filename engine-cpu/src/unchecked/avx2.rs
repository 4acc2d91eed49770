//! AVX2 with FMA and F16C: every x86-64 server and laptop since 2013.

use super::blocks::*;
use crate::kernels::format::f16_to_f32;
use crate::kernels::{Form, Format, Kernels, PackedRows, Panel, Q8x8, Q8x16, ROWS, Tile};
use std::arch::x86_64::*;

compiled_for!("avx2,fma,f16c");
packed_matvec_for!("avx2,fma,f16c", packed_products);

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx2",
    matvec,
    unpack: wide::unpack,
    packed_matvec,
    unpack_packed: wide::unpack_packed,
    tile,
    quantise: wide::quantise,
    interleave: wide::interleave,
    float_matvec: super::floats::float_matvec,
    widen: super::floats::widen,
    read: wide::read,
    read_packed: wide::read_packed,
    float_tile: wide::float_tile,
    rms_norm: wide::rms_norm,
    silu_product: wide::silu_product,
    gelu_product: wide::gelu_product,
    sigmoid: wide::sigmoid,
    soft_cap: wide::soft_cap,
    add: wide::add,
    softmax: wide::softmax,
    scores: wide::scores,
    weigh: wide::weigh,
    widen_f16,
};

/// Lane `i` = the sum of the products 4i..4i + 4 of unsigned and signed bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn products<const F: u8>(w: __m256i, x: __m256i) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    if F == constant::Q8_0 {
        // Pairs of products of 8-bit quants would overflow 16 bits when unsigned: back to signed
        // ones, with the sign moved to x.
        let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
        _mm256_madd_epi16(pairs, ones)
    } else {
        _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), ones)
    }
}

/// The same for packed weights: any lane of the sums may hold any of the products.
#[inline]
#[target_feature(enable = "avx2")]
fn packed_products<const BITS: u8>(w: __m256i, x: __m256i) -> __m256i {
    if BITS < 8 {
        return _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1));
    }
    // Pairs of products of 8-bit numbers would overflow 16 bits: widen first.
    let low = _mm256_madd_epi16(
        _mm256_cvtepu8_epi16(_mm256_castsi256_si128(w)),
        _mm256_cvtepi8_epi16(_mm256_castsi256_si128(x)),
    );
    let high = _mm256_madd_epi16(
        _mm256_cvtepu8_epi16(_mm256_extracti128_si256::<1>(w)),
        _mm256_cvtepi8_epi16(_mm256_extracti128_si256::<1>(x)),
    );
    _mm256_add_epi32(low, high)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn chunk<const F: u8, const N: usize>(bytes: &[u8], x: &Q8x8, lanes: __m256) -> __m256 {
    assert!(bytes.len() >= bytes_of(F, N), "a chunk has its blocks");
    let mut p = [_mm256_setzero_si256(); 8];
    for (j, p) in p.iter_mut().enumerate().take(N) {
        *p = products::<F>(quants::<F>(bytes, j), load_quants(&x.quants[j]));
        if F == constant::Q6K {
            *p = _mm256_mullo_epi32(*p, factor_lanes(bytes, j));
        }
    }
    let sums = sums(p);
    let sums = if F == constant::Q8_0 {
        sums
    } else {
        settle::<F>(sums, bytes, x)
    };
    let (scales, mins) = scales::<F, N>(bytes);
    let scales = _mm256_mul_ps(scales, load_f32(&x.scales));
    let lanes = _mm256_fmadd_ps(scales, _mm256_cvtepi32_ps(sums), lanes);
    if format(F).has_min() {
        _mm256_fmadd_ps(mins, load_f32(&x.weighted), lanes)
    } else {
        lanes
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const F: u8>(weights: &[u8], x: &[Q8x8], out: &mut [f32]) {
    let row_bytes = weights.len() / out.len().max(1);
    let size = format(F).chunk_bytes();
    for (out, row) in out.iter_mut().zip(weights.chunks_exact(row_bytes.max(1))) {
        let mut lanes = _mm256_setzero_ps();
        let chunks = row.chunks_exact(size);
        let rest = chunks.remainder();
        for (bytes, x) in chunks.zip(x) {
            lanes = chunk::<F, 8>(bytes, x, lanes);
        }
        if let (false, Some(x)) = (rest.is_empty(), x.get(row.len() / size)) {
            lanes = match rest.len() / format(F).unit_bytes() {
                1 => chunk::<F, 1>(rest, x, lanes),
                2 => chunk::<F, 2>(rest, x, lanes),
                3 => chunk::<F, 3>(rest, x, lanes),
                4 => chunk::<F, 4>(rest, x, lanes),
                5 => chunk::<F, 5>(rest, x, lanes),
                6 => chunk::<F, 6>(rest, x, lanes),
                _ => chunk::<F, 7>(rest, x, lanes),
            };
        }
        *out = tree(lanes);
    }
}

fn matvec(format: Format, weights: &[u8], x: &[Q8x8], out: &mut [f32]) {
    // SAFETY: promise 1: this entry is only in the table that needs these features.
    unsafe {
        match format {
            Format::Q4_0 => rows::<{ constant::Q4_0 }>(weights, x, out),
            Format::Q4_1 => rows::<{ constant::Q4_1 }>(weights, x, out),
            Format::Q5_0 => rows::<{ constant::Q5_0 }>(weights, x, out),
            Format::Q5_1 => rows::<{ constant::Q5_1 }>(weights, x, out),
            Format::Q8_0 => rows::<{ constant::Q8_0 }>(weights, x, out),
            Format::Q4K => rows::<{ constant::Q4K }>(weights, x, out),
            Format::Q5K => rows::<{ constant::Q5K }>(weights, x, out),
            Format::Q6K => rows::<{ constant::Q6K }>(weights, x, out),
        }
    }
}

/// Rows of a panel that are multiplied at once: their sums fit the sixteen registers.
const AT_ONCE: usize = 4;

#[target_feature(enable = "avx2,fma,f16c")]
fn panel_tile<const SIGNED: bool, const FACTORS: bool>(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    // Signed quants are 128 less than unsigned ones: that much is already taken off.
    let taken_off = if SIGNED { 128 } else { 0 };
    let left = panel.form().offset - taken_off;
    let offset = _mm256_set1_epi32(left);
    let (sign, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    for first in (0..ROWS).step_by(AT_ONCE) {
        for side in 0..2 {
            let mut lanes = [[_mm256_setzero_ps(); AT_ONCE]; 8];
            for (b, (w, x)) in panel.blocks().iter().zip(x).enumerate() {
                let eight = |of: &[f32; 16]| load_f32(&of.as_chunks::<8>().0[side]);
                let eight_i32 = |of: &[i32; 16]| load_i32(&of.as_chunks::<8>().0[side]);
                let mut halves = [[_mm256_setzero_si256(); AT_ONCE]; 2];
                for (half, sums) in halves.iter_mut().enumerate() {
                    for s in half * 4..half * 4 + 4 {
                        let x = load_quants(&x.quants[s].as_flattened().as_chunks::<32>().0[side]);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let four = w.quants[first + r].as_chunks::<4>().0[s];
                            let w = _mm256_set1_epi32(i32::from_le_bytes(four));
                            let pairs = if SIGNED {
                                let w = _mm256_xor_si256(w, sign);
                                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                            } else {
                                _mm256_maddubs_epi16(w, x)
                            };
                            *sum = if SIGNED || FACTORS {
                                _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones))
                            } else {
                                // Quants below 32 and activations within ±127: eight products
                                // fit 16 bits, to be widened once.
                                _mm256_add_epi16(*sum, pairs)
                            };
                        }
                    }
                    if !(SIGNED || FACTORS) {
                        *sums = sums.map(|sum| _mm256_madd_epi16(sum, ones));
                    }
                }
                let (scales, weighted) = (eight(&x.scales), eight(&x.weighted));
                let taken = [0, 1].map(|half| _mm256_mullo_epi32(offset, eight_i32(&x.sums[half])));
                for (r, lane) in lanes[b % 8].iter_mut().enumerate() {
                    let row = first + r;
                    let [mut a, mut b] = [halves[0][r], halves[1][r]];
                    if left != 0 {
                        a = _mm256_sub_epi32(a, taken[0]);
                        b = _mm256_sub_epi32(b, taken[1]);
                    }
                    if FACTORS {
                        a = _mm256_mullo_epi32(a, _mm256_set1_epi32(w.factors[0][row]));
                        b = _mm256_mullo_epi32(b, _mm256_set1_epi32(w.factors[1][row]));
                    }
                    let sum = _mm256_cvtepi32_ps(_mm256_add_epi32(a, b));
                    let scale = _mm256_mul_ps(_mm256_set1_ps(w.scales[row]), scales);
                    *lane = _mm256_fmadd_ps(scale, sum, *lane);
                    *lane = _mm256_fmadd_ps(_mm256_set1_ps(w.mins[row]), weighted, *lane);
                }
            }
            for r in 0..AT_ONCE {
                let [a, b, c, d] =
                    [0, 1, 2, 3].map(|i| _mm256_add_ps(lanes[i][r], lanes[i + 4][r]));
                let sum = _mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d));
                store_f32(&mut out[first + r].as_chunks_mut::<8>().0[side], sum);
            }
        }
    }
}

fn tile(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    // SAFETY: promise 1: this entry is only in the table that needs these features.
    unsafe {
        match panel.form() {
            Form { bits: 8, .. } => panel_tile::<true, false>(panel, x, out),
            // Of six bits on, eight products do not fit in 16 bits.
            Form { bits: 6.., .. } => panel_tile::<false, true>(panel, x, out),
            _ => panel_tile::<false, false>(panel, x, out),
        }
    }
}

pub(super) fn widen_f16(halves: &[u16], out: &mut [f32]) {
    #[target_feature(enable = "avx2,f16c")]
    fn compiled(halves: &[u16], out: &mut [f32]) {
        let (halves, rest) = halves.as_chunks::<8>();
        let (wide, last) = out.split_at_mut((halves.len() * 8).min(out.len()));
        for (out, halves) in wide.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
            // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
            let halves = unsafe { _mm_loadu_si128(halves.as_ptr().cast()) };
            store_f32(out, _mm256_cvtph_ps(halves));
        }
        for (out, half) in last.iter_mut().zip(rest) {
            *out = f16_to_f32(*half);
        }
    }
    // SAFETY: promise 1: this entry is in no table given out without these features.
    unsafe { compiled(halves, out) }
}
