//! A checkpoint's file: safetensors, as far as this engine needs it.
//!
//! Eight bytes say how long the header is; the header is JSON and says of each tensor its type,
//! shape and place in the bytes that follow; under `__metadata__` it has texts. All tensors here are
//! `F32`. The format: <https://huggingface.co/docs/safetensors>.

use super::CheckpointError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest header that is read: a hundred times what the largest models need.
const MAX_HEADER: u64 = 16 << 20;

pub(super) const METADATA: &str = "__metadata__";

/// An open checkpoint of which the header was read and checked.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    data: u64,
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    shape: Vec<usize>,
    offset: u64,
    bytes: usize,
}

impl CheckpointFile {
    /// Opens a checkpoint and reads its header; nothing else.
    ///
    /// # Errors
    /// When it cannot be read, is no safetensors file, or its header and length do not fit.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::Io {
            file: path.to_owned(),
            source,
        };
        let damaged = |why: String| CheckpointError::Damaged {
            file: path.to_owned(),
            why,
        };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut word = [0; 8];
        file.read_exact(&mut word)
            .map_err(|_| damaged(format!("it has {length} bytes, expected 8 and more")))?;
        let header = u64::from_le_bytes(word);
        let data = header.saturating_add(8);
        if header > MAX_HEADER || data > length {
            let why = format!(
                "its header has {header} bytes; the file has {length}, and at most {MAX_HEADER} \
                 are read"
            );
            return Err(damaged(why));
        }
        let mut text = vec![0; usize::try_from(header).unwrap_or(0)];
        file.read_exact(&mut text).map_err(io)?;
        let header: Map<String, Value> = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("its header is no JSON object: {error}")))?;
        let mut found = Self {
            path: path.to_owned(),
            file,
            data,
            metadata: BTreeMap::new(),
            tensors: BTreeMap::new(),
        };
        for (name, value) in header {
            if name == METADATA {
                let texts = value.as_object().into_iter().flatten();
                let texts = texts.filter_map(|(key, text)| Some((key, text.as_str()?)));
                found.metadata = texts
                    .map(|(key, text)| (key.clone(), text.to_owned()))
                    .collect();
                continue;
            }
            let place = place(&value, length - data)
                .ok_or_else(|| damaged(format!("tensor {name:?} cannot be {value}")))?;
            found.tensors.insert(name, place);
        }
        Ok(found)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text of its metadata.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn text(&self, name: &str) -> Result<&str, CheckpointError> {
        let text = self.metadata.get(name).map(String::as_str);
        text.ok_or_else(|| self.damaged(format!("its metadata has no {name:?}")))
    }

    /// A number of its metadata, written with base 16.
    ///
    /// # Errors
    /// When there is none of that name, or it is no number.
    pub fn hex(&self, name: &str) -> Result<u64, CheckpointError> {
        let text = self.text(name)?;
        u64::from_str_radix(text, 16)
            .map_err(|_| self.damaged(format!("its {name} is {text:?}, expected a number")))
    }

    /// The names of its tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The little-endian bytes of a tensor of single-precision floats.
    ///
    /// # Errors
    /// When there is none of that name and shape, or it cannot be read.
    pub fn read(&mut self, name: &str, shape: &[i32]) -> Result<Vec<u8>, CheckpointError> {
        let Some(place) = self.tensors.get(name).cloned() else {
            return Err(self.damaged(format!("it has no tensor {name:?}")));
        };
        let same = place.shape.len() == shape.len()
            && place.shape.iter().zip(shape).all(|(found, expected)| {
                usize::try_from(*expected).is_ok_and(|expected| expected == *found)
            });
        if !same {
            let found = place.shape;
            return Err(self.damaged(format!(
                "tensor {name:?} has shape {found:?}, expected {shape:?}"
            )));
        }
        let mut bytes = vec![0; place.bytes];
        let from = SeekFrom::Start(self.data.saturating_add(place.offset));
        let read = self.file.seek(from);
        read.and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| CheckpointError::Io {
                file: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }

    /// The shape of a tensor, if there is one of that name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<Vec<i32>> {
        let shape = &self.tensors.get(name)?.shape;
        let dimension = |&size: &usize| i32::try_from(size).ok();
        shape.iter().map(dimension).collect()
    }

    pub(crate) fn damaged(&self, why: String) -> CheckpointError {
        CheckpointError::Damaged {
            file: self.path.clone(),
            why,
        }
    }
}

fn place(value: &Value, available: u64) -> Option<Place> {
    if value.get("dtype")?.as_str()? != "F32" {
        return None;
    }
    let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
    let shape = value.get("shape")?.as_array()?.iter();
    let shape: Vec<usize> = shape.map(number).collect::<Option<_>>()?;
    let [from, to] = value.get("data_offsets")?.as_array()?.as_slice() else {
        return None;
    };
    let (from, to) = (from.as_u64()?, to.as_u64()?);
    let expected = shape
        .iter()
        .try_fold(4_usize, |bytes, size| bytes.checked_mul(*size))?;
    let bytes = usize::try_from(to.checked_sub(from)?).ok()?;
    (bytes == expected && to <= available).then_some(Place {
        shape,
        offset: from,
        bytes,
    })
}
