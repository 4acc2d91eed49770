use super::*;
use crate::rng::Rng;
use alloc::vec;

const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

/// The value of a 16-bit float by its definition, exact; `None` for a NaN.
fn value(bits: u16, fraction_bits: u32) -> Option<f64> {
    let exponent_bits = 15 - fraction_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if bits & SIGN == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits & !SIGN) >> fraction_bits);
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1));
    let power = |n: i32| f64::from_bits(((n + 1023) as u64) << 52);
    let ulp = |exponent: i32| power(exponent - bias - fraction_bits as i32);
    let one = f64::from(1u32 << fraction_bits);
    if exponent == (1 << exponent_bits) - 1 {
        (fraction == 0.0).then_some(sign * f64::INFINITY)
    } else if exponent == 0 {
        Some(sign * fraction * ulp(1))
    } else {
        Some(sign * (one + fraction) * ulp(exponent))
    }
}

/// A 16-bit type, its bits of fraction, and how it is made from and to an `f32`.
type Narrow = (DType, u32, fn(u32) -> u16, fn(u16) -> u32);
const NARROW: [Narrow; 2] = [
    (DType::F16, 10, f32_to_f16, f16_to_f32),
    (DType::Bf16, 7, f32_to_bf16, bf16_to_f32),
];

#[test]
fn every_pattern_widens_to_its_value_and_comes_back() {
    for (dtype, fraction_bits, narrow, widen) in NARROW {
        for bits in 0..=u16::MAX {
            let wide = widen(bits);
            let Some(value) = value(bits, fraction_bits) else {
                assert!(f32::from_bits(wide).is_nan(), "{dtype} {bits:#06x}");
                assert_eq!(wide >> 31, u32::from(bits >> 15), "the sign stays");
                let quiet = bits | 1 << (fraction_bits - 1);
                assert_eq!(narrow(wide), quiet, "{dtype} {bits:#06x}");
                continue;
            };
            let got = f64::from(f32::from_bits(wide));
            assert_eq!(got.to_bits(), value.to_bits(), "{dtype} {bits:#06x}");
            assert_eq!(narrow(wide), bits, "{dtype} {bits:#06x}");
        }
    }
}

/// Between any two neighbours: the middle goes to the even one, all else to the nearer one.
#[test]
fn what_is_between_goes_to_the_nearest_and_ties_to_even() {
    for (dtype, fraction_bits, narrow, widen) in NARROW {
        let infinity = !SIGN << fraction_bits & !SIGN;
        for low in 0..infinity {
            let high = low + 1;
            let below = value(low, fraction_bits).expect("finite");
            // Where the next value would be if the exponents went on.
            let above = match value(high, fraction_bits).expect("no NaN") {
                f64::INFINITY => {
                    let before = value(low - 1, fraction_bits).expect("finite");
                    below + (below - before)
                }
                above => above,
            };
            let middle = ((below + above) / 2.0) as f32;
            assert_eq!(f64::from(middle), (below + above) / 2.0, "exact in an f32");
            let even = if low % 2 == 0 { low } else { high };
            let middle = middle.to_bits();
            for (wide, expected) in [
                (widen(low), low),
                (widen(low) + 1, low),
                (middle - 1, low),
                (middle, even),
                (middle + 1, high),
            ] {
                assert_eq!(narrow(wide), expected, "{dtype} {wide:#010x}");
                let negative = narrow(wide | 1 << 31);
                assert_eq!(negative, expected | SIGN, "{dtype} -{wide:#010x}");
            }
            if high < infinity {
                assert_eq!(narrow(widen(high) - 1), high, "{dtype} {high:#06x}");
            }
        }
    }
}

