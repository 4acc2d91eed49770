//! Fields of fixed size, read and written one after another.

use super::super::{DecodeError, MessageType};

/// A payload while it is read from its start. What is fixed is announced by [`Fields::exactly`] or
/// [`Fields::at_least`] first; a field beyond that is the same error.
pub(super) struct Fields<'a> {
    kind: MessageType,
    payload: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a payload that has `length` bytes, no more and no less.
    pub(super) fn exactly(
        kind: MessageType,
        payload: &'a [u8],
        length: usize,
    ) -> Result<Self, DecodeError> {
        if payload.len() != length {
            return Err(DecodeError::Length {
                kind,
                expected: length,
                got: payload.len(),
            });
        }
        Ok(Self::of(kind, payload))
    }

    /// The fields of a payload that starts with `length` bytes of them.
    pub(super) fn at_least(
        kind: MessageType,
        payload: &'a [u8],
        length: usize,
    ) -> Result<Self, DecodeError> {
        if payload.len() < length {
            return Err(DecodeError::TooShort {
                kind,
                least: length,
                got: payload.len(),
            });
        }
        Ok(Self::of(kind, payload))
    }

    fn of(kind: MessageType, payload: &'a [u8]) -> Self {
        Self {
            kind,
            payload,
            at: 0,
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = self.payload.get(self.at..).unwrap_or_default();
        let Some(field) = rest.first_chunk::<N>() else {
            return Err(DecodeError::TooShort {
                kind: self.kind,
                least: self.at + N,
                got: self.payload.len(),
            });
        };
        self.at += N;
        Ok(*field)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A byte in which only the bits of `known` may be set.
    pub(super) fn flags(&mut self, known: u8) -> Result<u8, DecodeError> {
        let got = self.u8()?;
        if got & !known != 0 {
            return Err(DecodeError::Flags {
                kind: self.kind,
                known,
                got,
            });
        }
        Ok(got)
    }

    /// The next `length` bytes.
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        let Some(bytes) = rest.get(..length) else {
            return Err(DecodeError::Truncated {
                kind: self.kind,
                expected: self.at as u64 + length as u64,
                got: self.payload.len(),
            });
        };
        self.at += length;
        Ok(bytes)
    }

    /// Everything that is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.payload.get(self.at..).unwrap_or_default()
    }

    /// Where what is left starts.
    pub(super) fn at(&self) -> usize {
        self.at
    }
}

/// Bytes that must be UTF-8; `what` names the field in the error.
pub(super) fn text<'a>(
    kind: MessageType,
    what: &'static str,
    bytes: &'a [u8],
) -> Result<&'a str, DecodeError> {
    core::str::from_utf8(bytes).map_err(|error| DecodeError::Utf8 {
        kind,
        what,
        valid: error.valid_up_to(),
    })
}
