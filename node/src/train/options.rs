//! What `exo-node train` and `exo-node eval` were asked for.

use super::data::Split;
use super::job_file::{self, JobFile, Reference};
use super::recipe::Recipe;
use crate::Failed;
use crate::cli::{Args, UsageError};
use crate::settings::{Settings, SettingsError};
use std::path::PathBuf;

/// A job to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model's name or path.
    pub model: String,
    /// The folder with the examples.
    pub data: PathBuf,
    /// What to learn, and how.
    pub recipe: Recipe,
    /// Steps in all.
    pub iters: u32,
    /// Steps from one printed loss to the next.
    pub steps_per_report: u32,
    /// Steps from one validation to the next.
    pub steps_per_eval: u32,
    /// Batches of a validation; all if none.
    pub val_batches: Option<u32>,
    /// Steps from one checkpoint to the next.
    pub save_every: u32,
    /// The job, by its folder; an evaluation without a checkpoint has none.
    pub job: Option<Reference>,
    /// What is known of the job that goes on, if its file is here.
    pub known: Option<JobFile>,
    /// Whether the job goes on, rather than begins.
    pub resumes: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Learn.
    Train,
    /// Compare.
    Eval,
}

impl Purpose {
    /// The file that is read first.
    #[must_use]
    pub fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Eval => Split::Test,
        }
    }
}

impl Options {
    /// Checks what was asked for and looks for the job to go on with. From then on `settings` look
    /// for checkpoints where the job is.
    ///
    /// # Errors
    /// When flags are missing, out of range or contradict each other or the resumed job, or the
    /// job's file is damaged.
    pub fn new(
        purpose: Purpose,
        model: Option<&str>,
        args: &Args,
        settings: &mut Settings,
    ) -> Result<Self, Failed> {
        let data = args.data.clone().ok_or_else(|| {
            let file = purpose.split().file_name();
            usage(format!("--data DIR is missing: the folder with {file}"))
        })?;
        let resumed = match &args.resume_checkpoint {
            Some(text) => Some(Reference::parse(text, &settings.checkpoints)?),
            None => None,
        };
        let known = match &resumed {
            Some(job) => JobFile::read(&job.folder())?,
            None => None,
        };
        let usual = Recipe::default();
        let recipe = match (&known, purpose) {
            (Some(job), Purpose::Train) => job.recipe.resumed(args),
            (Some(job), Purpose::Eval) => job.recipe.with(args),
            (None, _) => usual.with(args),
        };
        let recipe = recipe.map_err(SettingsError::Usage)?;
        let model = match (model, &known) {
            (Some(model), _) => model.to_owned(),
            (None, Some(job)) => job.model.clone(),
            (None, None) => return Err(usage("which model? As in exo-node train MODEL".into())),
        };
        let resumes = resumed.is_some();
        let job = match (resumed, &args.job_name) {
            (Some(_), Some(_)) => {
                let message = "--job-name is for a new job; a resumed one has its name";
                return Err(usage(message.to_owned()));
            }
            (Some(job), None) => Some(job),
            (None, Some(name)) if purpose == Purpose::Train => Some(Reference {
                dir: settings.checkpoints.clone(),
                name: job_file::checked(name)?,
                iteration: None,
            }),
            (None, _) => None,
        };
        if let Some(job) = &job {
            settings.checkpoints.clone_from(&job.dir);
        }
        let at_least_one = |flag: &str, value: Option<u32>, usual: u32| match value.unwrap_or(usual)
        {
            0 => Err(usage(format!("{flag} must be at least 1"))),
            value => Ok(value),
        };
        Ok(Self {
            model,
            data,
            recipe,
            iters: at_least_one("--iters", args.iters, 1000)?,
            steps_per_report: at_least_one("--steps-per-report", args.steps_per_report, 10)?,
            steps_per_eval: at_least_one("--steps-per-eval", args.steps_per_eval, 200)?,
            val_batches: Some(args.val_batches.unwrap_or(25)).filter(|count| *count > 0),
            save_every: at_least_one("--save-every", args.save_every, 100)?,
            job,
            known,
            resumes,
        })
    }
}

fn usage(message: String) -> Failed {
    Failed::Settings(SettingsError::Usage(UsageError(message)))
}

/// The first flag that is given and is about training alone, for the other commands.
#[must_use]
pub fn stray(args: &Args) -> Option<&'static str> {
    let given = [
        ("--data", args.data.is_some()),
        ("--iters", args.iters.is_some()),
        ("--batch-size", args.batch_size.is_some()),
        ("--max-seq-length", args.max_seq_length.is_some()),
        ("--mask-prompt", args.mask_prompt),
        ("--learning-rate", args.learning_rate.is_some()),
        ("--optimizer", args.optimizer.is_some()),
        ("--weight-decay", args.weight_decay.is_some()),
        ("--lora-rank", args.lora_rank.is_some()),
        ("--lora-scale", args.lora_scale.is_some()),
        ("--lora-layers", args.lora_layers.is_some()),
        ("--full-layers", args.full_layers.is_some()),
        ("--seed", args.seed.is_some()),
        ("--steps-per-report", args.steps_per_report.is_some()),
        ("--steps-per-eval", args.steps_per_eval.is_some()),
        ("--val-batches", args.val_batches.is_some()),
        ("--save-every", args.save_every.is_some()),
        ("--resume-checkpoint", args.resume_checkpoint.is_some()),
        ("--job-name", args.job_name.is_some()),
    ];
    given
        .into_iter()
        .find(|(_, given)| *given)
        .map(|(flag, _)| flag)
}
