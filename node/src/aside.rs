//! Commands that start no node: they print something, or ask the one that runs here.

mod api;
mod trace;

use crate::cli::{self, Args, Shell, UsageError};
use crate::settings::SettingsError;
use api::Api;
use std::io::{self, Write};

/// Why one of them failed.
#[derive(Debug, thiserror::Error)]
pub enum AsideError {
    /// The command line.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// No API.
    #[error(
        "no node answers at {url}: {reason}; is one running, and is this its --chatgpt-api-port?"
    )]
    Nobody {
        /// Where it was looked for.
        url: String,
        /// The system's words.
        reason: String,
    },
    /// An API that wants a key.
    #[error(
        "{url} answered 401: {message}; --api-key KEY, --api-key-file FILE or EXO_API_KEY gives it"
    )]
    Locked {
        /// What was asked.
        url: String,
        /// Its words.
        message: String,
    },
    /// What is given as the key.
    #[error(transparent)]
    Key(SettingsError),
    /// An API that says something else.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// The terminal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Does what is asked, if it is one of these. `false` if the answer is no.
pub(crate) fn perform(args: &Args) -> Option<Result<bool, AsideError>> {
    let (command, words) = args.words.split_first()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Some(match command.as_str() {
        "completions" => completions(&words),
        "man" => no_more(&words, "man").and_then(|()| print(&cli::man())),
        "trace" => Api::new(args)
            .and_then(|api| trace::trace(args, &words, &api))
            .and_then(|text| print(&text)),
        "health" => no_more(&words, "health")
            .and_then(|()| Api::new(args))
            .and_then(|api| health(&api)),
        _ => return None,
    })
}

/// A wrong flag, also one that is about keys.
fn key_error(error: SettingsError) -> AsideError {
    match error {
        SettingsError::Usage(error) => AsideError::Usage(error),
        error => AsideError::Key(error),
    }
}

fn no_more(words: &[&str], command: &str) -> Result<(), AsideError> {
    match words.first() {
        Some(word) => Err(UsageError(format!("{command} takes no {word:?}")).into()),
        None => Ok(()),
    }
}

fn print(text: &str) -> Result<bool, AsideError> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(true)
}

fn completions(words: &[&str]) -> Result<bool, AsideError> {
    let &[shell] = words else {
        let message = "completions needs a shell: completions bash, zsh or fish";
        return Err(UsageError(message.into()).into());
    };
    let shell: Shell = shell.parse().map_err(UsageError)?;
    print(&cli::completions(shell))
}

/// Whether the node here is ready, for whoever watches over it.
fn health(api: &Api) -> Result<bool, AsideError> {
    let path = "/health/ready";
    let (status, body) = api.get(path)?;
    match status {
        200 => return print("ready\n"),
        503 => {}
        _ => return Err(api.refused(path, status, &body)),
    }
    let reasons = body["reasons"].as_array().into_iter().flatten();
    let reasons: Vec<&str> = reasons.filter_map(|reason| reason.as_str()).collect();
    let reasons = reasons.join("; ");
    print(&format!(
        "not ready: {}\n",
        crate::terminal::printable(&reasons)
    ))?;
    Ok(false)
}
