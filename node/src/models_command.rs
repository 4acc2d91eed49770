//! `exo-node models`: what is here, what the hub has, and getting from one to the other.

mod look;
mod progress;
mod table;

use crate::cli::{Args, UsageError, nearest};
use crate::settings;
use crate::terminal::{Style, printable};
use exo_models::hub::{Cancel, Checked, Hub, HubError, HubName, Size, State};
use exo_models::{Catalog, ModelError};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// What to do with which model.
#[derive(Debug)]
pub struct Models {
    action: Action,
    catalog: Catalog,
    hub: Hub,
    json: bool,
    repair: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    List,
    Pull(String),
    Info(String),
    Verify(String),
    Remove(String),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The hub, its cache, or the disk.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model is not here, or cannot be used.
    #[error("{source}\n  `exo-node models pull {name}` downloads what the hub has")]
    Model {
        /// What was asked for.
        name: String,
        /// What is wrong.
        source: Box<ModelError>,
    },
    /// Only what came from the hub can be compared with it.
    #[error(
        "{name} is {}, which did not come from the hub: nobody knows its hash\n  `exo-node models \
         info {name}` tells whether it can be read", path.display()
    )]
    NoHash {
        /// What was asked for.
        name: String,
        /// Where it is.
        path: PathBuf,
    },
    /// The output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

const ACTIONS: [&str; 5] = ["list", "pull", "info", "verify", "rm"];

impl Models {
    /// Understands the words after `models`.
    ///
    /// # Errors
    /// When they say something else, or too much or too little.
    pub fn new(args: &Args, words: &[String]) -> Result<Self, UsageError> {
        let dirs = args.models_dir.iter().chain(&args.models_seed_dir);
        let dirs: Vec<PathBuf> = dirs.cloned().collect();
        let action = action(words)?;
        if args.repair && !matches!(action, Action::Verify(_)) {
            return Err(UsageError("--repair goes with models verify".to_owned()));
        }
        Ok(Self {
            action,
            catalog: Catalog::new(dirs),
            hub: Hub::new(settings::hub(args)?),
            json: args.json,
            repair: args.repair,
        })
    }

    /// Does it. `false` when a model turned out to be damaged and is so still.
    ///
    /// # Errors
    /// When it cannot be done; the message says what would help.
    pub fn run(&self) -> Result<bool, ModelsError> {
        let mut out = io::stdout().lock();
        match &self.action {
            Action::List => self.list(&mut out).map(|()| true),
            Action::Info(name) => self.info(name, &mut out).map(|()| true),
            Action::Pull(name) => self.pull(name, &mut out).map(|()| true),
            Action::Verify(name) => self.verify(name, &mut out),
            Action::Remove(name) => self.remove(name, &mut out).map(|()| true),
        }
    }

    fn pull(&self, name: &str, out: &mut impl Write) -> Result<(), ModelsError> {
        let name = HubName::parse(name)?;
        let bars = progress::Bars::new(Style::stderr());
        let pulled = self.hub.pull(&name, None, &bars, &Cancel::default());
        bars.end();
        let pulled = pulled?;
        if self.json {
            return tell_json(
                out,
                &json!({
                    "model": pulled.name.to_string(),
                    "path": pulled.path,
                    "commit": pulled.commit,
                    "bytes": pulled.bytes,
                    "downloaded": pulled.fetched,
                }),
            );
        }
        let how = match pulled.fetched {
            0 => "was here already".to_owned(),
            fetched => format!("{} downloaded, every file has its hash", Size(fetched)),
        };
        writeln!(
            out,
            "{} ({}): {how}\n{}",
            pulled.name,
            Size(pulled.bytes),
            pulled.path.display()
        )?;
        Ok(())
    }

    fn verify(&self, name: &str, out: &mut impl Write) -> Result<bool, ModelsError> {
        if let Some(path) = self.elsewhere(name) {
            let name = name.to_owned();
            return Err(ModelsError::NoHash { name, path });
        }
        let name = HubName::parse(name)?;
        let mut failed = None;
        let mut tell = |one: &Checked| {
            if !self.json && failed.is_none() {
                let line = format!(
                    "{:<8} {:>8}  {}",
                    state(one.state),
                    Size(one.bytes),
                    one.file
                );
                failed = writeln!(out, "{}", printable(&line)).err();
            }
        };
        let checked = self.hub.verify(&name, &mut tell, &Cancel::default())?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let damaged = checked.iter().any(|file| file.state == State::Damaged);
        let repaired = match self.repair && damaged {
            true => Some(self.mend(&name, &checked)?),
            false => None,
        };
        let whole = !damaged || repaired.is_some();
        if self.json {
            let files: Vec<Value> = checked
                .iter()
                .map(|file| {
                    let mended = repaired.is_some() && file.state == State::Damaged;
                    let state = if mended {
                        "repaired"
                    } else {
                        state(file.state)
                    };
                    json!({"file": file.file, "bytes": file.bytes, "state": state})
                })
                .collect();
            let all = json!({
                "model": name.to_string(), "whole": whole, "downloaded": repaired.unwrap_or(0),
                "files": files,
            });
            tell_json(out, &all)?;
        } else if let Some(fetched) = repaired {
            writeln!(out, "repaired: {} downloaded", Size(fetched))?;
        } else if damaged {
            writeln!(
                out,
                "damaged: exo-node models verify {name} --repair downloads that again"
            )?;
        }
        Ok(whole)
    }

