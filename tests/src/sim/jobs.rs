//! Training jobs among the traffic, in every fourth run: what their clients want, what they are told.
//!
//! A job learns the dummy model, one number for each layer. Its losses are known beforehand, and one
//! that failed goes on from its checkpoint, if the engines still have it.

use super::world::World;
use crate::invariants::losses_once_in_order::{Lessons, Task};
use crate::invariants::{jobs_end, placement_covers};
use exo_protocol::dummy;
use exo_protocol::engine::{Optimizer, Targets, TrainSetup, Trainable};
use exo_protocol::rng::Rng;
use exo_protocol::{
    Command, Event, Example, Input, Instant, JobFailure, NodeId, RequestId, Stage, Train,
};
use std::sync::Arc;
use std::time::Duration;

/// Runs with jobs.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) on: bool,
    /// Of its own, so that the other runs stay what they are.
    rng: Rng,
    last: u64,
    /// Jobs that came to their end.
    pub(super) ended: u64,
    /// Jobs that failed.
    pub(super) failed: u64,
    /// Jobs that went on from a checkpoint.
    pub(super) resumed: u64,
}

/// The client of one job.
#[derive(Clone, Debug)]
pub(crate) struct JobClient {
    pub(crate) lessons: Lessons,
    pub(crate) setup: TrainSetup,
    /// Ids of its example.
    tokens: Vec<u32>,
    batch: u32,
    pub(crate) end: Option<JobEnd>,
    /// Since when something is under way, by its host's clock.
    pub(crate) since: Instant,
    pub(crate) ring: Vec<Stage>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    Ended,
    Failed(JobFailure),
    /// Its host went down under it.
    Orphaned,
}

impl Jobs {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            on: seed % 4 == 1,
            rng: Rng::new(seed ^ 0x006a_6f62),
            last: 0,
            ended: 0,
            failed: 0,
            resumed: 0,
        }
    }

    fn draws(&mut self, per_mille: u64) -> bool {
        self.rng.below(1000) < per_mille
    }

    fn small(&mut self, bound: u64) -> u32 {
        u32::try_from(self.rng.below(bound)).unwrap_or(0)
    }

    fn client(&mut self, name: &str, most: u64, now: Instant) -> JobClient {
        let setup = TrainSetup {
            name: name.into(),
            trainable: match self.rng.below(4) {
                0 => Trainable::Full {
                    last_layers: self.small(8),
                },
                _ => Trainable::Lora {
                    rank: 1,
                    scale: 1.0,
                    last_layers: 0,
                },
            },
            optimizer: Optimizer::Sgd,
            learning_rate: 0.0625,
            seed: 0,
            resume: None,
        };
        let (batch, positions, most) = match self.rng.below(8) {
            // It goes in pieces, for seconds each over a slow link.
            0 => (1, 3000 + self.small(6000), most.min(3)),
            _ => (1 + self.small(3), 1 + self.small(9), most),
        };
        let tokens: Vec<u32> = (0..batch * positions).map(|_| self.small(1000)).collect();
        let tasks = (0..1 + self.rng.below(most)).map(|_| match self.rng.below(8) {
            0 => Task::Compare,
            1 | 2 => Task::Save,
            _ => Task::Learn,
        });
        let tasks: Vec<Task> = tasks.collect();
        let example = |learn| example(name.into(), &tokens, batch, learn);
        JobClient {
            lessons: Lessons::new(&setup, &tasks, example),
            setup,
            batch,
            tokens,
            end: None,
            since: now,
            ring: Vec::new(),
        }
    }
}

fn example(job: RequestId, tokens: &[u32], batch: u32, learn: bool) -> Example {
    let positions = u32::try_from(tokens.len()).unwrap_or(0) / batch.max(1);
    Example {
        job,
        batch,
        tokens: tokens.to_vec(),
        targets: Targets {
            tokens: tokens.iter().map(|token| token + 3).collect(),
            counted: (0..batch).map(|row| (row % positions, positions)).collect(),
        },
        learn,
    }
}

