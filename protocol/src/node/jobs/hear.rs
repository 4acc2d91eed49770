//! What the stages of a training job say to its origin.

use super::JobFailure;
use super::job::Phase;
use crate::id::{ConnectionId, NodeId};
use crate::node::Node;
use crate::node::output::Event;
use crate::node::violation::Violation;
use crate::time::Instant;
use crate::wire::{self, Message};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Node {
    /// What came on a connection for the origin of a job. It may be over, but from nobody else
    /// than its stages can anything come.
    pub(in crate::node) fn job_word_came(&mut self, from: ConnectionId, word: Message) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let node = extended.node.clone();
        let id = match &word {
            Message::Begun(begun) => &begun.job,
            Message::Loss(loss) => &loss.job,
            Message::Saved(saved) => &saved.job,
            _ => return,
        };
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        if job.routes.get(&node) != Some(&from) {
            let request = id.clone();
            self.violated(from, &Violation::Foreign { node, request });
            return;
        }
        if let Err(violation) = self.origin_hears(&node, word) {
            self.violated(from, &violation);
        }
    }

    /// A stage of a job speaks to its origin, which is this node.
    pub(in crate::node) fn origin_hears(
        &mut self,
        node: &NodeId,
        word: Message,
    ) -> Result<(), Violation> {
        match word {
            Message::Begun(begun) => self.begun(node, &begun),
            Message::Loss(loss) => self.loss(node, &loss),
            Message::Saved(saved) => self.saved(node, saved),
            _ => Ok(()),
        }
    }

    fn begun(&mut self, node: &NodeId, begun: &wire::Begun) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&begun.job) else {
            return Ok(());
        };
        let stage = job.plan.stage_of(node);
        let Phase::Beginning(told) = &mut job.phase else {
            return Err(Violation::job_turn("BEGUN", &begun.job));
        };
        match stage.and_then(|stage| told.get_mut(stage)) {
            Some(answer @ None) => *answer = Some((begun.trainable, begun.iteration)),
            _ => return Err(Violation::job_turn("BEGUN", &begun.job)),
        }
        let all: Vec<(u64, u32)> = told.iter().flatten().copied().collect();
        if all.len() < told.len() {
            return Ok(());
        }
        let first = all.first().map_or(0, |(_, iteration)| *iteration);
        let other = all.iter().position(|(_, iteration)| *iteration != first);
        let trainable = all
            .iter()
            .fold(0, |sum: u64, (n, _)| sum.saturating_add(*n));
        let ring = job.plan.ring.clone();
        if let Some((other, (_, got))) = other.zip(other.and_then(|other| all.get(other))) {
            let name = |stage: usize| ring.get(stage).map(|stage| stage.node.clone());
            if let (Some(first_node), Some(node)) = (name(0), name(other)) {
                let failure = JobFailure::Resumed {
                    first: first_node,
                    expected: first,
                    node,
                    got: *got,
                };
                self.fail_job(&begun.job, failure);
            }
            return Ok(());
        }
        job.phase = Phase::Idle;
        job.until = Instant::FAR_FUTURE;
        job.steps = first;
        job.trainable = trainable;
        self.tell(Event::JobReady {
            job: begun.job.clone(),
            ring,
            trainable,
            iteration: first,
        });
        Ok(())
    }

    fn loss(&mut self, node: &NodeId, loss: &wire::Loss) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&loss.job) else {
            return Ok(());
        };
        // Who is done last tells: with learning the first stage, without it the last one.
        let ends = |learn: bool| match learn {
            true => job.plan.ring.first(),
            false => job.plan.ring.last(),
        };
        match job.phase {
            Phase::Example { step, learn }
                if step == loss.step && ends(learn).is_some_and(|stage| stage.node == *node) => {}
            _ => {
                // It may have been misled by the stage beside it, so this is no violation of its own.
                let message = format!("its loss of step {} is not due", loss.step);
                let node = node.clone();
                self.fail_job(&loss.job, JobFailure::Stage { node, message });
                return Ok(());
            }
        }
        job.phase = Phase::Idle;
        job.until = Instant::FAR_FUTURE;
        job.steps = loss.step;
        self.tell(Event::ExampleDone {
            job: loss.job.clone(),
            step: loss.step,
            loss: loss.loss,
            positions: loss.positions,
        });
        Ok(())
    }

    fn saved(&mut self, node: &NodeId, saved: wire::Saved) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(&saved.job) else {
            return Ok(());
        };
        let stage = job.plan.stage_of(node);
        let files = match &mut job.phase {
            Phase::Saving { iteration, files } if *iteration == saved.iteration => files,
            _ => return Err(Violation::job_turn("SAVED", &saved.job)),
        };
        match stage.and_then(|stage| files.get_mut(stage)) {
            Some(file @ None) => *file = Some(saved.file),
            _ => return Err(Violation::job_turn("SAVED", &saved.job)),
        }
        let all: Vec<String> = files.iter().flatten().cloned().collect();
        if all.len() < files.len() {
            return Ok(());
        }
        job.phase = Phase::Idle;
        job.until = Instant::FAR_FUTURE;
        job.saved = Some(saved.iteration);
        self.tell(Event::JobSaved {
            job: saved.job,
            iteration: saved.iteration,
            files: all,
        });
        Ok(())
    }
}
