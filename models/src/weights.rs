//! Weights of a range of layers, under the same names whatever the file format.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

use crate::{ModelConfig, ModelError, map::FileBytes, map::WeightBytes};

/// How a weight's numbers are stored.
///
/// The quantised kinds are ggml's: a row is a sequence of blocks, each with its own scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightKind {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 32 values: half scale, 4 bits each.
    Q4_0,
    /// 32 values: half scale and minimum, 4 bits each.
    Q4_1,
    /// 32 values: half scale, 5 bits each.
    Q5_0,
    /// 32 values: half scale and minimum, 5 bits each.
    Q5_1,
    /// 32 values: half scale, 8 bits each.
    Q8_0,
    /// 256 values in 8 groups with 6-bit scales and minima, 4 bits each.
    Q4K,
    /// 256 values in 8 groups with 6-bit scales and minima, 5 bits each.
    Q5K,
    /// 256 values in 16 groups with 8-bit scales, 6 bits each.
    Q6K,
}

impl WeightKind {
    pub(crate) const NAMES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

    /// How many elements make a block, and how many bytes it takes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// How many bytes a row of `cols` elements takes; nothing if it does not divide into blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        if !cols.is_multiple_of(elements) {
            return None;
        }
        (cols / elements).checked_mul(bytes)
    }
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

/// A weight's name, independent of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightName {
    /// The embedding of each token, `[vocab, hidden]`; also the output head when they are tied.
    TokenEmbedding,
    /// The norm before the output head, `[hidden]`.
    OutputNorm,
    /// The output head, `[vocab, hidden]`; not there when it is tied to the embedding.
    Output,
    /// A weight of one layer, counted from 0 in the whole model.
    Layer(u32, LayerWeight),
}

/// The weights of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerWeight {
    /// The norm before attention, `[hidden]`.
    AttnNorm,
    /// Queries, `[heads × head_dim, hidden]`; see [`RopeLayout`](crate::RopeLayout) for row order.
    AttnQ,
    /// Keys, `[kv_heads × head_dim, hidden]`; see [`RopeLayout`](crate::RopeLayout) for row order.
    AttnK,
    /// Values, `[kv_heads × head_dim, hidden]`.
    AttnV,
    /// From the heads back, `[hidden, heads × head_dim]`.
    AttnOutput,
    /// Bias of the queries, `[heads × head_dim]`; only with `attention_bias`.
    AttnQBias,
    /// Bias of the keys, `[kv_heads × head_dim]`; only with `attention_bias`.
    AttnKBias,
    /// Bias of the values, `[kv_heads × head_dim]`; only with `attention_bias`.
    AttnVBias,
    /// The norm before the feed-forward part, `[hidden]`.
    FfnNorm,
    /// The gate, `[intermediate, hidden]`.
    FfnGate,
    /// Up, `[intermediate, hidden]`.
    FfnUp,
    /// Down, `[hidden, intermediate]`.
    FfnDown,
}

impl LayerWeight {
    /// All of them, in the order of the forward pass.
    pub const ALL: [Self; 12] = [
        Self::AttnNorm,
        Self::AttnQ,
        Self::AttnK,
        Self::AttnV,
        Self::AttnQBias,
        Self::AttnKBias,
        Self::AttnVBias,
        Self::AttnOutput,
        Self::FfnNorm,
        Self::FfnGate,
        Self::FfnUp,
        Self::FfnDown,
    ];
}

