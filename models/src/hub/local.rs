//! What is in the cache: looked at, checked, removed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Cancel, Hub, HubError, HubName,
    hash::{self, Etag},
    holes,
    layout::RepoFolder,
};
use crate::{
    folder::Folder,
    parts::{self, PartFile, Record},
    safetensors,
};

/// A repository of which something is in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cached {
    /// `organisation/name`.
    pub repo: String,
    /// Its folder.
    pub path: PathBuf,
    /// Bytes on disk, of all its versions.
    pub bytes: u64,
    /// Those of them that are of files which are not whole.
    pub incomplete: u64,
    /// Bytes of files besides, of which only some layers were wanted.
    pub parts: u64,
}

/// A file whose hash was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Its path in the repository.
    pub file: String,
    /// Its bytes.
    pub bytes: u64,
    /// What came of it.
    pub state: State,
}

/// What a file is, compared with what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It has the hash that the hub announced.
    Whole,
    /// It has another one, or a part of it that is here has.
    Damaged,
    /// Only some layers of it are here, and are as they came.
    Part,
    /// The index of the weights names it, but it is not here: another node may have those layers.
    Absent,
    /// It is a copy, of which the cache does not say the hash.
    Unknown,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The folder, or the file's names in it.
    pub paths: Vec<PathBuf>,
    /// Bytes that are free now.
    pub bytes: u64,
}

/// Bytes of parts of files that are here, of the model in a folder of the cache or of one file of it.
#[must_use]
pub fn part_bytes(path: &Path) -> u64 {
    let found = parts::find(path).into_iter().chain(parts::of(path));
    found.map(|part| part.record.have().total()).sum()
}

impl Hub {
    /// All repositories in the cache, by name.
    #[must_use]
    pub fn cached(&self) -> Vec<Cached> {
        let mut cached = Vec::new();
        for (name, path) in children(&self.options.cache) {
            let repo = name.strip_prefix("models--");
            let Some((organisation, name)) = repo.and_then(|repo| repo.split_once("--")) else {
                continue;
            };
            let (mut bytes, mut incomplete) = (0, 0);
            for (blob, path) in children(&path.join("blobs")) {
                let size = fs::metadata(path).map_or(0, |blob| blob.len());
                bytes += size;
                // Python's tools put more into the name.
                incomplete += if blob.ends_with(".incomplete") {
                    size
                } else {
                    0
                };
            }
            let repo = format!("{organisation}/{name}");
            let parts = RepoFolder::new(&self.options.cache, &repo).parts();
            cached.push(Cached {
                repo,
                path,
                bytes,
                incomplete,
                parts: records(&parts).iter().map(|(_, bytes)| bytes).sum(),
            });
        }
        cached.sort_by(|a, b| a.repo.cmp(&b.repo));
        cached
    }

    /// Reads a model's files and compares them with their hashes. `told` hears of each one when it is
    /// done.
    ///
    /// # Errors
    /// When it is not in the cache, cannot be read, or `cancel` says to stop.
    pub fn verify(
        &self,
        name: &HubName,
        told: &mut dyn FnMut(&Checked),
        cancel: &Cancel,
    ) -> Result<Vec<Checked>, HubError> {
        let folder = RepoFolder::new(&self.options.cache, &name.repo);
        let commit = folder.commit(super::BRANCH);
        let commit = commit.ok_or_else(|| self.not_cached(name))?;
        let snapshot = folder.snapshot(&commit);
        let mut files: Vec<String> = names(&snapshot);
        if name.file.is_some() {
            let known: Vec<&str> = files.iter().map(String::as_str).collect();
            files = vec![name.choose(&known)?.to_owned()];
        } else if let Some(indexed) = safetensors::indexed(&Folder::Disk(snapshot.clone()), None)? {
            let here: BTreeSet<String> = files.iter().cloned().collect();
            files.extend(indexed.difference(&here).cloned());
        }
        let mut checked = Vec::new();
        for file in files {
            let path = snapshot.join(&file);
            let one = match parts::find(&path).filter(|_| !path.exists()) {
                Some(part) => check_part(part, cancel)?,
                None => check(&path, file, cancel)?,
            };
            told(&one);
            checked.push(one);
        }
        Ok(checked)
    }

