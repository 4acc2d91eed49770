//! The header of one safetensors file.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    ModelError,
    map::FileBytes,
    weights::{Located, StoredKind, WeightKind},
};

/// What says how long the header is.
const LENGTH: usize = 8;

/// The limit that the format itself sets.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor as the header has it.
#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// What a file says about its tensors.
pub(super) struct Header {
    /// Where in the file the data begins; offsets count from there.
    start: u64,
    pub(super) tensors: BTreeMap<String, Entry>,
}

fn wrong(file: &Path, why: String) -> ModelError {
    ModelError::Safetensors {
        file: file.to_owned(),
        why,
    }
}

impl Header {
    /// How many bytes it has, by its first ones.
    pub(super) fn length(file: &Path, bytes: &[u8]) -> Result<u64, ModelError> {
        let Some(length) = bytes.first_chunk::<LENGTH>() else {
            return Err(wrong(file, format!("it has only {} bytes", bytes.len())));
        };
        let length = u64::from_le_bytes(*length);
        match length > MAX_HEADER {
            true => Err(wrong(file, format!("its header would have {length} bytes"))),
            false => Ok(LENGTH as u64 + length),
        }
    }

    /// That the last tensor ends where the file does.
    pub(super) fn check_end(&self, file: &Path, size: u64) -> Result<(), ModelError> {
        let ends = self.tensors.values().map(|entry| entry.data_offsets.1);
        let end = self.start.saturating_add(ends.max().unwrap_or(0));
        match end == size {
            true => Ok(()),
            false => Err(wrong(
                file,
                format!("its tensors end at byte {end}, and the file at {size}"),
            )),
        }
    }

    pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Self, ModelError> {
        let wrong = |why: String| wrong(file, why);
        let end = Self::length(file, bytes)?;
        let rest = bytes.get(LENGTH..).unwrap_or_default();
        let length = end - LENGTH as u64;
        let json = usize::try_from(length)
            .ok()
            .and_then(|n| rest.get(..n))
            .ok_or_else(|| {
                wrong(format!(
                    "it ends at byte {}, inside its header of {length} bytes: the download may be \
                 incomplete",
                    bytes.len()
                ))
            })?;
        let mut object: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|e| wrong(format!("its header: {e}")))?;
        object.remove("__metadata__");
        let tensors = object
            .into_iter()
            .map(|(name, value)| match Entry::deserialize(value) {
                Ok(entry) => Ok((name, entry)),
                Err(e) => Err(wrong(format!("its header, tensor `{name}`: {e}"))),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            start: end,
            tensors,
        })
    }

    /// A tensor with everything about it checked.
    pub(super) fn locate<'a>(
        &self,
        path: &'a Path,
        file: &'a FileBytes,
        tensor: &str,
    ) -> Result<Option<Located<'a>>, ModelError> {
        let Some(entry) = self.tensors.get(tensor) else {
            return Ok(None);
        };
        let kind = match entry.dtype.as_str() {
            "F32" => StoredKind::Plain(WeightKind::F32),
            "F16" => StoredKind::Plain(WeightKind::F16),
            "BF16" => StoredKind::Plain(WeightKind::Bf16),
            "U32" => StoredKind::Words,
            other => {
                return Err(ModelError::TensorKind {
                    file: path.to_owned(),
                    tensor: tensor.to_owned(),
                    found: other.to_owned(),
                });
            }
        };
        let shape_error = |expected: String| ModelError::TensorShape {
            file: path.to_owned(),
            tensor: tensor.to_owned(),
            expected,
            found: format!("{:?} at {:?}", entry.shape, entry.data_offsets),
        };
        if !(1..=3).contains(&entry.shape.len()) {
            return Err(shape_error(
                "a vector, a matrix or a stack of those".to_owned(),
            ));
        }
        let element = match kind {
            StoredKind::Plain(kind) => kind.block().1,
            StoredKind::Words => size_of::<u32>(),
        };
        let size = |&n: &u64| usize::try_from(n).ok().filter(|&n| n > 0);
        let shape: Option<Vec<usize>> = entry.shape.iter().map(size).collect();
        let needed = shape.and_then(|shape| {
            let bytes = shape
                .iter()
                .try_fold(element, |all, &n| all.checked_mul(n))?;
            Some((shape, bytes))
        });
        let Some((shape, bytes)) = needed else {
            return Err(shape_error("of a size that can be".to_owned()));
        };
        let (start, end) = entry.data_offsets;
        if end.checked_sub(start) != Some(bytes as u64) {
            return Err(shape_error(format!("{bytes} bytes long")));
        }
        let (start, end) = (
            self.start.saturating_add(start),
            self.start.saturating_add(end),
        );
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(start), Ok(end)) if end <= file.len() => Ok(Some(Located {
                kind,
                shape,
                bytes: start..end,
                file,
                path,
            })),
            _ => Err(ModelError::TensorBounds {
                file: path.to_owned(),
                tensor: tensor.to_owned(),
                start,
                end,
                available: file.len() as u64,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
