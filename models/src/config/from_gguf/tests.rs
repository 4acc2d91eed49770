use std::path::Path;

use super::from_gguf;
use crate::{
    Family, Model, ModelConfig, ModelError, RopeLayout, RopeScaling,
    gguf::{Array, Gguf, Value},
    test_files::{self, F32, GgufFile, IM_END},
};

fn read_gguf(file: &GgufFile) -> Result<ModelConfig, ModelError> {
    let bytes = file.bytes().0;
    from_gguf(
        Path::new("tiny.gguf"),
        &Gguf::parse(&bytes).unwrap(),
        &bytes,
    )
}

fn with_key(key: &str, value: Value) -> Result<ModelConfig, ModelError> {
    let mut file = GgufFile::tiny();
    file.set(key, value);
    read_gguf(&file)
}

#[test]
fn what_gguf_metadata_says() {
    let file = GgufFile::tiny();
    let config = read_gguf(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    test_files::write_folder(folder.path(), true);
    let hugging_face = Model::open(folder.path()).unwrap().config().clone();
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    let bytes: usize = file.tensors.iter().map(|tensor| tensor.data.len()).sum();
    assert_eq!(config.weight_bytes, bytes as u64);
    let same = ModelConfig {
        rope: hugging_face.rope.clone(),
        weight_bytes: hugging_face.weight_bytes,
        ..config
    };
    assert_eq!(same, hugging_face);
}

#[test]
fn qwen_in_gguf() {
    let mut file = GgufFile::tiny();
    for (key, value) in &mut file.metadata {
        *key = key.replace("llama.", "qwen2.");
        if key == "general.architecture" {
            *value = Value::String("qwen2".to_owned());
        }
    }
    file.tensor("blk.0.attn_q.bias", &[32], F32, vec![0; 128]);
    file.tensor("output.weight", &[32, 261], F32, vec![0; 32 * 261 * 4]);
    let config = read_gguf(&file).unwrap();
    assert_eq!(
        (config.family, config.rope.layout),
        (Family::Qwen2, RopeLayout::Half)
    );
    assert!(config.biases.qkv && !config.tied_embeddings);
}

#[test]
fn gguf_details() {
    let list = Value::Array(Array::I32(vec![64, 64]));
    assert_eq!(
        with_key("llama.feed_forward_length", list)
            .unwrap()
            .intermediate,
        64
    );
    for (written, window) in [(64, Some(64)), (0, None)] {
        let config = with_key("llama.attention.sliding_window", Value::U32(written)).unwrap();
        let windows: Vec<_> = config.layer_kinds.iter().map(|kind| kind.window).collect();
        assert_eq!((windows, config.context), (vec![window; 2], 128));
    }
    assert_eq!(
        with_key("tokenizer.ggml.eot_token_id", Value::U32(9))
            .unwrap()
            .eos,
        [IM_END, 9]
    );
    assert!(
        with_key("tokenizer.ggml.add_bos_token", Value::Bool(true))
            .unwrap()
            .add_bos
    );
    let llama_bpe = Value::String("llama-bpe".to_owned());
    assert!(with_key("tokenizer.ggml.pre", llama_bpe).unwrap().add_bos);
    let mut linear = GgufFile::tiny();
    linear.set(
        "llama.rope.scaling.type",
        Value::String("linear".to_owned()),
    );
    linear.set("llama.rope.scaling.factor", Value::F32(4.0));
    assert_eq!(
        read_gguf(&linear).unwrap().rope.scaling,
        RopeScaling::Linear { factor: 4.0 }
    );
}

#[test]
fn every_wrong_gguf_key_is_named_with_its_file() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        let mut file = GgufFile::tiny();
        file.remove(key);
        let error = read_gguf(&file).unwrap_err().to_string();
        assert!(
            error.contains("tiny.gguf has no") && error.contains(key),
            "{error}"
        );
    }
    for (key, value) in [
        ("llama.block_count", Value::U32(0)),
        ("llama.block_count", Value::F32(2.0)),
        ("llama.embedding_length", Value::U64(1 << 40)),
        (
            "llama.feed_forward_length",
            Value::Array(Array::I32(vec![64, 32])),
        ),
        ("llama.attention.head_count", Value::U32(5)),
        ("llama.attention.head_count_kv", Value::U32(3)),
        ("llama.attention.key_length", Value::U32(7)),
        ("llama.rope.dimension_count", Value::U32(4)),
        ("llama.rope.freq_base", Value::F32(f32::NAN)),
        ("tokenizer.ggml.eos_token_id", Value::U32(261)),
        ("tokenizer.ggml.bos_token_id", Value::I32(-1)),
        ("tokenizer.ggml.add_bos_token", Value::U32(1)),
    ] {
        let error = with_key(key, value).unwrap_err();
        assert!(
            matches!(&error, ModelError::Field { field, .. } if field == key),
            "{error}"
        );
    }
    for (key, value, word) in [
        (
            "general.architecture",
            Value::String("mamba".to_owned()),
            "mamba",
        ),
        ("llama.expert_count", Value::U32(8), "experts"),
        ("split.count", Value::U16(3), "llama-gguf-split"),
        (
            "llama.rope.scaling.type",
            Value::String("dynamic".to_owned()),
            "dynamic",
        ),
    ] {
        let error = with_key(key, value).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// The divisors as llama.cpp's converter computes them.
fn rope_factors(factor: f32, theta: f32, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let wavelength = std::f32::consts::TAU * theta.powf(2.0 * i as f32 / head_dim as f32);
            let smooth = (8192.0 / wavelength - 1.0) / (4.0 - 1.0);
            match wavelength {
                w if w < 8192.0 / 4.0 => 1.0,
                w if w > 8192.0 => factor,
                _ => 1.0 / ((1.0 - smooth) / factor + smooth),
            }
        })
        .collect()
}

#[test]
fn llama3_scaling_is_known_by_its_divisors() {
    let read = |factors: &[f32]| {
        let mut file = GgufFile::tiny();
        file.set("llama.rope.freq_base", Value::F32(500_000.0));
        let data = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        file.tensor("rope_freqs.weight", &[factors.len() as u64], F32, data);
        read_gguf(&file).map(|config| config.rope.scaling)
    };
    for expected in [8.0, 32.0] {
        let scaling = read(&rope_factors(expected, 500_000.0, 8)).unwrap();
        assert!(
            matches!(scaling, RopeScaling::Llama3 { factor, .. } if factor == expected),
            "{scaling:?}"
        );
    }
    assert_eq!(read(&[1.0; 4]).unwrap(), RopeScaling::None);
    let mut other = rope_factors(8.0, 500_000.0, 8);
    other[0] = 1.5;
    for unknown in [&other[..], &[1.0, 1.0]] {
        assert!(matches!(read(unknown), Err(ModelError::Unsupported { .. })));
    }
    for wrong in [&[f32::NAN; 4], &[0.0; 4]] {
        assert!(matches!(read(wrong), Err(ModelError::Field { .. })));
    }
}
