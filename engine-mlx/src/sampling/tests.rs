use super::*;
use exo_engine_cpu::choose as reference;

fn sampling(temperature: f32, top_p: f32, top_k: u32, seed: u64) -> Sampling {
    Sampling {
        temperature,
        top_p,
        top_k,
        seed,
        shaping: None,
        scores: None,
    }
}

fn chosen(logits: &[f32], of: &Sampling, position: u32) -> u32 {
    let logits = Array::from_slice(logits, &[logits.len() as i32]);
    let token = choose(&logits, of, position).expect("it computes");
    token.try_item_cast::<u32>().expect("one token")
}

#[test]
fn the_other_engine_chooses_the_same() {
    // Some are equal, so that ids decide.
    let logits: Vec<f32> = (0..400)
        .map(|i| ((i * 37 % 101) as f32 * 0.11).sin() * 4.0)
        .collect();
    let ways = [
        sampling(0.8, 1.0, 0, 1),
        sampling(1.3, 0.9, 0, 2),
        sampling(0.7, 0.5, 40, 3),
        sampling(1.0, 1.0, 5, 4),
        sampling(2.0, 0.0, 0, 5),
        sampling(0.05, 0.99, 399, 6),
        sampling(1.0, 1.0, 4000, 7),
        sampling(1e-30, 1.0, 0, 8),
        Sampling::default(),
    ];
    let mut different = std::collections::BTreeSet::new();
    for way in &ways {
        for position in 0..60 {
            let got = chosen(&logits, way, position);
            assert_eq!(
                got,
                reference(&logits, way, position),
                "{way:?} at {position}"
            );
            different.insert(got);
        }
    }
    assert!(different.len() > 50, "{different:?}");
}

#[test]
fn what_is_no_number_never_wins() {
    let (none, least) = (f32::NAN, f32::NEG_INFINITY);
    for logits in [
        vec![1.0, none, 5.0, 5.0, least],
        vec![none; 3],
        vec![least; 3],
        vec![0.0, f32::INFINITY, none],
        vec![none, 2.0],
    ] {
        for way in [
            Sampling::default(),
            sampling(1.0, 1.0, 0, 3),
            sampling(0.5, 0.9, 2, 3),
            sampling(f32::NAN, 1.0, 0, 3),
            sampling(-1.0, 1.0, 0, 3),
            sampling(1.0, f32::NAN, 0, 3),
        ] {
            let wanted = reference(&logits, &way, 9);
            assert_eq!(chosen(&logits, &way, 9), wanted, "{way:?} of {logits:?}");
        }
    }
}

#[test]
fn what_shapes_the_choice_is_done_as_everywhere() {
    use exo_protocol::engine::Shaping;
    let shaping = Shaping {
        presence: 2.0,
        bias: vec![(0, 4.0)],
        answer: vec![2],
        ..Shaping::default()
    };
    let of = Sampling {
        shaping: Some(std::sync::Arc::new(shaping)),
        ..Sampling::default()
    };
    let values = [0.0, 3.0, 5.0];
    let logits = Array::from_slice(&values, &[3]);
    let mut expected = values.to_vec();
    let shaped_alike = of.shape(&mut expected, |_, _, _| Ok::<_, ()>(()));
    assert_eq!(shaped_alike, Ok(()));
    let shaped = shaped(&logits, &of, None).expect("it computes");
    assert_eq!(shaped.as_slice::<f32>(), expected);
    assert_eq!(chosen(&expected, &of, 0), 0);
}
