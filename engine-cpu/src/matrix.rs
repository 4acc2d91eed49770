//! A weight as the kernels take it.

use crate::error::CpuError;
use crate::kernels::{FloatFormat, Format, Kernels, PackedRows};
use exo_models::{Packing, Scales, WeightBytes, WeightKind, WeightName, Weights};
use std::ops::Range;

/// How the bytes of a matrix are read.
#[derive(Clone, Debug)]
enum Kind {
    /// Blocks that hold their scales; multiplied with 8-bit activations.
    Quantised(Format),
    /// Scales apart from the numbers; multiplied with 8-bit activations.
    Packed(Packing, FloatFormat, Scales),
    /// Multiplied with `f32` activations.
    Float(FloatFormat),
}

/// A matrix `[rows, cols]` of weights, where it lies in its file.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    kind: Kind,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: WeightBytes,
}

/// Some rows of a matrix, for the kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    Quantised(Format, &'a [u8]),
    Packed(PackedRows<'a>),
    Float(FloatFormat, &'a [u8]),
}

/// A matrix, and what is added to its products.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

impl Matrix {
    /// The matrix called `name`, which must have this shape.
    pub(crate) fn load(
        weights: &Weights,
        name: WeightName,
        (rows, cols): (usize, usize),
    ) -> Result<Self, CpuError> {
        let view = weights.get(name)?;
        let stored = view.kind;
        let unknown = || CpuError::WeightKind {
            weight: name,
            kind: stored,
        };
        let kind = match (stored, view.scales) {
            (WeightKind::Packed(packing), Some(scales)) => {
                let format = float_format(scales.kind).ok_or_else(unknown)?;
                let known = PackedRows::knows(packing.bits, packing.group.into());
                if !known || !cols.is_multiple_of(packing.group.into()) {
                    return Err(unknown());
                }
                Kind::Packed(packing, format, scales)
            }
            _ => match (float_format(stored), format(stored)) {
                (Some(format), _) => Kind::Float(format),
                (None, Some(format)) if cols.is_multiple_of(format.unit()) => {
                    Kind::Quantised(format)
                }
                _ => return Err(unknown()),
            },
        };
        let matrix = Self {
            row_bytes: match &kind {
                Kind::Quantised(format) => format.row_bytes(cols),
                Kind::Packed(packing, ..) => cols / 8 * usize::from(packing.bits),
                Kind::Float(format) => cols * format.bytes(),
            },
            kind,
            rows,
            cols,
            data: view.data,
        };
        if (view.rows, view.cols) != (rows, cols) || !matrix.fits() {
            return Err(CpuError::WeightShape {
                weight: name,
                expected: [rows, cols],
                found: [view.rows, view.cols],
                bytes: matrix.data.len(),
            });
        }
        Ok(matrix)
    }

    /// A matrix whose blocks were made up; `None` if there are not as many bytes as it takes.
    pub(crate) fn made(
        format: Format,
        (rows, cols): (usize, usize),
        data: WeightBytes,
    ) -> Option<Self> {
        let matrix = Self {
            kind: Kind::Quantised(format),
            rows,
            cols,
            row_bytes: format.row_bytes(cols),
            data,
        };
        let whole = cols.is_multiple_of(format.unit());
        Some(matrix).filter(|matrix| whole && matrix.fits())
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

    /// Whether there are as many bytes as the shape takes.
    fn fits(&self) -> bool {
        let whole =
            |bytes: &[u8], row: usize| row > 0 && self.rows.checked_mul(row) == Some(bytes.len());
        let scales = match &self.kind {
            Kind::Packed(packing, format, scales) => {
                let row = self.cols / usize::from(packing.group) * format.bytes();
                whole(&scales.scales, row) && whole(&scales.biases, row)
            }
            Kind::Quantised(_) | Kind::Float(_) => true,
        };
        scales && whole(&self.data, self.row_bytes)
    }

    /// Whether it multiplies with 8-bit activations.
    pub(crate) fn is_quantised(&self) -> bool {
        !matches!(self.kind, Kind::Float(_))
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// If it has not all of them.
    pub(crate) fn some(&self, rows: Range<usize>) -> Rows<'_> {
        let bytes = &self.data[rows.start * self.row_bytes..rows.end * self.row_bytes];
        match &self.kind {
            Kind::Quantised(format) => Rows::Quantised(*format, bytes),
            Kind::Float(format) => Rows::Float(*format, bytes),
            Kind::Packed(packing, format, scales) => {
                let group = usize::from(packing.group);
                let row = self.cols / group * format.bytes();
                Rows::Packed(PackedRows {
                    bits: packing.bits,
                    group,
                    scale_format: *format,
                    rows: rows.len(),
                    cols: self.cols,
                    numbers: bytes,
                    scales: &scales.scales[rows.start * row..rows.end * row],
                    biases: &scales.biases[rows.start * row..rows.end * row],
                })
            }
        }
    }

    /// Row `row` as numbers; zeros if there is no such row.
    pub(crate) fn read_row(&self, row: usize, kernels: &Kernels, out: &mut [f32]) {
        if row >= self.rows {
            out.fill(0.0);
            return;
        }
        match self.some(row..row + 1) {
            Rows::Float(format, bytes) => (kernels.widen)(format, bytes, out),
            Rows::Quantised(format, bytes) => (kernels.read)(format, bytes, out),
            Rows::Packed(rows) => (kernels.read_packed)(&rows, out),
        }
    }
}

impl From<Matrix> for Linear {
    fn from(matrix: Matrix) -> Self {
        Self { matrix, bias: None }
    }
}

fn float_format(kind: WeightKind) -> Option<FloatFormat> {
    match kind {
        WeightKind::F32 => Some(FloatFormat::F32),
        WeightKind::F16 => Some(FloatFormat::F16),
        WeightKind::Bf16 => Some(FloatFormat::Bf16),
        _ => None,
    }
}

fn format(kind: WeightKind) -> Option<Format> {
    match kind {
        WeightKind::Q4_0 => Some(Format::Q4_0),
        WeightKind::Q4_1 => Some(Format::Q4_1),
        WeightKind::Q5_0 => Some(Format::Q5_0),
        WeightKind::Q5_1 => Some(Format::Q5_1),
        WeightKind::Q8_0 => Some(Format::Q8_0),
        WeightKind::Q4K => Some(Format::Q4K),
        WeightKind::Q5K => Some(Format::Q5K),
        WeightKind::Q6K => Some(Format::Q6K),
        _ => None,
    }
}
