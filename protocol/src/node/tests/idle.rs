//! Layers whose files have to come first, and layers that nobody uses.

use super::net::Net;
use crate::dummy;
use crate::engine::{EngineCommand, EngineFailure, FailureKind};
use crate::id::CallId;
use crate::node::*;
use alloc::vec;
use core::time::Duration;

fn wanted(net: &Net) -> CallId {
    let wanted = |event: &Event| match event {
        Event::FilesWanted { call, .. } => Some(*call),
        _ => None,
    };
    let mut all = net.hosts[0].events.iter().filter_map(wanted);
    all.next_back().expect("files are wanted")
}

fn files(net: &mut Net, call: CallId, news: FilesNews) {
    net.input(0, Input::Command(Command::Files { call, news }));
}

fn loads(net: &Net) -> usize {
    let commands = net.hosts[0].commands.iter();
    let load = |command: &&EngineCommand| matches!(command, EngineCommand::Load { .. });
    commands.filter(load).count()
}

fn shards(net: &Net) -> usize {
    net.hosts[0].node.status().shards.len()
}

#[test]
fn files_come_before_the_engine_loads() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].node.config.fetches = true;
    let patience = net.hosts[0].node.config.timing.stage_timeout;
    net.submit(0, "r", 100);
    let call = wanted(&net);
    // As long as something comes nobody loses patience; the answer has a time of its own.
    net.hosts[0].node.config.timing.stage_timeout = Duration::from_secs(10);
    for done in 0..5 {
        net.advance(Duration::from_secs(9));
        files(&mut net, call, FilesNews::Coming { done, total: 5 });
    }
    net.hosts[0].node.config.timing.stage_timeout = patience;
    assert_eq!((loads(&net), net.tokens(0)), (0, vec![]));
    // The engine has nothing to do meanwhile.
    let status = net.hosts[0].node.status();
    assert_eq!((status.calls, status.fetches), (1, 1));
    files(&mut net, call, FilesNews::Here);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    // It is answered.
    files(&mut net, call, FilesNews::Here);
    assert_eq!(loads(&net), 1);
    assert_eq!(net.hosts[0].node.status().fetches, 0);
    net.at_rest();
}

#[test]
fn files_that_cannot_be_had_fail_the_request() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].node.config.fetches = true;
    net.submit(0, "r", 100);
    let failure = EngineFailure::new(FailureKind::ModelNotFound, "the hub is gone");
    let call = wanted(&net);
    files(&mut net, call, FilesNews::Missing(failure));
    let told = net.failures(0);
    assert!(told[0].contains("the hub is gone"), "{told:?}");
    assert_eq!(loads(&net), 0);
    // Another request asks anew.
    net.submit(0, "s", 100);
    let again = wanted(&net);
    assert_ne!(again, call);
    // Nobody wants it any more when it comes.
    net.input(
        0,
        Input::Command(Command::Cancel {
            request: "s".into(),
        }),
    );
    files(&mut net, again, FilesNews::Here);
    assert_eq!((loads(&net), shards(&net)), (0, 0));
    net.at_rest();
}

#[test]
fn what_nobody_uses_leaves_in_its_time() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].node.config.keep_loaded = Some(Duration::from_secs(60));
    net.submit(0, "r", 100);
    net.advance(Duration::from_secs(50));
    assert_eq!(shards(&net), 1);
    // Used again: the time begins anew.
    net.submit(0, "s", 100);
    assert_eq!(loads(&net), 1);
    net.advance(Duration::from_secs(59));
    assert_eq!(shards(&net), 1);
    net.advance(Duration::from_secs(1));
    assert_eq!(shards(&net), 0);
    let unload = |command: &&EngineCommand| matches!(command, EngineCommand::Unload { .. });
    assert_eq!(net.hosts[0].commands.iter().filter(unload).count(), 1);
    net.submit(0, "t", 100);
    assert_eq!(loads(&net), 2);
    // Who is asked to gives it back at once.
    let model = dummy::MODEL.into();
    net.input(0, Input::Command(Command::Unload { model }));
    assert_eq!(shards(&net), 0);
    net.at_rest();
}

#[test]
fn what_is_to_stay_stays_and_what_is_not_goes_at_once() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].node.config.keep_loaded = Some(Duration::MAX);
    net.submit(0, "r", 100);
    net.advance(Duration::from_secs(1_000_000));
    assert_eq!(shards(&net), 1);
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].node.config.keep_loaded = Some(Duration::ZERO);
    net.submit(0, "r", 100);
    net.advance(Duration::from_millis(1));
    assert_eq!(shards(&net), 0);
    assert_eq!(net.tokens(0).len(), 9);
    net.at_rest();
}
