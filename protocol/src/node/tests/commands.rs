//! Peers behind commands: who may name them, and how long they may take.

use super::net::machine;
use crate::config::{COMMAND, DirectPeer};
use crate::node::*;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;
use core::time::Duration;

const SSH: &str = "command ssh far exo-node connect --stdio";

/// A node that the application gave one peer, at this address.
fn node(address: &str) -> Node {
    let mut config = Config::new("here".into(), machine(1000));
    config.discovery.file = true;
    config.discovery.direct = vec![DirectPeer {
        address: address.into(),
        node: None,
    }];
    Node::new(config, 1, Instant::ZERO)
}

fn outputs(node: &mut Node) -> Vec<Output> {
    core::iter::from_fn(|| node.poll_output()).collect()
}

fn dialed(outputs: &[Output]) -> Vec<String> {
    let address = |output: &Output| match output {
        Output::Dial { address, .. } => Some(address.clone()),
        _ => None,
    };
    outputs.iter().filter_map(address).collect()
}

/// Lets a minute pass; gives the addresses that were dialled, none of which answers.
fn minute(node: &mut Node) -> Vec<String> {
    let mut all = Vec::new();
    let mut now = Instant::ZERO;
    while now < Instant::ZERO + Duration::from_secs(60) {
        for output in outputs(node) {
            if let Output::Dial { dial, address } = output {
                all.push(address);
                let reason = String::from("no");
                node.handle_input(now, Input::DialFailed { dial, reason });
            }
        }
        now = now + Duration::from_millis(100);
        node.handle_timeout(now);
    }
    all
}

#[test]
fn only_the_application_names_commands() {
    let mut node = node(SSH);
    let evil = format!("{COMMAND}rm -r everything");
    let peer = Discovered {
        node: None,
        address: evil.clone(),
        description: String::from("LIST"),
        capabilities: None,
    };
    let named = Command::Discovered {
        source: String::from("list"),
        peers: vec![peer],
    };
    node.handle_input(Instant::ZERO, Input::Command(named));
    let file =
        format!(r#"{{"peers": {{"x": {{"address": "{evil}:1"}}, "y": {{"address": "h:1"}}}}}}"#);
    node.handle_input(Instant::ZERO, Input::DiscoveryFile(Ok(Bytes::from(file))));
    node.handle_timeout(Instant::ZERO);
    let told = outputs(&mut node);
    assert!(
        told.iter()
            .any(|output| matches!(output, Output::Event(Event::DiscoveryRejected { .. }))),
        "{told:?}"
    );
    assert_eq!(dialed(&told), [SSH]);
    assert!(minute(&mut node).iter().all(|address| address == SSH));
}

#[test]
fn a_command_is_tried_again_more_and_more_rarely() {
    let tries = |address: &str| minute(&mut node(address)).len();
    let (command, host) = (tries(SSH), tries("h:1"));
    assert!((6..=12).contains(&command), "{command}");
    assert!(host > 30, "{host}");
}

#[test]
fn a_command_may_take_long_to_reach_the_peer() {
    for (address, seconds) in [(SSH, 30), ("h:1", 5)] {
        let mut node = node(address);
        node.handle_timeout(Instant::ZERO);
        let dial = outputs(&mut node)
            .into_iter()
            .find_map(|output| match output {
                Output::Dial { dial, .. } => Some(dial),
                _ => None,
            });
        let connection = ConnectionId(1);
        let opened = Input::Opened {
            connection,
            origin: Origin::Dialed(dial.expect("it dials at once")),
            remote: address.into(),
        };
        node.handle_input(Instant::ZERO, opened);
        let bytes = 1;
        node.handle_input(Instant::ZERO, Input::Sent { connection, bytes });
        let mut closes = |millis| {
            node.handle_timeout(Instant::ZERO + Duration::from_millis(millis));
            let closed = |output: &Output| matches!(output, Output::Close { .. });
            outputs(&mut node).iter().any(closed)
        };
        assert!(!closes(seconds * 1000 - 1), "{address}");
        assert!(closes(seconds * 1000), "{address}");
    }
}
