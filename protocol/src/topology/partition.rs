//! Who holds which layers: a ring in the order of memory, with the reference's rounding.

use crate::id::{ModelId, NodeId};
use crate::shard::Shard;
use alloc::format;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A node's share of a model, as fractions of its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Who holds it.
    pub node: NodeId,
    /// Where it starts: zero, or the end of the partition before.
    pub start: f64,
    /// Where it ends; rounded to five decimals, so the last end may miss one by some `1e-5`.
    pub end: f64,
}

/// Shares one model among `nodes` by their memory in MiB, the largest first, among equals the
/// larger id (by code points) first.
///
/// The numbers are the reference implementation's, because every node of a ring computes them for
/// itself. Where that fails we go on: a memory below zero counts as zero, and nodes without any
/// memory at all share alike.
#[must_use]
pub fn ring_memory_weighted(nodes: &[(NodeId, i64)]) -> Vec<Partition> {
    let mut ring: Vec<(&NodeId, u64)> = nodes
        .iter()
        .map(|(id, memory)| (id, u64::try_from(*memory).unwrap_or(0)))
        .collect();
    ring.sort_by_key(|&(id, memory)| Reverse((memory, id)));
    if ring.iter().all(|&(_, memory)| memory == 0) {
        for (_, memory) in &mut ring {
            *memory = 1;
        }
    }
    let total: u128 = ring.iter().map(|&(_, memory)| u128::from(memory)).sum();
    let mut start = 0.0;
    ring.into_iter()
        .map(|(id, memory)| {
            let end = round5(start + memory as f64 / total as f64);
            let partition = Partition {
                node: id.clone(),
                start,
                end,
            };
            start = end;
            partition
        })
        .collect()
}

/// Python's `round(value, 5)`: on the exact value, ties to even.
fn round5(value: f64) -> f64 {
    // Formatting rounds the exact decimal expansion, which no product with 1e5 could.
    format!("{value:.5}").parse().unwrap_or(value)
}

/// The layers of each partition: in the given order, every layer exactly once, nodes whose share
/// is less than a layer left out.
///
/// For partitions that tile `0..1`, as [`ring_memory_weighted`] makes them, the shards are the
/// reference implementation's. It leaves empty ones out too but looks shards up by the position of
/// the partition; here each comes with its node.
#[must_use]
pub fn map_to_shards(
    partitions: &[Partition],
    model: &ModelId,
    layers: u32,
) -> Vec<(NodeId, Shard)> {
    let mut next = 0;
    let mut shards = Vec::with_capacity(partitions.len());
    for (index, partition) in partitions.iter().enumerate() {
        // A cast truncates towards zero and saturates, NaN gives zero: never outside `next..=layers`.
        let share = (partition.end * f64::from(layers)) as u32;
        let last = index + 1 == partitions.len();
        let end = if last {
            layers
        } else {
            share.clamp(next, layers)
        };
        if let Some(shard) = Shard::new(model.clone(), next..end, layers) {
            shards.push((partition.node.clone(), shard));
            next = end;
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn rounds_as_python_does() {
        for (value, rounded) in [
            (0.015625, 0.01562),
            (0.046875, 0.04688),
            (0.666_666_666_666_666_6, 0.66667),
            (0.714_285, 0.71428),
            (1.000_005, 1.00001),
            (0.123_455, 0.12345),
            (0.000_005, 0.00001),
            (2.675, 2.675),
            (0.0, 0.0),
        ] {
            assert_eq!(round5(value), rounded, "{value}");
        }
    }

    fn shards(nodes: &[(&str, i64)], layers: u32) -> Vec<(String, u32, u32)> {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|&(id, memory)| (NodeId::from(id), memory))
            .collect();
        map_to_shards(&ring_memory_weighted(&nodes), &ModelId::from("m"), layers)
            .into_iter()
            .map(|(id, shard)| (id.as_str().into(), shard.start, shard.end))
            .collect()
    }

    #[test]
    fn worked_examples() {
        let three = [("a", 3000), ("b", 1000), ("c", 6000)];
        let expected = vec![
            ("c".into(), 0, 8),
            ("a".into(), 9, 13),
            ("b".into(), 14, 15),
        ];
        assert_eq!(shards(&three, 16), expected);
        // The middle one's share rounds to nothing: it is left out and the last keeps its own.
        let small = [("a", 262_144), ("b", 8192), ("c", 8192)];
        assert_eq!(
            shards(&small, 16),
            vec![("a".into(), 0, 14), ("b".into(), 15, 15)]
        );
        assert_eq!(
            shards(&[("a", 0), ("b", -5)], 4),
            vec![("b".into(), 0, 1), ("a".into(), 2, 3)]
        );
        assert_eq!(shards(&[("a", 5)], 0), vec![]);
        assert_eq!(shards(&[], 5), vec![]);
    }

    proptest! {
        #[test]
        fn every_layer_once_in_the_order_of_memory(
            memories in prop::collection::vec(
                prop_oneof![-5..20i64, 0..1_000_000i64, any::<i64>()], 0..40),
            layers in 0..300u32,
        ) {
            let nodes: Vec<(NodeId, i64)> = memories.iter().enumerate()
                .map(|(index, &memory)| (NodeId::from(format!("n{index:02}")), memory)).collect();
            let partitions = ring_memory_weighted(&nodes);
            prop_assert_eq!(partitions.len(), nodes.len());
            let mut order: Vec<(i64, &NodeId)> =
                nodes.iter().map(|(id, memory)| ((*memory).max(0), id)).collect();
            order.sort();
            order.reverse();
            prop_assert!(order.iter().map(|entry| entry.1).eq(partitions.iter().map(|p| &p.node)));
            for pair in partitions.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(pair[0].start <= pair[0].end);
            }
            let shards = map_to_shards(&partitions, &ModelId::from("m"), layers);
            let mut next = 0;
            let mut at = 0;
            for (node, shard) in &shards {
                prop_assert_eq!(shard.start, next);
                prop_assert!(!shard.is_empty());
                next = shard.end + 1;
                let place = partitions.iter().position(|p| &p.node == node).expect("a partition");
                prop_assert!(at == 0 || place >= at);
                at = place + 1;
            }
            let covered = if nodes.is_empty() { 0 } else { layers };
            prop_assert_eq!(next, covered);
        }

        #[test]
        fn odd_partitions_still_cover_every_layer_once(
            bounds in prop::collection::vec((any::<f64>(), -1.0..2.0f64), 1..12),
            layers in 0..100u32,
        ) {
            let partitions: Vec<Partition> = bounds.into_iter().enumerate()
                .map(|(index, (start, end))| {
                    Partition { node: NodeId::from(format!("{index}")), start, end }
                }).collect();
            let shards = map_to_shards(&partitions, &ModelId::from("m"), layers);
            let mut next = 0;
            for (_, shard) in shards {
                prop_assert_eq!(shard.start, next);
                next = shard.end + 1;
            }
            prop_assert_eq!(next, layers);
        }
    }
}
