//! The origin's side of training jobs: from the application's wish to its last event.

use super::job::{Job, Phase};
use super::{JobFailure, JobPlan, setup};
use crate::engine::ExampleInput;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::node::input::{Example, Train};
use crate::node::output::Event;
use crate::node::place::Need;
use crate::node::{Node, Stage};
use crate::wire::extension::end;
use crate::wire::{self, Begin, Ending, Message, Save};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

impl Node {
    pub(in crate::node) fn train(&mut self, train: Train) {
        let id = train.job.clone();
        let placed = match self.job_rejection(&train) {
            Some(failure) => Err(failure),
            None => self.place_job(&train),
        };
        let begun = placed.and_then(|ring| Ok((self.routes_to(&ring)?, ring)));
        let (routes, ring) = match begun {
            Ok(begun) => begun,
            Err(failure) => {
                self.tell(Event::JobFailed {
                    job: id,
                    failure,
                    saved: train.setup.resume,
                });
                return;
            }
        };
        let stages = ring.len();
        let plan = Arc::new(JobPlan {
            job: id.clone(),
            origin: self.config.node.clone(),
            fingerprint: train.fingerprint,
            ring,
            setup: train.setup,
        });
        let job = Job {
            plan: Arc::clone(&plan),
            routes: routes.clone(),
            phase: Phase::Beginning(vec![None; stages]),
            steps: 0,
            trainable: 0,
            saved: plan.setup.resume,
            until: self.now + self.config.timing.job_step,
        };
        self.jobs.insert(id, job);
        let text = Bytes::from(plan.write());
        for &route in routes.values() {
            let plan = text.clone();
            self.send(route, Message::Begin(Begin { plan }));
        }
        // Last: it may fail at once, and the others must hear of the end after the beginning.
        if let Some(stage) = plan.stage_of(&self.config.node) {
            self.begin_stage(plan, stage, None);
        }
    }

    fn job_rejection(&self, train: &Train) -> Option<JobFailure> {
        let id = &train.job;
        if self.stopping || self.leaving {
            Some(JobFailure::Stopping)
        } else if self.knows_job(id) || self.is_request(id) || self.ended.covers(id, 0) {
            Some(JobFailure::Duplicate(id.clone()))
        } else if train.layers == 0 {
            Some(JobFailure::Layers(0))
        } else if self.jobs.len() >= self.config.limits.jobs {
            Some(JobFailure::Busy(self.jobs.len()))
        } else {
            setup::fault(&train.setup).map(JobFailure::Setup)
        }
    }

    /// Whether a training job of this name is known here.
    pub(in crate::node) fn knows_job(&self, id: &RequestId) -> bool {
        self.jobs.contains_key(id) || self.job_stages.contains_key(id)
    }

    fn is_request(&self, id: &RequestId) -> bool {
        self.clients.contains_key(id) || self.sessions.contains_key(id)
    }

    /// Cuts the model over the nodes that train.
    fn place_job(&self, train: &Train) -> Result<Vec<Stage>, JobFailure> {
        let mut avoid = BTreeSet::new();
        let mut why = Vec::new();
        for node in self.topology.nodes.keys() {
            if let Some(reason) = self.cannot_train(node) {
                avoid.insert(node.clone());
                why.push(format!("{node} {reason}"));
            }
        }
        let without = match why.is_empty() {
            true => String::new(),
            false => format!("; left out: {}", why.join(", ")),
        };
        let need = Need {
            model: &train.model,
            layers: train.layers,
            bytes: train.bytes,
            cost: None,
            avoid: &avoid,
            own_only: true,
            before: &[],
        };
        match self.place(&need) {
            Ok(ring) if ring.is_empty() => Err(JobFailure::Layers(train.layers)),
            Ok(ring) => Ok(ring),
            Err(shortage) if shortage.left == 0 => Err(JobFailure::Unsupported(format!(
                "no node here can train{without}"
            ))),
            Err(shortage) => Err(JobFailure::Memory {
                needed: shortage.needed,
                left: shortage.left,
                without,
            }),
        }
    }

