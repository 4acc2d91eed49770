//! Pieces of files between nodes, with a test as the application of each.

use super::net::Net;
use crate::id::NodeId;
use crate::node::*;
use crate::wire::extension::part;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

const NAME: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

/// Nodes that share, but for those that do not.
fn net(count: usize, refuse: &[usize]) -> Net {
    let mut net = Net::mesh(&alloc::vec![1000; count]);
    for (index, host) in net.hosts.iter_mut().enumerate() {
        host.node.config.shares = !refuse.contains(&index);
    }
    net.advance(Duration::from_secs(10));
    net
}

fn want(net: &mut Net, index: usize, number: u64, prefer: Option<&str>) {
    want_from(net, index, number, 4, prefer);
}

fn want_from(net: &mut Net, index: usize, number: u64, from: u64, prefer: Option<&str>) {
    let command = Command::Want {
        want: number,
        name: NAME.into(),
        from,
        length: 3,
        prefer: prefer.map(NodeId::from),
    };
    net.input(index, Input::Command(command));
}

/// What peers want of a node and was not answered, answered with this.
fn answer(net: &mut Net, index: usize, code: u16, content: &'static [u8]) -> usize {
    let asked: Vec<u64> = net.hosts[index]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::PartWanted {
                read, name, from, ..
            } => {
                assert_eq!(name, NAME);
                assert!(*from >= 4);
                Some(*read)
            }
            _ => None,
        })
        .collect();
    net.hosts[index].events.clear();
    for &read in &asked {
        let command = Command::Part {
            read,
            size: 10,
            code,
            content: Bytes::from_static(content),
        };
        net.input(index, Input::Command(command));
    }
    asked.len()
}

/// What a node's application was told: by whom each piece came.
fn told(net: &mut Net, index: usize) -> Vec<Option<String>> {
    let mut told = Vec::new();
    net.hosts[index].events.retain(|event| {
        let Event::Part { found, .. } = event else {
            return true;
        };
        told.push(match found {
            Found::Nowhere => None,
            Found::At {
                node,
                size,
                content,
            } => {
                assert_eq!((*size, &content[..]), (10, &b"abc"[..]));
                Some(String::from(node.as_str()))
            }
        });
        false
    });
    told
}

#[test]
fn whoever_has_it_gives_it() {
    let mut net = net(3, &[]);
    want(&mut net, 2, 1, None);
    assert_eq!(answer(&mut net, 0, part::ABSENT, b""), 1);
    assert_eq!(told(&mut net, 2), []);
    assert_eq!(answer(&mut net, 1, part::HERE, b"abc"), 1);
    assert_eq!(told(&mut net, 2), [Some("n1".into())]);
    // The next piece is asked of the same, alone.
    want(&mut net, 2, 2, Some("n1"));
    assert_eq!(answer(&mut net, 0, part::HERE, b"abc"), 0);
    assert_eq!(answer(&mut net, 1, part::HERE, b"abc"), 1);
    assert_eq!(told(&mut net, 2), [Some("n1".into())]);
    net.at_rest();
}

#[test]
fn nobody_is_nobody_and_who_does_not_share_is_not_asked() {
    let mut net = net(3, &[1]);
    want(&mut net, 2, 1, None);
    assert_eq!(answer(&mut net, 1, part::HERE, b"abc"), 0);
    assert_eq!(answer(&mut net, 0, part::ABSENT, b""), 1);
    assert_eq!(told(&mut net, 2), [None]);
    net.at_rest();
}

#[test]
fn of_several_who_seek_it_one_fetches_and_the_others_follow() {
    let mut net = net(3, &[]);
    for index in 0..3 {
        want(&mut net, index, 1, None);
    }
    for index in 0..3 {
        assert_eq!(answer(&mut net, index, part::ABSENT, b""), 2);
    }
    let all: Vec<_> = (0..3).map(|index| told(&mut net, index)).collect();
    assert_eq!(all, [Vec::from([None]), Vec::new(), Vec::new()]);
    // It says that it comes, then it has some of it.
    net.advance(Duration::from_millis(300));
    assert!(answer(&mut net, 0, part::COMING, b"") >= 2);
    for index in 1..3 {
        answer(&mut net, index, part::ABSENT, b"");
        assert_eq!(told(&mut net, index), []);
    }
    net.advance(Duration::from_millis(300));
    answer(&mut net, 0, part::COMING, b"abc");
    for index in 1..3 {
        assert_eq!(told(&mut net, index), [Some("n0".into())]);
    }
    net.at_rest();
}

#[test]
fn who_seeks_other_bytes_of_a_file_waits_for_nobody() {
    let mut net = net(3, &[]);
    // The first two want bytes in common, the last one others.
    for (index, from) in [(0, 4), (1, 6), (2, 9)] {
        want_from(&mut net, index, 1, from, None);
    }
    answer(&mut net, 2, part::ABSENT, b"");
    answer(&mut net, 1, part::ABSENT, b"");
    assert_eq!(told(&mut net, 0), [None]);
    answer(&mut net, 0, part::ABSENT, b"");
    assert_eq!(told(&mut net, 1), []);
    assert_eq!(told(&mut net, 2), [None]);
    // What the first is about to fetch is waited for, but not for ever.
    net.advance(Duration::from_millis(300));
    answer(&mut net, 0, part::ABSENT, b"");
    assert_eq!(told(&mut net, 1), []);
    net.advance(Duration::from_secs(3));
    answer(&mut net, 0, part::ABSENT, b"");
    assert_eq!(told(&mut net, 1), [None]);
}

#[test]
fn a_peer_that_dies_costs_nothing_but_time() {
    let mut net = net(3, &[]);
    want(&mut net, 2, 1, Some("n0"));
    net.kill(0);
    net.advance(Duration::from_secs(1));
    assert_eq!(answer(&mut net, 1, part::HERE, b"abc"), 1);
    assert_eq!(told(&mut net, 2), [Some("n1".into())]);
    // One that is there and says nothing is waited for, but not for ever.
    want(&mut net, 2, 2, None);
    net.advance(Duration::from_secs(20));
    assert_eq!(told(&mut net, 2), []);
    net.advance(Duration::from_secs(20));
    assert_eq!(told(&mut net, 2), [None]);
    // What comes too late is nobody's.
    answer(&mut net, 1, part::HERE, b"abc");
    assert_eq!(told(&mut net, 2), []);
}

#[test]
fn who_sent_wrong_bytes_is_not_asked_again() {
    let mut net = net(2, &[]);
    let blame = Command::Blame {
        name: NAME.into(),
        node: "n0".into(),
    };
    net.input(1, Input::Command(blame));
    want(&mut net, 1, 1, None);
    assert_eq!(answer(&mut net, 0, part::HERE, b"abc"), 0);
    assert_eq!(told(&mut net, 1), [None]);
}

#[test]
fn a_peer_may_want_only_so_much_at_once() {
    let mut net = net(2, &[]);
    for number in 0..10 {
        want(&mut net, 1, number, None);
    }
    assert_eq!(answer(&mut net, 0, part::HERE, b"abc"), 8);
    // The rest is asked again.
    net.advance(Duration::from_millis(300));
    assert_eq!(answer(&mut net, 0, part::HERE, b"abc"), 2);
    assert_eq!(told(&mut net, 1).len(), 10);
    net.at_rest();
}
