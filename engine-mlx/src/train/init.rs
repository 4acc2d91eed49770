//! First numbers of adapters: of the seed and the parameter's name alone, so that they are the same
//! however a model is cut, and on every device.

use super::name::ParameterName;
use crate::checkpoint::Hash;

/// `count` numbers, even between `-limit` and `limit`: SplitMix64, begun at a hash of seed and
/// name.
pub(crate) fn uniform(seed: u64, name: ParameterName, count: usize, limit: f32) -> Vec<f32> {
    let mut state = Hash::new().number(seed).text(&name.to_string()).value();
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // 24 bits are what a float holds.
        let unit = (bits >> 40) as f32 / (1 << 23) as f32;
        (unit - 1.0) * limit
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::name::Part;
    use exo_models::LayerWeight;

    #[test]
    fn numbers_follow_seed_and_name() {
        let name = |layer, part| ParameterName {
            layer,
            weight: LayerWeight::AttnQ,
            part,
        };
        let draw = |seed, name| uniform(seed, name, 1000, 0.5);
        let numbers = draw(7, name(3, Part::A));
        assert_eq!(numbers, draw(7, name(3, Part::A)));
        assert_ne!(numbers, draw(8, name(3, Part::A)));
        assert_ne!(numbers, draw(7, name(4, Part::A)));
        assert_ne!(numbers, draw(7, name(3, Part::B)));
        assert!(numbers.iter().all(|x| (-0.5..0.5).contains(x)));
        let mean = numbers.iter().sum::<f32>() / 1000.0;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 1000.0;
        // Of an even spread: 0 and 1/12, each within five standard deviations.
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((square - 1.0 / 12.0).abs() < 0.012, "{square}");
    }
}
