use super::{Queries, attend};
use crate::kernels::{Kernels, PAGE};
use crate::kv::{Kv, KvShape};
use crate::machine::Machine;
use crate::options::Precision;
use proptest::prelude::*;

/// A cache of one layer with random keys and values, and random queries of its last positions.
#[derive(Debug)]
struct Case {
    shape: KvShape,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    queries: Vec<f32>,
    tokens: usize,
    group: usize,
    window: Option<usize>,
    cap: Option<f32>,
}

impl Case {
    fn new(
        (heads, group, key_dim, value_dim): (usize, usize, usize, usize),
        (positions, tokens): (usize, usize),
        (window, cap): (Option<usize>, Option<f32>),
        precision: Precision,
    ) -> Self {
        let mut state = 1u64;
        let mut some = move |count: usize| -> Vec<f32> {
            let numbers = (0..count).map(|_| {
                state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            });
            numbers.collect()
        };
        let shape = KvShape {
            layers: 1,
            heads,
            key_dim,
            value_dim,
            precision,
        };
        Self {
            shape,
            keys: (0..positions).map(|_| some(heads * key_dim)).collect(),
            values: (0..positions).map(|_| some(heads * value_dim)).collect(),
            queries: some(tokens * heads * group * key_dim),
            tokens,
            group,
            window,
            cap,
        }
    }

    fn kv(&self) -> Kv {
        let mut kv = Kv::new(self.shape);
        kv.reserve(self.keys.len()).expect("memory");
        for (position, (keys, values)) in self.keys.iter().zip(&self.values).enumerate() {
            kv.write(0, position, keys, values);
        }
        kv
    }

    fn first(&self) -> usize {
        self.keys.len() - self.tokens
    }

    fn attend(&self, machine: &mut Machine, kv: &Kv) -> Vec<f32> {
        let heads = self.shape.heads * self.group;
        let queries = Queries {
            rows: &self.queries,
            stride: heads * self.shape.key_dim,
            position: self.first(),
            group: self.group,
            window: self.window,
            cap: self.cap,
        };
        let mut out = vec![f32::NAN; self.tokens * heads * self.shape.value_dim];
        attend(machine, kv, 0, queries, &mut out);
        out
    }

    /// The same in double precision, one number after the other.
    fn plain(&self) -> Vec<f64> {
        let KvShape {
            heads,
            key_dim,
            value_dim,
            ..
        } = self.shape;
        let mut out = Vec::new();
        for (t, queries) in self
            .queries
            .chunks_exact(heads * self.group * key_dim)
            .enumerate()
        {
            let end = self.first() + t + 1;
            let start = self.window.map_or(0, |window| end.saturating_sub(window));
            for (h, query) in queries.chunks_exact(key_dim).enumerate() {
                let head = h / self.group;
                let weights: Vec<f64> = (start..end)
                    .map(|position| {
                        let key = &self.keys[position][head * key_dim..][..key_dim];
                        let score: f64 = query
                            .iter()
                            .zip(key)
                            .map(|(q, k)| f64::from(*q) * f64::from(*k))
                            .sum();
                        let score = match self.cap.map(f64::from) {
                            Some(cap) => cap * (score / cap).tanh(),
                            None => score,
                        };
                        score.exp()
                    })
                    .collect();
                let sum: f64 = weights.iter().sum();
                out.extend((0..value_dim).map(|i| {
                    let values = (start..end).zip(&weights).map(|(position, weight)| {
                        weight * f64::from(self.values[position][head * value_dim + i])
                    });
                    values.sum::<f64>() / sum
                }));
            }
        }
        out
    }
}

fn machine(threads: usize) -> Machine {
    Machine::new(Kernels::detect(), threads, Precision::Mixed).expect("threads start")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_is_the_weighted_sum_of_what_is_seen(
        heads in 1usize..3,
        group in 1usize..18,
        key_dim in 1usize..40,
        value_dim in 1usize..40,
        before in 0usize..200,
        tokens in 1usize..40,
        window in prop::option::of(1usize..150),
        cap in prop::option::of(0.5f32..4.0),
        single in any::<bool>(),
    ) {
        let precision = if single { Precision::Single } else { Precision::Mixed };
        let shape = (heads, group, key_dim, value_dim);
        let case = Case::new(shape, (before + tokens, tokens), (window, cap), precision);
        let kv = case.kv();
        let got = case.attend(&mut machine(1), &kv);
        // Half precision is off by 2⁻¹² of numbers below one, in keys and in values.
        let allowed = if single { 2e-6 } else { 1e-3 } * (key_dim as f64).sqrt();
        for (got, expected) in got.iter().zip(case.plain()) {
            prop_assert!((f64::from(*got) - expected).abs() < allowed, "{got} {expected}");
        }
        let bits = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&got), bits(&case.attend(&mut machine(3), &kv)));
    }
}

#[test]
fn a_window_costs_itself_and_not_the_context() {
    let case = |window| {
        let queries = Queries {
            rows: &[],
            stride: 1,
            position: 100_000,
            group: 4,
            window,
            cap: None,
        };
        (queries.pages(0..16), queries.tokens_per_piece(128))
    };
    let (pages, _) = case(None);
    assert_eq!(pages, 0..100_016usize.div_ceil(PAGE));
    let (pages, together) = case(Some(512));
    // From the first position that the first token sees to the last token.
    assert_eq!(pages, (100_001 - 512) / PAGE..100_016usize.div_ceil(PAGE));
    assert_eq!(together, 16, "short scores leave room for many tokens");
}

#[test]
fn what_is_outside_of_the_window_is_never_looked_at() {
    let shape = (2, 2, 8, 8);
    let mut case = Case::new(shape, (300, 5), (Some(70), None), Precision::Single);
    let expected = case.attend(&mut machine(1), &case.kv());
    // The first token sees from position 226 on, which shares its page with what it does not see.
    for position in 0..226 {
        case.keys[position].fill(f32::NAN);
        case.values[position].fill(f32::NAN);
    }
    assert_eq!(case.attend(&mut machine(1), &case.kv()), expected);
}