impl WeightName {
    /// The tensor's name in safetensors files.
    pub(crate) fn hugging_face(self) -> String {
        let (layer, weight) = match self {
            Self::TokenEmbedding => return "model.embed_tokens.weight".to_owned(),
            Self::OutputNorm => return "model.norm.weight".to_owned(),
            Self::Output => return "lm_head.weight".to_owned(),
            Self::Layer(layer, weight) => (layer, weight),
        };
        let rest = match weight {
            LayerWeight::AttnNorm => "input_layernorm.weight",
            LayerWeight::AttnQ => "self_attn.q_proj.weight",
            LayerWeight::AttnK => "self_attn.k_proj.weight",
            LayerWeight::AttnV => "self_attn.v_proj.weight",
            LayerWeight::AttnOutput => "self_attn.o_proj.weight",
            LayerWeight::AttnQBias => "self_attn.q_proj.bias",
            LayerWeight::AttnKBias => "self_attn.k_proj.bias",
            LayerWeight::AttnVBias => "self_attn.v_proj.bias",
            LayerWeight::FfnNorm => "post_attention_layernorm.weight",
            LayerWeight::FfnGate => "mlp.gate_proj.weight",
            LayerWeight::FfnUp => "mlp.up_proj.weight",
            LayerWeight::FfnDown => "mlp.down_proj.weight",
        };
        format!("model.layers.{layer}.{rest}")
    }

    /// The tensor's name in GGUF files.
    pub(crate) fn gguf(self) -> String {
        let (layer, weight) = match self {
            Self::TokenEmbedding => return "token_embd.weight".to_owned(),
            Self::OutputNorm => return "output_norm.weight".to_owned(),
            Self::Output => return "output.weight".to_owned(),
            Self::Layer(layer, weight) => (layer, weight),
        };
        let rest = match weight {
            LayerWeight::AttnNorm => "attn_norm.weight",
            LayerWeight::AttnQ => "attn_q.weight",
            LayerWeight::AttnK => "attn_k.weight",
            LayerWeight::AttnV => "attn_v.weight",
            LayerWeight::AttnOutput => "attn_output.weight",
            LayerWeight::AttnQBias => "attn_q.bias",
            LayerWeight::AttnKBias => "attn_k.bias",
            LayerWeight::AttnVBias => "attn_v.bias",
            LayerWeight::FfnNorm => "ffn_norm.weight",
            LayerWeight::FfnGate => "ffn_gate.weight",
            LayerWeight::FfnUp => "ffn_up.weight",
            LayerWeight::FfnDown => "ffn_down.weight",
        };
        format!("blk.{layer}.{rest}")
    }

    /// The rows and columns that the configuration implies.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let hidden = config.hidden;
        let queries = config.heads * config.head_dim;
        let keys = config.kv_heads * config.head_dim;
        let weight = match self {
            Self::TokenEmbedding | Self::Output => return (config.vocab, hidden),
            Self::OutputNorm => return (1, hidden),
            Self::Layer(_, weight) => weight,
        };
        match weight {
            LayerWeight::AttnNorm | LayerWeight::FfnNorm => (1, hidden),
            LayerWeight::AttnQ => (queries, hidden),
            LayerWeight::AttnK | LayerWeight::AttnV => (keys, hidden),
            LayerWeight::AttnOutput => (hidden, queries),
            LayerWeight::AttnQBias => (1, queries),
            LayerWeight::AttnKBias | LayerWeight::AttnVBias => (1, keys),
            LayerWeight::FfnGate | LayerWeight::FfnUp => (config.intermediate, hidden),
            LayerWeight::FfnDown => (hidden, config.intermediate),
        }
    }

    /// Whether the part of a model with these layers needs the weight. The embedding belongs to the
    /// first layer, and to the last one too when it serves as the output head.
    pub(crate) fn belongs_to(self, range: &Range<u32>, config: &ModelConfig) -> bool {
        let last = range.end == config.layers;
        match self {
            Self::TokenEmbedding => range.start == 0 || (last && config.tied_embeddings),
            Self::OutputNorm => last,
            Self::Output => last && !config.tied_embeddings,
            Self::Layer(layer, weight) => {
                let bias = matches!(
                    weight,
                    LayerWeight::AttnQBias | LayerWeight::AttnKBias | LayerWeight::AttnVBias
                );
                range.contains(&layer) && (config.attention_bias || !bias)
            }
        }
    }

    /// Every weight that a part of a model with these layers needs.
    pub(crate) fn of_range(range: &Range<u32>, config: &ModelConfig) -> Vec<Self> {
        let layers = range
            .clone()
            .flat_map(|layer| LayerWeight::ALL.map(|weight| Self::Layer(layer, weight)));
        [Self::TokenEmbedding]
            .into_iter()
            .chain(layers)
            .chain([Self::OutputNorm, Self::Output])
            .filter(|name| name.belongs_to(range, config))
            .collect()
    }
}

