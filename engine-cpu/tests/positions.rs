//! A request goes back to a position that it has been at, and goes on from there.

mod common;

use common::tiny::Tiny;
use common::{engine, forward, forward_with, hidden, load, options, shard, token, tokens};
use exo_engine_cpu::CpuEngine;
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::{EngineInput, EngineOutput, FailureKind, Sampling};
use exo_protocol::id::CallId;
use proptest::prelude::*;

/// Not greedy: the choice depends on the position, too.
const SAMPLING: Sampling = Sampling {
    temperature: 0.9,
    top_p: 0.95,
    top_k: 50,
    seed: 11,
    shaping: None,
    scores: None,
};

/// A model cut in two.
struct Pair {
    engine: CpuEngine,
    shards: [Shard; 2],
}

impl Pair {
    fn new(model: &Model) -> Self {
        let layers = model.config().layers;
        let mut engine = engine(model, options(2));
        let shards = [shard(0..1, layers), shard(1..layers, layers)];
        for shard in &shards {
            load(&mut engine, shard).expect("loads");
        }
        Self { engine, shards }
    }

    /// What the last shard says.
    fn step(
        &mut self,
        name: &str,
        position: usize,
        ids: &[u32],
        sampling: Option<Sampling>,
    ) -> EngineOutput {
        let position = u32::try_from(position).expect("a position");
        let [first, last] = &self.shards;
        let (output, added) =
            forward_with(&mut self.engine, first, name, position, tokens(ids), None).expect("runs");
        assert_eq!(added as usize, ids.len());
        let input = EngineInput::Hidden(hidden(output));
        let (output, added) =
            forward_with(&mut self.engine, last, name, position, input, sampling).expect("runs");
        assert_eq!(added as usize, ids.len());
        output
    }

    /// The token that comes after `ids`, and the bits of its logits.
    fn choose(&mut self, name: &str, position: usize, ids: &[u32]) -> (u32, Vec<u32>) {
        let chosen = token(self.step(name, position, ids, Some(SAMPLING)));
        (chosen, self.logits())
    }

    fn logits(&self) -> Vec<u32> {
        let logits = self.engine.last_logits().iter();
        logits.map(|logit| logit.to_bits()).collect()
    }

    fn free(&mut self, name: &str) {
        let request = common::request(name);
        let call = CallId(9);
        common::execute(
            &mut self.engine,
            exo_protocol::engine::EngineCommand::Free { call, request },
        );
    }
}

fn prompt(len: usize, vocab: usize) -> Vec<u32> {
    let ids = (0..len).map(|i| (i * i * 5 + i * 17 + 3) % vocab);
    ids.map(|id| id as u32).collect()
}

#[test]
fn going_back_gives_the_same_logits_again() {
    // Across pages of 64 positions and batches of 128.
    const PROMPT: usize = 120;
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let mut pair = Pair::new(&model);
        let mut text = prompt(PROMPT, tiny.vocab);
        let mut answer = vec![pair.choose("r", 0, &text)];
        while answer.len() < 20 {
            let position = text.len();
            let chosen = answer.last().expect("one").0;
            text.push(chosen);
            answer.push(pair.choose("r", position, &[chosen]));
        }
        for back in [138, 130, 128, 127, 121, PROMPT, 119, 64, 63, 1, 0] {
            // All at once what is known, then token by token until the end.
            let mut position = back;
            let next = PROMPT.max(back + 1);
            for (at, expected) in (next..).zip(answer.iter().skip(next - PROMPT)) {
                let ids = &text[position..at];
                let chosen = pair.choose("r", position, ids);
                assert!(chosen == *expected, "{}: {back}, {at}", tiny.architecture);
                position = at;
            }
        }
    }
}

