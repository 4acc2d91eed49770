//! `exo-node train`: steps, validations and checkpoints.

use super::batches::Batches;
use super::data::{DataError, Split};
use super::evaluate::{Mean, PATIENCE, compare};
use super::job::{Job, JobError};
use super::job_file::{self, JobFile, Reference};
use super::options::{Options, Purpose};
use super::session::{Session, tell_ring};
use crate::Failed;
use crate::app::App;
use crate::settings::Settings;
use crate::signals::Stop;
use exo_protocol::engine::Trainable;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Learns, and prints how it goes. `false` when somebody interrupted it.
///
/// # Errors
/// When the data or the model cannot be used, or the ring fails.
pub fn train(settings: &Settings, options: &Options, stop: &Stop) -> Result<bool, Failed> {
    let started = App::start(settings)?;
    let app = &started.app;
    if settings.wait_for_peers > 0 {
        app.wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    }
    let result = Session::new(app, stop, options, settings.engine)
        .and_then(|session| learn(&session, settings));
    started.shutdown(PATIENCE);
    match result {
        Ok(()) => Ok(true),
        Err(Failed::Job(JobError::Interrupted)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn learn(session: &Session<'_>, settings: &Settings) -> Result<(), Failed> {
    let options = session.options;
    let (id, fingerprint) = (session.speaker.id(), session.speaker.fingerprint());
    let job = options.job.clone().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Reference {
            dir: settings.checkpoints.clone(),
            name: job_file::usual_name(id.as_str(), now.unwrap_or_default().as_secs()),
            iteration: None,
        }
    });
    if let Some(known) = &options.known {
        known.check(id.as_str(), fingerprint)?;
    }
    if !options.resumes && job.folder().exists() {
        return Err(job_file::JobFileError::Exists(job.folder()).into());
    }
    let resume = match options.resumes {
        true => Some(job.newest(options.known.as_ref(), session.speaker.layers())?),
        false => None,
    };
    let data = session.batches(Purpose::Train.split())?;
    let valid = match session.batches(Split::Valid) {
        Ok(batches) => Some(batches),
        Err(DataError::Missing { dir, .. }) => {
            tracing::warn!("{}: no valid.jsonl, nothing is validated", dir.display());
            None
        }
        Err(error) => return Err(error.into()),
    };
    let trainable = options.recipe.trainable.clone();
    let (ring, ready) = session.begin(&job.name, trainable, resume)?;
    let mut out = io::stdout();
    tell_ring(&mut out, id.as_str(), &ready.ring)?;
    writeln!(
        out,
        "{} parameters learn: {}",
        ready.trainable,
        said(options)
    )?;
    writeln!(out, "job {} in {}", job.name, job.folder().display())?;
    if ready.iteration > 0 {
        writeln!(out, "going on after step {}", ready.iteration)?;
    }
    let folder = if options.resumes {
        job.folder()
    } else {
        job_file::begin(&job.dir, &job.name)?
    };
    let known = options.known.clone().unwrap_or(JobFile {
        model: id.to_string(),
        fingerprint,
        recipe: options.recipe.clone(),
        complete: Vec::new(),
    });
    let mut steps = Steps {
        options,
        job: ring,
        known,
        folder,
        done: ready.iteration,
        saved: (ready.iteration > 0).then_some(ready.iteration),
        out,
    };
    let result = steps.run(data, valid);
    if result.is_err() {
        // Told before the error, which comes last.
        steps.tell_what_is_left(&job)?;
    }
    steps.job.end();
    result
}

/// What changes, for people.
fn said(options: &Options) -> String {
    let layers = |last_layers: u32| match last_layers {
        0 => "all layers".to_owned(),
        1 => "the last layer".to_owned(),
        count => format!("the last {count} layers"),
    };
    match options.recipe.trainable {
        Trainable::Lora {
            rank, last_layers, ..
        } => format!("adapters of rank {rank} in {}", layers(last_layers)),
        Trainable::Full { last_layers } => format!("the weights of {}", layers(last_layers)),
        Trainable::Nothing => "nothing".to_owned(),
    }
}

/// The steps of one job.
struct Steps<'a> {
    options: &'a Options,
    job: Job<'a>,
    known: JobFile,
    folder: PathBuf,
    done: u32,
    saved: Option<u32>,
    out: io::Stdout,
}

/// Since the last printed loss.
#[derive(Default)]
struct Report {
    mean: Mean,
    time: Duration,
}

impl Steps<'_> {
    fn run(&mut self, mut data: Batches, mut valid: Option<Batches>) -> Result<(), Failed> {
        let iters = self.options.iters;
        if self.done >= iters {
            let done = self.done;
            writeln!(self.out, "all {done} of --iters {iters} steps are done")?;
            return Ok(());
        }
        let mut report = Report::default();
        self.validate(valid.as_mut())?;
        while self.done < iters {
            let batch = data.get(u64::from(self.done))?;
            let begun = Instant::now();
            let example = self.job.example(batch, true)?;
            report.time += begun.elapsed();
            report.mean.add(example.loss, example.positions);
            self.done = example.step;
            let last = self.done >= iters;
            if last || self.done.is_multiple_of(self.options.steps_per_report) {
                self.report(std::mem::take(&mut report))?;
            }
            if last || self.done.is_multiple_of(self.options.steps_per_eval) {
                self.validate(valid.as_mut())?;
            }
            if last || self.done.is_multiple_of(self.options.save_every) {
                self.save()?;
            }
        }
        Ok(())
    }

    fn report(&mut self, Report { mean, time }: Report) -> io::Result<()> {
        let (done, loss) = (self.done, mean.value());
        let rate = mean.positions as f64 / time.as_secs_f64();
        writeln!(self.out, "step {done}: loss {loss:.4}, {rate:.0} tokens/s")?;
        self.out.flush()
    }

    fn validate(&mut self, valid: Option<&mut Batches>) -> Result<(), Failed> {
        let Some(batches) = valid else { return Ok(()) };
        let count = self.options.val_batches.map_or(u64::MAX, u64::from);
        let (mean, time) = compare(&mut self.job, batches, count)?;
        let (done, loss, seconds) = (self.done, mean.value(), time.as_secs_f64());
        writeln!(
            self.out,
            "step {done}: validation loss {loss:.4} ({} tokens, {seconds:.1} s)",
            mean.positions
        )?;
        Ok(())
    }

    fn save(&mut self) -> Result<(), Failed> {
        let (iteration, files) = self.job.save()?;
        self.known.completed(iteration);
        self.known.write(&self.folder)?;
        self.saved = Some(iteration);
        let files = files.join(", ");
        writeln!(self.out, "step {iteration}: saved {files}")?;
        self.out.flush()?;
        Ok(())
    }

    fn tell_what_is_left(&mut self, job: &Reference) -> io::Result<()> {
        let done = self.done;
        match self.saved {
            Some(saved) => writeln!(
                self.out,
                "ended after step {done}; go on from the checkpoint with --resume-checkpoint \
                 {}:{saved}",
                job.name
            ),
            None => writeln!(self.out, "ended after step {done}; nothing was saved yet"),
        }
    }
}
