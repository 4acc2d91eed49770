//! Training jobs over rings of every size.

use super::net::Net;
use crate::dummy;
use crate::engine::{Engine, EngineCommand, Optimizer, Targets, TrainSetup, Trainable};
use crate::node::*;
use crate::wire::MessageType;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// Nodes whose engines train, and that know each other.
pub(super) fn trainers(memories: &[i64]) -> Net {
    let mut net = Net::mesh(memories);
    for host in &mut net.hosts {
        host.node.config.trains = true;
    }
    net.advance(Duration::from_secs(10));
    net
}

pub(super) fn setup() -> TrainSetup {
    TrainSetup {
        name: "test".into(),
        trainable: Trainable::Full { last_layers: 0 },
        optimizer: Optimizer::Sgd,
        learning_rate: 0.125,
        seed: 1,
        resume: None,
    }
}

pub(super) fn train(job: &str, setup: TrainSetup) -> Train {
    Train {
        job: job.into(),
        model: dummy::MODEL.into(),
        layers: dummy::LAYERS,
        bytes: 0,
        fingerprint: 0,
        setup: Arc::new(setup),
    }
}

pub(super) fn example(job: &str, learn: bool) -> Example {
    Example {
        job: job.into(),
        batch: 2,
        tokens: vec![3, 9, 14, 20],
        targets: Targets {
            tokens: vec![4, 10, 15, 21],
            counted: vec![(0, 2), (1, 2)],
        },
        learn,
    }
}

impl Net {
    pub(super) fn command(&mut self, index: usize, command: Command) {
        self.input(index, Input::Command(command));
    }

    pub(super) fn train(&mut self, index: usize, job: &str) {
        self.command(index, Command::Train(train(job, setup())));
    }

    pub(super) fn learn(&mut self, index: usize, job: &str) {
        self.command(index, Command::Example(example(job, true)));
    }

    pub(super) fn losses(&self, index: usize) -> Vec<(u32, f32)> {
        let loss = |event: &Event| match event {
            Event::ExampleDone { step, loss, .. } => Some((*step, *loss)),
            _ => None,
        };
        self.hosts[index].events.iter().filter_map(loss).collect()
    }

    /// Why jobs failed at a node, and from which step another one can go on.
    pub(super) fn job_failures(&self, index: usize) -> Vec<(String, Option<u32>)> {
        let failure = |event: &Event| match event {
            Event::JobFailed { failure, saved, .. } => Some((failure.to_string(), *saved)),
            _ => None,
        };
        self.hosts[index]
            .events
            .iter()
            .filter_map(failure)
            .collect()
    }

    pub(super) fn ready(&self, index: usize) -> Vec<(usize, u64, u32)> {
        let ready = |event: &Event| match event {
            Event::JobReady {
                ring,
                trainable,
                iteration,
                ..
            } => Some((ring.len(), *trainable, *iteration)),
            _ => None,
        };
        self.hosts[index].events.iter().filter_map(ready).collect()
    }

    /// Has a hung engine do what it was asked.
    pub(super) fn wake(&mut self, index: usize) {
        self.hosts[index].hung = false;
        let done = self.hosts[index].commands.len();
        let status = self.hosts[index].node.status();
        for command in self.hosts[index].commands.split_off(done - status.calls) {
            let event = self.hosts[index].engine.execute(command, &mut |_| {});
            self.input(index, Input::Engine(event));
        }
    }
}

/// What a node alone finds, in so many steps.
pub(super) fn alone(steps: usize) -> Vec<(u32, f32)> {
    let mut net = trainers(&[1000]);
    net.train(0, "j");
    for _ in 0..steps {
        net.learn(0, "j");
    }
    net.losses(0)
}

#[test]
fn rings_of_every_size_learn_what_one_node_learns() {
    let expected = alone(6);
    assert_eq!(expected.len(), 6);
    for memories in [&[1000, 3000][..], &[500, 500, 500], &[1, 2, 3, 4, 5]] {
        for origin in 0..memories.len() {
            let mut net = trainers(memories);
            net.train(origin, "j");
            assert_eq!(net.ready(origin), [(memories.len().min(5), 8, 0)]);
            for _ in 0..6 {
                net.learn(origin, "j");
            }
            assert_eq!(net.losses(origin), expected, "{memories:?} {origin}");
            net.command(origin, Command::EndJob { job: "j".into() });
            let ended = Event::JobEnded { job: "j".into() };
            assert!(net.hosts[origin].events.contains(&ended));
            net.at_rest();
        }
    }
}

