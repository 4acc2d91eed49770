//! A cursor over untrusted bytes.

use std::fmt::Display;

use super::GgufError;

/// Reads little-endian values; running out of bytes is an error that says inside what.
///
/// `what` is formatted only when there is something to complain about: there are a lot of values.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: impl Display,
    ) -> Result<[u8; N], GgufError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| self.end(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self, what: impl Display) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: impl Display) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// `count` values of `size` bytes each.
    pub(super) fn take(
        &mut self,
        count: u64,
        size: usize,
        what: impl Display,
    ) -> Result<&'a [u8], GgufError> {
        let (taken, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(size))
            .and_then(|bytes| self.rest.split_at_checked(bytes))
            .ok_or_else(|| self.end(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn string(
        &mut self,
        limit: u64,
        what: impl Display + Copy,
    ) -> Result<String, GgufError> {
        let found = self.u64(what)?;
        if found > limit {
            let what = format!("the length of {what}");
            return Err(GgufError::Limit { what, found, limit });
        }
        let bytes = self.take(found, 1, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(GgufError::Utf8 {
                what: what.to_string(),
            }),
        }
    }

    fn end(&self, what: impl Display) -> GgufError {
        GgufError::Truncated {
            length: self.length,
            what: what.to_string(),
        }
    }
}
