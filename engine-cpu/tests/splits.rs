//! The same bits, however the work is cut.

mod common;

use common::pieces::{cut, prompt, run};
use common::tiny::Tiny;
use common::{engine, forward, hidden, load, load_told, options, shard, tokens};
use exo_engine_cpu::kernels::Kernels;
use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_models::Model;
use exo_protocol::Tensor;
use exo_protocol::engine::EngineInput;
use proptest::prelude::*;

fn whole(model: &Model, prompt: &[u32]) -> (Vec<u32>, Vec<Vec<u32>>) {
    let layers = model.config().layers;
    let shards = cut(&[], layers);
    run(
        &mut engine(model, options(1)),
        &shards,
        prompt,
        &[prompt.len()],
        4,
    )
}

#[test]
fn every_cut_between_layers_gives_the_same_logits() {
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let layers = model.config().layers;
        let prompt = prompt(37, tiny.vocab);
        let expected = whole(&model, &prompt);
        assert!(
            expected
                .1
                .iter()
                .flatten()
                .all(|bits| f32::from_bits(*bits).is_finite())
        );
        for cuts in 0..1u32 << (layers - 1) {
            let at: Vec<u32> = (1..layers).filter(|n| cuts >> (n - 1) & 1 == 1).collect();
            let shards = cut(&at, layers);
            let got = run(&mut engine(&model, options(1)), &shards, &prompt, &[37], 4);
            assert!(got == expected, "{}, cut at {at:?}", tiny.architecture);
        }
    }
}

#[test]
fn every_kernel_and_number_of_threads_gives_the_same_logits() {
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let prompt = prompt(70, tiny.vocab);
        let expected = whole(&model, &prompt);
        for kernels in Kernels::available() {
            for threads in [1, 2, 5] {
                let opened = model.clone();
                let open = Box::new(move |_: &str| Ok(opened.clone()));
                let mut engine = CpuEngine::with_kernels(options(threads), open, kernels)
                    .expect("threads start");
                let shards = cut(&[1], model.config().layers);
                let got = run(&mut engine, &shards, &prompt, &[70], 4);
                assert!(
                    got == expected,
                    "{} on {} and {threads}",
                    tiny.architecture,
                    kernels.name
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_way_to_cut_a_prompt_gives_the_same_logits(
        len in 1usize..150,
        blocks in prop::collection::vec(1usize..140, 1..5),
        at in 1u32..3,
        qwen in any::<bool>(),
    ) {
        let tiny = if qwen { Tiny::QWEN } else { Tiny::LLAMA };
        let (_file, model) = tiny.write();
        let prompt = prompt(len, tiny.vocab);
        let expected = whole(&model, &prompt);
        let shards = cut(&[at], model.config().layers);
        let got = run(&mut engine(&model, options(2)), &shards, &prompt, &blocks, 4);
        prop_assert!(got == expected);
    }
}

#[test]
fn every_shard_tells_the_same_fingerprint() {
    let mut told = Vec::new();
    for tiny in [Tiny::LLAMA, Tiny::QWEN] {
        let (_file, model) = tiny.write();
        let layers = model.config().layers;
        let mut engine = engine(&model, options(1));
        // Twice: what is loaded already says it, too.
        let shards = [cut(&[1], layers), cut(&[], layers), cut(&[1], layers)].concat();
        for shard in shards {
            let (_, fingerprint) = load_told(&mut engine, &shard).expect("loads");
            assert_eq!(fingerprint, model.fingerprint().expect("it tells"));
            assert_ne!(fingerprint, 0);
            told.push(fingerprint);
        }
    }
    assert_ne!(told.first(), told.last());
}

#[test]
fn requests_do_not_disturb_each_other() {
    let (_file, model) = Tiny::LLAMA.write();
    let layers = model.config().layers;
    let mut engine = engine(&model, options(2));
    let all = shard(0..layers, layers);
    load(&mut engine, &all).expect("loads");
    let prompts = [prompt(20, 300), prompt(33, 290), prompt(9, 280)];
    let mut alone = Vec::new();
    for prompt in &prompts {
        forward(&mut engine, &all, "alone", 0, tokens(prompt)).expect("runs");
        forward(
            &mut engine,
            &all,
            "alone",
            prompt.len() as u32,
            tokens(&[3]),
        )
        .expect("runs");
        alone.push(engine.last_logits().to_vec());
    }
    let names = ["a", "b", "c"];
    for (name, prompt) in names.iter().zip(&prompts) {
        forward(&mut engine, &all, name, 0, tokens(prompt)).expect("runs");
    }
    for ((name, prompt), alone) in names.iter().zip(&prompts).zip(&alone).rev() {
        forward(&mut engine, &all, name, prompt.len() as u32, tokens(&[3])).expect("runs");
        assert_eq!(engine.last_logits(), alone);
    }
}

#[test]
fn hidden_states_in_half_precision_are_taken() {
    use exo_protocol::DType;
    let (_file, model) = Tiny::LLAMA.write();
    let layers = model.config().layers;
    let mut engine = engine(&model, CpuOptions::default());
    let (first, last) = (shard(0..2, layers), shard(2..layers, layers));
    load(&mut engine, &first).expect("loads");
    load(&mut engine, &last).expect("loads");
    let (output, _) = forward(&mut engine, &first, "r", 0, tokens(&[5, 6])).expect("runs");
    let state = hidden(output);
    assert_eq!(
        (state.dtype(), state.shape()),
        (DType::F32, &[1, 2, 256][..])
    );
    let floats = state
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes));
    forward(
        &mut engine,
        &last,
        "r",
        0,
        EngineInput::Hidden(state.clone()),
    )
    .expect("runs");
    let exact = engine.last_logits().to_vec();
    let f16: Vec<u8> = floats
        .clone()
        .flat_map(|x| half::f16::from_f32(x).to_le_bytes())
        .collect();
    let bf16: Vec<u8> = floats
        .flat_map(|x| half::bf16::from_f32(x).to_le_bytes())
        .collect();
    for (dtype, data, shape) in [
        (DType::F16, f16, vec![2, 256]),
        (DType::Bf16, bf16, vec![1, 2, 256]),
    ] {
        let tensor = Tensor::new(dtype, shape, data.into()).expect("a tensor");
        forward(&mut engine, &last, "r", 0, EngineInput::Hidden(tensor)).expect("runs");
        let most = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (a, b) in exact.iter().zip(engine.last_logits()) {
            assert!((a - b).abs() < 0.05 * most, "{dtype}: {a} and {b}");
        }
    }
}
