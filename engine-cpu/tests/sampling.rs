//! The choice of a token.

use exo_engine_cpu::choose;
use exo_protocol::engine::Sampling;
use proptest::prelude::*;

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

/// How often each token is chosen over many positions.
fn counts(logits: &[f32], of: Sampling, draws: u32) -> Vec<u32> {
    let mut counts = vec![0; logits.len()];
    (0..draws).for_each(|position| counts[choose(logits, &of, position) as usize] += 1);
    counts
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let logits = [1.0, f32::NAN, 5.0, 5.0, f32::NEG_INFINITY];
    assert_eq!(choose(&logits, &Sampling::default(), 9), 2);
    assert_eq!(choose(&logits, &sampling(1.0, 1.0, 1, 3), 9), 2);
    assert_eq!(choose(&logits, &sampling(f32::NAN, 1.0, 0, 3), 9), 2);
    assert_eq!(choose(&logits, &sampling(-1.0, 1.0, 0, 3), 9), 2);
    assert_eq!(choose(&[f32::NAN; 3], &sampling(1.0, 1.0, 0, 3), 9), 0);
    assert_eq!(choose(&[], &sampling(1.0, 0.5, 0, 3), 9), 0);
    assert_eq!(
        choose(&[0.0, f32::INFINITY], &sampling(1.0, 0.5, 0, 3), 9),
        1
    );
}

#[test]
fn frequencies_are_the_probabilities() {
    let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1]
        .iter()
        .map(|p| p.ln() + 3.0)
        .collect();
    let draws = 40_000;
    let near = |counts: &[u32], expected: &[f64]| {
        for (count, expected) in counts.iter().zip(expected) {
            let share = f64::from(*count) / f64::from(draws);
            assert!(
                (share - expected).abs() < 0.01,
                "{counts:?} for {expected:?}"
            );
        }
    };
    near(
        &counts(&logits, sampling(1.0, 1.0, 0, 1), draws),
        &[0.4, 0.3, 0.2, 0.1],
    );
    near(
        &counts(&logits, sampling(1.0, 1.0, 2, 2), draws),
        &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0],
    );
    near(
        &counts(&logits, sampling(1.0, 0.65, 0, 3), draws),
        &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0],
    );
    near(
        &counts(&logits, sampling(1.0, 0.75, 0, 4), draws),
        &[4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0],
    );
    near(
        &counts(&logits, sampling(1.0, 0.0, 0, 5), draws),
        &[1.0, 0.0, 0.0, 0.0],
    );
    // Half the temperature squares the probabilities.
    let squares = [16.0 / 30.0, 9.0 / 30.0, 4.0 / 30.0, 1.0 / 30.0];
    near(&counts(&logits, sampling(0.5, 1.0, 0, 6), draws), &squares);
}

#[test]
fn a_large_vocabulary_needs_no_special_care() {
    let logits: Vec<f32> = (0..50_000)
        .map(|i| ((i * 7919) % 50_000) as f32 / 50_000.0)
        .collect();
    let all = counts(&logits, sampling(1.0, 0.95, 0, 1), 20);
    assert!(
        all.iter().all(|count| *count < 4),
        "20 draws from 50 000 hardly repeat"
    );
    let few = counts(&logits, sampling(1.0, 1.0, 100, 1), 20);
    let lowest = few
        .iter()
        .zip(&logits)
        .filter(|(count, _)| **count > 0)
        .map(|(_, l)| *l);
    assert!(
        lowest.fold(f32::MAX, f32::min) > 0.997,
        "only the 100 likeliest"
    );
}

/// The rule as it is written, without any short cut.
fn by_the_book(logits: &[f32], of: &Sampling) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    });
    if of.top_k > 0 {
        order.truncate(of.top_k as usize);
    }
    let best = f64::from(logits[order[0] as usize]);
    let weight =
        |id: &u32| ((f64::from(logits[*id as usize]) - best) / f64::from(of.temperature)).exp();
    let all: f64 = order.iter().map(weight).sum();
    let mut kept = 0.0;
    order.retain(|id| {
        let keep = kept == 0.0 || kept < f64::from(of.top_p) * all * (1.0 + 1e-6);
        kept += weight(id);
        keep
    });
    order
}

proptest! {
    #[test]
    fn only_candidates_are_chosen_and_always_the_same(
        logits in prop::collection::vec(-9f32..9.0, 1..400),
        temperature in 0.05f32..3.0,
        top_p in 0.01f32..1.0,
        top_k in 0u32..450,
        seed in any::<u64>(),
        position in any::<u32>(),
    ) {
        let of = sampling(temperature, top_p, top_k, seed);
        let chosen = choose(&logits, &of, position);
        prop_assert_eq!(chosen, choose(&logits, &of, position));
        prop_assert!(by_the_book(&logits, &of).contains(&chosen));
    }

    #[test]
    fn nothing_makes_it_panic(
        logits in prop::collection::vec(prop::num::f32::ANY, 0..50),
        temperature in prop::num::f32::ANY,
        top_p in prop::num::f32::ANY,
        top_k in any::<u32>(),
        seed in any::<u64>(),
        position in any::<u32>(),
    ) {
        let chosen = choose(&logits, &sampling(temperature, top_p, top_k, seed), position);
        prop_assert!((chosen as usize) < logits.len().max(1));
    }
}
