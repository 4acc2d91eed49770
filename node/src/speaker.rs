//! Who talks: turns messages into tokens, and tokens into text.

use exo_models::{
    ChatMessage, ChatTemplate, Model, ModelError, TokenStream, Tokenizer, ToolFormat,
};
use exo_protocol::ModelId;
use exo_protocol::dummy;
use exo_protocol::topology::ModelCost;
use serde_json::Value;
use std::sync::Arc;

/// One side of a conversation.
#[derive(Clone, Debug)]
pub enum Speaker {
    /// A real model.
    Model {
        /// Where its layers are.
        model: Model,
        /// Text to tokens.
        tokenizer: Arc<Tokenizer>,
        /// Messages to text.
        template: Box<ChatTemplate>,
        /// What the model is; zero when its files do not tell.
        fingerprint: u64,
        /// What placement goes by; unknown when its files do not tell.
        cost: Arc<ModelCost>,
    },
    /// The dummy engine's.
    Dummy,
}

impl Speaker {
    /// The name that peers know it by.
    #[must_use]
    pub fn id(&self) -> ModelId {
        match self {
            Self::Model { model, .. } => model.id().into(),
            Self::Dummy => dummy::MODEL.into(),
        }
    }

    /// How many layers it has.
    #[must_use]
    pub fn layers(&self) -> u32 {
        match self {
            Self::Model { model, .. } => model.config().layers,
            Self::Dummy => dummy::LAYERS,
        }
    }

    /// Most positions that it can look back on.
    #[must_use]
    pub fn context(&self) -> u32 {
        match self {
            Self::Model { model, .. } => model.config().context,
            Self::Dummy => u32::MAX,
        }
    }

    /// How many tokens it knows.
    #[must_use]
    pub fn vocab(&self) -> u32 {
        match self {
            Self::Model { model, .. } => u32::try_from(model.config().vocab).unwrap_or(u32::MAX),
            Self::Dummy => dummy::LAYERS,
        }
    }

