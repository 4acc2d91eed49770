//! Layers that a person gave to nodes.

use crate::id::{ModelId, NodeId};
use crate::shard::Shard;
use alloc::vec::Vec;

/// Layers that one node is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Who.
    pub node: NodeId,
    /// The first layer, counted from zero.
    pub first: u32,
    /// The last one, inclusive.
    pub last: u32,
}

/// Why pins are no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Nobody has some layers.
    #[error("nobody has layers {first}-{last}")]
    Missing {
        /// The first of them.
        first: u32,
        /// The last of them.
        last: u32,
    },
    /// Two nodes have the same layers.
    #[error("layers {first}-{last} are given to {one} and to {other}")]
    Overlap {
        /// The first of them.
        first: u32,
        /// The last of them.
        last: u32,
        /// One.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// A node stands there twice.
    #[error("{0} is named twice: a node has one range of layers")]
    Twice(NodeId),
    /// A range ends before it begins.
    #[error("{node}={first}-{last} is no range of layers: the first comes first")]
    Backwards {
        /// Whose.
        node: NodeId,
        /// The first layer.
        first: u32,
        /// The last layer.
        last: u32,
    },
    /// The model has fewer layers.
    #[error("{node} is given layer {last}, the model has layers 0-{end}")]
    Beyond {
        /// Who.
        node: NodeId,
        /// The last layer that it was given.
        last: u32,
        /// The last layer of the model.
        end: u32,
    },
}

/// Pins in the order of their layers, if they leave no gap between them.
///
/// # Errors
/// Which layers are missing or given twice.
pub fn in_order(pins: &[Pin]) -> Result<Vec<Pin>, PinError> {
    let mut pins = pins.to_vec();
    pins.sort_by_key(|pin| pin.first);
    let mut next = 0;
    let mut before: Option<&Pin> = None;
    for (at, pin) in pins.iter().enumerate() {
        let (first, last) = (pin.first, pin.last);
        if last < first {
            let node = pin.node.clone();
            return Err(PinError::Backwards { node, first, last });
        }
        if pins.iter().take(at).any(|other| other.node == pin.node) {
            return Err(PinError::Twice(pin.node.clone()));
        }
        if first > next {
            let last = first - 1;
            return Err(PinError::Missing { first: next, last });
        }
        if let Some(before) = before.filter(|_| first < next) {
            return Err(PinError::Overlap {
                first,
                last: last.min(before.last),
                one: before.node.clone(),
                other: pin.node.clone(),
            });
        }
        next = last.saturating_add(1);
        before = Some(pin);
    }
    Ok(pins)
}

/// The ring that pins make for a model.
///
/// # Errors
/// Which layers are missing, given twice, or not there.
pub fn ring(pins: &[Pin], model: &ModelId, layers: u32) -> Result<Vec<(NodeId, Shard)>, PinError> {
    let pins = in_order(pins)?;
    let end = layers.saturating_sub(1);
    let mut ring = Vec::with_capacity(pins.len());
    for pin in pins {
        let range = pin.first..pin.last.saturating_add(1);
        let Some(shard) = Shard::new(model.clone(), range, layers) else {
            let Pin { node, last, .. } = pin;
            return Err(PinError::Beyond { node, last, end });
        };
        ring.push((pin.node, shard));
    }
    let next = ring
        .last()
        .map_or(0, |(_, shard)| shard.end.saturating_add(1));
    if next < layers {
        return Err(PinError::Missing {
            first: next,
            last: end,
        });
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    fn pins(of: &[(&str, u32, u32)]) -> Vec<Pin> {
        let pin = |&(node, first, last): &(&str, u32, u32)| Pin {
            node: node.into(),
            first,
            last,
        };
        of.iter().map(pin).collect()
    }

    fn told(of: &[(&str, u32, u32)]) -> Result<Vec<String>, String> {
        let ring = ring(&pins(of), &"m".into(), 8).map_err(|error| error.to_string())?;
        let stage = |(node, shard): &(NodeId, Shard)| format!("{node} {:?}", shard.range());
        Ok(ring.iter().map(stage).collect())
    }

    #[test]
    fn pins_that_tile_the_model_are_a_ring() {
        let expected = vec![String::from("b 0..5"), String::from("a 5..8")];
        assert_eq!(told(&[("a", 5, 7), ("b", 0, 4)]), Ok(expected));
        assert_eq!(told(&[("a", 0, 7)]), Ok(vec![String::from("a 0..8")]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, error) in [
            (&[][..], "nobody has layers 0-7"),
            (&[("a", 0, 4)], "nobody has layers 5-7"),
            (&[("a", 2, 7)], "nobody has layers 0-1"),
            (&[("a", 0, 2), ("b", 5, 7)], "nobody has layers 3-4"),
            (
                &[("a", 0, 4), ("b", 3, 7)],
                "layers 3-4 are given to a and to b",
            ),
            (
                &[("a", 0, 7), ("b", 3, 4)],
                "layers 3-4 are given to a and to b",
            ),
            (
                &[("a", 0, 3), ("a", 4, 7)],
                "a is named twice: a node has one range of layers",
            ),
            (
                &[("a", 4, 3)],
                "a=4-3 is no range of layers: the first comes first",
            ),
            (
                &[("a", 0, 8)],
                "a is given layer 8, the model has layers 0-7",
            ),
            (
                &[("a", 0, u32::MAX)],
                "a is given layer 4294967295, the model has layers 0-7",
            ),
        ] {
            assert_eq!(told(given), Err(error.into()));
        }
    }
}
