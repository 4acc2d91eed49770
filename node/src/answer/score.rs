//! Tokens with their probabilities, as clients are told them.

use crate::speaker::Speaker;

/// How likely a token was.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// Its text; of a token that ends within a character, with U+FFFD.
    pub text: String,
    /// The same as bytes.
    pub bytes: Vec<u8>,
    /// Whether it only marks something, such as an end: no text has it.
    pub special: bool,
    /// The natural logarithm of its probability. No number if nothing came before it: of the first
    /// token of a prompt.
    pub score: f32,
    /// The likeliest tokens in its place, the likeliest one first; these have none of their own.
    pub likeliest: Vec<Self>,
}

impl TokenScore {
    pub(super) fn new(speaker: &Speaker, token: u32, score: f32) -> Self {
        let (bytes, special) = speaker.bytes_of(token);
        Self {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
            special,
            score,
            likeliest: Vec::new(),
        }
    }
}
