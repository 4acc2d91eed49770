//! A file with holes, as it is filled.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    HubError,
    blob::not_written,
    hash::{self, Etag, Hasher},
    http::FileInfo,
    layout::{RepoFolder, create_parent, is_commit, open_to_go_on},
    local::children,
    progress::Cancel,
};
use crate::{
    parts::{self, Piece, Record},
    ranges::Ranges,
};

/// So many bytes are written at most before the record says so, and are lost if the machine stops, or
/// the disk has no room for the record either.
const SAVE_EVERY: u64 = 64 << 20;

/// Only whoever has the lock of its hash makes one.
pub(super) struct Holes {
    folder: PathBuf,
    tag: Etag,
    file: File,
    record: Record,
    pub(super) have: Ranges,
    /// The piece that is being written.
    growing: Option<Growing>,
}

struct Growing {
    from: u64,
    to: u64,
    hasher: Hasher,
}

impl Holes {
    /// Whether there is something of that file.
    pub(super) fn is_there(folder: &RepoFolder, tag: &Etag) -> bool {
        Record::read(&folder.parts(), tag.as_str()).is_some()
    }

    /// Takes up what is there, or begins.
    pub(super) fn open(folder: &RepoFolder, info: &FileInfo) -> Result<Self, HubError> {
        let folder = folder.parts();
        let (tag, hash) = (info.tag.clone(), info.tag.as_str());
        let path = parts::data(&folder, hash);
        create_parent(&path)?;
        let known = Record::read(&folder, hash).filter(|record| record.size == info.size);
        let fresh = known.is_none();
        if fresh {
            // A new file: somebody may look at the old one.
            remove(&path)?;
        }
        let file = open_to_go_on(&path)?;
        let record = known.unwrap_or_else(|| Record::new(info.size));
        let mut holes = Self {
            folder,
            tag,
            file,
            have: record.have(),
            record,
            growing: None,
        };
        if fresh {
            let sized = holes.file.set_len(info.size);
            sized.map_err(|error| not_written(error, &path, None))?;
            holes.save()?;
        }
        Ok(holes)
    }

    fn data(&self) -> PathBuf {
        parts::data(&self.folder, self.tag.as_str())
    }

