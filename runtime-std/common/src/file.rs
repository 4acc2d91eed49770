//! The discovery file, which is read again and again, and mostly has not changed.

use bytes::Bytes;
use exo_protocol::discovery::manual::MAX_LEN;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Most bytes read of it: one more than it may have, so that too much is noticed.
const LIMIT: u64 = MAX_LEN as u64 + 1;

/// A file that was changed more recently may change again without its time telling so: the clocks of
/// file systems are coarse, some of them as much as this.
const SETTLED: Duration = Duration::from_secs(3);

/// The file, and what it held when it was read last.
#[derive(Debug)]
pub struct DiscoveryFile {
    path: PathBuf,
    last: Mutex<Option<(Stamp, Bytes)>>,
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    len: u64,
    inode: Inode,
}

/// Which file it is, and when anything about it changed; nothing where there is no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// `None` where the system does not tell enough.
    fn of(file: &Metadata) -> Option<Self> {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            Inode {
                device: file.dev(),
                number: file.ino(),
                changed: (file.ctime(), file.ctime_nsec()),
            }
        };
        #[cfg(not(unix))]
        let inode = Inode::default();
        Some(Self {
            modified: file.modified().ok()?,
            len: file.len(),
            inode,
        })
    }

    /// Whether whoever changes the file from now on changes this.
    fn is_settled(&self) -> bool {
        let age = SystemTime::now().duration_since(self.modified);
        age.is_ok_and(|age| age > SETTLED)
    }
}

impl DiscoveryFile {
    /// A file that was not read yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            last: Mutex::default(),
        }
    }

    /// What it holds. May take as long as a network.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        let found = self.path.metadata()?;
        // Opening a pipe would wait for somebody to write into it.
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&found);
        if let Some((known, content)) = &*last
            && Some(known) == stamp.as_ref()
        {
            return Ok(content.clone());
        }
        *last = None;
        let mut content = Vec::new();
        let mut file = File::open(&self.path)?.take(LIMIT);
        file.read_to_end(&mut content)?;
        let content = Bytes::from(content);
        // Of what was read, which need not be what was found before.
        let stamp = Stamp::of(&file.get_ref().metadata()?);
        let stamp = stamp.filter(Stamp::is_settled);
        *last = stamp.map(|stamp| (stamp, content.clone()));
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A file that was written long ago.
    fn write(path: &Path, content: &str, age: u64) {
        fs::write(path, content).expect("it can be written");
        let when = SystemTime::now() - Duration::from_secs(age);
        let file = File::options().append(true).open(path);
        let set = file.and_then(|file| file.set_modified(when));
        set.expect("its time can be set");
    }

    #[test]
    fn what_has_not_changed_is_not_read_again() {
        let folder = std::env::temp_dir().join(format!("exo-file-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("peers.json");
        let file = DiscoveryFile::new(&path);
        assert!(file.read().is_err(), "there is none yet");
        write(&path, "one", 60);
        let first = file.read().expect("there is one");
        assert_eq!(first, "one");
        let again = file.read().expect("there is one");
        assert_eq!(again.as_ptr(), first.as_ptr(), "the same bytes in memory");
        // Another file in its place, as long and as old.
        let other = folder.join("other");
        write(&other, "two", 60);
        let when = fs::metadata(&path).and_then(|it| it.modified());
        let old = File::options().append(true).open(&other);
        let old = old.and_then(|old| old.set_modified(when?));
        old.expect("its time can be set");
        fs::rename(&other, &path).expect("it is put in place");
        #[cfg(unix)]
        assert_eq!(file.read().expect("there is one"), "two");
        write(&path, "longer", 50);
        assert_eq!(file.read().expect("there is one"), "longer");
        // Written just now: it is looked at until it has settled.
        fs::write(&path, "news").expect("it can be written");
        let first = file.read().expect("there is one");
        let again = file.read().expect("there is one");
        assert_eq!((&first[..], &again[..]), (&b"news"[..], &b"news"[..]));
        assert_ne!(again.as_ptr(), first.as_ptr(), "read again");
        fs::remove_file(&path).expect("it goes");
        assert!(file.read().is_err(), "and is gone");
        fs::remove_dir_all(&folder).expect("it goes");
    }
}
