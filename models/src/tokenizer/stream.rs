//! Text while tokens come in.

use std::{mem, str, sync::Arc};

use super::{Tokenizer, byte_level};
use crate::ModelError;

/// Turns tokens into text one at a time: what is returned never has to be taken back.
///
/// A token may end in the middle of a character, and whether a space belongs before a word may depend
/// on what came before. So text is returned as soon as it is certain, and the pieces together are
/// what [`Tokenizer::decode`] makes of all tokens.
#[derive(Debug)]
pub struct TokenStream {
    tokenizer: Arc<Tokenizer>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Byte-level vocabularies: a token is bytes, whatever comes before. Holds the beginning of a
    /// character that is not complete.
    Bytes(Vec<u8>),
    /// Any other decoder: it is asked for the text of a few tokens with and without the new one.
    Window {
        /// Tokens whose text was returned; they tell the decoder that it is not at the beginning.
        context: Vec<u32>,
        /// Tokens whose text is not certain yet.
        pending: Vec<u32>,
    },
}

/// A character has at most four bytes, and so at most four tokens; before them may be some that are
/// no text yet, such as the space that is dropped at the beginning. What is still not a character
/// after that many tokens never becomes one.
const MAX_PENDING: usize = 8;

impl TokenStream {
    pub(super) fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let state = if tokenizer.byte_level {
            State::Bytes(Vec::new())
        } else {
            State::Window {
                context: Vec::new(),
                pending: Vec::new(),
            }
        };
        Self { tokenizer, state }
    }

    /// Takes the next token; returns the text that is now certain, which may be empty.
    pub fn push(&mut self, token: u32) -> Result<String, ModelError> {
        let Some(text) = self.tokenizer.plain_token(token) else {
            return Ok(String::new());
        };
        match &mut self.state {
            State::Bytes(tail) => {
                tail.extend(byte_level::bytes(&text));
                Ok(complete_characters(tail))
            }
            State::Window { context, pending } => {
                pending.push(token);
                let (text, new) = decode_after(&self.tokenizer, context, pending)?;
                let open = new.is_empty() || text.ends_with(char::REPLACEMENT_CHARACTER);
                if open && pending.len() < MAX_PENDING {
                    return Ok(String::new());
                }
                *context = mem::take(pending);
                Ok(new)
            }
        }
    }

    /// Ends the text: returns what was held back, an incomplete character as U+FFFD. The stream is
    /// then at the beginning of a new text.
    pub fn finish(&mut self) -> Result<String, ModelError> {
        match &mut self.state {
            State::Bytes(tail) => {
                let text = String::from_utf8_lossy(tail).into_owned();
                tail.clear();
                Ok(text)
            }
            State::Window { context, pending } => {
                let (_, new) = decode_after(&self.tokenizer, context, pending)?;
                context.clear();
                pending.clear();
                Ok(new)
            }
        }
    }
}

/// Takes from `bytes` all but the beginning of a character at its end. Bytes that can never be part of
/// one become U+FFFD, just as they would in the whole text.
fn complete_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    loop {
        match str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                rest = after;
                let Some(length) = error.error_len() else {
                    break;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
    *bytes = rest.to_vec();
    text
}

/// The text of both lists together, and what of it the second one adds.
fn decode_after(
    tokenizer: &Tokenizer,
    context: &[u32],
    pending: &[u32],
) -> Result<(String, String), ModelError> {
    let before = tokenizer.decode(context)?;
    let text = tokenizer.decode(&[context, pending].concat())?;
    let new = match text.strip_prefix(&before) {
        Some(new) => new.to_owned(),
        // Broken bytes can change what the text before them was; that is not taken back.
        None => tokenizer.decode(pending)?,
    };
    Ok((text, new))
}
