//! `tokenizer.json`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use super::Tokenizer;
use crate::{ModelConfig, ModelError, folder::Folder};

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// The tokenizer in a model's folder.
pub(crate) fn from_folder(folder: &Folder, config: &ModelConfig) -> Result<Tokenizer, ModelError> {
    let file = folder.file(FILE);
    let bytes = folder.read(FILE)?.ok_or_else(|| missing(folder))?;
    // The library's checks are for its own files; some broken ones make it panic (a merge that is
    // longer than any token). A file from the net must not end a thread.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        tokenizers::Tokenizer::from_bytes(&bytes)
    }));
    let mut inner = parsed
        .map_err(|_| ModelError::tokenizer(&file, "the file contradicts itself"))?
        .map_err(|e| ModelError::tokenizer(&file, e))?;
    // Left over from training, and meant for batches: they would cut or fill prompts silently.
    inner.with_padding(None);
    inner
        .with_truncation(None)
        .map_err(|e| ModelError::tokenizer(&file, e))?;
    Ok(Tokenizer::new(inner, config, file))
}

fn missing(folder: &Folder) -> ModelError {
    ModelError::MissingFile {
        file: folder.file(FILE),
        why: "a tokenizer.model alone does not do: save the tokenizer again with \
              AutoTokenizer.from_pretrained(…).save_pretrained(…)"
            .to_owned(),
    }
}

/// A token in `tokenizer_config.json`: its text, or an object with more about it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenText {
    Plain(String),
    Object { content: String },
}

impl TokenText {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Plain(text) | Self::Object { content: text } => text,
        }
    }
}

#[derive(Deserialize, Default)]
struct Config {
    add_bos_token: Option<bool>,
    bos_token: Option<TokenText>,
}

/// The parts of `tokenizer.json` that tell how a text begins.
#[derive(Deserialize, Default)]
struct Beginning {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

/// The token that texts of the model begin with, and whether they do without being told.
///
/// `bos` is what `config.json` has to say. The tokenizer's own files know better: distilled models may
/// keep the configuration of their base and have a tokenizer with another begin token. Where
/// `tokenizer_config.json` has no word on whether to add it, the tokenizer's template for a text
/// decides.
pub(crate) fn begin_token(
    folder: &Folder,
    bos: Option<u32>,
) -> Result<(Option<u32>, bool), ModelError> {
    let config: Config = folder.json(CONFIG)?.unwrap_or_default();
    let beginning: Beginning = folder.json(FILE)?.unwrap_or_default();
    let text = config.bos_token.map(TokenText::into_text);
    let own = beginning
        .added_tokens
        .iter()
        .find(|added| Some(&added.content) == text.as_ref());
    let bos = own.map(|added| added.id).or(bos);
    let adds = match config.add_bos_token {
        Some(adds) => adds,
        None => bos.is_some_and(|bos| begins_with(&beginning.post_processor, bos)),
    };
    Ok((bos, adds))
}

fn begins_with(processor: &Value, bos: u32) -> bool {
    match processor.get("type").and_then(Value::as_str) {
        Some("Sequence") => processor
            .get("processors")
            .and_then(Value::as_array)
            .is_some_and(|list| list.iter().any(|inner| begins_with(inner, bos))),
        Some("TemplateProcessing") => {
            let first = processor
                .pointer("/single/0/SpecialToken/id")
                .and_then(Value::as_str);
            let ids = first.and_then(|name| processor.get("special_tokens")?.get(name)?.get("ids"));
            ids.and_then(|ids| ids.get(0)).and_then(Value::as_u64) == Some(bos.into())
        }
        _ => false,
    }
}

/// The numbers in `tokenizer.json`.
#[derive(Deserialize)]
struct Numbers {
    #[serde(default)]
    added_tokens: Vec<Number>,
    model: NumbersOfModel,
}

#[derive(Deserialize)]
struct Number {
    id: u32,
}

#[derive(Deserialize)]
struct NumbersOfModel {
    vocab: Size,
}

/// One more than the largest number in a vocabulary: an object of numbers by text, or a list.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Counter;

        impl<'de> Visitor<'de> for Counter {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
                let mut size = 0;
                while let Some((IgnoredAny, number)) = map.next_entry::<_, u32>()? {
                    size = size.max(u64::from(number) + 1);
                }
                Ok(Size(size))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Size, A::Error> {
                let mut size = 0;
                while let Some(IgnoredAny) = list.next_element()? {
                    size += 1;
                }
                Ok(Size(size))
            }
        }

        deserializer.deserialize_any(Counter)
    }
}

/// One more than the largest number of a token, without building the tokenizer, which takes far
/// longer and a lot of memory.
pub(crate) fn size(folder: &Folder) -> Result<u64, ModelError> {
    let numbers: Numbers = folder.json(FILE)?.ok_or_else(|| missing(folder))?;
    let added = numbers.added_tokens.iter();
    let added = added.map(|added| u64::from(added.id) + 1).max();
    Ok(added.unwrap_or(0).max(numbers.model.vocab.0))
}