    /// Why a node takes no part in training, if so.
    fn cannot_train(&self, node: &NodeId) -> Option<&'static str> {
        if *node == self.config.node {
            return (!self.config.trains).then_some("has an engine that does not train");
        }
        if !self.is_own(node) {
            return Some("speaks the base protocol alone");
        }
        let connection = self.connections.get(&self.connection_to(node)?);
        let extended = connection.and_then(|connection| connection.extended.as_ref());
        let trains = extended.is_some_and(|extended| extended.trains);
        (!trains).then_some("has an engine that does not train")
    }

    /// The way to each stage on another node.
    fn routes_to(&self, ring: &[Stage]) -> Result<BTreeMap<NodeId, ConnectionId>, JobFailure> {
        let mut routes = BTreeMap::new();
        for Stage { node, .. } in ring.iter().filter(|s| s.node != self.config.node) {
            let Some(route) = self.connection_to(node) else {
                let (node, reason) = (node.clone(), String::from("there is no connection to it"));
                return Err(JobFailure::PeerLost { node, reason });
            };
            routes.insert(node.clone(), route);
        }
        Ok(routes)
    }

    pub(in crate::node) fn example(&mut self, example: Example) {
        let Some(job) = self.idle_job(&example.job, "an example") else {
            return;
        };
        let (id, learn) = (example.job, example.learn);
        let step = job.steps.saturating_add(learn.into());
        let plan = Arc::clone(&job.plan);
        let example = wire::Example {
            job: id.clone(),
            step,
            learn,
            input: ExampleInput::Tokens {
                tokens: example.tokens,
                batch: example.batch,
            },
            targets: example.targets,
        };
        if let Some(fault) = self.fault_of(&example) {
            self.fail_job(&id, JobFailure::Example(fault));
            return;
        }
        self.begin_phase(&id, Phase::Example { step, learn });
        if plan.stage_of(&self.config.node) == Some(0) {
            self.compute_example(example);
            return;
        }
        let first = plan.ring.first();
        let jobs = &self.jobs;
        let route = first.and_then(|first| jobs.get(&id)?.routes.get(&first.node).copied());
        if let Some(route) = route {
            self.send(route, Message::Example(example));
        }
    }

    /// What is wrong with an example, if something is.
    fn fault_of(&self, example: &wire::Example) -> Option<String> {
        let (bytes, most) = (example.payload_len(), self.config.decode.frame);
        if u32::try_from(bytes).map_or(true, |bytes| bytes > most) {
            return Some(format!("it takes {bytes} bytes, at most {most} travel"));
        }
        let message = Message::Example(example.clone());
        let written = wire::encode_parts(&message);
        written.err().map(|error| error.to_string())
    }

    pub(in crate::node) fn save(&mut self, id: &RequestId) {
        let Some(job) = self.idle_job(id, "a checkpoint") else {
            return;
        };
        let iteration = job.steps;
        let (plan, routes) = (Arc::clone(&job.plan), job.routes.clone());
        let files = vec![None; plan.ring.len()];
        self.begin_phase(id, Phase::Saving { iteration, files });
        for &route in routes.values() {
            let job = id.clone();
            self.send(route, Message::Save(Save { job, iteration }));
        }
        if plan.stage_of(&self.config.node).is_some() {
            self.save_stage(id, iteration);
        }
    }

    pub(in crate::node) fn end_job(&mut self, id: &RequestId) {
        if self.jobs.contains_key(id) {
            self.tell(Event::JobEnded { job: id.clone() });
            self.job_over(id, end::FINISHED, String::from("complete"));
        }
    }

    /// A job that is ready for what is asked; one that is not fails.
    fn idle_job(&mut self, id: &RequestId, asked: &'static str) -> Option<&Job> {
        let under_way = match &self.jobs.get(id)?.phase {
            Phase::Idle => None,
            phase => Some(phase.name()),
        };
        if let Some(under_way) = under_way {
            self.fail_job(id, JobFailure::OutOfTurn { asked, under_way });
        }
        self.jobs.get(id)
    }

    fn begin_phase(&mut self, id: &RequestId, phase: Phase) {
        let until = self.now + self.config.timing.job_step;
        if let Some(job) = self.jobs.get_mut(id) {
            job.phase = phase;
            job.until = until;
        }
    }

    /// A job that was begun here comes to nothing more.
    pub(in crate::node) fn fail_job(&mut self, id: &RequestId, failure: JobFailure) {
        let Some(job) = self.jobs.get(id) else {
            return;
        };
        let (saved, text) = (job.saved, failure.to_string());
        self.tell(Event::JobFailed {
            job: id.clone(),
            failure,
            saved,
        });
        self.job_over(id, end::CANCELLED, text);
    }

    /// Forgets a job that was begun here, and has its stages forget it.
    fn job_over(&mut self, id: &RequestId, code: u16, text: String) {
        let Some(job) = self.jobs.remove(id) else {
            return;
        };
        self.remember_end(id, crate::node::client::Ended::ALL);
        for &route in job.routes.values() {
            if let Some(connection) = self.connections.get_mut(&route) {
                connection.forget(id);
            }
            let ending = Ending {
                epoch: 0,
                code,
                request: id.clone(),
                text: text.clone(),
            };
            self.send(route, Message::End(ending));
        }
        self.end_job_stage(id);
        self.drained();
    }
}
