//! Inputs as they come from peers, checked.

use crate::error::CpuError;
use crate::pass::Input;
use crate::shard::ShardModel;
use bytes::Bytes;
use exo_models::Model;
use exo_protocol::engine::EngineInput;
use exo_protocol::{DType, Tensor};

/// An input that fits its shard.
pub(crate) enum Checked {
    Tokens(Vec<u32>),
    Hidden(Vec<f32>),
}

impl Checked {
    /// Checks an input against the shard it came to; text becomes tokens.
    pub(crate) fn new(
        model: &Model,
        shard: &ShardModel,
        input: &EngineInput,
    ) -> Result<Self, CpuError> {
        let config = &shard.config;
        let first = shard.is_first();
        let checked = match input {
            EngineInput::Text(text) if first => Self::Tokens(model.tokenizer()?.encode(text)?),
            EngineInput::Tokens(tokens) if first => Self::Tokens(tokens.clone()),
            EngineInput::Hidden(tensor) if !first => {
                Self::Hidden(from_tensor(tensor, config.hidden)?)
            }
            EngineInput::Text(_) | EngineInput::Tokens(_) => {
                return Err(CpuError::Input(
                    "tokens came to a shard without the first layer".to_owned(),
                ));
            }
            EngineInput::Hidden(_) => {
                return Err(CpuError::Input(
                    "a hidden state came to the shard with the first layer".to_owned(),
                ));
            }
        };
        if checked.len(config.hidden) == 0 {
            return Err(CpuError::Input("the input has no positions".to_owned()));
        }
        if let Self::Tokens(tokens) = &checked
            && let Some(token) = tokens.iter().find(|token| **token as usize >= config.vocab)
        {
            let vocab = config.vocab;
            return Err(CpuError::Input(format!(
                "token {token} is not in the vocabulary of {vocab}"
            )));
        }
        Ok(checked)
    }

    /// Positions.
    pub(crate) fn len(&self, hidden: usize) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Hidden(states) => states.len() / hidden,
        }
    }

    /// As the layers take it.
    pub(crate) fn borrowed(&self) -> Input<'_> {
        match self {
            Self::Tokens(tokens) => Input::Tokens(tokens),
            Self::Hidden(states) => Input::Hidden(states),
        }
    }
}

/// The elements of a tensor `[1, T, hidden]` or `[T, hidden]`.
fn from_tensor(tensor: &Tensor, hidden: usize) -> Result<Vec<f32>, CpuError> {
    let fits = match *tensor.shape() {
        [1, _, width] | [_, width] => width == hidden,
        _ => false,
    };
    if !fits {
        let shape = tensor.shape();
        return Err(CpuError::Input(format!(
            "the hidden state has shape {shape:?}, this shard takes [1, T, {hidden}]"
        )));
    }
    let data = tensor.data();
    let halves = data
        .as_chunks::<2>()
        .0
        .iter()
        .map(|bytes| u16::from_le_bytes(*bytes));
    match tensor.dtype() {
        DType::F32 => Ok(data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()),
        DType::F16 => Ok(halves
            .map(|bits| half::f16::from_bits(bits).to_f32())
            .collect()),
        DType::Bf16 => Ok(halves
            .map(|bits| half::bf16::from_bits(bits).to_f32())
            .collect()),
        other => Err(CpuError::Input(format!(
            "the hidden state is {other}, this shard takes float32, float16 or bfloat16"
        ))),
    }
}

/// `states` as a tensor `[1, tokens, hidden]`.
pub(crate) fn to_tensor(states: &[f32], tokens: usize) -> Result<Tensor, CpuError> {
    let bytes: Vec<u8> = states
        .iter()
        .flat_map(|state| state.to_le_bytes())
        .collect();
    let shape = vec![1, tokens, states.len() / tokens.max(1)];
    Tensor::new(DType::F32, shape, Bytes::from(bytes))
        .map_err(|error| CpuError::Input(error.to_string()))
}
