//! Reading weights and activations into 256-bit registers, and adding up what comes out.

use crate::kernels::format::{f16_to_f32, six_bits, u16_at};
use crate::kernels::{Format, Q8x8};
use std::arch::x86_64::*;

/// The formats as constants of generic functions.
pub(super) mod constant {
    pub(in super::super) const Q4_0: u8 = 0;
    pub(in super::super) const Q4_1: u8 = 1;
    pub(in super::super) const Q5_0: u8 = 2;
    pub(in super::super) const Q5_1: u8 = 3;
    pub(in super::super) const Q8_0: u8 = 4;
    pub(in super::super) const Q4K: u8 = 5;
    pub(in super::super) const Q5K: u8 = 6;
    pub(in super::super) const Q6K: u8 = 7;
}

/// The format behind a constant.
pub(super) const fn format(constant: u8) -> Format {
    Format::ALL[constant as usize]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(from: &[u8; 32]) -> __m256i {
    // SAFETY: promise 2: 32 borrowed bytes; the load is unaligned.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_quants(from: &[i8; 32]) -> __m256i {
    // SAFETY: promise 2: 32 borrowed bytes; the load is unaligned.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_half(from: &[u8; 16]) -> __m128i {
    // SAFETY: promise 2: 16 borrowed bytes; the load is unaligned.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_f32(from: &[f32; 8]) -> __m256 {
    // SAFETY: promise 2: 32 borrowed bytes; the load is unaligned.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_i32(from: &[i32; 8]) -> __m256i {
    // SAFETY: promise 2: 32 borrowed bytes; the load is unaligned.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store_f32(to: &mut [f32; 8], value: __m256) {
    // SAFETY: promise 2: 32 bytes, borrowed for writing; the store is unaligned.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
}

/// Bytes of the first `n` blocks of a chunk; all of it where blocks share a scale.
pub(super) const fn bytes_of(constant: u8, n: usize) -> usize {
    let format = format(constant);
    if format.unit() == 32 {
        n * format.unit_bytes()
    } else {
        format.unit_bytes()
    }
}

/// `N` bytes of a chunk.
#[inline]
pub(super) fn part<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    const fn none<const N: usize>() -> &'static [u8; N] {
        &[0; N]
    }
    // The caller has checked the length of the chunk, and all positions in it are constants: the
    // other arm is never taken, and is compiled away.
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .unwrap_or(none::<N>())
}

/// The 32 unsigned quants of block `j` of a chunk.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn quants<const F: u8>(chunk: &[u8], j: usize) -> __m256i {
    let unit = format(F).unit_bytes();
    let fifteen = _mm256_set1_epi8(15);
    match F {
        constant::Q4_0 => nibbles(part(chunk, j * unit + 2)),
        constant::Q4_1 => nibbles(part(chunk, j * unit + 4)),
        constant::Q5_0 => fifth(
            nibbles(part(chunk, j * unit + 6)),
            u32::from_le_bytes(*part(chunk, j * unit + 2)),
        ),
        constant::Q5_1 => fifth(
            nibbles(part(chunk, j * unit + 8)),
            u32::from_le_bytes(*part(chunk, j * unit + 4)),
        ),
        constant::Q8_0 => _mm256_xor_si256(load(part(chunk, j * unit + 2)), _mm256_set1_epi8(-128)),
        constant::Q4K | constant::Q5K => {
            let low = if F == constant::Q4K { 16 } else { 48 };
            let bytes = load(part(chunk, low + j / 2 * 32));
            let bytes = if j.is_multiple_of(2) {
                bytes
            } else {
                _mm256_srli_epi16::<4>(bytes)
            };
            let low = _mm256_and_si256(bytes, fifteen);
            if F == constant::Q4K {
                return low;
            }
            let bit = _mm256_set1_epi8((1u8 << (j % 8)) as i8);
            let set = _mm256_cmpeq_epi8(_mm256_and_si256(load(part(chunk, 16)), bit), bit);
            _mm256_or_si256(low, _mm256_and_si256(set, _mm256_set1_epi8(16)))
        }
        _ => {
            let (half, quarter) = (j / 4, j % 4);
            let low = load(part(chunk, half * 64 + quarter % 2 * 32));
            let low = if quarter < 2 {
                low
            } else {
                _mm256_srli_epi16::<4>(low)
            };
            let high = load(part(chunk, 128 + half * 32));
            let three = _mm256_set1_epi8(0x30);
            let high = match quarter {
                0 => _mm256_slli_epi16::<4>(high),
                1 => _mm256_slli_epi16::<2>(high),
                2 => high,
                _ => _mm256_srli_epi16::<2>(high),
            };
            _mm256_or_si256(
                _mm256_and_si256(low, fifteen),
                _mm256_and_si256(high, three),
            )
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let twice = _mm256_broadcastsi128_si256(load_half(bytes));
    let shifted = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

#[inline]
#[target_feature(enable = "avx2")]
fn fifth(quants: __m256i, bits: u32) -> __m256i {
    // Byte i / 8 of the bits to every byte i, then bit i % 8 of it.
    let spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(bits as i32),
        _mm256_setr_epi64x(
            0,
            0x0101_0101_0101_0101,
            0x0202_0202_0202_0202,
            0x0303_0303_0303_0303,
        ),
    );
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit);
    _mm256_or_si256(quants, _mm256_and_si256(set, _mm256_set1_epi8(16)))
}

