//! Every kernel that this processor can run against the scalar one: the same bits.

use exo_engine_cpu::kernels::{
    FLOAT_TOKENS, FloatFormat, Format, GROUP, Kernels, PAGE, Panel, Q8x8, Q8x16, ROWS, Tile,
};
use proptest::prelude::*;

const SCALAR: &Kernels = &Kernels::SCALAR;

fn vector_kernels() -> Vec<&'static Kernels> {
    let found: Vec<_> = Kernels::available()
        .into_iter()
        .filter(|kernels| kernels.name != "scalar")
        .collect();
    if found.is_empty() {
        eprintln!("SKIPPED: this processor has none of the vector instructions");
    }
    found
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn floats(len: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-4f32..4.0, len..=len)
}

fn quantised(x: &[f32]) -> Vec<Q8x8> {
    let mut chunks = vec![Q8x8::ZERO; Q8x8::count(x.len())];
    (SCALAR.quantise)(x, &mut chunks);
    chunks
}

/// Rows of a format with any bits in them, but scales that are numbers.
fn rows(format: Format) -> impl Strategy<Value = (usize, usize, Vec<u8>)> {
    let units = if format.unit() == 32 {
        1..=20usize
    } else {
        1..=4
    };
    (1..=19usize, units).prop_flat_map(move |(rows, units)| {
        let len = rows * units * format.unit_bytes();
        prop::collection::vec(any::<u8>(), len..=len).prop_map(move |mut bytes| {
            for unit in bytes.chunks_exact_mut(format.unit_bytes()) {
                let halves: &[usize] = match format {
                    Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[1],
                    Format::Q6K => &[209],
                    _ => &[1, 3],
                };
                // Exponents below the top: neither infinite nor NaN.
                halves.iter().for_each(|at| unit[*at] &= 0xbf);
            }
            (rows, units * format.unit(), bytes)
        })
    })
}

fn case() -> impl Strategy<Value = (Format, usize, usize, Vec<u8>)> {
    prop::sample::select(Format::ALL.to_vec()).prop_flat_map(|format| {
        rows(format).prop_map(move |(rows, cols, bytes)| (format, rows, cols, bytes))
    })
}

/// What the format says a row is.
fn numbers(format: Format, row: &[u8], cols: usize) -> Vec<f64> {
    let blocks = (0..cols / 32).map(|b| format.block(row, b));
    blocks
        .flat_map(|block| {
            (0..32).map(move |i| {
                let quant = i32::from(block.quants[i]) - format.offset();
                f64::from(block.scale) * f64::from(block.factors[i / 16] * quant)
                    + f64::from(block.min)
            })
        })
        .collect()
}