    /// Bytes of its weights.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Model { model, .. } => model.config().weight_bytes,
            Self::Dummy => 0,
        }
    }

    /// What placement goes by.
    #[must_use]
    pub fn cost(&self) -> ModelCost {
        match self {
            Self::Model { cost, .. } => (**cost).clone(),
            Self::Dummy => ModelCost::default(),
        }
    }

    /// What the model is ([`Model::fingerprint`]); zero when nobody can tell.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Model { fingerprint, .. } => *fingerprint,
            Self::Dummy => 0,
        }
    }

    /// Tokens with which it ends its answers.
    #[must_use]
    pub fn end_tokens(&self) -> Vec<u32> {
        match self {
            Self::Model { model, .. } => model.config().eos.clone(),
            Self::Dummy => vec![dummy::END_TOKEN],
        }
    }

    /// The text for which it is to write the next message; unless it `thinks` before it answers, without
    /// thoughts where it knows how.
    ///
    /// # Errors
    /// When the model's template does not take such a conversation.
    pub fn render(
        &self,
        messages: &[ChatMessage],
        tools: Option<&Value>,
        thinks: bool,
    ) -> Result<String, ModelError> {
        match self {
            Self::Model { template, .. } => {
                let template = match thinks {
                    true => template.as_ref(),
                    false => &template.without_thoughts(),
                };
                let explained = tools
                    .filter(|_| template.tool_format() == ToolFormat::Explained)
                    .map(|tools| ToolFormat::explain(messages, tools));
                template.render(explained.as_deref().unwrap_or(messages), tools, true)
            }
            Self::Dummy => Ok(dummy::PROMPT.to_owned()),
        }
    }

    /// The text of a conversation that is over, to learn from; with `prompt` up to where the next
    /// message begins.
    ///
    /// # Errors
    /// When the model's template does not take such a conversation.
    pub fn transcribe(
        &self,
        messages: &[ChatMessage],
        tools: Option<&Value>,
        prompt: bool,
    ) -> Result<String, ModelError> {
        match self {
            Self::Model { template, .. } => template.render(messages, tools, prompt),
            Self::Dummy => Ok(messages.iter().map(|said| said.content.as_str()).collect()),
        }
    }

    /// The tokens of a text to learn from. The dummy engine's tokens are its bytes.
    ///
    /// # Errors
    /// When the text is enormous or the tokenizer broken.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        match self {
            Self::Model { tokenizer, .. } => tokenizer.encode(text),
            Self::Dummy => Ok(text.bytes().map(u32::from).collect()),
        }
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// When the text is enormous or the tokenizer broken.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        match self {
            Self::Model { tokenizer, .. } => tokenizer.encode(text),
            Self::Dummy => Ok(vec![dummy::PROMPT_TOKEN]),
        }
    }

    /// How the model calls functions.
    #[must_use]
    pub fn tool_format(&self) -> ToolFormat {
        match self {
            Self::Model { template, .. } => template.tool_format(),
            Self::Dummy => ToolFormat::default(),
        }
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// When the tokenizer is broken.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        match self {
            Self::Model { tokenizer, .. } => tokenizer.decode(tokens),
            Self::Dummy => Ok(dummy::TOKEN_TEXT.repeat(tokens.len())),
        }
    }

    /// The bytes of a token's text, and whether it only marks something, so that no text has it.
    #[must_use]
    pub fn bytes_of(&self, token: u32) -> (Vec<u8>, bool) {
        match self {
            Self::Model { tokenizer, .. } => {
                let bytes = tokenizer.bytes(token).unwrap_or_default();
                match bytes.strip_prefix(&[0xff]) {
                    Some(special) => (special.to_vec(), true),
                    None => (bytes, false),
                }
            }
            Self::Dummy => (dummy::TOKEN_TEXT.into(), false),
        }
    }

    /// A fresh way from tokens to text.
    #[must_use]
    pub fn text(&self) -> Text {
        match self {
            Self::Model { tokenizer, .. } => Text::Stream(Box::new(tokenizer.stream())),
            Self::Dummy => Text::Dummy,
        }
    }
}

/// What a model costs the nodes that hold it: the bytes of its parts, and of keys and values of so
/// many bytes each.
///
/// # Errors
/// When its weights are not all here.
pub(crate) fn cost_of(model: &Model, element: usize) -> Result<ModelCost, ModelError> {
    let config = model.config();
    let sizes = model.sizes()?;
    let kept = match config.latent {
        None => 2 * config.kv_heads * config.head_dim,
        Some(latent) => 2 * latent.kv_rank + latent.rope_dim,
    };
    let all: u64 = sizes.layers.iter().sum();
    let used = config.experts.map_or(0, |experts| {
        let count = experts.count.max(1) as u64;
        let rest = sizes.experts / count * count.saturating_sub(experts.active as u64);
        all.saturating_sub(rest)
    });
    Ok(ModelCost {
        layers: sizes.layers,
        used,
        embedding: sizes.embedding,
        head: sizes.head,
        tied: config.tied_embeddings,
        kv: (kept * element) as u64,
        hidden: u32::try_from(config.hidden).unwrap_or(u32::MAX),
    })
}

/// Text while tokens come in.
#[derive(Debug)]
pub enum Text {
    /// Of a real model.
    Stream(Box<TokenStream>),
    /// Of the dummy engine.
    Dummy,
}

impl Text {
    /// What is certain after one more token.
    ///
    /// # Errors
    /// When the tokenizer is broken.
    pub fn push(&mut self, token: u32) -> Result<String, ModelError> {
        match self {
            Self::Stream(stream) => stream.push(token),
            Self::Dummy => Ok(dummy::TOKEN_TEXT.to_owned()),
        }
    }

    /// What is left at the end.
    ///
    /// # Errors
    /// When the tokenizer is broken.
    pub fn finish(&mut self) -> Result<String, ModelError> {
        match self {
            Self::Stream(stream) => stream.finish(),
            Self::Dummy => Ok(String::new()),
        }
    }
}
