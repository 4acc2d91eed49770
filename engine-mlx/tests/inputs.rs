//! What peers, users and files get wrong: a failure that says so, and nothing changed.
#![cfg(mlx)]

mod common;
#[path = "../../engine-cpu/tests/common/tiny.rs"]
#[expect(dead_code, reason = "a part of it is used here")]
mod tiny;

use common::{
    ask, checkpoint, distance, engine, execute, forward, hidden, load, request, shard, through,
    tokens,
};
use exo_engine_mlx::{ComputeDtype, MlxEngine, MlxOptions, WeightForm};
use exo_models::Model;
use exo_protocol::engine::{
    EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, FailureKind, Sampling,
};
use exo_protocol::id::CallId;
use exo_protocol::{DType, Shard, Tensor};
use tiny::Tiny;

fn ready() -> (MlxEngine, [Shard; 2]) {
    let model = checkpoint("llama");
    let mut engine = engine(&model, MlxOptions::default());
    let shards = [shard(0..2, 4), shard(2..4, 4)];
    for shard in &shards {
        load(&mut engine, shard).expect("loads");
    }
    (engine, shards)
}

fn tensor(dtype: DType, shape: &[usize]) -> EngineInput {
    let len = shape.iter().product::<usize>() * dtype.size();
    let tensor = Tensor::new(dtype, shape.to_vec(), vec![0; len].into());
    EngineInput::Hidden(tensor.expect("a tensor"))
}

#[track_caller]
fn fails<T>(result: Result<T, EngineFailure>, kind: FailureKind, words: &[&str]) {
    let Err(failure) = result else {
        panic!("it should fail with {words:?}")
    };
    assert_eq!(failure.kind, kind, "{failure}");
    for word in words {
        let told = failure.message.contains(word);
        assert!(told, "{failure} should say {word:?}");
    }
}

#[test]
fn inputs_that_do_not_fit() {
    use FailureKind::BadInput;
    let (mut engine, [first, last]) = ready();
    let engine = &mut engine;
    let state = || tensor(DType::F32, &[1, 2, 32]);
    let mut wrong = |shard: &Shard, position, input, words: &[&str]| {
        fails(
            forward(engine, shard, "r", position, input),
            BadInput,
            words,
        );
    };
    wrong(&shard(0..3, 4), 0, tokens(&[1]), &["not loaded", "0-2"]);
    wrong(&first, 0, tokens(&[]), &["no positions"]);
    wrong(&first, 0, tokens(&[128]), &["128", "vocabulary"]);
    wrong(&first, 0, tokens(&[u32::MAX]), &["vocabulary"]);
    wrong(&first, 0, state(), &["first layer"]);
    wrong(&last, 0, tokens(&[1]), &["first layer"]);
    wrong(&last, 0, EngineInput::Text("a".into()), &["first layer"]);
    for (dtype, shape) in [
        (DType::F32, &[2, 2, 32][..]),
        (DType::F32, &[1, 2, 31]),
        (DType::F32, &[64]),
        (DType::F32, &[1, 0, 32]),
        (DType::F32, &[0, 1, 32]),
        (DType::F32, &[1, 1, 1, 32]),
        (DType::F64, &[1, 2, 32]),
        (DType::I32, &[1, 2, 32]),
        (DType::F32, &[]),
    ] {
        wrong(&last, 0, tensor(dtype, shape), &[]);
    }
    wrong(&last, 3, state(), &["position 3", "0 positions"]);
    wrong(&last, u32::MAX as usize, state(), &["0 positions"]);
}

#[test]
fn every_float_comes_in() {
    let (mut engine, [first, last]) = ready();
    let state = forward(&mut engine, &first, "r", 0, tokens(&[1, 2, 3])).expect("runs");
    let state = hidden(state);
    assert_eq!(
        (state.dtype(), state.shape()),
        (DType::F32, &[1, 3, 32][..])
    );
    let floats: Vec<f32> = state
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let run = |engine: &mut MlxEngine, dtype, shape: &[usize], data: Vec<u8>| {
        let input = Tensor::new(dtype, shape.to_vec(), data.into()).expect("a tensor");
        forward(engine, &last, "r", 0, EngineInput::Hidden(input)).expect("runs");
        engine.last_logits()
    };
    let wanted = run(&mut engine, DType::F32, &[1, 3, 32], state.data().to_vec());
    let flat = run(&mut engine, DType::F32, &[3, 32], state.data().to_vec());
    assert_eq!(flat, wanted);
    let half = |narrow: fn(f32) -> [u8; 2]| floats.iter().flat_map(|&x| narrow(x)).collect();
    let f16 = half(|x| half::f16::from_f32(x).to_le_bytes());
    let f16 = run(&mut engine, DType::F16, &[1, 3, 32], f16);
    assert!(distance(&f16, &wanted) < 2e-2);
    let bf16 = half(|x| half::bf16::from_f32(x).to_le_bytes());
    let bf16 = run(&mut engine, DType::Bf16, &[1, 3, 32], bf16);
    assert!(distance(&bf16, &wanted) < 2e-1);
}

