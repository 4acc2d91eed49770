//! A tokenizer from a GGUF file's vocabulary and merges.

use std::path::Path;

use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    models::bpe::{BPE, Vocab},
    normalizers::NFC,
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{Tokenizer, sentence_piece};
use crate::{
    ModelConfig, ModelError,
    gguf::{Gguf, Value},
};

/// `tokenizer.ggml.token_type`: only a few of the values matter to us.
mod token_type {
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
}

/// How the families that share Llama 3's way of cutting text into words differ: in digits.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Words end where lower case is followed by upper case, and keep what an apostrophe adds.
fn gpt_4o() -> String {
    let (upper, lower) = (
        r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]",
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]",
    );
    let before = r"[^\r\n\p{L}\p{N}]?";
    let after = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
    [
        format!("{before}{upper}*{lower}+{after}"),
        format!("{before}{upper}+{lower}*{after}"),
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+".to_owned(),
    ]
    .join("|")
}

/// How a text is cut before merging, by the names that llama.cpp has given to the ways.
pub(super) enum Words {
    Gpt2,
    SmolLm,
    /// Words that are tokens are taken whole.
    Llama3,
    /// Cut as by Llama 3, and merged as everywhere.
    LikeLlama3,
    Qwen2,
    Gpt4o,
}

const WORDS: &str =
    "gpt-2, default, smollm, llama-bpe, smaug-bpe, dbrx, qwen2, deepseek-r1-qwen, gpt-4o";

impl Words {
    pub(super) fn named(pre: &str) -> Option<Self> {
        Some(match pre {
            "gpt-2" | "default" | "mpt" | "olmo" | "jais" => Self::Gpt2,
            "smollm" => Self::SmolLm,
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            "smaug-bpe" | "dbrx" => Self::LikeLlama3,
            "qwen2" | "deepseek-r1-qwen" => Self::Qwen2,
            "gpt-4o" => Self::Gpt4o,
            _ => return None,
        })
    }

