//! Weights as MLX packs them: what they mean, in plain code that every other kernel is held to.

use super::bodies::FloatFormat;
use super::format::{BLOCK, Block, bf16_to_f32, f16_to_f32, u16_at, u32_at};

/// Rows of weights whose numbers, scales and biases lie apart.
///
/// Weight `i` of a row is `scale · number + bias`, with the scale and the bias of group
/// `i / group`. The numbers of a row follow each other bit by bit, the lowest first.
#[derive(Clone, Copy, Debug)]
pub struct PackedRows<'a> {
    /// Bits per number: 2, 3, 4, 6 or 8.
    pub bits: u8,
    /// Numbers that share a scale and a bias: 32, 64 or 128.
    pub group: usize,
    /// How scales and biases are stored.
    pub scale_format: FloatFormat,
    /// How many rows there are.
    pub rows: usize,
    /// Weights of a row; a multiple of `group`.
    pub cols: usize,
    /// The numbers, row after row.
    pub numbers: &'a [u8],
    /// The scales, row after row.
    pub scales: &'a [u8],
    /// The biases, row after row.
    pub biases: &'a [u8],
}

impl<'a> PackedRows<'a> {
    /// Whether numbers of so many bits, in groups of this size, are known here.
    #[must_use]
    pub const fn knows(bits: u8, group: usize) -> bool {
        matches!(bits, 2 | 3 | 4 | 6 | 8) && matches!(group, 32 | 64 | 128)
    }

    /// Blocks of 32 in a row.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.cols / BLOCK
    }

    /// Bytes of the numbers of a row.
    #[must_use]
    pub const fn row_bytes(&self) -> usize {
        self.cols / 8 * self.bits as usize
    }

    /// Bytes of the scales of a row, and of its biases.
    #[must_use]
    pub const fn scale_bytes(&self) -> usize {
        self.cols / self.group * self.scale_format.bytes()
    }

    /// The numbers of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    #[must_use]
    pub fn numbers_of(&self, row: usize) -> &'a [u8] {
        &self.numbers[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// The scales and the biases of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    #[must_use]
    pub fn scales_of(&self, row: usize) -> (&'a [u8], &'a [u8]) {
        let bytes = self.scale_bytes();
        (
            &self.scales[row * bytes..][..bytes],
            &self.biases[row * bytes..][..bytes],
        )
    }

    /// Unpacks block `index` (of 32 weights) of row `row`.
    ///
    /// # Panics
    /// If there is no such block.
    #[inline(always)]
    #[must_use]
    pub fn block(&self, row: usize, index: usize) -> Block {
        let bytes = 4 * usize::from(self.bits);
        let numbers = &self.numbers_of(row)[index * bytes..][..bytes];
        let (scales, biases) = self.scales_of(row);
        let group = index * BLOCK / self.group;
        Block {
            quants: unpack(self.bits, numbers),
            scale: float_at(self.scale_format, scales, group),
            min: float_at(self.scale_format, biases, group),
            factors: [1, 1],
        }
    }
}

/// Number `index` of an array.
#[inline(always)]
fn float_at(format: FloatFormat, bytes: &[u8], index: usize) -> f32 {
    let at = index * format.bytes();
    match format {
        FloatFormat::F32 => f32::from_bits(u32_at(bytes, at)),
        FloatFormat::F16 => f16_to_f32(u16_at(bytes, at)),
        FloatFormat::Bf16 => bf16_to_f32(u16_at(bytes, at)),
    }
}

/// 32 numbers of `bits` each.
#[inline(always)]
fn unpack(bits: u8, bytes: &[u8]) -> [u8; BLOCK] {
    match bits {
        2 => four_at_once::<2>(|i| u32::from(bytes[i])),
        3 => four_at_once::<3>(|i| {
            let from = i / 2 * 3 + i % 2;
            u32::from(u16_at(bytes, from)) >> (i % 2 * 4)
        }),
        4 => four_at_once::<4>(|i| u32::from(u16_at(bytes, 2 * i))),
        6 => four_at_once::<6>(|i| {
            u32::from(u16_at(bytes, 3 * i)) | u32::from(bytes[3 * i + 2]) << 16
        }),
        _ => {
            let mut numbers = [0; BLOCK];
            numbers.copy_from_slice(&bytes[..BLOCK]);
            numbers
        }
    }
}

/// `four(i)` has numbers `4i..4i + 4` in its lowest bits.
#[inline(always)]
fn four_at_once<const BITS: u32>(four: impl Fn(usize) -> u32) -> [u8; BLOCK] {
    let mut numbers = [0; BLOCK];
    for (i, numbers) in numbers.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let four = four(i);
        for (j, number) in numbers.iter_mut().enumerate() {
            *number = (four >> (BITS * j as u32) & ((1 << BITS) - 1)) as u8;
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other_bit_by_bit() {
        for bits in [2u8, 3, 4, 6, 8] {
            let expected: [u8; BLOCK] =
                std::array::from_fn(|i| (i * 37 + 11) as u8 & (0xff >> (8 - bits)));
            let mut bytes = vec![0u8; 4 * usize::from(bits)];
            for (i, number) in expected.iter().enumerate() {
                for bit in 0..usize::from(bits) {
                    let at = i * usize::from(bits) + bit;
                    bytes[at / 8] |= (number >> bit & 1) << (at % 8);
                }
            }
            assert_eq!(unpack(bits, &bytes), expected, "{bits} bits");
        }
    }

    #[test]
    fn groups_have_their_own_scales() {
        // 64 numbers of 8 bits in two groups of 32; the second row is the first one doubled.
        let numbers: Vec<u8> = (0..128).map(|i| (i % 64) as u8).collect();
        let halves = |values: [f32; 4]| -> Vec<u8> {
            let halves = values.map(|value| half::bf16::from_f32(value).to_le_bytes());
            halves.concat()
        };
        let (scales, biases) = (
            halves([0.5, 2.0, 1.0, 4.0]),
            halves([1.0, -8.0, 2.0, -16.0]),
        );
        let rows = PackedRows {
            bits: 8,
            group: 32,
            scale_format: FloatFormat::Bf16,
            rows: 2,
            cols: 64,
            numbers: &numbers,
            scales: &scales,
            biases: &biases,
        };
        for (row, index, scale, min) in [
            (0, 0, 0.5, 1.0),
            (0, 1, 2.0, -8.0),
            (1, 0, 1.0, 2.0),
            (1, 1, 4.0, -16.0),
        ] {
            let block = rows.block(row, index);
            assert_eq!((block.scale, block.min), (scale, min));
            assert_eq!(block.quants[3], 32 * index as u8 + 3);
        }
    }
}
