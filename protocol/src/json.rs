//! JSON as the reference implementation writes and reads it.

mod parse;
mod write;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use parse::{Allowance, JsonSeed, brief};
pub(crate) use write::{write_integer, write_string};

/// A JSON value that keeps its keys' order, as inference states travel through nodes that must
/// not change them.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer. Build it with [`Json::from`], which keeps the variants apart.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// A number with a fraction or an exponent, or an integer beyond 64 bits: the nearest `f64`.
    Float(f64),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// Keys with their values, in the order in which they stand; no key twice.
    Object(Vec<(String, Self)>),
}

/// Why bytes are not a JSON value that a peer may send. Tells position and cause; quotes at most
/// a few characters of what came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(pub(crate) String);

impl Json {
    /// The most values, containers included, that one document may hold. A value costs up to
    /// twenty times its shortest text, so bytes alone are not bound enough.
    pub const MAX_VALUES: u32 = 1 << 20;

    /// Reads one value from UTF-8 text with at most `depth` containers around the innermost one.
    ///
    /// White space around the value is fine, anything else after it is not. Of a key that stands
    /// twice in one object the last value counts, at the first one's place, as in Python.
    /// `NaN` and `Infinity` are not JSON.
    ///
    /// # Errors
    /// When it is not JSON, not UTF-8, nested deeper than `depth` (no `depth` admits more than
    /// 120 levels), holds more than [`Json::MAX_VALUES`] values, an unpaired surrogate escape, or
    /// a number beyond `f64`.
    pub fn parse(bytes: &[u8], depth: usize) -> Result<Self, JsonError> {
        parse::document(bytes, depth, parse::Twins::LastWins)
    }

    /// [`Json::parse`] for files that people write: a key that stands twice stays twice, for the
    /// caller to complain about.
    pub(crate) fn parse_keeping_twins(bytes: &[u8], depth: usize) -> Result<Self, JsonError> {
        parse::document(bytes, depth, parse::Twins::Keep)
    }

    /// Appends the value as Python's `json.dumps` writes it by default: `", "` and `": "` between
    /// items, everything outside printable ASCII as `\uXXXX`, floats in their shortest form.
    ///
    /// A float that is not finite has no JSON form and becomes `null`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::value(out, self);
    }

    /// An object with these keys in this order.
    pub fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// The value at `key`, if this is an object that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The integer, if this is one that fits; a float is none, even a whole one.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Int(value) => u64::try_from(value).ok(),
            Self::Uint(value) => Some(value),
            _ => None,
        }
    }

    /// The integer, if this is one that fits; a float is none, even a whole one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Uint(value) => i64::try_from(value).ok(),
            _ => None,
        }
    }

    /// The number, if this is one; an integer beyond 53 bits comes rounded.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Int(value) => Some(value as f64),
            Self::Uint(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = *self {
            Some(value)
        } else {
            None
        }
    }

    /// The items, if this is a list.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self {
            Some(items)
        } else {
            None
        }
    }

    /// The keys with their values, if this is an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        if let Self::Object(entries) = self {
            Some(entries)
        } else {
            None
        }
    }

    /// What it is, for error messages: `an object`, `a text`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::Uint(_) => "an integer",
            Self::Float(_) => "a fraction",
            Self::String(_) => "a text",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Uint(value), Self::Int)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<i32> for Json {
    fn from(value: i32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Vec<Self>> for Json {
    fn from(items: Vec<Self>) -> Self {
        Self::Array(items)
    }
}

impl<T: Into<Self>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests;
