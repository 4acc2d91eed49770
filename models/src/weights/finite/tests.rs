use half::{bf16, f16};

use super::first_bad_block;
use crate::{Packing, WeightKind};

/// Which bytes of a block are floats, and of which kind.
const FLOATS: [(WeightKind, &[usize]); 11] = [
    (WeightKind::F32, &[0]),
    (WeightKind::F16, &[0]),
    (WeightKind::Bf16, &[0]),
    (WeightKind::Q4_0, &[0]),
    (WeightKind::Q4_1, &[0, 2]),
    (WeightKind::Q5_0, &[0]),
    (WeightKind::Q5_1, &[0, 2]),
    (WeightKind::Q8_0, &[0]),
    (WeightKind::Q4K, &[0, 2]),
    (WeightKind::Q5K, &[0, 2]),
    (WeightKind::Q6K, &[208]),
];

fn write(kind: WeightKind, at: &mut [u8], value: f32) {
    let bytes = match kind {
        WeightKind::F32 => value.to_le_bytes().to_vec(),
        WeightKind::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => f16::from_f32(value).to_le_bytes().to_vec(),
    };
    at[..bytes.len()].copy_from_slice(&bytes);
}

#[test]
fn every_float_of_every_kind_is_looked_at() {
    const BLOCKS: usize = 2500;
    for (kind, floats) in FLOATS {
        let size = kind.block().1;
        // Bytes that would be NaN as floats, and floats that are as large as can be.
        let mut good = vec![0xff; BLOCKS * size];
        for block in good.chunks_mut(size) {
            for (&float, large) in floats.iter().zip([65_504.0, -65_504.0]) {
                write(kind, &mut block[float..], large);
            }
        }
        assert_eq!(first_bad_block(kind, &good), None, "{kind}");
        for &float in floats {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for block in [0, 1, 1023, 1024, BLOCKS - 1] {
                    let mut bytes = good.clone();
                    write(kind, &mut bytes[block * size + float..], bad);
                    let found = first_bad_block(kind, &bytes);
                    assert_eq!(found, Some(block), "{kind} {float} {bad}");
                }
            }
        }
    }
}

#[test]
fn numbers_without_a_scale_are_finite() {
    let packing = Packing { group: 32, bits: 4 };
    let bytes = [0xff; 64];
    assert_eq!(first_bad_block(WeightKind::Packed(packing), &bytes), None);
}
