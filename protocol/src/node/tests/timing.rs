//! What stages tell of the steps of a request that is traced.

use super::net::{Net, counting};
use crate::id::CallId;
use crate::node::plan::Plan;
use crate::node::session::{Computing, Session};
use crate::node::*;
use crate::shard::Shard;
use crate::wire::{Message, Timing};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

fn submit(net: &mut Net, index: usize, request: &str, trace: bool) {
    let submit = Submit {
        trace,
        ..counting(request)
    };
    net.input(index, Input::Command(Command::Submit(submit)));
}

/// Stage, node and position of what was told.
fn told(net: &Net, index: usize) -> Vec<(u32, String, u32)> {
    let events = net.hosts[index].events.iter();
    let told = events.filter_map(|event| match event {
        Event::StepTimed {
            stage,
            node,
            position,
            positions: 1,
            ..
        } => Some((*stage, node.as_str().into(), *position)),
        _ => None,
    });
    told.collect()
}

#[test]
fn every_stage_tells_the_origin_of_every_step() {
    for origin in 0..3 {
        let mut net = Net::settled(&[500, 500, 500]);
        submit(&mut net, origin, "r", true);
        assert_eq!(net.tokens(origin), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let mut told = told(&net, origin);
        told.sort();
        told.dedup();
        let ring = net.hosts[origin]
            .events
            .iter()
            .find_map(|event| match event {
                Event::Accepted { ring, .. } => Some(ring.clone()),
                _ => None,
            });
        let ring = ring.expect("it was accepted");
        for (stage, Stage { node, .. }) in (0..).zip(&ring) {
            // The last step's words may come when the request is over.
            for position in 0..9 {
                let step = (stage, node.as_str().into(), position);
                assert!(told.contains(&step), "{step:?} is not in {told:?}");
            }
        }
        assert_eq!(ring.len(), 3);
        net.at_rest();
    }
}

#[test]
fn one_node_alone_tells_of_itself() {
    let mut net = Net::mesh(&[1000]);
    submit(&mut net, 0, "r", true);
    assert_eq!(told(&net, 0).len(), 10 - 1, "the last one ends the request");
}

#[test]
fn nothing_is_told_of_other_requests() {
    let mut net = Net::settled(&[500, 500, 500]);
    submit(&mut net, 0, "r", false);
    assert_eq!(net.tokens(0).len(), 9);
    for index in 0..3 {
        assert!(told(&net, index).is_empty());
    }
}

#[test]
fn only_the_stage_itself_tells_of_it() {
    let mut net = Net::settled(&[500, 500, 500]);
    for host in &mut net.hosts {
        host.hung = true;
    }
    submit(&mut net, 0, "r", true);
    let stranger = Timing {
        request: "r".into(),
        epoch: 0,
        stage: 7,
        position: 0,
        positions: 1,
        wait: Duration::ZERO,
        compute: Duration::ZERO,
        write: Duration::ZERO,
        rtt: Duration::ZERO,
    };
    let connection = net.hosts[0].node.connection_to("n1").expect("they met");
    let bring = |net: &mut Net, timing: Timing| {
        let message = Message::Timing(timing);
        let bytes = 0;
        net.input(
            0,
            Input::Received {
                connection,
                message,
                bytes,
            },
        );
    };
    let refused = |net: &Net| {
        let refused = |event: &Event| matches!(event, Event::ConnectionRefused { .. });
        net.hosts[0].events.iter().any(refused)
    };
    // What is of another epoch, or of nobody, is late.
    for (request, epoch) in [("r", 9), ("gone", 0)] {
        let request = request.into();
        bring(
            &mut net,
            Timing {
                request,
                epoch,
                ..stranger.clone()
            },
        );
        assert!(!refused(&net));
    }
    bring(&mut net, stranger);
    assert!(refused(&net), "{:?}", net.hosts[0].events);
}

#[test]
fn what_is_told_behind_the_answer_is_heard_for_a_while() {
    let mut net = Net::settled(&[500, 500, 500]);
    submit(&mut net, 0, "r", true);
    net.at_rest();
    let ring = |event: &Event| match event {
        Event::Accepted { ring, .. } => Some(ring.clone()),
        _ => None,
    };
    let ring = net.hosts[0].events.iter().find_map(ring);
    let ring = ring.expect("it was accepted");
    let stage = ring.iter().position(|stage| &*stage.node == "n1");
    let connection = net.hosts[0].node.connection_to("n1").expect("they met");
    let late = |net: &mut Net, stage: usize| {
        let message = Message::Timing(Timing {
            request: "r".into(),
            epoch: 0,
            stage: u16::try_from(stage).expect("few"),
            position: 77,
            positions: 1,
            wait: Duration::ZERO,
            compute: Duration::ZERO,
            write: Duration::ZERO,
            rtt: Duration::ZERO,
        });
        let came = Input::Received {
            connection,
            message,
            bytes: 9,
        };
        net.input(0, came);
        told(net, 0).iter().filter(|told| told.2 == 77).count()
    };
    let stage = stage.expect("all three hold it");
    assert_eq!(late(&mut net, stage), 1);
    for other in 0..16 {
        submit(&mut net, 0, &alloc::format!("r{other}"), true);
    }
    assert_eq!(late(&mut net, stage), 1, "it is forgotten");
}

#[test]
fn waiting_ends_when_the_engine_is_free() {
    let shard = Shard::new("m".into(), 0..8, 8).expect("a range of layers");
    let plan = |trace| Plan {
        request: "r".into(),
        epoch: 3,
        origin: Some("a".into()),
        fingerprint: 0,
        ring: vec![Stage {
            node: "b".into(),
            shard: shard.clone(),
        }],
        keep: vec![4],
        prompt: 4,
        ends: Default::default(),
        sampling: Default::default(),
        answer: vec![],
        max_tokens: 9,
        trace,
    };
    let at = |millis| Instant::ZERO + Duration::from_millis(millis);
    let computing = Computing {
        call: CallId(1),
        sample: true,
        charge: None,
        came: at(10),
        given: at(20),
    };
    let id = "r".into();
    let told = |trace, turn| {
        let session = Session::new(plan(trace).into(), 0, at(0));
        session.timed(&id, &computing, at(turn), at(100), 1)
    };
    let told_at = |turn| {
        let timing = told(true, turn).expect("somebody wants to know");
        assert_eq!((timing.epoch, timing.stage, timing.positions), (3, 0, 1));
        (timing.wait.as_millis(), timing.compute.as_millis())
    };
    assert_eq!(told_at(5), (10, 80), "it began when it was given");
    assert_eq!(told_at(60), (50, 40), "something else was before it");
    assert_eq!(told(false, 5), None);
}
