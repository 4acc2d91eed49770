//! The keys and values of one request on one shard.

use crate::kernels::{Kernels, PAGE};
use crate::options::Precision;
use exo_models::ModelConfig;
use std::collections::TryReserveError;

/// What a position takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// Elements of a head's key.
    pub(crate) key_dim: usize,
    /// Elements of a head's value.
    pub(crate) value_dim: usize,
    pub(crate) precision: Precision,
}

impl KvShape {
    /// What a position takes on `layers` layers of a model.
    pub(crate) fn of(config: &ModelConfig, layers: usize, precision: Precision) -> Self {
        let (heads, key_dim, value_dim) = match config.latent {
            None => (config.kv_heads, config.head_dim, config.head_dim),
            // What was compressed serves all heads, as their keys and as their values.
            Some(latent) => (1, latent.kv_rank + latent.rope_dim, latent.kv_rank),
        };
        Self {
            layers,
            heads,
            key_dim,
            value_dim,
            precision,
        }
    }

    /// Elements of one head in one layer's part of a page.
    fn head(self) -> usize {
        (self.key_dim + self.value_dim) * PAGE
    }

    fn page(self) -> usize {
        self.layers * self.heads * self.head()
    }

    /// Bytes that `positions` take, in whole pages.
    pub(crate) fn bytes(self, positions: usize) -> u64 {
        let element = match self.precision {
            Precision::Mixed => 2,
            Precision::Single => 4,
        };
        (positions.div_ceil(PAGE) as u64).saturating_mul(element * self.page() as u64)
    }
}

/// A KV cache: pages of [`PAGE`] positions, in half precision unless asked otherwise, which halves
/// both its memory and the traffic of long contexts. Growing never moves what is there.
///
/// In a page, each layer's head has its keys as `[element][position]`, so that one query is
/// compared with many keys at once, then its values as `[position][element]`.
#[derive(Debug)]
pub(crate) struct Kv {
    shape: KvShape,
    pages: Vec<Page>,
    len: usize,
}

#[derive(Debug)]
enum Page {
    Half(Vec<u16>),
    Single(Vec<f32>),
}

impl Page {
    fn new(shape: KvShape) -> Result<Self, TryReserveError> {
        fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, TryReserveError> {
            let mut zeros = Vec::new();
            zeros.try_reserve_exact(len)?;
            zeros.resize(len, T::default());
            Ok(zeros)
        }
        Ok(match shape.precision {
            Precision::Mixed => Self::Half(zeros(shape.page())?),
            Precision::Single => Self::Single(zeros(shape.page())?),
        })
    }
}

impl Kv {
    pub(crate) fn new(shape: KvShape) -> Self {
        Self {
            shape,
            pages: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
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
            let page = Page::new(self.shape)?;
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
        (layer * self.shape.heads + head) * self.shape.head()
    }

    /// Stores the keys and values of all heads at `position`, for which there is room.
    pub(crate) fn write(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (shape, start) = (self.shape, self.at(layer, 0));
        match &mut self.pages[position / PAGE] {
            Page::Half(page) => write(shape, &mut page[start..], position, (keys, values), narrow),
            Page::Single(page) => {
                write(shape, &mut page[start..], position, (keys, values), |x| x);
            }
        }
    }

    /// Keys of a page, `[element][position]`. `wide` has room for them.
    pub(crate) fn keys<'a>(
        &'a self,
        (layer, head, page): (usize, usize, usize),
        kernels: &Kernels,
        wide: &'a mut [f32],
    ) -> &'a [f32] {
        self.read(
            page,
            self.at(layer, head),
            self.shape.key_dim,
            kernels,
            wide,
        )
    }

    /// Values of a page, `[position][element]`. `wide` has room for them.
    pub(crate) fn values<'a>(
        &'a self,
        (layer, head, page): (usize, usize, usize),
        kernels: &Kernels,
        wide: &'a mut [f32],
    ) -> &'a [f32] {
        let start = self.at(layer, head) + self.shape.key_dim * PAGE;
        self.read(page, start, self.shape.value_dim, kernels, wide)
    }

    fn read<'a>(
        &'a self,
        page: usize,
        start: usize,
        dim: usize,
        kernels: &Kernels,
        wide: &'a mut [f32],
    ) -> &'a [f32] {
        let len = dim * PAGE;
        match &self.pages[page] {
            Page::Half(halves) => {
                let wide = &mut wide[..len];
                (kernels.widen_f16)(&halves[start..][..len], wide);
                wide
            }
            Page::Single(floats) => &floats[start..][..len],
        }
    }
}

/// Stores one position of all heads of a layer, whose part of the page is `layer`.
fn write<T>(
    shape: KvShape,
    layer: &mut [T],
    position: usize,
    (keys, values): (&[f32], &[f32]),
    to: impl Fn(f32) -> T,
) {
    let slot = position % PAGE;
    let keys = keys.chunks_exact(shape.key_dim);
    let values = values.chunks_exact(shape.value_dim);
    let heads = layer.chunks_exact_mut(shape.head());
    for ((head, keys), values) in heads.zip(keys).zip(values) {
        let (key_page, value_page) = head.split_at_mut(shape.key_dim * PAGE);
        for (column, key) in key_page.chunks_exact_mut(PAGE).zip(keys) {
            column[slot] = to(*key);
        }
        let row = &mut value_page[slot * values.len()..][..values.len()];
        for (stored, value) in row.iter_mut().zip(values) {
            *stored = to(*value);
        }
    }
}

/// To half precision, ties to even; what is too large becomes the largest.
fn narrow(value: f32) -> u16 {
    half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_bits()
}
