//! `--record`: what the node is told, in a file, to be replayed later.

use exo_protocol::record::Recorder;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What to record, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The file; it must not exist.
    pub file: PathBuf,
    /// Prompts and answers too.
    pub prompts: bool,
    /// The most bytes that the file may have.
    pub limit: u64,
}

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file is there: it may be the recording of what went wrong.
    #[error("--record {}: the file exists already; move it or name another", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("--record {}: {source}", .file.display())]
    Create {
        /// Which.
        file: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is no thread to write it.
    #[error("--record: {0}")]
    Thread(io::Error),
}

/// What waits for the disk is written this often,
const EVERY: Duration = Duration::from_secs(1);

/// or when there is so much of it.
const MUCH: usize = 256 << 10;

/// A recording that is under way. Dropping it writes what is left.
#[derive(Debug)]
pub struct Recording {
    tape: Arc<Tape>,
    writer: Option<JoinHandle<()>>,
}

/// Between the node, which must not wait, and the thread that writes.
#[derive(Debug)]
struct Tape {
    file: PathBuf,
    limit: u64,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that were taken.
    taken: u64,
    /// Nothing more is taken.
    ended: bool,
}

impl Recording {
    /// Creates the file; the recorder is for the node.
    ///
    /// # Errors
    /// When there is such a file already or it cannot be written.
    pub fn start(record: &Record) -> Result<(Recorder, Self), RecordError> {
        let out = create(&record.file).map_err(|source| {
            let file = record.file.clone();
            match source.kind() {
                io::ErrorKind::AlreadyExists => RecordError::Exists(file),
                _ => RecordError::Create { file, source },
            }
        })?;
        let tape = Arc::new(Tape {
            file: record.file.clone(),
            limit: record.limit,
            state: Mutex::default(),
            more: Condvar::new(),
        });
        let writing = Arc::clone(&tape);
        let writer = thread::Builder::new().name("record".to_owned());
        let writer = writer.spawn(move || writing.write(out));
        let writer = Some(writer.map_err(RecordError::Thread)?);
        let appending = Arc::clone(&tape);
        let recorder = Recorder {
            prompts: record.prompts,
            append: Box::new(move |bytes| appending.append(bytes)),
        };
        Ok((recorder, Self { tape, writer }))
    }
}

impl Recording {
    /// There was no node after all.
    pub fn discard(self) {
        let file = self.tape.file.clone();
        drop(self);
        let _ = std::fs::remove_file(file);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.tape.lock().ended = true;
        self.tape.more.notify_one();
        let _ = self.writer.take().map(JoinHandle::join);
    }
}

/// Readable for nobody else: there may be prompts in it, and there are addresses.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes for the file. The limit bounds what waits for a slow disk, too.
    fn append(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if state.ended {
            return false;
        }
        let taken = state.taken + bytes.len() as u64;
        if taken > self.limit {
            state.ended = true;
            drop(state);
            self.more.notify_one();
            tracing::warn!(
                "{} has reached its limit of {} MiB: nothing more is recorded (raise it with \
                 --record-limit)",
                self.file.display(),
                self.limit >> 20
            );
            return false;
        }
        state.taken = taken;
        state.waiting.extend_from_slice(bytes);
        if state.waiting.len() > MUCH {
            self.more.notify_one();
        }
        true
    }

    /// Writes until there is nothing more.
    fn write(&self, mut out: File) {
        loop {
            let mut state = self.lock();
            if !state.ended && state.waiting.len() <= MUCH {
                let woken = self.more.wait_timeout(state, EVERY);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            let (bytes, ended) = (mem::take(&mut state.waiting), state.ended);
            drop(state);
            if let Err(error) = out.write_all(&bytes) {
                self.lock().ended = true;
                tracing::warn!("{}: {error}: nothing more is recorded", self.file.display());
                return;
            }
            if ended {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn record(folder: &Path, limit: u64) -> Record {
        Record {
            file: folder.join("log"),
            prompts: false,
            limit,
        }
    }

    #[test]
    fn all_of_it_is_in_the_file_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path(), 10 << 20);
        let (mut recorder, recording) = Recording::start(&record).unwrap();
        let mut expected = Vec::new();
        for piece in 0..100_u8 {
            let bytes = vec![piece; 10_000];
            assert!((recorder.append)(&bytes));
            expected.extend(bytes);
        }
        drop(recording);
        assert!(fs::read(&record.file).unwrap() == expected);
        assert!(!(recorder.append)(b"late"), "it has ended");
    }

    #[test]
    fn the_limit_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path(), 10);
        let (mut recorder, recording) = Recording::start(&record).unwrap();
        assert!((recorder.append)(b"12345678"));
        assert!(!(recorder.append)(b"9ab"), "all or none");
        assert!(!(recorder.append)(b"9"), "and nothing after it");
        drop(recording);
        assert_eq!(fs::read(&record.file).unwrap(), b"12345678");
    }

    #[test]
    fn no_recording_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path(), 10);
        fs::write(&record.file, "precious").unwrap();
        let error = Recording::start(&record).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        let nowhere = Record {
            file: folder.path().join("none").join("log"),
            ..record
        };
        let error = Recording::start(&nowhere).unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let record = record(folder.path(), 10);
        let _recording = Recording::start(&record).unwrap();
        let mode = fs::metadata(&record.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
