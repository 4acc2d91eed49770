//! What a model costs the nodes that hold it: bytes of weights, of KV caches, of what travels.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

/// The sizes of a model that placement goes by. Zeros and an empty list where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelCost {
    /// Bytes of weights of each layer in order; empty when unknown.
    pub layers: Vec<u64>,
    /// Bytes of weights of all layers together that one position goes through, where that is less
    /// than all of them because it uses a few of many experts; zero when it uses all.
    pub used: u64,
    /// Bytes of the embedding, which goes with the first layer.
    pub embedding: u64,
    /// Bytes of the final norm and of what makes logits, which go with the last layer.
    pub head: u64,
    /// The head's weights are the embedding's: a node with both ends holds them once.
    pub tied: bool,
    /// Bytes of KV cache for each position in each layer.
    pub kv: u64,
    /// Width of a hidden state, in elements.
    pub hidden: u32,
}

/// What a stage takes of its node's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageBytes {
    /// The weights of its layers, and of the model's ends if it has them.
    pub weights: u64,
    /// The KV cache of one request at its longest.
    pub kv: u64,
    /// Hidden states and what is computed from them on the way.
    pub activations: u64,
}

impl StageBytes {
    /// All together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let both = self.weights.saturating_add(self.kv);
        both.saturating_add(self.activations)
    }
}

/// Vectors of the hidden width that a stage keeps for each position of a piece while it computes:
/// the hidden state, its norm, queries, keys, values, and an inner layer of four times the width.
const VECTORS: u64 = 9;

/// Bytes of an element of a hidden state; `float32` is what engines compute in.
const ELEMENT: u64 = 4;

impl ModelCost {
    /// The most layers of a model that is placed by its costs.
    pub const MOST_LAYERS: u32 = 4096;

    /// A model of which only the bytes of all weights are known: all layers alike, no ends.
    #[must_use]
    pub fn uniform(layers: u32, bytes: u64) -> Self {
        if bytes == 0 || !(1..=Self::MOST_LAYERS).contains(&layers) {
            return Self::default();
        }
        let count = usize::try_from(layers).unwrap_or(usize::MAX);
        Self {
            layers: vec![bytes.div_ceil(layers.into()); count],
            ..Self::default()
        }
    }

    /// Whether it says anything of a model of so many layers.
    #[must_use]
    pub fn tells(&self, layers: u32) -> bool {
        let right = u32::try_from(self.layers.len()) == Ok(layers);
        right && (1..=Self::MOST_LAYERS).contains(&layers)
    }

    /// Bytes of the largest layer.
    pub(crate) fn largest(&self) -> u64 {
        self.layers.iter().copied().max().unwrap_or(0)
    }

    /// Bytes of all layers.
    fn all(&self) -> u64 {
        let layers = self.layers.iter();
        layers.fold(0, |sum: u64, &bytes| sum.saturating_add(bytes))
    }

    /// Bytes of a layer on average that a position goes through, rounded up.
    pub(crate) fn average(&self) -> u64 {
        let all = self.all();
        let used = if self.used == 0 {
            all
        } else {
            self.used.min(all)
        };
        used.div_ceil(self.layers.len().max(1) as u64)
    }

    /// How much of its layers a position goes through, in millionths; zero for all of them.
    pub(crate) fn share(&self) -> u32 {
        const WHOLE: u128 = 1_000_000;
        let share = (u128::from(self.used) * WHOLE).checked_div(self.all().into());
        let share = share.filter(|share| (1..WHOLE).contains(share));
        share
            .and_then(|share| u32::try_from(share).ok())
            .unwrap_or(0)
    }

    /// Bytes of the ends that a stage has.
    pub(crate) fn ends(&self, first: bool, last: bool) -> u64 {
        let shared = first && last && self.tied;
        let embedding = if first && !shared { self.embedding } else { 0 };
        let head = if last { self.head } else { 0 };
        if shared {
            self.head.max(self.embedding)
        } else {
            head.saturating_add(embedding)
        }
    }

