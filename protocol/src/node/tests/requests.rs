//! Requests over rings of every size, and every way in which they end.

use super::net::Net;
use crate::engine::{Engine, EngineCommand, EngineEvent, EngineFailure, FailureKind};
use crate::id::ConnectionId;
use crate::node::place::Need;
use crate::node::*;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

#[test]
fn one_node_answers_alone() {
    let mut net = Net::mesh(&[1000]);
    net.submit(0, "r", 100);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let finished = Event::Finished {
        request: "r".into(),
        reason: FinishReason::Stop,
        tokens: 10,
    };
    assert!(
        net.hosts[0].events.contains(&finished),
        "{:?}",
        net.hosts[0].events
    );
    net.at_rest();
}

#[test]
fn rings_of_two_three_and_five_answer_from_any_node() {
    for memories in [&[1000, 3000][..], &[500, 500, 500], &[1, 2, 3, 4, 5]] {
        for origin in 0..memories.len() {
            let mut net = Net::settled(memories);
            net.submit(origin, "r", 100);
            assert_eq!(
                net.tokens(origin),
                [2, 3, 4, 5, 6, 7, 8, 9, 10],
                "{memories:?} {origin}"
            );
            net.at_rest();
        }
    }
}

#[test]
fn what_no_model_takes_is_refused_and_not_tried_again() {
    let mut net = Net::settled(&[1000, 3000]);
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    let load = net.hosts[1].commands.pop().expect("it loads");
    let loaded = net.hosts[1].engine.execute(load, &mut |_| {});
    net.input(1, Input::Engine(loaded));
    let step = net.hosts[1].commands.pop().expect("it computes");
    let failure = EngineFailure::new(FailureKind::BadInput, "no such form");
    let call = step.call();
    net.input(1, Input::Engine(EngineEvent::Failed { call, failure }));
    net.hosts[1].hung = false;
    let refused = Event::Failed {
        request: "r".into(),
        failure: Failure::Refused {
            node: "n1".into(),
            message: "no such form".into(),
        },
    };
    let events = &net.hosts[0].events;
    assert!(events.contains(&refused), "{events:?}");
    let again = |event: &Event| matches!(event, Event::Recovering { .. });
    assert!(!events.iter().any(again), "{events:?}");
}

#[test]
fn the_most_tokens_asked_for_are_the_most_generated() {
    let mut net = Net::settled(&[1000, 3000]);
    net.submit(0, "r", 3);
    assert_eq!(net.tokens(0), [2, 3, 4]);
    let finished = Event::Finished {
        request: "r".into(),
        reason: FinishReason::Length,
        tokens: 3,
    };
    assert!(net.hosts[0].events.contains(&finished));
    net.submit(0, "zero", 0);
    assert!(net.hosts[0].events.contains(&Event::Finished {
        request: "zero".into(),
        reason: FinishReason::Length,
        tokens: 0
    }));
    net.at_rest();
}

#[test]
fn requests_run_side_by_side() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[0].hung = true;
    net.submit(0, "a", 100);
    net.submit(1, "b", 100);
    net.hosts[0].hung = false;
    let held: Vec<_> = net.hosts[0].commands.clone();
    for command in held
        .into_iter()
        .filter(|c| matches!(c, EngineCommand::Load { .. }))
    {
        let event = net.hosts[0].engine.execute(command, &mut |_| {});
        net.input(0, Input::Engine(event));
    }
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(net.tokens(1), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

/// How often requests of a node went on over another ring.
fn recoveries(net: &Net, index: usize) -> usize {
    let recovering = |event: &&Event| matches!(event, Event::Recovering { .. });
    net.hosts[index].events.iter().filter(recovering).count()
}

const ANSWER: [u32; 9] = [2, 3, 4, 5, 6, 7, 8, 9, 10];

#[test]
fn a_lost_stage_is_replaced() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    net.kill(1);
    assert_eq!(net.tokens(0), ANSWER);
    // Its two connections are lost one after the other.
    assert!((1..4).contains(&recoveries(&net, 0)));
    net.at_rest();
    net.submit(0, "again", 100);
    assert_eq!(net.tokens(0).len(), 18, "the two that are left answer");
}

