//! A contiguous range of one model's layers.

use crate::id::ModelId;
use core::fmt;
use core::ops::Range;

/// The layers `start..=end` of a model with `layers` layers, as every message on the wire names
/// them (`{"model_id", "start_layer", "end_layer", "n_layers"}`, end
/// inclusive).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    /// The model.
    pub model: ModelId,
    /// First layer, counted from zero.
    pub start: u32,
    /// Last layer, inclusive.
    pub end: u32,
    /// Layers of the whole model.
    pub layers: u32,
}

impl Shard {
    /// The shard of `model` that holds `range` of its `layers` layers.
    ///
    /// Returns `None` for an empty range or one that ends past the model.
    #[must_use]
    pub fn new(model: ModelId, range: Range<u32>, layers: u32) -> Option<Self> {
        if range.is_empty() || range.end > layers {
            return None;
        }
        Some(Self {
            model,
            start: range.start,
            end: range.end - 1,
            layers,
        })
    }

    /// The layers as a half-open range.
    #[must_use]
    pub fn range(&self) -> Range<u32> {
        self.start..self.end.saturating_add(1)
    }

    /// How many layers it holds.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.end.saturating_add(1).saturating_sub(self.start)
    }

    /// Whether the fields name no layer at all, as an untrusted peer may write them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 || self.end >= self.layers
    }

    /// Whether it holds the first layer, and so takes tokens.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.start == 0
    }

    /// Whether it holds the last layer, and so samples.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.end.saturating_add(1) == self.layers
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} layers {}-{} of {}",
            self.model, self.start, self.end, self.layers
        )
    }
}
