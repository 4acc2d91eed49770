//! The cache's folders, as Python's `huggingface_hub` lays them out:
//!
//! ```text
//! models--ORGANISATION--NAME/blobs/HASH              what is in a file
//!                            snapshots/COMMIT/FILE   a link to that
//!                            refs/main               the commit that `main` was
//! .locks/models--ORGANISATION--NAME/HASH.lock        held while that blob is written
//! ```
//!
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>. Partial blobs end in
//! `.incomplete`, theirs and ours: whoever holds the lock goes on with what is there.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use hf_hub::{Cache, Repo, RepoType};

use super::{HubError, hash::Etag, progress::Cancel};
use crate::parts;

/// Where one repository lies in the cache.
#[derive(Debug, Clone)]
pub(super) struct RepoFolder {
    cache: Cache,
    repo: Repo,
}

/// A blob that nobody else writes until this is dropped.
#[derive(Debug)]
pub(super) struct BlobLock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl RepoFolder {
    pub(super) fn new(cache: &Path, repo: &str) -> Self {
        Self {
            cache: Cache::new(cache.to_owned()),
            repo: Repo::new(repo.to_owned(), RepoType::Model),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    pub(super) fn locks(&self) -> PathBuf {
        let locks = self.cache.path().join(".locks");
        locks.join(self.repo.folder_name())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.path().join("blobs")
    }

    pub(super) fn blob(&self, tag: &Etag) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(tag.as_str())
    }

    pub(super) fn incomplete(&self, tag: &Etag) -> PathBuf {
        self.blobs().join(format!("{}.incomplete", tag.as_str()))
    }

    /// Where files are of which only a part is here.
    pub(super) fn parts(&self) -> PathBuf {
        self.path().join(parts::FOLDER)
    }

    /// A part of that file is here: remembers which file it is in a version.
    pub(super) fn point(&self, commit: &str, file: &str, tag: &Etag) -> Result<(), HubError> {
        let path = self.parts().join(commit).join(file);
        create_parent(&path)?;
        let snapshot = self.snapshot(commit);
        fs::create_dir_all(&snapshot).map_err(|error| HubError::io(&snapshot, error))?;
        write(&path, tag.as_str())
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// The commit that a branch was when it was fetched last.
    pub(super) fn commit(&self, branch: &str) -> Option<String> {
        let commit = fs::read_to_string(self.path().join("refs").join(branch)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Remembers which commit a branch is; all at once, whoever reads it meanwhile.
    pub(super) fn remember(&self, branch: &str, commit: &str) -> Result<(), HubError> {
        let path = self.path().join("refs").join(branch);
        if self.commit(branch).as_deref() == Some(commit) {
            return Ok(());
        }
        create_parent(&path)?;
        write(&path, commit)
    }

    /// Waits until nobody else writes that blob: another process of ours, or Python's. `waiting` is
    /// told once if it takes a while.
    pub(super) fn lock(
        &self,
        tag: &Etag,
        cancel: &Cancel,
        waiting: impl FnOnce(),
    ) -> Result<BlobLock, HubError> {
        let path = self.locks().join(format!("{}.lock", tag.as_str()));
        create_parent(&path)?;
        let mut waiting = Some(waiting);
        loop {
            // Opened anew each time: who holds the lock may remove the file at the end.
            let file = open_to_go_on(&path)?;
            match file.try_lock() {
                Ok(()) => return Ok(BlobLock(file)),
                Err(TryLockError::WouldBlock) => {
                    if let Some(waiting) = waiting.take() {
                        waiting();
                    }
                    // There is no news of a lock that gets free.
                    cancel.wait(super::LOOK)?;
                }
                Err(TryLockError::Error(error)) => return Err(HubError::io(&path, error)),
            }
        }
    }

    /// Whether somebody writes that blob right now.
    pub(super) fn is_locked(&self, blob: &str) -> bool {
        let lock = File::open(self.locks().join(format!("{blob}.lock")));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Puts a blob under its name into a snapshot.
    pub(super) fn link(&self, commit: &str, file: &str, tag: &Etag) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{}", tag.as_str());
        if fs::read_link(&path).is_ok_and(|there| there == Path::new(&target)) {
            return Ok(path);
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HubError::io(&path, error));
            }
            _ => {}
        }
        let blob = self.blob(tag);
        let linked = symlink(Path::new(&target), &path)
            // Somebody who fetches the same was quicker.
            .or_else(|error| if path.exists() { Ok(()) } else { Err(error) })
            // Where there are no links, as on some disks and some systems.
            .or_else(|_| fs::hard_link(&blob, &path))
            .or_else(|_| fs::copy(&blob, &path).map(drop));
        linked.map_err(|error| HubError::io(&path, error))?;
        Ok(path)
    }
}

/// Writes a small file all at once, whoever reads it meanwhile.
fn write(path: &Path, text: &str) -> Result<(), HubError> {
    let draft = path.with_extension(format!("{}.incomplete", std::process::id()));
    fs::write(&draft, text).map_err(|error| HubError::io(&draft, error))?;
    fs::rename(&draft, path).map_err(|error| HubError::io(path, error))
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|error| HubError::io(parent, error))
}

/// A file with what is in it, or an empty one, to be read and written.
pub(super) fn open_to_go_on(path: &Path) -> Result<File, HubError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options
        .open(path)
        .map_err(|error| HubError::io(path, error))
}

