//! The keys and values of one request on one shard.

use crate::kernels::PAGE;
use std::collections::TryReserveError;

/// What a position takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

impl KvShape {
    /// Halves of one head in one layer's part of a page.
    fn head(self) -> usize {
        self.head_dim * PAGE
    }

    fn page(self) -> usize {
        self.layers * self.heads * 2 * self.head()
    }

    /// Bytes that `positions` take, in whole pages.
    pub(crate) fn bytes(self, positions: usize) -> u64 {
        (positions.div_ceil(PAGE) as u64).saturating_mul(2 * self.page() as u64)
    }
}

/// A KV cache: pages of [`PAGE`] positions in half precision, which halves both its memory and the
/// traffic of long contexts. Growing never moves what is there.
///
/// In a page, each layer's head has its keys as `[element][position]`, so that one query is
/// compared with many keys at once, then its values as `[position][element]`.
#[derive(Debug)]
pub(crate) struct Kv {
    shape: KvShape,
    pages: Vec<Vec<u16>>,
    len: usize,
}

impl Kv {
    pub(crate) fn new(shape: KvShape) -> Self {
        Self {
            shape,
            pages: Vec::new(),
            len: 0,
        }
    }

    /// Positions that are filled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Says that the first `len` positions are filled, and no others.
    pub(crate) fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.pages.len() * PAGE, "positions without pages");
        self.len = len;
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.shape.bytes(self.pages.len() * PAGE)
    }

    /// Bytes it would take with room for `positions`.
    pub(crate) fn bytes_for(&self, positions: usize) -> u64 {
        self.bytes().max(self.shape.bytes(positions))
    }

    /// Makes room for `positions` in all. What is there stays, also on failure.
    pub(crate) fn reserve(&mut self, positions: usize) -> Result<(), TryReserveError> {
        let pages = positions.div_ceil(PAGE);
        while self.pages.len() < pages {
            let mut page = Vec::new();
            page.try_reserve_exact(self.shape.page())?;
            page.resize(self.shape.page(), 0);
            self.pages.try_reserve(1)?;
            self.pages.push(page);
        }
        Ok(())
    }

    /// Gives back the pages after the first `positions`, or after the filled ones if those are
    /// more.
    pub(crate) fn trim(&mut self, positions: usize) {
        self.pages.truncate(positions.max(self.len).div_ceil(PAGE));
    }

    fn at(&self, layer: usize, head: usize) -> usize {
        (layer * self.shape.heads + head) * 2 * self.shape.head()
    }

    /// Stores the keys and values of all heads at `position`, for which there is room.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (size, slot) = (self.shape.head(), position % PAGE);
        for (head, (keys, values)) in keys
            .chunks_exact(self.shape.head_dim)
            .zip(values.chunks_exact(self.shape.head_dim))
            .enumerate()
        {
            let at = self.at(layer, head);
            let page = &mut self.pages[position / PAGE][at..at + 2 * size];
            let (key_page, value_page) = page.split_at_mut(size);
            for (column, key) in key_page.chunks_exact_mut(PAGE).zip(keys) {
                column[slot] = narrow(*key);
            }
            let row = &mut value_page[slot * keys.len()..][..keys.len()];
            for (half, value) in row.iter_mut().zip(values) {
                *half = narrow(*value);
            }
        }
    }

    /// Keys of a page, `[element][position]`.
    pub(crate) fn keys(&self, layer: usize, head: usize, page: usize) -> &[u16] {
        &self.pages[page][self.at(layer, head)..][..self.shape.head()]
    }

    /// Values of a page, `[position][element]`.
    pub(crate) fn values(&self, layer: usize, head: usize, page: usize) -> &[u16] {
        &self.pages[page][self.at(layer, head) + self.shape.head()..][..self.shape.head()]
    }
}

/// To half precision, ties to even; what is too large becomes the largest.
fn narrow(value: f32) -> u16 {
    half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits()
}
