use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value as Json, json};

use super::{Text, fnv1a};
use crate::{
    Activation, Experts, LatentAttention, MlxQuantization, Model, ModelConfig, ModelError, Packing,
    RopeConfig, RopeLayout, RopeScaling, Scoring,
    gguf::Value,
    test_files::{self, F32, GgufFile, LAYERS, hugging_face_tensors, safetensors, write_folder},
};

/// Everybody in a ring has this model, whatever version of ours they run: if this fails, they no
/// longer know that they have the same one.
const STORIES: u64 = 0x3965_1854_0557_b4db;

fn of(path: &Path) -> u64 {
    Model::open(path).unwrap().fingerprint().unwrap()
}

/// All of them different from each other.
#[track_caller]
fn different(found: impl IntoIterator<Item = (&'static str, u64)>) {
    let mut names = BTreeMap::new();
    for (name, fingerprint) in found {
        assert_ne!(fingerprint, 0, "{name}");
        if let Some(other) = names.insert(fingerprint, name) {
            panic!("{name} looks like {other}");
        }
    }
}

#[test]
fn the_hash_is_fnv_1a() {
    // From the authors' own test vectors.
    for (text, hash) in [
        ("", 0xcbf2_9ce4_8422_2325),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        assert_eq!(fnv1a(text.as_bytes()), hash, "{text:?}");
    }
}

#[test]
fn the_built_in_model_keeps_its_own() {
    assert_eq!(Model::embedded().unwrap().fingerprint().unwrap(), STORIES);
}

#[test]
fn the_same_files_elsewhere_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    // The built-in model's folder, under another name.
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for (name, _) in crate::embedded::FILES {
        fs::copy(stories.join(name), copy.join(name)).unwrap();
    }
    assert_eq!(of(&copy), STORIES);

    // The order of tensors and metadata in a file is nobody's business.
    let (one, other) = (folder.path().join("one.gguf"), folder.path().join("x.gguf"));
    let mut file = GgufFile::tiny();
    file.write(&one);
    file.tensors.reverse();
    file.metadata.reverse();
    file.write(&other);
    assert_eq!(of(&one), of(&other));
}

