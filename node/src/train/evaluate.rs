//! `exo-node eval`: how well a model predicts what it has not seen.

use super::batches::Batches;
use super::job::{Job, JobError};
use super::options::{Options, Purpose};
use super::session::{Session, tell_ring};
use crate::Failed;
use crate::app::App;
use crate::settings::Settings;
use crate::signals::Stop;
use exo_protocol::engine::Trainable;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// The mean over many positions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    sum: f64,
    /// How many.
    pub(super) positions: u64,
}

impl Mean {
    /// Another mean over other positions.
    pub(super) fn add(&mut self, loss: f32, positions: u32) {
        self.sum += f64::from(loss) * f64::from(positions);
        self.positions += u64::from(positions);
    }

    /// The mean over all of them; not a number when there is none.
    pub(super) fn value(&self) -> f64 {
        self.sum / self.positions as f64
    }
}

/// Compares up to `count` batches.
pub(super) fn compare(
    job: &mut Job<'_>,
    batches: &mut Batches,
    count: u64,
) -> Result<(Mean, Duration), Failed> {
    let begun = Instant::now();
    let mut mean = Mean::default();
    for step in 0..count.min(batches.per_epoch() as u64) {
        let done = job.example(batches.get(step)?, false)?;
        mean.add(done.loss, done.positions);
    }
    Ok((mean, begun.elapsed()))
}

/// An orderly stop takes no longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What a job is called that writes no checkpoints.
const NAME: &str = "evaluation";

/// Prints the loss over `test.jsonl`. `false` when somebody interrupted it.
///
/// # Errors
/// When the data or the model cannot be used, or the ring fails.
pub fn eval(settings: &Settings, options: &Options, stop: &Stop) -> Result<bool, Failed> {
    let started = App::start(settings)?;
    let app = &started.app;
    if settings.wait_for_peers > 0 {
        app.wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    }
    let result =
        Session::new(app, stop, options, settings.engine).and_then(|session| print(&session));
    started.shutdown(PATIENCE);
    match result {
        Ok(()) => Ok(true),
        Err(Failed::Job(JobError::Interrupted)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn print(session: &Session<'_>) -> Result<(), Failed> {
    let options = session.options;
    let mut batches = session.batches(Purpose::Eval.split())?;
    let (name, trainable, resume) = match &options.job {
        None => (NAME, Trainable::Nothing, None),
        Some(job) => {
            let iteration = job.newest(options.known.as_ref(), session.speaker.layers())?;
            let trainable = options.recipe.trainable.clone();
            (job.name.as_str(), trainable, Some(iteration))
        }
    };
    let (mut job, ready) = session.begin(name, trainable, resume)?;
    let mut out = io::stdout();
    tell_ring(&mut out, session.speaker.id().as_str(), &ready.ring)?;
    if ready.iteration > 0 {
        writeln!(out, "with what {name} learned in {} steps", ready.iteration)?;
    }
    let (mean, time) = compare(&mut job, &mut batches, u64::MAX)?;
    job.end();
    let rate = mean.positions as f64 / time.as_secs_f64();
    writeln!(
        out,
        "test loss {:.4}, perplexity {:.3} (examples {}, tokens {}, {rate:.0} tokens/s)",
        mean.value(),
        mean.value().exp(),
        batches.examples(),
        mean.positions,
    )?;
    Ok(())
}