#[test]
fn an_origin_need_not_train_itself() {
    let mut net = Net::mesh(&[1000, 1000, 1000]);
    for host in &mut net.hosts[1..] {
        host.node.config.trains = true;
    }
    net.advance(Duration::from_secs(10));
    net.train(0, "j");
    assert_eq!(net.ready(0), [(2, 8, 0)]);
    for _ in 0..3 {
        net.learn(0, "j");
    }
    assert_eq!(net.losses(0), alone(3));
    net.command(0, Command::EndJob { job: "j".into() });
    net.at_rest();
}

#[test]
fn who_only_compares_changes_nothing() {
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "j");
    for learn in [false, false, true, false, true] {
        net.command(0, Command::Example(example("j", learn)));
    }
    let expected = alone(3);
    let steps: Vec<u32> = net.losses(0).iter().map(|(step, _)| *step).collect();
    let losses: Vec<f32> = net.losses(0).iter().map(|(_, loss)| *loss).collect();
    assert_eq!(steps, [0, 0, 1, 1, 2]);
    let at = |index: usize| expected[index].1;
    assert_eq!(losses, [at(0), at(0), at(0), at(1), at(1)]);
    let back = net
        .sent
        .iter()
        .filter(|(_, _, message)| message.message_type() == MessageType::Gradient);
    assert_eq!(back.count(), 2, "only what is learned from comes back");
}

#[test]
fn a_checkpoint_is_gone_on_from() {
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "a");
    net.learn(0, "a");
    net.learn(0, "a");
    net.command(0, Command::Save { job: "a".into() });
    let saved = Event::JobSaved {
        job: "a".into(),
        iteration: 2,
        files: vec!["test/0-3-2.dummy".into(), "test/4-7-2.dummy".into()],
    };
    assert!(
        net.hosts[0].events.contains(&saved),
        "{:?}",
        net.hosts[0].events
    );
    net.learn(0, "a");
    net.kill(1);
    net.advance(Duration::from_secs(5));
    let reason = String::from("node n1 left the ring: the connection to it was lost");
    assert_eq!(net.job_failures(0), [(reason, Some(2))]);
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "a");
    net.learn(0, "a");
    net.learn(0, "a");
    net.command(0, Command::Save { job: "a".into() });
    net.command(0, Command::EndJob { job: "a".into() });
    let resumed = TrainSetup {
        resume: Some(2),
        ..setup()
    };
    net.command(0, Command::Train(train("b", resumed)));
    assert_eq!(net.ready(0), [(2, 8, 0), (2, 8, 2)]);
    net.learn(0, "b");
    assert_eq!(net.losses(0), alone(3));
}

#[test]
fn nodes_that_do_not_train_are_left_out_and_named() {
    let mut net = Net::settled(&[1000, 1000]);
    net.train(0, "j");
    let (reason, _) = &net.job_failures(0)[0];
    assert_eq!(
        reason,
        "no node here can train; left out: n0 has an engine that does not train, n1 has an engine \
         that does not train"
    );
    let mut net = Net::mesh(&[1000, 500]);
    net.hosts[0].node.config.trains = true;
    net.advance(Duration::from_secs(10));
    let big = Train {
        bytes: 1200 << 20,
        ..train("j", setup())
    };
    net.command(0, Command::Train(big));
    let (reason, _) = &net.job_failures(0)[0];
    assert_eq!(
        reason,
        "the model takes 1200 MiB, the nodes that can train have 1000 MiB; left out: n1 has an \
         engine that does not train; only nodes of ours take part whose engine trains"
    );
    net.train(0, "k");
    assert_eq!(net.ready(0), [(1, 8, 0)]);
}

