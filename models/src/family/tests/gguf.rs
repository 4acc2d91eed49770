//! The same models as converters write them.

use super::{deepseek::deepseek_v2_lite, every_other_slides, windows};
use crate::{
    Family, ModelConfig, ModelError, RopeLayout, RopeScaling, Scoring,
    config::from_gguf,
    gguf::{Array, Gguf, Value},
    test_files::{F32, GgufFile},
};

/// A file of this architecture: whole numbers, others, and names of tensors, which have one element.
pub(super) fn file(
    architecture: &str,
    counts: &[(&str, u32)],
    numbers: &[(&str, f32)],
    tensors: &[&str],
) -> GgufFile {
    let mut file = GgufFile {
        version: 3,
        metadata: Vec::new(),
        tensors: Vec::new(),
    };
    file.set(
        "general.architecture",
        Value::String(architecture.to_owned()),
    );
    for &(name, value) in counts {
        file.set(&format!("{architecture}.{name}"), Value::U32(value));
    }
    for &(name, value) in numbers {
        file.set(&format!("{architecture}.{name}"), Value::F32(value));
    }
    for name in tensors {
        file.tensor(name, &[1], F32, vec![0; 4]);
    }
    file
}

pub(super) fn read(file: &GgufFile) -> Result<ModelConfig, ModelError> {
    let bytes = file.bytes().0;
    let gguf = Gguf::parse(&bytes).unwrap();
    from_gguf("some.gguf".as_ref(), &gguf, &bytes)
}

/// What all files have, of these sizes.
fn sizes(
    layers: u32,
    hidden: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
) -> Vec<(&'static str, u32)> {
    vec![
        ("block_count", layers),
        ("context_length", 4096),
        ("embedding_length", hidden),
        ("feed_forward_length", ffn),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("vocab_size", 1000),
    ]
}

const EPS: (&str, f32) = ("attention.layer_norm_rms_epsilon", 1e-6);

#[test]
fn smollm3() {
    let config = read(&file(
        "smollm3",
        &sizes(36, 2048, 11008, 16, 4),
        &[EPS],
        &[],
    ))
    .unwrap();
    assert_eq!(
        (config.family, config.rope.layout),
        (Family::SmolLm3, RopeLayout::Interleaved)
    );
    let positions: Vec<_> = config
        .layer_kinds
        .iter()
        .map(|kind| kind.positions)
        .collect();
    assert_eq!(
        positions[..8],
        [true, true, true, false, true, true, true, false]
    );
}

#[test]
fn qwen3() {
    let mut counts = sizes(28, 1024, 3072, 16, 8);
    counts.extend([
        ("attention.key_length", 128),
        ("attention.value_length", 128),
    ]);
    let config = read(&file(
        "qwen3",
        &counts,
        &[EPS, ("rope.freq_base", 1e6)],
        &[],
    ))
    .unwrap();
    assert_eq!((config.family, config.head_dim), (Family::Qwen3, 128));
    assert!(config.qk_norm && config.rope.layout == RopeLayout::Half);

    let mut long = file("qwen3", &counts, &[EPS, ("rope.scaling.factor", 4.0)], &[]);
    long.set("qwen3.rope.scaling.type", Value::String("yarn".to_owned()));
    long.set(
        "qwen3.rope.scaling.original_context_length",
        Value::U32(32_768),
    );
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 32_768,
        beta_fast: 32.0,
        beta_slow: 1.0,
        magnitude: (0.1 * 4_f64.ln() + 1.0) as f32,
    };
    assert_eq!(read(&long).unwrap().rope.scaling, expected);

    // Experts where there should be none.
    counts.push(("expert_count", 8));
    let error = read(&file("qwen3", &counts, &[EPS], &[])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("experts in the architecture `qwen3`"),
        "{error}"
    );
}

#[test]
fn qwen3moe() {
    let mut counts = sizes(4, 2048, 6144, 32, 4);
    counts.extend([
        ("attention.key_length", 128),
        ("expert_count", 128),
        ("expert_used_count", 8),
        ("expert_feed_forward_length", 768),
    ]);
    let routers = [0, 1, 3].map(|layer| format!("blk.{layer}.ffn_gate_inp.weight"));
    let routers: Vec<_> = routers.iter().map(String::as_str).collect();
    let config = read(&file("qwen3moe", &counts, &[EPS], &routers)).unwrap();
    let experts = config.experts.unwrap();
    assert_eq!(
        (experts.count, experts.active, experts.intermediate),
        (128, 8, 768)
    );
    assert!(experts.normalise && experts.scoring == Scoring::Softmax);
    let with: Vec<_> = config.layer_kinds.iter().map(|kind| kind.experts).collect();
    assert_eq!(with, [true, true, false, true]);
    counts.retain(|(name, _)| *name != "expert_used_count");
    let error = read(&file("qwen3moe", &counts, &[EPS], &routers)).unwrap_err();
    assert!(
        error.to_string().contains("qwen3moe.expert_used_count"),
        "{error}"
    );
}

