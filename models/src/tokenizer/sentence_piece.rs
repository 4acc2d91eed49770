//! A SentencePiece vocabulary of the BPE kind, as Llama 2, Mistral, Gemma and Phi 3 have it.
//!
//! It has no list of merges: two pieces may become one whenever the result is a piece, the one with
//! the best score first. That is a list of merges, sorted by score.

use std::{collections::HashSet, path::Path};

use tokenizers::{
    DecoderWrapper, NormalizerWrapper,
    decoders::{
        byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip,
    },
    models::bpe::{BPE, Vocab},
    normalizers::{Prepend, Replace, Sequence as Normalizers},
};

use crate::{
    ModelError,
    gguf::{Array, Gguf, Value},
};

/// How a space is written.
pub(super) const SPACE: &str = "▁";

/// The bytes of a piece: spaces as themselves, and what stands for one byte as that.
pub(super) fn bytes(piece: &str) -> Vec<u8> {
    let byte = piece
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => piece.replace(SPACE, " ").into_bytes(),
    }
}

/// Pieces of more bytes are found in no text: to look for all their halves would take too long, and
/// the longest real ones have a hundred.
const MAX_PIECE: usize = 256;

/// What `tokenizer.ggml.token_type` says of a piece.
mod piece_type {
    pub(super) const NORMAL: i64 = 1;
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// The tokenizer but for tokens that are found before anything else; `types` are as many as `tokens`.
pub(super) fn build(
    file: &Path,
    gguf: &Gguf,
    tokens: &[String],
    types: &[i64],
    vocab: Vocab,
) -> Result<tokenizers::Tokenizer, ModelError> {
    let scores = scores(file, gguf, tokens.len())?;
    let merges = merges(tokens, types, scores);
    let failed = |e: tokenizers::Error| ModelError::tokenizer(file, e);
    let mut bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        // What is no piece is written as bytes, or else is unknown.
        .byte_fallback(true)
        .fuse_unk(true);
    let unknown = tokens
        .iter()
        .zip(types)
        .find(|&(_, &kind)| kind == piece_type::UNKNOWN);
    if let Some((text, _)) = unknown {
        bpe = bpe.unk_token(text.clone());
    }
    let mut inner = tokenizers::Tokenizer::new(bpe.build().map_err(failed)?);
    let begins_with_space = begins_with_space(file, gguf)?;
    inner
        .with_normalizer(Some(normalizer(begins_with_space).map_err(failed)?))
        .map_err(failed)?;
    inner.with_decoder(Some(decoder(begins_with_space).map_err(failed)?));
    Ok(inner)
}

fn scores<'a>(file: &Path, gguf: &'a Gguf, count: usize) -> Result<&'a [f32], ModelError> {
    const KEY: &str = "tokenizer.ggml.scores";
    match gguf.metadata.get(KEY) {
        Some(Value::Array(Array::F32(scores)))
            if scores.len() == count && scores.iter().all(|score| !score.is_nan()) =>
        {
            Ok(scores)
        }
        Some(other) => {
            let expected = format!("a list of {count} numbers, one per token");
            Err(ModelError::field(file, KEY, expected, other))
        }
        None => Err(ModelError::MissingField {
            file: file.to_owned(),
            field: KEY.to_owned(),
        }),
    }
}

/// A text, and what follows a special token, begins as a word within it would; Gemma's does not.
fn begins_with_space(file: &Path, gguf: &Gguf) -> Result<bool, ModelError> {
    const KEY: &str = "tokenizer.ggml.add_space_prefix";
    match gguf.metadata.get(KEY) {
        None => Ok(true),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| ModelError::field(file, KEY, "true or false", value)),
    }
}

/// All pairs of pieces that make a piece, the best first. Where one piece comes of several pairs,
/// those with the shorter left one are first, as in the fast tokenizers on the hub.
fn merges(tokens: &[String], types: &[i64], scores: &[f32]) -> Vec<(String, String)> {
    let kinds = tokens.iter().map(String::as_str).zip(types);
    let pieces: HashSet<&str> = kinds
        .filter(|(_, kind)| matches!(**kind, piece_type::NORMAL | piece_type::USER_DEFINED))
        .map(|(text, _)| text)
        .collect();
    let mut found = Vec::new();
    for (token, &score) in tokens.iter().zip(scores) {
        if token.len() > MAX_PIECE || !pieces.contains(token.as_str()) {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if pieces.contains(left) && pieces.contains(right) {
                found.push((score, left, right));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
        .into_iter()
        .map(|(_, left, right)| (left.to_owned(), right.to_owned()))
        .collect()
}

fn normalizer(begins_with_space: bool) -> tokenizers::Result<NormalizerWrapper> {
    let spaces = NormalizerWrapper::Replace(Replace::new(" ", SPACE)?);
    Ok(match begins_with_space {
        true => {
            let first = NormalizerWrapper::Prepend(Prepend::new(SPACE.to_owned()));
            NormalizerWrapper::Sequence(Normalizers::new(vec![first, spaces]))
        }
        false => spaces,
    })
}

fn decoder(begins_with_space: bool) -> tokenizers::Result<DecoderWrapper> {
    let mut steps = vec![
        DecoderWrapper::Replace(Replace::new(SPACE, " ")?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if begins_with_space {
        steps.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    Ok(DecoderWrapper::Sequence(Decoders::new(steps)))
}

#[cfg(test)]
mod tests;