    /// Bytes that came. Nobody may believe them yet: see [`Holes::count`] and [`Holes::take_back`].
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), HubError> {
        let follows =
            |growing: &Growing| growing.to == at && growing.to - growing.from < SAVE_EVERY;
        if !self.growing.as_ref().is_some_and(follows) {
            self.save()?;
        }
        let written = self.file.seek(SeekFrom::Start(at));
        let written = written.and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| not_written(error, &self.data(), None))?;
        let growing = self.growing.get_or_insert_with(|| Growing {
            from: at,
            to: at,
            hasher: Hasher::sha256(),
        });
        growing.hasher.update(bytes);
        growing.to += bytes.len() as u64;
        self.have.add(at..growing.to);
        Ok(())
    }

    /// The bytes of a range, which is there.
    pub(super) fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>, HubError> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(range.start));
        let length = range.end - range.start;
        let read = read.and_then(|_| (&mut self.file).take(length).read_to_end(&mut bytes));
        read.map_err(|error| HubError::io(&self.data(), error))?;
        Ok(bytes)
    }

    /// Ends the piece that is being written; how many there are.
    pub(super) fn count(&mut self) -> usize {
        if let Some(growing) = self.growing.take() {
            self.record.pieces.push(Piece {
                from: growing.from,
                to: growing.to,
                sha256: growing.hasher.finish(),
            });
        }
        self.record.pieces.len()
    }

    /// What came after there were so many pieces counts as never come.
    pub(super) fn take_back(&mut self, count: usize) {
        self.growing = None;
        self.record.pieces.truncate(count);
        self.have = self.record.have();
    }

    /// Pieces that are not as they came count as never come: which bytes those are.
    pub(super) fn forget_damaged(&mut self, cancel: &Cancel) -> Result<Vec<Range<u64>>, HubError> {
        let damaged = damaged(&self.data(), &self.record, cancel)?;
        self.record.pieces.retain(|piece| !damaged.contains(piece));
        self.have = self.record.have();
        self.save()?;
        let ranges = damaged.into_iter().map(|piece| piece.from..piece.to);
        Ok(ranges.collect())
    }

    /// Remembers what is there, once the disk has it.
    pub(super) fn save(&mut self) -> Result<(), HubError> {
        self.count();
        let synced = self.file.sync_data();
        synced.map_err(|error| not_written(error, &self.data(), None))?;
        let path = parts::record(&self.folder, self.tag.as_str());
        let draft = path.with_extension("json.incomplete");
        let text = serde_json::to_vec(&self.record).unwrap_or_default();
        let written = fs::write(&draft, &text).and_then(|()| fs::rename(&draft, &path));
        written.map_err(|error| not_written(error, &path, None))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.have.covers(&(0..self.record.size))
    }

    /// Nothing but a beginning is there: its bytes.
    pub(super) fn only_beginning(&self) -> Option<u64> {
        let beginning = self.have.run(0);
        (beginning == self.have.total()).then_some(beginning)
    }

    /// Forgets all of it, and begins anew.
    pub(super) fn restart(&mut self, folder: &RepoFolder) -> Result<(), HubError> {
        forget(folder, &self.tag)?;
        let info = FileInfo {
            tag: self.tag.clone(),
            size: self.record.size,
        };
        *self = Self::open(folder, &info)?;
        Ok(())
    }

    /// All is there: gives it its place in the hub's cache if it has its hash. If not, whether there
    /// is anything left of it is of no interest to anybody.
    pub(super) fn become_blob(
        self,
        folder: &RepoFolder,
        cancel: &Cancel,
    ) -> Result<bool, HubError> {
        let path = self.data();
        let found = hash::of_file(&self.tag, &path, |_| !cancel.is_cancelled());
        let found = found.map_err(|error| HubError::io(&path, error))?;
        let right = found.ok_or(HubError::Cancelled)? == self.tag.as_str();
        if right {
            let blob = folder.blob(&self.tag);
            create_parent(&blob)?;
            let named = self.file.sync_all().and_then(|()| fs::rename(&path, &blob));
            named.map_err(|error| HubError::io(&blob, error))?;
            // A download of the whole file that was given up.
            remove(&folder.incomplete(&self.tag))?;
            for (commit, name) in pointers(folder, &self.tag) {
                folder.link(&commit, &name, &self.tag)?;
            }
        }
        forget(folder, &self.tag)?;
        Ok(right)
    }

    /// Nothing but a beginning is there, and all is wanted: that goes where all files begin.
    pub(super) fn become_incomplete(self, folder: &RepoFolder) -> Result<(), HubError> {
        let path = folder.incomplete(&self.tag);
        let beginning = self.have.run(0);
        if fs::metadata(&path).is_ok_and(|there| there.len() >= beginning) {
            return forget(folder, &self.tag);
        }
        create_parent(&path)?;
        let moved = self.file.set_len(beginning);
        let moved = moved.and_then(|()| fs::rename(self.data(), &path));
        moved.map_err(|error| HubError::io(&path, error))?;
        forget(folder, &self.tag)
    }
}

/// The pieces whose bytes are not those that came: the hash of the whole says nothing of them.
pub(super) fn damaged(
    data: &Path,
    record: &Record,
    cancel: &Cancel,
) -> Result<Vec<Piece>, HubError> {
    let failed = |error| HubError::io(data, error);
    let mut damaged = Vec::new();
    let mut file = File::open(data).map_err(failed)?;
    for piece in &record.pieces {
        file.seek(SeekFrom::Start(piece.from)).map_err(failed)?;
        let mut hasher = Hasher::sha256();
        let mut bytes = (&mut file).take(piece.to - piece.from);
        let read = hasher.read(&mut bytes, |_| !cancel.is_cancelled());
        if !read.map_err(failed)? {
            return Err(HubError::Cancelled);
        }
        if hasher.finish() != piece.sha256 {
            damaged.push(piece.clone());
        }
    }
    Ok(damaged)
}

/// In which versions of the repository, under which names, a file is.
fn pointers(folder: &RepoFolder, tag: &Etag) -> Vec<(String, String)> {
    let commits = children(&folder.parts()).into_iter();
    let commits = commits.filter(|(name, _)| is_commit(name));
    let of_commit = |(commit, path): (String, PathBuf)| {
        let names = children(&path).into_iter();
        names
            .filter(|(_, pointer)| fs::read_to_string(pointer).is_ok_and(|it| it == tag.as_str()))
            .map(move |(name, _)| (commit.clone(), name))
            .collect::<Vec<_>>()
    };
    commits.flat_map(of_commit).collect()
}

/// Removes what there is of a file, and its names.
pub(super) fn forget(folder: &RepoFolder, tag: &Etag) -> Result<(), HubError> {
    let parts = folder.parts();
    // The record first: without it the bytes are nothing.
    remove(&parts::record(&parts, tag.as_str()))?;
    remove(&parts::data(&parts, tag.as_str()))?;
    for (commit, name) in pointers(folder, tag) {
        remove(&parts.join(commit).join(name))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::io(path, error))
        }
        _ => Ok(()),
    }
}
