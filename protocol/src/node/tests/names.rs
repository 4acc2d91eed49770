//! Names that other nodes chose, on their way to people: ids that would garble what is shown are
//! refused, other names are mended.

use super::net::{Net, machine};
use crate::config::{Config, DirectPeer};
use crate::id::{ConnectionId, is_printable};
use crate::node::*;
use crate::time::Instant;
use crate::wire::extension::error;
use crate::wire::{DecodeLimits, Hello, Message, MessageType, decode_payload};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// As they stand in JSON.
const UNFIT: [&str; 5] = [
    "",
    r"a\u001b[2Jb",
    r"two\nlines",
    r"\u202egnp.exe",
    r"zero\u200bwidth",
];

/// What came, once the codec has read it.
fn came(connection: ConnectionId, kind: MessageType, payload: String) -> Input {
    let payload = Bytes::from(payload);
    let bytes = payload.len() + 9;
    let message = decode_payload(kind, payload, &DecodeLimits::default());
    Input::Received {
        connection,
        message: message.expect("the codec takes it"),
        bytes,
    }
}

fn hello(id: &str) -> String {
    let mut out = Vec::new();
    Hello::new("ID").to_json().write(&mut out);
    let text = String::from_utf8(out).expect("JSON");
    text.replace("ID", id)
}

fn outputs(node: &mut Node) -> Vec<Output> {
    core::iter::from_fn(|| node.poll_output()).collect()
}

