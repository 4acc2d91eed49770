use std::fs;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::from_folder;
use crate::{
    Biases, Family, ModelConfig, ModelError, Packing, RopeLayout, RopeScaling,
    folder::Folder,
    test_files::{self, IM_END, IM_START, any_json},
};

/// The configuration of a folder with these files, besides the tiny model's weights.
fn read(files: &[(&str, &Json)]) -> Result<ModelConfig, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    test_files::write_folder(folder.path(), true);
    for (name, json) in files {
        fs::write(folder.path().join(name), json.to_string()).unwrap();
    }
    from_folder(&Folder::Disk(folder.path().to_owned()))
}

fn with(field: &str, value: Json) -> Json {
    let mut config = test_files::config();
    config[field] = value;
    config
}

fn without(field: &str) -> Json {
    let mut config = test_files::config();
    config.as_object_mut().unwrap().remove(field);
    config
}

#[test]
fn what_config_json_says() {
    let config = read(&[]).unwrap();
    assert_eq!(config.family, Family::Llama);
    assert_eq!(
        (config.layers, config.hidden, config.intermediate),
        (2, 32, 64)
    );
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (4, 2, 8));
    assert_eq!((config.vocab, config.context), (261, 128));
    assert_eq!((config.norm_eps, config.rope.theta), (1e-5, 10_000.0));
    assert_eq!(
        (config.rope.layout, config.rope.scaling),
        (RopeLayout::Half, RopeScaling::None)
    );
    assert!(config.tied_embeddings && !config.biases.qkv && !config.add_bos);
    assert_eq!((config.eos, config.bos), (vec![IM_END], Some(IM_START)));
    assert!(config.weight_bytes > 20_000);
    assert_eq!(config.mlx_quantization, None);
}

#[test]
fn families_and_defaults() {
    let family = |name: &str| read(&[("config.json", &with("model_type", json!(name)))]);
    assert_eq!(family("smollm").unwrap().family, Family::Llama);
    assert_eq!(family("mistral").unwrap().family, Family::Mistral);
    let qwen = family("qwen2").unwrap();
    assert!(
        qwen.family == Family::Qwen2 && qwen.biases.qkv && qwen.rope.layout == RopeLayout::Half
    );
    let error = family("mamba").unwrap_err().to_string();
    for name in ["mamba", "llama", "smollm3", "qwen3_moe", "deepseek_v3"] {
        assert!(error.contains(name), "{error}");
    }

    let head_dim = read(&[("config.json", &with("head_dim", json!(16)))]).unwrap();
    assert_eq!(head_dim.head_dim, 16);
    let no_groups = read(&[("config.json", &without("num_key_value_heads"))]).unwrap();
    assert_eq!(no_groups.kv_heads, 4);
    // Without a word on it, the weights decide: the tiny model has no output head.
    assert!(
        read(&[("config.json", &without("tie_word_embeddings"))])
            .unwrap()
            .tied_embeddings
    );
}

#[test]
fn end_tokens_of_both_files() {
    let generation = json!({"eos_token_id": [IM_END, 7]});
    let config = read(&[("generation_config.json", &generation)]).unwrap();
    assert_eq!(config.eos, [IM_END, 7]);
    let config = read(&[
        ("config.json", &with("eos_token_id", json!([3, 4]))),
        ("generation_config.json", &json!({"eos_token_id": 5})),
    ]);
    assert_eq!(config.unwrap().eos, [3, 4, 5]);
    assert!(
        read(&[("config.json", &with("eos_token_id", Json::Null))])
            .unwrap()
            .eos
            .is_empty()
    );

    let error = read(&[("generation_config.json", &json!({"eos_token_id": "x"}))]).unwrap_err();
    assert!(
        error.to_string().contains("generation_config.json"),
        "{error}"
    );
}

