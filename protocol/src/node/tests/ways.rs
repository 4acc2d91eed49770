//! Peers with several addresses.

use super::net::{Net, machine};
use crate::discovery::announcement::Announcement;
use crate::node::*;
use crate::wire::{Hello, Message};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The application of the first node names these addresses, all of the second one.
fn names(net: &mut Net, addresses: &[&str]) {
    let peer = |address: &&str| Discovered {
        node: Some("n1".into()),
        address: address.to_string(),
        description: format!("via {address}"),
        capabilities: None,
    };
    let (source, peers) = (String::from("list"), addresses.iter().map(peer).collect());
    net.input(0, Input::Command(Command::Discovered { source, peers }));
}

/// Two nodes that know nobody. One way takes so many milliseconds to the first address, and so
/// many to the second.
fn two_ways(first: u64, second: u64) -> Net {
    let mut net = Net::mesh(&[1000, 1000]);
    let nobody = |host: &mut super::net::Host| host.file = String::from(r#"{"peers": {}}"#);
    net.hosts.iter_mut().for_each(nobody);
    for (address, delay) in [("host:2", first), ("alt:2", second)] {
        let delay = Duration::from_millis(delay);
        net.delays.insert(address.into(), delay);
    }
    net
}

fn used(net: &Net) -> String {
    let peers = net.hosts[0].node.status().peers;
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert!(peers[0].up, "{peers:?}");
    peers[0].address.clone()
}

fn moves(net: &Net) -> Vec<(String, String)> {
    let moved = |event: &Event| match event {
        Event::PeerMoved { to, reason, .. } => Some((to.clone(), reason.clone())),
        _ => None,
    };
    net.hosts[0].events.iter().filter_map(moved).collect()
}

fn downs(net: &Net) -> usize {
    let down = |event: &&Event| matches!(event, Event::PeerDown { .. });
    let events = net.hosts.iter().flat_map(|host| &host.events);
    events.filter(down).count()
}

#[test]
fn the_quicker_way_is_taken_and_nobody_goes_down() {
    let mut net = two_ways(20, 1);
    names(&mut net, &["host:2", "alt:2"]);
    net.advance(SECOND);
    assert_eq!(used(&net), "host:2");
    net.advance(10 * SECOND);
    assert_eq!(used(&net), "alt:2");
    let reason = String::from("2.0 ms there, 40.0 ms before");
    assert_eq!(moves(&net), [(String::from("alt:2"), reason)]);
    assert_eq!(downs(&net), 0);
    let status = net.hosts[0].node.status();
    let rtts: Vec<_> = status.peers[0].addresses.iter().map(|a| a.rtt).collect();
    let ms = |ms| Some(Duration::from_millis(ms));
    assert_eq!(rtts, [ms(40), ms(2)]);
    let both = [0, 1].map(|index| net.hosts[index].node.status().connections);
    assert_eq!(both, [1, 1], "the old connection is closed");
    // Both use the new one.
    for origin in [0, 1] {
        net.submit(origin, &format!("r{origin}"), 20);
        net.advance(5 * SECOND);
        assert_eq!(net.tokens(origin).len(), 9);
    }
    assert_eq!(downs(&net), 0);
    net.at_rest();
}

#[test]
fn a_request_that_is_under_way_stays_where_it_is_and_is_not_disturbed() {
    let mut net = two_ways(20, 1);
    names(&mut net, &["host:2", "alt:2"]);
    net.advance(SECOND / 2);
    net.hosts[1].hung = true;
    net.submit(0, "r", 20);
    net.advance(10 * SECOND);
    assert_eq!((used(&net), moves(&net).len()), ("alt:2".into(), 1));
    assert_eq!(
        net.hosts[0].node.status().connections,
        2,
        "it goes on there"
    );
    // What the engine was told meanwhile it does now.
    net.hosts[1].hung = false;
    for command in core::mem::take(&mut net.hosts[1].commands) {
        net.carry_out(1, Output::Compute(command));
    }
    net.run();
    net.advance(5 * SECOND);
    assert_eq!(net.tokens(0).len(), 9);
    assert_eq!(net.hosts[0].node.status().connections, 1);
    let again = |event: &&Event| matches!(event, Event::Recovering { .. });
    assert_eq!(net.hosts[0].events.iter().filter(again).count(), 0);
    net.at_rest();
}

#[test]
fn of_ways_that_are_alike_the_first_stays_and_they_are_measured_less_and_less() {
    let mut net = two_ways(10, 10);
    names(&mut net, &["host:2", "alt:2"]);
    let mut trials = vec![];
    for _ in 0..4 {
        let before = net.last_connection;
        net.advance(Duration::from_secs(300));
        trials.push((net.last_connection - before) / 2);
    }
    assert_eq!((used(&net), moves(&net).len()), ("host:2".into(), 0));
    assert!(trials[0] >= 6 && trials[3] <= 4, "{trials:?}");
}

#[test]
fn when_a_way_breaks_the_next_one_is_dialled_at_once() {
    let mut net = two_ways(1, 1);
    names(&mut net, &["host:2", "alt:2"]);
    net.advance(10 * SECOND);
    assert_eq!(used(&net), "host:2");
    net.dead.push("host:2".into());
    let (&(index, connection), _) = net.pipes.iter().next().expect("they are connected");
    net.cut(index, connection, LinkFault::Closed);
    net.run();
    let now = net.now;
    net.advance(Duration::from_millis(10));
    assert_eq!(used(&net), "alt:2", "after {:?}", net.now - now);
    net.advance(60 * SECOND);
    assert_eq!(used(&net), "alt:2");
    let failures = |net: &Net| net.hosts[0].node.status().peers[0].addresses[0].failures;
    assert!(failures(&net) > 0, "{:?}", net.hosts[0].events);
    net.dead.clear();
    net.advance(Duration::from_secs(600));
    assert_eq!(failures(&net), 0, "it is tried again");
}

#[test]
fn what_leads_to_another_node_becomes_its_address() {
    let mut net = Net::mesh(&[1000, 1000, 1000]);
    let nobody = |host: &mut super::net::Host| host.file = String::from(r#"{"peers": {}}"#);
    net.hosts.iter_mut().for_each(nobody);
    // One of them is the third node, and one this node itself.
    names(&mut net, &["host:2", "alt:3", "alt:1"]);
    net.advance(20 * SECOND);
    let peers = net.hosts[0].node.status().peers;
    let of = |id: &str| {
        let peer = peers.iter().find(|peer| peer.node.as_deref() == Some(id));
        let peer = peer.unwrap_or_else(|| panic!("{id}: {peers:?}"));
        assert!(peer.up, "{peer:?}");
        let verified = peer.addresses.iter().filter(|address| address.verified);
        verified.map(|a| a.address.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("n1"), ["host:2"]);
    assert_eq!(of("n2"), ["alt:3"]);
    assert_eq!(peers.len(), 2);
}

#[test]
fn what_strangers_announce_of_a_peer_does_not_disturb_it() {
    let mut net = Net::strangers(&[1000, 1000], |_| {});
    net.advance(5 * SECOND);
    let limit = net.hosts[0].node.config.limits.addresses;
    for port in 1..1000 {
        let mut forged = Announcement::over("eth0", "n1".into(), port, machine(1));
        forged.priority = 100;
        let (from, payload) = (Ipv4Addr::new(10, 0, 9, 9).into(), forged.encode());
        net.input(0, Input::Datagram { from, payload });
    }
    let status = net.hosts[0].node.status();
    assert_eq!(status.peers.len(), 1);
    assert_eq!(status.peers[0].addresses.len(), limit);
    let before = net.last_connection;
    net.advance(20 * SECOND);
    assert!(
        net.last_connection - before <= 8,
        "nothing but trials of what is used"
    );
    assert_eq!(used(&net), "10.0.0.2:50051");
    assert_eq!((downs(&net), moves(&net).len()), (0, 0));
    net.advance(60 * SECOND);
    let left = net.hosts[0].node.status().peers[0].addresses.len();
    assert_eq!(left, 1, "nobody announces them any more");
}

#[test]
fn a_dead_node_is_not_brought_back_by_what_others_say() {
    let mut net = Net::strangers(&[1000, 1000, 1000], |_| {});
    net.advance(10 * SECOND);
    net.kill(2);
    net.advance(SECOND);
    // The second one tells of it still, and somebody announces it.
    let node = &net.hosts[0].node;
    let (&connection, _) = node
        .connections
        .iter()
        .find(|(_, c)| c.claims.as_deref() == Some("n1") && c.extended.is_some())
        .expect("they met");
    let mut reply = net.hosts[1].node.topology.to_reply();
    reply.nodes.push(("n2".into(), machine(1000)));
    for _ in 0..20 {
        let message = Message::Topology(reply.clone());
        let told = Input::Received {
            connection,
            message,
            bytes: 9,
        };
        net.input(0, told);
        let ghost = Announcement::over("eth0", "n2".into(), 50_051, machine(1000));
        let (from, payload) = (Ipv4Addr::new(10, 0, 0, 3).into(), ghost.encode());
        net.input(0, Input::Datagram { from, payload });
        net.advance(SECOND);
        let status = net.hosts[0].node.status();
        let there = |peer: &&PeerStatus| peer.up && peer.node.as_deref() == Some("n2");
        assert_eq!(status.peers.iter().filter(there).count(), 0);
        assert!(!status.topology.nodes.contains_key("n2"));
    }
}

#[test]
fn a_clone_is_told_of_once_and_dialled_less_and_less() {
    let mut net = Net::settled(&[1000, 1000]);
    // A third host runs as the second, and dials the first for ever.
    let mut clone = Net::mesh(&[1000, 1000]).hosts.remove(1);
    let config = clone.node.config.clone();
    clone.node = Node::new(config, 77, net.now);
    net.hosts.push(clone);
    net.advance(60 * SECOND);
    let before = net.last_connection;
    net.advance(Duration::from_secs(600));
    let dials = (net.last_connection - before) / 2;
    assert!(dials <= 10, "{dials}");
    let count = |index: usize, test: fn(&Event) -> bool| {
        let events = net.hosts[index].events.iter();
        events.filter(|event| test(event)).count()
    };
    assert_eq!(count(0, |e| matches!(e, Event::DuplicateNode { .. })), 1);
    for index in [0, 2] {
        let refused = count(index, |e| matches!(e, Event::ConnectionRefused { .. }));
        assert!(refused <= 2, "n{index}: {refused}");
    }
    // The clone alone sees the first one come and go.
    net.hosts.truncate(2);
    assert_eq!(downs(&net), 0);
}

#[test]
fn a_question_makes_nobody_a_peer() {
    let mut net = two_ways(1, 1);
    names(&mut net, &["host:2", "alt:2"]);
    net.advance(10 * SECOND);
    let question = Hello::question();
    let asked = |(_, _, message): &&(usize, usize, Message)| matches!(message, Message::HealthCheckRequest { payload } if *payload == question);
    assert!(
        net.sent.iter().filter(asked).count() >= 2,
        "both were tried"
    );
    let status = net.hosts[1].node.status();
    assert_eq!((status.peers.len(), status.connections), (1, 1));
}
