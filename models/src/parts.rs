//! Files of which only some bytes are here: those of the layers that this machine computes.
//!
//! They lie beside the hub's cache, under a name that only we know, and never in it: what is in
//! `blobs` and `snapshots` is whole, and has its hash.
//!
//! ```text
//! models--ORGANISATION--NAME/exo-parts/HASH.part     as long as the file, with holes
//!                                      HASH.json     which bytes of it are there
//!                                      COMMIT/FILE   the hash of the file of that name
//! ```
//!
//! A hole reads as zeros, so nothing reads one: what opens such a file asks the record first
//! ([`FileBytes::lacks`]). The record is written after the bytes are on the disk, and says only what
//! is there; it has the hash of each piece as it came, so that a disk's errors can be found.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{ModelError, map::FileBytes, ranges::Ranges};

/// Where they are, in the folder of their repository.
pub(crate) const FOLDER: &str = "exo-parts";

/// A record that is longer is none: it would be of a file of 10 TB.
const MAX_RECORD: u64 = 16 << 20;

/// What a record that we understand says of itself.
const FORMAT: u32 = 1;

/// Bytes that came one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Of these bytes, in hexadecimal digits.
    pub(crate) sha256: String,
}

/// What is known of a file of which some bytes are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// Bytes of the whole file.
    pub(crate) size: u64,
    pub(crate) pieces: Vec<Piece>,
}

impl Record {
    pub(crate) fn new(size: u64) -> Self {
        Self {
            format: FORMAT,
            size,
            pieces: Vec::new(),
        }
    }

    /// The record of a file, if there is one that can be believed.
    pub(crate) fn read(folder: &Path, hash: &str) -> Option<Self> {
        let path = record(folder, hash);
        if plain(&path)?.len() > MAX_RECORD {
            return None;
        }
        let found: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let inside = |piece: &Piece| piece.from < piece.to && piece.to <= found.size;
        let fits = plain(&data(folder, hash))?.len() == found.size;
        (found.format == FORMAT && fits && found.pieces.iter().all(inside)).then_some(found)
    }

    pub(crate) fn have(&self) -> Ranges {
        let mut have = Ranges::default();
        for piece in &self.pieces {
            have.add(piece.from..piece.to);
        }
        have
    }
}

/// What a link leads to is not the cache's.
fn plain(path: &Path) -> Option<fs::Metadata> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.is_file().then_some(metadata)
}

/// The bytes.
pub(crate) fn data(folder: &Path, hash: &str) -> PathBuf {
    folder.join(format!("{hash}.part"))
}

/// What says which of them are there.
pub(crate) fn record(folder: &Path, hash: &str) -> PathBuf {
    folder.join(format!("{hash}.json"))
}

/// A file by its name in a version of a repository.
#[derive(Debug, Clone)]
pub(crate) struct PartFile {
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) data: PathBuf,
    pub(crate) record: Record,
}

/// Where the parts of a snapshot's files are, and their names.
fn of_snapshot(snapshot: &Path) -> Option<(PathBuf, PathBuf)> {
    let snapshots = snapshot.parent()?;
    let folder = snapshots.parent()?.join(FOLDER);
    let names = folder.join(snapshot.file_name()?);
    (snapshots.file_name()? == "snapshots").then_some((folder, names))
}

/// The part of the file that would be at `path` in the hub's cache if it were whole.
pub(crate) fn find(path: &Path) -> Option<PartFile> {
    let (folder, names) = of_snapshot(path.parent()?)?;
    let name = path.file_name()?.to_str()?.to_owned();
    let pointer = names.join(&name);
    if plain(&pointer)?.len() > 64 {
        return None;
    }
    let hash = fs::read_to_string(pointer).ok()?;
    // It becomes a part of a path.
    if !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(PartFile {
        name,
        data: data(&folder, &hash),
        record: Record::read(&folder, &hash)?,
        hash,
    })
}

/// The files of a snapshot of which only a part is here.
pub(crate) fn of(snapshot: &Path) -> Vec<PartFile> {
    let Some((_, names)) = of_snapshot(snapshot) else {
        return Vec::new();
    };
    let entries = fs::read_dir(names).into_iter().flatten().flatten();
    let paths = entries.map(|entry| snapshot.join(entry.file_name()));
    let mut found: Vec<_> = paths
        .filter(|path| !path.exists())
        .filter_map(|path| find(&path))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A view of a file of which at least a part is here.
pub(crate) fn map(path: &Path) -> Result<Option<FileBytes>, ModelError> {
    if path.is_file() {
        return FileBytes::map(path).map(Some);
    }
    let Some(part) = find(path) else {
        return Ok(None);
    };
    FileBytes::map_part(&part.data, part.name, part.record.have()).map(Some)
}

/// Bytes of a file that are not here.
pub(crate) type Lacking = (String, Range<u64>);
