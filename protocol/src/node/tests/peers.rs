//! Finding, losing and finding peers again.

use super::net::Net;
use crate::discovery::manual;
use crate::node::*;
use crate::wire::Message;
use crate::{DType, Tensor};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

#[test]
fn a_peer_that_comes_back_is_found_again() {
    let mut net = Net::settled(&[1000, 1000]);
    net.kill(1);
    net.advance(Duration::from_secs(30));
    assert_eq!(net.hosts[0].node.topology.nodes.len(), 1);
    let downs = net.hosts[0]
        .events
        .iter()
        .filter(|e| matches!(e, Event::PeerDown { .. }))
        .count();
    assert_eq!(downs, 1);
    let file = net.hosts[1].file.clone();
    let mut fresh = Net::mesh(&[1000, 1000]);
    net.hosts[1] = fresh.hosts.remove(1);
    net.hosts[1].file = file;
    net.down.clear();
    net.advance(Duration::from_secs(10));
    assert_eq!(net.hosts[0].node.topology.nodes.len(), 2);
    net.submit(0, "r", 100);
    assert_eq!(net.tokens(0).len(), 9);
}

#[test]
fn nodes_of_ours_tell_each_other_what_computes() {
    let net = Net::settled(&[1000, 2000]);
    let engine = |own: usize, of: &str| {
        let node = net.hosts[own].node.topology.nodes.get(of)?;
        node.engine.clone().map(|engine| engine.version)
    };
    for own in [0, 1] {
        assert_eq!(engine(own, "n0").as_deref(), Some("1000"));
        assert_eq!(engine(own, "n1").as_deref(), Some("2000"));
        let told = net.hosts[own].events.iter();
        let told = told.filter(|event| matches!(event, Event::PeerEngine { .. }));
        assert_eq!(told.count(), 1);
    }
}

#[test]
fn what_an_origin_wanted_is_forgotten_when_it_comes_back_as_another_process() {
    let mut net = Net::mesh(&[1000, 1000]);
    // So that n0 forgets n1 itself while it is away.
    net.hosts[0].file = String::from(r#"{"peers": {}}"#);
    net.advance(Duration::from_secs(10));
    net.hosts[0].hung = true;
    net.submit(1, "r", 100);
    assert_eq!(net.hosts[0].node.sessions.len(), 1);
    net.kill(1);
    assert!(net.hosts[0].node.peers.is_empty());
    let now = net.now;
    let before = &net.hosts[1].node;
    let (config, seed) = (before.config.clone(), before.incarnation + 1);
    net.hosts[1].node = Node::new(config, seed, now);
    net.down.clear();
    net.advance(Duration::from_secs(1));
    assert_eq!(net.hosts[0].node.peers.len(), 1);
    assert_eq!(net.hosts[0].node.sessions.len(), 0);
    let node = "n1".into();
    let told = &net.hosts[0].events;
    assert!(told.contains(&Event::PeerRestarted { node }), "{told:?}");
}

#[test]
fn an_answer_from_before_the_challenge_proves_nothing() {
    let mut net = Net::settled(&[1000, 1000]);
    let node = &mut net.hosts[0].node;
    let of = |(&id, connection): (&ConnectionId, &mut Connection)| {
        let extended = connection.extended.as_mut()?;
        let newest = extended.pulse.challenge();
        extended.challenger = Some((7, String::from("host:9"), newest));
        Some((id, newest))
    };
    let (id, newest) = node.connections.iter_mut().find_map(of).expect("they met");
    node.answered_challenge(id, newest);
    assert!(node.poll_output().is_none());
    node.answered_challenge(id, newest + 1);
    let told = node.poll_output();
    assert!(
        matches!(told, Some(Output::Event(Event::DuplicateNode { .. }))),
        "{told:?}"
    );
}

#[test]
fn what_came_late_over_a_dead_connection_does_not_stay() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    let node = &mut net.hosts[0].node;
    let to = |(&id, connection): (&ConnectionId, &Connection)| {
        let node = connection.claims.as_deref()?;
        (node == "n1").then_some(id)
    };
    let connection = node.connections.iter().find_map(to).expect("they met");
    let edges = |node: &Node| node.topology.edges["n1"].len();
    assert_eq!(edges(node), 2);
    let mut reply = node.topology.to_reply();
    reply.nodes.retain(|(id, _)| id == "n1");
    reply.peer_graph.clear();
    let late = Input::Received {
        connection,
        message: Message::Topology(reply),
        bytes: 9,
    };
    node.handle_input(net.now, late);
    assert!(!node.topology.edges.contains_key("n1"));
    let fault = LinkFault::Closed;
    node.handle_input(net.now, Input::Lost { connection, fault });
    assert_eq!(edges(node), 2);
}