    pub(super) fn pre_tokenizer(&self) -> tokenizers::Result<PreTokenizerWrapper> {
        // No space is put before the first word: chat templates begin with a special token.
        let bytes = |use_regex| ByteLevel::new(false, true, use_regex).into();
        let split = |regex: &str| {
            let pattern = SplitPattern::Regex(regex.to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(Into::into)
        };
        Ok(match self {
            Self::Gpt2 => bytes(true),
            Self::SmolLm => Sequence::new(vec![Digits::new(true).into(), bytes(true)]).into(),
            Self::Llama3 | Self::LikeLlama3 => {
                Sequence::new(vec![split(LLAMA_3)?, bytes(false)]).into()
            }
            Self::Qwen2 => Sequence::new(vec![split(QWEN_2)?, bytes(false)]).into(),
            Self::Gpt4o => Sequence::new(vec![split(&gpt_4o())?, bytes(false)]).into(),
        })
    }
}

/// The tokenizer that a GGUF file describes.
pub(crate) fn from_gguf(
    file: &Path,
    gguf: &Gguf,
    config: &ModelConfig,
) -> Result<Tokenizer, ModelError> {
    let metadata = Metadata { file, gguf };
    let tokens = metadata.texts("tokenizer.ggml.tokens")?;
    let vocab = vocab(file, tokens)?;
    let types = metadata.types(tokens.len())?;
    let mut inner = match metadata.text("tokenizer.ggml.model")? {
        "gpt2" => byte_level(&metadata, vocab)?,
        "llama" => {
            // Without types everything is a piece like any other.
            let types = types.clone().unwrap_or_else(|| vec![1; tokens.len()]);
            sentence_piece::build(file, gguf, tokens, &types, vocab)?
        }
        other => {
            let what = format!("a tokenizer of the kind `{other}` (`tokenizer.ggml.model`)");
            let supported = "gpt2 (byte-level BPE), llama (SentencePiece's BPE)";
            return Err(ModelError::unsupported(file, what, supported));
        }
    };
    let added = added_tokens(tokens, &types.unwrap_or_default());
    inner
        .add_tokens(added)
        .map_err(|e| ModelError::tokenizer(file, e))?;
    Ok(Tokenizer::new(inner, config, file.to_owned()))
}

/// A tokenizer whose pieces are bytes written as characters.
fn byte_level(metadata: &Metadata<'_>, vocab: Vocab) -> Result<tokenizers::Tokenizer, ModelError> {
    let Metadata { file, gguf } = *metadata;
    // Files from before the key existed are GPT-2's kind.
    let pre = match gguf.metadata.contains_key("tokenizer.ggml.pre") {
        true => metadata.text("tokenizer.ggml.pre")?,
        false => "default",
    };
    let words = Words::named(pre).ok_or_else(|| {
        let what = format!("the pre-tokenizer `{pre}` (`tokenizer.ggml.pre`)");
        ModelError::unsupported(file, what, WORDS)
    })?;
    let merges = merges(file, metadata.texts("tokenizer.ggml.merges")?, &vocab)?;
    let failed = |e: tokenizers::Error| ModelError::tokenizer(file, e);
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        // Llama 3's words that are tokens are taken whole, even where merges would not get there.
        .ignore_merges(matches!(words, Words::Llama3))
        .build()
        .map_err(failed)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    inner.with_pre_tokenizer(Some(words.pre_tokenizer().map_err(failed)?));
    inner.with_decoder(Some(ByteLevel::default()));
    if matches!(words, Words::Qwen2) {
        inner
            .with_normalizer(Some(NormalizerWrapper::NFC(NFC)))
            .map_err(failed)?;
    }
    Ok(inner)
}

fn vocab(file: &Path, tokens: &[String]) -> Result<Vocab, ModelError> {
    let mut vocab = Vocab::new();
    for (id, token) in (0..).zip(tokens) {
        if let Some(first) = vocab.insert(token.clone(), id) {
            let found = format!("{token:?} at {first} and at {id}");
            let expected = "without repetition";
            return Err(ModelError::field(
                file,
                "tokenizer.ggml.tokens",
                expected,
                found,
            ));
        }
    }
    Ok(vocab)
}

/// Each merge is two tokens that together are a third. The library takes that for granted.
fn merges(
    file: &Path,
    merges: &[String],
    vocab: &Vocab,
) -> Result<Vec<(String, String)>, ModelError> {
    merges
        .iter()
        .map(|merge| {
            // A token may begin with a space, but has none further on.
            let space = merge.char_indices().skip(1).find(|&(_, c)| c == ' ');
            space
                .and_then(|(at, _)| Some((merge.get(..at)?, merge.get(at + 1..)?)))
                .filter(|&(left, right)| {
                    let joined = [left, right].concat();
                    [left, right, &joined]
                        .iter()
                        .all(|&token| vocab.contains_key(token))
                })
                .map(|(left, right)| (left.to_owned(), right.to_owned()))
                .ok_or_else(|| {
                    let expected = "pairs of tokens that make a token";
                    let found = format!("{merge:?}");
                    ModelError::field(file, "tokenizer.ggml.merges", expected, found)
                })
        })
        .collect()
}

/// The tokens that are found in a text before it is cut into words.
fn added_tokens(tokens: &[String], types: &[i64]) -> Vec<AddedToken> {
    tokens
        .iter()
        .zip(types)
        .filter_map(|(text, &kind)| match kind {
            _ if text.is_empty() => None,
            token_type::CONTROL => Some(AddedToken::from(text.as_str(), true)),
            // Runs of spaces, which Gemma has among them, are found by merging.
            token_type::USER_DEFINED if !text.starts_with(sentence_piece::SPACE) => {
                Some(AddedToken::from(text.as_str(), false).normalized(false))
            }
            _ => None,
        })
        .collect()
}

struct Metadata<'a> {
    file: &'a Path,
    gguf: &'a Gguf,
}

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Result<&'a Value, ModelError> {
        self.gguf
            .metadata
            .get(key)
            .ok_or_else(|| ModelError::MissingField {
                file: self.file.to_owned(),
                field: key.to_owned(),
            })
    }

    fn text(&self, key: &str) -> Result<&'a str, ModelError> {
        let value = self.get(key)?;
        value
            .as_str()
            .ok_or_else(|| ModelError::field(self.file, key, "a text", value))
    }

    /// The type of each token, if the file has types.
    fn types(&self, tokens: usize) -> Result<Option<Vec<i64>>, ModelError> {
        const KEY: &str = "tokenizer.ggml.token_type";
        let Some(value) = self.gguf.metadata.get(KEY) else {
            return Ok(None);
        };
        match value.as_ints().filter(|types| types.len() == tokens) {
            Some(types) => Ok(Some(types)),
            None => {
                let expected = format!("a list of {tokens} whole numbers, one per token");
                Err(ModelError::field(self.file, KEY, expected, value))
            }
        }
    }

    fn texts(&self, key: &str) -> Result<&'a [String], ModelError> {
        let value = self.get(key)?;
        value
            .as_strings()
            .ok_or_else(|| ModelError::field(self.file, key, "a list of texts", value))
    }
}
