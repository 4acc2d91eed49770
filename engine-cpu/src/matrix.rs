//! A weight as the kernels take it.

use crate::error::CpuError;
use crate::kernels::{FloatFormat, Format, Kernels};
use exo_models::{WeightBytes, WeightKind, WeightName, Weights};

/// How the bytes of a matrix are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Multiplied with 8-bit activations.
    Quantised(Format),
    /// Multiplied with `f32` activations.
    Float(FloatFormat),
}

/// A matrix `[rows, cols]` of weights, where it lies in its file.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    kind: Kind,
    rows: usize,
    row_bytes: usize,
    data: WeightBytes,
}

impl Matrix {
    /// The matrix called `name`, which must have this shape.
    pub(crate) fn load(
        weights: &Weights,
        name: WeightName,
        (rows, cols): (usize, usize),
    ) -> Result<Self, CpuError> {
        let view = weights.get(name)?;
        let kind = match view.kind {
            WeightKind::F32 => Kind::Float(FloatFormat::F32),
            WeightKind::F16 => Kind::Float(FloatFormat::F16),
            WeightKind::Bf16 => Kind::Float(FloatFormat::Bf16),
            WeightKind::Q4_0 => Kind::Quantised(Format::Q4_0),
            WeightKind::Q4_1 => Kind::Quantised(Format::Q4_1),
            WeightKind::Q5_0 => Kind::Quantised(Format::Q5_0),
            WeightKind::Q5_1 => Kind::Quantised(Format::Q5_1),
            WeightKind::Q8_0 => Kind::Quantised(Format::Q8_0),
            WeightKind::Q4K => Kind::Quantised(Format::Q4K),
            WeightKind::Q5K => Kind::Quantised(Format::Q5K),
            WeightKind::Q6K => Kind::Quantised(Format::Q6K),
            other => {
                return Err(CpuError::WeightKind {
                    weight: name,
                    kind: other,
                });
            }
        };
        let row_bytes = match kind {
            Kind::Quantised(format) if cols.is_multiple_of(format.unit()) => format.row_bytes(cols),
            Kind::Float(format) => cols * format.bytes(),
            Kind::Quantised(_) => {
                return Err(CpuError::WeightKind {
                    weight: name,
                    kind: view.kind,
                });
            }
        };
        let fits = row_bytes > 0 && rows.checked_mul(row_bytes) == Some(view.data.len());
        if (view.rows, view.cols) != (rows, cols) || !fits {
            return Err(CpuError::WeightShape {
                weight: name,
                expected: [rows, cols],
                found: [view.rows, view.cols],
                bytes: view.data.len(),
            });
        }
        Ok(Self {
            kind,
            rows,
            row_bytes,
            data: view.data,
        })
    }

    /// The vector called `name` of `len` elements, as `f32`.
    pub(crate) fn load_vector(
        weights: &Weights,
        name: WeightName,
        len: usize,
    ) -> Result<Vec<f32>, CpuError> {
        let matrix = Self::load(weights, name, (1, len))?;
        let mut values = vec![0.0; len];
        matrix.read_row(0, &Kernels::SCALAR, &mut values);
        Ok(values)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All bytes, row after row.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Row `row` as numbers; zeros if there is no such row.
    pub(crate) fn read_row(&self, row: usize, kernels: &Kernels, out: &mut [f32]) {
        let start = row * self.row_bytes;
        let Some(bytes) = self.bytes().get(start..start + self.row_bytes) else {
            out.fill(0.0);
            return;
        };
        match self.kind {
            Kind::Float(format) => (kernels.widen)(format, bytes, out),
            Kind::Quantised(format) => {
                for (b, out) in out.chunks_exact_mut(32).enumerate() {
                    let block = format.block(bytes, b);
                    for (i, out) in out.iter_mut().enumerate() {
                        let quant = i32::from(block.quants[i]) - format.offset();
                        let quant = block.factors[i / 16] * quant;
                        *out = block.scale.mul_add(quant as f32, block.min);
                    }
                }
            }
        }
    }
}
