//! What peers and users get wrong: a failure that says so, and nothing changed.

mod common;

use common::tiny::Tiny;
use common::{engine, execute, forward, hidden, load, options, request, shard, tokens};
use exo_engine_cpu::CpuEngine;
use exo_models::{Model, ModelError};
use exo_protocol::engine::{
    EngineCommand, EngineEvent, EngineFailure, EngineInput, FailureKind, Sampling,
};
use exo_protocol::id::CallId;
use exo_protocol::{DType, Shard, Tensor};
use proptest::prelude::*;

fn ready() -> (tempfile::NamedTempFile, CpuEngine, [Shard; 2]) {
    let (file, model) = Tiny::LLAMA.write();
    let mut engine = engine(&model, options(2));
    let shards = [shard(0..2, 4), shard(2..4, 4)];
    for shard in &shards {
        load(&mut engine, shard).expect("loads");
    }
    (file, engine, shards)
}

fn tensor(dtype: DType, shape: &[usize]) -> Tensor {
    let len = shape.iter().product::<usize>() * dtype.size();
    Tensor::new(dtype, shape.to_vec(), vec![0; len].into()).expect("a tensor")
}

#[track_caller]
fn fails<T>(result: Result<T, EngineFailure>, kind: FailureKind, words: &[&str]) {
    let Err(failure) = result else {
        panic!("it should fail with {words:?}")
    };
    assert_eq!(failure.kind, kind, "{failure}");
    for word in words {
        assert!(
            failure.message.contains(word),
            "{failure} should say {word:?}"
        );
    }
}

#[test]
fn inputs_that_do_not_fit() {
    use FailureKind::BadInput;
    let (_file, mut engine, [first, last]) = ready();
    let engine = &mut engine;
    let hidden = |dtype, shape: &[usize]| EngineInput::Hidden(tensor(dtype, shape));
    let state = || hidden(DType::F32, &[1, 2, 256]);

    let unknown = shard(0..3, 4);
    fails(
        forward(engine, &unknown, "r", 0, tokens(&[1])),
        BadInput,
        &["not loaded", "0-2"],
    );
    fails(
        forward(engine, &first, "r", 0, tokens(&[])),
        BadInput,
        &["no positions"],
    );
    fails(
        forward(engine, &first, "r", 0, tokens(&[300])),
        BadInput,
        &["300", "vocabulary"],
    );
    fails(
        forward(engine, &first, "r", 0, tokens(&[u32::MAX])),
        BadInput,
        &["vocabulary"],
    );
    fails(
        forward(engine, &first, "r", 0, state()),
        BadInput,
        &["first layer"],
    );
    fails(
        forward(engine, &last, "r", 0, tokens(&[1])),
        BadInput,
        &["first layer"],
    );
    fails(
        forward(engine, &last, "r", 0, EngineInput::Text("a".into())),
        BadInput,
        &["first layer"],
    );
    for (dtype, shape) in [
        (DType::F32, &[2, 2, 256][..]),
        (DType::F32, &[1, 2, 255]),
        (DType::F32, &[512]),
        (DType::F32, &[1, 0, 256]),
        (DType::F32, &[1, 1, 1, 256]),
        (DType::F64, &[1, 2, 256]),
        (DType::I32, &[1, 2, 256]),
        (DType::F32, &[]),
    ] {
        fails(
            forward(engine, &last, "r", 0, hidden(dtype, shape)),
            BadInput,
            &[],
        );
    }
    fails(
        forward(engine, &last, "r", 3, state()),
        BadInput,
        &["position 3", "0 positions"],
    );
    forward(engine, &last, "r", 0, state()).expect("fits");
    forward(engine, &last, "r", 2, state()).expect("fits");
    fails(
        forward(engine, &last, "r", 5, state()),
        BadInput,
        &["position 5", "4 positions"],
    );
    fails(
        forward(engine, &last, "r", u32::MAX, state()),
        BadInput,
        &["4 positions"],
    );
}

