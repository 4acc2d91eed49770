use super::Rope;
use exo_models::RopeLayout;

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
