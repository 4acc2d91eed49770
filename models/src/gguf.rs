//! Our own GGUF reader: versions 2 and 3, little-endian.
//!
//! Files come from strangers. Nothing is allocated by an announced count: lists grow as their bytes
//! are met, so that memory stays within a small multiple of what the file really has. Everything is
//! checked once, in [`Gguf::parse`]; what it returns is owned and cannot be wrong about bounds.

mod reader;
mod value;

use std::{collections::BTreeMap, ops::Range};

use self::reader::Reader;
pub use self::value::{Array, Value};
use crate::weights::WeightKind;

/// The largest alignment that is accepted; real files use 32.
const MAX_ALIGNMENT: u64 = 1 << 20;
/// ggml itself has no more.
const MAX_DIMENSIONS: u32 = 4;
/// Keys and tensor names; the specification's limit for keys.
const MAX_NAME: u64 = 65_535;

/// The header of a GGUF file: metadata, and where each tensor is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// All keys with their values.
    pub metadata: BTreeMap<String, Value>,
    /// All tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// One tensor of a GGUF file, checked against the size of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub kind: WeightKind,
    /// Its dimensions in ggml's order: the first is the contiguous one.
    pub dims: Vec<usize>,
    /// Which bytes of the file it occupies.
    pub bytes: Range<usize>,
}

/// Why bytes are not a GGUF file that this crate reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are something else.
    #[error("it begins with {0:02x?} instead of `GGUF`")]
    Magic([u8; 4]),
    /// A version that is too old or too new, or a big-endian file.
    #[error(
        "its version is {0}; versions 2 and 3 in little-endian order are supported, \
         convert the model again with a current llama.cpp"
    )]
    Version(u32),
    /// The file ends inside the header.
    #[error("it ends at byte {length}, inside {what}: the download may be incomplete")]
    Truncated {
        /// The size of the file.
        length: usize,
        /// What was being read.
        what: String,
    },
    /// A count, a length or an alignment that no sound file has.
    #[error("{what} should be at most {limit}, but is {found}")]
    Limit {
        /// What was being read.
        what: String,
        /// The announced value.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Utf8 {
        /// What was being read.
        what: String,
    },
    /// A metadata value of a type that the format does not define.
    #[error("{what} has the unknown value type {found}")]
    ValueType {
        /// Which value.
        what: String,
        /// The announced type.
        found: u32,
    },
    /// The same key or tensor name twice.
    #[error("{0} is there twice")]
    Duplicate(String),
    /// `general.alignment` is not a power of two.
    #[error("`general.alignment` should be a power of two, but is {0}")]
    Alignment(String),
    /// A tensor type that is unknown or not supported.
    #[error(
        "tensor `{tensor}` is stored as {found}; supported: {}",
        WeightKind::NAMES
    )]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type's name, or its number.
        found: String,
    },
    /// A tensor whose dimensions cannot be.
    #[error("tensor `{tensor}` has the impossible dimensions {dims:?} for {kind}")]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// The announced dimensions.
        dims: Vec<u64>,
        /// How its numbers are stored.
        kind: WeightKind,
    },
    /// A tensor outside the file.
    #[error(
        "tensor `{tensor}` would begin at byte {start} and take {bytes}, but the file has only \
         {length}: the download may be incomplete, fetch the file again"
    )]
    Bounds {
        /// The tensor.
        tensor: String,
        /// Its first byte.
        start: u64,
        /// Its size.
        bytes: u64,
        /// The size of the file.
        length: usize,
    },
}

impl Gguf {
    /// Reads the header of a GGUF file. `bytes` is the whole file (a map will do: only the header's
    /// pages are touched).
    pub fn parse(bytes: &[u8]) -> Result<Self, GgufError> {
        Self::parse_beginning(bytes, bytes.len())
    }

    /// Reads the header of a file of `length` bytes, of which `bytes` are the first.
    pub(crate) fn parse_beginning(bytes: &[u8], length: usize) -> Result<Self, GgufError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.array("the magic")?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        let version = reader.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = reader.u64("the tensor count")?;
        let metadata_count = reader.u64("the metadata count")?;

        let mut metadata = BTreeMap::new();
        for index in 0..metadata_count {
            let key = reader.string(MAX_NAME, format_args!("metadata key {index}"))?;
            let value = Value::read(&mut reader, &key)?;
            if metadata.contains_key(&key) {
                return Err(GgufError::Duplicate(format!("metadata key `{key}`")));
            }
            metadata.insert(key, value);
        }

