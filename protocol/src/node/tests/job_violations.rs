//! Peers that break the rules of training jobs.

use super::jobs::{setup, train};
use super::net::Net;
use super::violations::{BAD, introduced, say};
use crate::dummy;
use crate::engine::{ExampleInput, Targets};
use crate::node::jobs::{JobPlan, Phase};
use crate::node::*;
use crate::shard::Shard;
use crate::tensor::{DType, Tensor};
use crate::wire::extension::{end, error, failed};
use crate::wire::{self, Begin, Begun, Ending, Gradient, Loss, Message, Save, Saved};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use bytes::Bytes;

/// A pair of nodes; node 0 trains, and knows one more, for which the test speaks.
fn trainer() -> Net {
    let mut net = introduced();
    net.hosts[0].node.config.trains = true;
    net
}

/// A job of the third node, in a ring of these nodes.
fn plan(nodes: &[&str]) -> JobPlan {
    let share = dummy::LAYERS / u32::try_from(nodes.len()).expect("few");
    let stage = |(index, node): (u32, &&str)| {
        let range = index * share..(index + 1) * share;
        let shard = Shard::new(dummy::MODEL.into(), range, dummy::LAYERS);
        Stage {
            node: (*node).into(),
            shard: shard.expect("a range of layers"),
        }
    };
    JobPlan {
        job: "j".into(),
        origin: "x".into(),
        fingerprint: 0,
        ring: (0..).zip(nodes).map(stage).collect(),
        setup: Arc::new(setup()),
    }
}

fn begin(plan: &JobPlan) -> Message {
    let plan = Bytes::from(plan.write());
    Message::Begin(Begin { plan })
}

fn hidden() -> Tensor {
    Tensor::new(DType::F32, vec![1, 1, 1], vec![0; 4].into()).expect("one element")
}

fn example(input: ExampleInput) -> Message {
    Message::Example(wire::Example {
        job: "j".into(),
        step: 1,
        learn: true,
        input,
        targets: Targets {
            tokens: vec![1],
            counted: vec![(0, 1)],
        },
    })
}

/// One of this step, of which the sender says whether it is to be learned from.
fn numbered(step: u32, learn: bool, input: ExampleInput) -> Message {
    let Message::Example(example) = example(input) else {
        unreachable!("it is one");
    };
    Message::Example(wire::Example {
        step,
        learn,
        ..example
    })
}

fn tokens() -> Message {
    example(ExampleInput::Tokens {
        tokens: vec![1],
        batch: 1,
    })
}

fn gradient(step: u32) -> Message {
    Message::Gradient(Gradient {
        job: "j".into(),
        step,
        loss: 0.0,
        positions: 1,
        gradient: hidden(),
    })
}

fn save(iteration: u32) -> Message {
    let job = "j".into();
    Message::Save(Save { job, iteration })
}

fn begun() -> Message {
    Message::Begun(Begun {
        job: "j".into(),
        trainable: 1,
        iteration: 0,
    })
}

fn loss(step: u32) -> Message {
    Message::Loss(Loss {
        job: "j".into(),
        step,
        loss: 0.0,
        positions: 1,
    })
}

fn saved() -> Message {
    Message::Saved(Saved {
        job: "j".into(),
        iteration: 0,
        file: "f".into(),
    })
}

fn ending(code: u16) -> Ending {
    Ending {
        epoch: 0,
        code,
        request: "j".into(),
        text: "over".into(),
    }
}

#[test]
fn who_does_not_train_is_not_to_be_asked() {
    for message in [
        begin(&plan(&["n0"])),
        tokens(),
        example(ExampleInput::Hidden(hidden())),
        gradient(1),
        save(1),
    ] {
        let mut net = introduced();
        let kind = message.message_type();
        assert_eq!(
            say(&mut net, message),
            Some(error::NOT_NEGOTIATED),
            "{kind:?}"
        );
    }
}

#[test]
fn what_comes_late_is_dropped() {
    for message in [
        tokens(),
        example(ExampleInput::Hidden(hidden())),
        gradient(1),
        save(1),
        begun(),
        loss(1),
        saved(),
        Message::Failed(ending(failed::ENGINE)),
        Message::End(ending(end::CANCELLED)),
    ] {
        let mut net = trainer();
        let kind = message.message_type();
        assert_eq!(say(&mut net, message), None, "{kind:?}");
        net.at_rest();
    }
}

#[test]
fn a_plan_must_be_one_and_from_its_origin() {
    let bad = Message::Begin(Begin {
        plan: Bytes::from_static(b"{}"),
    });
    let other = JobPlan {
        origin: "n1".into(),
        ..plan(&["n0"])
    };
    for (message, code) in [
        (bad, error::PLAN),
        (begin(&other), error::FOREIGN),
        (begin(&plan(&["x", "n1"])), error::FOREIGN),
    ] {
        let mut net = trainer();
        assert_eq!(say(&mut net, message), Some(code));
        net.at_rest();
    }
    let mut net = trainer();
    assert_eq!(say(&mut net, begin(&plan(&["n0"]))), None);
    assert_eq!(say(&mut net, begin(&plan(&["n0"]))), Some(error::PROTOCOL));
    net.at_rest();
}

