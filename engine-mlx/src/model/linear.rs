//! Linear maps, whatever their weights are made of.

use exo_models::Packing;
use mlx_rs::error::Result;
use mlx_rs::ops::{dequantize, gather_mm, gather_qmm, matmul, quantized_matmul};
use mlx_rs::{Array, Dtype};
use std::fmt;

/// A matrix `[out, in]`, or the matrices of a layer's experts `[count, out, in]`.
#[derive(Clone)]
pub(crate) enum Weight {
    /// Plain numbers.
    Dense(Array),
    /// MLX's affine packing: element `= scale * number + bias`.
    Packed {
        /// `[out, in * bits / 32]`, unsigned 32-bit words.
        numbers: Array,
        /// `[out, in / group]`.
        scales: Array,
        /// The same.
        biases: Array,
        /// How many bits, and how many elements share a scale.
        packing: Packing,
    },
}

/// `y = x Wᵀ`, and what an adapter adds.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// The matrix as it was trained first.
    pub(crate) weight: Weight,
    /// What was learnt on top, one after the other.
    pub(crate) adapters: Vec<Adapter>,
}

/// A low-rank addition: `scale * (x A) B`.
#[derive(Clone)]
pub(crate) struct Adapter {
    /// `[in, rank]`.
    pub(crate) a: Array,
    /// `[rank, out]`.
    pub(crate) b: Array,
    /// What the product is multiplied by.
    pub(crate) scale: f32,
}

impl From<Weight> for Linear {
    fn from(weight: Weight) -> Self {
        Self {
            weight,
            adapters: Vec::new(),
        }
    }
}

impl Linear {
    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let adapters = self.adapters.iter();
        let adapters = adapters.map(|adapter| adapter.a.nbytes() + adapter.b.nbytes());
        self.weight.bytes() + adapters.sum::<usize>() as u64
    }

    /// `[.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let mut y = self.weight.product(x)?;
        for Adapter { a, b, scale } in &self.adapters {
            let scale = crate::tensor::scalar(*scale, y.dtype())?;
            let added = matmul(matmul(x, a)?, b)?.as_dtype(y.dtype())?;
            y = y.add(added.multiply(scale)?)?;
        }
        Ok(y)
    }
}

impl Weight {
    /// `x Wᵀ`: `[.., in]` to `[.., out]`, in the dtype of `x`.
    pub(crate) fn product(&self, x: &Array) -> Result<Array> {
        match self {
            // The transposed matrix is a view; a matrix of another dtype is converted on the way.
            Self::Dense(array) => matmul(x, array.t().as_dtype(x.dtype())?),
            Self::Packed {
                numbers,
                scales,
                biases,
                packing,
            } => {
                let (group, bits) = (i32::from(packing.group), i32::from(packing.bits));
                quantized_matmul(x, numbers, scales, biases, true, group, bits)
            }
        }
    }

    /// For stacked matrices: row `i` of `x`, `[.., 1, in]`, by matrix `experts[i]`. `sorted` says
    /// that the same experts follow each other.
    pub(crate) fn gathered(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        match self {
            Self::Dense(array) => {
                let turned = array.swap_axes(-1, -2)?.as_dtype(x.dtype())?;
                gather_mm(x, turned, None, experts, sorted)
            }
            Self::Packed {
                numbers,
                scales,
                biases,
                packing,
            } => {
                let (group, bits) = (i32::from(packing.group), i32::from(packing.bits));
                gather_qmm(
                    x, numbers, scales, biases, None, experts, true, group, bits, sorted,
                )
            }
        }
    }

    /// The rows `ids`, `[..]` to `[.., in]`, in `dtype`.
    pub(crate) fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        match self {
            Self::Dense(array) => array.take_axis(ids, 0)?.as_dtype(dtype),
            Self::Packed {
                numbers,
                scales,
                biases,
                packing,
            } => {
                let (group, bits) = (i32::from(packing.group), i32::from(packing.bits));
                let rows = |array: &Array| array.take_axis(ids, 0);
                let (numbers, scales, biases) = (rows(numbers)?, rows(scales)?, rows(biases)?);
                dequantize(numbers, scales, &biases, group, bits)?.as_dtype(dtype)
            }
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let arrays = self.arrays().into_iter();
        arrays.map(|array| array.nbytes() as u64).sum()
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense(array) => write!(f, "{:?} {:?}", array.dtype(), array.shape()),
            Self::Packed {
                scales, packing, ..
            } => write!(
                f,
                "{} bits in groups of {}, scales {:?}",
                packing.bits,
                packing.group,
                scales.shape()
            ),
        }
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b, scale) = (self.a.shape(), self.b.shape(), self.scale);
        write!(f, "{scale} * {a:?} {b:?}")
    }
}
