//! From a tensor in a file to a view of a weight, with everything about it checked.

use std::{ops::Range, path::Path};

use super::{Place, Scales, TensorFiles, WeightBytes, WeightKind, WeightView};
use crate::{ModelConfig, ModelError, Packing, map::FileBytes};

/// A tensor found in a file: its bytes are within the file and as many as its shape takes.
#[derive(Debug, Clone)]
pub(crate) struct Located<'a> {
    pub(crate) kind: StoredKind,
    /// The contiguous dimension last.
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Range<usize>,
    pub(crate) file: &'a FileBytes,
    pub(crate) path: &'a Path,
}

/// How a tensor's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredKind {
    Plain(WeightKind),
    /// 32-bit words, into which MLX packs numbers. What they mean is said elsewhere.
    Words,
}

/// The weight in the first of the places that the files have, and that place; nothing if they have
/// none.
pub(super) fn find<'a>(
    files: &dyn TensorFiles,
    config: &ModelConfig,
    places: &'a [Place],
    rows: usize,
) -> Result<Option<(WeightView, &'a Place)>, ModelError> {
    for place in places {
        let Some(found) = files.tensor(&place.tensor)? else {
            continue;
        };
        let view = match packing(files, config, &place.tensor)? {
            Some((module, packing)) => packed(files, place, &found, rows, module, packing)?,
            None => plain(place, &found, rows)?,
        };
        return Ok(Some((view, place)));
    }
    Ok(None)
}

/// How the tensor's module is packed, if it is: as mlx-lm does it, what has scales is, unless the
/// configuration says something about this module.
fn packing<'a>(
    files: &dyn TensorFiles,
    config: &ModelConfig,
    tensor: &'a str,
) -> Result<Option<(&'a str, Packing)>, ModelError> {
    let Some(quantization) = &config.mlx_quantization else {
        return Ok(None);
    };
    let Some(module) = tensor.strip_suffix(".weight") else {
        return Ok(None);
    };
    let packing = match quantization.others.get(module) {
        Some(own) => *own,
        None => files
            .tensor(&format!("{module}.scales"))?
            .map(|_| quantization.usual),
    };
    Ok(packing.map(|packing| (module, packing)))
}

fn plain(place: &Place, found: &Located<'_>, rows: usize) -> Result<WeightView, ModelError> {
    let StoredKind::Plain(kind) = found.kind else {
        return Err(ModelError::TensorKind {
            file: found.path.to_owned(),
            tensor: place.tensor.clone(),
            found: "U32 without scales".to_owned(),
        });
    };
    check_shape(&place.tensor, found, &place.shape)?;
    let cols = place.cols();
    let row_bytes = kind.row_bytes(cols).unwrap_or(0);
    Ok(WeightView {
        kind,
        rows,
        cols,
        data: slice(&place.tensor, found, place.first_row, rows, row_bytes)?,
        scales: None,
    })
}

fn packed(
    files: &dyn TensorFiles,
    place: &Place,
    found: &Located<'_>,
    rows: usize,
    module: &str,
    packing: Packing,
) -> Result<WeightView, ModelError> {
    let Packing { group, bits } = packing;
    let cols = place.cols();
    let kind = WeightKind::Packed(packing);
    if found.kind != StoredKind::Words {
        return Err(ModelError::TensorKind {
            file: found.path.to_owned(),
            tensor: place.tensor.clone(),
            found: format!("{} although it has scales", found.kind),
        });
    }
    let Some(row_bytes) = kind.row_bytes(cols) else {
        return Err(ModelError::TensorShape {
            file: found.path.to_owned(),
            tensor: place.tensor.clone(),
            expected: format!("of a width that divides into groups of {group}"),
            found: format!("{cols} wide"),
        });
    };
    // Groups are of 32 numbers at least, so rows end with a word.
    check_shape(
        &place.tensor,
        found,
        &place.with_cols(cols * usize::from(bits) / 32),
    )?;
    let groups = cols / usize::from(group);
    let part = |part: &str| {
        let tensor = format!("{module}.{part}");
        let found = files
            .tensor(&tensor)?
            .ok_or_else(|| ModelError::MissingTensor {
                file: found.path.to_owned(),
                tensor: tensor.clone(),
            })?;
        let kind = match found.kind {
            StoredKind::Plain(kind @ (WeightKind::F32 | WeightKind::F16 | WeightKind::Bf16)) => {
                kind
            }
            other => {
                return Err(ModelError::TensorKind {
                    file: found.path.to_owned(),
                    tensor,
                    found: other.to_string(),
                });
            }
        };
        check_shape(&tensor, &found, &place.with_cols(groups))?;
        let row_bytes = kind.row_bytes(groups).unwrap_or(0);
        let bytes = slice(&tensor, &found, place.first_row, rows, row_bytes)?;
        Ok((kind, bytes))
    };
    let (scales_kind, scales) = part("scales")?;
    let (biases_kind, biases) = part("biases")?;
    if scales_kind != biases_kind {
        return Err(ModelError::TensorKind {
            file: found.path.to_owned(),
            tensor: format!("{module}.biases"),
            found: format!("{biases_kind} although its scales are {scales_kind}"),
        });
    }
    Ok(WeightView {
        kind,
        rows,
        cols,
        data: slice(&place.tensor, found, place.first_row, rows, row_bytes)?,
        scales: Some(Scales {
            kind: scales_kind,
            scales,
            biases,
        }),
    })
}

/// Dimensions of one element before the others say nothing.
fn check_shape(tensor: &str, found: &Located<'_>, expected: &[usize]) -> Result<(), ModelError> {
    let bare = |shape: &[usize]| -> Vec<usize> {
        let ones = shape.iter().take_while(|&&n| n == 1).count();
        let ones = ones.min(shape.len().saturating_sub(1));
        shape.iter().skip(ones).copied().collect()
    };
    if bare(&found.shape) == bare(expected) {
        return Ok(());
    }
    let text = |shape: &[usize]| {
        let numbers: Vec<String> = shape.iter().map(usize::to_string).collect();
        numbers.join(" × ")
    };
    Err(ModelError::TensorShape {
        file: found.path.to_owned(),
        tensor: tensor.to_owned(),
        expected: text(expected),
        found: text(&found.shape),
    })
}

fn slice(
    tensor: &str,
    found: &Located<'_>,
    first_row: usize,
    rows: usize,
    row_bytes: usize,
) -> Result<WeightBytes, ModelError> {
    let range = first_row
        .checked_mul(row_bytes)
        .and_then(|offset| found.bytes.start.checked_add(offset))
        .zip(rows.checked_mul(row_bytes))
        .and_then(|(start, bytes)| Some(start..start.checked_add(bytes)?))
        .filter(|range| range.end <= found.bytes.end);
    range
        .and_then(|range| found.file.slice(range))
        .ok_or_else(|| ModelError::TensorBounds {
            file: found.path.to_owned(),
            tensor: tensor.to_owned(),
            start: found.bytes.start as u64,
            end: found.bytes.end as u64,
            available: found.file.len() as u64,
        })
}

impl Place {
    fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// The whole shape with another contiguous dimension.
    fn with_cols(&self, cols: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = cols;
        }
        shape
    }
}

impl std::fmt::Display for StoredKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(kind) => kind.fmt(f),
            Self::Words => f.write_str("U32"),
        }
    }
}
