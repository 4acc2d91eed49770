//! Files from other machines of the ring, and for them.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Hub, hash::Etag, local::children, progress::Cancel};
use crate::{
    parts::{self, Record},
    ranges::Ranges,
};

/// Bytes that are asked of a peer at once.
pub(super) const PIECE: u32 = 1 << 20;

/// A file that is coming as a whole says so to those who want bytes that come soon: this far on.
const NEAR: u64 = 64 << 20;

/// The other machines, as whoever fetches a file needs them.
pub trait Peers: Send + Sync + fmt::Debug {
    /// At most `length` bytes of a file from `from` on, of `prefer` if it has them; nothing when
    /// nobody has the file and nobody is getting it. A file is named by its hash, the list of what
    /// is in a repository by the repository. Waits, but not when `cancel` says to stop.
    fn part(
        &self,
        name: &str,
        from: u64,
        length: u32,
        prefer: Option<&str>,
        cancel: &Cancel,
    ) -> Option<PeerPart>;

    /// Those who may have files right now.
    fn nodes(&self) -> Vec<String>;

    /// What a peer sent of that file was wrong.
    fn blame(&self, name: &str, node: &str);
}

/// A piece of a file, from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPart {
    /// Whose.
    pub node: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// At least one byte.
    pub bytes: Vec<u8>,
}

/// What there is of a file, for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shared {
    /// Bytes of a whole file, and how many it has.
    Here(u64, Vec<u8>),
    /// Bytes of a file that is coming or of which only a part is here, perhaps none yet, and how many
    /// the whole has.
    Coming(u64, Vec<u8>),
    /// Nothing.
    Absent,
}

/// Files that are on their way here.
#[derive(Debug, Clone, Default)]
pub(super) struct Comings(Arc<Mutex<BTreeMap<String, Arriving>>>);

#[derive(Debug)]
struct Arriving {
    size: u64,
    /// Of a file that does not come from its beginning to its end.
    part: Option<ArrivingPart>,
}

#[derive(Debug)]
struct ArrivingPart {
    have: Ranges,
    /// What is just asked of the hub.
    planned: Range<u64>,
}

impl Comings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arriving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, until what is returned is dropped.
    pub(super) fn begin(&self, tag: &Etag, size: u64) -> Coming {
        self.insert(tag, Arriving { size, part: None })
    }

    /// The same of a file of which only a part comes.
    pub(super) fn some(&self, tag: &Etag, size: u64, have: &Ranges) -> Coming {
        let part = ArrivingPart {
            have: have.clone(),
            planned: 0..0,
        };
        let part = Some(part);
        self.insert(tag, Arriving { size, part })
    }

    fn insert(&self, tag: &Etag, arriving: Arriving) -> Coming {
        self.lock().insert(tag.as_str().to_owned(), arriving);
        Coming(self.clone(), tag.as_str().to_owned())
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Coming(Comings, String);

impl Coming {
    fn part(&self, change: impl FnOnce(&mut ArrivingPart)) {
        let mut comings = self.0.lock();
        let arriving = comings.get_mut(&self.1);
        if let Some(part) = arriving.and_then(|arriving| arriving.part.as_mut()) {
            change(part);
        }
    }

    /// These bytes will come next: peers that want them may wait for them.
    pub(super) fn plan(&self, range: Range<u64>) {
        self.part(|part| part.planned = range);
    }

    /// These bytes are here.
    pub(super) fn came(&self, range: Range<u64>) {
        self.part(|part| part.have.add(range));
    }

    /// No others are.
    pub(super) fn have(&self, have: &Ranges) {
        self.part(|part| part.have = have.clone());
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Hub {
    /// What there is of a file that a peer wants: only files of the hub's cache, which their hash
    /// names, and lists of those.
    #[must_use]
    pub fn share(&self, name: &str, from: u64, length: u32) -> Shared {
        if let Some(tag) = Etag::parse(name).filter(|tag| tag.as_str() == name) {
            return self
                .share_blob(&tag, from, length)
                .unwrap_or(Shared::Absent);
        }
        let list = crate::catalog::is_repo(name)
            .then(|| self.list_for_peers(name))
            .flatten();
        match list {
            Some(list) => {
                let at = usize::try_from(from).unwrap_or(usize::MAX).min(list.len());
                let end = at.saturating_add(length as usize).min(list.len());
                let bytes = list.get(at..end).unwrap_or_default().to_vec();
                Shared::Here(list.len() as u64, bytes)
            }
            None => Shared::Absent,
        }
    }

    fn share_blob(&self, tag: &Etag, from: u64, length: u32) -> Option<Shared> {
        let repos = children(&self.options.cache);
        let repos = repos
            .iter()
            .filter(|(name, _)| name.starts_with("models--"));
        let folders: Vec<&PathBuf> = repos.map(|(_, path)| path).collect();
        for folder in &folders {
            let blob = folder.join("blobs").join(tag.as_str());
            if let Some(size) = plain_len(&blob) {
                return Some(Shared::Here(size, read(&blob, from, length).ok()?));
            }
        }
        let parts = folders.iter().map(|folder| folder.join(parts::FOLDER));
        let whole = match self.comings.lock().get(tag.as_str()) {
            Some(Arriving { size, part: None }) => Some(*size),
            _ => None,
        };
        let Some(size) = whole else {
            return self.share_part(parts, tag, from, length);
        };
        let incomplete = format!("{}.incomplete", tag.as_str());
        let paths = folders
            .iter()
            .map(|folder| folder.join("blobs").join(&incomplete));
        let there = paths
            .filter_map(|path| Some((plain_len(&path)?, path)))
            .next();
        let have = there.as_ref().map_or(0, |(have, _)| *have);
        if from > have.saturating_add(NEAR) {
            return None;
        }
        let bytes = there.map(|(_, path)| read(&path, from, length));
        Some(Shared::Coming(
            size,
            bytes.transpose().ok()?.unwrap_or_default(),
        ))
    }

    /// Of a file of which only a part is here, or comes.
    fn share_part(
        &self,
        mut folders: impl Iterator<Item = PathBuf>,
        tag: &Etag,
        from: u64,
        length: u32,
    ) -> Option<Shared> {
        let hash = tag.as_str();
        let record = folders.find_map(|folder| {
            let record = Record::read(&folder, hash)?;
            Some((parts::data(&folder, hash), record))
        });
        let (path, record) = record?;
        // What is coming knows more than the disk's record.
        let comings = self.comings.lock();
        let coming = comings
            .get(hash)
            .and_then(|arriving| arriving.part.as_ref());
        let run = coming.map_or_else(|| record.have().run(from), |part| part.have.run(from));
        let planned = coming.is_some_and(|part| part.planned.contains(&from));
        drop(comings);
        let run = u32::try_from(run).unwrap_or(u32::MAX);
        match run {
            0 if planned => Some(Shared::Coming(record.size, Vec::new())),
            0 => None,
            run => {
                let bytes = read(&path, from, length.min(run)).ok()?;
                Some(Shared::Coming(record.size, bytes))
            }
        }
    }
}

/// The length of a file that is no link: what a link leads to is not the cache's to give.
pub(super) fn plain_len(path: &Path) -> Option<u64> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}

fn read(path: &Path, from: u64, length: u32) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(length.min(PIECE).into())
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
