//! Whether all numbers are finite.

use serde_json::{Value as Json, json};

use super::{config, norms, packed, tensor};
use crate::{
    Model, ModelError, Packing, WeightName,
    test_files::{Counted, write_counted},
};

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
