//! Tensors as they travel: a dtype, a shape and little-endian row-major bytes.

mod cast;

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;

/// Element types that may travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// One byte, zero or one.
    Bool,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 64-bit unsigned integer.
    U64,
    /// IEEE half precision.
    F16,
    /// bfloat16: the upper half of an `f32`.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Two `f32`: real and imaginary part.
    Complex64,
}

impl DType {
    /// Every dtype, in the order of its name table.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::Bf16,
        Self::F32,
        Self::F64,
        Self::Complex64,
    ];

    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 | Self::Complex64 => 8,
        }
    }

    /// The name without any family prefix, such as `float32`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::Complex64 => "complex64",
        }
    }

    /// Reads a name of either family: `float32`, `mlx.core.float32`, also with the prefixes
    /// `torch.` and `numpy.`, and `bool_`. `None` for anything else: a guess would be garbage.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let bare = ["mlx.core.", "torch.", "numpy."]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        if bare == "bool_" {
            return Some(Self::Bool);
        }
        Self::ALL.into_iter().find(|dtype| dtype.name() == bare)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the two vocabularies of dtype names a peer writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DTypeFamily {
    /// `float32`: every platform but Apple Silicon.
    #[default]
    Numpy,
    /// `mlx.core.float32`: Apple Silicon.
    Mlx,
}

impl DTypeFamily {
    /// The family of a name as it came.
    #[must_use]
    pub fn of(name: &str) -> Self {
        if name.starts_with("mlx.core.") {
            Self::Mlx
        } else {
            Self::Numpy
        }
    }

    /// What stands before the bare name.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Numpy => "",
            Self::Mlx => "mlx.core.",
        }
    }
}

/// A tensor: `data` holds exactly `shape × dtype` bytes, row-major, little-endian.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    dtype: DType,
    family: DTypeFamily,
    shape: Vec<usize>,
    data: Bytes,
}

/// Why bytes and description do not make a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The dtype's name is in neither vocabulary.
    #[error("unknown dtype {0:?}")]
    UnknownDType(String),
    /// The byte count is not `shape × dtype`.
    #[error("a {dtype} tensor of shape {shape:?} takes {expected} bytes, {got} came")]
    Size {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes that shape and dtype ask for.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The shape's product overflows, or it has too many dimensions.
    #[error("shape {0:?} is too large")]
    Shape(Vec<usize>),
}

impl Tensor {
    /// The most dimensions a tensor may have.
    pub const MAX_DIMENSIONS: usize = 8;

    /// A tensor of `dtype` and `shape` over `data`.
    ///
    /// # Errors
    /// [`TensorError::Shape`] and [`TensorError::Size`].
    pub fn new(dtype: DType, shape: Vec<usize>, data: Bytes) -> Result<Self, TensorError> {
        let expected = if shape.len() > Self::MAX_DIMENSIONS {
            None
        } else {
            shape
                .iter()
                .try_fold(dtype.size(), |bytes, &n| bytes.checked_mul(n))
        };
        let Some(expected) = expected else {
            return Err(TensorError::Shape(shape));
        };
        if expected != data.len() {
            return Err(TensorError::Size {
                dtype,
                shape,
                expected,
                got: data.len(),
            });
        }
        Ok(Self {
            dtype,
            family: DTypeFamily::default(),
            shape,
            data,
        })
    }

    /// The same tensor with its dtype spelled in `family`.
    #[must_use]
    pub fn spelled(mut self, family: DTypeFamily) -> Self {
        self.family = family;
        self
    }

    /// Token ids as an `int32` tensor of shape `[1, T]`, the form in which a token goes round.
    #[must_use]
    pub fn from_tokens(tokens: &[u32]) -> Self {
        let data: Vec<u8> = tokens
            .iter()
            .flat_map(|token| token.to_le_bytes())
            .collect();
        Self {
            dtype: DType::I32,
            family: DTypeFamily::default(),
            shape: alloc::vec![1, tokens.len()],
            data: Bytes::from(data),
        }
    }

    /// The elements as token ids: any integer type, any shape, all values in `0..=u32::MAX`.
    #[must_use]
    pub fn to_tokens(&self) -> Option<Vec<u32>> {
        let size = self.dtype.size();
        let signed = match self.dtype {
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => true,
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => false,
            DType::Bool | DType::F16 | DType::Bf16 | DType::F32 | DType::F64 | DType::Complex64 => {
                return None;
            }
        };
        self.data
            .chunks_exact(size)
            .map(|element| {
                let negative = signed && element.last().is_some_and(|&byte| byte & 0x80 != 0);
                if negative {
                    return None;
                }
                let mut wide = [0u8; 8];
                wide.get_mut(..size)?.copy_from_slice(element);
                u32::try_from(u64::from_le_bytes(wide)).ok()
            })
            .collect()
    }