#[test]
fn what_was_beyond_is_forgotten() {
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let mut pair = Pair::new(&model);
        let common = prompt(70, tiny.vocab);
        let [one, other] = [50, 60].map(|vocab| prompt(90, vocab));
        for back in [70, 64, 40, 1, 0] {
            let common = &common[..back];
            pair.step("fresh", 0, &[common, &other].concat(), None);
            let expected = pair.choose("fresh", back + other.len(), &[7]);

            pair.step("r", 0, &[common, &one].concat(), None);
            pair.step("r", back, &other, None);
            let found = pair.choose("r", back + other.len(), &[7]);
            assert!(found == expected, "{}: {back}", tiny.architecture);
        }
    }
}

#[test]
fn going_back_gives_memory_back() {
    let (_file, model) = Tiny::LLAMA.write();
    let mut pair = Pair::new(&model);
    let weights = pair.engine.memory_used();
    // Four layers of keys and values of two heads in half precision, in pages of 64 positions.
    let page = 64 * 4 * 2 * 2 * 32 * 2;
    let mut used = |position: usize, count: usize| {
        pair.step("r", position, &vec![1; count], None);
        (pair.engine.memory_used() - weights) / page
    };
    assert_eq!(used(0, 200), 4);
    assert_eq!(used(130, 1), 3);
    assert_eq!(used(128, 1), 3);
    assert_eq!(used(127, 1), 2);
    assert_eq!(used(10, 100), 2);
    assert_eq!(used(0, 1), 1);
    pair.free("r");
    assert_eq!(pair.engine.memory_used(), weights);
}

#[test]
fn there_is_no_going_forward() {
    let (_file, model) = Tiny::LLAMA.write();
    let mut pair = Pair::new(&model);
    let ids = [1, 2, 3, 4, 5];
    pair.step("r", 0, &ids, None);
    let expected = pair.choose("r", 5, &[6]);
    // What was forgotten cannot be kept.
    pair.step("r", 3, &[4], None);
    for position in [5, 6, u32::MAX] {
        let first = &pair.shards[0];
        let failed = forward(&mut pair.engine, first, "r", position, tokens(&[6]));
        let failure = failed.expect_err("it is refused");
        assert_eq!(failure.kind, FailureKind::BadInput);
        let words = [format!("position {position},"), "4 positions".to_owned()];
        for word in words {
            assert!(failure.message.contains(&word), "{failure}: {word}");
        }
    }
    // And a refusal forgets nothing.
    pair.step("r", 4, &[5], None);
    assert_eq!(pair.choose("r", 5, &[6]), expected);
}

#[test]
fn who_asks_for_no_token_gets_none() {
    let (_file, model) = Tiny::LLAMA.write();
    let mut pair = Pair::new(&model);
    assert_eq!(pair.step("r", 0, &[1, 2, 3], None), EngineOutput::Nothing);
    assert!(pair.logits().is_empty(), "nobody wanted them");
    pair.choose("r", 3, &[4]);
    let logits = pair.logits();
    assert_eq!(logits.len(), Tiny::LLAMA.vocab);
    assert_eq!(pair.step("r", 4, &[5], None), EngineOutput::Nothing);
    assert_eq!(pair.logits(), logits);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A request that wanders about has at every place what a fresh one has that went straight.
    #[test]
    fn every_way_to_a_position_gives_the_same_logits(
        steps in prop::collection::vec((0usize..200, 1usize..140, 0u32..70), 1..6),
        qwen in any::<bool>(),
    ) {
        let tiny = if qwen { Tiny::QWEN } else { Tiny::LLAMA };
        let (_file, model) = tiny.write();
        let mut pair = Pair::new(&model);
        let mut text: Vec<u32> = Vec::new();
        for (position, count, salt) in steps {
            let position = position.min(text.len());
            let count = count.min(tiny.context - 1 - position);
            text.truncate(position);
            text.extend(prompt(count, 70).iter().map(|id| (id + salt) % 70));
            if count > 0 {
                pair.step("r", position, &text[position..], None);
            }
        }
        let found = pair.choose("r", text.len(), &[3]);
        text.push(3);
        let expected = pair.choose("fresh", 0, &text);
        prop_assert!(found == expected);
    }
}
