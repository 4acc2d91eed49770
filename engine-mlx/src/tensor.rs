//! Numbers between MLX's arrays and bytes: from files, from peers, to peers.

use crate::MlxError;
use bytes::Bytes;
use exo_protocol::{DType, Tensor};
use mlx_rs::error::{Exception, Result};
use mlx_rs::{Array, Dtype};

/// An array of `shape` and `dtype` over a copy of little-endian `bytes`.
///
/// # Errors
/// When the number of bytes is another than shape and dtype ask for.
pub(crate) fn from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Result<Array> {
    let size = size_of(dtype);
    let elements = shape.iter().try_fold(1usize, |count, &n| {
        usize::try_from(n).ok().and_then(|n| count.checked_mul(n))
    });
    let expected = elements.and_then(|count| count.checked_mul(size));
    // Rows of bytes, because a whole weight's bytes may be more than a dimension can count.
    let (rows, last) = match shape.split_last() {
        Some((last, outer)) => (outer.to_vec(), *last),
        None => (Vec::new(), 1),
    };
    let width = i32::try_from(size)
        .ok()
        .and_then(|size| last.checked_mul(size));
    let (Some(expected), Some(width)) = (expected, width) else {
        return Err(Exception::custom(format!("shape {shape:?} is too large")));
    };
    if expected != bytes.len() {
        let found = bytes.len();
        return Err(Exception::custom(format!(
            "{dtype:?} of shape {shape:?} takes {expected} bytes, {found} came"
        )));
    }
    let raw = copied(bytes, &[rows, vec![width]].concat());
    // Shares the memory: MLX's own allocations are aligned for every dtype.
    raw.view_dtype(dtype)?.reshape(shape)
}

/// `bytes` as unsigned numbers; `shape` has exactly as many elements.
#[expect(
    unsafe_code,
    reason = "the safe constructor counts elements in 32 bits, and weights may have more bytes"
)]
fn copied(bytes: &[u8], shape: &[i32]) -> Array {
    debug_assert_eq!(
        shape.iter().map(|&n| n as usize).product::<usize>(),
        bytes.len()
    );
    // SAFETY: MLX copies `shape`'s product of bytes out of the pointer before this returns. The
    // only caller has compared that product, computed without overflow, with the slice's length;
    // single bytes need no alignment.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, Dtype::Uint8) }
}

/// The little-endian bytes of an array, computed if they were not yet.
pub(crate) fn to_bytes(array: &Array) -> Result<Vec<u8>> {
    let flat = array.contiguous()?.reshape(&[-1])?;
    let raw = flat.view_dtype(Dtype::Uint8)?;
    let bytes = raw.try_as_slice::<u8>();
    let bytes = bytes.map_err(|error| Exception::custom(error.to_string()))?;
    Ok(bytes.to_vec())
}

/// Bytes of one element.
pub(crate) fn size_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Bool | Dtype::Uint8 | Dtype::Int8 => 1,
        Dtype::Uint16 | Dtype::Int16 | Dtype::Float16 | Dtype::Bfloat16 => 2,
        Dtype::Uint32 | Dtype::Int32 | Dtype::Float32 => 4,
        Dtype::Uint64 | Dtype::Int64 | Dtype::Float64 | Dtype::Complex64 => 8,
    }
}

/// A number as an array that does not change the dtype of what it is computed with.
pub(crate) fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Array::from_f32(value).as_dtype(dtype)
}

/// A hidden state `[1, T, hidden]` or `[T, hidden]` that came from a peer, as `[1, T, hidden]` of
/// `dtype`.
///
/// # Errors
/// [`MlxError::Input`] when it has another shape or is no float.
pub(crate) fn from_tensor(
    tensor: &Tensor,
    hidden: usize,
    dtype: Dtype,
) -> std::result::Result<Array, MlxError> {
    let positions = match *tensor.shape() {
        [1, positions, width] | [positions, width] if width == hidden => positions,
        ref shape => {
            return Err(MlxError::Input(format!(
                "the hidden state has shape {shape:?}, this shard takes [1, T, {hidden}]"
            )));
        }
    };
    let found = match tensor.dtype() {
        DType::F32 => Dtype::Float32,
        DType::F16 => Dtype::Float16,
        DType::Bf16 => Dtype::Bfloat16,
        other => {
            return Err(MlxError::Input(format!(
                "the hidden state is {other}, this shard takes float32, float16 or bfloat16"
            )));
        }
    };
    let shape = [positions, hidden].map(i32::try_from);
    let [Ok(positions), Ok(hidden)] = shape else {
        return Err(MlxError::Input(format!(
            "a hidden state of {positions} positions is too long"
        )));
    };
    from_bytes(tensor.data(), &[1, positions, hidden], found)
        .and_then(|array| array.as_dtype(dtype))
        .map_err(|error| MlxError::mlx("taking in a hidden state", error))
}

/// Hidden states in `data`, `[1, positions, hidden]` of `dtype`, for the next stage.
pub(crate) fn to_tensor(
    data: Vec<u8>,
    positions: usize,
    hidden: usize,
    dtype: Dtype,
) -> std::result::Result<Tensor, MlxError> {
    let dtype = match dtype {
        Dtype::Float16 => DType::F16,
        Dtype::Bfloat16 => DType::Bf16,
        _ => DType::F32,
    };
    Tensor::new(dtype, vec![1, positions, hidden], Bytes::from(data))
        .map_err(|error| MlxError::mlx("giving out a hidden state", error))
}