/// Scales and minimums of the `N` blocks of a chunk; zero past them.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scales<const F: u8, const N: usize>(chunk: &[u8]) -> (__m256, __m256) {
    let unit = format(F).unit_bytes();
    match F {
        constant::Q4_1 | constant::Q5_1 => {
            let pair = |j: usize| match j {
                j if j < N => i32::from_le_bytes(*part(chunk, j * unit)),
                _ => 0,
            };
            let low = _mm_setr_epi32(pair(0), pair(1), pair(2), pair(3));
            let high = _mm_setr_epi32(pair(4), pair(5), pair(6), pair(7));
            let sixteen = _mm_set1_epi32(0xffff);
            let scales =
                _mm_packus_epi32(_mm_and_si128(low, sixteen), _mm_and_si128(high, sixteen));
            let mins = _mm_packus_epi32(_mm_srli_epi32::<16>(low), _mm_srli_epi32::<16>(high));
            (_mm256_cvtph_ps(scales), _mm256_cvtph_ps(mins))
        }
        constant::Q4_0 | constant::Q5_0 | constant::Q8_0 => {
            let half = |j: usize| match j {
                j if j < N => i16::from_le_bytes(*part(chunk, j * unit)),
                _ => 0,
            };
            let halves = _mm_setr_epi16(
                half(0),
                half(1),
                half(2),
                half(3),
                half(4),
                half(5),
                half(6),
                half(7),
            );
            (_mm256_cvtph_ps(halves), _mm256_setzero_ps())
        }
        constant::Q4K | constant::Q5K => {
            let (scales, mins) = six_bits(chunk);
            let scale = _mm256_set1_ps(f16_to_f32(u16_at(chunk, 0)));
            let min = _mm256_set1_ps(-f16_to_f32(u16_at(chunk, 2)));
            let wide = |bytes: [u8; 8]| {
                let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(bytes));
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
            };
            (
                _mm256_mul_ps(scale, wide(scales)),
                _mm256_mul_ps(min, wide(mins)),
            )
        }
        _ => (
            _mm256_set1_ps(f16_to_f32(u16_at(chunk, 208))),
            _mm256_setzero_ps(),
        ),
    }
}

/// The factors of both halves of the eight blocks of a Q6_K chunk.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn factors(chunk: &[u8]) -> (__m256i, __m256i) {
    let both = load_half(part(chunk, 192));
    let split = _mm_shuffle_epi8(
        both,
        _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15),
    );
    (
        _mm256_cvtepi8_epi32(split),
        _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(split, split)),
    )
}

/// Lane `j` = the sum of the lanes of `p[j]`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sums(p: [__m256i; 8]) -> __m256i {
    let fold = |a: __m256i, b: __m256i| {
        _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b))
    };
    let fold2 = |a: __m256i, b: __m256i| {
        _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b))
    };
    let low = fold2(fold(p[0], p[1]), fold(p[2], p[3]));
    let high = fold2(fold(p[4], p[5]), fold(p[6], p[7]));
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

/// What the quants' offset and the halves' factors make of the sums of a chunk.
///
/// For formats with factors, `products` are already multiplied by them.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn settle<const F: u8>(products: __m256i, chunk: &[u8], x: &Q8x8) -> __m256i {
    let (first, second) = (load_i32(&x.sums[0]), load_i32(&x.sums[1]));
    match F {
        constant::Q4_1 | constant::Q5_1 | constant::Q4K | constant::Q5K => products,
        constant::Q6K => {
            let (f0, f1) = factors(chunk);
            let taken = _mm256_add_epi32(
                _mm256_mullo_epi32(f0, first),
                _mm256_mullo_epi32(f1, second),
            );
            _mm256_sub_epi32(products, _mm256_slli_epi32::<5>(taken))
        }
        _ => {
            let sum = _mm256_add_epi32(first, second);
            let taken = match F {
                constant::Q4_0 => _mm256_slli_epi32::<3>(sum),
                constant::Q5_0 => _mm256_slli_epi32::<4>(sum),
                _ => _mm256_slli_epi32::<7>(sum),
            };
            _mm256_sub_epi32(products, taken)
        }
    }
}

/// Lanes 0..4 = factor of the first half of block `j`, 4..8 = of the second.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn factor_lanes(chunk: &[u8], j: usize) -> __m256i {
    let [first, second] = *part::<2>(chunk, 192 + 2 * j);
    let (first, second) = (i32::from(first as i8), i32::from(second as i8));
    _mm256_setr_m128i(_mm_set1_epi32(first), _mm_set1_epi32(second))
}

/// Eight partial sums, added in the order of [`crate::kernels::panel::tree`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn tree(lanes: __m256) -> f32 {
    let four = _mm_add_ps(
        _mm256_castps256_ps128(lanes),
        _mm256_extractf128_ps::<1>(lanes),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