/// One weight, where it lies in its file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WeightView {
    /// How the numbers are stored.
    pub kind: WeightKind,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Columns: the contiguous dimension, which is the input's.
    pub cols: usize,
    /// `rows` times `kind.row_bytes(cols)` bytes.
    pub data: WeightBytes,
}

/// A tensor found in a file, of a known kind and within the file's bounds.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) kind: WeightKind,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bytes: Range<usize>,
}

/// Where tensors are looked up by the names of one file format.
pub(crate) trait TensorFiles: Send + Sync {
    /// The name of the weight in this format.
    fn tensor_name(&self, name: WeightName) -> String;
    /// The tensor, its file's bytes and path; nothing if no file has it.
    fn locate(&self, tensor: &str) -> Result<Option<(Located, &FileBytes, PathBuf)>, ModelError>;
    /// The file to name when a tensor is in none.
    fn whole(&self) -> PathBuf;
}

/// The weights of a range of layers: keeps their files mapped. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    config: Arc<ModelConfig>,
    range: Range<u32>,
    files: Arc<dyn TensorFiles>,
}

impl Weights {
    pub(crate) fn new(
        config: Arc<ModelConfig>,
        range: Range<u32>,
        files: Arc<dyn TensorFiles>,
    ) -> Self {
        Self {
            config,
            range,
            files,
        }
    }

    /// A weight that must be there.
    pub fn get(&self, name: WeightName) -> Result<WeightView, ModelError> {
        self.find(name)?.ok_or_else(|| ModelError::MissingTensor {
            file: self.files.whole(),
            tensor: self.files.tensor_name(name),
        })
    }

    /// A weight that may be absent: an output head that is tied to the embedding, biases of a
    /// family that has none. (That the file lacks a weight which the configuration calls for is
    /// also an answer of `None`; use [`get`](Self::get) for those.)
    pub fn find(&self, name: WeightName) -> Result<Option<WeightView>, ModelError> {
        if !name.belongs_to(&self.range, &self.config) {
            // Asking for what this model has not is fine, asking for another node's part is not.
            let everything = 0..self.config.layers;
            if !name.belongs_to(&everything, &self.config) && self.in_range(name) {
                return Ok(None);
            }
            return Err(ModelError::NotLoaded {
                weight: format!("{name:?}"),
                range: self.range.clone(),
            });
        }
        let tensor = self.files.tensor_name(name);
        let Some((found, file, path)) = self.files.locate(&tensor)? else {
            return Ok(None);
        };
        let (rows, cols) = name.shape(&self.config);
        if (rows, cols) != (found.rows, found.cols) {
            return Err(ModelError::TensorShape {
                file: path,
                tensor,
                expected: format!("{rows} × {cols}"),
                found: format!("{} × {}", found.rows, found.cols),
            });
        }
        let (start, end) = (found.bytes.start, found.bytes.end);
        let data = file
            .slice(found.bytes)
            .ok_or_else(|| ModelError::TensorBounds {
                file: path,
                tensor,
                start: start as u64,
                end: end as u64,
                available: file.len() as u64,
            })?;
        Ok(Some(WeightView {
            kind: found.kind,
            rows,
            cols,
            data,
        }))
    }

    /// The layers that were loaded.
    pub fn layers(&self) -> Range<u32> {
        self.range.clone()
    }

    /// A bias may be asked of a model that has none, but only of a layer that is here.
    fn in_range(&self, name: WeightName) -> bool {
        match name {
            WeightName::Layer(layer, _) => self.range.contains(&layer),
            _ => true,
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Weights({:?} of {})",
            self.range,
            self.files.whole().display()
        )
    }
}
