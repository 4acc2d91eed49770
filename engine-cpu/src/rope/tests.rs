use super::Rope;
use exo_models::RopeLayout;

fn rope(layout: RopeLayout, magnitude: f32) -> Rope {
    Rope {
        layout,
        frequencies: vec![1.0, 0.1, 0.01],
        magnitude,
    }
}

#[test]
fn both_layouts_turn_the_same_pairs() {
    let (half, interleaved) = (
        rope(RopeLayout::Half, 1.0),
        rope(RopeLayout::Interleaved, 1.0),
    );
    let mut angles = [0.0; 6];
    half.angles(3, &mut angles);
    assert_eq!(angles[0], 3f64.cos() as f32);
    assert_eq!(angles[5], 0.03f64.sin() as f32);
    // Pairs side by side, and the same pairs half a head apart.
    let mut pairs: Vec<f32> = (1..=6).map(|i| i as f32).collect();
    let apart = |pairs: &[f32]| -> Vec<f32> {
        let evens = pairs.iter().step_by(2).copied();
        evens
            .chain(pairs.iter().skip(1).step_by(2).copied())
            .collect()
    };
    let mut halves = apart(&pairs);
    interleaved.turn(&mut pairs, &angles, 0.5);
    half.turn(&mut halves, &angles, 0.5);
    assert_eq!(halves, apart(&pairs));
    let (cos, sin) = (3f64.cos() as f32, 3f64.sin() as f32);
    assert!((pairs[0] - (cos - 2.0 * sin) * 0.5).abs() < 1e-6);
    assert!((pairs[1] - (sin + 2.0 * cos) * 0.5).abs() < 1e-6);
}

#[test]
fn a_part_of_a_head_may_turn_and_only_that_has_a_magnitude() {
    for layout in [RopeLayout::Half, RopeLayout::Interleaved] {
        let (plain, larger) = (rope(layout, 1.0), rope(layout, 1.25));
        let mut angles = [0.0; 6];
        plain.angles(7, &mut angles);
        let head: Vec<f32> = (0..10).map(|i| 1.0 + i as f32).collect();
        let mut short = head[..6].to_vec();
        plain.turn(&mut short, &angles, 2.0);
        let mut long = head.clone();
        larger.turn(&mut long, &angles, 2.0);
        for (got, expected) in long.iter().zip(&short) {
            assert!((got - expected * 1.25).abs() < 1e-5, "{layout:?}");
        }
        let rest: Vec<f32> = head[6..].iter().map(|x| x * 2.0).collect();
        assert_eq!(long[6..], rest);
    }
}
