//! Every way in which training jobs end before their time.

use super::jobs::{alone, example, setup, train, trainers};
use super::net::Net;
use crate::engine::{
    Engine, EngineCommand, EngineEvent, Optimizer, Targets, TrainCommand, TrainSetup,
};
use crate::node::*;
use crate::wire::{Message, MessageType};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// Brings a job to each of its phases, with the engine of `hung` not answering.
fn in_phase(net: &mut Net, origin: usize, hung: usize, phase: usize) {
    if phase == 0 {
        net.hosts[hung].hung = true;
    }
    net.train(origin, "j");
    if phase == 0 {
        return;
    }
    net.learn(origin, "j");
    net.command(origin, Command::Save { job: "j".into() });
    net.hosts[hung].hung = phase != 4;
    match phase {
        1 => net.learn(origin, "j"),
        2 => net.command(origin, Command::Example(example("j", false))),
        3 => net.command(origin, Command::Save { job: "j".into() }),
        _ => {}
    }
}

#[test]
fn a_lost_stage_ends_a_job_in_every_phase() {
    for phase in 0..5 {
        for (origin, lost) in [(0, 1), (0, 2), (1, 0), (2, 1)] {
            let mut net = trainers(&[1000, 1000, 1000]);
            in_phase(&mut net, origin, lost, phase);
            net.kill(lost);
            net.advance(Duration::from_secs(6));
            let failures = net.job_failures(origin);
            assert_eq!(failures.len(), 1, "{phase} {origin} {lost}: {failures:?}");
            let (reason, saved) = &failures[0];
            assert!(reason.contains(&alloc::format!("n{lost}")), "{reason}");
            assert_eq!(*saved, (phase > 0).then_some(1), "{phase}");
            net.hosts[lost].hung = false;
            net.at_rest();
        }
    }
}

#[test]
fn a_lost_origin_leaves_nothing_behind() {
    for phase in 0..5 {
        let mut net = trainers(&[1000, 1000, 1000]);
        in_phase(&mut net, 0, 2, phase);
        net.kill(0);
        net.wake(2);
        net.advance(Duration::from_secs(6));
        net.at_rest();
    }
}

#[test]
fn a_cut_connection_ends_a_job_while_all_live_on() {
    for (near, far) in [("n1", 0), ("n2", 0), ("n2", 1)] {
        let mut net = trainers(&[1000, 1000, 1000]);
        net.train(0, "j");
        net.learn(0, "j");
        let route = net.hosts[far].node.connection_to(near).expect("it is up");
        net.cut(far, route, LinkFault::Io("reset".into()));
        net.run();
        net.advance(Duration::from_secs(1));
        let failures = net.job_failures(0);
        // Between two stages there may be nothing that went over this one of their connections.
        assert!(failures.len() <= 1, "{failures:?}");
        if failures.is_empty() {
            net.learn(0, "j");
            assert_eq!(net.losses(0), alone(2));
            net.command(0, Command::EndJob { job: "j".into() });
        }
        net.at_rest();
    }
}

#[test]
fn a_silent_stage_ends_a_job_within_two_seconds() {
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "j");
    net.down.push(1);
    let silent: Vec<_> = net
        .pipes
        .keys()
        .filter(|(of, _)| *of == 1)
        .copied()
        .collect();
    for key in silent {
        let far = net.pipes.remove(&key).expect("it was listed");
        net.pipes.remove(&far);
    }
    net.advance(Duration::from_secs(2));
    assert_eq!(net.job_failures(0).len(), 1);
    net.at_rest();
}

#[test]
fn who_leaves_ends_its_jobs() {
    for command in [Command::Drain, Command::Stop] {
        let mut net = trainers(&[1000, 1000, 1000]);
        in_phase(&mut net, 0, 2, 1);
        net.command(1, command.clone());
        let failures = net.job_failures(0);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].0.contains("n1"), "{failures:?}");
        net.wake(2);
        net.at_rest();
        let mut net = trainers(&[1000, 1000, 1000]);
        in_phase(&mut net, 0, 2, 3);
        net.command(0, command);
        let reason = String::from("this node is shutting down");
        assert_eq!(net.job_failures(0), [(reason, Some(1))]);
        net.wake(2);
        net.at_rest();
    }
}

#[test]
fn an_engine_that_cannot_is_told() {
    let mut net = trainers(&[1000, 1000]);
    let adam = TrainSetup {
        optimizer: Optimizer::AdamW { weight_decay: 0.0 },
        ..setup()
    };
    net.command(0, Command::Train(train("j", adam)));
    let failures = net.job_failures(0);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert!(
        failures[0].0.ends_with("only learns with SGD"),
        "{failures:?}"
    );
    net.at_rest();
    let missing = Train {
        model: "no-such".into(),
        ..train("k", setup())
    };
    net.command(0, Command::Train(missing));
    let failures = net.job_failures(0);
    assert!(failures[1].0.contains("no-such"), "{failures:?}");
    net.at_rest();
    let other = Train {
        fingerprint: 7,
        ..train("l", setup())
    };
    // The dummy cannot tell what it is, so this is no reason.
    net.command(0, Command::Train(other));
    assert_eq!(net.ready(0).len(), 1);
    let resumed = TrainSetup {
        resume: Some(9),
        ..setup()
    };
    net.command(0, Command::Train(train("m", resumed)));
    let (reason, saved) = &net.job_failures(0)[2];
    assert!(reason.contains("-9.dummy"), "{reason}");
    assert_eq!(*saved, Some(9));
}