#[test]
fn a_context_that_is_full_says_so_and_stays() {
    let model = checkpoint("llama");
    let mut options = MlxOptions::default();
    options.max_context = 8;
    let mut engine = engine(&model, options);
    let whole = [shard(0..4, 4)];
    load(&mut engine, &whole[0]).expect("loads");
    through(&mut engine, &whole, "r", 0, &[1, 2, 3, 4, 5, 6]);
    let input = tokens(&[7, 8, 9]);
    let full = forward(&mut engine, &whole[0], "r", 6, input);
    fails(
        full,
        FailureKind::ContextFull,
        &["9 positions", "context of 8"],
    );
    through(&mut engine, &whole, "r", 6, &[7, 8]);
}

#[test]
fn shards_that_are_none() {
    let model = checkpoint("llama");
    let mut engine = engine(&model, MlxOptions::default());
    fails(
        load(&mut engine, &shard(0..5, 5)),
        FailureKind::BadModel,
        &["5 layers", "has 4"],
    );
    let mut none = shard(0..4, 4);
    (none.start, none.end) = (3, 1);
    fails(
        load(&mut engine, &none),
        FailureKind::BadModel,
        &["no layers"],
    );
    let call = CallId(4);
    let unload = EngineCommand::Unload {
        call,
        shard: shard(0..1, 4),
    };
    assert_eq!(execute(&mut engine, unload), EngineEvent::Unloaded { call });
    let free = EngineCommand::Free {
        call,
        request: request("nobody"),
    };
    assert_eq!(execute(&mut engine, free), EngineEvent::Freed { call });
}

#[test]
fn a_model_that_is_not_here() {
    let folder = std::path::PathBuf::from("nowhere");
    let open = Box::new(move |_: &str| Model::open(&folder));
    let mut engine = MlxEngine::new(MlxOptions::default(), open).expect("MLX has a device");
    let failure = load(&mut engine, &shard(0..4, 4)).expect_err("there is none");
    assert!(failure.message.contains("nowhere"), "{failure}");
}

#[test]
fn memory_is_refused_with_numbers_before_it_is_taken() {
    let model = checkpoint("llama");
    let whole = [shard(0..4, 4)];
    let limited = |limit| {
        let mut options = MlxOptions::default();
        options.memory_limit = Some(limit);
        engine(&model, options)
    };
    let mut free = engine(&model, MlxOptions::default());
    let weights = load(&mut free, &whole[0]).expect("loads");
    assert_eq!(free.memory_used(), weights);
    through(&mut free, &whole, "r", 0, &[1, 2, 3]);
    let cache = free.memory_used() - weights;
    // Four layers, 256 positions, two heads of keys and of values.
    let width = model.config().head_dim as u64;
    assert_eq!(cache, 4 * 256 * 2 * 2 * width * 4);

    let mut engine = limited(weights + cache - 1);
    let words = [
        &*(weights + cache).to_string(),
        &(weights + cache - 1).to_string(),
        "1 too many",
    ];
    fails(
        load(&mut engine, &whole[0]),
        FailureKind::OutOfMemory,
        &words,
    );
    assert_eq!(engine.memory_used(), 0);

    let mut engine = limited(weights + 2 * cache);
    load(&mut engine, &whole[0]).expect("fits");
    through(&mut engine, &whole, "a", 0, &[1, 2, 3]);
    through(&mut engine, &whole, "b", 0, &[1, 2, 3]);
    let third = forward(&mut engine, &whole[0], "c", 0, tokens(&[1]));
    fails(
        third,
        FailureKind::OutOfMemory,
        &["the KV cache", &cache.to_string()],
    );
    let longer = forward(&mut engine, &whole[0], "a", 3, tokens(&[1; 300]));
    fails(
        longer,
        FailureKind::OutOfMemory,
        &[&(2 * cache).to_string()],
    );
    through(&mut engine, &whole, "a", 3, &[4]);
    common::free(&mut engine, "b");
    forward(&mut engine, &whole[0], "c", 0, tokens(&[1])).expect("there is room again");
}

