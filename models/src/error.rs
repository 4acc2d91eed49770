//! What can be wrong with a model on disk, said so that the reader knows what to do next.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{gguf::GgufError, weights::WeightKind};

/// Why a model cannot be used. Every variant about a file names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The operating system refused to read a file or folder.
    #[error("cannot read {}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The path is neither a folder in Hugging Face layout nor a GGUF file.
    #[error("{} is not a model: {why}", .path.display())]
    NotAModel {
        /// The path that was opened.
        path: PathBuf,
        /// What was expected there.
        why: String,
    },

    /// A file that the model cannot do without is not there.
    #[error("{} is missing: {why}", .file.display())]
    MissingFile {
        /// The file that was looked for.
        file: PathBuf,
        /// What it is needed for, and what to do.
        why: String,
    },

    /// A file is larger than any real one of its kind.
    #[error("{} has {bytes} bytes, more than the {limit} that are read of such a file", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },

    /// A file is not the JSON that it should be.
    #[error("{} is not the JSON expected of it: {source}", .file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why parsing stopped.
        source: serde_json::Error,
    },

    /// A required field of a configuration is not there.
    #[error("{} has no `{field}`", .file.display())]
    MissingField {
        /// The file.
        file: PathBuf,
        /// The field, as written in the file.
        field: String,
    },

    /// A field of a configuration has a value that cannot be right.
    #[error("`{field}` in {} should be {expected}, but is {found}", .file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field, as written in the file.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What is there.
        found: String,
    },

    /// The file is sound, but uses something that this crate does not implement.
    #[error("{} uses {what}; supported: {supported}", .file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// What it uses.
        what: String,
        /// What would work instead.
        supported: String,
    },

    /// A GGUF file cannot be parsed.
    #[error("{} is not a readable GGUF file: {source}", .file.display())]
    Gguf {
        /// The file.
        file: PathBuf,
        /// What is wrong with its bytes.
        source: GgufError,
    },

    /// A safetensors file cannot be parsed.
    #[error("{} is not a readable safetensors file: {why}", .file.display())]
    Safetensors {
        /// The file.
        file: PathBuf,
        /// What is wrong with its bytes.
        why: String,
    },

    /// A tensor is not in the file where it should be.
    #[error("tensor `{tensor}` is not in {}", .file.display())]
    MissingTensor {
        /// The file, or the folder when no file claims to have it.
        file: PathBuf,
        /// The tensor, named as the file would name it.
        tensor: String,
    },

    /// Only some layers of the model are on this machine.
    #[error("tensor `{tensor}` of {} is not on this machine: only other layers were downloaded", .file.display())]
    NotHere {
        /// The file, if it were whole.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },

    /// A tensor lies outside its file: mostly an unfinished download.
    #[error(
        "tensor `{tensor}` occupies bytes {start}..{end} of {}, which has only {available}: \
         the download may be incomplete, fetch the file again",
        .file.display()
    )]
    TensorBounds {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its first byte in the file.
        start: u64,
        /// One past its last byte.
        end: u64,
        /// The size of the file.
        available: u64,
    },

    /// A tensor has not the shape that the configuration implies.
    #[error("tensor `{tensor}` in {} should be {expected}, but is {found}", .file.display())]
    TensorShape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape or size that the configuration implies.
        expected: String,
        /// What the file says.
        found: String,
    },

    /// A tensor's numbers are stored in a way that this crate does not know.
    #[error(
        "tensor `{tensor}` in {} is stored as {found}; supported: {}",
        .file.display(),
        WeightKind::NAMES
    )]
    TensorKind {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type that the file names.
        found: String,
    },

    /// A tensor has a number, or a quantised one a scale, that is infinite or not a number.
    #[error(
        "tensor `{tensor}` ({kind}) in {} has an infinity or NaN in row {row}: the file is corrupt, \
         or what it was made from was",
        .file.display()
    )]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The row, counted from 0 in the whole tensor.
        row: usize,
        /// How its numbers are stored.
        kind: WeightKind,
    },

    /// A range of layers that the model does not have, or an empty one.
    #[error("layers {}..{} were asked of {model}, which has layers 0..{layers}", .range.start, .range.end)]
    LayerRange {
        /// The model's id.
        model: String,
        /// What was asked for.
        range: Range<u32>,
        /// How many layers there are.
        layers: u32,
    },

    /// A weight was asked for that is not among those that were loaded.
    #[error("{weight} is not part of layers {}..{}, which is all that was loaded", .range.start, .range.end)]
    NotLoaded {
        /// What was asked for.
        weight: String,
        /// The layers that were loaded.
        range: Range<u32>,
    },

    /// The tokenizer's files cannot be used, or it refuses a text.
    #[error("the tokenizer of {} failed: {why}", .file.display())]
    Tokenizer {
        /// The file that describes it.
        file: PathBuf,
        /// What it said.
        why: String,
    },

    /// A format cannot be held, or an answer is not of it.
    #[error("{0}")]
    Grammar(String),

    /// A text is too long to be worth tokenizing.
    #[error("the text has {bytes} bytes, more than the {limit} that are tokenized at once")]
    TextTooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// The chat template does not compile, or fails while rendering.
    #[error("the chat template of {} failed: {why}", .file.display())]
    Template {
        /// The file that the template comes from.
        file: PathBuf,
        /// The template engine's message.
        why: String,
    },

    /// The chat template itself refuses the conversation (`raise_exception`): the caller's to mend.
    #[error("the model does not accept this conversation: {message}")]
    Refused {
        /// The template author's words.
        message: String,
    },

    /// Nothing on this machine goes by that name.
    #[error("{0}")]
    Unknown(Box<UnknownModel>),
}

