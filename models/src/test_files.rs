//! Writes tiny models for the tests: the formats' other direction, so that readers are not tested
//! against themselves.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::gguf::{Array, Value};

/// A GGUF file in pieces that a test can spoil.
pub(crate) struct GgufFile {
    pub(crate) version: u32,
    pub(crate) metadata: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
}

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

pub(crate) const F32: u32 = 0;
pub(crate) const Q8_0: u32 = 8;

/// The sizes of the tiny model in either format.
pub(crate) const LAYERS: u32 = 2;
pub(crate) const HIDDEN: u64 = 32;
pub(crate) const INTERMEDIATE: u64 = 64;
pub(crate) const HEADS: u64 = 4;
pub(crate) const KV_HEADS: u64 = 2;
pub(crate) const HEAD_DIM: u64 = 8;

/// All bytes as GPT-2 writes them, three merges, two control tokens.
pub(crate) fn tokens() -> Vec<String> {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
        .into_iter()
        .collect();
    alphabet.sort_unstable();
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    tokens.extend(["Ġa", "ab", "Ġab", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    tokens
}

pub(crate) const MERGES: [&str; 3] = ["Ġ a", "a b", "Ġa b"];
pub(crate) const IM_START: u32 = 259;
pub(crate) const IM_END: u32 = 260;

fn strings<S: ToString>(texts: impl IntoIterator<Item = S>) -> Value {
    Value::Array(Array::String(
        texts.into_iter().map(|text| text.to_string()).collect(),
    ))
}

impl GgufFile {
    /// A model whose every tensor is there: matrices in Q8_0, vectors in F32.
    pub(crate) fn tiny() -> Self {
        let text = |text: &str| Value::String(text.to_owned());
        let tokens = tokens();
        let vocab = tokens.len() as u64;
        let types = (0..tokens.len() as u32)
            .map(|id| if id >= IM_START { 3 } else { 1 })
            .collect();
        let metadata = [
            ("general.architecture", text("llama")),
            ("llama.block_count", Value::U32(LAYERS)),
            ("llama.context_length", Value::U32(128)),
            ("llama.embedding_length", Value::U32(HIDDEN as u32)),
            ("llama.feed_forward_length", Value::U32(INTERMEDIATE as u32)),
            ("llama.attention.head_count", Value::U32(HEADS as u32)),
            ("llama.attention.head_count_kv", Value::U32(KV_HEADS as u32)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("smollm")),
            ("tokenizer.ggml.tokens", strings(tokens)),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
            ("tokenizer.ggml.merges", strings(MERGES)),
            ("tokenizer.ggml.bos_token_id", Value::U32(IM_START)),
            ("tokenizer.ggml.eos_token_id", Value::U32(IM_END)),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        let mut file = Self {
            version: 3,
            metadata,
            tensors: Vec::new(),
        };
        file.zeros("token_embd.weight", &[HIDDEN, vocab]);
        for layer in 0..LAYERS {
            for (name, dims) in [
                ("attn_norm", &[HIDDEN][..]),
                ("attn_q", &[HIDDEN, HEADS * HEAD_DIM]),
                ("attn_k", &[HIDDEN, KV_HEADS * HEAD_DIM]),
                ("attn_v", &[HIDDEN, KV_HEADS * HEAD_DIM]),
                ("attn_output", &[HEADS * HEAD_DIM, HIDDEN]),
                ("ffn_norm", &[HIDDEN]),
                ("ffn_gate", &[HIDDEN, INTERMEDIATE]),
                ("ffn_up", &[HIDDEN, INTERMEDIATE]),
                ("ffn_down", &[INTERMEDIATE, HIDDEN]),
            ] {
                file.zeros(&format!("blk.{layer}.{name}.weight"), dims);
            }
        }
        file.zeros("output_norm.weight", &[HIDDEN]);
        file
    }

    fn zeros(&mut self, name: &str, dims: &[u64]) {
        let elements = dims.iter().product::<u64>() as usize;
        let (kind, bytes) = if dims.len() == 1 {
            (F32, elements * 4)
        } else {
            (Q8_0, elements / 32 * 34)
        };
        self.tensor(name, dims, kind, vec![0; bytes]);
    }

    pub(crate) fn tensor(&mut self, name: &str, dims: &[u64], kind: u32, data: Vec<u8>) {
        let (name, dims) = (name.to_owned(), dims.to_owned());
        self.tensors.push(Tensor {
            name,
            dims,
            kind,
            data,
        });
    }

    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.remove(key);
        self.metadata.push((key.to_owned(), value));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        self.metadata.retain(|(known, _)| known != key);
    }

    /// The file, and where its header ends.
    pub(crate) fn bytes(&self) -> (Vec<u8>, usize) {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            write_string(&mut out, key);
            write_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            write_string(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor
                .dims
                .iter()
                .for_each(|dim| out.extend(dim.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (tensor.data.len() as u64).next_multiple_of(32);
        }
        let header = out.len();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.data);
        }
        (out, header)
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.bytes().0).unwrap();
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    macro_rules! number {
        ($code:expr, $n:expr) => {{
            out.extend(u32::to_le_bytes($code));
            out.extend($n.to_le_bytes());
        }};
    }
    match value {
        Value::U8(n) => number!(0, n),
        Value::I8(n) => number!(1, n),
        Value::U16(n) => number!(2, n),
        Value::I16(n) => number!(3, n),
        Value::U32(n) => number!(4, n),
        Value::I32(n) => number!(5, n),
        Value::F32(n) => number!(6, n),
        Value::Bool(b) => number!(7, u8::from(*b)),
        Value::String(text) => {
            out.extend(8_u32.to_le_bytes());
            write_string(out, text);
        }
        Value::Array(array) => {
            out.extend(9_u32.to_le_bytes());
            write_array(out, array);
        }
        Value::U64(n) => number!(10, n),
        Value::I64(n) => number!(11, n),
        Value::F64(n) => number!(12, n),
    }
}

pub(crate) fn write_array(out: &mut Vec<u8>, array: &Array) {
    macro_rules! numbers {
        ($code:expr, $list:expr) => {{
            out.extend(u32::to_le_bytes($code));
            out.extend(($list.len() as u64).to_le_bytes());
            $list.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(list) => numbers!(0, list),
        Array::I8(list) => numbers!(1, list),
        Array::U16(list) => numbers!(2, list),
        Array::I16(list) => numbers!(3, list),
        Array::U32(list) => numbers!(4, list),
        Array::I32(list) => numbers!(5, list),
        Array::F32(list) => numbers!(6, list),
        Array::Bool(list) => {
            numbers!(7, list.iter().map(|&b| u8::from(b)).collect::<Vec<_>>());
        }
        Array::String(list) => {
            out.extend(8_u32.to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| write_string(out, text));
        }
        Array::Array(list) => {
            out.extend(9_u32.to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|inner| write_array(out, inner));
        }
        Array::U64(list) => numbers!(10, list),
        Array::I64(list) => numbers!(11, list),
        Array::F64(list) => numbers!(12, list),
    }
}

/// A safetensors file of zeros.
pub(crate) fn safetensors(tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += shape.iter().product::<u64>() * 2;
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    safetensors_with(&serde_json::Value::Object(header), end as usize)
}

pub(crate) fn safetensors_with(header: &serde_json::Value, data: usize) -> Vec<u8> {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// A tensor of a safetensors file, its bytes counted up so that no two places in it look alike.
pub(crate) struct Counted(
    pub(crate) String,
    pub(crate) &'static str,
    pub(crate) Vec<usize>,
);

impl Counted {
    pub(crate) fn new(name: &str, dtype: &'static str, shape: &[usize]) -> Self {
        Self(name.to_owned(), dtype, shape.to_vec())
    }

    /// The bytes of elements of `size` bytes from `first` on.
    pub(crate) fn bytes(first: usize, count: usize, size: usize) -> Vec<u8> {
        let element = |index: usize| (index as u32).to_le_bytes().into_iter().take(size);
        (first..first + count).flat_map(element).collect()
    }
}

/// A folder of Hugging Face layout with this config.json and these tensors.
pub(crate) fn write_counted(folder: &Path, config: &serde_json::Value, tensors: &[Counted]) {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for Counted(name, dtype, shape) in tensors {
        let size = if *dtype == "F32" || *dtype == "U32" {
            4
        } else {
            2
        };
        let start = data.len();
        data.extend(Counted::bytes(0, shape.iter().product(), size));
        let offsets = [start, data.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
    }
    let mut bytes = safetensors_with(&serde_json::Value::Object(header), 0);
    bytes.extend(data);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

/// The tensors of the tiny model by layer; those that belong to no layer come first and last.
pub(crate) fn hugging_face_tensors(tied: bool) -> Vec<Vec<(String, Vec<u64>)>> {
    let vocab = tokens().len() as u64;
    let mut parts = vec![vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![vocab, HIDDEN],
    )]];
    for layer in 0..LAYERS {
        let tensors = [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.k_proj", vec![KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.v_proj", vec![KV_HEADS * HEAD_DIM, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HEADS * HEAD_DIM]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.up_proj", vec![INTERMEDIATE, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INTERMEDIATE]),
        ];
        let named =
            tensors.map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape));
        parts.push(named.into());
    }
    let mut last = vec![("model.norm.weight".to_owned(), vec![HIDDEN])];
    if !tied {
        last.push(("lm_head.weight".to_owned(), vec![vocab, HIDDEN]));
    }
    parts.push(last);
    parts
}

/// The tiny model's config.json.
pub(crate) fn config() -> serde_json::Value {
    json!({
        "model_type": "llama",
        "hidden_act": "silu",
        "num_hidden_layers": LAYERS,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": tokens().len(),
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 128,
        "tie_word_embeddings": true,
        "bos_token_id": IM_START,
        "eos_token_id": IM_END,
    })
}

/// The tiny model's tokenizer.json, without a post-processor.
pub(crate) fn tokenizer() -> serde_json::Value {
    let tokens = tokens();
    let vocab: serde_json::Map<_, _> = tokens
        .iter()
        .zip(0..)
        .map(|(token, id)| (token.clone(), json!(id)))
        .collect();
    let added: Vec<_> = [IM_START, IM_END]
        .iter()
        .map(|&id| {
            json!({
                "id": id, "content": tokens[id as usize], "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0",
        "truncation": {
            "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0,
        },
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": MERGES },
    })
}

/// The tiny model as a folder with one file of weights.
pub(crate) fn write_folder(folder: &Path, tied: bool) {
    fs::create_dir_all(folder).unwrap();
    let mut config = config();
    config["tie_word_embeddings"] = json!(tied);
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let tensors = hugging_face_tensors(tied).concat();
    fs::write(folder.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

/// Anything that a field may hold.
pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (0_u64..300).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            proptest::collection::hash_map("[a-z_]{1,6}", inner, 0..3)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}
