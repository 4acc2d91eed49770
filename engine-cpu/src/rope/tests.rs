use super::{Rope, scaled};
use exo_models::{RopeLayout, RopeScaling};
use std::f64::consts::TAU;

const LLAMA3: RopeScaling = RopeScaling::Llama3 {
    factor: 8.0,
    low_freq_factor: 1.0,
    high_freq_factor: 4.0,
    original_context: 8192,
};

#[test]
fn llama_3_stretches_long_wavelengths_only() {
    let with_wavelength = |length: f64| TAU / length;
    let ratio = |length: f64| scaled(with_wavelength(length), LLAMA3) / with_wavelength(length);
    assert_eq!(ratio(2000.0), 1.0);
    assert!((ratio(9000.0) - 1.0 / 8.0).abs() < 1e-12);
    // Between 2048 and 8192 as Hugging Face writes it.
    for length in [2100.0, 3000.0, 5000.0, 8000.0] {
        let smooth = (8192.0 / length - 1.0) / (4.0 - 1.0);
        let expected = (1.0 - smooth) / 8.0 + smooth;
        assert!((ratio(length) - expected).abs() < 1e-12, "{length}");
    }
    assert_eq!(scaled(0.5, RopeScaling::Linear { factor: 4.0 }), 0.125);
    assert_eq!(scaled(0.5, RopeScaling::None), 0.5);
}

#[test]
fn both_layouts_turn_the_same_pairs() {
    let frequencies = vec![1.0, 0.1, 0.01];
    let rope = |layout| Rope {
        layout,
        frequencies: frequencies.clone(),
    };
    let (half, interleaved) = (rope(RopeLayout::Half), rope(RopeLayout::Interleaved));
    let mut angles = [0.0; 6];
    half.angles(3, &mut angles);
    assert_eq!(angles[0], 3f64.cos() as f32);
    assert_eq!(angles[5], 0.03f64.sin() as f32);
    // Two heads: pairs side by side, and the same pairs half a head apart.
    let mut pairs: Vec<f32> = (1..=12).map(|i| i as f32).collect();
    let apart = |pairs: &[f32]| -> Vec<f32> {
        let split = |head: &[f32]| {
            let evens = head.iter().step_by(2).copied();
            evens
                .chain(head.iter().skip(1).step_by(2).copied())
                .collect::<Vec<_>>()
        };
        pairs.chunks(6).flat_map(split).collect()
    };
    let mut halves = apart(&pairs);
    interleaved.turn(&mut pairs, &angles, 0.5);
    half.turn(&mut halves, &angles, 0.5);
    assert_eq!(halves, apart(&pairs));
    let (cos, sin) = (3f64.cos() as f32, 3f64.sin() as f32);
    assert!((pairs[0] - (cos - 2.0 * sin) * 0.5).abs() < 1e-6);
    assert!((pairs[1] - (sin + 2.0 * cos) * 0.5).abs() < 1e-6);
}