fn refusals(outputs: &[Output]) -> Vec<&str> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(Event::ConnectionRefused { reason, .. }) => Some(reason.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_visitor_with_an_unfit_id_is_refused_and_its_host_told_of_once() {
    let config = Config::new("here".into(), machine(1000));
    let mut node = Node::new(config, 1, Instant::ZERO);
    let long = "x".repeat(257);
    let mut seen = Vec::new();
    for (number, id) in (0..).zip(UNFIT.into_iter().chain([long.as_str()])) {
        let connection = ConnectionId(number);
        let opened = Input::Opened {
            connection,
            origin: Origin::Accepted,
            remote: format!("10.0.0.9:{}", 4000 + number),
        };
        node.handle_input(Instant::ZERO, opened);
        let payload = format!("{{\"exo\": {}}}", hello(id));
        let asked = came(connection, MessageType::HealthCheckRequest, payload);
        node.handle_input(Instant::ZERO, asked);
        let outputs = outputs(&mut node);
        let told = outputs.iter().find_map(|output| match output {
            Output::Send {
                message: Message::Error(notice),
                ..
            } => Some(notice.code),
            _ => None,
        });
        assert_eq!(told, Some(error::PROTOCOL), "{id}");
        let closed = |output: &Output| matches!(output, Output::Close { connection: it } if *it == connection);
        assert!(outputs.iter().any(closed), "{id}");
        seen.extend(refusals(&outputs).into_iter().map(String::from));
        assert!(node.status().peers.is_empty(), "{id}");
    }
    let [line] = &seen[..] else {
        panic!("one line for one host: {seen:?}");
    };
    assert!(is_printable(line) && line.contains("--node-id"), "{line}");
}

/// A node that dials one address.
fn dialling() -> Node {
    let mut config = Config::new("here".into(), machine(1000));
    config.discovery.direct = vec![DirectPeer {
        address: "10.0.0.9:4000".into(),
        node: None,
    }];
    Node::new(config, 1, Instant::ZERO)
}

/// Lets time pass until the node dials, and opens that connection; says when that is.
fn open(node: &mut Node, mut now: Instant, connection: ConnectionId) -> Instant {
    for _ in 0..10_000 {
        node.handle_timeout(now);
        let dial = outputs(node).into_iter().find_map(|output| match output {
            Output::Dial { dial, .. } => Some(dial),
            _ => None,
        });
        if let Some(dial) = dial {
            let opened = Input::Opened {
                connection,
                origin: Origin::Dialed(dial),
                remote: String::from("10.0.0.9:4000"),
            };
            node.handle_input(now, opened);
            return now;
        }
        now = now + Duration::from_millis(100);
    }
    panic!("it never dials");
}

#[test]
fn whoever_is_dialled_and_has_an_unfit_id_is_no_peer() {
    // A node of ours says it in the health check, a reference node in its topology.
    let ours = |id: &str| {
        let payload = format!("{{\"is_healthy\": true, \"exo\": {}}}", hello(id));
        vec![(MessageType::HealthCheckResponse, payload)]
    };
    let reference = |id: &str| {
        let machine = r#"{"model": "m", "chip": "c", "memory": 1, "flops": {"fp32": 0, "fp16": 0, "int8": 0}}"#;
        let topology = format!("{{\"nodes\": {{\"{id}\": {machine}}}, \"peer_graph\": {{}}}}");
        vec![
            (
                MessageType::HealthCheckResponse,
                String::from(r#"{"is_healthy": true}"#),
            ),
            (MessageType::CollectTopologyResponse, topology),
        ]
    };
    for answers in [ours, reference] as [fn(&str) -> Vec<(MessageType, String)>; 2] {
        let mut node = dialling();
        let (mut now, mut lines) = (Instant::ZERO, Vec::new());
        for (number, id) in (1..).zip(UNFIT) {
            let connection = ConnectionId(number);
            now = open(&mut node, now, connection);
            let mut all = outputs(&mut node);
            for (kind, payload) in answers(id) {
                node.handle_input(now, came(connection, kind, payload));
                node.handle_timeout(now);
                all.extend(outputs(&mut node));
            }
            lines.extend(refusals(&all).into_iter().map(String::from));
            let closed = |output: &Output| matches!(output, Output::Close { connection: it } if *it == connection);
            assert!(all.iter().any(closed), "{id}");
            let fault = LinkFault::Local;
            node.handle_input(now, Input::Lost { connection, fault });
            let status = node.status();
            assert!(status.peers.iter().all(|peer| !peer.up), "{id}");
            assert_eq!(status.topology.nodes.len(), 1, "{id}");
        }
        assert_eq!(lines.len(), 1, "one line for one host: {lines:?}");
        assert!(
            now > Instant::ZERO + Duration::from_secs(1),
            "less and less often"
        );
    }
}

#[test]
fn other_names_are_mended() {
    let mut net = Net::settled(&[1000, 1000]);
    let node = &mut net.hosts[0].node;
    let to = |(&id, connection): (&ConnectionId, &Connection)| {
        (connection.claims.as_deref() == Some("n1")).then_some(id)
    };
    let connection = node.connections.iter().find_map(to).expect("they met");
    let long = "\u{e9}".repeat(200);
    let topology = format!(
        r#"{{"nodes": {{
            "n1": {{"model": "Mac\u001b]0;owned\u0007", "chip": "{long}", "memory": 7,
                "flops": {{"fp32": 0, "fp16": 0, "int8": 0}},
                "engine": {{"name": "mlx\u001b[2J", "version": "1", "dtype": "f", "formats": []}}}},
            "n\u00007": {{"model": "m", "chip": "c", "memory": 7,
                "flops": {{"fp32": 0, "fp16": 0, "int8": 0}}}}}},
        "peer_graph": {{"n1": [
            {{"from_id": "n1", "to_id": "n0", "description": "MAN\r\n"}},
            {{"from_id": "n1", "to_id": "n\u202e7", "description": null}}]}}}}"#
    );
    node.handle_input(net.now, came(connection, MessageType::Topology, topology));
    let view = node.status().topology;
    let machine = &view.nodes["n1"];
    assert_eq!(machine.model, "Mac\u{fffd}]0;owned\u{fffd}");
    assert_eq!((machine.chip.len(), machine.memory), (256, 7));
    assert_eq!(
        machine.engine, None,
        "an engine of that name is as good as not told"
    );
    let edges = &view.edges["n1"];
    assert_eq!(
        edges.keys().map(|to| to.as_str()).collect::<Vec<_>>(),
        ["n0"]
    );
    assert_eq!(edges["n0"].as_deref(), Some("MAN\u{fffd}\u{fffd}"));
    assert_eq!(view.nodes.len(), 2);
}
