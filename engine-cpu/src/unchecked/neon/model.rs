//! The NEON instructions in plain code, so that every machine can test the kernels made of them.
//!
//! Names, arguments and results are those of `std::arch::aarch64`; what they do is taken from the
//! pseudocode of the architecture's reference.

#![allow(non_camel_case_types, reason = "the names are ARM's")]

macro_rules! vectors {
    ($($name:ident = [$element:ty; $count:literal];)*) => {
        $(
            #[derive(Clone, Copy, Debug)]
            pub(super) struct $name([$element; $count]);
        )*
    };
}

vectors! {
    int8x8_t = [i8; 8];
    int8x16_t = [i8; 16];
    uint8x16_t = [u8; 16];
    int16x8_t = [i16; 8];
    int32x4_t = [i32; 4];
    float32x4_t = [f32; 4];
}

use std::array::from_fn;

pub(super) unsafe fn vld1q_s8(from: *const i8) -> int8x16_t {
    // SAFETY: the caller's promise, which is the instruction's: 16 readable bytes.
    int8x16_t(unsafe { from.cast::<[i8; 16]>().read_unaligned() })
}

pub(super) unsafe fn vld1q_u8(from: *const u8) -> uint8x16_t {
    // SAFETY: the caller's promise, which is the instruction's: 16 readable bytes.
    uint8x16_t(unsafe { from.cast::<[u8; 16]>().read_unaligned() })
}

pub(super) unsafe fn vld1q_s32(from: *const i32) -> int32x4_t {
    // SAFETY: the caller's promise, which is the instruction's: 16 readable bytes.
    int32x4_t(unsafe { from.cast::<[i32; 4]>().read_unaligned() })
}

pub(super) unsafe fn vld1q_f32(from: *const f32) -> float32x4_t {
    // SAFETY: the caller's promise, which is the instruction's: 16 readable bytes.
    float32x4_t(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
}

pub(super) unsafe fn vst1q_f32(to: *mut f32, value: float32x4_t) {
    // SAFETY: the caller's promise, which is the instruction's: 16 writable bytes.
    unsafe { to.cast::<[f32; 4]>().write_unaligned(value.0) }
}

pub(super) fn vdupq_n_u8(value: u8) -> uint8x16_t {
    uint8x16_t([value; 16])
}

pub(super) fn vdupq_n_s32(value: i32) -> int32x4_t {
    int32x4_t([value; 4])
}

pub(super) fn vdupq_n_f32(value: f32) -> float32x4_t {
    float32x4_t([value; 4])
}

pub(super) fn vreinterpretq_s8_u8(a: uint8x16_t) -> int8x16_t {
    int8x16_t(a.0.map(|byte| byte as i8))
}

pub(super) fn vreinterpretq_u8_s32(a: int32x4_t) -> uint8x16_t {
    uint8x16_t(from_fn(|i| a.0[i / 4].to_le_bytes()[i % 4]))
}

pub(super) fn vsubq_u8(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
    uint8x16_t(from_fn(|i| a.0[i].wrapping_sub(b.0[i])))
}

pub(super) fn vget_low_s8(a: int8x16_t) -> int8x8_t {
    int8x8_t(from_fn(|i| a.0[i]))
}

pub(super) fn vmull_s8(a: int8x8_t, b: int8x8_t) -> int16x8_t {
    int16x8_t(from_fn(|i| i16::from(a.0[i]) * i16::from(b.0[i])))
}

pub(super) fn vmull_high_s8(a: int8x16_t, b: int8x16_t) -> int16x8_t {
    int16x8_t(from_fn(|i| i16::from(a.0[i + 8]) * i16::from(b.0[i + 8])))
}

pub(super) fn vpaddq_s16(a: int16x8_t, b: int16x8_t) -> int16x8_t {
    let pair = |from: &[i16; 8], i: usize| from[2 * i].wrapping_add(from[2 * i + 1]);
    int16x8_t(from_fn(|i| {
        if i < 4 {
            pair(&a.0, i)
        } else {
            pair(&b.0, i - 4)
        }
    }))
}

pub(super) fn vpaddlq_s16(a: int16x8_t) -> int32x4_t {
    int32x4_t(from_fn(|i| {
        i32::from(a.0[2 * i]) + i32::from(a.0[2 * i + 1])
    }))
}

pub(super) fn vpadalq_s16(a: int32x4_t, b: int16x8_t) -> int32x4_t {
    int32x4_t(from_fn(|i| a.0[i].wrapping_add(vpaddlq_s16(b).0[i])))
}

pub(super) fn vaddvq_s32(a: int32x4_t) -> i32 {
    a.0.iter().fold(0, |sum, value| sum.wrapping_add(*value))
}

pub(super) fn vmlaq_s32(a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t {
    int32x4_t(from_fn(|i| {
        a.0[i].wrapping_add(b.0[i].wrapping_mul(c.0[i]))
    }))
}

pub(super) fn vcvtq_f32_s32(a: int32x4_t) -> float32x4_t {
    float32x4_t(a.0.map(|value| value as f32))
}

pub(super) fn vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    float32x4_t(from_fn(|i| a.0[i] * b.0[i]))
}

pub(super) fn vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    float32x4_t(from_fn(|i| a.0[i] + b.0[i]))
}

pub(super) fn vfmaq_f32(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    float32x4_t(from_fn(|i| b.0[i].mul_add(c.0[i], a.0[i])))
}