impl JobClient {
    pub(crate) fn orphan(&mut self) {
        if self.end.is_none() {
            self.end = Some(JobEnd::Orphaned);
        }
    }

    /// What it wants next.
    fn next(&self, job: &RequestId) -> Command {
        let example = |learn| example(job.clone(), &self.tokens, self.batch, learn);
        let job = job.clone();
        match self.lessons.next() {
            Some(Task::Learn) => Command::Example(example(true)),
            Some(Task::Compare) => Command::Example(example(false)),
            Some(Task::Save) => Command::Save { job },
            None => Command::EndJob { job },
        }
    }
}

impl World {
    /// In runs with jobs nearly everybody trains.
    pub(super) fn train_some(&mut self) {
        if !self.jobs.on {
            return;
        }
        for host in &mut self.hosts {
            host.config.trains = !self.jobs.draws(100);
            host.config.limits.jobs = 1 + usize::try_from(self.jobs.rng.below(3)).unwrap_or(0);
            host.config.timing.job_step = Duration::from_secs(12 + self.jobs.rng.below(10));
        }
    }

    /// The client of a job comes, or goes away, perhaps.
    pub(super) fn trainers_come(&mut self) {
        if !self.jobs.on || self.quiet {
            return;
        }
        if self.jobs.draws(80) {
            let hosts = self.hosts.len() as u64;
            let index = usize::try_from(self.jobs.rng.below(hosts)).unwrap_or(0);
            self.train(index, 24);
        }
        if self.jobs.draws(15) {
            let running = self.hosts.iter().enumerate().find_map(|(index, host)| {
                let mut jobs = host.jobs.iter();
                let (job, _) = jobs.find(|(_, client)| client.end.is_none())?;
                Some((index, job.clone()))
            });
            if let Some((index, job)) = running {
                if let Some(client) = self.hosts[index].jobs.get_mut(&job) {
                    client.lessons.cancelled = true;
                }
                self.input(index, Input::Command(Command::EndJob { job }));
            }
        }
    }

    /// A host is asked to train, with so many tasks at most.
    pub(super) fn train(&mut self, index: usize, most: u64) -> Option<RequestId> {
        let now = self.hosts[index].clock.at(self.now);
        let name = format!("j{}", self.jobs.last);
        let client = self.jobs.client(&name, most, now);
        self.begin_job(index, client)
    }

    fn begin_job(&mut self, index: usize, client: JobClient) -> Option<RequestId> {
        let job = RequestId::from(format!("j{}", self.jobs.last));
        self.jobs.last += 1;
        let host = &mut self.hosts[index];
        if !host.is_on() {
            return None;
        }
        let train = Train {
            job: job.clone(),
            model: dummy::MODEL.into(),
            layers: dummy::LAYERS,
            bytes: 0,
            fingerprint: 0,
            setup: Arc::new(client.setup.clone()),
        };
        host.jobs.insert(job.clone(), client);
        // Not at once: it may be the answer to something.
        self.hosts[index]
            .inbox
            .push_back(Input::Command(Command::Train(train)));
        self.work_later(index);
        Some(job)
    }

