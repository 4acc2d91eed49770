//! One file of the hub, byte for byte or not at all.
//!
//! Whatever the other side does, a blob gets its name only when it has the length and the hash that
//! the hub announced. What came before a cut stays, and the next attempt, in this process or a later
//! one, asks for the rest.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use ureq::{Body, http::Response};

use super::{
    HubError, Peers,
    hash::Hasher,
    http::{FileInfo, Http, text},
    layout::{RepoFolder, create_parent, free, open_to_go_on, room_for},
    news::News,
    progress::Cancel,
    share::{Coming, Comings, PIECE as PEER_PIECE},
    transport::{transport, words},
};

/// Bytes that are read at once.
pub(super) const PIECE: usize = 128 << 10;

/// So many peers with wrong bytes, and the hub is asked.
pub(super) const MOST_DAMAGED_PEERS: u32 = 4;

/// A server that sends damaged files does so again.
const MOST_DAMAGED: u32 = 2;

/// How often, and how soon, something is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Attempts after which nothing has come.
    pub(super) attempts: u32,
    /// The pause after the first one; it doubles up to `longest`.
    pub(super) pause: Duration,
    pub(super) longest: Duration,
    /// Servers that want to be left alone for longer are given up.
    pub(super) most_wait: Duration,
}

impl Patience {
    /// Tries until it works, is hopeless, or was tried often enough. `attempt` says of a failure
    /// whether something came of it nevertheless: then the counting begins anew.
    pub(super) fn retry<T>(
        &self,
        cancel: &Cancel,
        mut trouble: impl FnMut(&str),
        mut attempt: impl FnMut(&mut bool) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        let mut damaged = 0;
        loop {
            cancel.check()?;
            let mut progress = false;
            let error = match attempt(&mut progress) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            damaged += u32::from(matches!(
                error,
                HubError::Hash { .. } | HubError::Length { .. }
            ));
            failed = if progress { 1 } else { failed + 1 };
            let wait = error.wait().unwrap_or_default();
            let hopeless = !error.passes()
                || failed >= self.attempts
                || damaged >= MOST_DAMAGED
                || wait > self.most_wait;
            if hopeless {
                return Err(error);
            }
            let pause = self.pause.saturating_mul(1 << (failed - 1).min(16));
            let pause = pause.min(self.longest).max(wait);
            trouble(&format!(
                "{error}; trying again in {:.1} s",
                pause.as_secs_f64()
            ));
            cancel.wait(pause)?;
        }
    }
}

/// Where a file comes from and goes to.
pub(super) struct Fetch<'a> {
    pub(super) http: &'a Http,
    pub(super) folder: &'a RepoFolder,
    pub(super) repo: &'a str,
    pub(super) commit: &'a str,
    pub(super) file: &'a str,
    pub(super) info: &'a FileInfo,
    pub(super) patience: Patience,
    pub(super) cancel: &'a Cancel,
    /// Only the peers may be asked.
    pub(super) offline: bool,
    pub(super) peers: Option<&'a dyn Peers>,
    pub(super) comings: &'a Comings,
    /// Between two ranges that are fetched together.
    pub(super) gap: u64,
    /// What is there under the file's name is wrong. It stays until the right one takes its place.
    pub(super) anew: bool,
}

