//! Text to tokens and back.

mod byte_level;
mod from_gguf;
mod from_hf;
mod sentence_piece;
mod stream;

use std::{path::PathBuf, sync::Arc};

use tokenizers::DecoderWrapper;

pub use self::stream::TokenStream;
pub(crate) use self::{
    from_gguf::from_gguf,
    from_hf::{TokenText, begin_token, from_folder, size},
};
use crate::{ModelConfig, ModelError};

/// The most bytes that are tokenized at once: a million tokens and more, but not minutes of work.
pub const MAX_TEXT: usize = 8 << 20;

/// A model's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// What a text must begin with.
    bos: Option<u32>,
    /// Tokens are bytes written as characters: the decoder of all current models.
    byte_level: bool,
    /// The same, perhaps among other steps of the decoder.
    writes_bytes: bool,
    file: PathBuf,
}

impl Tokenizer {
    fn new(inner: tokenizers::Tokenizer, config: &ModelConfig, file: PathBuf) -> Self {
        Self {
            writes_bytes: serde_json::to_string(&inner.get_decoder())
                .is_ok_and(|decoder| decoder.contains("\"ByteLevel\"")),
            byte_level: matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))),
            inner,
            bos: config.bos.filter(|_| config.add_bos),
            file,
        }
    }

    /// The tokens of a text. Special tokens written in it are recognised, because the text usually
    /// comes from a chat template. A model that wants a text to begin with a certain token gets it
    /// once, whether the text already has it or not.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        if text.len() > MAX_TEXT {
            return Err(ModelError::TextTooLong {
                bytes: text.len(),
                limit: MAX_TEXT,
            });
        }
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| ModelError::tokenizer(&self.file, e))?;
        let ids = encoding.get_ids();
        let bos = self.bos.filter(|&bos| ids.first() != Some(&bos));
        Ok(bos.into_iter().chain(ids.iter().copied()).collect())
    }

    /// The text of tokens. Special tokens, and numbers that are no tokens, have none.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        self.inner
            .decode(tokens, true)
            .map_err(|e| ModelError::tokenizer(&self.file, e))
    }

    /// Text while tokens come in.
    pub fn stream(self: &Arc<Self>) -> TokenStream {
        TokenStream::new(self.clone())
    }

    /// How many tokens it knows; a model's embedding may have more rows.
    pub fn vocab(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The number of a token by its text, special ones included.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// The bytes of a token's text, as it stands within an answer. Of a special token they begin with
    /// 0xff, which no text has; `None` for numbers that are no tokens.
    pub fn bytes(&self, token: u32) -> Option<Vec<u8>> {
        let text = self.inner.id_to_token(token)?;
        let added = self.inner.get_added_vocabulary();
        if added.is_special_token(&text) {
            return Some([&[0xff], text.as_bytes()].concat());
        }
        if added.get_vocab().contains_key(&text) {
            return Some(text.into_bytes());
        }
        Some(if self.writes_bytes {
            byte_level::bytes(&text)
        } else {
            sentence_piece::bytes(&text)
        })
    }

    /// The text of a token if it is not a special one, as its vocabulary writes it.
    fn plain_token(&self, token: u32) -> Option<String> {
        let added = self.inner.get_added_vocabulary();
        self.inner
            .id_to_token(token)
            .filter(|text| !added.is_special_token(text))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Tokenizer({} tokens, {})",
            self.vocab(),
            self.file.display()
        )
    }
}

#[cfg(test)]
mod tests;