#[test]
fn rope_scalings() {
    let scaling = |name: &str, section: Json| {
        read(&[("config.json", &with(name, section))]).map(|c| (c.rope.theta, c.rope.scaling))
    };
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(
        scaling("rope_scaling", llama3.clone()).unwrap(),
        (10_000.0, expected.clone())
    );
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(500_000.0);
    assert_eq!(
        scaling("rope_parameters", newer).unwrap(),
        (500_000.0, expected)
    );
    let linear = json!({"type": "linear", "factor": 2});
    assert_eq!(
        scaling("rope_scaling", linear).unwrap().1,
        RopeScaling::Linear { factor: 2.0 }
    );
    let default = json!({"rope_type": "default"});
    assert_eq!(
        scaling("rope_scaling", default).unwrap().1,
        RopeScaling::None
    );

    let mut broken = llama3;
    broken["low_freq_factor"] = json!(4.0);
    assert!(matches!(
        scaling("rope_scaling", broken),
        Err(ModelError::Field { .. })
    ));
    let missing = json!({"type": "linear"});
    assert!(matches!(
        scaling("rope_scaling", missing),
        Err(ModelError::MissingField { .. })
    ));
    let nameless = json!({"factor": 2.0});
    assert!(matches!(
        scaling("rope_scaling", nameless),
        Err(ModelError::MissingField { .. })
    ));
    let dynamic = json!({"type": "dynamic", "factor": 4.0});
    assert!(matches!(
        scaling("rope_scaling", dynamic),
        Err(ModelError::Unsupported { .. })
    ));
}

#[test]
fn begin_tokens() {
    let adds = |config: Json, processor: Json| {
        let mut tokenizer = test_files::tokenizer();
        tokenizer["post_processor"] = processor;
        read(&[
            ("tokenizer_config.json", &config),
            ("tokenizer.json", &tokenizer),
        ])
        .unwrap()
        .add_bos
    };
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "B", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"B": {"id": "B", "ids": [IM_START], "tokens": ["B"]}},
    });
    let sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]});
    assert!(adds(json!({}), template.clone()));
    assert!(adds(json!({}), sequence));
    assert!(adds(json!({"add_bos_token": true}), Json::Null));
    assert!(!adds(json!({"add_bos_token": false}), template.clone()));
    assert!(!adds(json!({"add_bos_token": null}), Json::Null));
    let mut other = template;
    other["special_tokens"]["B"]["ids"] = json!([5]);
    assert!(!adds(json!({}), other));
}

/// As in models that were distilled into another's architecture.
#[test]
fn the_tokenizers_begin_token_is_the_one_that_counts() {
    for bos_token in [
        json!("<|im_end|>"),
        json!({"content": "<|im_end|>", "lstrip": false}),
    ] {
        let config = json!({"add_bos_token": true, "bos_token": bos_token});
        let config = read(&[("tokenizer_config.json", &config)]).unwrap();
        assert_eq!((config.bos, config.add_bos), (Some(IM_END), true));
    }
    let unknown = json!({"bos_token": "<other>"});
    assert_eq!(
        read(&[("tokenizer_config.json", &unknown)]).unwrap().bos,
        Some(IM_START)
    );
}