#[test]
fn a_lost_connection_is_replaced_while_its_peer_lives_on() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    let route = net.hosts[0].node.connection_to("n1").expect("n1 is up");
    net.cut(0, route, LinkFault::Io("reset".into()));
    net.run();
    assert_eq!(net.tokens(0), [0; 0]);
    net.hosts[1].hung = false;
    for command in net.hosts[1].commands.clone() {
        let event = net.hosts[1].engine.execute(command, &mut |_| {});
        net.input(1, Input::Engine(event));
    }
    assert_eq!(net.tokens(0), ANSWER);
    assert_eq!(recoveries(&net, 0), 1);
}

#[test]
fn a_silent_stage_is_replaced_within_two_seconds() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    // The host answers nothing any more, but its connections stay.
    net.down.push(1);
    let silent: Vec<_> = net
        .pipes
        .keys()
        .filter(|(of, _)| *of == 1)
        .copied()
        .collect();
    for key in silent {
        let far = net.pipes.remove(&key).expect("it was listed");
        net.pipes.insert(far, (usize::MAX, ConnectionId(0)));
    }
    net.pipes.retain(|_, (to, _)| *to != usize::MAX);
    net.advance(Duration::from_secs(2));
    assert_eq!(net.tokens(0), ANSWER);
    net.at_rest();
}

#[test]
fn a_failing_stage_is_avoided_and_named_when_nobody_else_is_left() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[1].broken = true;
    net.submit(0, "r", 100);
    assert_eq!(net.tokens(0), ANSWER, "n0 goes on alone");
    net.hosts[0].broken = true;
    net.submit(0, "s", 100);
    net.advance(Duration::from_secs(1));
    let failures = net.failures(0);
    assert_eq!(failures.len(), 1, "each had another chance: {failures:?}");
    assert!(failures[0].ends_with(": it smokes"), "{failures:?}");
    net.at_rest();
}

#[test]
fn a_stage_that_leaves_hands_over() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[2].hung = true;
    net.submit(0, "r", 100);
    net.input(1, Input::Command(Command::Drain));
    assert_eq!(recoveries(&net, 0), 1);
    assert!(net.hosts[1].events.contains(&Event::Drained));
    net.hosts[2].hung = false;
    let held: Vec<_> = net.hosts[2].commands.clone();
    for command in held {
        let event = net.hosts[2].engine.execute(command, &mut |_| {});
        net.input(2, Input::Engine(event));
    }
    assert_eq!(net.tokens(0), ANSWER);
    net.submit(1, "late", 4);
    assert_eq!(net.failures(1), ["this node is shutting down"]);
    net.at_rest();
}

#[test]
fn an_origin_that_is_gone_leaves_nothing_behind() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    net.kill(0);
    net.advance(Duration::from_secs(6));
    for host in &net.hosts[1..] {
        assert!(host.node.status().requests.is_empty());
    }
}

#[test]
fn too_little_memory_is_told_with_both_numbers() {
    let mut net = Net::settled(&[1000, 1000]);
    let big = |request: &str, mib: u64| Submit {
        request: request.into(),
        model: crate::dummy::MODEL.into(),
        layers: crate::dummy::LAYERS,
        bytes: mib << 20,
        cost: Default::default(),
        fingerprint: 0,
        prompt: "".into(),
        tokens: vec![1],
        end_tokens: vec![69],
        sampling: Default::default(),
        max_tokens: 100,
        timeout: Duration::from_secs(60),
        trace: false,
    };
    net.input(0, Input::Command(Command::Submit(big("a", 2001))));
    assert_eq!(
        net.failures(0),
        ["the model takes 2001 MiB, the nodes of the ring have 2000 MiB; add nodes"]
    );
    net.hosts[1].hung = true;
    net.input(0, Input::Command(Command::Submit(big("b", 1500))));
    net.kill(1);
    net.advance(Duration::from_secs(2));
    let failures = net.failures(0);
    assert_eq!(
        failures[1..],
        [
            "node n1 left the ring: closed by the peer; the model takes 1500 MiB, the nodes that \
             are left have 1000 MiB"
        ]
    );
}

