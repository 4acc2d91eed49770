//! A model's files by name: in a folder, or compiled into the binary.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::{ModelError, map::FileBytes, parts};

/// The largest tokenizers are some 30 MB; nothing else that is read whole comes near.
const MAX_READ: u64 = 256 << 20;

/// Files that are looked up by name.
#[derive(Debug, Clone)]
pub(crate) enum Folder {
    Disk(PathBuf),
    /// A name for messages, and the files.
    Embedded(&'static str, &'static [(&'static str, &'static [u8])]),
}

impl Folder {
    /// The folder, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Embedded(name, _) => PathBuf::from(format!("the built-in model {name}")),
        }
    }

    /// Where a file of that name is or would be, for messages.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn embedded(files: &[(&str, &'static [u8])], name: &str) -> Option<&'static [u8]> {
        files
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, bytes)| bytes)
    }

    /// A whole file, if it is there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, ModelError> {
        match self {
            Self::Disk(path) => Ok(read_file(&path.join(name))?.map(Cow::Owned)),
            Self::Embedded(_, files) => Ok(Self::embedded(files, name).map(Cow::Borrowed)),
        }
    }

    /// A view of a file, if at least a part of it is there.
    pub(crate) fn map(&self, name: &str) -> Result<Option<FileBytes>, ModelError> {
        match self {
            Self::Disk(path) => parts::map(&path.join(name)),
            Self::Embedded(_, files) => Ok(Self::embedded(files, name).map(FileBytes::Static)),
        }
    }

    /// A file's JSON, if the file is there.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ModelError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(source) => Err(ModelError::Json {
                file: self.file(name),
                source,
            }),
        }
    }

    /// A file's text, if the file is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, ModelError> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        match String::from_utf8(bytes.into_owned()) {
            Ok(text) => Ok(Some(text)),
            Err(e) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, e);
                Err(ModelError::io(&self.file(name), source))
            }
        }
    }

    /// The names of all files, sorted, and their sizes; also of those of which a part is there.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, ModelError> {
        match self {
            Self::Disk(path) => {
                let mut names = Vec::new();
                for entry in fs::read_dir(path).map_err(|e| ModelError::io(path, e))? {
                    let entry = entry.map_err(|e| ModelError::io(path, e))?;
                    // Through links: in the hub cache every file is one.
                    let Ok(metadata) = fs::metadata(entry.path()) else {
                        continue;
                    };
                    if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string())
                    {
                        names.push((name, metadata.len()));
                    }
                }
                let parts = parts::of(path).into_iter();
                names.extend(parts.map(|part| (part.name, part.record.size)));
                names.sort();
                Ok(names)
            }
            Self::Embedded(_, files) => Ok(files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64))
                .collect()),
        }
    }
}

/// A whole file of sane size; nothing if there is none.
fn read_file(file: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    let bytes = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(ModelError::io(file, e)),
    };
    if bytes > MAX_READ {
        return Err(ModelError::TooLarge {
            file: file.to_owned(),
            bytes,
            limit: MAX_READ,
        });
    }
    fs::read(file)
        .map(Some)
        .map_err(|e| ModelError::io(file, e))
}