#[test]
fn variants_that_no_engine_implements_are_refused() {
    for (field, value) in [
        ("hidden_act", json!("gelu")),
        ("partial_rotary_factor", json!(0.5)),
        (
            "rope_parameters",
            json!({"rope_theta": 1e4, "partial_rotary_factor": 0.25}),
        ),
        ("quantization_config", json!({"quant_method": "gptq"})),
    ] {
        let error = read(&[("config.json", &with(field, value))]).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        let named = if field == "rope_parameters" {
            "partial_rotary_factor"
        } else {
            field
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn biases_are_read() {
    let biases = |field: &str| {
        let config = read(&[("config.json", &with(field, json!(true)))]);
        config.unwrap().biases
    };
    let (yes, no) = (true, false);
    let expected = |qkv, attention_output, ffn| Biases {
        qkv,
        attention_output,
        ffn,
    };
    assert_eq!(biases("attention_bias"), expected(yes, yes, no));
    assert_eq!(biases("mlp_bias"), expected(no, no, yes));
}

#[test]
fn how_mlx_packed() {
    let packing = |group, bits| Packing { group, bits };
    let quantization = |section: Json| {
        read(&[("config.json", &with("quantization", section))]).map(|c| c.mlx_quantization)
    };
    let found = quantization(json!({
        "group_size": 32, "bits": 3, "mode": "affine",
        "model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 8},
        "model.layers.1.mlp.down_proj": {"bits": 6},
        "model.embed_tokens": false,
        "lm_head": true,
    }));
    let found = found.unwrap().unwrap();
    assert_eq!(found.usual, packing(32, 3));
    let others: Vec<_> = found.others.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(
        others,
        [
            ("model.embed_tokens", None),
            ("model.layers.0.mlp.down_proj", Some(packing(64, 8))),
            ("model.layers.1.mlp.down_proj", Some(packing(64, 6))),
        ]
    );
    for (section, expected) in [
        (json!({"bits": 4}), "quantization.group_size"),
        (json!({"group_size": 64}), "quantization.bits"),
        (json!({"group_size": 48, "bits": 4}), "32, 64 or 128"),
        (json!({"group_size": 64, "bits": 5}), "2, 3, 4, 6 or 8"),
        (
            json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}),
            "mxfp4",
        ),
        (
            json!({"group_size": 64, "bits": 4, "lm_head": {"bits": 1}}),
            "quantization.lm_head.bits",
        ),
    ] {
        let error = quantization(section).unwrap_err().to_string();
        assert!(
            error.contains("config.json") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn every_wrong_field_is_named_with_its_file() {
    let required = [
        "model_type",
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ];
    let optional = [
        "num_key_value_heads",
        "head_dim",
        "rms_norm_eps",
        "rope_theta",
        "tie_word_embeddings",
        "bos_token_id",
        "eos_token_id",
        "rope_scaling",
        "sliding_window",
    ];
    for field in required {
        let error = read(&[("config.json", &without(field))])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("config.json has no") && error.contains(field),
            "{error}"
        );
    }
    for field in required.into_iter().chain(optional) {
        let error = read(&[("config.json", &with(field, json!([{}])))])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("config.json") && error.contains(field),
            "{error}"
        );
    }
    for (field, value) in [
        ("num_hidden_layers", json!(0)),
        ("hidden_size", json!(-32)),
        ("hidden_size", json!(1_u64 << 40)),
        ("hidden_size", json!(32.5)),
        ("num_attention_heads", json!(5)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(7)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(-1e-5)),
        ("rope_theta", json!(1e300)),
        ("eos_token_id", json!(261)),
        ("eos_token_id", json!([1, 261])),
        ("bos_token_id", json!(-1)),
        ("vocab_size", json!("many")),
    ] {
        let error = read(&[("config.json", &with(field, value))]).unwrap_err();
        assert!(
            matches!(&error, ModelError::Field { field: f, .. } if f == field),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{\"model_type\": ").unwrap();
    let error = from_folder(&Folder::Disk(folder.path().to_owned())).unwrap_err();
    assert!(matches!(error, ModelError::Json { .. }), "{error}");
}

proptest! {
    /// Whatever one field says: a sound configuration, or an error that names the file.
    #[test]
    fn any_value_in_any_field(index in any::<prop::sample::Index>(), value in any_json()) {
        let mut config = test_files::config();
        let object = config.as_object_mut().unwrap();
        let field = object.keys().nth(index.index(object.len())).unwrap().clone();
        object.insert(field, value);
        match read(&[("config.json", &config)]) {
            Ok(config) => {
                prop_assert!(config.heads.is_multiple_of(config.kv_heads));
                prop_assert!(config.layers > 0 && config.hidden > 0 && config.head_dim > 0);
                prop_assert!(config.eos.iter().all(|&token| (token as usize) < config.vocab));
            }
            Err(error) => prop_assert!(error.to_string().contains("config.json"), "{}", error),
        }
    }
}