impl Fetch<'_> {
    /// Brings the blob. `at` hears how many bytes are here and how many just came, `trouble` what
    /// goes wrong on the way.
    pub(super) fn run(
        &self,
        at: &dyn Fn(u64, u64),
        trouble: &dyn Fn(&str),
    ) -> Result<(), HubError> {
        let blob = self.folder.blob(&self.info.tag);
        create_parent(&blob)?;
        let waiting = || trouble(&format!("{}: waiting for another process", self.file));
        let _lock = self.folder.lock(&self.info.tag, self.cancel, waiting)?;
        // It had no name before it was whole.
        if !self.anew && fs::metadata(&blob).is_ok_and(|there| there.len() == self.info.size) {
            at(self.info.size, 0);
            return Ok(());
        }
        if self.complete(at, trouble)? {
            return Ok(());
        }
        let path = self.folder.incomplete(&self.info.tag);
        let mut part = Part::open(path, self.info, self.cancel)?;
        at(part.have, 0);
        self.check_room(&part)?;
        let mut news = News::new(self);
        let mut coming = None;
        let mut come = self.bring_from_peers(&mut part, &mut coming, at)?;
        if !come && self.offline {
            let what = self.name();
            return Err(HubError::Offline { what });
        }
        while !come {
            coming.get_or_insert_with(|| self.begin());
            let fetched = self.patience.retry(self.cancel, trouble, |progress| {
                let before = part.have;
                let result = self.attempt(&mut part, &mut news, at);
                *progress = part.have > before;
                result
            });
            come = match fetched {
                Ok(true) => true,
                Ok(false) => self.bring_from_peers(&mut part, &mut coming, at)?,
                // Somebody may have it by now.
                Err(error) if error.passes() => {
                    if !self.bring_from_peers(&mut part, &mut coming, at)? {
                        return Err(error);
                    }
                    true
                }
                Err(error) => return Err(error),
            };
        }
        let done = part.become_blob(&blob);
        drop(coming);
        done
    }

    /// Peers may have what has come, and wait for the rest.
    fn begin(&self) -> Coming {
        self.comings.begin(&self.info.tag, self.info.size)
    }

    /// Brings what peers have; whether that was all, with its hash.
    fn bring_from_peers(
        &self,
        part: &mut Part,
        coming: &mut Option<Coming>,
        at: &dyn Fn(u64, u64),
    ) -> Result<bool, HubError> {
        let Some(peers) = self.peers else {
            return Ok(false);
        };
        let (name, size) = (self.info.tag.as_str(), self.info.size);
        let mut damaged = 0;
        let mut senders = BTreeSet::new();
        let mut prefer: Option<String> = None;
        loop {
            while part.have < size {
                self.cancel.check()?;
                let piece = peers.part(name, part.have, PEER_PIECE, prefer.as_deref(), self.cancel);
                let Some(piece) = piece else {
                    return Ok(false);
                };
                let length = piece.bytes.len() as u64;
                if piece.size != size || length == 0 || part.have.saturating_add(length) > size {
                    peers.blame(name, &piece.node);
                    prefer = None;
                    damaged += 1;
                    if damaged >= MOST_DAMAGED_PEERS {
                        return Ok(false);
                    }
                    continue;
                }
                part.write(&piece.bytes, size)?;
                coming.get_or_insert_with(|| self.begin());
                at(part.have, length);
                senders.insert(piece.node.clone());
                prefer = Some(piece.node);
            }
            if part.hasher.clone().finish() == name {
                return Ok(true);
            }
            // Whose fault it was cannot be told.
            for sender in std::mem::take(&mut senders) {
                peers.blame(name, &sender);
            }
            prefer = None;
            part.restart()?;
            at(0, 0);
            damaged += 1;
            if damaged >= MOST_DAMAGED_PEERS {
                return Ok(false);
            }
        }
    }

    /// Whether all is here; if not, somebody came up who has the rest.
    fn attempt(
        &self,
        part: &mut Part,
        news: &mut News,
        at: &dyn Fn(u64, u64),
    ) -> Result<bool, HubError> {
        let size = self.info.size;
        if part.have < size && !self.receive(part, news, at)? {
            return Ok(false);
        }
        let found = part.hasher.clone().finish();
        if found == self.info.tag.as_str() {
            return Ok(true);
        }
        part.restart()?;
        at(0, 0);
        Err(HubError::Hash {
            file: self.name(),
            expected: self.info.tag.as_str().to_owned(),
            found,
        })
    }

    fn receive(
        &self,
        part: &mut Part,
        news: &mut News,
        at: &dyn Fn(u64, u64),
    ) -> Result<bool, HubError> {
        let size = self.info.size;
        let mut answer = match self.ask(part.have) {
            // Whatever is here, the server has no rest of it.
            Err(error @ HubError::Status { status: 416, .. }) => {
                part.restart()?;
                at(0, 0);
                return Err(error);
            }
            answer => answer?,
        };
        let unexpected = |expected, found: &str| HubError::Answer {
            url: self.name(),
            expected,
            found: words(found),
        };
        if let Some(packed) = text(&answer, "content-encoding").filter(|name| *name != "identity") {
            return Err(unexpected("bytes as they are", packed));
        }
        if answer.status().as_u16() == 206 {
            let range = text(&answer, "content-range").unwrap_or_default();
            if range != format!("bytes {}-{}/{size}", part.have, size - 1) {
                return Err(unexpected("the range that was asked for", range));
            }
        } else if part.have > 0 {
            // It sends all of it.
            part.restart()?;
            at(0, 0);
        }
        let announced = text(&answer, "content-length").and_then(|length| length.parse().ok());
        if let Some(found) = announced.filter(|length: &u64| part.have + length != size) {
            return Err(HubError::Length {
                file: self.name(),
                expected: size,
                found: found.saturating_add(part.have),
            });
        }
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; PIECE];
        loop {
            self.cancel.check()?;
            let count = match body.read(&mut buffer) {
                Ok(0) if part.have == size => return Ok(true),
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(transport(self.http.endpoint(), broken(error))),
            };
            let found = part.have.saturating_add(count as u64);
            if found > size {
                // Nothing of it can be trusted.
                part.restart()?;
                at(0, 0);
                return Err(HubError::Length {
                    file: self.name(),
                    expected: size,
                    found,
                });
            }
            part.write(buffer.get(..count).unwrap_or_default(), size)?;
            at(part.have, count as u64);
            if part.have < size && news.somebody_has(self, part.have, count as u64) {
                return Ok(false);
            }
        }
        Err(HubError::Cut {
            file: self.name(),
            expected: size,
            found: part.have,
        })
    }

    fn ask(&self, from: u64) -> Result<Response<Body>, HubError> {
        let (repo, commit) = (self.repo, self.commit);
        self.http.body(repo, commit, self.file, from, None)
    }

    fn check_room(&self, part: &Part) -> Result<(), HubError> {
        room_for(self.info.size - part.have, self.folder.blobs())
    }

    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.repo, self.file)
    }
}

