//! Inputs as they come from peers, checked.

use crate::MlxError;
use crate::shard::ShardModel;
use crate::tensor::from_tensor;
use exo_models::Model;
use exo_protocol::engine::EngineInput;
use mlx_rs::Array;
use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use std::ops::Range;

/// An input that fits its shard.
pub(crate) enum Checked {
    /// Ids below the model's vocabulary; at least one.
    Tokens(Vec<u32>),
    /// `[1, T, hidden]` in what the shard computes with; at least one position.
    Hidden(Array),
}

impl Checked {
    /// Checks an input against the shard it came to; text becomes tokens.
    pub(crate) fn new(
        model: &Model,
        shard: &ShardModel,
        input: &EngineInput,
    ) -> std::result::Result<Self, MlxError> {
        let config = &shard.config;
        let first = shard.is_first();
        let positions = match input {
            EngineInput::Hidden(tensor) => tensor.shape().iter().product(),
            EngineInput::Tokens(tokens) => tokens.len(),
            EngineInput::Text(text) => text.len(),
        };
        if positions == 0 {
            return Err(MlxError::Input("the input has no positions".to_owned()));
        }
        let tokens = match input {
            EngineInput::Text(text) if first => model.tokenizer()?.encode(text)?,
            EngineInput::Tokens(tokens) if first => tokens.clone(),
            EngineInput::Hidden(tensor) if !first => {
                return from_tensor(tensor, config.hidden, shard.dtype).map(Self::Hidden);
            }
            EngineInput::Text(_) | EngineInput::Tokens(_) => {
                return Err(MlxError::Input(
                    "tokens came to a shard without the first layer".to_owned(),
                ));
            }
            EngineInput::Hidden(_) => {
                return Err(MlxError::Input(
                    "a hidden state came to the shard with the first layer".to_owned(),
                ));
            }
        };
        if tokens.is_empty() {
            return Err(MlxError::Input("the input has no positions".to_owned()));
        }
        let vocab = config.vocab;
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(MlxError::Input(format!(
                "token {token} is not in the vocabulary of {vocab}"
            )));
        }
        Ok(Self::Tokens(tokens))
    }

    /// Positions.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Hidden(states) => states.shape().get(1).map_or(0, |&length| length as usize),
        }
    }

    /// What enters the first layer for some of the positions, `[1, T, hidden]`.
    pub(crate) fn embedded(&self, shard: &ShardModel, positions: Range<usize>) -> Result<Array> {
        match self {
            Self::Tokens(tokens) => {
                let tokens = tokens.get(positions).unwrap_or_default();
                shard.embed(&Array::from_slice(tokens, &[1, tokens.len() as i32]))
            }
            Self::Hidden(states) if positions == (0..self.len()) => Ok(states.clone()),
            Self::Hidden(states) => {
                states.try_index((.., positions.start as i32..positions.end as i32, ..))
            }
        }
    }
}
