//! This node's name, kept in the home folder so that it survives a restart.

use crate::random;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The name, held for as long as this value lives.
#[derive(Debug)]
pub struct Identity {
    id: String,
    /// Locked, so that a second node of the same user does not take the same name.
    _file: Option<File>,
}

impl Identity {
    /// The name given on the command line.
    #[must_use]
    pub fn given(id: String) -> Self {
        Self { id, _file: None }
    }

    /// The name stored in `home`, made up and stored at the first start.
    ///
    /// A name that cannot be stored, or that another process of this machine uses, is replaced by
    /// one for this run only: two nodes of one name could not be told apart in the ring.
    #[must_use]
    pub fn stored(home: &Path) -> Self {
        let path = home.join("node_id");
        match stored(&path) {
            Ok(Some((id, file))) => Self {
                id,
                _file: Some(file),
            },
            Ok(None) => {
                tracing::info!(
                    "{} uses the home {} and its node id; this node gets another id for this run \
                     (to keep one, choose it with --node-id NAME, or another home with EXO_HOME=DIR)",
                    holder(home),
                    home.display()
                );
                Self::given(random::uuid())
            }
            Err(error) => {
                tracing::warn!(
                    "cannot keep the node id in {}: {error}; this run gets a new one",
                    path.display()
                );
                Self::given(random::uuid())
            }
        }
    }

    /// The name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Who holds the name in `home`, in words. The lock itself does not tell.
fn holder(home: &Path) -> String {
    let process = fs::read_to_string(home.join(HOLDER)).ok();
    let process = process.and_then(|text| text.trim().parse::<u32>().ok());
    process.map_or_else(
        || String::from("another process"),
        |process| format!("process {process}"),
    )
}

/// The file beside the name that says which process holds it, for people.
const HOLDER: &str = "node_id.pid";

/// `None` when another process holds the file.
fn stored(path: &Path) -> io::Result<Option<(String, File)>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Only for a message: without it the lock is as good.
    let _ = fs::write(path.with_file_name(HOLDER), std::process::id().to_string());
    let mut bytes = Vec::new();
    // A name is 36 characters; more than this is no name.
    Read::by_ref(&mut file).take(128).read_to_end(&mut bytes)?;
    if let Some(id) = std::str::from_utf8(&bytes)
        .ok()
        .map(str::trim)
        .filter(|id| plausible(id))
    {
        return Ok(Some((id.to_owned(), file)));
    }
    let id = random::uuid();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{id}")?;
    Ok(Some((id, file)))
}

fn plausible(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where this user's node keeps things: `EXO_HOME`, else `~/.cache/exo`.
#[must_use]
pub fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("EXO_HOME").filter(|home| !home.is_empty()) {
        return PathBuf::from(home);
    }
    std::env::home_dir()
        .unwrap_or_else(std::env::temp_dir)
        .join(".cache")
        .join("exo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_and_is_held_once() {
        let home = tempfile::tempdir().unwrap();
        let first = Identity::stored(&home.path().join("new"));
        let second = Identity::stored(&home.path().join("new"));
        assert_ne!(first.id(), second.id(), "the first one still runs");
        let name = first.id().to_owned();
        let this = format!("process {}", std::process::id());
        assert_eq!(holder(&home.path().join("new")), this);
        drop(first);
        assert_eq!(Identity::stored(&home.path().join("new")).id(), name);
    }

    #[test]
    fn rubbish_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(holder(home.path()), "another process");
        fs::write(home.path().join(HOLDER), "\u{7}").unwrap();
        assert_eq!(holder(home.path()), "another process");
        fs::write(home.path().join("node_id"), "two words\n\0").unwrap();
        let id = Identity::stored(home.path()).id().to_owned();
        assert_eq!(id.len(), 36);
        assert_eq!(
            fs::read_to_string(home.path().join("node_id")).unwrap(),
            format!("{id}\n")
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_only_the_memory() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        assert_eq!(Identity::stored(&home.path().join("file")).id().len(), 36);
    }
}