    /// Removes a model from the cache: the whole repository, or the one file of it that the name
    /// says.
    ///
    /// # Errors
    /// When it is not there, is being fetched, or is somewhere else in truth.
    pub fn remove(&self, name: &HubName) -> Result<Removed, HubError> {
        let folder = RepoFolder::new(&self.options.cache, &name.repo);
        let path = folder.path();
        let kind = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_cached(name));
            }
            Err(error) => return Err(HubError::io(&path, error)),
        };
        // Nothing that a link leads to is the cache's.
        if !kind.is_dir() {
            return Err(HubError::OutsideCache {
                name: name.to_string(),
                path: fs::canonicalize(&path).unwrap_or(path),
                cache: self.options.cache.clone(),
            });
        }
        let blobs = children(&folder.blobs());
        let parts = records(&folder.parts());
        let busy = |blob: &str| folder.is_locked(blob.split('.').next().unwrap_or(blob));
        let mut hashes = blobs.iter().map(|(blob, _)| blob);
        let busy_part = parts.iter().any(|(hash, _)| busy(hash));
        if busy_part || hashes.any(|blob| busy(blob)) {
            return Err(HubError::Busy {
                repo: name.repo.clone(),
            });
        }
        if name.file.is_some() {
            return self.remove_file(name, &folder);
        }
        let sizes = blobs
            .iter()
            .map(|(_, path)| fs::metadata(path).map_or(0, |blob| blob.len()));
        let bytes = sizes.chain(parts.iter().map(|(_, bytes)| *bytes)).sum();
        fs::remove_dir_all(&path).map_err(|error| HubError::io(&path, error))?;
        // Locks that nobody holds say nothing.
        let _ = fs::remove_dir_all(folder.locks());
        Ok(Removed {
            paths: vec![path],
            bytes,
        })
    }

    fn remove_file(&self, name: &HubName, folder: &RepoFolder) -> Result<Removed, HubError> {
        let main = folder
            .commit(super::BRANCH)
            .map(|commit| folder.snapshot(&commit));
        let main = main.ok_or_else(|| self.not_cached(name))?;
        let files = names(&main);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let file = name.choose(&files).map_err(|_| self.not_cached(name))?;
        let link = main.join(file);
        if let Some(part) = parts::find(&link).filter(|_| !link.exists()) {
            if let Some(tag) = Etag::parse(&part.hash) {
                holes::forget(folder, &tag)?;
            }
            return Ok(Removed {
                paths: vec![part.data],
                bytes: part.record.have().total(),
            });
        }
        let bytes = fs::metadata(&link).map_or(0, |file| file.len());
        let blob = fs::canonicalize(&link).map_err(|error| HubError::io(&link, error))?;
        let mut paths = Vec::new();
        for (_, snapshot) in children(&folder.path().join("snapshots")) {
            for (_, path) in children(&snapshot) {
                if fs::canonicalize(&path).is_ok_and(|target| target == blob) {
                    fs::remove_file(&path).map_err(|error| HubError::io(&path, error))?;
                    paths.push(path);
                }
            }
        }
        // Only what lies in the cache, wherever a link led.
        let blobs = fs::canonicalize(folder.blobs());
        if blobs.is_ok_and(|blobs| blob.parent() == Some(&blobs)) && blob.exists() {
            fs::remove_file(&blob).map_err(|error| HubError::io(&blob, error))?;
        }
        Ok(Removed { paths, bytes })
    }

    pub(super) fn not_cached(&self, name: &HubName) -> HubError {
        HubError::NotCached {
            name: name.to_string(),
            cache: self.options.cache.clone(),
        }
    }
}

/// The files of a snapshot, whole or not.
fn names(snapshot: &Path) -> Vec<String> {
    let whole = children(snapshot).into_iter().map(|(name, _)| name);
    let parts = parts::of(snapshot).into_iter().map(|part| part.name);
    whole.chain(parts).collect()
}

/// The hashes of files of which a part is here, and how many bytes of each.
fn records(folder: &Path) -> Vec<(String, u64)> {
    let files = children(folder).into_iter();
    let hashes = files.filter_map(|(name, _)| Some(name.strip_suffix(".json")?.to_owned()));
    hashes
        .filter_map(|hash| {
            let have = Record::read(folder, &hash)?.have();
            Some((hash, have.total()))
        })
        .collect()
}

fn check_part(part: PartFile, cancel: &Cancel) -> Result<Checked, HubError> {
    let damaged = holes::damaged(&part.data, &part.record, cancel)?;
    Ok(Checked {
        bytes: part.record.have().total(),
        file: part.name,
        state: match damaged.as_slice() {
            [] => State::Part,
            _ => State::Damaged,
        },
    })
}

fn check(path: &Path, file: String, cancel: &Cancel) -> Result<Checked, HubError> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(Checked {
            file,
            bytes: 0,
            state: State::Absent,
        });
    };
    let blob = fs::read_link(path).ok();
    let blob = blob.as_deref().and_then(Path::file_name);
    let tag = blob.and_then(|blob| Etag::parse(blob.to_str()?));
    let state = match tag {
        None => State::Unknown,
        Some(tag) => {
            let found = hash::of_file(&tag, path, |_| !cancel.is_cancelled());
            match found.map_err(|error| HubError::io(path, error))? {
                None => return Err(HubError::Cancelled),
                Some(found) if found == tag.as_str() => State::Whole,
                Some(_) => State::Damaged,
            }
        }
    };
    Ok(Checked {
        file,
        bytes: metadata.len(),
        state,
    })
}

/// Names and paths of what is in a folder, sorted; none if there is no folder.
pub(super) fn children(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut children: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    children.sort();
    children
}
