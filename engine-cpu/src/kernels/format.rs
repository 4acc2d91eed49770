//! The weight formats: what their blocks mean, in plain code that every other kernel is held to.

/// A weight format whose blocks multiply with 8-bit activations.
///
/// Whatever the layout in the file, 32 consecutive weights are
/// `scale · (quant − offset) + min` with unsigned 8-bit quants; [`Format::Q6K`] has in addition one
/// integer factor for each half of the 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32 weights in 18 bytes: f16 scale, 4-bit quants, offset 8.
    Q4_0,
    /// 32 weights in 20 bytes: f16 scale and minimum, 4-bit quants.
    Q4_1,
    /// 32 weights in 22 bytes: f16 scale, fifth bits, 4-bit quants, offset 16.
    Q5_0,
    /// 32 weights in 24 bytes: f16 scale and minimum, fifth bits, 4-bit quants.
    Q5_1,
    /// 32 weights in 34 bytes: f16 scale, signed 8-bit quants.
    Q8_0,
    /// 256 weights in 144 bytes: f16 scale and minimum, eight 6-bit pairs of them, 4-bit quants.
    Q4K,
    /// 256 weights in 176 bytes: as [`Format::Q4K`] with fifth bits.
    Q5K,
    /// 256 weights in 210 bytes: low 4 and high 2 bits, sixteen 8-bit factors, f16 scale.
    Q6K,
}

/// Weights in one [`Block`].
pub const BLOCK: usize = 32;

/// 32 weights, unpacked: weight `i` is
/// `scale · factors[i / 16] · (quants[i] − offset) + min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    /// The unsigned quants.
    pub quants: [u8; BLOCK],
    /// The scale.
    pub scale: f32,
    /// What is added to every weight.
    pub min: f32,
    /// Integer factors of the two halves; one except in [`Format::Q6K`].
    pub factors: [i32; 2],
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// Weights that are stored together.
    #[must_use]
    pub const fn unit(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => BLOCK,
            Self::Q4K | Self::Q5K | Self::Q6K => 8 * BLOCK,
        }
    }

    /// Bytes of one [`Format::unit`].
    #[must_use]
    pub const fn unit_bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of eight blocks.
    #[must_use]
    pub const fn chunk_bytes(self) -> usize {
        self.unit_bytes() * (8 * BLOCK / self.unit())
    }

    /// What is taken off every quant.
    #[must_use]
    pub const fn offset(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q8_0 => 128,
            Self::Q6K => 32,
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => 0,
        }
    }

    /// Whether blocks have a minimum.
    #[must_use]
    pub const fn has_min(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K)
    }

    /// Bytes of a row of `cols` weights; `cols` is a multiple of [`Format::unit`].
    #[must_use]
    pub const fn row_bytes(self, cols: usize) -> usize {
        cols / self.unit() * self.unit_bytes()
    }

    /// Unpacks block `index` (of 32 weights) of a row.
    ///
    /// # Panics
    /// If the row has no such block.
    #[inline(always)]
    #[must_use]
    pub fn block(self, row: &[u8], index: usize) -> Block {
        let bytes = self.unit_bytes();
        let (unit, sub) = if self.unit() == BLOCK {
            (index, 0)
        } else {
            (index / 8, index % 8)
        };
        let unit = &row[unit * bytes..][..bytes];
        match self {
            Self::Q4_0 => plain(f16_at(unit, 0), 0.0, nibbles(&unit[2..])),
            Self::Q4_1 => plain(f16_at(unit, 0), f16_at(unit, 2), nibbles(&unit[4..])),
            Self::Q5_0 => plain(
                f16_at(unit, 0),
                0.0,
                fifth(nibbles(&unit[6..]), u32_at(unit, 2)),
            ),
            Self::Q5_1 => plain(
                f16_at(unit, 0),
                f16_at(unit, 2),
                fifth(nibbles(&unit[8..]), u32_at(unit, 4)),
            ),
            Self::Q8_0 => {
                let mut quants = [0; BLOCK];
                for (quant, byte) in quants.iter_mut().zip(&unit[2..]) {
                    *quant = byte ^ 0x80;
                }
                plain(f16_at(unit, 0), 0.0, quants)
            }
            Self::Q4K | Self::Q5K => {
                let (scales, mins) = six_bits(unit);
                let (scale, min) = (f16_at(unit, 0), f16_at(unit, 2));
                let low = if matches!(self, Self::Q4K) { 16 } else { 48 };
                let shift = 4 * (sub % 2);
                let mut quants = [0; BLOCK];
                for (quant, byte) in quants.iter_mut().zip(&unit[low + sub / 2 * 32..]) {
                    *quant = byte >> shift & 15;
                }
                if matches!(self, Self::Q5K) {
                    for (quant, byte) in quants.iter_mut().zip(&unit[16..48]) {
                        *quant |= (byte >> sub & 1) << 4;
                    }
                }
                plain(
                    scale * f32::from(scales[sub]),
                    -(min * f32::from(mins[sub])),
                    quants,
                )
            }
            Self::Q6K => {
                let (half, quarter) = (sub / 4, sub % 4);
                let low = &unit[half * 64 + quarter % 2 * 32..];
                let high = &unit[128 + half * 32..];
                let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                let mut quants = [0; BLOCK];
                for ((quant, low), high) in quants.iter_mut().zip(low).zip(high) {
                    *quant = (low >> low_shift & 15) | (high >> high_shift & 3) << 4;
                }
                let factor = |i: usize| i32::from(unit[192 + half * 8 + quarter * 2 + i] as i8);
                Block {
                    quants,
                    scale: f16_at(unit, 208),
                    min: 0.0,
                    factors: [factor(0), factor(1)],
                }
            }
        }
    }
}

