//! What MLX packed.

use serde_json::{Value as Json, json};

use super::{LINEAR, at, config, layer, norms, packed, tensor};
use crate::{
    FfnPart, LayerWeight, Model, Packing, WeightKind, WeightName,
    test_files::{self, Counted, write_counted},
};

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