#[test]
fn a_stage_that_does_nothing_for_too_long_is_given_up() {
    for (phase, doing) in [(0, "loading"), (1, "computing forwards"), (3, "saving")] {
        let mut net = trainers(&[1000, 1000]);
        in_phase(&mut net, 0, 1, phase);
        net.advance(Duration::from_secs(299));
        assert!(net.job_failures(0).is_empty());
        net.advance(Duration::from_secs(2));
        let reason = alloc::format!("node n1: nothing happened for 300 s while {doing}");
        assert_eq!(net.job_failures(0)[0].0, reason);
        net.wake(1);
        net.at_rest();
    }
}

#[test]
fn signs_of_progress_are_waited_for_but_not_for_ever() {
    let mut net = trainers(&[1000, 1000]);
    in_phase(&mut net, 0, 1, 0);
    let call = net.hosts[1].commands.last().expect("it loads").call();
    for _ in 0..5 {
        net.advance(Duration::from_secs(110));
        let (done, total) = (1, 9);
        net.input(
            1,
            Input::Engine(EngineEvent::Progress { call, done, total }),
        );
        assert!(net.job_failures(0).is_empty());
    }
    net.advance(Duration::from_secs(51));
    let reason = "the beginning did not end within 600 s; the ring was n1 > n0";
    assert_eq!(net.job_failures(0), [(String::from(reason), None)]);
    net.wake(1);
    net.at_rest();
}

#[test]
fn one_thing_at_a_time() {
    let mut net = trainers(&[1000, 1000]);
    in_phase(&mut net, 0, 1, 1);
    net.command(0, Command::Save { job: "j".into() });
    let reason = "a checkpoint was asked for while an example was under way; wait for its answer";
    assert_eq!(net.job_failures(0), [(String::from(reason), Some(1))]);
    net.wake(1);
    net.at_rest();
}

#[test]
fn what_is_no_example_ends_a_job() {
    type Change = fn(&mut Example);
    let cases: [(Change, &str); 5] = [
        (|e| e.batch = 3, "expected 3 rows"),
        (|e| e.tokens.clear(), "expected 2 rows"),
        (|e| e.targets.tokens.truncate(3), "3 targets"),
        (|e| e.targets.counted.truncate(1), "1 ranges"),
        (|e| e.tokens = vec![1; 70 << 20], "at most 268435456 travel"),
    ];
    for (change, said) in cases {
        let mut net = trainers(&[1000, 1000]);
        net.train(0, "j");
        let mut example = example("j", true);
        change(&mut example);
        net.command(0, Command::Example(example));
        let failures = net.job_failures(0);
        assert!(failures[0].0.contains(said), "{failures:?}");
        net.at_rest();
    }
}

#[test]
fn an_engine_that_answers_something_else_ends_a_job() {
    let mut net = trainers(&[1000, 1000]);
    in_phase(&mut net, 0, 1, 1);
    let call = net.hosts[1].commands.last().expect("it computes").call();
    net.input(1, Input::Engine(EngineEvent::Freed { call }));
    let reason = "node n1: the engine answered a part of a job with something else";
    assert_eq!(net.job_failures(0), [(String::from(reason), Some(1))]);
    net.wake(1);
    net.at_rest();
}

#[test]
fn checkpoints_of_different_steps_are_told() {
    let mut net = trainers(&[1000, 1000]);
    net.hosts[0].hung = true;
    net.train(0, "j");
    let load = net.hosts[0].commands.last().expect("it loads").clone();
    let event = net.hosts[0].engine.execute(load, &mut |_| {});
    net.input(0, Input::Engine(event));
    let call = net.hosts[0].commands.last().expect("it begins").call();
    let begun = crate::engine::TrainEvent::Begun {
        call,
        trainable: 1,
        iteration: 7,
    };
    net.hosts[0].hung = false;
    net.input(0, Input::Engine(EngineEvent::Trained(begun)));
    let failures = net.job_failures(0);
    let reason = "n1 goes on after 0 steps, n0 after 7";
    assert_eq!(failures, [(String::from(reason), None)]);
    net.at_rest();
}

#[test]
fn what_waits_to_be_sent_for_a_job_that_ended_is_not_sent() {
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "j");
    // n1 has the first layers, so the example goes there.
    let mut large = example("j", true);
    large.batch = 1;
    large.tokens = vec![1; 100_000];
    large.targets = Targets {
        tokens: vec![1; 100_000],
        counted: vec![(0, 100_000)],
    };
    let now = net.now;
    let command = Input::Command(Command::Example(large));
    net.hosts[0].node.handle_input(now, command);
    let (mut chunks, mut held) = (0, Vec::new());
    while let Some(output) = net.hosts[0].node.poll_output() {
        if let Output::Send {
            message: Message::Chunk(_),
            ..
        } = &output
        {
            chunks += 1;
        }
        held.push(output);
    }
    assert!(chunks > 0, "it goes in pieces, a few of which are in hand");
    for output in held {
        net.carry_out(0, output);
    }
    net.input_later(0, Input::Command(Command::EndJob { job: "j".into() }));
    // The end comes before the driver has written the pieces.
    net.queue.rotate_right(1);
    net.run();
    let aborts =
        |(_, _, message): &&(usize, usize, Message)| message.message_type() == MessageType::Abort;
    assert_eq!(net.sent.iter().filter(aborts).count(), 1);
    let learned = |command: &EngineCommand| {
        matches!(command, EngineCommand::Train(TrainCommand::Forward { .. }))
    };
    assert!(!net.hosts[1].commands.iter().any(learned));
    net.at_rest();
}