#[test]
fn a_failure_leaves_the_cache_as_it_was() {
    let (_file, mut engine, [first, last]) = ready();
    let engine = &mut engine;
    let step = |engine: &mut CpuEngine, name: &str, position, ids: &[u32]| {
        let state = hidden(
            forward(engine, &first, name, position, tokens(ids))
                .expect("runs")
                .0,
        );
        forward(engine, &last, name, position, EngineInput::Hidden(state)).expect("runs");
        engine.last_logits().to_vec()
    };
    step(engine, "calm", 0, &[1, 2, 3]);
    let expected = step(engine, "calm", 3, &[4]);

    step(engine, "shaken", 0, &[1, 2, 3]);
    let used = engine.memory_used();
    fails(
        forward(engine, &first, "shaken", 3, tokens(&[5; 254])),
        FailureKind::ContextFull,
        &["257", "256"],
    );
    fails(
        forward(engine, &first, "shaken", 0, tokens(&[5; 257])),
        FailureKind::ContextFull,
        &["257", "256"],
    );
    fails(
        forward(engine, &first, "shaken", 3, tokens(&[5, 999])),
        FailureKind::BadInput,
        &["999"],
    );
    fails(
        forward(engine, &first, "shaken", 0, tokens(&[999])),
        FailureKind::BadInput,
        &["999"],
    );
    assert_eq!(engine.memory_used(), used);
    assert_eq!(step(engine, "shaken", 3, &[4]), expected);
    // And position zero starts anew.
    step(engine, "shaken", 0, &[1, 2, 3]);
    assert_eq!(step(engine, "shaken", 3, &[4]), expected);
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let (_file, mut engine, [_, last]) = ready();
    let bytes: Vec<u8> = (0..2 * 256)
        .flat_map(|i| [f32::NAN, f32::INFINITY, -3e38, 1.0][i % 4].to_le_bytes())
        .collect();
    let state = Tensor::new(DType::F32, vec![1, 2, 256], bytes.into()).expect("a tensor");
    forward(
        &mut engine,
        &last,
        "r",
        0,
        EngineInput::Hidden(state.clone()),
    )
    .expect("computes");
    forward(&mut engine, &last, "r", 2, EngineInput::Hidden(state)).expect("computes");
}

#[test]
fn shards_that_are_none_of_the_model() {
    use FailureKind::{BadModel, ModelNotFound};
    let (_file, model) = Tiny::LLAMA.write();
    let mut engine = engine(&model, options(1));
    fails(
        load(&mut engine, &shard(0..5, 5)),
        BadModel,
        &["5 layers", "has 4", "model"],
    );
    for (start, end) in [(3, 2), (4, 4), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        let wild = Shard {
            start,
            end,
            ..shard(0..1, 4)
        };
        fails(load(&mut engine, &wild), BadModel, &[]);
        fails(
            forward(&mut engine, &wild, "r", 0, tokens(&[1])),
            FailureKind::BadInput,
            &[],
        );
        execute(
            &mut engine,
            EngineCommand::Unload {
                call: CallId(3),
                shard: wild,
            },
        );
    }
    let open = |name: &str| Model::open(name.as_ref());
    let mut engine = CpuEngine::new(options(1), Box::new(open)).expect("threads start");
    fails(
        load(&mut engine, &shard(0..1, 4)),
        ModelNotFound,
        &["model"],
    );
}

#[test]
fn a_damaged_file_is_a_bad_model() {
    let (file, model) = Tiny::LLAMA.write();
    let len = file.as_file().metadata().expect("a file").len();
    let cut = tempfile::Builder::new()
        .suffix(".gguf")
        .tempfile()
        .expect("a file");
    let bytes = std::fs::read(file.path()).expect("reads");
    std::fs::write(cut.path(), &bytes[..len as usize / 2]).expect("writes");
    let path = cut.path().to_owned();
    let open = move |_: &str| -> Result<Model, ModelError> { Model::open(&path) };
    let mut engine = CpuEngine::new(options(1), Box::new(open)).expect("threads start");
    fails(
        load(&mut engine, &shard(0..4, 4)),
        FailureKind::BadModel,
        &[],
    );
    drop(model);
}

