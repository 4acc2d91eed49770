//! Metadata values.

use std::fmt;

use super::{GgufError, reader::Reader};

/// Texts: the longest real ones are chat templates.
const MAX_STRING: u64 = 16 << 20;
/// The format allows arrays of arrays; nobody writes them deeper than two.
const MAX_NESTING: u32 = 4;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants are the format's types, and say all there is to say"
)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A metadata array: all elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    missing_docs,
    reason = "the variants are the format's types, and say all there is to say"
)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Self>),
}

/// The format's numbers for its types.
mod code {
    pub(super) const U8: u32 = 0;
    pub(super) const I8: u32 = 1;
    pub(super) const U16: u32 = 2;
    pub(super) const I16: u32 = 3;
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const U64: u32 = 10;
    pub(super) const I64: u32 = 11;
    pub(super) const F64: u32 = 12;
}

impl Value {
    pub(super) fn read(reader: &mut Reader<'_>, key: &str) -> Result<Self, GgufError> {
        let what = format_args!("the value of `{key}`");
        Ok(match reader.u32(what)? {
            code::U8 => Self::U8(u8::from_le_bytes(reader.array(what)?)),
            code::I8 => Self::I8(i8::from_le_bytes(reader.array(what)?)),
            code::U16 => Self::U16(u16::from_le_bytes(reader.array(what)?)),
            code::I16 => Self::I16(i16::from_le_bytes(reader.array(what)?)),
            code::U32 => Self::U32(u32::from_le_bytes(reader.array(what)?)),
            code::I32 => Self::I32(i32::from_le_bytes(reader.array(what)?)),
            code::U64 => Self::U64(u64::from_le_bytes(reader.array(what)?)),
            code::I64 => Self::I64(i64::from_le_bytes(reader.array(what)?)),
            code::F32 => Self::F32(f32::from_le_bytes(reader.array(what)?)),
            code::F64 => Self::F64(f64::from_le_bytes(reader.array(what)?)),
            code::BOOL => Self::Bool(reader.array::<1>(what)? != [0]),
            code::STRING => Self::String(reader.string(MAX_STRING, what)?),
            code::ARRAY => Self::Array(Array::read(reader, key, 1)?),
            found => {
                return Err(GgufError::ValueType {
                    what: what.to_string(),
                    found,
                });
            }
        })
    }

    /// Any whole number that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::U64(n) => Some(n),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// Either floating-point type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(b) => Some(b),
            _ => None,
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::String(texts)) => Some(texts),
            _ => None,
        }
    }

    /// A list of whole numbers of either 32-bit type, which is what writers use.
    pub fn as_ints(&self) -> Option<Vec<i64>> {
        match self {
            Self::Array(Array::I32(list)) => Some(list.iter().map(|&n| n.into()).collect()),
            Self::Array(Array::U32(list)) => Some(list.iter().map(|&n| n.into()).collect()),
            _ => None,
        }
    }
}

impl Array {
    fn read(reader: &mut Reader<'_>, key: &str, depth: u32) -> Result<Self, GgufError> {
        let what = format_args!("the value of `{key}`");
        if depth > MAX_NESTING {
            return Err(GgufError::Limit {
                what: format!("the nesting of {what}"),
                found: depth.into(),
                limit: MAX_NESTING.into(),
            });
        }
        let element = reader.u32(what)?;
        let count = reader.u64(what)?;

        /// The bytes are taken first, so that the list is no longer than the file can fill.
        macro_rules! numbers {
            ($variant:ident, $number:ty) => {{
                const SIZE: usize = size_of::<$number>();
                let (chunks, _) = reader.take(count, SIZE, what)?.as_chunks::<SIZE>();
                Self::$variant(
                    chunks
                        .iter()
                        .map(|&bytes| <$number>::from_le_bytes(bytes))
                        .collect(),
                )
            }};
        }

        Ok(match element {
            code::U8 => numbers!(U8, u8),
            code::I8 => numbers!(I8, i8),
            code::U16 => numbers!(U16, u16),
            code::I16 => numbers!(I16, i16),
            code::U32 => numbers!(U32, u32),
            code::I32 => numbers!(I32, i32),
            code::U64 => numbers!(U64, u64),
            code::I64 => numbers!(I64, i64),
            code::F32 => numbers!(F32, f32),
            code::F64 => numbers!(F64, f64),
            code::BOOL => Self::Bool(
                reader
                    .take(count, 1, what)?
                    .iter()
                    .map(|&byte| byte != 0)
                    .collect(),
            ),
            code::STRING => {
                let mut texts = Vec::new();
                for index in 0..count {
                    let what = format_args!("element {index} of `{key}`");
                    texts.push(reader.string(MAX_STRING, what)?);
                }
                Self::String(texts)
            }
            code::ARRAY => {
                let mut arrays = Vec::new();
                for _ in 0..count {
                    arrays.push(Self::read(reader, key, depth + 1)?);
                }
                Self::Array(arrays)
            }
            found => {
                return Err(GgufError::ValueType {
                    what: what.to_string(),
                    found,
                });
            }
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::U8(list) => list.len(),
            Self::I8(list) => list.len(),
            Self::U16(list) => list.len(),
            Self::I16(list) => list.len(),
            Self::U32(list) => list.len(),
            Self::I32(list) => list.len(),
            Self::U64(list) => list.len(),
            Self::I64(list) => list.len(),
            Self::F32(list) => list.len(),
            Self::F64(list) => list.len(),
            Self::Bool(list) => list.len(),
            Self::String(list) => list.len(),
            Self::Array(list) => list.len(),
        }
    }
}

/// For error messages: lists are summed up.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(n) => n.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U64(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(x) => x.fmt(f),
            Self::F64(x) => x.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Array(array) => write!(f, "a list of {} values", array.len()),
        }
    }
}