#[test]
fn the_ends_of_the_ranges() {
    for (value, half, brain) in [
        (0.0f32, 0x0000, 0x0000),
        (-0.0, 0x8000, 0x8000),
        (1.0, 0x3c00, 0x3f80),
        (-2.0, 0xc000, 0xc000),
        (65504.0, 0x7bff, 0x4780),
        (65519.996, 0x7bff, 0x4780),
        (65520.0, 0x7c00, 0x4780),
        (-65520.0, 0xfc00, 0xc780),
        (65536.0, 0x7c00, 0x4780),
        (98304.0, 0x7c00, 0x47c0),
        (-131_071.0, 0xfc00, 0xc800),
        (f32::MAX, 0x7c00, 0x7f80),
        (f32::MIN, 0xfc00, 0xff80),
        (f32::INFINITY, 0x7c00, 0x7f80),
        (f32::NEG_INFINITY, 0xfc00, 0xff80),
        (6.103_515_6e-5, 0x0400, 0x3880),
        (5.960_464_5e-8, 0x0001, 0x3380),
        (2.980_232_2e-8, 0x0000, 0x3300),
        (2.980_232_6e-8, 0x0001, 0x3300),
        (f32::MIN_POSITIVE, 0x0000, 0x0080),
        (f32::from_bits(1), 0x0000, 0x0000),
        (f32::from_bits(0x8000), 0x0000, 0x0000),
        (f32::from_bits(0x8001), 0x0000, 0x0001),
        (f32::from_bits(0x0001_8000), 0x0000, 0x0002),
    ] {
        assert_eq!(f32_to_f16(value.to_bits()), half, "{value:e}");
        assert_eq!(f32_to_bf16(value.to_bits()), brain, "{value:e}");
    }
    // A NaN stays one, whichever of its bits are lost.
    for bits in [0x7f80_0001, 0xff80_0001, 0x7fff_ffff, 0xffff_ffff] {
        let sign = (bits >> 16) as u16 & SIGN;
        for (_, fraction_bits, narrow, _) in NARROW {
            let got = narrow(bits);
            assert_eq!(value(got, fraction_bits), None, "{bits:#x}");
            assert_eq!(got & SIGN, sign);
        }
    }
}

#[test]
fn any_float_goes_to_one_of_its_neighbours() {
    let mut rng = Rng::new(0x00f1_0a75);
    for _ in 0..200_000 {
        let bits = rng.next_u64() as u32;
        let wide = f32::from_bits(bits);
        for (dtype, _, narrow, widen) in NARROW {
            let got = narrow(bits);
            let back = f32::from_bits(widen(got));
            if wide.is_nan() {
                assert!(back.is_nan(), "{dtype} {bits:#x}");
                continue;
            }
            let distance = |other: u16| {
                let other = f64::from(f32::from_bits(widen(other)));
                (other - f64::from(wide)).abs()
            };
            if back.is_finite() {
                // Neighbours in magnitude; a step over zero or past the end is no neighbour.
                for other in [got.wrapping_sub(1), got + 1] {
                    if other & SIGN == got & SIGN {
                        assert!(distance(got) <= distance(other), "{dtype} {bits:#x}");
                    }
                }
            } else {
                let infinite = back.is_infinite() && wide.abs() >= 65520.0;
                assert!(infinite, "{dtype} {bits:#x} became {back}");
            }
        }
    }
}

fn tensor(dtype: DType, elements: usize) -> Tensor {
    let data: Vec<u8> = (0..elements * dtype.size()).map(|at| at as u8).collect();
    Tensor::new(dtype, vec![1, elements], data.into()).expect("bytes match")
}

#[test]
fn a_tensor_keeps_its_shape_and_spelling() {
    let values = [1.0f32, -0.5, 65520.0, 0.1];
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide = Tensor::new(DType::F32, vec![1, 2, 2], data.into())
        .expect("bytes match")
        .spelled(crate::tensor::DTypeFamily::Mlx);
    let half = wide.cast(DType::F16).expect("floats");
    assert_eq!(half.data()[..], [0, 0x3c, 0, 0xb8, 0, 0x7c, 0x66, 0x2e]);
    assert_eq!((half.shape(), half.family()), (wide.shape(), wide.family()));
    let brain = wide.cast(DType::Bf16).expect("floats");
    assert_eq!(
        brain.data()[..],
        [0x80, 0x3f, 0, 0xbf, 0x80, 0x47, 0xcd, 0x3d]
    );
    let back = brain.cast(DType::F32).expect("floats");
    assert_eq!(back.dtype(), DType::F32);
    assert_eq!(back.data()[..4], [0, 0, 0x80, 0x3f]);
    let half_of_brain = brain.cast(DType::F16).expect("floats");
    assert_eq!(half_of_brain.data()[..4], [0, 0x3c, 0, 0xb8]);
    let brain_of_half = half.cast(DType::Bf16).expect("floats");
    assert_eq!(brain_of_half.data()[4..6], [0x80, 0x7f]);
}

#[test]
fn only_these_three_are_cast() {
    for from in DType::ALL {
        for to in DType::ALL {
            let tensor = tensor(from, 5);
            let cast = tensor.cast(to);
            let possible = FLOATS.contains(&from) && FLOATS.contains(&to);
            assert_eq!(cast.is_some(), possible, "{from} to {to}");
            let Some(cast) = cast else { continue };
            assert_eq!((cast.dtype(), cast.shape()), (to, tensor.shape()));
            assert_eq!(cast.data().len(), 5 * to.size());
            if from == to {
                assert_eq!(cast.data().as_ptr(), tensor.data().as_ptr(), "shared");
            }
        }
    }
    assert_eq!(
        tensor(DType::F32, 0).cast(DType::F16),
        Some(tensor(DType::F16, 0))
    );
}
