use super::KERNELS;
use crate::kernels::{
    FloatFormat, Format, GROUP, Kernels, PackedRows, Panel, Q8x8, Q8x16, ROWS, Tile,
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_bits_as_the_scalar_kernels(
        format in prop::sample::select(Format::ALL.to_vec()),
        units in 1usize..12,
        bytes in prop::collection::vec(any::<u8>(), ROWS * 12 * 210),
        x in prop::collection::vec(-4f32..4.0, 12 * 256),
    ) {
        let (cols, row_bytes) = (units * format.unit(), units * format.unit_bytes());
        let mut bytes = bytes;
        bytes.truncate(ROWS * row_bytes);
        for unit in bytes.chunks_exact_mut(format.unit_bytes()) {
            // The upper bytes of scales: neither infinite nor NaN.
            let at = if format == Format::Q6K { [209, 209] } else { [1, 3] };
            at.iter().for_each(|at| unit[*at] &= 0xbf);
        }
        let mut token = vec![Q8x8::ZERO; Q8x8::count(cols)];
        (Kernels::SCALAR.quantise)(&x[..cols], &mut token);
        let mut group = vec![Q8x16::ZERO; cols / 32];
        (Kernels::SCALAR.interleave)(&[&token[..]; GROUP], &mut group);
        let mut panel = Panel::default();
        (Kernels::SCALAR.unpack)(&mut panel, format, &bytes, row_bytes);
        let both = [&Kernels::SCALAR, &KERNELS].map(|kernels| {
            let mut out = [0f32; ROWS];
            (kernels.matvec)(format, &bytes, &token, &mut out);
            let mut tile: Tile = [[f32::NAN; GROUP]; ROWS];
            (kernels.tile)(&panel, &group, &mut tile);
            (out.map(f32::to_bits), tile.map(|row| row.map(f32::to_bits)))
        });
        prop_assert_eq!(both[0], both[1]);
    }

    #[test]
    fn the_same_bits_for_packed_weights(
        bits in prop::sample::select(vec![2u8, 3, 4, 6, 8]),
        groups in 1usize..12,
        numbers in prop::collection::vec(any::<u8>(), ROWS * 12 * 32),
        scales in prop::collection::vec(-0.1f32..0.1, 2 * ROWS * 12),
        x in prop::collection::vec(-4f32..4.0, 12 * 32),
    ) {
        let cols = 32 * groups;
        let floats: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let (scales, biases) = floats.split_at(floats.len() / 2);
        let rows = PackedRows {
            bits,
            group: 32,
            scale_format: FloatFormat::F32,
            rows: ROWS,
            cols,
            numbers: &numbers[..ROWS * cols / 8 * usize::from(bits)],
            scales,
            biases,
        };
        let mut token = vec![Q8x8::ZERO; Q8x8::count(cols)];
        (Kernels::SCALAR.quantise)(&x[..cols], &mut token);
        let mut group = vec![Q8x16::ZERO; cols / 32];
        (Kernels::SCALAR.interleave)(&[&token[..]; GROUP], &mut group);
        let mut panel = Panel::default();
        (Kernels::SCALAR.unpack_packed)(&mut panel, &rows);
        let both = [&Kernels::SCALAR, &KERNELS].map(|kernels| {
            let mut out = [0f32; ROWS];
            (kernels.packed_matvec)(&rows, &token, &mut out);
            let mut tile: Tile = [[f32::NAN; GROUP]; ROWS];
            (kernels.tile)(&panel, &group, &mut tile);
            (out.map(f32::to_bits), tile.map(|row| row.map(f32::to_bits)))
        });
        prop_assert_eq!(both[0], both[1]);
    }
}