#[test]
fn what_cannot_be_begun_fails() {
    let mut net = trainers(&[1000]);
    let mut reasons = |train: Train| {
        net.command(0, Command::Train(train));
        net.job_failures(0).last().map(|(reason, _)| reason.clone())
    };
    for name in ["", ".x", "a/b", "a b", &"a".repeat(65)] {
        let setup = TrainSetup {
            name: name.into(),
            ..setup()
        };
        let reason = reasons(train("a", setup)).unwrap_or_default();
        assert!(reason.contains("names a folder"), "{name:?}: {reason}");
    }
    for learning_rate in [-1.0, f32::NAN, f32::INFINITY] {
        let setup = TrainSetup {
            learning_rate,
            ..setup()
        };
        let reason = reasons(train("a", setup)).unwrap_or_default();
        assert!(reason.contains("learning rate"), "{reason}");
    }
    let none = Train {
        layers: 0,
        ..train("a", setup())
    };
    assert_eq!(
        reasons(none).as_deref(),
        Some("a model of 0 layers cannot be placed")
    );
    net.submit(0, "r", 3);
    for job in ["a", "b", "c", "d"] {
        net.train(0, job);
    }
    assert_eq!(net.ready(0).len(), 4);
    let failures = net.job_failures(0).len();
    for (job, reason) in [
        ("a", "job id a was used before"),
        ("r", "job id r was used before"),
        (
            "e",
            "4 training jobs are under way already; wait for one to end",
        ),
    ] {
        net.train(0, job);
        assert_eq!(net.job_failures(0).last().map(|(r, _)| &**r), Some(reason));
    }
    assert_eq!(net.job_failures(0).len(), failures + 3);
    let resumed = TrainSetup {
        resume: Some(5),
        ..setup()
    };
    net.command(0, Command::Train(train("f", resumed)));
    let saved = net.job_failures(0).last().map(|(_, saved)| *saved);
    assert_eq!(saved, Some(Some(5)), "it can still be gone on from");
    net.submit(0, "a", 3);
    assert_eq!(net.failures(0), ["request id a was used before"]);
    for job in ["a", "b", "c", "d"] {
        net.command(0, Command::EndJob { job: job.into() });
        net.command(0, Command::EndJob { job: job.into() });
    }
    net.learn(0, "a");
    net.command(0, Command::Save { job: "a".into() });
    let ended = |event: &&Event| matches!(event, Event::JobEnded { .. });
    assert_eq!(net.hosts[0].events.iter().filter(ended).count(), 4);
    assert_eq!(net.job_failures(0).len(), failures + 4, "it is over");
    net.at_rest();
}

#[test]
fn a_full_stage_says_so() {
    let mut net = trainers(&[1000, 1000]);
    net.hosts[1].node.config.limits.jobs = 1;
    net.train(0, "a");
    net.train(0, "b");
    let reason = "node n1: it has a part in 1 training jobs already";
    assert_eq!(net.job_failures(0), [(String::from(reason), None)]);
    net.learn(0, "a");
    assert_eq!(net.losses(0), alone(1), "the first one goes on");
    net.command(0, Command::EndJob { job: "a".into() });
    net.at_rest();
}

#[test]
fn a_ring_answers_while_it_learns() {
    let mut net = trainers(&[1000, 1000]);
    net.train(0, "j");
    net.submit(1, "r", 100);
    net.learn(0, "j");
    assert_eq!(net.tokens(1), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(net.losses(0), alone(1));
    // Alone it has all layers, which it loads for that; those of the job stay.
    net.kill(1);
    net.advance(Duration::from_secs(5));
    net.submit(0, "s", 3);
    assert_eq!(net.tokens(0), [2, 3, 4]);
}

#[test]
fn the_layers_of_a_job_are_not_given_back() {
    let mut net = trainers(&[1000]);
    net.train(0, "j");
    let other = Submit {
        request: "r".into(),
        model: "other".into(),
        layers: 4,
        bytes: 0,
        cost: Default::default(),
        fingerprint: 0,
        prompt: "".into(),
        tokens: vec![1],
        end_tokens: vec![],
        sampling: Default::default(),
        max_tokens: 1,
        timeout: Duration::from_secs(1),
        trace: false,
    };
    net.command(0, Command::Submit(other));
    let unloads = |command: &EngineCommand| matches!(command, EngineCommand::Unload { .. });
    assert!(!net.hosts[0].commands.iter().any(unloads));
    net.learn(0, "j");
    assert_eq!(net.losses(0), alone(1));
}