#[test]
fn no_node_that_is_needed_is_rounded_away() {
    let net = Net::settled(&[5000, 4000, 1000, 1000, 1000]);
    let (none, model) = (BTreeSet::new(), "m".into());
    let cut = |mib: u64| {
        let need = Need {
            model: &model,
            layers: 12,
            bytes: mib << 20,
            cost: None,
            avoid: &none,
            own_only: false,
            before: &[],
        };
        let ring = net.hosts[0].node.place(&need);
        let range = |stage: &Stage| format!("{} {:?}", stage.node, stage.shard.range());
        ring.map(|ring| ring.iter().map(range).collect::<Vec<_>>())
    };
    let reference = ["n0 0..5", "n1 5..9", "n3 9..10", "n2 10..12"];
    assert_eq!(cut(11_000), Ok(reference.map(String::from).to_vec()));
    let exact = ["n0 0..5", "n1 5..9", "n4 9..10", "n3 10..11", "n2 11..12"];
    assert_eq!(cut(11_340), Ok(exact.map(String::from).to_vec()));
    assert_eq!(cut(12_000), Ok(exact.map(String::from).to_vec()));
    assert_eq!(cut(12_001).map_err(|shortage| shortage.left), Err(12_000));
}

#[test]
fn a_way_that_breaks_under_the_plan_is_not_taken() {
    let mut net = Net::settled(&[1000, 3000]);
    net.hosts[0].hung = true;
    net.hosts[0].node.config.limits.outbox = 0;
    net.submit(0, "r", 100);
    // One of n1's two connections after the other.
    assert_eq!(recoveries(&net, 0), 2, "{:?}", net.hosts[0].events);
    let client = &net.hosts[0].node.clients["r"];
    assert_eq!(client.ring.len(), 1, "{:?}", client.ring);
    assert_eq!(client.feed, None);
}

#[test]
fn a_model_that_cannot_be_loaded_is_told() {
    let mut net = Net::settled(&[1000, 1000]);
    net.input(
        0,
        Input::Command(Command::Submit(Submit {
            request: "r".into(),
            model: "no-such".into(),
            layers: 4,
            bytes: 0,
            cost: Default::default(),
            fingerprint: 0,
            prompt: "".into(),
            tokens: vec![1],
            end_tokens: vec![],
            sampling: Default::default(),
            max_tokens: 4,
            timeout: Duration::from_secs(60),
            trace: false,
        })),
    );
    let failures = net.failures(0);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(failures[0].contains("no-such"), "{failures:?}");
    net.at_rest();
}

#[test]
fn cancelling_frees_every_stage() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[2].hung = true;
    net.submit(1, "r", 100);
    net.input(
        1,
        Input::Command(Command::Cancel {
            request: "r".into(),
        }),
    );
    assert_eq!(net.failures(1), ["cancelled"]);
    for host in &net.hosts {
        assert!(host.node.status().requests.is_empty());
    }
    net.input(
        1,
        Input::Command(Command::Cancel {
            request: "r".into(),
        }),
    );
    assert_eq!(net.failures(1), ["cancelled"], "once is enough");
}

#[test]
fn time_runs_out() {
    let mut net = Net::settled(&[1000, 1000]);
    net.hosts[0].hung = true;
    net.hosts[1].hung = true;
    net.submit(0, "r", 100);
    net.advance(Duration::from_secs(59));
    assert!(net.failures(0).is_empty());
    net.advance(Duration::from_secs(2));
    assert_eq!(
        net.failures(0),
        ["no answer within 60 s; the ring was n1 > n0"]
    );
}

#[test]
fn what_cannot_be_started_is_rejected() {
    let mut net = Net::mesh(&[1000]);
    net.submit(0, "r", 4);
    net.submit(0, "r", 4);
    assert_eq!(net.failures(0), ["request id r was used before"]);
    net.hosts[0].hung = true;
    for request in 0..64 {
        net.submit(0, &format!("q{request}"), 4);
    }
    net.submit(0, "one too many", 4);
    assert_eq!(
        net.failures(0)[1..],
        ["64 requests are under way already; try again later"]
    );
    net.input(0, Input::Command(Command::Stop));
    net.submit(0, "late", 4);
    assert_eq!(
        net.failures(0).last().map(String::as_str),
        Some("this node is shutting down")
    );
    assert!(net.hosts[0].node.status().requests.is_empty());
}
