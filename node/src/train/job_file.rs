//! `job.json`: what the node that drives a job remembers of it, beside the checkpoints.

use super::recipe::Recipe;
use crate::logging::timestamp;
use exo_engine_mlx::checkpoint::{self, Adapter, CheckpointName};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The file's name in a job's folder.
const FILE: &str = "job.json";

/// More than this is no such file: 4096 numbers of checkpoints, and the rest.
const MAX_BYTES: u64 = 1 << 20;

/// A job as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct JobFile {
    /// The model's name.
    pub model: String,
    /// What the model is; a job does not go on with another one.
    pub fingerprint: u64,
    /// What is learned, and how.
    pub recipe: Recipe,
    /// Steps of the checkpoints that every stage wrote, in order.
    pub complete: Vec<u32>,
}

/// Why a job cannot be remembered, or goes on nowhere.
#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    /// The system refused.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it was written as.
    #[error("{} is damaged: {why}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// The job's name is none.
    #[error(
        "{0:?} cannot name a job: expected letters, digits, '-', '_' and '.', at most 64, not \
         beginning with a dot"
    )]
    Name(String),
    /// A new job would mix its checkpoints with another one's.
    #[error(
        "{} exists already: choose another --job-name, or go on with --resume-checkpoint", .0.display()
    )]
    Exists(PathBuf),
    /// The job was begun with another model.
    #[error("the job was begun with {job}, and cannot go on with {found}")]
    Model {
        /// The model it was begun with, and what that was.
        job: String,
        /// The model that is here.
        found: String,
    },
    /// There is nothing to go on from.
    #[error("there is no checkpoint of all layers in {}{}", .folder.display(), partly(.found))]
    Nothing {
        /// The job's folder.
        folder: PathBuf,
        /// Steps of which there are some layers.
        found: Vec<u32>,
    },
}

fn partly(steps: &[u32]) -> String {
    match steps {
        [] => String::new(),
        steps => {
            let steps: Vec<String> = steps.iter().map(u32::to_string).collect();
            let steps = steps.join(", ");
            format!(
                "; of steps {steps} some layers are here: if the others are on the other nodes, \
                 name the step, as in --resume-checkpoint JOB:STEPS"
            )
        }
    }
}

impl JobFile {
    /// Reads the file of a job, if there is one.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>, JobFileError> {
        let file = folder.join(FILE);
        let io = |source| JobFileError::Io {
            file: file.clone(),
            source,
        };
        let opened = match File::open(&file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut text = Vec::new();
        opened.take(MAX_BYTES).read_to_end(&mut text).map_err(io)?;
        Self::parse(&text).map(Some).map_err(|why| {
            let file = file.clone();
            JobFileError::Damaged { file, why }
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let expected = |what: &str| format!("`{what}` is missing or no such thing");
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let complete = value.get("complete").and_then(Value::as_array);
        let complete = complete.ok_or_else(|| expected("complete"))?.iter();
        let step = |step: &Value| step.as_u64().and_then(|step| u32::try_from(step).ok());
        Ok(Self {
            model: text("model").ok_or_else(|| expected("model"))?.to_owned(),
            fingerprint: text("fingerprint")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .ok_or_else(|| expected("fingerprint"))?,
            recipe: Recipe::from_json(&value).map_err(expected)?,
            complete: complete
                .map(|value| step(value).ok_or_else(|| expected("complete")))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Writes the file: whole or not at all, whenever the power goes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, folder: &Path) -> Result<(), JobFileError> {
        let mut value = json!({
            "model": self.model,
            "fingerprint": format!("{:016x}", self.fingerprint),
        });
        if let (Value::Object(value), Value::Object(recipe)) = (&mut value, self.recipe.to_json()) {
            value.extend(recipe);
            value.insert("complete".to_owned(), json!(self.complete));
        }
        let file = folder.join(FILE);
        let write = || {
            fs::create_dir_all(folder)?;
            let new = folder.join(format!("{FILE}.new"));
            let mut out = File::create(&new)?;
            writeln!(out, "{value:#}")?;
            out.sync_all()?;
            fs::rename(&new, &file)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|source| JobFileError::Io {
            file: file.clone(),
            source,
        })
    }

    /// Whether the job was begun with this model.
    ///
    /// # Errors
    /// [`JobFileError::Model`] if not.
    pub fn check(&self, model: &str, fingerprint: u64) -> Result<(), JobFileError> {
        // Zero means that nobody could tell.
        let same = self.fingerprint == fingerprint || self.fingerprint == 0 || fingerprint == 0;
        if same {
            return Ok(());
        }
        Err(JobFileError::Model {
            job: format!("{} ({:016x})", self.model, self.fingerprint),
            found: format!("{model} ({fingerprint:016x})"),
        })
    }

    /// Another checkpoint is there on all stages.
    pub fn completed(&mut self, iteration: u32) {
        self.complete.retain(|step| *step != iteration);
        self.complete.push(iteration);
        self.complete.sort_unstable();
    }
}

/// A job to go on with, as `--resume-checkpoint` and `--adapter` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The folder with the jobs' folders.
    pub dir: PathBuf,
    /// The job's name, which is its folder's.
    pub name: String,
    /// Steps of the checkpoint, if they were given.
    pub iteration: Option<u32>,
}

impl Reference {
    /// Understands `NAME`, `FOLDER`, `NAME:STEPS` and `FOLDER:STEPS`; a name is looked for in
    /// `dir`.
    ///
    /// # Errors
    /// [`JobFileError::Name`] when it names no job.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, JobFileError> {
        let (place, iteration) = match text.rsplit_once(':') {
            Some((place, steps)) if steps.parse::<u32>().is_ok() => (place, steps.parse().ok()),
            _ => (text, None),
        };
        let path = Path::new(place);
        let bad = || JobFileError::Name(place.to_owned());
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| checkpoint::is_job_name(name));
        let name = name.ok_or_else(bad)?.to_owned();
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => dir.to_owned(),
        };
        Ok(Self {
            dir,
            name,
            iteration,
        })
    }