    /// A host tells the client of a job something.
    pub(super) fn job_hears(&mut self, index: usize, event: &Event) {
        let job = match event {
            Event::JobReady { job, .. }
            | Event::ExampleDone { job, .. }
            | Event::JobSaved { job, .. }
            | Event::JobEnded { job }
            | Event::JobFailed { job, .. } => job.clone(),
            _ => return,
        };
        let host = &mut self.hosts[index];
        let now = host.clock.at(self.now);
        let Some(client) = host.jobs.get_mut(&job) else {
            let what = format!("n{index}: {job}: nobody began it");
            return self.broken("losses_once_in_order", what);
        };
        client.since = now;
        let told = match event {
            Event::JobReady {
                ring, iteration, ..
            } => {
                client.ring.clone_from(ring);
                client.lessons.ready(*iteration)
            }
            Event::ExampleDone { step, loss, .. } => client.lessons.loss(*step, *loss),
            Event::JobSaved {
                iteration, files, ..
            } => client.lessons.saved(*iteration, files, &client.ring),
            Event::JobEnded { .. } => {
                client.end = Some(JobEnd::Ended);
                client.lessons.ended()
            }
            Event::JobFailed { failure, saved, .. } => {
                client.end = Some(JobEnd::Failed(failure.clone()));
                client.lessons.failed(*saved)
            }
            _ => Ok(()),
        };
        let client = client.clone();
        if let Err(what) = told {
            self.broken("losses_once_in_order", format!("n{index}: {job}: {what}"));
        }
        if let Event::JobReady { ring, .. } = event
            && let Err(what) = self.placed_job(ring)
        {
            self.broken("placement_covers", format!("n{index}: {job}: {what}"));
        }
        match event {
            Event::JobEnded { .. } => self.jobs.ended += 1,
            Event::JobFailed { failure, saved, .. } => {
                self.jobs.failed += 1;
                if let Err(what) = jobs_end::fairly(self, index, &client, failure) {
                    self.broken("jobs_end", format!("n{index}: {job}: {what}"));
                }
                self.goes_on(index, &client, *saved);
            }
            _ => {
                let command = Input::Command(client.next(&job));
                self.hosts[index].inbox.push_back(command);
                return;
            }
        }
        let nodes: Vec<NodeId> = client.ring.iter().map(|s| s.node.clone()).collect();
        self.part(&job, None, &nodes);
    }

    fn placed_job(&self, ring: &[Stage]) -> Result<(), String> {
        placement_covers::check(ring, dummy::MODEL, dummy::LAYERS)?;
        for stage in ring {
            let host = self.host_of(&stage.node).and_then(|at| self.hosts.get(at));
            if host.is_none_or(|host| !host.config.trains) {
                return Err(format!("{} has a stage and does not train", stage.node));
            }
        }
        Ok(())
    }

    /// A job that failed goes on from its checkpoint, perhaps.
    fn goes_on(&mut self, index: usize, client: &JobClient, saved: Option<u32>) {
        if self.quiet || self.jobs.draws(300) {
            return;
        }
        let Some(lessons) = saved.and_then(|saved| client.lessons.again(saved)) else {
            return;
        };
        let mut client = client.clone();
        client.setup.resume = saved;
        client.lessons = lessons;
        client.end = None;
        client.ring.clear();
        self.jobs.resumed += 1;
        self.begin_job(index, client);
    }

    /// What stands in the inbox of a host is taken soon, if not by whoever works on it now.
    fn work_later(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.wakes_at = None;
        host.wakes += 1;
        let wakes = host.wakes;
        self.later(Duration::ZERO, super::queue::Happening::Wake(index, wakes));
    }

    /// A host is asked to train once the noise is over, and does.
    pub(super) fn ask_to_train(&mut self, index: usize) {
        if !self.jobs.on || !self.hosts[index].config.trains {
            return;
        }
        // A connection that is dead may not be found to be so before something depends on it.
        for left in (0..4).rev() {
            let Some(job) = self.train(index, 6) else {
                return self.broken("jobs_end", format!("n{index} is down"));
            };
            let end = self.now + Duration::from_secs(60);
            let running = |world: &Self| {
                let client = world.hosts[index].jobs.get(&job);
                client.is_some_and(|client| client.end.is_none())
            };
            while self.now < end && running(self) && !self.is_broken() {
                self.run_until(self.now + Duration::from_millis(100));
            }
            match jobs_end::trained(self, index, &job) {
                Ok(()) => return,
                Err(what) if left == 0 => self.broken("jobs_end", what),
                Err(_) => self.run_until(self.now + Duration::from_secs(12)),
            }
        }
    }
}