#[test]
fn weights_stay_packed_where_single_precision_has_no_room() {
    // Every format that a GGUF may have.
    let (_file, model) = Tiny::LLAMA.write();
    let whole = [shard(0..4, 4)];
    let run = |form, limit| {
        let mut options = MlxOptions::default();
        (options.weights, options.memory_limit) = (form, limit);
        let mut engine = engine(&model, options);
        let bytes = load(&mut engine, &whole[0]).expect("loads");
        through(&mut engine, &whole, "r", 0, &[1, 20, 300 - 1, 7]);
        (bytes, engine.last_logits())
    };
    let (large, dense) = run(WeightForm::Dense, None);
    let (small, packed) = run(WeightForm::Packed, None);
    assert!(small * 3 < large, "{small} of {large}");
    // Two of the formats become half precision rather than packed.
    assert!(distance(&packed, &dense) < 2e-3);
    assert_eq!(run(WeightForm::Auto, None), (large, dense));
    assert_eq!(run(WeightForm::Auto, Some(large)), (small, packed));
}

#[test]
fn half_precision_computes_as_well() {
    let model = checkpoint("llama");
    let layers = [shard(0..2, 4), shard(2..4, 4)];
    let run = |dtype| {
        let mut options = MlxOptions::default();
        options.dtype = dtype;
        let mut engine = engine(&model, options);
        for shard in &layers {
            load(&mut engine, shard).expect("loads");
        }
        let state = forward(&mut engine, &layers[0], "r", 0, tokens(&[1, 2])).expect("runs");
        through(&mut engine, &layers, "s", 0, &[1, 2, 3]);
        (hidden(state).dtype(), engine.last_logits())
    };
    let (dtype, wanted) = run(None);
    assert_eq!(dtype, DType::F32);
    let (dtype, got) = run(Some(ComputeDtype::F16));
    assert_eq!(dtype, DType::F16);
    assert!(
        distance(&got, &wanted) < 5e-2,
        "{}",
        distance(&got, &wanted)
    );
    let (dtype, got) = run(Some(ComputeDtype::Bf16));
    assert_eq!(dtype, DType::Bf16);
    assert!(
        distance(&got, &wanted) < 3e-1,
        "{}",
        distance(&got, &wanted)
    );
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("../tests/families/checkpoints/llama");
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(source.join(name), folder.path().join(name)).expect("a copy");
    }
    let path = folder.path().join("model.safetensors");
    let mut file = std::fs::read(&path).expect("the copy");
    let end = file.len();
    file[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, file).expect("it is written");
    let model = Model::open(folder.path()).expect("its header is sound");
    let mut engine = engine(&model, MlxOptions::default());
    let failure = load(&mut engine, &shard(0..4, 4));
    fails(failure, FailureKind::BadModel, &["model.safetensors"]);
    assert_eq!(engine.memory_used(), 0);
}

#[test]
fn progress_counts_up_to_the_whole() {
    let model = checkpoint("llama-mlx-4bit-g64");
    let mut engine = engine(&model, MlxOptions::default());
    let command = EngineCommand::Load {
        call: CallId(5),
        shard: shard(0..model.config().layers, model.config().layers),
    };
    let mut told = Vec::new();
    let done = exo_protocol::engine::Engine::execute(&mut engine, command, &mut |event| {
        if let EngineEvent::Progress { done, total, .. } = event {
            told.push((done, total));
        }
    });
    assert!(matches!(done, EngineEvent::Loaded { .. }), "{done:?}");
    assert!(told.is_sorted(), "{told:?}");
    let (done, total) = *told.last().expect("some progress");
    assert_eq!(done, total);
}

#[test]
fn the_end_of_an_answer_is_told() {
    let (mut engine, shards) = ready();
    let eos = checkpoint("llama").config().eos.clone();
    let sampling = Some(Sampling::default());
    let state = hidden(forward(&mut engine, &shards[0], "r", 0, tokens(&[1])).expect("runs"));
    let command = ask(&shards[1], "r", 0, EngineInput::Hidden(state), sampling);
    match execute(&mut engine, command) {
        EngineEvent::Forwarded {
            output: EngineOutput::Token { token, end },
            positions: 1,
            ..
        } => assert_eq!(end, eos.contains(&token)),
        other => panic!("{other:?}"),
    }
}
