//! The keys and values of one request on one shard.

use crate::MlxError;
use crate::tensor::size_of;
use exo_models::ModelConfig;
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};
use std::ops::Range;

/// Positions by which a cache grows.
pub(crate) const BLOCK: usize = 256;
/// Positions that a layer with a window keeps beyond what the next one sees, so that a request can
/// go back a little.
pub(crate) const SLACK: usize = 512;

/// What a position takes in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LayerRoom {
    /// Heads, and the widths of a key and of a value.
    heads: usize,
    key: usize,
    value: usize,
    /// How many positions a position sees, if not all.
    window: Option<usize>,
}

/// What the caches of one shard's requests are like.
#[derive(Clone, Debug)]
pub(crate) struct CacheShape {
    layers: Vec<LayerRoom>,
    dtype: Dtype,
    /// The most positions that are added at once.
    chunk: usize,
}

impl CacheShape {
    pub(crate) fn new(config: &ModelConfig, range: Range<u32>, dtype: Dtype, chunk: usize) -> Self {
        let layer = |n| {
            let window = config.layer_kind(n).window.map(|window| window as usize);
            let (heads, key, value) = match &config.latent {
                // One vector for all heads, and the part of their keys that turns.
                Some(latent) => (1, latent.kv_rank, latent.rope_dim),
                None => (config.kv_heads, config.head_dim, config.head_dim),
            };
            LayerRoom {
                heads,
                key,
                value,
                window,
            }
        };
        Self {
            layers: range.map(layer).collect(),
            dtype,
            chunk,
        }
    }

    /// Bytes that a request takes when it has had `positions`.
    pub(crate) fn bytes(&self, positions: usize) -> u64 {
        let layers = self.layers.iter();
        layers.map(|room| self.layer_bytes(room, positions)).sum()
    }

    fn layer_bytes(&self, room: &LayerRoom, positions: usize) -> u64 {
        let numbers = room.heads * (room.key + room.value);
        let bytes = (numbers * size_of(self.dtype)) as u64;
        bytes.saturating_mul(self.room(room, positions) as u64)
    }

    /// Positions for which there is room after `positions`.
    fn room(&self, layer: &LayerRoom, positions: usize) -> usize {
        let all = positions.next_multiple_of(BLOCK);
        match layer.window {
            // Full, it is packed again at most once in a block.
            Some(window) => all.min((window + SLACK + self.chunk).next_multiple_of(BLOCK) + BLOCK),
            None => all,
        }
    }
}

/// The KV cache of a request on a shard: grows by blocks, and in layers with a window not beyond
/// what those need.
pub(crate) struct KvCache {
    shape: CacheShape,
    layers: Vec<LayerCache>,
    /// Positions that all layers have.
    len: usize,
}

/// Keys and values of a layer, `[1, heads, room, width]`.
#[derive(Default)]
struct LayerCache {
    keys: Option<Array>,
    values: Option<Array>,
    /// The position that lies first.
    first: usize,
}

impl KvCache {
    pub(crate) fn new(shape: CacheShape) -> Self {
        let layers = shape.layers.iter().map(|_| LayerCache::default()).collect();
        Self {
            shape,
            layers,
            len: 0,
        }
    }

    /// Positions that are filled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.arrays().map(|array| array.nbytes() as u64).sum()
    }

    /// Bytes it would take with `positions`.
    pub(crate) fn bytes_for(&self, positions: usize) -> u64 {
        self.bytes().max(self.shape.bytes(positions))
    }

    /// Everything that is to be computed.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        let layers = self.layers.iter();
        layers.flat_map(|layer| layer.keys.iter().chain(&layer.values))
    }

    /// Whether the request can go on from `position`, which is at most [`KvCache::len`].
    ///
    /// # Errors
    /// [`MlxError::Forgotten`].
    pub(crate) fn can_return(&self, position: usize) -> std::result::Result<(), MlxError> {
        for (layer, room) in self.layers.iter().zip(&self.shape.layers) {
            if let Some(window) = room.window
                && layer.first > 0
                && position > 0
                && position < layer.first + window - 1
            {
                return Err(MlxError::Forgotten {
                    position,
                    window,
                    first: layer.first,
                });
            }
        }
        Ok(())
    }

    /// Forgets what lies beyond `position`, of which [`KvCache::can_return`] approved.
    pub(crate) fn return_to(&mut self, position: usize) {
        if position == 0 {
            self.layers.fill_with(LayerCache::default);
        }
        self.len = self.len.min(position);
    }

    /// Says that every layer has `count` more positions.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Adds keys and values, `[1, heads, T, width]`, of the next positions of layer `n` of the
    /// shard, and gives all that the last `asked` of them see.
    pub(crate) fn extend(
        &mut self,
        n: usize,
        keys: &Array,
        values: &Array,
        asked: i32,
    ) -> Result<(Array, Array)> {
        let missing = || Exception::custom(format!("the shard has no layer {n}"));
        let room = self.shape.layers.get(n).ok_or_else(missing)?;
        let layer = self.layers.get_mut(n).ok_or_else(missing)?;
        let added = keys.shape().get(2).map_or(0, |&added| added as usize);
        let end = self.len + added;
        layer.make_room(&self.shape, room, self.len, end)?;
        let dtype = self.shape.dtype;
        let (Some(all_keys), Some(all_values)) = (&mut layer.keys, &mut layer.values) else {
            return Err(missing());
        };
        let place = (self.len - layer.first) as i32..(end - layer.first) as i32;
        all_keys.try_index_mut((.., .., place.clone(), ..), keys.as_dtype(dtype)?)?;
        all_values.try_index_mut((.., .., place, ..), values.as_dtype(dtype)?)?;
        let from = match room.window {
            Some(window) => (end + 1).saturating_sub(asked as usize + window),
            None => 0,
        };
        let seen = (from.max(layer.first) - layer.first) as i32..(end - layer.first) as i32;
        Ok((
            all_keys.try_index((.., .., seen.clone(), ..))?,
            all_values.try_index((.., .., seen, ..))?,
        ))
    }
}

impl LayerCache {
    /// Makes room for positions up to `end`, of which `len` are filled; positions that no later one
    /// sees may go.
    fn make_room(
        &mut self,
        shape: &CacheShape,
        layer: &LayerRoom,
        len: usize,
        end: usize,
    ) -> Result<()> {
        let has = self.keys.as_ref().and_then(|keys| keys.shape().get(2));
        let has = has.map_or(0, |&room| room as usize);
        if end - self.first <= has {
            return Ok(());
        }
        let room = shape.room(layer, end);
        let first = match layer.window {
            Some(window) if end > room => len.saturating_sub(window + SLACK).max(self.first),
            _ => self.first,
        };
        if end - first > room {
            return Err(Exception::custom(format!(
                "positions {first}..{end} do not fit into a room of {room}"
            )));
        }
        let kept = (first - self.first) as i32..(len - self.first) as i32;
        let grow = |old: Option<&Array>, width: usize| {
            let empty = (room - kept.len()) as i32;
            let empty = [1, layer.heads as i32, empty, width as i32];
            let empty = zeros_dtype(&empty, shape.dtype)?;
            match old {
                Some(old) if !kept.is_empty() => {
                    let kept = old.try_index((.., .., kept.clone(), ..))?;
                    concatenate(&[kept, empty], 2)
                }
                _ => Ok(empty),
            }
        };
        let keys = grow(self.keys.as_ref(), layer.key)?;
        self.values = Some(grow(self.values.as_ref(), layer.value)?);
        self.keys = Some(keys);
        self.first = first;
        Ok(())
    }
}