#[test]
fn one_side_that_knows_the_other_is_enough() {
    for origin in [0, 1] {
        let mut net = Net::mesh(&[1000, 1000]);
        net.hosts[1].file = String::from(r#"{"peers": {}}"#);
        net.advance(Duration::from_secs(10));
        assert_eq!(net.last_connection, 2, "one connection");
        net.submit(origin, "r", 100);
        assert_eq!(net.tokens(origin).len(), 9);
        for host in &net.hosts {
            assert!(!host.commands.is_empty(), "both take part");
        }
        net.at_rest();
    }
}

#[test]
fn a_changed_discovery_file_changes_the_peers() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[0].file = String::from("not JSON");
    net.advance(Duration::from_secs(10));
    let rejected = net.hosts[0]
        .events
        .iter()
        .filter(|e| matches!(e, Event::DiscoveryRejected { .. }))
        .count();
    assert_eq!(
        rejected, 1,
        "told once, although it is read again and again"
    );
    assert_eq!(
        net.hosts[0].node.topology.nodes.len(),
        2,
        "the last good list stays"
    );
    net.hosts[0].file = String::from(r#"{"peers": {}}"#);
    net.advance(Duration::from_secs(10));
    let named = |peer: &&Peer| !peer.addresses.is_empty();
    assert_eq!(net.hosts[0].node.peers.values().filter(named).count(), 0);
    assert_eq!(
        net.hosts[0].node.topology.nodes.len(),
        2,
        "n1 still names n0, so it stays"
    );
}

#[test]
fn a_peer_whose_address_changes_is_dialled_there() {
    let mut net = Net::mesh(&[1000, 1000]);
    let named_at = |port: usize| format!(r#"{{"peers": {{"n1": {{"address": "host:{port}"}}}}}}"#);
    net.hosts[0].file = named_at(2);
    net.hosts[1].file = String::from(r#"{"peers": {}}"#);
    net.advance(Duration::from_secs(10));
    let addresses = |net: &Net| -> Vec<(String, bool)> {
        let peers = net.hosts[0].node.status().peers.into_iter();
        let of = |peer: PeerStatus| {
            let up = peer.up;
            let addresses = peer.addresses.into_iter();
            addresses.map(move |entry| (entry.address, up))
        };
        peers.flat_map(of).collect()
    };
    assert_eq!(addresses(&net), [(String::from("host:2"), true)]);
    net.hosts[0].events.clear();
    net.hosts[0].file = named_at(9);
    net.advance(Duration::from_secs(10));
    assert!(net.pipes.is_empty(), "the old connection is given up");
    let [Event::PeerDown { reason, .. }, rest @ ..] = &without_views(&net)[..] else {
        panic!("{:?}", net.hosts[0].events);
    };
    assert_eq!(
        reason,
        "the discovery file does not name it at this address"
    );
    let tried = |event: &Event| matches!(event, Event::PeerUnreachable { address, .. } if address == "host:9");
    assert!(rest.iter().any(tried), "the new one is dialled: {rest:?}");
    assert_eq!(addresses(&net), [(String::from("host:9"), false)]);
    net.hosts[0].file = named_at(2);
    net.advance(Duration::from_secs(10));
    assert_eq!(addresses(&net), [(String::from("host:2"), true)]);
}

/// What the first node told, but for changes of its topology.
fn without_views(net: &Net) -> Vec<Event> {
    let view = |event: &&Event| !matches!(event, Event::TopologyChanged);
    net.hosts[0].events.iter().filter(view).cloned().collect()
}

#[test]
fn what_the_application_names_counts_until_it_names_others() {
    let mut net = Net::mesh(&[1000, 1000, 1000]);
    net.hosts
        .iter_mut()
        .for_each(|host| host.file = String::from(r#"{"peers": {}}"#));
    let names = |net: &mut Net, source: &str, hosts: &[usize]| {
        let peer = |host: &usize| Discovered {
            node: None,
            address: format!("host:{}", host + 1),
            description: String::from("LIST"),
            capabilities: None,
        };
        let (source, peers) = (String::from(source), hosts.iter().map(peer).collect());
        net.input(0, Input::Command(Command::Discovered { source, peers }));
        net.advance(Duration::from_secs(5));
        let status = net.hosts[0].node.status();
        let up = status.peers.into_iter().filter(|peer| peer.up);
        let mut ids: Vec<String> = up.filter_map(|peer| Some(peer.node?.to_string())).collect();
        ids.sort();
        ids
    };
    // Itself among them does no harm.
    assert_eq!(names(&mut net, "a", &[0, 1]), ["n1"]);
    assert_eq!(names(&mut net, "b", &[2]), ["n1", "n2"]);
    assert_eq!(names(&mut net, "a", &[]), ["n2"]);
    let all: Vec<usize> = (0..=net.hosts[0].node.config.limits.peers).collect();
    assert_eq!(
        names(&mut net, "b", &all),
        ["n2"],
        "the last good list stays"
    );
    let refused = |event: &&Event| matches!(event, Event::DiscoveryRejected { .. });
    assert_eq!(net.hosts[0].events.iter().filter(refused).count(), 1);
}

#[test]
fn an_address_that_leads_back_here_is_left_alone() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].file = String::from(r#"{"peers": {"other": {"address": "host:1"}}}"#);
    net.advance(Duration::from_secs(60));
    assert_eq!(net.hosts[0].node.topology.nodes.len(), 1);
    assert!(net.pipes.is_empty());
    assert_eq!(net.last_connection, 2, "dialled once only");
}

#[test]
fn same_inputs_same_outputs() {
    let run = || {
        let mut net = Net::settled(&[3, 5, 7]);
        net.submit(2, "r", 100);
        net.kill(0);
        net.advance(Duration::from_secs(60));
        format!("{:?}", net.sent)
    };
    assert_eq!(run(), run());
}

#[test]
fn manual_files_of_the_tests_are_valid() {
    let net = Net::mesh(&[1, 1, 1]);
    assert_eq!(
        manual::parse(net.hosts[0].file.as_bytes()).map(|peers| peers.len()),
        Ok(2)
    );
    assert_eq!(Tensor::from_tokens(&[1]).dtype(), DType::I32);
}
