//! Weights from their files to MLX's arrays: one at a time, so that what is in memory besides the
//! finished ones stays small.

use crate::MlxError;
use crate::ggml;
use crate::model::linear::Weight;
use crate::tensor::{from_bytes, size_of};
use exo_models::{Packing, WeightKind, WeightName, WeightView};
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::{dequantize, stack};
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};

/// What becomes of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// What is computed with.
    pub(crate) dtype: Dtype,
    /// Packed weights stay packed, and others as small as they are.
    pub(crate) packed: bool,
}

impl Form {
    /// Bytes that a matrix takes in memory.
    pub(crate) fn bytes(self, view: &WeightView) -> u64 {
        let elements = view.rows as u64 * view.cols as u64;
        match self.packing(view.kind) {
            Some((packing, scales)) => {
                let numbers = elements * u64::from(packing.bits) / 8;
                numbers + 2 * elements / u64::from(packing.group) * size_of(scales) as u64
            }
            None => elements * size_of(self.dense(view.kind)) as u64,
        }
    }

    /// How a kind is packed, and what its scales are made of; `None` if it becomes plain numbers.
    fn packing(self, kind: WeightKind) -> Option<(Packing, Dtype)> {
        if !self.packed {
            return None;
        }
        match kind {
            WeightKind::Packed(packing) => Some((packing, self.dtype)),
            kind => ggml::packing(kind).map(|packing| (packing, self.dtype)),
        }
    }

    /// What the plain numbers of a kind are made of.
    fn dense(self, kind: WeightKind) -> Dtype {
        let stored = match kind {
            WeightKind::F16 => Dtype::Float16,
            WeightKind::Bf16 => Dtype::Bfloat16,
            WeightKind::Q6K => Dtype::Float16,
            _ => return self.dtype,
        };
        if self.packed && size_of(self.dtype) > size_of(stored) {
            stored
        } else {
            self.dtype
        }
    }
}

/// A matrix, computed and in memory.
///
/// # Errors
/// When its bytes do not fit its shape, or MLX has no memory for it.
pub(crate) fn matrix(
    name: WeightName,
    view: &WeightView,
    form: Form,
) -> std::result::Result<Weight, MlxError> {
    check(name, view)?;
    let weight = build(view, form).and_then(|weight| {
        eval(weight.arrays())?;
        Ok(weight)
    });
    weight.map_err(|error| MlxError::mlx(format!("loading {name:?}"), error))
}

/// A vector `[n]` of plain numbers, with `offset` added to each.
///
/// # Errors
/// As [`matrix`].
pub(crate) fn vector(
    name: WeightName,
    view: &WeightView,
    dtype: Dtype,
    offset: f32,
) -> std::result::Result<Array, MlxError> {
    check(name, view)?;
    let form = Form {
        dtype: Dtype::Float32,
        packed: false,
    };
    let build = || {
        let flat = dense(view, form)?.reshape(&[-1])?;
        let flat = if offset == 0.0 {
            flat
        } else {
            flat.add(Array::from_f32(offset))?
        };
        let flat = flat.as_dtype(dtype)?;
        flat.eval()?;
        Ok(flat)
    };
    build().map_err(|error: Exception| MlxError::mlx(format!("loading {name:?}"), error))
}

/// Weights of the same shape, `[rows, cols]`, as one `[count, rows, cols]`.
///
/// # Errors
/// When some are packed otherwise than others, or MLX has no memory for them.
pub(crate) fn stacked(parts: &[Weight]) -> Result<Weight> {
    let stack = |of: &dyn Fn(&Weight) -> Option<&Array>| {
        let arrays: Option<Vec<&Array>> = parts.iter().map(of).collect();
        let arrays = arrays
            .filter(|arrays| !arrays.is_empty())
            .ok_or_else(|| Exception::custom("experts of one layer are not packed alike"))?;
        let stacked = stack(&arrays, 0)?;
        stacked.eval()?;
        Ok::<_, Exception>(stacked)
    };
    match parts.first() {
        Some(Weight::Packed { packing, .. }) => {
            let alike = *packing;
            let packed = |weight: &'_ Weight| matches!(weight, Weight::Packed { packing, .. } if *packing == alike);
            if !parts.iter().all(packed) {
                return Err(Exception::custom(
                    "experts of one layer are not packed alike",
                ));
            }
            let part = |index: usize| {
                stack(&move |weight| match weight {
                    Weight::Packed {
                        numbers,
                        scales,
                        biases,
                        ..
                    } => [numbers, scales, biases].get(index).copied(),
                    Weight::Dense(_) => None,
                })
            };
            Ok(Weight::Packed {
                numbers: part(0)?,
                scales: part(1)?,
                biases: part(2)?,
                packing: alike,
            })
        }
        _ => Ok(Weight::Dense(stack(&|weight| match weight {
            Weight::Dense(array) => Some(array),
            Weight::Packed { .. } => None,
        })?)),
    }
}

