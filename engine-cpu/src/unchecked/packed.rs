//! Packed weights in 256-bit registers: their numbers and scales, and the loop over rows.

use super::blocks::{load, load_half, part};
use crate::kernels::FloatFormat;
use std::arch::x86_64::*;

/// The 32 numbers of block `j` of a chunk of eight blocks, which takes `32 * BITS` bytes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn numbers<const BITS: u8>(chunk: &[u8], j: usize) -> __m256i {
    let at = 4 * BITS as usize * j;
    match BITS {
        2 => {
            let eight = _mm_cvtsi64_si128(i64::from_le_bytes(*part(chunk, at)));
            spread::<2>(_mm256_cvtepu8_epi32(eight))
        }
        3 => {
            // Twelve bits for each lane begin at a byte or in the middle of one.
            let twelve = _mm_set_epi64x(
                i64::from(u32::from_le_bytes(*part(chunk, at + 8))),
                i64::from_le_bytes(*part(chunk, at)),
            );
            let pairs = _mm256_shuffle_epi8(
                _mm256_broadcastsi128_si256(twelve),
                _mm256_setr_epi8(
                    0, 1, -1, -1, 1, 2, -1, -1, 3, 4, -1, -1, 4, 5, -1, -1, //
                    6, 7, -1, -1, 7, 8, -1, -1, 9, 10, -1, -1, 10, 11, -1, -1,
                ),
            );
            let shifts = _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4);
            spread::<3>(_mm256_srlv_epi32(pairs, shifts))
        }
        4 => {
            // A byte holds two neighbours: one to the lower byte of sixteen bits, one to the upper.
            let wide = _mm256_cvtepu8_epi16(load_half(part(chunk, at)));
            let both = _mm256_or_si256(wide, _mm256_slli_epi16::<4>(wide));
            _mm256_and_si256(both, _mm256_set1_epi8(15))
        }
        6 => {
            // Three bytes for each lane; the upper half begins at byte 12 of 24.
            let (low, high) = (part(chunk, at), part(chunk, at + 8));
            let threes = _mm256_shuffle_epi8(
                _mm256_setr_m128i(load_half(low), load_half(high)),
                _mm256_setr_epi8(
                    0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, //
                    4, 5, 6, -1, 7, 8, 9, -1, 10, 11, 12, -1, 13, 14, 15, -1,
                ),
            );
            spread::<6>(threes)
        }
        _ => load(part(chunk, at)),
    }
}

/// Four numbers of `BITS` bits at the bottom of each lane, to a byte each.
#[inline]
#[target_feature(enable = "avx2")]
fn spread<const BITS: i32>(v: __m256i) -> __m256i {
    let mask = (1 << BITS) - 1;
    let place = |v: __m256i, byte: i32| _mm256_and_si256(v, _mm256_set1_epi32(mask << (8 * byte)));
    let shift = |by: i32| _mm256_sll_epi32(v, _mm_cvtsi32_si128(by * (8 - BITS)));
    _mm256_or_si256(
        _mm256_or_si256(place(v, 0), place(shift(1), 1)),
        _mm256_or_si256(place(shift(2), 2), place(shift(3), 3)),
    )
}

/// Which scale each of the eight blocks of a chunk has, counted from the chunk's first.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn scale_lanes(group: usize) -> __m256i {
    match group {
        32 => _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
        64 => _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3),
        _ => _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1),
    }
}

/// The scales of the eight blocks of a chunk; `bytes` begin with its first, and what lies past
/// their end is zero.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scales(format: FloatFormat, bytes: &[u8], lanes: __m256i) -> __m256 {
    let wide = match format {
        FloatFormat::F32 => _mm256_castsi256_ps(load(&first(bytes))),
        FloatFormat::F16 => _mm256_cvtph_ps(load_half(&first(bytes))),
        FloatFormat::Bf16 => {
            let wide = _mm256_cvtepu16_epi32(load_half(&first(bytes)));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    };
    _mm256_permutevar8x32_ps(wide, lanes)
}

/// The first `N` bytes, with zeros where there are fewer.
#[inline]
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    if let Some(first) = bytes.first_chunk() {
        return *first;
    }
    let mut padded = [0; N];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}

/// Defines `packed_matvec` for `$features`, where `$products::<BITS>(w, x)` gives eight sums that
/// together are the product of 32 unsigned numbers and 32 signed ones.
macro_rules! packed_matvec_for {
    ($features:literal, $products:ident) => {
        /// The first `blocks` blocks of a chunk; all eight nearly always.
        #[inline]
        #[target_feature(enable = $features)]
        fn packed_chunk<const BITS: u8>(
            (blocks, bytes): (usize, &[u8]),
            (scales, mins): (__m256, __m256),
            x: &Q8x8,
            lanes: __m256,
        ) -> __m256 {
            assert!(
                bytes.len() >= 4 * BITS as usize * blocks,
                "a chunk has its blocks"
            );
            let mut p = [_mm256_setzero_si256(); 8];
            for (j, p) in p.iter_mut().enumerate().take(blocks) {
                let numbers = super::packed::numbers::<BITS>(bytes, j);
                *p = $products::<BITS>(numbers, load_quants(&x.quants[j]));
            }
            let scales = _mm256_mul_ps(scales, load_f32(&x.scales));
            let lanes = _mm256_fmadd_ps(scales, _mm256_cvtepi32_ps(sums(p)), lanes);
            _mm256_fmadd_ps(mins, load_f32(&x.weighted), lanes)
        }

        #[target_feature(enable = $features)]
        fn packed_rows<const BITS: u8>(weights: &PackedRows<'_>, x: &[Q8x8], out: &mut [f32]) {
            let size = 32 * BITS as usize;
            let (format, group) = (weights.scale_format, weights.group);
            let (row_scales, chunk_scales) = (weights.scale_bytes(), 256 / group * format.bytes());
            let spread = super::packed::scale_lanes(group);
            for (r, out) in out.iter_mut().enumerate() {
                let mut lanes = _mm256_setzero_ps();
                let chunks = weights.numbers_of(r).chunks_exact(size);
                let (whole, rest) = (chunks.len(), chunks.remainder());
                for (c, (bytes, x)) in chunks.zip(x).enumerate() {
                    // Beyond the chunk's own scales come others, which no lane takes.
                    let at = r * row_scales + c * chunk_scales;
                    let scales = super::packed::scales(format, &weights.scales[at..], spread);
                    let mins = super::packed::scales(format, &weights.biases[at..], spread);
                    lanes = packed_chunk::<BITS>((8, bytes), (scales, mins), x, lanes);
                }
                if let (false, Some(x)) = (rest.is_empty(), x.get(whole)) {
                    let (scales, biases) = weights.scales_of(r);
                    let at = whole * chunk_scales;
                    let scales = super::packed::scales(format, &scales[at..], spread);
                    let mins = super::packed::scales(format, &biases[at..], spread);
                    let rest = (rest.len() / (4 * BITS as usize), rest);
                    lanes = packed_chunk::<BITS>(rest, (scales, mins), x, lanes);
                }
                *out = tree(lanes);
            }
        }

        fn packed_matvec(weights: &PackedRows<'_>, x: &[Q8x8], out: &mut [f32]) {
            // SAFETY: promise 1: this entry is only in the table that needs these features.
            unsafe {
                match weights.bits {
                    2 => packed_rows::<2>(weights, x, out),
                    3 => packed_rows::<3>(weights, x, out),
                    4 => packed_rows::<4>(weights, x, out),
                    6 => packed_rows::<6>(weights, x, out),
                    _ => packed_rows::<8>(weights, x, out),
                }
            }
        }
    };
}
