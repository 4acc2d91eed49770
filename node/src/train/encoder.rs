//! From the line of a file to tokens.

use super::data::Line;
use crate::speaker::Speaker;
use exo_models::{ChatMessage, ModelError};

/// Turns examples into the tokens of one model.
#[derive(Clone, Debug)]
pub struct Encoder {
    speaker: Speaker,
    mask_prompt: bool,
}

/// An example as the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// All of it.
    pub tokens: Vec<u32>,
    /// The first token that is to be learned; those before it are only read. Zero when all are.
    pub learned_from: usize,
}

impl Encoder {
    /// An encoder for the model of `speaker`. With `mask_prompt` only the last message of a
    /// conversation is learned; a text is always learned whole.
    #[must_use]
    pub fn new(speaker: Speaker, mask_prompt: bool) -> Self {
        Self {
            speaker,
            mask_prompt,
        }
    }

    /// The tokens of an example.
    ///
    /// # Errors
    /// When the model's chat template does not take the conversation, or the text is enormous.
    pub fn encode(&self, line: &Line) -> Result<Example, ModelError> {
        match line {
            Line::Text(text) => {
                let mut tokens = self.speaker.encode_text(text)?;
                let end = self.speaker.end_tokens();
                let ended = tokens.last().is_some_and(|token| end.contains(token));
                tokens.extend(end.first().filter(|_| !ended));
                Ok(Example {
                    tokens,
                    learned_from: 0,
                })
            }
            Line::Chat { messages, tools } => {
                let render = |messages: &[ChatMessage], prompt| {
                    let text = self.speaker.transcribe(messages, tools.as_ref(), prompt)?;
                    self.speaker.encode_text(&text)
                };
                let tokens = render(messages, false)?;
                let learned_from = match messages.split_last() {
                    Some((last, before)) if self.mask_prompt && !before.is_empty() => {
                        render(before, last.role == "assistant")?.len()
                    }
                    _ => 0,
                };
                Ok(Example {
                    tokens,
                    learned_from,
                })
            }
        }
    }
}
