//! How nodes on networks find each other.

use super::ALONE;
use super::paths::wait_until_used;
use super::wires::{run, wires};
use exo_tests::process::stand::say;
use exo_tests::process::{Member, NodeProcess, Place, Ring, binary, http};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Instant;

pub(crate) const DUMMY: [&str; 2] = ["--inference-engine", "dummy"];

/// Members of a ring of so many nodes, on both runtimes in turn.
pub(crate) fn members(nodes: u8) -> Vec<Member> {
    let member = |number: u8| Member {
        runtime: if number.is_multiple_of(2) {
            "std"
        } else {
            "smol"
        },
        memory: 4096,
        engine: None,
    };
    (0..nodes).map(member).collect()
}

fn udp(_: usize, _: &Path) -> Vec<String> {
    ["--discovery-module", "udp"].map(str::to_owned).into()
}

/// Asks a node of the ring, and has the answer that any ring gives.
pub(crate) fn answers(node: &NodeProcess) {
    let question = json!({
        "model": "dummy",
        "messages": [{"role": "user", "content": "hi"}],
    });
    let answer = http::post(node.api, "/v1/chat/completions", &question);
    let (status, body) = answer.expect("an HTTP response");
    assert_eq!(
        (status, body.matches("dummydummy").count()),
        (200, 4),
        "{body}"
    );
}

#[test]
fn nodes_on_one_wire_find_each_other() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires("discovery by broadcasts", 5) else {
        return;
    };
    let _built = binary();
    let started = Instant::now();
    let mut ring = Ring::found(&wires.places(), &members(5), &DUMMY, udp);
    say(&format!(
        "five nodes found each other in {:.1?}",
        started.elapsed()
    ));
    answers(&ring.nodes[0]);

    // A cable that is pulled and put back.
    wires.pass(4, false);
    ring.nodes[0].wait_for("the fifth node to be gone", |topology| {
        topology["nodes"]
            .as_object()
            .is_some_and(|nodes| nodes.len() == 4)
    });
    answers(&ring.nodes[1]);
    wires.pass(4, true);
    ring.wait_until_whole();
    answers(&ring.nodes[4]);
}

/// Two nets with a router between them: broadcasts stay on their own, and one node of the first has
/// a file that names one of the second. Both halves and the two that know each other are rings.
#[test]
fn one_named_peer_joins_two_nets() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = "two nets and a router";
    let (Some(near), Some(far)) = (wires(what, 2), wires(what, 2)) else {
        return;
    };
    if let Err(missing) = near.join(&far) {
        say(&format!("SKIPPED: {what}: {missing}"));
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let places = [near.places(), far.places()].concat();
    let file = home.path().join("peers.json");
    let third = SocketAddr::new(far.address(1), 50051);
    let named = json!({"peers": {"node-3": {"address": third.to_string()}}});
    std::fs::write(&file, named.to_string()).expect("a writable folder");
    let start = |(index, place): (usize, &Place)| {
        let runtime = if index % 2 == 0 { "smol" } else { "std" };
        let mut words = vec!["--runtime", runtime, "--node-memory", "4096"];
        words.extend(DUMMY);
        if index == 1 {
            let path = file.to_str().expect("a name");
            words.extend([
                "--discovery-module",
                "udp,manual",
                "--discovery-config-path",
                path,
            ]);
        }
        NodeProcess::start_at(&format!("node-{}", index + 1), place, &words, home.path())
    };
    let mut nodes: Vec<NodeProcess> = places.iter().enumerate().map(start).collect();
    let edges: [&[&str]; 4] = [
        &["node-2"],
        &["node-1", "node-3"],
        &["node-2", "node-4"],
        &["node-3"],
    ];
    for (node, wanted) in nodes.iter_mut().zip(edges) {
        let id = node.id.clone();
        node.wait_for("its neighbours, who know it, and nobody else", |topology| {
            let graph = &topology["peer_graph"];
            let knows = |from: &str, to: &str| {
                let edges = graph[from].as_array();
                edges.is_some_and(|edges| edges.iter().any(|edge| edge["to_id"] == to))
            };
            let count = graph[&id].as_array().map_or(0, Vec::len);
            count == wanted.len() && wanted.iter().all(|to| knows(&id, to) && knows(to, &id))
        });
    }
    for node in &nodes {
        answers(node);
        let (_, body) = http::get(node.api, "/v1/topology").expect("an HTTP response");
        let topology: Value = serde_json::from_str(&body).expect("JSON");
        let stages = topology["exo"]["rings"]["dummy"].as_array();
        assert_eq!(stages.map(Vec::len), Some(2), "{}: {body}", node.id);
    }
}

/// A node whose address changes while it serves is found at the new one.
#[test]
fn an_address_may_change() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires("an address that changes", 2) else {
        return;
    };
    let home = tempfile::tempdir().expect("a temporary folder");
    for runtime in ["smol", "std"] {
        let start = |(index, place): (usize, Place)| {
            let id = format!("node-{}-{runtime}", index + 1);
            let mut words = vec![
                "--node-id",
                &id,
                "--runtime",
                runtime,
                "--node-memory",
                "4096",
            ];
            words.push("--disable-tui");
            words.extend(DUMMY);
            NodeProcess::start_plain(&id, &place, &words, home.path())
        };
        let places = wires.places().into_iter().enumerate();
        let mut nodes: Vec<NodeProcess> = places.map(start).collect();
        let [first, second] = &mut nodes[..] else {
            panic!("two nodes");
        };
        for node in [&mut *first, &mut *second] {
            node.wait_for("the other one", two_that_see_each_other);
        }
        answers(first);

        let (namespace, old, new) = (wires.namespace(2), wires.address(2), wires.address(102));
        let readdress = |from: IpAddr, to: IpAddr| {
            for words in [format!("addr del {from}/24"), format!("addr add {to}/24")] {
                run("ip", &format!("-n {namespace} {words} dev eth0")).expect("ip works");
            }
        };
        readdress(old, new);
        second.api.set_ip(new);
        // The old connection is silent, for there is no way to it any more. Whether that is noticed
        // first or the new address is heard of and taken, nothing else is in use in the end.
        let moved = SocketAddr::new(new, second.address.port());
        wait_until_used(first, moved, |_| true);
        for node in [&mut *first, &mut *second] {
            node.wait_for("the other one again", two_that_see_each_other);
            answers(node);
        }
        drop(nodes);
        readdress(new, old);
    }
}

pub(crate) fn two_that_see_each_other(topology: &Value) -> bool {
    let edges = |from: &Value| from.as_array().map_or(0, Vec::len);
    let graph = topology["peer_graph"].as_object();
    graph.is_some_and(|graph| graph.len() == 2 && graph.values().map(edges).sum::<usize>() == 2)
}