    /// The job's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// The steps to go on from: those given, else the newest checkpoint that every stage is known
    /// to have written, else the newest one of which all `layers` are here.
    ///
    /// # Errors
    /// [`JobFileError::Nothing`] when there is none.
    pub fn newest(&self, job: Option<&JobFile>, layers: u32) -> Result<u32, JobFileError> {
        let known = job.and_then(|job| job.complete.last().copied());
        if let Some(iteration) = self.iteration.or(known) {
            return Ok(iteration);
        }
        let folder = self.folder();
        let names = checkpoint::list(&folder).map_err(|source| JobFileError::Io {
            file: folder.clone(),
            source,
        })?;
        newest_whole(&names, layers).ok_or_else(|| JobFileError::Nothing {
            folder,
            found: checkpoint::iterations(&names),
        })
    }
}

impl Reference {
    /// The checkpoint to answer with: of the steps given, else the newest one that every stage is
    /// known to have written, else the newest one of which there is any file.
    ///
    /// # Errors
    /// When the job's folder cannot be read or has no checkpoint.
    pub fn adapter(&self) -> Result<Adapter, JobFileError> {
        let folder = self.folder();
        let known = JobFile::read(&folder)?;
        let known = known.and_then(|job| job.complete.last().copied());
        let names = checkpoint::list(&folder).map_err(|source| JobFileError::Io {
            file: folder.clone(),
            source,
        })?;
        let found = checkpoint::iterations(&names);
        let wanted = self.iteration.or(known).or(found.last().copied());
        match wanted.filter(|wanted| found.contains(wanted)) {
            Some(iteration) => Ok(Adapter { folder, iteration }),
            None => Err(JobFileError::Nothing { folder, found }),
        }
    }
}

fn newest_whole(names: &[CheckpointName], layers: u32) -> Option<u32> {
    let whole = |iteration: &u32| checkpoint::missing(names, *iteration, 0..layers).is_empty();
    checkpoint::iterations(names).into_iter().rev().find(whole)
}

/// The name, if it can be a job's.
///
/// # Errors
/// [`JobFileError::Name`] if not.
pub fn checked(name: &str) -> Result<String, JobFileError> {
    if checkpoint::is_job_name(name) {
        Ok(name.to_owned())
    } else {
        Err(JobFileError::Name(name.to_owned()))
    }
}

/// A new job's name: the model's and the time, `stories-20261128-160501`.
#[must_use]
pub fn usual_name(model: &str, unix_seconds: u64) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let model: String = model.chars().map(plain).take(40).collect();
    let time = timestamp(unix_seconds).replace([':', '-', 'Z'], "");
    format!("{}-{}", model.trim_matches('-'), time.replace('T', "-"))
}

/// Makes the folder of a new job.
///
/// # Errors
/// When it is taken by another job, or the system refuses.
pub fn begin(dir: &Path, name: &str) -> Result<PathBuf, JobFileError> {
    let folder = dir.join(name);
    let io = |source| JobFileError::Io {
        file: folder.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(io)?;
    match fs::create_dir(&folder) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(JobFileError::Exists(folder))
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests;