    /// Of a hidden state `[1, T, H]`, or `[1, T]` for `[1, T, 1]`, the rows `from..T`, sharing the
    /// memory. `None` when there are none, or when it is no hidden state.
    #[must_use]
    pub fn rows(&self, from: usize) -> Option<Self> {
        let (rows, width) = match self.shape[..] {
            [1, rows, width] => (rows, width),
            // As the dummy engine counts.
            [1, rows] => (rows, 1),
            _ => return None,
        };
        let left = rows.checked_sub(from).filter(|&left| left > 0)?;
        // At most all of the data, whose size is known to fit.
        let start = from * width * self.dtype.size();
        Some(Self {
            dtype: self.dtype,
            family: self.family,
            shape: alloc::vec![1, left, width],
            data: self.data.slice(start..),
        })
    }

    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// How the dtype's name is spelled on the wire.
    #[must_use]
    pub fn family(&self) -> DTypeFamily {
        self.family
    }

    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bytes.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({}{}, {:?}, {} bytes)",
            self.family.prefix(),
            self.dtype,
            self.shape,
            self.data.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn every_name_reads_back_in_both_families() {
        for dtype in DType::ALL {
            for family in [DTypeFamily::Numpy, DTypeFamily::Mlx] {
                let name = alloc::format!("{}{}", family.prefix(), dtype.name());
                assert_eq!(DType::parse(&name), Some(dtype));
                assert_eq!(DTypeFamily::of(&name), family);
            }
        }
        assert_eq!(DType::parse("float8"), None);
        assert_eq!(DType::parse("mlx.core.mlx.core.int8"), None);
    }

    #[test]
    fn bytes_must_match_shape_and_dtype() {
        assert!(Tensor::new(DType::F32, vec![1, 2], Bytes::from_static(&[0; 8])).is_ok());
        assert!(Tensor::new(DType::F32, vec![], Bytes::from_static(&[0; 4])).is_ok());
        assert!(Tensor::new(DType::F32, vec![0, 9], Bytes::new()).is_ok());
        assert!(matches!(
            Tensor::new(DType::F32, vec![1, 2], Bytes::from_static(&[0; 7])),
            Err(TensorError::Size {
                expected: 8,
                got: 7,
                ..
            })
        ));
        assert!(matches!(
            Tensor::new(DType::F32, vec![usize::MAX, 2], Bytes::new()),
            Err(TensorError::Shape(_))
        ));
    }

    #[test]
    fn tokens_of_any_integer_type() {
        let one = Tensor::new(
            DType::I64,
            vec![1, 1],
            Bytes::from_static(&[7, 1, 0, 0, 0, 0, 0, 0]),
        )
        .expect("8 bytes");
        assert_eq!(one.to_tokens(), Some(vec![263]));
        let negative =
            Tensor::new(DType::I8, vec![1], Bytes::from_static(&[0xff])).expect("1 byte");
        assert_eq!(negative.to_tokens(), None);
        assert_eq!(
            Tensor::from_tokens(&[1, 500]).to_tokens(),
            Some(vec![1, 500])
        );
        let float = Tensor::new(DType::F32, vec![1], Bytes::from_static(&[0; 4])).expect("4 bytes");
        assert_eq!(float.to_tokens(), None);
    }

    #[test]
    fn the_rows_of_a_hidden_state_share_its_memory() {
        let data: Vec<u8> = (0..24).collect();
        let hidden = Tensor::new(DType::F32, vec![1, 3, 2], data.into()).expect("24 bytes");
        assert_eq!(hidden.rows(0).as_ref(), Some(&hidden));
        let two = hidden.rows(1).expect("two rows");
        assert_eq!(two.shape(), [1, 2, 2]);
        assert_eq!(two.data()[..], hidden.data()[8..]);
        assert_eq!(two.data().as_ptr(), hidden.data()[8..].as_ptr());
        assert_eq!(two.rows(1), hidden.rows(2));
        assert_eq!(hidden.rows(3), None);
        assert_eq!(hidden.rows(usize::MAX), None);
        let thin = Tensor::new(DType::F16, vec![1, 2, 0], Bytes::new()).expect("no bytes");
        assert_eq!(
            thin.rows(1).map(|rows| rows.shape().to_vec()),
            Some(vec![1, 1, 0])
        );
        for shape in [
            vec![],
            vec![6],
            vec![3, 2],
            vec![2, 3, 1],
            vec![1, 1, 3, 2],
            vec![1, 0, 2],
        ] {
            let bytes = shape.iter().product::<usize>() * 4;
            let other = Tensor::new(DType::F32, shape, vec![0; bytes].into()).expect("its bytes");
            assert_eq!(other.rows(0), None, "{other:?}");
        }
    }
}
