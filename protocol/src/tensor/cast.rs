//! Floats of one width as floats of another, as IEEE 754 has it: to the nearest, ties to even, what
//! is too large to infinity, a NaN to a quiet one with the same first bits.

use super::{DType, Tensor};
use alloc::vec::Vec;
use bytes::Bytes;

/// The sign of a 16-bit float.
const SIGN: u16 = 0x8000;

impl Tensor {
    /// The same values as another of the types in which hidden states travel: `float32`, `float16`
    /// and `bfloat16`. `None` from or to any other type; the same type is the same tensor.
    #[must_use]
    pub fn cast(&self, to: DType) -> Option<Self> {
        let from = self.dtype;
        let data = match (from, to) {
            (DType::F32 | DType::F16 | DType::Bf16, _) if from == to => return Some(self.clone()),
            (DType::F32, DType::F16) => self.narrowed(f32_to_f16),
            (DType::F32, DType::Bf16) => self.narrowed(f32_to_bf16),
            (DType::F16, DType::F32) => self.widened(f16_to_f32),
            (DType::Bf16, DType::F32) => self.widened(bf16_to_f32),
            (DType::F16, DType::Bf16) => self.changed(|bits| f32_to_bf16(f16_to_f32(bits))),
            (DType::Bf16, DType::F16) => self.changed(|bits| f32_to_f16(bf16_to_f32(bits))),
            _ => return None,
        };
        Some(Self {
            dtype: to,
            family: self.family,
            shape: self.shape.clone(),
            data,
        })
    }

    fn narrowed(&self, each: impl Fn(u32) -> u16) -> Bytes {
        self.mapped(|bits| each(u32::from_le_bytes(bits)).to_le_bytes())
    }

    fn widened(&self, each: impl Fn(u16) -> u32) -> Bytes {
        self.mapped(|bits| each(u16::from_le_bytes(bits)).to_le_bytes())
    }

    fn changed(&self, each: impl Fn(u16) -> u16) -> Bytes {
        self.mapped(|bits| each(u16::from_le_bytes(bits)).to_le_bytes())
    }

    fn mapped<const N: usize, const M: usize>(&self, each: impl Fn([u8; N]) -> [u8; M]) -> Bytes {
        let (elements, _) = self.data.as_chunks::<N>();
        let data: Vec<[u8; M]> = elements.iter().map(|element| each(*element)).collect();
        Bytes::from(data.into_flattened())
    }
}

/// The bits of the `float16` next to a `float32`.
fn f32_to_f16(bits: u32) -> u16 {
    /// Infinity.
    const INFINITY: u32 = 0x7f80_0000;
    /// 2^16: everything from here on rounds to infinity, and below it the carry does it.
    const BEYOND: u32 = (127 + 16) << 23;
    /// 2^-14, the least normal `float16`.
    const NORMAL: u32 = (127 - 14) << 23;
    /// 0.5: a `float32` of this size has the last place of a subnormal `float16`, so adding it
    /// rounds as wanted.
    const HALF: u32 = 126 << 23;

    let sign = (bits >> 16) as u16 & SIGN;
    let magnitude = bits & 0x7fff_ffff;
    let narrow = if magnitude > INFINITY {
        0x7e00 | (magnitude >> 13) & 0x3ff
    } else if magnitude >= BEYOND {
        0x7c00
    } else if magnitude < NORMAL {
        (f32::from_bits(magnitude) + f32::from_bits(HALF)).to_bits() - HALF
    } else {
        // The bias of the exponent, and the rest rounded into the last of the bits that stay.
        let odd = (magnitude >> 13) & 1;
        (magnitude - ((127 - 15) << 23) + 0xfff + odd) >> 13
    };
    sign | narrow as u16
}

/// The bits of the `float32` that a `float16` is.
fn f16_to_f32(bits: u16) -> u32 {
    /// The last place of a subnormal `float16`, 2^-24.
    const LEAST: u32 = (127 - 24) << 23;

    let sign = u32::from(bits & SIGN) << 16;
    let magnitude = u32::from(bits & !SIGN);
    let wide = match magnitude {
        0x7c01.. => 0x7fc0_0000 | (magnitude << 13),
        0x7c00 => 0x7f80_0000,
        0x0400.. => (magnitude << 13) + ((127 - 15) << 23),
        subnormal => (subnormal as f32 * f32::from_bits(LEAST)).to_bits(),
    };
    sign | wide
}

/// The bits of the `bfloat16` next to a `float32`.
fn f32_to_bf16(bits: u32) -> u16 {
    if f32::from_bits(bits).is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    // Cannot overflow: without the sign nothing is above the bits of infinity.
    let odd = (bits >> 16) & 1;
    ((bits + 0x7fff + odd) >> 16) as u16
}

/// The bits of the `float32` that a `bfloat16` is.
fn bf16_to_f32(bits: u16) -> u32 {
    let wide = u32::from(bits) << 16;
    if f32::from_bits(wide).is_nan() {
        return wide | 0x40_0000;
    }
    wide
}

#[cfg(test)]
mod tests;