    /// Where a model is, if not in the hub's cache: a name that means something else than a repository
    /// is somebody's own file.
    fn elsewhere(&self, name: &str) -> Option<PathBuf> {
        let mut all = self.catalog.list().into_iter();
        let path = all.find(|entry| entry.id == name)?.path?;
        let cache = &self.hub.options().cache;
        (!path.starts_with(cache)).then_some(path)
    }

    /// Fetches again what is damaged; the bytes that came.
    fn mend(&self, name: &HubName, checked: &[Checked]) -> Result<u64, ModelsError> {
        let bars = progress::Bars::new(Style::stderr());
        let fetched = self.hub.repair(name, checked, &bars, &Cancel::default());
        bars.end();
        Ok(fetched?)
    }

    fn remove(&self, text: &str, out: &mut impl Write) -> Result<(), ModelsError> {
        if let Some(path) = self.elsewhere(text) {
            return Err(ModelsError::Hub(HubError::OutsideCache {
                name: text.to_owned(),
                path,
                cache: self.hub.options().cache.clone(),
            }));
        }
        let name = HubName::parse(text)?;
        let removed = self.hub.remove(&name)?;
        if self.json {
            let all = json!({
                "model": name.to_string(), "removed": removed.paths, "bytes": removed.bytes,
            });
            return tell_json(out, &all);
        }
        for path in &removed.paths {
            writeln!(out, "removed {}", path.display())?;
        }
        writeln!(out, "{} are free now", Size(removed.bytes))?;
        Ok(())
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Whole => "whole",
        State::Damaged => "DAMAGED",
        State::Absent => "absent",
        State::Part => "part",
        _ => "unknown",
    }
}

fn tell_json(out: &mut impl Write, value: &Value) -> Result<(), ModelsError> {
    writeln!(out, "{value:#}")?;
    Ok(())
}

fn action(words: &[String]) -> Result<Action, UsageError> {
    let known = ACTIONS.join(", ");
    let Some((what, models)) = words.split_first() else {
        return Ok(Action::List);
    };
    let (make, takes): (fn(String) -> Action, bool) = match what.as_str() {
        "list" | "ls" => (|_| Action::List, false),
        "pull" => (Action::Pull, true),
        "info" => (Action::Info, true),
        "verify" => (Action::Verify, true),
        "rm" => (Action::Remove, true),
        other => {
            return Err(UsageError(match nearest(other, ACTIONS.into_iter()) {
                Some(near) => format!("models does not know {other:?}; did you mean {near}?"),
                None => format!("models does not know {other:?}; it takes {known}"),
            }));
        }
    };
    match (models, takes) {
        ([], false) => Ok(make(String::new())),
        ([model], true) => Ok(make(model.clone())),
        ([], true) => Err(UsageError(format!("which model? models {what} MODEL"))),
        ([model, ..], false) | ([_, model, ..], true) => Err(UsageError(format!(
            "unexpected word {model:?} after models {what}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Action, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        action(&words).map_err(|error| error.0)
    }

    #[test]
    fn words_say_what_to_do() {
        assert_eq!(words(""), Ok(Action::List));
        assert_eq!(words("ls"), Ok(Action::List));
        assert_eq!(words("rm a/b"), Ok(Action::Remove("a/b".to_owned())));
        for (line, wanted) in [
            ("list x", "unexpected word \"x\" after models list"),
            ("pull", "which model? models pull MODEL"),
            ("pull a b", "unexpected word \"b\" after models pull"),
            ("pul a", "did you mean pull?"),
            ("xxxxxxxxx", "it takes list, pull, info, verify, rm"),
        ] {
            let told = words(line).unwrap_err();
            assert!(told.contains(wanted), "{line}: {told}");
        }
    }
}