#[test]
fn memory_is_bounded() {
    use FailureKind::OutOfMemory;
    let (_file, model) = Tiny::LLAMA.write();
    let all = shard(0..4, 4);
    let weights = load(&mut engine(&model, options(1)), &all).expect("loads");
    // Four layers of keys and values of two heads in half precision, in pages of 64 positions.
    let page = 64 * 4 * 2 * 2 * 32 * 2;

    let limited = |limit| {
        let mut options = options(1);
        options.memory_limit = Some(limit);
        engine(&model, options)
    };
    let number = weights.to_string();
    let needed = (weights + page).to_string();
    fails(
        load(&mut limited(weights), &all),
        OutOfMemory,
        &[&number, &needed],
    );

    let mut engine = limited(weights + 2 * page);
    load(&mut engine, &all).expect("loads");
    assert_eq!(engine.memory_used(), weights);
    forward(&mut engine, &all, "a", 0, tokens(&[1; 64])).expect("fits");
    assert_eq!(engine.memory_used(), weights + page);
    forward(&mut engine, &all, "b", 0, tokens(&[1; 64])).expect("fits");
    fails(
        forward(&mut engine, &all, "a", 64, tokens(&[1])),
        OutOfMemory,
        &["KV cache"],
    );
    fails(
        forward(&mut engine, &all, "c", 0, tokens(&[1])),
        OutOfMemory,
        &["KV cache"],
    );
    // Starting anew needs no more than there is.
    forward(&mut engine, &all, "a", 0, tokens(&[1; 64])).expect("fits");
    execute(
        &mut engine,
        EngineCommand::Free {
            call: CallId(4),
            request: request("b"),
        },
    );
    execute(
        &mut engine,
        EngineCommand::Free {
            call: CallId(4),
            request: request("nobody"),
        },
    );
    forward(&mut engine, &all, "a", 64, tokens(&[1])).expect("fits now");
    forward(&mut engine, &all, "a", 0, tokens(&[1])).expect("fits");
    assert_eq!(
        engine.memory_used(),
        weights + page,
        "starting anew gives pages back"
    );
    execute(
        &mut engine,
        EngineCommand::Unload {
            call: CallId(5),
            shard: all.clone(),
        },
    );
    assert_eq!(engine.memory_used(), 0);
    fails(
        forward(&mut engine, &all, "a", 1, tokens(&[1])),
        FailureKind::BadInput,
        &["not loaded"],
    );
}

#[test]
fn loading_tells_how_far_it_is() {
    let (_file, model) = Tiny::LLAMA.write();
    let mut engine = engine(&model, options(1));
    let command = EngineCommand::Load {
        call: CallId(7),
        shard: shard(0..4, 4),
    };
    let mut told = Vec::new();
    let event = exo_protocol::engine::Engine::execute(&mut engine, command, &mut |event| {
        if let EngineEvent::Progress {
            call: CallId(7),
            done,
            total,
        } = event
        {
            told.push((done, total));
        }
    });
    let EngineEvent::Loaded { bytes, .. } = event else {
        panic!("{event:?}")
    };
    assert_eq!(told.last(), Some(&(bytes, bytes)));
    assert!(told.is_sorted());
}

fn any_input() -> impl Strategy<Value = EngineInput> {
    let shape = prop::collection::vec(0usize..260, 0..4);
    let dtype = prop::sample::select(DType::ALL.to_vec());
    prop_oneof![
        prop::collection::vec(0u32..400, 0..40).prop_map(EngineInput::Tokens),
        "[a-z ]{0,20}".prop_map(|text| EngineInput::Text(text.into())),
        (dtype, shape).prop_map(|(dtype, shape)| {
            let small: Vec<usize> = shape.into_iter().take(2).collect();
            EngineInput::Hidden(tensor(dtype, &small))
        }),
        (1usize..5, any::<u8>()).prop_map(|(count, byte)| {
            let data = vec![byte; count * 256 * 4];
            let tensor = Tensor::new(DType::F32, vec![1, count, 256], data.into());
            EngineInput::Hidden(tensor.expect("a tensor"))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_command_makes_it_panic(
        commands in prop::collection::vec(
            (
                0u8..8, 0u32..6, 0u32..6, 0u32..6, 0usize..3, 0u32..50, any_input(),
                any::<Option<f32>>(),
            ),
            1..40,
        ),
    ) {
        let (_file, mut engine, _) = ready();
        for (n, (what, start, end, layers, name, position, input, temperature)) in
            commands.into_iter().enumerate()
        {
            let call = CallId(n as u64);
            let shard = Shard { start, end, layers, ..shard(0..1, 4) };
            let request = request(["a", "b", "c"][name]);
            let sampling =
                temperature.map(|temperature| Sampling { temperature, ..Sampling::default() });
            let command = match what {
                0 => EngineCommand::Load { call, shard },
                1 => EngineCommand::Unload { call, shard },
                2 => EngineCommand::Free { call, request },
                _ => EngineCommand::Forward { call, shard, request, position, input, sampling },
            };
            execute(&mut engine, command);
        }
    }
}