#[test]
fn gemma2() {
    let gemma = |layers, hidden, heads, kv_heads, width| {
        let mut counts = sizes(layers, hidden, 9216, heads, kv_heads);
        counts.extend([
            ("attention.key_length", width),
            ("attention.value_length", width),
            ("attention.sliding_window", 4096),
        ]);
        let numbers = [
            EPS,
            ("attn_logit_softcapping", 50.0),
            ("final_logit_softcapping", 30.0),
        ];
        read(&file("gemma2", &counts, &numbers, &[])).unwrap()
    };
    let config = gemma(26, 2304, 8, 4, 256);
    assert_eq!((config.embedding_scale, config.score_scale), (48.0, 0.0625));
    assert_eq!(
        (config.score_cap, config.logit_cap),
        (Some(50.0), Some(30.0))
    );
    // One was added already.
    assert!(config.post_norms && config.norm_offset == 0.0 && config.tied_embeddings);
    every_other_slides(&config, 2, 4096);
    assert_eq!(gemma(46, 4608, 32, 16, 128).score_scale, 1.0 / 12.0);
}

#[test]
fn gemma3() {
    let counts = |layers, hidden, heads, width| {
        let mut counts = sizes(layers, hidden, 10240, heads, 4);
        counts.extend([
            ("attention.key_length", width),
            ("attention.value_length", width),
            ("attention.sliding_window", 1024),
        ]);
        counts
    };
    let numbers = [EPS, ("rope.freq_base", 1e6), ("rope.scaling.factor", 8.0)];
    let written = |counts: &[(&str, u32)]| {
        let mut file = file("gemma3", counts, &numbers, &[]);
        file.set(
            "gemma3.rope.scaling.type",
            Value::String("linear".to_owned()),
        );
        file
    };
    let config = read(&written(&counts(34, 2560, 8, 256))).unwrap();
    every_other_slides(&config, 6, 1024);
    let rope = |layer| config.rope_of(layer).unwrap();
    assert_eq!(
        (rope(5).theta, &rope(5).scaling),
        (1e6, &RopeScaling::Linear { factor: 8.0 })
    );
    assert_eq!((rope(0).theta, &rope(0).scaling), (1e4, &RopeScaling::None));
    assert!(config.qk_norm && config.post_norms && config.norm_offset == 0.0);
    assert_eq!((config.score_scale, config.score_cap), (0.0625, None));
    let large = read(&written(&counts(62, 5376, 32, 128))).unwrap();
    assert_eq!(large.score_scale, 168_f32.sqrt().recip());

    // Newer files say which layers slide, in two ways.
    let mut newer = written(&counts(6, 2560, 8, 256));
    newer.set("gemma3.attention.sliding_window_pattern", Value::U32(3));
    newer.set("gemma3.rope.freq_base_swa", Value::F32(20_000.0));
    let config = read(&newer).unwrap();
    every_other_slides(&config, 3, 1024);
    assert_eq!(config.rope_of(0).unwrap().theta, 20_000.0);
    let flags = vec![false, true, true, true, true, true];
    newer.set(
        "gemma3.attention.sliding_window_pattern",
        Value::Array(Array::Bool(flags)),
    );
    let mut expected = [Some(1024); 6];
    expected[0] = None;
    assert_eq!(windows(&read(&newer).unwrap()), expected);
    let flags = Value::Array(Array::Bool(vec![true; 5]));
    newer.set("gemma3.attention.sliding_window_pattern", flags);
    let error = read(&newer).unwrap_err().to_string();
    assert!(error.contains("sliding_window_pattern"), "{error}");
}

