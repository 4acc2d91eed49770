use super::KERNELS;
use crate::kernels::{Format, GROUP, Kernels, Panel, Q8x8, Q8x16, ROWS, Tile};
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
}