#[inline(always)]
fn plain(scale: f32, min: f32, quants: [u8; BLOCK]) -> Block {
    Block {
        quants,
        scale,
        min,
        factors: [1, 1],
    }
}

/// Low nibbles are the first half of the block, high ones the second.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    let mut quants = [0; BLOCK];
    let (low, high) = quants.split_at_mut(BLOCK / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&bytes[..BLOCK / 2]) {
        *low = byte & 15;
        *high = byte >> 4;
    }
    quants
}

#[inline(always)]
fn fifth(mut quants: [u8; BLOCK], bits: u32) -> [u8; BLOCK] {
    for (i, quant) in quants.iter_mut().enumerate() {
        *quant |= ((bits >> i & 1) as u8) << 4;
    }
    quants
}

/// The eight scales and eight minimums of a 256-weight unit, 6 bits each in bytes 4..16.
#[inline(always)]
#[must_use]
pub fn six_bits(unit: &[u8]) -> ([u8; 8], [u8; 8]) {
    let (a, b, c) = (u32_at(unit, 4), u32_at(unit, 8), u32_at(unit, 12));
    let scales = [
        a & 0x3f3f_3f3f,
        (c & 0x0f0f_0f0f) | (a >> 6 & 0x0303_0303) << 4,
    ];
    let mins = [
        b & 0x3f3f_3f3f,
        (c >> 4 & 0x0f0f_0f0f) | (b >> 6 & 0x0303_0303) << 4,
    ];
    let bytes = |words: [u32; 2]| (u64::from(words[0]) | u64::from(words[1]) << 32).to_le_bytes();
    (bytes(scales), bytes(mins))
}

#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16_at(bytes, at))
}

/// Half to single precision, exact. Without a branch, so that loops over it become vectors.
#[inline(always)]
#[must_use]
pub fn f16_to_f32(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    // Read as an f32 the exponent is 112 too small; the product repairs normals and subnormals,
    // and an exponent of all ones (infinity, NaN) gets the rest of the way by hand.
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let special = if half & 0x7c00 == 0x7c00 {
        0x7f80_0000
    } else {
        0
    };
    f32::from_bits(scaled.to_bits() | special | u32::from(half & 0x8000) << 16)
}

/// The upper half of an `f32`, exact.
#[inline(always)]
#[must_use]
pub fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}