/// What was done to find a model, and what would have been found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownModel {
    /// The name that was asked for.
    pub name: String,
    /// What the name was taken for, and the places that were searched.
    pub looked_for: Vec<String>,
    /// The ids that would have worked.
    pub available: Vec<String>,
    /// Known ids that look like the name.
    pub near: Vec<String>,
}

impl std::fmt::Display for UnknownModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no model named `{}` on this machine", self.name)?;
        if !self.near.is_empty() {
            write!(f, "; did you mean {}?", self.near.join(", "))?;
        }
        for place in &self.looked_for {
            write!(f, "\n  looked for {place}")?;
        }
        write!(f, "\n  available here: {}", self.available.join(", "))
    }
}

impl ModelError {
    pub(crate) fn io(file: &Path, source: io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            source,
        }
    }

    pub(crate) fn not_here(file: &Path, tensor: &str) -> Self {
        Self::NotHere {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
        }
    }

    pub(crate) fn field(
        file: &Path,
        field: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Self {
        Self::Field {
            file: file.to_owned(),
            field: field.to_owned(),
            expected: expected.into(),
            found: shorten(found.to_string()),
        }
    }

    pub(crate) fn unsupported(
        file: &Path,
        what: impl Into<String>,
        supported: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            file: file.to_owned(),
            what: shorten(what.into()),
            supported: supported.into(),
        }
    }

    pub(crate) fn grammar(why: impl ToString) -> Self {
        // Some errors show where in a text that nobody here wrote; people are told the words alone.
        let why = why.to_string();
        let words = why.split_once("failed to compile JSON schema: ");
        let lines = words.map_or(why.as_str(), |(_, words)| words).lines();
        let shows = |line: &&str| line.contains(" | ") || line.trim_matches([' ', '^']).is_empty();
        let words: Vec<&str> = lines.filter(|line| !shows(line)).map(str::trim).collect();
        Self::Grammar(words.join(" ").chars().take(500).collect())
    }

    pub(crate) fn tokenizer(file: &Path, why: impl ToString) -> Self {
        Self::Tokenizer {
            file: file.to_owned(),
            why: why.to_string(),
        }
    }
}

/// Values are quoted in messages, but a value may be a whole vocabulary.
fn shorten(mut text: String) -> String {
    const LONGEST: usize = 120;
    if text.len() > LONGEST {
        let mut end = LONGEST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
