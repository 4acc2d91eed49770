//! Who gets which layers, with the reference's numbers.

use crate::common::{Tally, items, load, same, text};
use crate::fields::shard;
use exo_protocol::id::NodeId;
use exo_protocol::topology::{Partition, map_to_shards, ring_memory_weighted};
use serde_json::{Value, json};

const TABLE: &[(&str, &str)] = &[
    ("no memory", "the reference divides by zero; we share alike"),
    (
        "negative memory",
        "counts as zero; the reference computes shares beyond the whole",
    ),
    (
        "gaps",
        "partitions that do not tile the model; we give every layer once all the same",
    ),
    (
        "empty share",
        "a share below one layer: the reference drops the shard but not the partition, \
      so later nodes look up each other's layers; ours come with their nodes",
    ),
];

#[test]
fn partitions_and_shards_are_the_same() {
    let file = load("partitions.json");
    let mut tally = Tally::default();
    for case in items(&file) {
        let name = text(case, "name");
        let layers = u32::try_from(case["n_layers"].as_u64().expect("a number")).expect("few");
        let model = text(case, "model_id").into();
        let mut theirs = case["partitions"].as_array().map(|list| read(list));
        if let Some(nodes) = case["nodes"].as_object() {
            let nodes: Vec<(NodeId, i64)> = nodes
                .iter()
                .map(|(id, memory)| (id.as_str().into(), memory.as_i64().expect("an integer")))
                .collect();
            let ours = ring_memory_weighted(&nodes);
            let rule = if nodes.iter().any(|node| node.1 < 0) {
                Some("negative memory")
            } else if theirs.is_none() && nodes.iter().all(|node| node.1 == 0) {
                Some("no memory")
            } else {
                None
            };
            tally.judge(
                name,
                theirs.as_ref() == Some(&ours),
                rule,
                format!("{ours:?}"),
            );
            covers(&ours, &nodes, layers);
            theirs = theirs.filter(|_| rule.is_none());
        }
        let Some(partitions) = theirs else { continue };
        let ours = map_to_shards(&partitions, &model, layers);
        let shards: Vec<Value> = ours.iter().map(|(_, ours)| shard(ours)).collect();
        let expected = items(&case["shards"]);
        let equal = shards.len() == expected.len()
            && shards
                .iter()
                .zip(expected)
                .all(|(ours, theirs)| same(ours, theirs));
        let rule = (!tiles(&partitions)).then_some("gaps");
        tally.judge(name, equal, rule, format!("{shards:?}"));
        let Some(told) = case["node_current_shard"].as_object() else {
            continue;
        };
        let told_ours: serde_json::Map<String, Value> = partitions
            .iter()
            .map(|partition| {
                let held = ours.iter().find(|(node, _)| *node == partition.node);
                let held = held.map_or(json!(null), |(_, held)| shard(held));
                (partition.node.to_string(), held)
            })
            .collect();
        let rule = (shards.len() < partitions.len()).then_some("empty share");
        let equal = same(&Value::Object(told.clone()), &Value::Object(told_ours));
        tally.judge(name, equal, rule, format!("{told:?}"));
    }
    tally.finish("partitions", TABLE, &[]);
}

fn read(list: &[Value]) -> Vec<Partition> {
    list.iter()
        .map(|partition| Partition {
            node: text(partition, "node_id").into(),
            start: partition["start"].as_f64().expect("a number"),
            end: partition["end"].as_f64().expect("a number"),
        })
        .collect()
}

fn tiles(partitions: &[Partition]) -> bool {
    partitions.first().is_none_or(|first| first.start == 0.0)
        && partitions
            .windows(2)
            .all(|pair| pair[0].end == pair[1].start)
        && partitions
            .iter()
            .all(|partition| partition.start <= partition.end)
}

/// What holds whatever the reference says: everybody has a partition, every layer is held once.
fn covers(partitions: &[Partition], nodes: &[(NodeId, i64)], layers: u32) {
    assert_eq!(partitions.len(), nodes.len());
    assert!(tiles(partitions));
    let shards = map_to_shards(partitions, &"m".into(), layers);
    let mut next = 0;
    for (_, shard) in shards {
        assert_eq!(shard.start, next);
        next = shard.end + 1;
    }
    assert_eq!(next, if nodes.is_empty() { 0 } else { layers });
}