#[test]
fn an_example_must_be_due_and_of_the_right_kind() {
    for (nodes, hung, message, code) in [
        (&["n0"][..], true, tokens(), error::PROTOCOL),
        (
            &["n0"],
            false,
            example(ExampleInput::Hidden(hidden())),
            error::FOREIGN,
        ),
        (&["x", "n0"], false, tokens(), error::FOREIGN),
        (
            &["n1", "n0"],
            false,
            example(ExampleInput::Hidden(hidden())),
            error::FOREIGN,
        ),
        (
            &["x", "n0"],
            false,
            numbered(2, true, ExampleInput::Hidden(hidden())),
            error::PROTOCOL,
        ),
        (
            &["x", "n0"],
            false,
            numbered(1, false, ExampleInput::Hidden(hidden())),
            error::PROTOCOL,
        ),
        (&["n0", "x"], false, gradient(1), error::FOREIGN),
        (&["n0", "x"], false, save(3), error::PROTOCOL),
        (&["n0", "x"], true, save(0), error::PROTOCOL),
    ] {
        let mut net = trainer();
        net.hosts[0].hung = hung;
        let kind = message.message_type();
        assert_eq!(say(&mut net, begin(&plan(nodes))), None);
        assert_eq!(say(&mut net, message), Some(code), "{nodes:?} {kind:?}");
        assert!(net.hosts[0].node.status().jobs.is_empty());
    }
}

#[test]
fn a_second_example_waits_for_the_first() {
    let mut net = trainer();
    assert_eq!(say(&mut net, begin(&plan(&["n0", "x"]))), None);
    assert_eq!(say(&mut net, tokens()), None);
    assert_eq!(say(&mut net, tokens()), Some(error::PROTOCOL));
    net.at_rest();
}

#[test]
fn a_gradient_must_be_that_of_the_example() {
    let wide = Tensor::new(DType::F32, vec![1, 1, 2], vec![0; 8].into()).expect("two");
    let wide = Message::Gradient(Gradient {
        job: "j".into(),
        step: 1,
        loss: 0.0,
        positions: 1,
        gradient: wide,
    });
    for (message, code) in [
        (gradient(2), Some(error::PROTOCOL)),
        (wide, Some(error::PROTOCOL)),
        (gradient(1), None),
    ] {
        let mut net = trainer();
        assert_eq!(say(&mut net, begin(&plan(&["n0", "x"]))), None);
        assert_eq!(say(&mut net, tokens()), None);
        assert_eq!(say(&mut net, message), code);
        let steps = net.hosts[0].node.status().jobs.first().map(|job| job.steps);
        assert_eq!(steps, code.is_none().then_some(1), "it is over, or goes on");
    }
}

#[test]
fn only_its_stages_speak_to_an_origin_and_only_its_origin_ends_a_job() {
    for message in [begun(), loss(1), saved()] {
        let mut net = trainer();
        net.command(0, Command::Train(train("j", setup())));
        assert_eq!(say(&mut net, message), Some(error::FOREIGN));
        assert_eq!(net.hosts[0].node.status().jobs.len(), 1, "it goes on");
    }
    let mut net = trainer();
    net.command(0, Command::Train(train("j", setup())));
    assert_eq!(say(&mut net, Message::Failed(ending(failed::ENGINE))), None);
    let ended = Message::End(ending(end::CANCELLED));
    assert_eq!(say(&mut net, ended), Some(error::FOREIGN));
    assert_eq!(net.hosts[0].node.status().jobs.len(), 1, "it goes on");
}

/// A job of node 0 over the third node, which has the layers before its own.
#[test]
fn a_stage_that_misleads_the_one_after_it_ends_the_job_and_does_no_harm() {
    for learn in [false, true] {
        let mut net = trainer();
        let own = JobPlan {
            origin: "n0".into(),
            ..plan(&["x", "n0"])
        };
        let node = &mut net.hosts[0].node;
        let job = Job {
            plan: Arc::new(own.clone()),
            routes: BTreeMap::from([("x".into(), BAD)]),
            phase: Phase::Beginning(vec![Some((4, 0)), None]),
            steps: 0,
            trainable: 0,
            saved: None,
            until: Instant::FAR_FUTURE,
        };
        node.jobs.insert("j".into(), job);
        node.begin_stage(Arc::new(own), 1, None);
        net.drain(0);
        net.run();
        assert_eq!(net.hosts[0].node.status().jobs[0].doing, "nothing");
        // The origin asked for nothing.
        let step = u32::from(learn);
        let misleading = numbered(step, learn, ExampleInput::Hidden(hidden()));
        assert_eq!(say(&mut net, misleading), None);
        let jobs = net.hosts[0].node.status().jobs;
        if learn {
            // It waits for nothing and tells nobody but the one that misled it.
            assert_eq!(jobs[0].doing, "nothing");
        } else {
            let failed = Event::JobFailed {
                job: "j".into(),
                failure: JobFailure::Stage {
                    node: "n0".into(),
                    message: String::from("its loss of step 0 is not due"),
                },
                saved: None,
            };
            assert!(
                net.hosts[0].events.contains(&failed),
                "{:?}",
                net.hosts[0].events
            );
            assert!(jobs.is_empty());
            net.at_rest();
        }
    }
}
