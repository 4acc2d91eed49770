//! Nodes that find each other by announcements over TCP.

use super::net::{Net, machine};
use crate::discovery::tcp::Announce;
use crate::id::VisitId;
use crate::node::*;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::Ipv4Addr;
use core::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn up(net: &Net, index: usize) -> usize {
    let status = net.hosts[index].node.status();
    status.peers.iter().filter(|peer| peer.up).count()
}

fn troubles(net: &Net, index: usize) -> Vec<String> {
    let trouble = |event: &Event| match event {
        Event::BroadcastTrouble { reason } => Some(reason.clone()),
        _ => None,
    };
    net.hosts[index].events.iter().filter_map(trouble).collect()
}

/// What the node does when this is said to its port for announcements.
fn visit(net: &mut Net, from: [u8; 4], payload: impl Into<Bytes>) -> Option<Bytes> {
    let (from, payload) = (Ipv4Addr::from(from).into(), payload.into());
    let visit = VisitId(1000);
    let node = &mut net.hosts[0].node;
    node.handle_input(
        net.now,
        Input::Asked {
            visit,
            from,
            payload,
        },
    );
    let mut answer = None;
    while let Some(output) = net.hosts[0].node.poll_output() {
        match output {
            Output::Answer { visit: to, payload } => {
                assert_eq!(to, visit);
                assert!(answer.is_none(), "it is answered once");
                answer = Some(payload);
            }
            other => net.carry_out(0, other),
        }
    }
    net.run();
    answer.expect("every visit is answered")
}

fn announce(node: &str) -> Announce {
    Announce {
        node: node.into(),
        port: 50_051,
        capabilities: machine(1),
    }
}

#[test]
fn nodes_with_one_list_of_seeds_form_a_ring() {
    // Each is in the list itself, and two of them are not there yet.
    let mut net = Net::seeded(&[1000, 2000, 3000], &[1, 2, 3, 8, 9], false);
    net.advance(10 * SECOND);
    for index in 0..3 {
        assert_eq!(up(&net, index), 2, "n{index}");
        let told = troubles(&net, index);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("10.0.0.8:5678") && told[0].contains("refused"));
    }
    net.submit(0, "r", 20);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

#[test]
fn one_that_knows_the_way_is_enough() {
    let mut net = Net::seeded(&[1000, 2000], &[], false);
    let with_seed = Net::seeded(&[1000, 2000], &[1], false).hosts.remove(1);
    net.hosts[1] = with_seed;
    net.advance(10 * SECOND);
    assert_eq!((up(&net, 0), up(&net, 1)), (1, 1));
}

#[test]
fn who_cannot_be_reached_is_asked_less_often_and_found_again() {
    let mut net = Net::seeded(&[1000, 1000], &[2], false);
    net.down.push(1);
    net.advance(300 * SECOND);
    let asks = net.asked.len();
    assert!((11..=15).contains(&asks), "{asks} asks in 300 s");
    assert_eq!(troubles(&net, 0).len(), 1, "told once");
    net.down.clear();
    net.advance(31 * SECOND);
    assert_eq!(up(&net, 0), 1);
}

#[test]
fn probing_finds_few_hosts_and_is_silent() {
    let mut net = Net::seeded(&[1000, 1000, 1000], &[], true);
    net.advance(10 * SECOND);
    // The third has an address that is not tried, and tries the others.
    assert_eq!((up(&net, 0), up(&net, 1), up(&net, 2)), (2, 2, 2));
    assert!(
        net.asked
            .iter()
            .any(|(of, to)| *of == 0 && to == "10.0.0.187:5678")
    );
    assert!(
        !net.asked
            .iter()
            .any(|(of, to)| *of == 0 && to == "10.0.0.1:5678")
    );
    assert_eq!(troubles(&net, 0), vec![] as Vec<String>);
    let mut net = Net::seeded(&[1000, 1000], &[], false);
    net.advance(60 * SECOND);
    assert_eq!(net.asked, vec![], "nobody wanted it");
}

#[test]
fn who_is_no_other_node_gets_no_answer() {
    let mut net = Net::seeded(&[1000], &[], false);
    net.advance(SECOND);
    let good = announce("n7").encode();
    let answer = visit(&mut net, [10, 0, 0, 77], good.clone()).expect("an answer");
    let own = Announce::decode(&answer).expect("it is understood");
    assert_eq!((own.node.as_str(), own.port), ("n0", 50_051));
    assert_eq!(own.capabilities.engine, None);
    let text = String::from_utf8(good.to_vec()).expect("JSON");
    for bad in [
        String::new(),
        text.replace("n7", "n0"),
        text.replace("announce", "discovery"),
        text.replace("n7", "n\\u001b7"),
        text.replace("device_capabilities", "capabilities"),
        text.replace("50051", "0"),
        text.replace('}', ""),
    ] {
        assert_eq!(visit(&mut net, [10, 0, 0, 78], bad.clone()), None, "{bad}");
    }
    let told = troubles(&net, 0);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("10.0.0.78"), "{told:?}");
}

#[test]
fn a_flood_of_visitors_costs_little() {
    let mut net = Net::seeded(&[1000], &[], false);
    net.advance(SECOND);
    let (mut answered, limits) = (0, crate::config::Limits::default());
    for stranger in 0..10_000 {
        let payload = announce(&format!("s{stranger}")).encode();
        answered += u32::from(visit(&mut net, [10, 0, 0, 99], payload).is_some());
    }
    assert_eq!(answered, limits.announcements);
    let told = net.hosts[0].events.len();
    assert!(told <= limits.newcomers.max(64), "{told} events");
    net.advance(120 * SECOND);
    assert_eq!(net.hosts[0].node.status().peers.len(), 0);
    let good = announce("late").encode();
    assert!(visit(&mut net, [10, 0, 0, 1], good).is_some());
}

#[test]
fn whoever_leaves_announces_nothing() {
    let mut net = Net::seeded(&[1000], &[1], false);
    net.input(0, Input::Command(Command::Stop));
    net.asked.clear();
    net.advance(20 * SECOND);
    assert_eq!(net.asked, vec![]);
    let payload = announce("n7").encode();
    assert_eq!(visit(&mut net, [10, 0, 0, 77], payload), None);
    let told = troubles(&net, 0);
    assert_eq!(told, vec![] as Vec<String>);
}
