//! Examples to learn from: `train.jsonl`, `valid.jsonl` and `test.jsonl` in one folder.
//!
//! Each line is a JSON object in one of the formats of `mlx_lm.lora`; other keys are ignored:
//!
//! ```json
//! {"text": "Once upon a time …"}
//! {"prompt": "What is 2 + 2?", "completion": "4"}
//! {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
//! ```
//!
//! Conversations go through the model's chat template; a text gets the model's end token if it has
//! none. Of a file only the places of its lines are kept in memory, 16 bytes for each; a line is
//! read and tokenized when its turn comes, in every epoch anew.

mod line;

pub use line::Line;

use super::encoder::{Encoder, Example};
use exo_models::ModelError;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most examples of a file: their places take 256 MiB.
pub const MAX_EXAMPLES: usize = 1 << 24;

/// The most bytes of a line: what is tokenized at once, and some for the JSON around it.
pub const MAX_LINE: usize = exo_models::MAX_TEXT + (1 << 20);

/// Which of the three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is learned.
    Train,
    /// What shows during training whether it helps.
    Valid,
    /// What is evaluated.
    Test,
}

impl Split {
    /// The file's name in the data folder.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Train => "train.jsonl",
            Self::Valid => "valid.jsonl",
            Self::Test => "test.jsonl",
        }
    }
}

/// Why there is nothing to learn from. Whatever is about a line names the file and the line.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The folder lacks a file.
    #[error("--data {}: {} is expected there, one JSON object on each line", .dir.display(), .split.file_name())]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The file.
        split: Split,
    },
    /// The system does not give it.
    #[error("cannot read {}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has no example.
    #[error("{}: no examples; expected a JSON object on each line", .file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The file has more examples than are kept track of.
    #[error("{}: more than {MAX_EXAMPLES} examples; split the file", .file.display())]
    TooMany {
        /// The file.
        file: PathBuf,
    },
    /// A line is longer than any example.
    #[error("{}:{line}: more than {MAX_LINE} bytes; split the example", .file.display())]
    LongLine {
        /// The file.
        file: PathBuf,
        /// The line, from one.
        line: u32,
    },
    /// A line is not what was expected.
    #[error("{}:{line}: {why}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from one.
        line: u32,
        /// What was expected and what came.
        why: String,
    },
    /// A line's conversation or text does not become tokens.
    #[error("{}:{line}: {source}", .file.display())]
    Encode {
        /// The file.
        file: PathBuf,
        /// The line, from one.
        line: u32,
        /// Why.
        source: Box<ModelError>,
    },
}

/// One file of examples, open.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    file: File,
    places: Vec<Place>,
}

/// Where an example is in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    offset: u64,
    bytes: u32,
    line: u32,
}

impl Dataset {
    /// Opens a file of `dir` and reads all of it once: whatever is wrong with a line is known
    /// before anything is learned. Lines of white space are no examples.
    ///
    /// # Errors
    /// When the file is not there, holds no example, or a line is not one.
    pub fn open(dir: &Path, split: Split) -> Result<Self, DataError> {
        let path = dir.join(split.file_name());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = dir.to_owned();
                return Err(DataError::Missing { dir, split });
            }
            Err(source) => return Err(DataError::Io { file: path, source }),
        };
        let places = places(&path, &file)?;
        if places.is_empty() {
            return Err(DataError::Empty { file: path });
        }
        Ok(Self { path, file, places })
    }

    /// How many examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Never: there is no data set without examples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The bytes of an example's line, from which its length is guessed without tokenizing it;
    /// zero for one that is not there.
    #[must_use]
    pub fn size(&self, index: usize) -> u32 {
        self.places.get(index).map_or(0, |place| place.bytes)
    }

    /// The example's place, for messages: file and line.
    #[must_use]
    pub fn place(&self, index: usize) -> String {
        let line = self.places.get(index).map_or(0, |place| place.line);
        format!("{}:{line}", self.path.display())
    }

    /// Reads an example and turns it into tokens.
    ///
    /// # Errors
    /// When the file is gone or was changed, the model does not take the conversation, or the
    /// example has no token that follows another one.
    pub fn example(&mut self, index: usize, encoder: &Encoder) -> Result<Example, DataError> {
        let Some(&Place {
            offset,
            bytes,
            line,
        }) = self.places.get(index)
        else {
            let why = format!("example {index} of {}", self.places.len());
            return Err(line_error(&self.path, 0, why));
        };
        let mut text = vec![0; bytes as usize];
        let read = self
            .file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| self.file.read_exact(&mut text));
        read.map_err(|source| DataError::Io {
            file: self.path.clone(),
            source,
        })?;
        let parsed = Line::parse(&text).map_err(|why| line_error(&self.path, line, why))?;
        let example = encoder
            .encode(&parsed)
            .map_err(|source| DataError::Encode {
                file: self.path.clone(),
                line,
                source: Box::new(source),
            })?;
        if example.tokens.len() < 2 {
            let why = format!(
                "expected at least two tokens, so that one follows the other; found {}",
                example.tokens.len()
            );
            return Err(line_error(&self.path, line, why));
        }
        Ok(example)
    }
}

fn line_error(file: &Path, line: u32, why: String) -> DataError {
    DataError::Line {
        file: file.to_owned(),
        line,
        why,
    }
}

fn places(path: &Path, file: &File) -> Result<Vec<Place>, DataError> {
    let io = |source| DataError::Io {
        file: path.to_owned(),
        source,
    };
    let mut reader = BufReader::new(file);
    let mut places = Vec::new();
    let (mut text, mut offset, mut line) = (Vec::new(), 0_u64, 0_u32);
    loop {
        text.clear();
        let limit = MAX_LINE as u64 + 1;
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut text);
        let read = read.map_err(io)?;
        if read == 0 {
            return Ok(places);
        }
        line = line.saturating_add(1);
        if read > MAX_LINE {
            let file = path.to_owned();
            return Err(DataError::LongLine { file, line });
        }
        if !text.trim_ascii().is_empty() {
            Line::parse(&text).map_err(|why| line_error(path, line, why))?;
            if places.len() == MAX_EXAMPLES {
                let file = path.to_owned();
                return Err(DataError::TooMany { file });
            }
            // Below MAX_LINE, so it fits.
            let bytes = u32::try_from(read).unwrap_or(u32::MAX);
            places.push(Place {
                offset,
                bytes,
                line,
            });
        }
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests;
