//! What nodes broadcast of themselves, and what they make of it.

use crate::common::{Tally, hex, items, load, same, text};
use crate::fields::{capabilities, plain};
use exo_protocol::config::Broadcast;
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::topology::Capabilities;
use exo_protocol::{Config, Input, Instant, Node, Output};
use serde_json::Value;

const TABLE: &[(&str, &str)] = &[
    (
        "port",
        "a port that no connection can be made to, or a truth value in place of a number; the \
         reference takes them as they are",
    ),
    (
        "memory",
        "a memory beyond 64 bits, or a truth value in place of a number",
    ),
    (
        "field",
        "an id that is empty or no text, or a priority or type that is nothing; the reference lets \
         any value through",
    ),
    (
        "text",
        "control characters or halves of surrogate pairs in a text, which are not JSON",
    ),
];

#[test]
fn announcements_are_written_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["udp_datagrams"]) {
        let ours = Announcement::over(
            text(case, "interface_name"),
            text(case, "node_id").into(),
            case["node_port"]
                .as_u64()
                .and_then(|port| port.try_into().ok())
                .expect("a port"),
            capabilities(&case["device_capabilities"]),
        );
        let theirs = hex(text(case, "datagram_hex"));
        let name = text(case, "interface_name");
        tally.judge(name, ours.encode() == theirs, None, format!("{ours:?}"));
        let read = Announcement::decode(&theirs);
        tally.judge(name, read.as_ref() == Ok(&ours), None, format!("{read:?}"));
    }
    tally.finish("announcements written", &[], &[]);
}

#[test]
fn announcements_are_taken_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["udp_received"]) {
        let name = text(case, "name");
        let datagrams = items(&case["datagrams_hex"]);
        let mut node = receiver(&case["receiver"]);
        let from = text(case, "sender_ip").parse().expect("an address");
        for datagram in datagrams {
            let payload = hex(datagram.as_str().expect("hex")).into();
            node.handle_input(Instant::ZERO, Input::Datagram { from, payload });
            while node.poll_output().is_some() {}
        }
        let ours = node.status().peers;
        let known = case["known_peers_after"].as_object().expect("peers");
        // What they do once somebody answers is told in the tests of the node: here nobody does.
        if name.contains("address") || name.contains("dead") || datagrams.len() > 2 {
            continue;
        }
        let equal = ours.len() == known.len()
            && ours.iter().all(|peer| {
                let id = peer.node.as_ref().map_or("", |node| node.as_str());
                known
                    .get(id)
                    .is_some_and(|theirs| theirs["address"] == peer.address)
            });
        let first = datagrams.first().and_then(Value::as_str).map(hex);
        let rule = first.and_then(|first| stricter(&first));
        tally.judge(name, equal, rule, format!("{ours:?} instead of {known:?}"));
        if let (Ok(read), Some(theirs)) = (
            Announcement::decode(&hex(datagrams[0].as_str().expect("hex"))),
            known.values().next(),
        ) && equal
        {
            let told = read.description() == text(theirs, "description")
                && same(
                    &plain(&read.capabilities.to_json()),
                    &theirs["capabilities"],
                );
            tally.judge(name, told, rule, format!("{read:?}"));
        }
    }
    tally.finish("announcements taken", TABLE, &[]);
}

/// A node that has just asked for announcements.
fn receiver(receiver: &Value) -> Node {
    let list = |key: &str| -> Vec<String> {
        let names = receiver[key].as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut config = Config::new(text(receiver, "node_id").into(), Capabilities::unknown());
    config.discovery.broadcast = Some(Broadcast {
        node_port: 50_051,
        target_port: 5678,
        nodes: list("allowed_node_ids")
            .into_iter()
            .map(Into::into)
            .collect(),
        kinds: list("allowed_interface_types"),
    });
    let mut node = Node::new(config, 0, Instant::ZERO);
    node.handle_timeout(Instant::ZERO);
    let mut listens = false;
    while let Some(output) = node.poll_output() {
        listens |= matches!(output, Output::Listen { .. });
    }
    assert!(listens, "it asks for datagrams");
    node
}

/// Why we refuse an announcement that the reference takes.
fn stricter(datagram: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(datagram);
    if text.contains(char::is_control) || text.contains("\\ud800") {
        return Some("text");
    }
    let json: Value = serde_json::from_str(&text).ok()?;
    let memory = &json["device_capabilities"]["memory"];
    if memory.is_boolean() || memory.as_f64().is_some_and(|memory| memory.abs() > 1e18) {
        return Some("memory");
    }
    let filled = |key: &str| json[key].as_str().is_some_and(|text| !text.is_empty());
    if !filled("node_id") || !filled("interface_type") || json["priority"].is_null() {
        return Some("field");
    }
    let port = &json["grpc_port"];
    let port = port.as_i64().or_else(|| port.as_str()?.parse().ok());
    (!port.is_some_and(|port| (1..=65_535).contains(&port))).then_some("port")
}
