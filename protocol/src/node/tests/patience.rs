//! How long a stage waits for its engine.

use super::net::{Net, counting};
use crate::engine::{EngineCommand, EngineEvent};
use crate::id::CallId;
use crate::node::*;
use alloc::vec::Vec;
use core::time::Duration;

/// Whatever is asked for may take hours.
fn submit(net: &mut Net, index: usize, request: &str, model: Option<&str>) {
    let asked = counting(request);
    let submit = Submit {
        timeout: Duration::from_secs(10_000),
        model: model.map_or(asked.model.clone(), Into::into),
        ..asked
    };
    net.input(index, Input::Command(Command::Submit(submit)));
}

/// The last load that an engine was given.
fn load(net: &Net, index: usize) -> CallId {
    let load = |command: &EngineCommand| matches!(command, EngineCommand::Load { .. });
    let mut commands = net.hosts[index].commands.iter().rev();
    let found = commands.find(|command| load(command));
    found.expect("it loads").call()
}

fn progress(net: &mut Net, index: usize, call: CallId) {
    let (done, total) = (1, 9);
    let event = EngineEvent::Progress { call, done, total };
    net.input(index, Input::Engine(event));
}

/// Why requests of a node were placed anew.
fn reasons(net: &Net, index: usize) -> Vec<&str> {
    let events = net.hosts[index].events.iter();
    let reasons = events.filter_map(|event| match event {
        Event::Recovering { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn a_stage_whose_load_hangs_is_given_up() {
    for hangs in [0, 1] {
        let mut net = Net::mesh(&[1000, 1000]);
        // The step of the first request takes all that there is room for: the second waits for its
        // layers and has nothing to do yet.
        net.hosts[hangs].node.config.limits.window_bytes = 1;
        net.advance(Duration::from_secs(10));
        net.hosts[hangs].hung = true;
        submit(&mut net, 1 - hangs, "a", None);
        submit(&mut net, 1 - hangs, "b", None);
        net.advance(Duration::from_secs(299));
        assert_eq!(reasons(&net, 1 - hangs), [""; 0]);
        net.advance(Duration::from_secs(2));
        let reason = alloc::format!("node n{hangs}: nothing happened for 300 s");
        assert_eq!(reasons(&net, 1 - hangs), [&reason; 2]);
        assert_eq!(net.tokens(1 - hangs).len(), 2 * 9);
        net.wake(hangs);
        net.at_rest();
    }
}

#[test]
fn a_load_that_goes_on_is_waited_for() {
    for slow in [0, 1] {
        let mut net = Net::settled(&[1000, 1000]);
        net.hosts[slow].hung = true;
        submit(&mut net, 1 - slow, "r", None);
        let call = load(&net, slow);
        for _ in 0..3 {
            net.advance(Duration::from_secs(299));
            progress(&mut net, slow, call);
        }
        net.wake(slow);
        assert_eq!(reasons(&net, 1 - slow), [""; 0]);
        assert_eq!(net.tokens(1 - slow), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        net.at_rest();
    }
}

#[test]
fn whoever_waits_behind_a_load_waits_as_long_as_it_goes_on() {
    let mut net = Net::settled(&[1000]);
    submit(&mut net, 0, "a", None);
    net.hosts[0].hung = true;
    // An engine does one thing after the other.
    submit(&mut net, 0, "other", Some("another model"));
    let call = load(&net, 0);
    submit(&mut net, 0, "b", None);
    for _ in 0..3 {
        net.advance(Duration::from_secs(200));
        progress(&mut net, 0, call);
    }
    assert_eq!((reasons(&net, 0), net.failures(0).len()), (Vec::new(), 0));
    net.advance(Duration::from_secs(301));
    assert_eq!(reasons(&net, 0), ["node n0: nothing happened for 300 s"; 2]);
    net.wake(0);
    assert_eq!(net.tokens(0).len(), 2 * 9);
    net.at_rest();
}