/// The bytes are as many as the shape asks for.
fn check(name: WeightName, view: &WeightView) -> std::result::Result<(), MlxError> {
    let row = view.kind.row_bytes(view.cols);
    let expected = row
        .and_then(|row| row.checked_mul(view.rows))
        .unwrap_or(usize::MAX);
    if expected == view.data.len() {
        return Ok(());
    }
    Err(MlxError::WeightBytes {
        weight: format!("{name:?}"),
        kind: view.kind.to_string(),
        expected,
        found: view.data.len(),
    })
}

fn build(view: &WeightView, form: Form) -> Result<Weight> {
    match form.packing(view.kind) {
        Some((packing, scales)) => packed(view, packing, scales),
        None => Ok(Weight::Dense(dense(view, form)?)),
    }
}

/// The numbers as MLX packs them; scales and biases of `dtype`.
fn packed(view: &WeightView, packing: Packing, dtype: Dtype) -> Result<Weight> {
    let rows = dimension(view.rows)?;
    let words = dimension(view.cols * usize::from(packing.bits) / 32)?;
    let groups = dimension(view.cols / usize::from(packing.group))?;
    if let Some(found) = &view.scales {
        let stored = plain(found.kind)?;
        let array = |bytes: &[u8]| from_bytes(bytes, &[rows, groups], stored)?.as_dtype(dtype);
        return Ok(Weight::Packed {
            numbers: from_bytes(&view.data, &[rows, words], Dtype::Uint32)?,
            scales: array(&found.scales)?,
            biases: array(&found.biases)?,
            packing,
        });
    }
    let packed = ggml::pack(view.kind, &view.data)
        .ok_or_else(|| Exception::custom(format!("{} cannot be packed", view.kind)))?;
    let array = |values: &[f32]| -> Result<Array> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        from_bytes(&bytes, &[rows, groups], Dtype::Float32)?.as_dtype(dtype)
    };
    Ok(Weight::Packed {
        numbers: from_bytes(&packed.numbers, &[rows, words], Dtype::Uint32)?,
        scales: array(&packed.scales)?,
        biases: array(&packed.biases)?,
        packing,
    })
}

/// Plain numbers `[rows, cols]`.
fn dense(view: &WeightView, form: Form) -> Result<Array> {
    let dtype = form.dense(view.kind);
    let shape = [dimension(view.rows)?, dimension(view.cols)?];
    if let WeightKind::Packed(packing) = view.kind {
        let kept = packed(view, packing, Dtype::Float32)?;
        return kept.dense(dtype);
    }
    if let Ok(stored) = plain(view.kind) {
        return from_bytes(&view.data, &shape, stored)?.as_dtype(dtype);
    }
    let floats = ggml::floats(view.kind, &view.data)
        .ok_or_else(|| Exception::custom(format!("{} has no numbers", view.kind)))?;
    let count = shape.iter().map(|&n| n as usize).product::<usize>();
    if floats.len() != count {
        let found = floats.len();
        return Err(Exception::custom(format!(
            "{} of shape {shape:?} has {found} numbers",
            view.kind
        )));
    }
    let rows: Vec<Array> = floats
        // What the safe constructor can count.
        .chunks((1 << 30) / view.cols.max(1) * view.cols.max(1))
        .map(|part| {
            let rows = (part.len() / view.cols.max(1)) as i32;
            Array::from_slice(part, &[rows, shape[1]]).as_dtype(dtype)
        })
        .collect::<Result<_>>()?;
    match <[Array; 1]>::try_from(rows) {
        Ok([one]) => Ok(one),
        Err(rows) => mlx_rs::ops::concatenate(&rows, 0),
    }
}

/// MLX's name for numbers that are stored as they are.
fn plain(kind: WeightKind) -> Result<Dtype> {
    match kind {
        WeightKind::F32 => Ok(Dtype::Float32),
        WeightKind::F16 => Ok(Dtype::Float16),
        WeightKind::Bf16 => Ok(Dtype::Bfloat16),
        other => Err(Exception::custom(format!("{other} are no plain numbers"))),
    }
}

fn dimension(size: usize) -> Result<i32> {
    i32::try_from(size)
        .map_err(|_| Exception::custom(format!("a dimension of {size} is too large")))
}

impl Weight {
    /// The arrays it is made of.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(array) => vec![array],
            Self::Packed {
                numbers,
                scales,
                biases,
                ..
            } => vec![numbers, scales, biases],
        }
    }

    /// Its plain numbers in `dtype`.
    pub(crate) fn dense(&self, dtype: Dtype) -> Result<Array> {
        match self {
            Self::Dense(array) => array.as_dtype(dtype),
            Self::Packed {
                numbers,
                scales,
                biases,
                packing,
            } => {
                let (group, bits) = (i32::from(packing.group), i32::from(packing.bits));
                dequantize(numbers, scales, biases, group, bits)?.as_dtype(dtype)
            }
        }
    }
}
