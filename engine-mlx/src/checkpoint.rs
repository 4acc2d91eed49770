//! What checkpoints of training jobs are called.
//!
//! Each stage writes the parameters of its own layers into the job's folder on its own machine:
//!
//! ```text
//! <checkpoint folder>/<job>/<first layer>-<last layer>-<steps done>.safetensors
//! ```
//!
//! So a job's folder may hold the files of several stages, of several steps, and of rings that were
//! cut differently.

mod error;
mod file;
#[cfg(mlx)]
mod write;

pub use error::CheckpointError;
pub use file::CheckpointFile;
#[cfg(mlx)]
pub(crate) use write::write;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The name of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointName {
    /// Steps done.
    pub iteration: u32,
    /// The first layer in it, counted from zero in the whole model.
    pub first: u32,
    /// The last layer in it.
    pub last: u32,
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            iteration,
            first,
            last,
        } = self;
        write!(f, "{first}-{last}-{iteration}.safetensors")
    }
}

/// The name of a file that is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no checkpoint's name; expected <first layer>-<last layer>-<steps>.safetensors")]
pub struct NotACheckpoint(String);

impl FromStr for CheckpointName {
    type Err = NotACheckpoint;

    fn from_str(name: &str) -> Result<Self, NotACheckpoint> {
        let read = || {
            let mut numbers = name.strip_suffix(".safetensors")?.split('-');
            let mut number = || numbers.next()?.parse().ok();
            let read = Self {
                first: number()?,
                last: number()?,
                iteration: number()?,
            };
            // Only what is written here: no signs, no leading zeros, nothing behind.
            (read.first <= read.last && read.to_string() == name).then_some(read)
        };
        read().ok_or_else(|| NotACheckpoint(name.to_owned()))
    }
}

/// Whether a job may be called so: its name becomes a folder, and may come from a peer. Letters,
/// digits, `-`, `_` and `.`, not beginning with a dot; at most 64.
#[must_use]
pub fn is_job_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

/// A checkpoint of a job, to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The job's folder.
    pub folder: PathBuf,
    /// Steps done.
    pub iteration: u32,
}

/// What an adapter says of itself, the same in the files of all its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterIdentity {
    /// The name of the model that it was learned on.
    pub model: String,
    /// What that model was.
    pub fingerprint: u64,
    /// What the model is with the adapter.
    pub adapted: u64,
}

impl Adapter {
    /// Asks one of its files.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn identity(&self) -> Result<AdapterIdentity, CheckpointError> {
        let names = self.names()?;
        let mut names = names.iter().copied();
        let name = names.find(|name| name.iteration == self.iteration);
        let name = name.ok_or_else(|| self.missing(Vec::new(), &[]))?;
        AdapterIdentity::of(&CheckpointFile::open(&self.path(name))?)
    }

    /// All checkpoints beside it.
    pub(crate) fn names(&self) -> Result<Vec<CheckpointName>, CheckpointError> {
        list(&self.folder).map_err(|source| CheckpointError::Io {
            file: self.folder.clone(),
            source,
        })
    }

    pub(crate) fn path(&self, name: CheckpointName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    pub(crate) fn missing(&self, missing: Vec<u32>, names: &[CheckpointName]) -> CheckpointError {
        CheckpointError::Missing {
            folder: self.folder.clone(),
            iteration: self.iteration,
            missing,
            found: iterations(names),
        }
    }
}

impl AdapterIdentity {
    pub(crate) fn of(file: &CheckpointFile) -> Result<Self, CheckpointError> {
        let (identity, iteration) = (file.hex("identity")?, file.text("iteration")?);
        let mut hash = Hash::new();
        hash.text("adapted").number(file.hex("fingerprint")?);
        hash.number(identity).text(iteration);
        Ok(Self {
            model: file.text("model")?.to_owned(),
            fingerprint: file.hex("fingerprint")?,
            adapted: hash.value(),
        })
    }
}

/// FNV-1a over texts and numbers, each with its length before it.
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    /// Never zero, which means that nobody knows.
    pub(crate) fn value(&self) -> u64 {
        self.0.max(1)
    }
}

/// The checkpoints in a job's folder, in order of their steps and layers; what else is there is
/// passed over. Nothing if there is no such folder.
///
/// # Errors
/// When the system does not let it look.
pub fn list(folder: &Path) -> io::Result<Vec<CheckpointName>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        if let Some(Ok(name)) = entry?.file_name().to_str().map(CheckpointName::from_str) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The layers of `layers` that no file of this iteration has.
#[must_use]
pub fn missing(
    names: &[CheckpointName],
    iteration: u32,
    layers: impl IntoIterator<Item = u32>,
) -> Vec<u32> {
    let has = |layer: u32| {
        let mut files = names.iter().filter(|name| name.iteration == iteration);
        files.any(|name| (name.first..=name.last).contains(&layer))
    };
    layers.into_iter().filter(|layer| !has(*layer)).collect()
}

/// The steps of which there are files, in order.
#[must_use]
pub fn iterations(names: &[CheckpointName]) -> Vec<u32> {
    let steps: BTreeSet<u32> = names.iter().map(|name| name.iteration).collect();
    steps.into_iter().collect()
}

#[cfg(test)]
mod tests;
