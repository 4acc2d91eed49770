//! ggml's quantised blocks: as MLX's packing where that holds the same numbers, and as floats.
//!
//! Facts about the layouts are ggml's (`ggml-quants.c`); every 32 consecutive elements of all but
//! `Q6_K` are `scale * number + bias` with unsigned numbers.

use exo_models::{Packing, WeightKind};
use half::f16;

/// Elements that share a scale and a bias.
pub(crate) const GROUP: usize = 32;

/// 32 elements: element `i` is `scale * numbers[i] + bias`.
struct Group {
    numbers: [u8; GROUP],
    scale: f32,
    bias: f32,
}

/// A quantised matrix in MLX's packing.
pub(crate) struct Packed {
    /// Rows of numbers, bit after bit, lowest first.
    pub(crate) numbers: Vec<u8>,
    /// One for each group.
    pub(crate) scales: Vec<f32>,
    /// The same.
    pub(crate) biases: Vec<f32>,
}

/// How MLX packs a kind of ggml's without losing anything; `None` if it cannot.
///
/// Five bits are packed as eight.
pub(crate) fn packing(kind: WeightKind) -> Option<Packing> {
    let bits = match kind {
        WeightKind::Q4_0 | WeightKind::Q4_1 | WeightKind::Q4K => 4,
        WeightKind::Q5_0 | WeightKind::Q5_1 | WeightKind::Q5K | WeightKind::Q8_0 => 8,
        _ => return None,
    };
    let group = GROUP as u16;
    Some(Packing { group, bits })
}

/// Packs blocks of `kind` for MLX; `None` for a kind without [`packing`]. Bytes after the last
/// whole block are left out.
pub(crate) fn pack(kind: WeightKind, data: &[u8]) -> Option<Packed> {
    let packing = packing(kind)?;
    let (elements, bytes) = kind.block();
    let groups = data.len() / bytes * (elements / GROUP);
    let mut packed = Packed {
        numbers: Vec::with_capacity(groups * GROUP * usize::from(packing.bits) / 8),
        scales: Vec::with_capacity(groups),
        biases: Vec::with_capacity(groups),
    };
    for block in data.chunks_exact(bytes) {
        for part in 0..elements / GROUP {
            let group = group(kind, block, part)?;
            if packing.bits == 4 {
                let pairs = group.numbers.as_chunks::<2>().0;
                let bytes = pairs.iter().map(|[low, high]| low | high << 4);
                packed.numbers.extend(bytes);
            } else {
                packed.numbers.extend(group.numbers);
            }
            packed.scales.push(group.scale);
            packed.biases.push(group.bias);
        }
    }
    Some(packed)
}

/// The elements of blocks of `kind`; `None` for a kind that has none. Bytes after the last whole
/// block are left out.
pub(crate) fn floats(kind: WeightKind, data: &[u8]) -> Option<Vec<f32>> {
    let (elements, bytes) = kind.block();
    if elements < GROUP {
        return None;
    }
    let mut floats = Vec::with_capacity(data.len() / bytes * elements);
    for block in data.chunks_exact(bytes) {
        if kind == WeightKind::Q6K {
            six_bits(block, &mut floats)?;
            continue;
        }
        for part in 0..elements / GROUP {
            let Group {
                numbers,
                scale,
                bias,
            } = group(kind, block, part)?;
            floats.extend(numbers.map(|number| scale * f32::from(number) + bias));
        }
    }
    Some(floats)
}

