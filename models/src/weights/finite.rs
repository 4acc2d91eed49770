//! Whether all numbers of a weight are finite, found while its pages are read anyway.

use crate::WeightKind;

/// The index of the first block of which a number is infinite or none, where a block is what
/// [`WeightKind::block`] says. Of quantised blocks it looks at the scales: the other numbers in them
/// cannot be anything but finite. What MLX packed has its scales elsewhere; of the words only one
/// byte a page is touched.
pub(super) fn first_bad_block(kind: WeightKind, bytes: &[u8]) -> Option<usize> {
    match kind {
        WeightKind::F32 => first_bad(bytes, |block: &[u8; 4]| bad_f32(u32::from_le_bytes(*block))),
        WeightKind::F16 => first_bad(bytes, |block: &[u8; 2]| bad_f16(block)),
        WeightKind::Bf16 => first_bad(bytes, |block: &[u8; 2]| {
            bad_f32(u32::from(u16::from_le_bytes(*block)) << 16)
        }),
        WeightKind::Q4_0 => first_bad(bytes, |[a, b, ..]: &[u8; 18]| bad_f16(&[*a, *b])),
        WeightKind::Q4_1 => first_bad(bytes, |block: &[u8; 20]| bad_two(block)),
        WeightKind::Q5_0 => first_bad(bytes, |[a, b, ..]: &[u8; 22]| bad_f16(&[*a, *b])),
        WeightKind::Q5_1 => first_bad(bytes, |block: &[u8; 24]| bad_two(block)),
        WeightKind::Q8_0 => first_bad(bytes, |[a, b, ..]: &[u8; 34]| bad_f16(&[*a, *b])),
        WeightKind::Q4K => first_bad(bytes, |block: &[u8; 144]| bad_two(block)),
        WeightKind::Q5K => first_bad(bytes, |block: &[u8; 176]| bad_two(block)),
        // The only one with its scale at the end.
        WeightKind::Q6K => first_bad(bytes, |[.., a, b]: &[u8; 210]| bad_f16(&[*a, *b])),
        WeightKind::Packed(_) => {
            const PAGE: usize = 4096;
            let sum = bytes.iter().step_by(PAGE).fold(0, |sum, byte| sum ^ byte);
            std::hint::black_box(sum);
            None
        }
    }
}

/// All exponent bits are set.
fn bad_f32(bits: u32) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    bits & EXPONENT == EXPONENT
}

fn bad_f16(bytes: &[u8; 2]) -> bool {
    const EXPONENT: u16 = 0x7c00;
    u16::from_le_bytes(*bytes) & EXPONENT == EXPONENT
}

/// A block that begins with a scale and a minimum.
fn bad_two<const SIZE: usize>(block: &[u8; SIZE]) -> bool {
    let (halves, _) = block.as_chunks::<2>();
    halves.iter().take(2).any(bad_f16)
}

/// Runs of blocks are judged without a branch for each, so that floats are as fast as memory is.
fn first_bad<const SIZE: usize>(bytes: &[u8], bad: impl Fn(&[u8; SIZE]) -> bool) -> Option<usize> {
    const RUN: usize = 1024;
    let (blocks, _) = bytes.as_chunks::<SIZE>();
    for (index, run) in blocks.chunks(RUN).enumerate() {
        if run.iter().fold(false, |any, block| any | bad(block)) {
            return Some(index * RUN + run.iter().position(bad)?);
        }
    }
    None
}

#[cfg(test)]
mod tests;
