//! Views of the ring, operation by operation.

use crate::common::{Tally, items, load, same, sorted, text};
use crate::fields::{capabilities, plain};
use exo_protocol::id::NodeId;
use exo_protocol::topology::Topology;
use exo_protocol::wire::{TopologyReply, WireEdge};
use serde_json::Value;

const TABLE: &[(&str, &str)] = &[
    (
        "text form",
        "how the reference prints a topology; nobody parses it",
    ),
    (
        "no such method",
        "asked of the reference, which does not have it either",
    ),
];

#[test]
fn topologies_become_the_same() {
    let file = load("topology.json");
    let mut tally = Tally::default();
    for case in items(&file) {
        let name = text(case, "name");
        if let Some(steps) = case["steps"].as_array() {
            let mut view = Topology::default();
            for step in steps {
                replay(&mut view, name, step, &mut tally);
            }
        } else if let Some(pairs) = case["pairs"].as_array() {
            for pair in pairs {
                let mut view = Topology::default();
                connect(&mut view, &pair["left"]);
                connect(&mut view, &pair["right"]);
                let edges: usize = view.edges.values().map(|targets| targets.len()).sum();
                tally.judge(name, (edges == 1) == pair["equal"], None, pair);
            }
        } else {
            let view = collect(case);
            compare(&mut tally, name, &view, &case["to_json"]);
        }
    }
    tally.finish("topology", TABLE, &["no such method", "raises"]);
}

fn replay(view: &mut Topology, name: &str, step: &Value, tally: &mut Tally) {
    let id = |key: &str| NodeId::from(text(step, key));
    let raises = step.get("raises").is_some_and(|raises| !raises.is_null());
    match text(step, "op") {
        "get_neighbors" | "all_edges" if raises => tally.explain("no such method", name),
        _ if raises => tally.explain("raises", name),
        "update_node" => view.update_node(id("node_id"), capabilities(&step["capabilities"])),
        "add_edge" => {
            let description = step["description"].as_str().map(str::to_owned);
            view.add_edge(id("from_id"), id("to_id"), description);
        }
        "merge" => view.merge(&id("peer_node_id"), &reply(&step["other"])),
        "set_active" => {
            // Its only argument, whatever that is called.
            let known = ["op", "to_json", "returns", "raises", "note"];
            let mut arguments = step.as_object().expect("a step").iter();
            let argument = arguments.find(|(key, _)| !known.contains(&key.as_str()));
            view.active = argument.and_then(|(_, id)| id.as_str()).map(NodeId::from);
        }
        "get_node" => {
            let found = view.nodes.get(text(step, "node_id"));
            let found = found.map_or(Value::Null, |node| plain(&node.to_json()));
            tally.judge(name, same(&found, &step["returns"]), None, found);
        }
        "all_nodes" => {
            let mut expected: Vec<_> = items(&step["returns"]).iter().collect();
            expected.sort_by_key(|pair| pair[0].as_str());
            let equal = expected.len() == view.nodes.len()
                && expected.iter().zip(&view.nodes).all(|(pair, (id, node))| {
                    pair[0] == id.as_str() && same(&pair[1], &plain(&node.to_json()))
                });
            tally.judge(name, equal, None, step);
        }
        "str" => tally.explain("text form", name),
        other => tally.fail(name, format!("unknown operation {other}")),
    }
    compare(tally, name, view, &step["to_json"]);
}

/// A collection from its parts: ourselves, every peer as configured, and what the asked ones said.
fn collect(case: &Value) -> Topology {
    let own = NodeId::from(text(&case["self"], "id"));
    let mut view = Topology::default();
    view.update_node(own.clone(), capabilities(&case["self"]["capabilities"]));
    for peer in items(&case["peers"]) {
        let id = NodeId::from(text(peer, "id"));
        view.update_node(id.clone(), capabilities(&peer["configured_capabilities"]));
        let description = peer["description"].as_str().map(str::to_owned);
        view.add_edge(own.clone(), id.clone(), description);
        if !items(&peer["was_asked"]).is_empty() && peer["its_topology"].is_object() {
            view.merge(&id, &reply(&peer["its_topology"]));
        }
    }
    // Carried over from the topology before, which the case does not show.
    view.active = case["to_json"]["active_node_id"].as_str().map(NodeId::from);
    view
}

fn reply(other: &Value) -> TopologyReply {
    let nodes = other["nodes"].as_object().expect("nodes");
    let graph = other["peer_graph"].as_object().expect("a graph");
    let edge = |edge: &Value| WireEdge {
        to_id: text(edge, "to_id").into(),
        description: edge["description"].as_str().map(str::to_owned),
        metrics: Default::default(),
    };
    TopologyReply {
        nodes: nodes
            .iter()
            .map(|(id, node)| (id.clone(), capabilities(node)))
            .collect(),
        peer_graph: graph
            .iter()
            .map(|(id, edges)| (id.clone(), items(edges).iter().map(edge).collect()))
            .collect(),
    }
}

fn connect(view: &mut Topology, edge: &Value) {
    let end = |index: usize| NodeId::from(edge[index].as_str().expect("an id"));
    view.add_edge(end(0), end(1), edge[2].as_str().map(str::to_owned));
}

fn compare(tally: &mut Tally, name: &str, view: &Topology, expected: &Value) {
    let ours = sorted(plain(&view.to_json()));
    let equal = same(&ours, &sorted(expected.clone()));
    tally.judge(name, equal, None, format!("{ours} instead of {expected}"));
}
