//! Why a checkpoint cannot be written or used.

use std::io;
use std::path::PathBuf;

/// What can be wrong with checkpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this engine writes.
    #[error("{} is damaged: {why}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was expected and what came.
        why: String,
    },
    /// Some layers are in no file.
    #[error(
        "{} has no checkpoint of {} after {iteration} steps; {}",
        .folder.display(), layers(.missing), here(.found)
    )]
    Missing {
        /// The job's folder.
        folder: PathBuf,
        /// Steps of the checkpoint.
        iteration: u32,
        /// Layers that were looked for in vain.
        missing: Vec<u32>,
        /// Steps of which there is any file.
        found: Vec<u32>,
    },
    /// The checkpoint belongs to another job, or to another model.
    #[error("{} is not of this job: its {field} is {found}, expected {expected}", .file.display())]
    Other {
        /// The file.
        file: PathBuf,
        /// In what it differs.
        field: &'static str,
        /// What this job has.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The job's name would be a strange folder.
    #[error(
        "{0:?} cannot name a job: expected letters, digits, '-', '_' and '.', at most 64, not \
         beginning with a dot"
    )]
    Name(String),
    /// This node keeps no checkpoints.
    #[error("this node has no folder for checkpoints")]
    NoFolder,
}

/// `layers 3-5, 7`.
fn layers(layers: &[u32]) -> String {
    if layers.is_empty() {
        return "any layer".to_owned();
    }
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &layer in layers {
        match ranges.last_mut() {
            Some((_, last)) if layer == last.saturating_add(1) => *last = layer,
            _ => ranges.push((layer, layer)),
        }
    }
    let range = |&(first, last): &(u32, u32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let ranges: Vec<String> = ranges.iter().map(range).collect();
    format!("layers {}", ranges.join(", "))
}

fn here(found: &[u32]) -> String {
    if found.is_empty() {
        return "nothing is there".to_owned();
    }
    let found: Vec<String> = found.iter().map(u32::to_string).collect();
    format!("there are files of steps {}", found.join(", "))
}
