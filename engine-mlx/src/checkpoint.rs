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

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
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
