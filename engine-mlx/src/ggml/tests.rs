use super::*;
use crate::model::linear::Weight;
use crate::tensor::from_bytes;
use exo_engine_cpu::kernels::Format;
use mlx_rs::{Array, Dtype};

const KINDS: [(WeightKind, Format); 8] = [
    (WeightKind::Q4_0, Format::Q4_0),
    (WeightKind::Q4_1, Format::Q4_1),
    (WeightKind::Q5_0, Format::Q5_0),
    (WeightKind::Q5_1, Format::Q5_1),
    (WeightKind::Q8_0, Format::Q8_0),
    (WeightKind::Q4K, Format::Q4K),
    (WeightKind::Q5K, Format::Q5K),
    (WeightKind::Q6K, Format::Q6K),
];

/// Blocks of 1024 elements without a pattern; their halves are small numbers.
fn blocks(kind: WeightKind) -> Vec<u8> {
    let (elements, bytes) = kind.block();
    let mut state = 0x2545_f491_u32;
    let mut data: Vec<u8> = (0..1024 / elements * bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 11) as u8
        })
        .collect();
    for block in data.chunks_exact_mut(bytes) {
        let halves: &[usize] = match kind {
            WeightKind::Q6K => &[208],
            WeightKind::Q4_0 | WeightKind::Q5_0 | WeightKind::Q8_0 => &[0],
            _ => &[0, 2],
        };
        for &at in halves {
            let half = f16::from_f32(f32::from(block[at]) / 300.0 - 0.3);
            block[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    data
}

/// What the other engine, which is held to llama.cpp, reads in them.
fn wanted(format: Format, data: &[u8]) -> Vec<f32> {
    let blocks = (0..32).map(|index| format.block(data, index));
    let floats = blocks.flat_map(|block| {
        (0..32).map(move |at| {
            let factor = block.factors[at / 16] * (i32::from(block.quants[at]) - format.offset());
            block.scale * factor as f32 + block.min
        })
    });
    floats.collect()
}

fn assert_close(got: &[f32], wanted: &[f32], kind: WeightKind) {
    assert_eq!(got.len(), wanted.len());
    for (at, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let apart = (got - wanted).abs();
        assert!(
            apart <= 1e-5 * wanted.abs().max(1.0),
            "{kind}, element {at}: {got}, not {wanted}"
        );
    }
}

#[test]
fn blocks_are_read_as_the_other_engine_reads_them() {
    for (kind, format) in KINDS {
        let data = blocks(kind);
        let got = floats(kind, &data).expect("a quantised kind");
        assert_close(&got, &wanted(format, &data), kind);
    }
    assert!(floats(WeightKind::F16, &[0; 8]).is_none());
}

#[test]
fn mlx_unpacks_the_same_numbers() {
    for (kind, format) in KINDS {
        let data = blocks(kind);
        let Some(packing) = packing(kind) else {
            assert_eq!(kind, WeightKind::Q6K);
            assert!(pack(kind, &data).is_none());
            continue;
        };
        let packed = pack(kind, &data).expect("it has a packing");
        let words = 128 * i32::from(packing.bits) / 32;
        let weight = Weight::Packed {
            numbers: from_bytes(&packed.numbers, &[8, words], Dtype::Uint32).expect("it fits"),
            scales: Array::from_slice(&packed.scales, &[8, 4]),
            biases: Array::from_slice(&packed.biases, &[8, 4]),
            packing,
        };
        let dense = weight.dense(Dtype::Float32).expect("it computes");
        assert_eq!(dense.shape(), [8, 128]);
        let got = dense.to_vec_exact::<f32>().expect("it computes");
        assert_close(&got, &wanted(format, &data), kind);
    }
}

#[test]
fn a_block_that_is_cut_off_is_no_block() {
    for (kind, _) in KINDS {
        let data = blocks(kind);
        let (elements, bytes) = kind.block();
        let cut = &data[..bytes * 2 - 1];
        assert_eq!(floats(kind, cut).map(|floats| floats.len()), Some(elements));
        assert_eq!(group(kind, &data[..1], 0).map(|_| ()), None);
    }
}
