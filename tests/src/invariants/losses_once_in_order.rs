//! The client of a training job is told every loss and every checkpoint once and in order, those
//! that one engine with all layers finds, bit for bit, as far as the job got; and nothing after its
//! end. A job that goes on from a checkpoint goes on with the loss that comes next.
//!
//! Broken on purpose: a checkpoint is told when one stage has it, seed 1 with 4 hosts shows it; a stage
//! passes a gradient back without having learned, seed 5 with 4 hosts.

use super::must;
use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::{
    Engine, EngineCommand, EngineEvent, ExampleInput, TrainCommand, TrainEvent, TrainSetup,
};
use exo_protocol::{CallId, Example, Shard, Stage};
use std::sync::Arc;

/// What a job is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Learn,
    Compare,
    Save,
}

/// What is told of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Steps done, and the loss's bits.
    Loss(u32, u32),
    Saved(u32),
}

/// What a client has been told of its job.
#[derive(Clone, Debug)]
pub(crate) struct Lessons {
    tasks: Vec<Task>,
    expected: Vec<Told>,
    at: usize,
    /// The checkpoint that it went on from.
    resumed: Option<u32>,
    saved: Option<u32>,
    ready: bool,
    ended: bool,
    /// Its client went away.
    pub(crate) cancelled: bool,
}

/// What one engine answers to a part of a job.
fn ask(engine: &mut DummyEngine, command: TrainCommand) -> TrainEvent {
    match engine.execute(EngineCommand::Train(command), &mut |_| {}) {
        EngineEvent::Trained(event) => event,
        other => panic!("the dummy learns: {other:?}"),
    }
}

impl Lessons {
    pub(crate) fn new(
        setup: &TrainSetup,
        tasks: &[Task],
        example: impl Fn(bool) -> Example,
    ) -> Self {
        let (mut engine, call, job) = (DummyEngine::new(), CallId(1), "whole".into());
        let shard = Shard::new(dummy::MODEL.into(), 0..dummy::LAYERS, dummy::LAYERS);
        let shard = shard.expect("all layers");
        let load = EngineCommand::Load {
            call,
            shard: shard.clone(),
        };
        engine.execute(load, &mut |_| {});
        let begin = TrainCommand::Begin {
            call,
            shard,
            job,
            setup: Arc::new(setup.clone()),
        };
        ask(&mut engine, begin);
        let mut steps = 0;
        let mut expect = |task: &Task| {
            let learn = match task {
                Task::Save => return Told::Saved(steps),
                Task::Learn => true,
                Task::Compare => false,
            };
            steps += u32::from(learn);
            let example = example(learn);
            let forward = TrainCommand::Forward {
                call,
                job: "whole".into(),
                step: steps,
                input: ExampleInput::Tokens {
                    tokens: example.tokens,
                    batch: example.batch,
                },
                targets: Some(example.targets),
                learn,
            };
            match ask(&mut engine, forward) {
                TrainEvent::Compared { loss, .. } => Told::Loss(steps, loss.to_bits()),
                other => panic!("the last layer compares: {other:?}"),
            }
        };
        Self {
            tasks: tasks.to_vec(),
            expected: tasks.iter().map(&mut expect).collect(),
            at: 0,
            resumed: None,
            saved: None,
            ready: false,
            ended: false,
            cancelled: false,
        }
    }

    /// What is to be done next.
    pub(crate) fn next(&self) -> Option<Task> {
        self.tasks.get(self.at).copied()
    }

    /// The same job from a checkpoint on.
    pub(crate) fn again(&self, saved: u32) -> Option<Self> {
        let before = self.expected.get(..self.at)?;
        let at = before
            .iter()
            .rposition(|told| *told == Told::Saved(saved))?;
        Some(Self {
            at: at + 1,
            resumed: Some(saved),
            saved: Some(saved),
            ready: false,
            ended: false,
            ..self.clone()
        })
    }

    fn goes_on(&self) -> Result<(), String> {
        must(!self.ended, || {
            String::from("something is told after the end")
        })
    }

    pub(crate) fn ready(&mut self, iteration: u32) -> Result<(), String> {
        self.goes_on()?;
        must(!self.ready, || String::from("it is ready twice"))?;
        self.ready = true;
        let expected = self.resumed.unwrap_or(0);
        must(iteration == expected, || {
            format!("it goes on after {iteration} steps, expected {expected}")
        })
    }

    fn told(&mut self, told: Told) -> Result<(), String> {
        self.goes_on()?;
        let expected = self.expected.get(self.at).copied();
        must(self.ready && expected == Some(told), || {
            format!("task {} gave {told:?}, expected {expected:?}", self.at)
        })?;
        self.at += 1;
        Ok(())
    }

    pub(crate) fn loss(&mut self, step: u32, loss: f32) -> Result<(), String> {
        self.told(Told::Loss(step, loss.to_bits()))
    }

    pub(crate) fn saved(
        &mut self,
        iteration: u32,
        files: &[String],
        ring: &[Stage],
    ) -> Result<(), String> {
        self.told(Told::Saved(iteration))?;
        self.saved = Some(iteration);
        let of = |(file, stage): (&String, &Stage)| {
            let (start, end) = (stage.shard.start, stage.shard.end);
            file.ends_with(&format!("/{start}-{end}-{iteration}.dummy"))
        };
        let all = files.len() == ring.len() && files.iter().zip(ring).all(of);
        must(all, || format!("{files:?} are the files of {ring:?}"))
    }

    pub(crate) fn ended(&mut self) -> Result<(), String> {
        self.goes_on()?;
        self.ended = true;
        must(self.cancelled || self.next().is_none(), || {
            format!("it ended before task {}", self.at)
        })
    }

    pub(crate) fn failed(&mut self, saved: Option<u32>) -> Result<(), String> {
        self.goes_on()?;
        self.ended = true;
        must(saved == self.saved, || {
            format!("{saved:?} is its checkpoint, expected {:?}", self.saved)
        })
    }

    /// Whether it came to its end.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended && self.next().is_none()
    }

    /// Whether it went on from a checkpoint.
    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed.is_some()
    }
}
