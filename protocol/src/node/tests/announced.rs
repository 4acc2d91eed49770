//! Nodes that find each other by broadcasts.

use super::net::{Net, machine};
use crate::discovery::announcement::Announcement;
use crate::node::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::Ipv4Addr;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn peers(net: &Net, index: usize) -> Vec<String> {
    let status = net.hosts[index].node.status();
    let up = status.peers.into_iter().filter(|peer| peer.up);
    let mut ids: Vec<String> = up.filter_map(|p| Some(p.node?.to_string())).collect();
    ids.sort_unstable();
    ids
}

fn announcement(node: &str) -> Announcement {
    Announcement::over("eth0", node.into(), 50_051, machine(1))
}

fn say(net: &mut Net, to: usize, from: u8, payload: impl Into<Bytes>) {
    let (from, payload) = (Ipv4Addr::new(10, 0, 0, from).into(), payload.into());
    net.input(to, Input::Datagram { from, payload });
}

fn troubles(net: &Net, index: usize) -> Vec<String> {
    let trouble = |event: &Event| match event {
        Event::BroadcastTrouble { reason } => Some(reason.clone()),
        _ => None,
    };
    net.hosts[index].events.iter().filter_map(trouble).collect()
}

#[test]
fn five_nodes_that_know_nobody_form_a_ring() {
    let mut net = Net::strangers(&[1000, 2000, 3000, 4000, 5000], |_| {});
    net.advance(10 * SECOND);
    for index in 0..5 {
        assert_eq!(peers(&net, index).len(), 4, "n{index}");
        assert_eq!(net.hosts[index].node.topology.nodes.len(), 5);
        assert_eq!(troubles(&net, index), vec![] as Vec<String>);
    }
    net.submit(0, "r", 20);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

#[test]
fn a_node_that_went_is_forgotten_and_found_again() {
    let mut net = Net::strangers(&[1000, 1000, 1000], |_| {});
    net.advance(5 * SECOND);
    net.kill(2);
    net.advance(5 * SECOND);
    assert_eq!(peers(&net, 0), ["n1"]);
    assert_eq!(
        net.hosts[0].node.status().peers.len(),
        2,
        "it may come back"
    );
    net.advance(60 * SECOND);
    assert_eq!(
        net.hosts[0].node.status().peers.len(),
        1,
        "it announces nothing"
    );
    net.down.clear();
    net.hosts[2].node = Net::strangers(&[1, 1, 1000], |_| {}).hosts.remove(2).node;
    net.advance(10 * SECOND);
    assert_eq!(peers(&net, 0), ["n1", "n2"]);
}

#[test]
fn allow_lists_are_kept_to() {
    let mut net = Net::strangers(&[1000, 1000, 1000], |broadcast| {
        broadcast.nodes = vec!["n0".into(), "n1".into()];
    });
    net.advance(5 * SECOND);
    // The third one may look for the others, and finds them; they do not look for it.
    assert_eq!(net.hosts[0].node.status().peers.len(), 2);
    let dials = |net: &Net| net.sent.iter().any(|(from, to, _)| (*from, *to) == (0, 2));
    assert!(peers(&net, 0).contains(&String::from("n1")) && dials(&net));

    let mut net = Net::strangers(&[1000, 1000], |broadcast| {
        broadcast.kinds = vec![String::from("WiFi")];
    });
    net.advance(10 * SECOND);
    assert_eq!(peers(&net, 0), [] as [&str; 0]);
}

#[test]
fn a_stranger_that_does_not_answer_is_told_of_once_and_not_kept() {
    let mut net = Net::strangers(&[1000], |_| {});
    net.advance(SECOND);
    for _ in 0..10 {
        say(&mut net, 0, 77, announcement("ghost").encode());
        net.advance(3 * SECOND);
        assert_eq!(net.hosts[0].node.status().peers.len(), 0);
    }
    let told = |event: &&Event| matches!(event, Event::PeerUnreachable { .. });
    assert_eq!(net.hosts[0].events.iter().filter(told).count(), 1);
}

#[test]
fn of_several_ways_the_best_is_tried_next() {
    let mut net = Net::strangers(&[1000], |_| {});
    net.advance(SECOND);
    let (now, addresses) = (net.now, [(50, 4), (51, 6), (52, 5)]);
    for (host, priority) in addresses {
        let mut way = announcement("n7");
        way.priority = priority;
        let (from, payload) = (Ipv4Addr::new(10, 0, 0, host).into(), way.encode());
        let node = &mut net.hosts[0].node;
        node.handle_input(now, Input::Datagram { from, payload });
    }
    // The first is tried by now, and when nothing comes of it, the best of the others at once.
    let node = &mut net.hosts[0].node;
    let mut tried = vec![];
    for _ in 0..2 {
        node.handle_timeout(now);
        while let Some(output) = node.poll_output() {
            match output {
                Output::Dial { dial, address } => tried.push((dial, address)),
                Output::Event(Event::PeerUnreachable { .. }) if tried.len() < 2 => {}
                other => assert!(!matches!(other, Output::Event(_)), "{other:?}"),
            }
        }
        let (dial, _) = tried.last().cloned().expect("it is dialled");
        let reason = String::from("connection refused");
        node.handle_input(now, Input::DialFailed { dial, reason });
    }
    let tried: Vec<&str> = tried.iter().map(|(_, address)| &**address).collect();
    assert_eq!(tried, ["10.0.0.50:50051", "10.0.0.51:50051"]);
    let peers = node.status().peers;
    assert_eq!(peers.len(), 1, "{peers:?}");
    let left: Vec<&str> = peers[0].addresses.iter().map(|a| &*a.address).collect();
    assert_eq!(left, ["10.0.0.52:50051"], "strangers are not kept");
}

#[test]
fn forged_announcements_and_noise_cost_little() {
    let mut net = Net::strangers(&[1000, 1000], |_| {});
    net.advance(5 * SECOND);
    let limits = Config::new("x".into(), machine(1)).limits;
    let before = net.hosts[0].events.len();
    // Nobody answers there, and nobody says no: dials stay under way.
    for index in 0..5000 {
        let mut forged = announcement(&format!("forged {index}"));
        forged.port = 1000 + index;
        let (now, from) = (net.now, Ipv4Addr::new(10, 0, 9, 9).into());
        let payload = forged.encode();
        let node = &mut net.hosts[0].node;
        node.handle_input(now, Input::Datagram { from, payload });
    }
    let status = net.hosts[0].node.status();
    assert_eq!(status.peers.len(), 1 + limits.newcomers);
    net.drain(0);
    for noise in ["", "hello", "{}", "[]", "{\"type\": \"discovery\"}"] {
        for _ in 0..1000 {
            say(&mut net, 0, 99, noise.as_bytes().to_vec());
        }
    }
    net.advance(60 * SECOND);
    assert_eq!(peers(&net, 0), ["n1"]);
    assert_eq!(net.hosts[0].node.status().peers.len(), 1);
    assert!(troubles(&net, 0).len() <= 1, "one line for one sender");
    let events = net.hosts[0].events.len() - before;
    assert!(events <= 100, "{events}");
}

#[test]
fn nobody_announced_takes_the_place_of_who_is_there() {
    let mut net = Net::strangers(&[1000, 1000], |_| {});
    net.advance(5 * SECOND);
    let address = |net: &Net| net.hosts[0].node.status().peers[0].address.clone();
    let before = address(&net);
    let mut better = announcement("n1");
    better.priority = 100;
    say(&mut net, 0, 50, better.encode());
    net.advance(SECOND);
    assert_eq!(address(&net), before);
    assert_eq!(peers(&net, 0), ["n1"]);
    // An announcement of this node itself, from wherever, is none.
    say(&mut net, 0, 51, announcement("n0").encode());
    assert_eq!(net.hosts[0].node.status().peers.len(), 1);
}

#[test]
fn a_million_datagrams_are_little_work() {
    let mut net = Net::strangers(&[1000], |_| {});
    net.advance(SECOND);
    let limits = Config::new("x".into(), machine(1)).limits;
    let (mut now, mut dials, mut events) = (net.now, 0, 0);
    let node = &mut net.hosts[0].node;
    let spans = 10;
    for index in 0..1_000_000_u32 {
        if index % (1_000_000 / spans) == 0 {
            now = now + 3 * SECOND;
            node.handle_timeout(now);
        }
        let text = match index % 4 {
            0 => format!("junk {index}"),
            1 => String::from("{\"type\": \"discovery\"}"),
            _ => {
                let escape = if index % 4 == 2 { "\\u001b[2J" } else { "" };
                format!(
                    "{{\"type\": \"discovery\", \"node_id\": \"n{escape}{index}\", \"grpc_port\": 1, \
                     \"device_capabilities\": {{\"model\": \"\", \"chip\": \"\", \"memory\": 1, \
                     \"flops\": {{\"fp32\": 0, \"fp16\": 0, \"int8\": 0}}}}, \"priority\": 1, \
                     \"interface_name\": \"e\", \"interface_type\": \"e\"}}"
                )
            }
        };
        let from = Ipv4Addr::from(0x0a00_0000 + index).into();
        let payload = text.into();
        node.handle_input(now, Input::Datagram { from, payload });
        while let Some(output) = node.poll_output() {
            match output {
                Output::Dial { dial, address } => {
                    dials += 1;
                    assert!(!address.contains('\u{1b}'));
                    let reason = String::from("connection refused");
                    node.handle_input(now, Input::DialFailed { dial, reason });
                }
                Output::Event(_) => events += 1,
                _ => {}
            }
        }
        assert!(node.peers.len() <= limits.newcomers);
    }
    assert!(
        (1..=spans * limits.announcements).contains(&dials),
        "{dials} dials"
    );
    assert!((1..=spans * 8).contains(&events), "{events} events");
}
