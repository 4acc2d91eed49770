//! Products with packed weights: what the packing means, and the same bits on every table.

use exo_engine_cpu::kernels::{
    FloatFormat, GROUP, Kernels, PackedRows, Panel, Q8x8, Q8x16, ROWS, Tile,
};
use proptest::prelude::*;

const SCALAR: &Kernels = &Kernels::SCALAR;

/// Packed rows that own their bytes.
#[derive(Clone, Debug)]
struct Packed {
    bits: u8,
    group: usize,
    scale_format: FloatFormat,
    rows: usize,
    cols: usize,
    numbers: Vec<u8>,
    scales: Vec<u8>,
    biases: Vec<u8>,
}

impl Packed {
    fn rows(&self) -> PackedRows<'_> {
        PackedRows {
            bits: self.bits,
            group: self.group,
            scale_format: self.scale_format,
            rows: self.rows,
            cols: self.cols,
            numbers: &self.numbers,
            scales: &self.scales,
            biases: &self.biases,
        }
    }

    /// Up to `count` rows from `first` on.
    fn some(&self, first: usize, count: usize) -> PackedRows<'_> {
        let all = self.rows();
        let rows = count.min(self.rows - first);
        PackedRows {
            rows,
            numbers: &self.numbers[first * all.row_bytes()..][..rows * all.row_bytes()],
            scales: &self.scales[first * all.scale_bytes()..][..rows * all.scale_bytes()],
            biases: &self.biases[first * all.scale_bytes()..][..rows * all.scale_bytes()],
            ..all
        }
    }

    /// What row `row` means, read bit by bit.
    fn numbers(&self, row: usize) -> Vec<f64> {
        let float = |bytes: &[u8], at: usize| -> f64 {
            let size = self.scale_format.bytes();
            let bytes = &bytes[at * size..][..size];
            match self.scale_format {
                FloatFormat::F32 => {
                    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).into()
                }
                FloatFormat::F16 => half::f16::from_le_bytes([bytes[0], bytes[1]]).into(),
                FloatFormat::Bf16 => half::bf16::from_le_bytes([bytes[0], bytes[1]]).into(),
            }
        };
        let bits = usize::from(self.bits);
        (0..self.cols)
            .map(|col| {
                let first = (row * self.cols + col) * bits;
                let number = (0..bits).fold(0u32, |number, bit| {
                    let at = first + bit;
                    number | u32::from(self.numbers[at / 8] >> (at % 8) & 1) << bit
                });
                let group = (row * self.cols + col) / self.group;
                float(&self.scales, group) * f64::from(number) + float(&self.biases, group)
            })
            .collect()
    }
}

fn packed() -> impl Strategy<Value = Packed> {
    let formats = [FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16];
    (
        prop::sample::select(vec![2u8, 3, 4, 6, 8]),
        prop::sample::select(vec![32usize, 64, 128]),
        prop::sample::select(formats.to_vec()),
        1..=2 * ROWS + 3,
        1..=6usize,
        any::<u64>(),
    )
        .prop_map(|(bits, group, scale_format, rows, groups, seed)| {
            let mut state = seed;
            let mut next = move || {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                state >> 33
            };
            let cols = group * groups;
            let bytes = rows * cols / 8 * usize::from(bits);
            let numbers = (0..bytes).map(|_| next() as u8).collect();
            let mut floats = || -> Vec<u8> {
                let float = |next: u64| (next as f32 / 2f32.powi(31) - 0.5) * 0.1;
                (0..rows * groups)
                    .flat_map(|_| {
                        let float = float(next());
                        match scale_format {
                            FloatFormat::F32 => float.to_le_bytes().to_vec(),
                            FloatFormat::F16 => half::f16::from_f32(float).to_le_bytes().to_vec(),
                            FloatFormat::Bf16 => half::bf16::from_f32(float).to_le_bytes().to_vec(),
                        }
                    })
                    .collect()
            };
            let (scales, biases) = (floats(), floats());
            Packed {
                bits,
                group,
                scale_format,
                rows,
                cols,
                numbers,
                scales,
                biases,
            }
        })
}

fn quantised(x: &[f32]) -> Vec<Q8x8> {
    let mut chunks = vec![Q8x8::ZERO; Q8x8::count(x.len())];
    (SCALAR.quantise)(x, &mut chunks);
    chunks
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn products_are_what_the_packing_means(
        packed in packed(),
        x in prop::collection::vec(-4f32..4.0, 6 * 128),
    ) {
        let chunks = quantised(&x[..packed.cols]);
        let mut got = vec![f32::NAN; packed.rows];
        (SCALAR.packed_matvec)(&packed.rows(), &chunks, &mut got);
        for (row, got) in got.iter().enumerate() {
            let weights = packed.numbers(row);
            let x = |i: usize| {
                let (chunk, block) = (&chunks[i / 256], i % 256 / 32);
                f64::from(chunk.quants[block][i % 32]) * f64::from(chunk.scales[block])
            };
            let expected: f64 = weights.iter().enumerate().map(|(i, w)| w * x(i)).sum();
            // Numbers and biases nearly cancel: what counts is the size of the terms.
            let most = f64::from(1u32 << packed.bits) * 0.05 + 0.05;
            let size = most * 4.0 * packed.cols as f64;
            prop_assert!((f64::from(*got) - expected).abs() <= 1e-6 * size, "{got} {expected}");
        }
    }

    #[test]
    fn every_table_gives_the_same_bits(
        packed in packed(),
        x in prop::collection::vec(-4f32..4.0, 6 * 128),
        count in 1..=GROUP,
    ) {
        let tokens: Vec<Vec<Q8x8>> = (0..count)
            .map(|t| {
                let scaled: Vec<f32> = x[..packed.cols].iter().map(|x| x * (t + 1) as f32).collect();
                quantised(&scaled)
            })
            .collect();
        let expected: Vec<Vec<f32>> = tokens
            .iter()
            .map(|token| {
                let mut out = vec![f32::NAN; packed.rows];
                (SCALAR.packed_matvec)(&packed.rows(), token, &mut out);
                out
            })
            .collect();
        let borrowed: Vec<&[Q8x8]> = tokens.iter().map(Vec::as_slice).collect();
        for kernels in Kernels::available() {
            for (token, expected) in tokens.iter().zip(&expected) {
                let mut got = vec![f32::NAN; packed.rows];
                (kernels.packed_matvec)(&packed.rows(), token, &mut got);
                prop_assert_eq!(bits(&got), bits(expected), "on {}", kernels.name);
            }
            let mut group = vec![Q8x16::ZERO; packed.cols / 32];
            (kernels.interleave)(&borrowed, &mut group);
            let mut panel = Panel::default();
            for first in (0..packed.rows).step_by(ROWS) {
                let some = packed.some(first, ROWS);
                (kernels.unpack_packed)(&mut panel, &some);
                let mut tile: Tile = [[f32::NAN; GROUP]; ROWS];
                (kernels.tile)(&panel, &group, &mut tile);
                for r in 0..some.rows {
                    for (t, expected) in expected.iter().enumerate() {
                        prop_assert_eq!(
                            tile[r][t].to_bits(),
                            expected[first + r].to_bits(),
                            "row {}, token {} on {}", first + r, t, kernels.name
                        );
                    }
                }
            }
        }
    }
}
