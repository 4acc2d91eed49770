use serde_json::{Value as Json, json};

use super::{FfnPart, LayerWeight, WeightKind, WeightName, Weights};
use crate::{
    Model, ModelError, Packing,
    test_files::{self, Counted, write_counted},
};

/// The first layer of a model, alone: the rest of it is elsewhere.
fn layer(config: &Json, tensors: &[Counted]) -> Result<Weights, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = [("model.embed_tokens.weight", vec![64, 64])]
        .map(|(name, shape)| Counted::new(name, "F16", &shape))
        .into();
    for Counted(name, dtype, shape) in tensors {
        all.retain(|known| known.0 != *name);
        all.push(Counted::new(name, dtype, shape));
    }
    write_counted(folder.path(), config, &all);
    Model::open(folder.path())?.weights(0..1)
}

/// Hidden 64, two heads of 32 with one for keys, feed-forward 128, two layers.
fn config(family: &str, more: &Json) -> Json {
    let mut config = json!({
        "model_type": family,
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 64,
        "max_position_embeddings": 128,
        "tie_word_embeddings": true,
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

fn tensor(rest: &str, dtype: &'static str, shape: &[usize]) -> Counted {
    Counted::new(&format!("model.layers.0.{rest}"), dtype, shape)
}

/// What a Llama's layer has but for its linear weights.
fn norms() -> Vec<Counted> {
    ["input_layernorm.weight", "post_attention_layernorm.weight"]
        .map(|name| tensor(name, "F16", &[64]))
        .into()
}

const LINEAR: [(&str, [usize; 2]); 7] = [
    ("self_attn.q_proj", [64, 64]),
    ("self_attn.k_proj", [32, 64]),
    ("self_attn.v_proj", [32, 64]),
    ("self_attn.o_proj", [64, 64]),
    ("mlp.gate_proj", [128, 64]),
    ("mlp.up_proj", [128, 64]),
    ("mlp.down_proj", [64, 128]),
];

fn packed(module: &str, shape: &[usize], packing: Packing) -> [Counted; 3] {
    let with = |cols: usize| {
        let mut shape = shape.to_vec();
        *shape.last_mut().unwrap() = cols;
        shape
    };
    let cols = *shape.last().unwrap();
    let groups = with(cols / usize::from(packing.group));
    let words = with(cols * usize::from(packing.bits) / 32);
    [
        tensor(&format!("{module}.weight"), "U32", &words),
        tensor(&format!("{module}.scales"), "BF16", &groups),
        tensor(&format!("{module}.biases"), "BF16", &groups),
    ]
}

fn at(weight: LayerWeight) -> WeightName {
    WeightName::Layer(0, weight)
}

#[test]
fn what_mlx_packed() {
    for (group, bits) in [(32, 2), (32, 3), (64, 4), (64, 6), (32, 8)] {
        let packing = Packing { group, bits };
        let more = json!({"quantization": {
            "group_size": group, "bits": bits,
            "model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 8},
            "model.layers.0.self_attn.o_proj": false,
        }});
        let mut tensors = norms();
        for (module, shape) in LINEAR {
            match module {
                "mlp.up_proj" => {
                    let other = Packing { group: 32, bits: 8 };
                    tensors.extend(packed(module, &shape, other));
                }
                // One that is named, and one that has no scales.
                "self_attn.o_proj" | "self_attn.q_proj" => {
                    tensors.push(tensor(&format!("{module}.weight"), "BF16", &shape));
                }
                _ => tensors.extend(packed(module, &shape, packing)),
            }
        }
        let mut embedding = packed("x", &[64, 64], packing);
        for (tensor, part) in embedding.iter_mut().zip(["weight", "scales", "biases"]) {
            tensor.0 = format!("model.embed_tokens.{part}");
        }
        tensors.extend(embedding);
        let weights = layer(&config("llama", &more), &tensors).unwrap();

        let down = weights.get(at(LayerWeight::Ffn(FfnPart::Down))).unwrap();
        assert_eq!((down.rows, down.cols), (64, 128));
        assert_eq!(down.kind, WeightKind::Packed(packing));
        assert_eq!(down.data.len(), 64 * 128 * usize::from(bits) / 8);
        assert_eq!(*down.data, *Counted::bytes(0, down.data.len() / 4, 4));
        let scales = down.scales.unwrap();
        assert_eq!(scales.kind, WeightKind::Bf16);
        let groups = 64 * 128 / usize::from(group);
        assert_eq!(*scales.scales, *Counted::bytes(0, groups, 2));
        assert_eq!(*scales.biases, *Counted::bytes(0, groups, 2));

        let kind = |name| weights.get(name).unwrap().kind;
        let other = WeightKind::Packed(Packing { group: 32, bits: 8 });
        assert_eq!(kind(at(LayerWeight::Ffn(FfnPart::Up))), other);
        assert_eq!(kind(at(LayerWeight::AttnOutput)), WeightKind::Bf16);
        assert_eq!(kind(at(LayerWeight::AttnQ)), WeightKind::Bf16);
        assert_eq!(kind(at(LayerWeight::AttnNorm)), WeightKind::F16);
        let embedding = weights.get(WeightName::TokenEmbedding).unwrap();
        assert_eq!(embedding.kind, WeightKind::Packed(packing));
    }
}

#[test]
fn what_is_packed_wrongly_is_named() {
    let usual = Packing { group: 64, bits: 4 };
    let section = json!({"quantization": {"group_size": 64, "bits": 4}});
    let up = "model.layers.0.mlp.up_proj";
    let own = json!({"quantization": {"group_size": 64, "bits": 4, up: {"bits": 8}}});
    let not = json!({"quantization": {"group_size": 64, "bits": 4, up: false}});
    type Change = fn(&mut [Counted; 3]);
    let cases: [(&Json, Change, &str); 8] = [
        (
            &section,
            |t| t[0].2 = vec![128, 9],
            "should be 128 × 8, but is 128 × 9",
        ),
        (
            &section,
            |t| t[1].2 = vec![64, 1],
            "`model.layers.0.mlp.up_proj.scales`",
        ),
        (
            &section,
            |t| t[2].0.push('x'),
            "`model.layers.0.mlp.up_proj.biases`",
        ),
        (
            &section,
            |t| t[2].1 = "F16",
            "F16 although its scales are BF16",
        ),
        (&section, |t| t[1].1 = "U32", "stored as U32"),
        (&section, |t| t[0].1 = "F32", "F32 although it has scales"),
        (&own, |_| {}, "should be 128 × 16, but is 128 × 8"),
        (&not, |_| {}, "U32 without scales"),
    ];
    for (more, change, expected) in cases {
        let mut tensors = norms();
        for (module, shape) in LINEAR {
            let mut parts = packed(module, &shape, usual);
            if module == "mlp.up_proj" {
                change(&mut parts);
            }
            tensors.extend(parts);
        }
        let error = layer(&config("llama", more), &tensors)
            .unwrap_err()
            .to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        assert!(error.contains("mlp.up_proj"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    // Packed weights without a word about it in config.json.
    let mut tensors = norms();
    for (module, shape) in LINEAR {
        tensors.extend(packed(module, &shape, usual));
    }
    let error = layer(&config("llama", &json!({})), &tensors).unwrap_err();
    assert!(error.to_string().contains("U32 without scales"), "{error}");
}

#[test]
fn fused_weights_are_rows() {
    let fused = [
        ("self_attn.qkv_proj", [128, 64]),
        ("self_attn.o_proj", [64, 64]),
        ("mlp.gate_up_proj", [256, 64]),
        ("mlp.down_proj", [64, 128]),
    ];
    let mut tensors = norms();
    for (module, shape) in fused {
        tensors.push(tensor(&format!("{module}.weight"), "BF16", &shape));
    }
    let weights = layer(&config("phi3", &json!({})), &tensors).unwrap();
    for (weight, first, rows) in [
        (LayerWeight::AttnQ, 0, 64),
        (LayerWeight::AttnK, 64, 32),
        (LayerWeight::AttnV, 96, 32),
        (LayerWeight::Ffn(FfnPart::Gate), 0, 128),
        (LayerWeight::Ffn(FfnPart::Up), 128, 128),
    ] {
        let view = weights.get(at(weight)).unwrap();
        assert_eq!((view.rows, view.cols), (rows, 64), "{weight:?}");
        assert_eq!(
            *view.data,
            *Counted::bytes(first * 64, rows * 64, 2),
            "{weight:?}"
        );
    }

    // The same packed.
    let packing = Packing { group: 32, bits: 4 };
    let more = json!({"quantization": {"group_size": 32, "bits": 4}});
    let mut tensors = norms();
    for (module, shape) in fused {
        tensors.extend(packed(module, &shape, packing));
    }
    let weights = layer(&config("phi3", &more), &tensors).unwrap();
    let values = weights.get(at(LayerWeight::AttnV)).unwrap();
    assert_eq!(*values.data, *Counted::bytes(96 * 8, 32 * 8, 4));
    let scales = values.scales.unwrap();
    assert_eq!(*scales.scales, *Counted::bytes(96 * 2, 32 * 2, 2));
    assert_eq!(*scales.biases, *Counted::bytes(96 * 2, 32 * 2, 2));

    // A fused tensor of the wrong height.
    let mut tensors = norms();
    tensors.push(tensor("self_attn.qkv_proj.weight", "BF16", &[96, 64]));
    let error = layer(&config("phi3", &json!({})), &tensors)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("should be 128 × 64, but is 96 × 64"),
        "{error}"
    );
}

/// Qwen 3 with four experts, 32 wide.
fn with_experts(experts: &[Counted], more: &Json) -> Result<Weights, ModelError> {
    let mut config = config("qwen3_moe", more);
    let own = json!({
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true,
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(own.as_object().unwrap().clone());
    let mut tensors = norms();
    for (module, shape) in &LINEAR[..4] {
        tensors.push(tensor(&format!("{module}.weight"), "F32", shape));
    }
    tensors.push(tensor("self_attn.q_norm.weight", "F32", &[32]));
    tensors.push(tensor("self_attn.k_norm.weight", "F32", &[32]));
    tensors.push(tensor("mlp.gate.weight", "F32", &[4, 64]));
    let experts = experts
        .iter()
        .map(|t| Counted(t.0.clone(), t.1, t.2.clone()));
    tensors.extend(experts);
    layer(&config, &tensors)
}

const EXPERT: [(&str, FfnPart, [usize; 2]); 3] = [
    ("gate_proj", FfnPart::Gate, [32, 64]),
    ("up_proj", FfnPart::Up, [32, 64]),
    ("down_proj", FfnPart::Down, [64, 32]),
];

#[test]
fn experts_one_by_one_and_stacked() {
    let mut single = Vec::new();
    let mut stacked = Vec::new();
    let mut stacked_packed = Vec::new();
    for (name, _, [rows, cols]) in EXPERT {
        for expert in 0..4 {
            let name = format!("mlp.experts.{expert}.{name}.weight");
            single.push(tensor(&name, "BF16", &[rows, cols]));
        }
        let module = format!("mlp.switch_mlp.{name}");
        stacked.push(tensor(
            &format!("{module}.weight"),
            "BF16",
            &[4, rows, cols],
        ));
        let packing = Packing { group: 32, bits: 8 };
        stacked_packed.extend(packed(&module, &[4, rows, cols], packing));
    }
    let none = json!({});
    let single = with_experts(&single, &none).unwrap();
    let stacked = with_experts(&stacked, &none).unwrap();
    let more = json!({"quantization": {"group_size": 32, "bits": 8}});
    let packed = with_experts(&stacked_packed, &more).unwrap();
    for (_, part, [rows, cols]) in EXPERT {
        for expert in 0..4 {
            let name = at(LayerWeight::Expert(expert, part));
            let whole = single.get(name).unwrap();
            assert_eq!(*whole.data, *Counted::bytes(0, rows * cols, 2));

            let first = usize::from(expert) * rows * cols;
            let slice = stacked.get(name).unwrap();
            assert_eq!((slice.rows, slice.cols), (rows, cols));
            assert_eq!(*slice.data, *Counted::bytes(first, rows * cols, 2));

            let slice = packed.get(name).unwrap();
            assert_eq!(*slice.data, *Counted::bytes(first / 4, rows * cols / 4, 4));
            let scales = slice.scales.unwrap();
            assert_eq!(
                *scales.scales,
                *Counted::bytes(first / 32, rows * cols / 32, 2)
            );
        }
        let beyond = at(LayerWeight::Expert(4, part));
        assert!(stacked.find(beyond).unwrap().is_none());
    }
    let router = single.get(at(LayerWeight::Router)).unwrap();
    assert_eq!((router.rows, router.cols), (4, 64));

    let wrong = [tensor(
        "mlp.switch_mlp.gate_proj.weight",
        "BF16",
        &[3, 32, 64],
    )];
    let error = with_experts(&wrong, &none).unwrap_err().to_string();
    assert!(
        error.contains("should be 4 × 32 × 64, but is 3 × 32 × 64"),
        "{error}"
    );
}

/// The norms of Gemma: the name of the one before the feed-forward part moved.
#[test]
fn gemma_names_and_those_below_another_model() {
    let names = [
        ("input_layernorm", LayerWeight::AttnNorm),
        ("post_attention_layernorm", LayerWeight::PostAttnNorm),
        ("pre_feedforward_layernorm", LayerWeight::FfnNorm),
        ("post_feedforward_layernorm", LayerWeight::PostFfnNorm),
    ];
    let mut tensors: Vec<_> = LINEAR
        .map(|(module, shape)| tensor(&format!("{module}.weight"), "BF16", &shape))
        .into();
    for (name, _) in names {
        tensors.push(tensor(&format!("{name}.weight"), "BF16", &[64]));
    }
    let activation = json!({"hidden_activation": "gelu_pytorch_tanh"});
    layer(&config("gemma2", &activation), &tensors).unwrap();

    for norm in ["q_norm", "k_norm"] {
        tensors.push(tensor(&format!("self_attn.{norm}.weight"), "BF16", &[32]));
    }
    layer(&config("gemma3_text", &activation), &tensors).unwrap();
    tensors.push(Counted::new("model.embed_tokens.weight", "BF16", &[64, 64]));
    for tensor in &mut tensors {
        tensor.0 = format!("language_model.{}", tensor.0);
    }
    tensors.push(Counted::new("vision_tower.patch.weight", "BF16", &[8]));
    let nested = json!({
        "model_type": "gemma3",
        "vocab_size": 64,
        "text_config": config("gemma3_text", &activation),
    });
    let weights = layer(&nested, &tensors).unwrap();
    for (name, weight) in names {
        assert!(weights.get(at(weight)).is_ok(), "{name}");
    }
    tensors.retain(|tensor| !tensor.0.contains("pre_feedforward"));
    let error = layer(&nested, &tensors).unwrap_err().to_string();
    let expected = "`language_model.model.layers.0.pre_feedforward_layernorm.weight`";
    assert!(error.contains(expected), "{error}");
}

/// With an index, the scales may lie in another file than the words.
#[test]
fn packed_parts_in_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = test_files::config();
    config["quantization"] = json!({"group_size": 32, "bits": 4});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut map = serde_json::Map::new();
    let mut files = [Vec::new(), Vec::new()];
    for (name, shape) in test_files::hugging_face_tensors(true).concat() {
        let shape: Vec<_> = shape.iter().map(|&n| n as usize).collect();
        if shape.len() == 1 {
            map.insert(name.clone(), json!("model-0.safetensors"));
            files[0].push(Counted(name, "F16", shape));
            continue;
        }
        let module = name.strip_suffix(".weight").unwrap();
        let packing = Packing { group: 32, bits: 4 };
        let parts = packed("x", &shape, packing);
        for (file, (part, mut tensor)) in [0, 1, 1]
            .into_iter()
            .zip(["weight", "scales", "biases"].into_iter().zip(parts))
        {
            tensor.0 = format!("{module}.{part}");
            map.insert(tensor.0.clone(), json!(format!("model-{file}.safetensors")));
            files[file].push(tensor);
        }
    }
    for (index, tensors) in files.iter().enumerate() {
        write_counted(folder.path(), &config, tensors);
        let from = folder.path().join("model.safetensors");
        let to = folder.path().join(format!("model-{index}.safetensors"));
        std::fs::rename(from, to).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let weights = Model::open(folder.path()).unwrap().weights(1..2).unwrap();
    let query = weights
        .get(WeightName::Layer(1, LayerWeight::AttnQ))
        .unwrap();
    assert!(query.scales.is_some());
}

/// A layer of a Phi 3 in which these bytes of the tensor's data were set to those of a NaN.
fn with_nan(dtype: &'static str, module: &str, packing: Option<Packing>, at: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = norms();
    tensors.push(Counted::new("model.embed_tokens.weight", "F16", &[64, 64]));
    for (name, shape) in [
        ("self_attn.qkv_proj", [128, 64]),
        ("self_attn.o_proj", [64, 64]),
        ("mlp.gate_up_proj", [256, 64]),
        ("mlp.down_proj", [64, 128]),
    ] {
        match packing {
            Some(packing) => tensors.extend(packed(name, &shape, packing)),
            None => tensors.push(tensor(&format!("{name}.weight"), dtype, &shape)),
        }
    }
    let more = match packing {
        Some(Packing { group, bits }) => {
            json!({"quantization": {"group_size": group, "bits": bits}})
        }
        None => json!({}),
    };
    write_counted(folder.path(), &config("phi3", &more), &tensors);
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let entries: Json = serde_json::from_slice(&bytes[8..header]).unwrap();
    let start = &entries[format!("model.layers.0.{module}")]["data_offsets"][0];
    let start = header + start.as_u64().unwrap() as usize + at;

    let good = Model::open(folder.path()).unwrap().weights(0..1).unwrap();
    good.check_numbers(&mut |_| {}).unwrap();
    drop(good);
    bytes[start..start + 2].copy_from_slice(&[0xff; 2]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let bad = Model::open(folder.path()).unwrap().weights(0..1).unwrap();
    let error = bad.check_numbers(&mut |_| {}).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { .. }), "{error}");
    error.to_string()
}

#[test]
fn numbers_that_are_none_are_named() {
    // The upper half of the second float of a row.
    let row = 100;
    for (dtype, at) in [
        ("F32", row * 256 + 6),
        ("BF16", row * 128 + 2),
        ("F16", row * 128 + 2),
    ] {
        // In the values' part of the fused tensor.
        let error = with_nan(dtype, "self_attn.qkv_proj.weight", None, at);
        for expected in [
            "`model.layers.0.self_attn.qkv_proj.weight`",
            dtype,
            "model.safetensors",
            "row 100:",
        ] {
            assert!(error.contains(expected), "{error}");
        }
    }
    let packing = Packing { group: 32, bits: 4 };
    for part in ["scales", "biases"] {
        let module = format!("mlp.gate_up_proj.{part}");
        let error = with_nan("U32", &module, Some(packing), 200 * 2 * 2 + 2);
        assert!(error.contains(&format!("{module}`")), "{error}");
        assert!(error.contains("row 200:"), "{error}");
    }
}

#[test]
fn checking_tells_how_far_it_is() {
    let model = Model::embedded().unwrap();
    let layers = model.config().layers;
    let sizes = |range: std::ops::Range<u32>| {
        let weights = model.weights(range).unwrap();
        let mut told = Vec::new();
        weights.check_numbers(&mut |done| told.push(done)).unwrap();
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        assert_eq!(told.last(), Some(&weights.bytes()));
        weights.bytes()
    };
    let whole = sizes(0..layers);
    // All there is in the file but its header.
    let file = model.config().weight_bytes;
    assert!(whole < file && file - whole < 64 << 10, "{whole} of {file}");
    // The embedding is also the head, and both ends have it.
    let embedding = model.weights(0..1).unwrap().get(WeightName::TokenEmbedding);
    let embedding = embedding.unwrap().bytes();
    assert_eq!(sizes(0..2) + sizes(2..layers), whole + embedding);
}
