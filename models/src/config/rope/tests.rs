use super::{RopeConfig, RopeLayout, RopeScaling};
use std::f64::consts::TAU;

fn rope(scaling: RopeScaling) -> RopeConfig {
    RopeConfig {
        theta: 10_000.0,
        dims: 64,
        layout: RopeLayout::Half,
        scaling,
    }
}

/// What scaling did to each pair: the wavelength before it, and by what it was multiplied.
fn ratios(scaling: RopeScaling) -> Vec<(f64, f64)> {
    let (before, after) = (rope(RopeScaling::None), rope(scaling));
    let pairs = before
        .frequencies()
        .into_iter()
        .zip(after.frequencies())
        .map(|(before, after)| (TAU / before, after / before));
    pairs.collect()
}

#[test]
fn unscaled_frequencies_fall_from_one() {
    let frequencies = rope(RopeScaling::None).frequencies();
    assert_eq!(frequencies.len(), 32);
    assert_eq!(frequencies[0], 1.0);
    assert!((frequencies[16] - 0.01).abs() < 1e-12);
}

#[test]
fn llama_3_stretches_long_wavelengths_only() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    let (mut kept, mut ramp, mut stretched) = (0, 0, 0);
    for (length, ratio) in ratios(scaling) {
        // As Hugging Face writes it.
        let expected = if length < 2048.0 {
            kept += 1;
            1.0
        } else if length > 8192.0 {
            stretched += 1;
            1.0 / 8.0
        } else {
            ramp += 1;
            let smooth = (8192.0 / length - 1.0) / (4.0 - 1.0);
            (1.0 - smooth) / 8.0 + smooth
        };
        assert!((ratio - expected).abs() < 1e-12, "{length}: {ratio}");
    }
    assert!(kept > 0 && ramp > 0 && stretched > 0);
}

#[test]
fn linear_and_long_factors_divide() {
    for (_, ratio) in ratios(RopeScaling::Linear { factor: 4.0 }) {
        assert!((ratio - 0.25).abs() < 1e-12);
    }
    let factors: Vec<f32> = (0..32).map(|pair| 1.0 + pair as f32).collect();
    let long = RopeScaling::LongRope {
        factors,
        magnitude: 1.25,
    };
    assert_eq!(rope(long.clone()).magnitude(), 1.25);
    for (pair, (_, ratio)) in ratios(long).into_iter().enumerate() {
        assert!((ratio - 1.0 / (1.0 + pair as f64)).abs() < 1e-12);
    }
}

#[test]
fn yarn_keeps_what_turns_often() {
    let yarn = RopeScaling::Yarn {
        factor: 40.0,
        original_context: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        magnitude: 1.0,
    };
    let ratios = ratios(yarn);
    assert!((ratios[0].1 - 1.0).abs() < 1e-12);
    assert!((ratios[31].1 - 1.0 / 40.0).abs() < 1e-12);
    assert!(ratios.is_sorted_by(|a, b| a.1 > b.1 - 1e-12));
    // dims * ln(4096 / (32 * tau)) / (2 ln 10000) = 10.47 and, for one turn, 22.51.
    assert!(ratios[10].1 > 1.0 - 1e-12 && ratios[11].1 < 0.95);
    assert!(ratios[22].1 > 1.0 / 40.0 && (ratios[23].1 - 1.0 / 40.0).abs() < 1e-12);
}
