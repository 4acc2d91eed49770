//! What nodes announce over TCP, and what they make of it.

use crate::common::{Tally, hex, items, load, same, text};
use crate::fields::{capabilities, plain};
use exo_protocol::config::Tcp;
use exo_protocol::discovery::tcp::{Announce, Reader};
use exo_protocol::topology::Capabilities;
use exo_protocol::{AskId, Config, Input, Instant, Node, Output, VisitId};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const TABLE: &[(&str, &str)] = &[
    (
        "no id",
        "an announcement without an id, which the reference calls None",
    ),
    (
        "pieces",
        "an announcement that is longer than one read of the reference, or that another one follows",
    ),
];

#[test]
fn announcements_over_tcp_are_written_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["tcp_announces"]) {
        let ours = Announce {
            node: text(case, "node_id").into(),
            port: case["node_port"]
                .as_u64()
                .and_then(|port| port.try_into().ok())
                .expect("a port"),
            capabilities: capabilities(&case["device_capabilities"]),
        };
        for key in ["request_hex", "response_hex"] {
            let theirs = hex(text(case, key));
            tally.judge(key, ours.encode() == theirs, None, format!("{ours:?}"));
            let read = Announce::decode(&theirs);
            tally.judge(key, read.as_ref() == Ok(&ours), None, format!("{read:?}"));
        }
    }
    tally.finish("announcements over TCP written", &[], &[]);
}

#[test]
fn announcements_over_tcp_are_taken_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["tcp_received"]) {
        let name = text(case, "name");
        let mut node = node(text(case, "receiver_node_id"), &[]);
        let mut reader = Reader::default();
        for chunk in items(&case["chunks_hex"]) {
            reader.push(&hex(chunk.as_str().expect("hex")));
        }
        let answer = asked(&mut node, &reader.finish());
        let answered = case["answered"].as_bool().expect("a truth value");
        let rule = match name {
            "missing_node_id_added_as_None" => Some("no id"),
            "two_messages_in_one_segment_fail" | "4097_bytes_is_cut_and_fails" => Some("pieces"),
            _ => None,
        };
        let equal = answer.is_some() == answered;
        tally.judge(name, equal, rule, format!("{answer:?}"));
        // Ours says what theirs says, of another machine.
        if let Some(answer) = answer {
            let ours = Announce::decode(&answer).expect("it is one");
            tally.judge(name, &*ours.node == "my-own-id", None, format!("{ours:?}"));
        }
        // Whoever does not answer is not kept: nobody answers here.
        if equal && !name.contains("unhealthy") && !name.contains("known_peer") {
            knows(&mut tally, name, &node, case);
        }
    }
    tally.finish("announcements over TCP taken", TABLE, &[]);
}

#[test]
fn answers_over_tcp_are_taken_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["tcp_replies_to_announcer"]) {
        let name = text(case, "name");
        let mut node = node(text(case, "announcer_node_id"), &["there:5678"]);
        let mut reader = Reader::default();
        reader.push(&hex(text(case, "reply_hex")));
        let answer = Ok((FROM, reader.finish()));
        let ask = AskId(1);
        node.handle_input(Instant::ZERO, Input::Answered { ask, answer });
        if name != "unhealthy" {
            knows(&mut tally, name, &node, case);
        }
    }
    tally.finish("answers over TCP taken", &[], &[]);
}

/// A node that announces itself to these.
fn node(id: &str, seeds: &[&str]) -> Node {
    let mut config = Config::new(id.into(), Capabilities::unknown());
    config.discovery.tcp = Some(Tcp {
        node_port: 50_051,
        seeds: seeds.iter().map(|&seed| seed.to_owned()).collect(),
        probe: false,
        port: 5678,
        nodes: Vec::new(),
    });
    let mut node = Node::new(config, 0, Instant::ZERO);
    node.handle_timeout(Instant::ZERO);
    let mut asks = 0;
    while let Some(output) = node.poll_output() {
        asks += usize::from(matches!(output, Output::Ask { ask: AskId(1), .. }));
    }
    assert_eq!(asks, seeds.len());
    node
}

fn asked(node: &mut Node, payload: &[u8]) -> Option<Vec<u8>> {
    let asked = Input::Asked {
        visit: VisitId(1),
        from: FROM,
        payload: payload.to_vec().into(),
    };
    node.handle_input(Instant::ZERO, asked);
    let mut answers = Vec::new();
    while let Some(output) = node.poll_output() {
        if let Output::Answer { payload, .. } = output {
            answers.push(payload.map(|payload| payload.to_vec()));
        }
    }
    assert_eq!(answers.len(), 1, "a visitor is answered once");
    answers.remove(0)
}

fn knows(tally: &mut Tally, name: &str, node: &Node, case: &Value) {
    let known = case["known_peers_after"].as_object().expect("peers");
    let ours = node.status().peers;
    let equal = ours.len() == known.len()
        && ours.iter().all(|peer| {
            let id = peer.node.as_ref().map_or("", |node| node.as_str());
            let theirs = known.get(id);
            theirs.is_some_and(|theirs| theirs["address"] == peer.address)
        });
    tally.judge(name, equal, None, format!("{ours:?} instead of {known:?}"));
    let chunks = case["chunks_hex"].as_array().into_iter().flatten();
    for (theirs, chunk) in known.values().zip(chunks) {
        let read = Announce::decode(&hex(chunk.as_str().expect("hex"))).expect("it was taken");
        let told = same(
            &plain(&read.capabilities.to_json()),
            &theirs["capabilities"],
        );
        tally.judge(name, told, None, format!("{read:?}"));
        assert_eq!(text(theirs, "description"), format!("TCP ({FROM})"));
    }
}