/// Group `part` of a block; `None` if the block is too short or the kind has no such groups.
fn group(kind: WeightKind, block: &[u8], part: usize) -> Option<Group> {
    let scale = half_at(block, 0)?;
    let plain = |numbers, bias| {
        Some(Group {
            numbers,
            scale,
            bias,
        })
    };
    match kind {
        WeightKind::Q4_0 => plain(nibbles(block.get(2..)?)?, -8.0 * scale),
        WeightKind::Q4_1 => plain(nibbles(block.get(4..)?)?, half_at(block, 2)?),
        WeightKind::Q5_0 => plain(
            fifth(nibbles(block.get(6..)?)?, word_at(block, 2)?),
            -16.0 * scale,
        ),
        WeightKind::Q5_1 => plain(
            fifth(nibbles(block.get(8..)?)?, word_at(block, 4)?),
            half_at(block, 2)?,
        ),
        WeightKind::Q8_0 => {
            let numbers = block.get(2..)?.first_chunk::<GROUP>()?;
            // Signed, and MLX's are not.
            plain(numbers.map(|byte| byte ^ 0x80), -128.0 * scale)
        }
        WeightKind::Q4K | WeightKind::Q5K => {
            let (factor, least) = six_bit_pair(block.get(4..16)?, part)?;
            let low = if kind == WeightKind::Q4K { 16 } else { 48 };
            // Two groups share their bytes: the first has the low halves, the second the high ones.
            let bytes = block
                .get(low + part / 2 * GROUP..)?
                .first_chunk::<GROUP>()?;
            let shift = 4 * (part % 2);
            let mut numbers = bytes.map(|byte| byte >> shift & 15);
            if kind == WeightKind::Q5K {
                let fifths = block.get(16..)?.first_chunk::<GROUP>()?;
                for (number, byte) in numbers.iter_mut().zip(fifths) {
                    *number |= (byte >> part & 1) << 4;
                }
            }
            Some(Group {
                numbers,
                scale: scale * f32::from(factor),
                bias: -(half_at(block, 2)? * f32::from(least)),
            })
        }
        _ => None,
    }
}

/// Low halves are the first sixteen elements, high ones the others.
fn nibbles(bytes: &[u8]) -> Option<[u8; GROUP]> {
    let bytes = bytes.first_chunk::<{ GROUP / 2 }>()?;
    let mut numbers = [0; GROUP];
    let (low, high) = numbers.split_at_mut(GROUP / 2);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
    Some(numbers)
}

/// Each number's fifth bit is at its place in a word.
fn fifth(mut numbers: [u8; GROUP], bits: u32) -> [u8; GROUP] {
    for (at, number) in numbers.iter_mut().enumerate() {
        *number |= ((bits >> at & 1) as u8) << 4;
    }
    numbers
}

/// The 6-bit factors of group `part`'s scale and minimum: twelve bytes have eight pairs, the last
/// four of which are spread over the spare bits of the first.
fn six_bit_pair(bytes: &[u8], part: usize) -> Option<(u8, u8)> {
    let at = |index: usize| bytes.get(index).copied();
    Some(match part {
        0..4 => (at(part)? & 63, at(part + 4)? & 63),
        _ => (
            at(part + 4)? & 15 | (at(part - 4)? >> 6) << 4,
            at(part + 4)? >> 4 | (at(part)? >> 6) << 4,
        ),
    })
}

/// 256 elements in groups of sixteen, which MLX does not pack.
fn six_bits(block: &[u8], floats: &mut Vec<f32>) -> Option<()> {
    let scale = half_at(block, 208)?;
    for part in 0..8 {
        let (half, quarter) = (part / 4, part % 4);
        let low = block.get(half * 64 + quarter % 2 * 32..)?;
        let high = block.get(128 + half * 32..)?;
        let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
        let bytes = low.iter().zip(high).take(GROUP);
        for (at, (low, high)) in bytes.enumerate() {
            let number = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            let factor = *block.get(192 + half * 8 + quarter * 2 + at / 16)? as i8;
            floats.push(scale * f32::from(factor) * (f32::from(number) - 32.0));
        }
    }
    Some(())
}

fn half_at(block: &[u8], at: usize) -> Option<f32> {
    let bytes = block.get(at..)?.first_chunk::<2>()?;
    Some(f16::from_le_bytes(*bytes).to_f32())
}

fn word_at(block: &[u8], at: usize) -> Option<u32> {
    let bytes = block.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