    /// Bytes of all weights on one node.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.all().saturating_add(self.ends(true, true))
    }

    /// Bytes of a hidden state of one position on its way.
    #[must_use]
    pub fn hidden_bytes(&self) -> u64 {
        u64::from(self.hidden) * ELEMENT
    }

    /// What the layers of `range` need for a request of `positions` that is computed in pieces of
    /// `piece`.
    #[must_use]
    pub fn stage(&self, range: Range<u32>, positions: u32, piece: u32) -> StageBytes {
        let index = |layer| usize::try_from(layer).unwrap_or(usize::MAX);
        let (from, to) = (index(range.start), index(range.end));
        let own = self.layers.get(from..to.max(from)).unwrap_or_default();
        let layers = own
            .iter()
            .fold(0, |sum: u64, &bytes| sum.saturating_add(bytes));
        let ends = self.ends(range.start == 0, to == self.layers.len());
        let positions = u64::from(positions).saturating_mul(self.kv);
        StageBytes {
            weights: layers.saturating_add(ends),
            kv: positions.saturating_mul(own.len() as u64),
            activations: self.activations(piece),
        }
    }

    pub(crate) fn activations(&self, piece: u32) -> u64 {
        let vectors = self.hidden_bytes().saturating_mul(VECTORS);
        vectors.saturating_mul(piece.into())
    }
}

/// What a node with so many MiB of memory gives to one model: all but a sixteenth, which is at most
/// 512 MiB, for whatever else an engine and a node keep.
#[must_use]
pub fn budget(memory: i64) -> u64 {
    const MOST_RESERVE: u64 = 512 << 20;
    let bytes = u64::try_from(memory).unwrap_or(0).saturating_mul(1 << 20);
    bytes - (bytes / 16).min(MOST_RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_needs_its_layers_and_the_ends_that_it_has() {
        let mut cost = ModelCost {
            layers: vec![10, 20, 30, 40],
            used: 0,
            embedding: 1000,
            head: 1100,
            tied: false,
            kv: 2,
            hidden: 3,
        };
        let weights = |cost: &ModelCost, range| cost.stage(range, 0, 0).weights;
        assert_eq!(weights(&cost, 0..2), 1030);
        assert_eq!(weights(&cost, 1..3), 50);
        assert_eq!(weights(&cost, 2..4), 1170);
        assert_eq!(weights(&cost, 0..4), 2200);
        cost.tied = true;
        assert_eq!(
            weights(&cost, 0..2),
            1030,
            "tied weights stand at both ends"
        );
        assert_eq!(weights(&cost, 2..4), 1170);
        assert_eq!(weights(&cost, 0..4), 1200, "and once where both ends are");
        assert_eq!(cost.total(), 1200);
        let stage = cost.stage(1..4, 5, 7);
        assert_eq!(stage.kv, 2 * 5 * 3);
        assert_eq!(stage.activations, 3 * 4 * 9 * 7);
        assert_eq!(stage.sum(), 90 + 1100 + 30 + 756);
        assert_eq!(weights(&cost, 3..9), 0, "there are no such layers");
    }

    #[test]
    fn what_is_not_known_is_said_so() {
        assert!(!ModelCost::default().tells(0));
        assert!(!ModelCost::uniform(8, 0).tells(8));
        assert!(!ModelCost::uniform(u32::MAX, 1).tells(u32::MAX));
        let cost = ModelCost::uniform(8, 100);
        assert!(cost.tells(8) && !cost.tells(9));
        assert_eq!(
            (cost.largest(), cost.average(), cost.total()),
            (13, 13, 104)
        );
    }

    #[test]
    fn a_reserve_stays_free() {
        assert_eq!(budget(-1), 0);
        assert_eq!(budget(16), 15 << 20);
        assert_eq!(budget(65_536), (65_536 - 512) << 20);
        assert_eq!(budget(i64::MAX), u64::MAX - (512 << 20));
    }
}