        let mut announced = Vec::new();
        for index in 0..tensor_count {
            announced.push(Announced::read(&mut reader, index)?);
        }
        let alignment = alignment(&metadata)?;
        let data_start = (reader.position() as u64).next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for tensor in announced {
            let info = tensor.check(data_start, length)?;
            if tensors.contains_key(&tensor.name) {
                return Err(GgufError::Duplicate(format!("tensor `{}`", tensor.name)));
            }
            tensors.insert(tensor.name, info);
        }
        Ok(Self {
            version,
            metadata,
            tensors,
        })
    }
}

impl Gguf {
    /// Tensors that belong to no layer and say how positions turn: they are read as the metadata is.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let tensors = self.tensors.iter();
        tensors
            .filter(|(name, _)| name.starts_with("rope_"))
            .map(|(name, tensor)| (name.as_str(), tensor.bytes.clone()))
    }
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(32);
    };
    match value.as_u64() {
        Some(n) if n > MAX_ALIGNMENT => Err(GgufError::Limit {
            what: "`general.alignment`".to_owned(),
            found: n,
            limit: MAX_ALIGNMENT,
        }),
        Some(n) if n.is_power_of_two() => Ok(n),
        _ => Err(GgufError::Alignment(value.to_string())),
    }
}

/// A tensor as the header has it, before anything about it is believed.
struct Announced {
    name: String,
    dims: Vec<u64>,
    kind: WeightKind,
    offset: u64,
}

impl Announced {
    fn read(reader: &mut Reader<'_>, index: u64) -> Result<Self, GgufError> {
        let name = reader.string(MAX_NAME, format_args!("the name of tensor {index}"))?;
        let count = reader.u32("a tensor's dimensions")?;
        if count > MAX_DIMENSIONS {
            return Err(GgufError::Limit {
                what: format!("the number of dimensions of tensor `{name}`"),
                found: count.into(),
                limit: MAX_DIMENSIONS.into(),
            });
        }
        let mut dims = Vec::new();
        for _ in 0..count {
            dims.push(reader.u64("a tensor's dimensions")?);
        }
        let number = reader.u32("a tensor's type")?;
        let kind = kind(number).ok_or_else(|| GgufError::TensorType {
            tensor: name.clone(),
            found: kind_name(number),
        })?;
        let offset = reader.u64("a tensor's offset")?;
        Ok(Self {
            name,
            dims,
            kind,
            offset,
        })
    }

    fn check(&self, data_start: u64, length: usize) -> Result<TensorInfo, GgufError> {
        let impossible = || GgufError::Dimensions {
            tensor: self.name.clone(),
            dims: self.dims.clone(),
            kind: self.kind,
        };
        let dims = self
            .dims
            .iter()
            .map(|&n| usize::try_from(n).ok().filter(|&n| n > 0))
            .collect::<Option<Vec<usize>>>()
            .ok_or_else(impossible)?;
        let (&cols, rest) = dims.split_first().ok_or_else(impossible)?;
        let bytes = rest
            .iter()
            .try_fold(1_usize, |rows, &n| rows.checked_mul(n))
            .zip(self.kind.row_bytes(cols))
            .and_then(|(rows, row)| rows.checked_mul(row))
            .ok_or_else(impossible)?;
        let start = data_start.saturating_add(self.offset);
        let range = usize::try_from(start)
            .ok()
            .and_then(|start| Some(start..start.checked_add(bytes)?))
            .filter(|range| range.end <= length)
            .ok_or_else(|| GgufError::Bounds {
                tensor: self.name.clone(),
                start,
                bytes: bytes as u64,
                length,
            })?;
        Ok(TensorInfo {
            kind: self.kind,
            dims,
            bytes: range,
        })
    }
}

/// ggml's numbers of the types that we read.
fn kind(number: u32) -> Option<WeightKind> {
    Some(match number {
        0 => WeightKind::F32,
        1 => WeightKind::F16,
        2 => WeightKind::Q4_0,
        3 => WeightKind::Q4_1,
        6 => WeightKind::Q5_0,
        7 => WeightKind::Q5_1,
        8 => WeightKind::Q8_0,
        12 => WeightKind::Q4K,
        13 => WeightKind::Q5K,
        14 => WeightKind::Q6K,
        30 => WeightKind::Bf16,
        _ => return None,
    })
}

/// The names of the types that we do not read, for the message that says so.
fn kind_name(number: u32) -> String {
    let name = match number {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("type number {number}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