/// Bytes that a file there could still have; nothing if the system does not say.
#[cfg(unix)]
pub(super) fn free(folder: &Path) -> Option<u64> {
    // The folder itself may be still to be made.
    let there = folder.ancestors().find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes that a file there could still have; nothing if the system does not say.
#[cfg(not(unix))]
pub(super) fn free(_: &Path) -> Option<u64> {
    None
}

/// Whether so many bytes more fit into a folder, as far as the system says.
pub(super) fn room_for(needed: u64, folder: PathBuf) -> Result<(), HubError> {
    match free(&folder) {
        Some(free) if free < needed => Err(HubError::DiskFull {
            folder,
            needed: Some(needed),
            free,
        }),
        _ => Ok(()),
    }
}

/// As git names a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A file's path in a repository that leads nowhere else: the names come from the hub.
pub(super) fn is_file_name(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |c: char| !c.is_control() && !r#"\:*?"<>|"#.contains(c);
        !matches!(part, "" | "." | "..") && part.len() <= 200 && part.chars().all(plain)
    };
    name.len() <= 1000 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn names_lead_nowhere_else() {
        for name in [
            "config.json",
            "a/b-c_d.safetensors",
            "ä ö.txt",
            ".gitattributes",
        ] {
            assert!(is_file_name(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            ".",
            r"..\x",
            "C:x",
            "a\0b",
            "a\nb",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(is_commit(COMMIT));
        assert!(!is_commit("main") && !is_commit(&COMMIT.replace('0', "/")));
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoFolder::new(cache.path(), "me/tiny");
        let tag = Etag::parse(COMMIT).unwrap();
        let cancel = Cancel::default();
        let held = repo
            .lock(&tag, &cancel, || panic!("nobody holds it"))
            .unwrap();
        let mut told = false;
        let refused = repo.lock(&tag, &cancel, || {
            told = true;
            cancel.cancel();
        });
        assert!(matches!(refused, Err(HubError::Cancelled)) && told);
        drop(held);
        repo.lock(&tag, &Cancel::default(), || panic!("it is free"))
            .unwrap();
    }

    #[test]
    fn a_file_is_a_link_to_its_blob() {
        let cache = tempfile::tempdir().unwrap();
        let repo = RepoFolder::new(cache.path(), "me/tiny");
        let tag = Etag::parse(COMMIT).unwrap();
        fs::create_dir_all(repo.blobs()).unwrap();
        fs::write(repo.blob(&tag), "x").unwrap();
        for _ in 0..2 {
            let path = repo.link(COMMIT, "a/b.json", &tag).unwrap();
            assert_eq!(fs::read_to_string(path).unwrap(), "x");
        }
        assert_eq!(repo.commit("main"), None);
        repo.remember("main", COMMIT).unwrap();
        assert_eq!(repo.commit("main").as_deref(), Some(COMMIT));
    }
}
