//! AVX-512 with VNNI: byte products are one instruction, sixteen tokens one register.

use super::blocks::*;
use crate::kernels::{Form, Format, Kernels, PackedRows, Panel, Q8x8, Q8x16, ROWS, Tile};
use std::arch::x86_64::*;

compiled_for!("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");
packed_matvec_for!(
    "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
    packed_products
);

pub(super) static KERNELS: Kernels = Kernels {
    name: "avx512-vnni",
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
    widen_f16: super::avx2::widen_f16,
};

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn packed_products<const BITS: u8>(w: __m256i, x: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(_mm256_setzero_si256(), w, x)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn chunk<const F: u8, const N: usize>(bytes: &[u8], x: &Q8x8, lanes: __m256) -> __m256 {
    assert!(bytes.len() >= bytes_of(F, N), "a chunk has its blocks");
    let mut p = [_mm256_setzero_si256(); 8];
    for (j, p) in p.iter_mut().enumerate().take(N) {
        let zero = _mm256_setzero_si256();
        *p = _mm256_dpbusd_epi32(zero, quants::<F>(bytes, j), load_quants(&x.quants[j]));
        if F == constant::Q6K {
            *p = _mm256_mullo_epi32(*p, factor_lanes(bytes, j));
        }
    }
    let sums = settle::<F>(sums(p), bytes, x);
    let (scales, mins) = scales::<F, N>(bytes);
    let scales = _mm256_mul_ps(scales, load_f32(&x.scales));
    let lanes = _mm256_fmadd_ps(scales, _mm256_cvtepi32_ps(sums), lanes);
    if format(F).has_min() {
        _mm256_fmadd_ps(mins, load_f32(&x.weighted), lanes)
    } else {
        lanes
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
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

#[inline]
#[target_feature(enable = "avx512f")]
fn load16_f32(from: &[f32; 16]) -> __m512 {
    // SAFETY: promise 2: 64 borrowed bytes; the load is unaligned.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load16_i32(from: &[i32; 16]) -> __m512i {
    // SAFETY: promise 2: 64 borrowed bytes; the load is unaligned.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load16_quants(from: &[[i8; 4]; 16]) -> __m512i {
    // SAFETY: promise 2: 64 borrowed bytes; the load is unaligned.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store16_f32(to: &mut [f32; 16], value: __m512) {
    // SAFETY: promise 2: 64 bytes, borrowed for writing; the store is unaligned.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn panel_tile<const MINS: bool, const FACTORS: bool>(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    let offset = _mm512_set1_epi32(panel.form().offset);
    let mut lanes = [[_mm512_setzero_ps(); ROWS]; 8];
    for (b, (w, x)) in panel.blocks().iter().zip(x).enumerate() {
        let zero = _mm512_setzero_si512();
        let mut sums = [zero; ROWS];
        let mut seconds = [zero; ROWS];
        for s in 0..8 {
            let x = load16_quants(&x.quants[s]);
            for r in 0..ROWS {
                let four = w.quants[r].as_chunks::<4>().0[s];
                let w = _mm512_set1_epi32(i32::from_le_bytes(four));
                let sum = if FACTORS && s >= 4 {
                    &mut seconds[r]
                } else {
                    &mut sums[r]
                };
                *sum = _mm512_dpbusd_epi32(*sum, w, x);
            }
        }
        let scales = load16_f32(&x.scales);
        let taken = [0, 1].map(|half| _mm512_mullo_epi32(offset, load16_i32(&x.sums[half])));
        let both = _mm512_add_epi32(taken[0], taken[1]);
        for (r, lane) in lanes[b % 8].iter_mut().enumerate() {
            let sum = if FACTORS {
                let first = _mm512_sub_epi32(sums[r], taken[0]);
                let second = _mm512_sub_epi32(seconds[r], taken[1]);
                _mm512_add_epi32(
                    _mm512_mullo_epi32(first, _mm512_set1_epi32(w.factors[0][r])),
                    _mm512_mullo_epi32(second, _mm512_set1_epi32(w.factors[1][r])),
                )
            } else if MINS {
                sums[r]
            } else {
                _mm512_sub_epi32(sums[r], both)
            };
            let scale = _mm512_mul_ps(_mm512_set1_ps(w.scales[r]), scales);
            *lane = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(sum), *lane);
            if MINS {
                let min = _mm512_set1_ps(w.mins[r]);
                *lane = _mm512_fmadd_ps(min, load16_f32(&x.weighted), *lane);
            }
        }
    }
    for (r, out) in out.iter_mut().enumerate() {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| _mm512_add_ps(lanes[i][r], lanes[i + 4][r]));
        store16_f32(out, _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d)));
    }
}

fn tile(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    // SAFETY: promise 1: this entry is only in the table that needs these features.
    unsafe {
        match panel.form() {
            Form { factors: true, .. } => panel_tile::<false, true>(panel, x, out),
            Form { mins: true, .. } => panel_tile::<true, false>(panel, x, out),
            _ => panel_tile::<false, false>(panel, x, out),
        }
    }
}