#[test]
fn gguf_files_that_compute_something_else_differ() {
    type Change = fn(&mut GgufFile);
    let changes: [(&str, Change); 11] = [
        ("the original", |_| {}),
        ("another constant", |file| {
            file.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
        }),
        ("another rotary base", |file| {
            file.set("llama.rope.freq_base", Value::F32(500_000.0));
        }),
        ("positions stretched", |file| {
            file.set("llama.rope.scaling.type", Value::String("linear".into()));
            file.set("llama.rope.scaling.factor", Value::F32(2.0));
        }),
        ("positions stretched further", |file| {
            file.set("llama.rope.scaling.type", Value::String("linear".into()));
            file.set("llama.rope.scaling.factor", Value::F32(4.0));
        }),
        ("another context", |file| {
            file.set("llama.context_length", Value::U32(256));
        }),
        ("another end token", |file| {
            file.set("tokenizer.ggml.eos_token_id", Value::U32(0));
        }),
        ("no tokenizer", |file| {
            for part in ["tokens", "token_type", "merges"] {
                file.remove(&format!("tokenizer.ggml.{part}"));
            }
        }),
        ("another quantisation of one tensor", |file| {
            let tensor = file.tensors.last_mut().unwrap();
            (tensor.kind, tensor.data) = (1, vec![0; 64]);
        }),
        ("another shape of one tensor", |file| {
            let tensor = file.tensors.last_mut().unwrap();
            (tensor.dims, tensor.data) = (vec![64], vec![0; 256]);
        }),
        ("one tensor more", |file| {
            file.tensor("blk.0.extra.weight", &[32], F32, vec![0; 128]);
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    different(changes.map(|(name, change)| {
        let mut file = GgufFile::tiny();
        change(&mut file);
        file.write(&path);
        (name, of(&path))
    }));
}

#[test]
fn folders_that_compute_something_else_differ() {
    let config = |name: &'static str, key: &'static str, value: Json| {
        move |folder: &Path| {
            let mut config = test_files::config();
            config[key] = value;
            fs::write(folder.join("config.json"), config.to_string()).unwrap();
            name
        }
    };
    let tensors = |folder: &Path, from: &str, to: &str| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
        assert!(text.contains(from));
        let text = text.replacen(from, to, 1);
        let mut spoiled = (text.len() as u64).to_le_bytes().to_vec();
        spoiled.extend(text.as_bytes());
        spoiled.extend(&bytes[header..]);
        fs::write(&path, spoiled).unwrap();
    };
    type Change = Box<dyn FnOnce(&Path) -> &'static str>;
    let mlx = |bits: u32| json!({"group_size": 64, "bits": bits});
    let changes: [Change; 9] = [
        Box::new(|_| "the original"),
        Box::new(config("another base", "rope_theta", json!(20_000.0))),
        Box::new(config("another end", "eos_token_id", json!([259, 260]))),
        Box::new(config("packed in 4 bits", "quantization", mlx(4))),
        Box::new(config("packed in 8 bits", "quantization", mlx(8))),
        Box::new(|folder| {
            fs::write(
                folder.join("generation_config.json"),
                r#"{"eos_token_id": 3}"#,
            )
            .unwrap();
            "another end beside the configuration"
        }),
        Box::new(|folder| {
            let mut tokenizer = test_files::tokenizer();
            let more = json!({"id": 300, "content": "<|x|>", "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true});
            tokenizer["added_tokens"].as_array_mut().unwrap().push(more);
            fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
            "one token more"
        }),
        Box::new(move |folder| {
            tensors(folder, r#""dtype":"F16""#, r#""dtype":"BF16""#);
            "another type of one tensor"
        }),
        Box::new(move |folder| {
            tensors(folder, r#""shape":[32,64]"#, r#""shape":[64,32]"#);
            "another shape of one tensor"
        }),
    ];
    different(changes.map(|change| {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), true);
        (change(folder.path()), of(folder.path()))
    }));
}

/// The tiny model in one file for each layer, with an index that announces `bytes`.
fn write_sharded(folder: &Path, bytes: u64, dtype: &str) {
    write_folder(folder, false);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut config = test_files::config();
    config["tie_word_embeddings"] = json!(false);
    config["torch_dtype"] = json!(dtype);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut map = serde_json::Map::new();
    for (index, tensors) in hugging_face_tensors(false).into_iter().enumerate() {
        let name = format!("model-{index}.safetensors");
        fs::write(folder.join(&name), safetensors(&tensors)).unwrap();
        map.extend(tensors.into_iter().map(|(tensor, _)| (tensor, json!(name))));
    }
    let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    fs::write(path, index.to_string()).unwrap();
}

#[test]
fn every_part_of_a_model_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    write_sharded(&whole, 12345, "float16");
    let expected = of(&whole);

    // A node has the files of its own layers only, or none at all.
    write_sharded(&parts, 12345, "float16");
    for (gone, layers) in [("0", 0..0), ("1", 1..LAYERS), ("2", 0..0), ("3", 0..0)] {
        fs::remove_file(parts.join(format!("model-{gone}.safetensors"))).unwrap();
        let model = Model::open(&parts).unwrap();
        if !layers.is_empty() {
            model.weights(layers).unwrap();
        }
        assert_eq!(model.fingerprint().unwrap(), expected, "without {gone}");
    }

    let [wide, bf16] = ["wide", "bf16"].map(|name| folder.path().join(name));
    write_sharded(&wide, 24690, "float16");
    write_sharded(&bf16, 12345, "bfloat16");
    different([
        ("the original", expected),
        ("twice as many bytes", of(&wide)),
        ("another type", of(&bf16)),
    ]);
}

#[test]
fn what_cannot_be_told_is_an_error_and_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), true);
    let expected = of(folder.path());
    for name in ["tokenizer.json", "model.safetensors"] {
        let (path, aside) = (folder.path().join(name), folder.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let model = Model::open(folder.path()).unwrap();
        let error = model.fingerprint().unwrap_err();
        assert!(matches!(&error, ModelError::MissingFile { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        fs::rename(&aside, &path).unwrap();
        assert_eq!(model.fingerprint().unwrap(), expected);
    }
}

/// The vocabulary is counted without building the tokenizer.
#[test]
fn the_vocabulary_has_the_tokenizers_size() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), true);
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    for path in [folder.path(), &stories] {
        let expected = Model::open(path).unwrap().tokenizer().unwrap().vocab();
        let size = crate::tokenizer::size(&crate::folder::Folder::Disk(path.to_owned())).unwrap();
        assert_eq!(size, expected as u64, "{}", path.display());
    }
    // A list, as SentencePiece's unigrams have it.
    let mut tokenizer = test_files::tokenizer();
    tokenizer["model"] = json!({"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]});
    tokenizer["added_tokens"] = json!([]);
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let folder = crate::folder::Folder::Disk(folder.path().to_owned());
    assert_eq!(crate::tokenizer::size(&folder).unwrap(), 2);
}

const EXPERTS: Experts = Experts {
    count: 8,
    active: 2,
    intermediate: 64,
    shared_intermediate: 0,
    scoring: Scoring::Softmax,
    choice_bias: false,
    groups: 1,
    active_groups: 1,
    group_by_two: false,
    normalise: false,
    scale: 1.0,
};

const LATENT: LatentAttention = LatentAttention {
    query_rank: None,
    kv_rank: 16,
    plain_dim: 8,
    rope_dim: 8,
    value_dim: 8,
    norm_eps: 1e-6,
};

fn local_rope(theta: f32, scaling: RopeScaling) -> Option<RopeConfig> {
    Some(RopeConfig {
        theta,
        dims: 8,
        layout: RopeLayout::Half,
        scaling,
    })
}

/// What few models have takes part too, and each of it alone.
#[test]
fn every_field_that_changes_the_arithmetic_counts() {
    type Change = fn(&mut ModelConfig);
    let changes: [(&str, Change); 46] = [
        ("the original", |_| {}),
        ("a window", |c| c.layer_kinds[1].window = Some(8)),
        ("another window", |c| c.layer_kinds[1].window = Some(9)),
        ("the first layer's", |c| c.layer_kinds[0].window = Some(8)),
        ("no positions", |c| c.layer_kinds[1].positions = false),
        ("experts there", |c| c.layer_kinds[1].experts = true),
        ("embeddings", |c| c.embedding_scale = 8.0),
        ("norms", |c| c.norm_offset = 1.0),
        ("norms behind", |c| c.post_norms = true),
        ("norms of heads", |c| c.qk_norm = true),
        ("scores", |c| c.score_scale = 0.5),
        ("capped scores", |c| c.score_cap = Some(50.0)),
        ("capped logits", |c| c.logit_cap = Some(50.0)),
        ("activation", |c| c.activation = Activation::GeluTanh),
        ("half a head", |c| c.rope.dims = 4),
        ("biases of heads", |c| c.biases.qkv = true),
        ("a bias behind", |c| c.biases.attention_output = true),
        ("biases of the rest", |c| c.biases.ffn = true),
        ("another rope", |c| {
            c.local_rope = local_rope(1e4, RopeScaling::None)
        }),
        ("another base of it", |c| {
            c.local_rope = local_rope(1e6, RopeScaling::None)
        }),
        ("another stretch of it", |c| {
            c.local_rope = local_rope(1e4, RopeScaling::Linear { factor: 2.0 });
        }),
        ("long factors", |c| c.rope.scaling = long(&[1.0, 2.0], 1.0)),
        ("other long factors", |c| {
            c.rope.scaling = long(&[1.0, 3.0], 1.0)
        }),
        ("another magnitude", |c| {
            c.rope.scaling = long(&[1.0, 2.0], 1.1)
        }),
        ("yarn", |c| c.rope.scaling = yarn(4.0, 32.0)),
        ("yarn's factor", |c| c.rope.scaling = yarn(8.0, 32.0)),
        ("yarn's ramp", |c| c.rope.scaling = yarn(4.0, 16.0)),
        ("latent", |c| c.latent = Some(LATENT)),
        ("query rank", |c| {
            c.latent = Some(LatentAttention {
                query_rank: Some(16),
                ..LATENT
            });
        }),
        ("kv rank", |c| {
            c.latent = Some(LatentAttention {
                kv_rank: 8,
                ..LATENT
            })
        }),
        ("plain part", |c| {
            c.latent = Some(LatentAttention {
                plain_dim: 4,
                ..LATENT
            })
        }),
        ("turned part", |c| {
            c.latent = Some(LatentAttention {
                rope_dim: 4,
                ..LATENT
            })
        }),
        ("values", |c| {
            c.latent = Some(LatentAttention {
                value_dim: 4,
                ..LATENT
            })
        }),
        ("inner norms", |c| {
            c.latent = Some(LatentAttention {
                norm_eps: 1e-5,
                ..LATENT
            })
        }),
        ("experts", |c| c.experts = Some(EXPERTS)),
        ("more of them", |c| {
            c.experts = Some(Experts {
                count: 9,
                ..EXPERTS
            })
        }),
        ("more at once", |c| {
            c.experts = Some(Experts {
                active: 3,
                ..EXPERTS
            })
        }),
        ("wider", |c| {
            c.experts = Some(Experts {
                intermediate: 65,
                ..EXPERTS
            })
        }),
        ("shared", |c| {
            c.experts = Some(Experts {
                shared_intermediate: 64,
                ..EXPERTS
            })
        }),
        ("sigmoid", |c| {
            c.experts = Some(Experts {
                scoring: Scoring::Sigmoid,
                ..EXPERTS
            });
        }),
        ("choice", |c| {
            c.experts = Some(Experts {
                choice_bias: true,
                ..EXPERTS
            })
        }),
        ("groups", |c| {
            c.experts = Some(Experts {
                groups: 2,
                ..EXPERTS
            })
        }),
        ("best groups", |c| {
            c.experts = Some(Experts {
                active_groups: 2,
                groups: 2,
                ..EXPERTS
            });
        }),
        ("by two", |c| {
            c.experts = Some(Experts {
                group_by_two: true,
                ..EXPERTS
            })
        }),
        ("normalised", |c| {
            c.experts = Some(Experts {
                normalise: true,
                ..EXPERTS
            })
        }),
        ("scaled", |c| {
            c.experts = Some(Experts {
                scale: 2.5,
                ..EXPERTS
            })
        }),
    ];
    let stories = Model::embedded().unwrap();
    different(changes.map(|(name, change)| {
        let mut config = stories.config().clone();
        change(&mut config);
        (name, Text::new(&config).hash())
    }));

    let packed = |others: &[(&str, Option<u8>)]| {
        let packing = |bits| Packing { group: 64, bits };
        let others = others.iter();
        let others = others.map(|&(name, bits)| (name.to_owned(), bits.map(packing)));
        let mut config = stories.config().clone();
        config.mlx_quantization = Some(MlxQuantization {
            usual: packing(4),
            others: others.collect(),
        });
        Text::new(&config).hash()
    };
    different([
        ("packed", packed(&[])),
        ("but for one", packed(&[("a", None)])),
        ("but for another", packed(&[("b", None)])),
        ("one in six bits", packed(&[("a", Some(6))])),
        ("one in eight bits", packed(&[("a", Some(8))])),
    ]);
}

fn long(factors: &[f32], magnitude: f32) -> RopeScaling {
    RopeScaling::LongRope {
        factors: factors.to_vec(),
        magnitude,
    }
}

fn yarn(factor: f32, beta_fast: f32) -> RopeScaling {
    RopeScaling::Yarn {
        factor,
        original_context: 4096,
        beta_fast,
        beta_slow: 1.0,
        magnitude: 1.0,
    }
}