/// ureq hides its own errors in those of reading.
pub(super) fn broken(error: io::Error) -> ureq::Error {
    ureq::Error::from(error)
}

/// Why bytes could not be written; so many more are needed, if that is known.
pub(super) fn not_written(error: io::Error, path: &Path, needed: Option<u64>) -> HubError {
    let folder = path.parent().unwrap_or(path).to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => HubError::DiskFull {
            free: free(&folder).unwrap_or_default(),
            needed,
            folder,
        },
        _ => HubError::io(path, error),
    }
}

/// The beginning of a file.
struct Part {
    path: PathBuf,
    file: File,
    /// Its bytes, all of which `hasher` has seen.
    have: u64,
    hasher: Hasher,
    fresh: Hasher,
}

impl Part {
    /// Takes up what is there.
    fn open(path: PathBuf, info: &FileInfo, cancel: &Cancel) -> Result<Self, HubError> {
        let file = open_to_go_on(&path)?;
        let fresh = info.tag.hasher(info.size);
        let mut part = Self {
            path,
            file,
            have: 0,
            hasher: fresh.clone(),
            fresh,
        };
        let there = part.file.metadata();
        let there = there
            .map_err(|error| HubError::io(&part.path, error))?
            .len();
        if there > info.size {
            part.restart()?;
        } else {
            let mut have = 0;
            let read = part.hasher.read(&mut part.file, |count| {
                have += count as u64;
                !cancel.is_cancelled()
            });
            if !read.map_err(|error| HubError::io(&part.path, error))? {
                return Err(HubError::Cancelled);
            }
            part.have = have;
        }
        Ok(part)
    }

    fn restart(&mut self) -> Result<(), HubError> {
        // A new file: of one that began as a part, an engine may have the weights mapped.
        let anew = fs::remove_file(&self.path).and_then(|()| {
            let mut options = OpenOptions::new();
            options.create_new(true).read(true).write(true);
            options.open(&self.path)
        });
        self.file = anew.map_err(|error| HubError::io(&self.path, error))?;
        self.have = 0;
        self.hasher = self.fresh.clone();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], size: u64) -> Result<(), HubError> {
        if let Err(error) = self.file.write_all(bytes) {
            let error = not_written(error, &self.path, Some(size - self.have));
            // Some of it may be there, of which `have` and the hash know nothing.
            let _ = self.file.set_len(self.have);
            let _ = self.file.seek(SeekFrom::Start(self.have));
            return Err(error);
        }
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// It is whole: gives it its name, once the disk has it.
    fn become_blob(self, blob: &Path) -> Result<(), HubError> {
        if let Err(error) = self.file.sync_all() {
            return Err(not_written(error, &self.path, None));
        }
        drop(self.file);
        fs::rename(&self.path, blob).map_err(|error| HubError::io(blob, error))
    }
}