#[test]
fn phi3() {
    let mut counts = sizes(32, 3072, 8192, 24, 8);
    counts.extend([
        ("rope.dimension_count", 96),
        ("rope.scaling.original_context_length", 512),
        ("attention.sliding_window", 262_144),
    ]);
    let floats = |n: f32| vec![n; 48].into_iter().flat_map(f32::to_le_bytes).collect();
    let written = |numbers: &[(&str, f32)]| {
        let mut file = file("phi3", &counts, numbers, &[]);
        file.tensor("rope_factors_long.weight", &[48], F32, floats(1.5));
        file.tensor("rope_factors_short.weight", &[48], F32, floats(1.0));
        file
    };
    let config = read(&written(&[EPS])).unwrap();
    assert_eq!((config.head_dim, config.rope.dims), (128, 96));
    assert_eq!(
        (config.rope.layout, windows(&config)),
        (RopeLayout::Half, vec![None; 32])
    );
    // From 512 to 4096: ln 8 / ln 512 is a third.
    let long = |magnitude| RopeScaling::LongRope {
        factors: vec![1.5; 48],
        magnitude,
    };
    assert_eq!(config.rope.scaling, long((4_f64 / 3.0).sqrt() as f32));
    let told = written(&[EPS, ("rope.scaling.attn_factor", 1.19)]);
    assert_eq!(read(&told).unwrap().rope.scaling, long(1.19));

    let mut wrong = written(&[EPS]);
    wrong.tensors[0].dims = vec![47];
    wrong.tensors[0].data.truncate(47 * 4);
    let error = read(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("rope_factors_long.weight") && error.contains("48"),
        "{error}"
    );
    let mut wrong = written(&[EPS]);
    wrong.tensors[0].data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = read(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("rope_factors_long.weight") && error.contains("NaN"),
        "{error}"
    );
}

#[test]
fn deepseek2() {
    let mut counts = sizes(27, 2048, 10944, 16, 16);
    counts.extend([
        ("attention.key_length", 192),
        ("attention.value_length", 128),
        ("attention.kv_lora_rank", 512),
        ("rope.dimension_count", 64),
        ("rope.scaling.original_context_length", 4096),
        ("leading_dense_block_count", 1),
        ("expert_count", 64),
        ("expert_used_count", 6),
        ("expert_shared_count", 2),
        ("expert_feed_forward_length", 1408),
    ]);
    let numbers = [
        EPS,
        ("rope.freq_base", 10_000.0),
        ("rope.scaling.factor", 40.0),
        ("rope.scaling.yarn_log_multiplier", 0.0707),
        ("expert_weights_scale", 1.0),
    ];
    let tensors = ["output.weight", "blk.0.attn_kv_b.weight"];
    let written = |counts: &[(&str, u32)]| {
        let mut file = file("deepseek2", counts, &numbers, &tensors);
        file.set(
            "deepseek2.rope.scaling.type",
            Value::String("yarn".to_owned()),
        );
        file
    };
    let config = read(&written(&counts)).unwrap();
    let expected = super::read(&deepseek_v2_lite());
    let same = ModelConfig {
        context: expected.context,
        vocab: expected.vocab,
        eos: expected.eos.clone(),
        bos: expected.bos,
        weight_bytes: expected.weight_bytes,
        score_scale: expected.score_scale,
        ..config.clone()
    };
    assert_eq!(same, expected);
    // A tenth of 0.707 is not exactly what the file says.
    assert!((config.score_scale - expected.score_scale).abs() < 1e-6);

    // DeepSeek 3, in a file of a time that had both names of a width.
    counts.retain(|(name, _)| !name.starts_with("attention.key") && !name.contains("kv_b"));
    counts.extend([
        ("attention.key_length", 576),
        ("attention.key_length_mla", 192),
        ("attention.value_length_mla", 128),
        ("attention.q_lora_rank", 1536),
        ("expert_gating_func", 2),
        ("expert_group_count", 8),
        ("expert_group_used_count", 4),
    ]);
    let mut third = written(&counts);
    third.set("deepseek2.expert_weights_norm", Value::Bool(true));
    let config = read(&third).unwrap();
    assert_eq!((config.family, config.head_dim), (Family::DeepSeek3, 192));
    assert_eq!(config.latent.unwrap().query_rank, Some(1536));
    let experts = config.experts.unwrap();
    assert_eq!((experts.groups, experts.active_groups), (8, 4));
    assert!(experts.choice_bias && experts.group_by_two && experts.normalise);

    third.tensors.retain(|tensor| !tensor.name.contains("kv_b"));
    let error = read(&third).unwrap_err().to_string();
    assert!(
        error.contains("attn_k_b") && error.contains("attn_kv_b"),
        "{error}"
    );
}

#[test]
fn what_is_not_read_is_refused_with_what_is() {
    let error = read(&file("mamba", &[], &[], &[])).unwrap_err().to_string();
    for name in [
        "mamba",
        "llama",
        "smollm3",
        "qwen3moe",
        "gemma3",
        "phi3",
        "deepseek2",
    ] {
        assert!(error.contains(name), "{error}");
    }
}
