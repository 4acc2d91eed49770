//! A training job, as the one who drives it sees it: one question at a time, one answer for each.

use super::batches::Batch;
use crate::app::App;
use crate::runtime::CommandError;
use crate::signals::Stop;
use exo_protocol::{Command, Event, Example, JobFailure, RequestId, Stage, Train};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Why a job goes no further.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The ring could not go on.
    #[error("{failure}")]
    Failed {
        /// Why.
        failure: JobFailure,
        /// Steps of the newest checkpoint that every stage wrote.
        saved: Option<u32>,
    },
    /// The node does not listen.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Somebody asked this process to stop.
    #[error("interrupted")]
    Interrupted,
    /// The node has ended.
    #[error("this node is shutting down")]
    Stopped,
}

/// A ring that is ready to learn.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its stages in order.
    pub ring: Vec<Stage>,
    /// How many numbers change.
    pub trainable: u64,
    /// Steps done by the checkpoint that it goes on from.
    pub iteration: u32,
}

/// What came of an example.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Steps done so far.
    pub step: u32,
    /// Mean cross entropy over the positions, in nats.
    pub loss: f32,
    /// How many positions counted.
    pub positions: u32,
}

/// A job under way. Dropping it ends it.
#[derive(Debug)]
pub struct Job<'a> {
    app: &'a App,
    stop: &'a Stop,
    news: Receiver<Event>,
    id: RequestId,
    over: bool,
}

/// Between two looks at whether to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// To end takes the stages no longer than what they are at; after this they are left to their own
/// deadlines.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'a> Job<'a> {
    /// Asks for a job and waits until its ring is ready; `waiting` is called now and then.
    ///
    /// # Errors
    /// When no ring can be formed, a stage refuses, or somebody asks to stop.
    pub fn begin(
        app: &'a App,
        stop: &'a Stop,
        train: Train,
        waiting: &mut dyn FnMut(),
    ) -> Result<(Self, Ready), JobError> {
        let id = train.job.clone();
        let mut job = Self {
            app,
            stop,
            news: app.events().of(id.clone()),
            id,
            over: false,
        };
        job.command(&Command::Train(train))?;
        let ready = job.wait(waiting, |event| match event {
            Event::JobReady {
                ring,
                trainable,
                iteration,
                ..
            } => Some(Ready {
                ring,
                trainable,
                iteration,
            }),
            _ => None,
        })?;
        Ok((job, ready))
    }

    /// Sends a batch through the ring.
    ///
    /// # Errors
    /// When a stage fails or is lost, or somebody asks to stop.
    pub fn example(&mut self, batch: Batch, learn: bool) -> Result<Done, JobError> {
        self.command(&Command::Example(Example {
            job: self.id.clone(),
            batch: batch.sequences,
            tokens: batch.tokens,
            targets: batch.targets,
            learn,
        }))?;
        self.wait(&mut || {}, |event| match event {
            Event::ExampleDone {
                step,
                loss,
                positions,
                ..
            } => Some(Done {
                step,
                loss,
                positions,
            }),
            _ => None,
        })
    }

    /// Has every stage write a checkpoint; returns their files' names.
    ///
    /// # Errors
    /// When one of them cannot, or somebody asks to stop.
    pub fn save(&mut self) -> Result<(u32, Vec<String>), JobError> {
        let job = self.id.clone();
        self.command(&Command::Save { job })?;
        self.wait(&mut || {}, |event| match event {
            Event::JobSaved {
                iteration, files, ..
            } => Some((iteration, files)),
            _ => None,
        })
    }

    /// Ends the job and gives the stages a moment to hear of it.
    pub fn end(mut self) {
        self.over = true;
        let job = self.id.clone();
        if self.command(&Command::EndJob { job }).is_err() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            match self
                .news
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Event::JobEnded { .. } | Event::JobFailed { .. }) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn wait<T>(
        &mut self,
        waiting: &mut dyn FnMut(),
        wanted: impl Fn(Event) -> Option<T>,
    ) -> Result<T, JobError> {
        loop {
            if self.stop.asked() {
                return Err(JobError::Interrupted);
            }
            match self.news.recv_timeout(GLANCE) {
                Ok(Event::JobFailed { failure, saved, .. }) => {
                    self.over = true;
                    return Err(JobError::Failed { failure, saved });
                }
                Ok(event) => {
                    if let Some(found) = wanted(event) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => waiting(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.over = true;
                    return Err(JobError::Stopped);
                }
            }
        }
    }

    /// A node that is busy for a moment is asked again.
    fn command(&self, command: &Command) -> Result<(), CommandError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.app.command(command.clone()) {
                Err(CommandError::Busy) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        if !self.over {
            let job = self.id.clone();
            let _ = self.command(&Command::EndJob { job });
        }
        self.app.events().forget(&self.id);
    }
}