proptest! {
    #[test]
    fn products_with_one_token((format, rows, cols, bytes) in case(), x in floats(640 * 2)) {
        let x = quantised(&x[..cols]);
        let mut expected = vec![0.0; rows];
        (SCALAR.matvec)(format, &bytes, &x, &mut expected);
        for kernels in vector_kernels() {
            let mut got = vec![f32::NAN; rows];
            (kernels.matvec)(format, &bytes, &x, &mut got);
            prop_assert_eq!(bits(&got), bits(&expected), "{:?} on {}", format, kernels.name);
        }
    }

    #[test]
    fn products_are_what_the_formats_mean((format, rows, cols, bytes) in case(), x in floats(1280)) {
        let chunks = quantised(&x[..cols]);
        let mut got = vec![0.0; rows];
        (SCALAR.matvec)(format, &bytes, &chunks, &mut got);
        for (row, got) in bytes.chunks_exact(format.row_bytes(cols)).zip(got) {
            let weights = numbers(format, row, cols);
            let x = |i: usize| {
                let (chunk, block) = (&chunks[i / 256], i % 256 / 32);
                f64::from(chunk.quants[block][i % 32]) * f64::from(chunk.scales[block])
            };
            let terms: Vec<f64> = weights.iter().enumerate().map(|(i, w)| w * x(i)).collect();
            let expected: f64 = terms.iter().sum();
            // A minimum and its quants nearly cancel: what counts is the size of the terms.
            let size: f64 = weights.iter().map(|w| w.abs() * 4.0).sum::<f64>() * 8.0;
            prop_assert!((f64::from(got) - expected).abs() <= 1e-5 * size + 1e-30);
        }
    }

    #[test]
    fn products_with_many_tokens(
        (format, rows, cols, bytes) in case(),
        x in floats(1280),
        count in 1..=GROUP,
    ) {
        let tokens: Vec<Vec<Q8x8>> = (0..count)
            .map(|t| quantised(&x[..cols].iter().map(|x| x * (t + 1) as f32).collect::<Vec<_>>()))
            .collect();
        let row_bytes = format.row_bytes(cols);
        let borrowed: Vec<&[Q8x8]> = tokens.iter().map(Vec::as_slice).collect();
        for kernels in vector_kernels().into_iter().chain([SCALAR]) {
            let mut group = vec![Q8x16::ZERO; cols / 32];
            (kernels.interleave)(&borrowed, &mut group);
            let mut panel = Panel::default();
            for (p, rows) in bytes.chunks(ROWS * row_bytes).enumerate() {
                (kernels.unpack)(&mut panel, format, rows, row_bytes);
                let mut tile: Tile = [[f32::NAN; GROUP]; ROWS];
                (kernels.tile)(&panel, &group, &mut tile);
                for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
                    for (t, token) in tokens.iter().enumerate() {
                        let mut expected = [0.0];
                        (SCALAR.matvec)(format, row, token, &mut expected);
                        prop_assert_eq!(
                            tile[r][t].to_bits(),
                            expected[0].to_bits(),
                            "{:?} on {}, row {}, token {}", format, kernels.name, p * ROWS + r, t
                        );
                    }
                }
            }
        }
        prop_assert!(rows > 0);
    }

    #[test]
    fn quantising(x in (1usize..20).prop_flat_map(|blocks| floats(32 * blocks)), zero in any::<bool>()) {
        let mut x = x;
        if zero {
            x[..32].fill(0.0);
        }
        let expected = quantised(&x);
        for kernels in vector_kernels() {
            let mut got = vec![Q8x8::ZERO; expected.len()];
            (kernels.quantise)(&x, &mut got);
            for (got, expected) in got.iter().zip(&expected) {
                prop_assert_eq!(got.quants, expected.quants);
                prop_assert_eq!(got.sums, expected.sums);
                prop_assert_eq!(bits(&got.scales), bits(&expected.scales));
                prop_assert_eq!(bits(&got.weighted), bits(&expected.weighted));
            }
        }
        for (i, x) in x.iter().enumerate() {
            let (chunk, block) = (&expected[i / 256], i % 256 / 32);
            let back = f32::from(chunk.quants[block][i % 32]) * chunk.scales[block];
            prop_assert!((back - x).abs() <= 0.51 * chunk.scales[block]);
        }
    }

    #[test]
    fn products_in_floating_point(
        rows in 1usize..10,
        x in (1usize..70).prop_flat_map(floats),
        bytes in prop::collection::vec(any::<u8>(), 10 * 70 * 4),
        format in prop::sample::select(vec![FloatFormat::F32, FloatFormat::F16, FloatFormat::Bf16]),
    ) {
        let mut bytes = bytes;
        let size = format.bytes();
        // Exponents below the top.
        bytes.chunks_exact_mut(size).for_each(|element| element[size - 1] &= 0xbf);
        let row_bytes = x.len() * size;
        let bytes = &bytes[..rows * row_bytes];
        let mut expected = vec![0.0; rows];
        (SCALAR.float_matvec)(format, bytes, &x, &mut expected);
        for kernels in vector_kernels().into_iter().chain([SCALAR]) {
            let mut got = vec![f32::NAN; rows];
            (kernels.float_matvec)(format, bytes, &x, &mut got);
            prop_assert_eq!(bits(&got), bits(&expected), "{:?} on {}", format, kernels.name);
            for (row, expected) in bytes.chunks_exact(row_bytes).zip(&expected) {
                let mut wide = vec![f32::NAN; x.len()];
                (kernels.widen)(format, row, &mut wide);
                let tile = (kernels.float_tile)(&wide, [&x[..]; FLOAT_TOKENS]);
                prop_assert_eq!(bits(&tile), vec![expected.to_bits(); FLOAT_TOKENS]);
            }
        }
    }

    #[test]
    fn small_operations(x in (1usize..300).prop_flat_map(floats), y in floats(300)) {
        let y = &y[..x.len()];
        for kernels in vector_kernels() {
            let both = [SCALAR, kernels].map(|kernels| {
                let mut norm = vec![0.0; x.len()];
                (kernels.rms_norm)(&x, y, 1e-5, &mut norm);
                let mut silu = x.clone();
                (kernels.silu_product)(&mut silu, y);
                let mut gelu = x.clone();
                (kernels.gelu_product)(&mut gelu, y);
                let mut capped = x.clone();
                (kernels.soft_cap)(&mut capped, 3.0);
                let mut sigmoid = x.clone();
                (kernels.sigmoid)(&mut sigmoid);
                let mut sum = x.clone();
                (kernels.add)(&mut sum, y);
                let mut softmax = x.clone();
                let inverse = (kernels.softmax)(&mut softmax);
                [norm, silu, gelu, capped, sigmoid, sum, softmax, vec![inverse]].map(|values| bits(&values))
            });
            prop_assert_eq!(&both[0], &both[1], "on {}", kernels.name);
        }
        let mut weights = x.clone();
        let inverse = (SCALAR.softmax)(&mut weights);
        let sum: f32 = weights.iter().map(|weight| weight * inverse).sum();
        prop_assert!((sum - 1.0).abs() < 1e-5);
        let most = x.iter().copied().fold(f32::MIN, f32::max);
        for (x, weight) in x.iter().zip(&weights) {
            let exact = f64::from(x - most).exp();
            prop_assert!((f64::from(*weight) - exact).abs() <= 3e-7 * exact);
        }
    }

    #[test]
    fn curves_are_what_they_are_called(x in -30f32..30.0, cap in 0.5f32..60.0) {
        let exact = f64::from(x);
        let apply = |product: fn(&mut [f32], &[f32])| {
            let mut gate = [x];
            product(&mut gate, &[1.0]);
            f64::from(gate[0])
        };
        let silu = exact / (1.0 + (-exact).exp());
        prop_assert!((apply(SCALAR.silu_product) - silu).abs() <= 4e-7 * exact.abs());
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (exact + 0.044715 * exact.powi(3));
        let gelu = 0.5 * exact * (1.0 + inner.tanh());
        prop_assert!((apply(SCALAR.gelu_product) - gelu).abs() <= 1e-6 * exact.abs());
        let mut capped = [x];
        (SCALAR.soft_cap)(&mut capped, cap);
        let expected = f64::from(cap) * (exact / f64::from(cap)).tanh();
        let off = (f64::from(capped[0]) - expected).abs();
        prop_assert!(off <= 5e-7 * expected.abs(), "{} is {off} off", capped[0]);
    }

    #[test]
    fn attention(
        head_dim in 1usize..100,
        halves in prop::collection::vec(any::<u16>(), 100 * PAGE),
        query in floats(100),
        count in 1..=PAGE,
    ) {
        let halves: Vec<u16> = halves[..head_dim * PAGE].iter().map(|half| half & 0xbfff).collect();
        let query = &query[..head_dim];
        for kernels in vector_kernels() {
            let both = [SCALAR, kernels].map(|kernels| {
                let mut page = vec![0.0; halves.len()];
                (kernels.widen_f16)(&halves, &mut page);
                let mut scores = [0.0; PAGE];
                (kernels.scores)(query, &page, &mut scores);
                let mut out = vec![0.5; head_dim];
                (kernels.weigh)(&scores[..count], &page, &mut out);
                [page, scores.to_vec(), out].map(|values| bits(&values))
            });
            prop_assert_eq!(&both[0], &both[1], "on {}", kernels.name);
        }
    }
}

#[test]
fn every_half_widens_exactly() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    for kernels in Kernels::available() {
        let mut wide = vec![0.0; halves.len()];
        (kernels.widen_f16)(&halves, &mut wide);
        for (bits, wide) in halves.iter().zip(wide) {
            let exact = half::f16::from_bits(*bits).to_f32();
            let same = wide.to_bits() == exact.to_bits() || wide.is_nan() && exact.is_nan();
            assert!(same, "{bits:#x} on {}: {wide} is not {exact}", kernels.name);
        }
    }
}
