//! Why a model was not fetched, in words that say what to do.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::ModelError;

/// What can go wrong between a model's name and its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is none that a repository could have.
    #[error(
        "no model is named `{name}`{}; expected a name of the registry, a repository \
         (organisation/name), or one file of it (organisation/name:file.gguf)",
        meant(near)
    )]
    Name {
        /// What was asked for.
        name: String,
        /// Names of the registry that look like it.
        near: Vec<String>,
    },

    /// It is compiled into the binary.
    #[error("the model `{0}` is built in, there is nothing to download")]
    BuiltIn(String),

    /// The hub may not be asked.
    #[error(
        "{what} is not on this machine, and downloads are switched off; leave out --offline, and \
         unset HF_HUB_OFFLINE, to allow them"
    )]
    Offline {
        /// What would have been downloaded.
        what: String,
    },

    /// The hub has no such repository, or does not show it.
    #[error(
        "{endpoint} has no repository {repo}, or does not show it{}; check the name{}",
        meant(near),
        private(*token)
    )]
    NoRepository {
        /// The repository.
        repo: String,
        /// The hub.
        endpoint: String,
        /// Whether a token was sent.
        token: bool,
        /// Repositories of the registry that look like it.
        near: Vec<String>,
    },

    /// The repository has no such file or version.
    #[error("{repo} has no {what}{}", listed(near))]
    NoFile {
        /// The repository.
        repo: String,
        /// What was looked for.
        what: String,
        /// What it has instead.
        near: Vec<String>,
    },

    /// The repository wants its licence accepted.
    #[error("{repo} is gated: accept its licence at {url}{}", gated(*token))]
    Gated {
        /// The repository.
        repo: String,
        /// Where it is accepted.
        url: String,
        /// Whether a token was sent.
        token: bool,
    },

    /// The hub refuses for another reason.
    #[error("{url} is forbidden ({status}): {why}{}", private(*token))]
    Forbidden {
        /// What was asked for.
        url: String,
        /// The status of the answer.
        status: u16,
        /// The hub's words.
        why: String,
        /// Whether a token was sent.
        token: bool,
    },

    /// The hub, or who stores its files, has a problem.
    #[error("{url} answered {status}: {why}{}", later(*wait))]
    Status {
        /// What was asked for.
        url: String,
        /// The status of the answer.
        status: u16,
        /// Its words.
        why: String,
        /// When to ask again, if it says so.
        wait: Option<Duration>,
    },

    /// No connection, or it broke.
    #[error("{host} cannot be reached: {why}; {hint}")]
    Connection {
        /// The server.
        host: String,
        /// What happened.
        why: String,
        /// What may help.
        hint: &'static str,
    },

    /// The server could not show who it is.
    #[error(
        "no secure connection to {host}: {why}; if a proxy looks into encrypted traffic here, give \
         its certificates in SSL_CERT_FILE; check the clock of this machine too"
    )]
    Tls {
        /// The server.
        host: String,
        /// What happened.
        why: String,
    },

    /// Certificates, proxy or endpoint are set to something that cannot be used.
    #[error("{setting} cannot be used: {why}")]
    Setting {
        /// The variable.
        setting: &'static str,
        /// What is wrong.
        why: String,
    },

    /// The answer is not what a hub says.
    #[error("{url} answered with {found}, expected {expected}; is HF_ENDPOINT a model hub?")]
    Answer {
        /// What was asked for.
        url: String,
        /// What a hub says.
        expected: &'static str,
        /// What came.
        found: String,
    },

    /// The body ended early.
    #[error("the download of {file} broke off after {found} of {expected} bytes")]
    Cut {
        /// The file.
        file: String,
        /// Its bytes.
        expected: u64,
        /// Those that came.
        found: u64,
    },

    /// The body is not as long as was said.
    #[error(
        "the download of {file} has another length than announced: {found} bytes, expected {expected}"
    )]
    Length {
        /// The file.
        file: String,
        /// What was announced.
        expected: u64,
        /// What came, at least.
        found: u64,
    },

    /// What came is not the file.
    #[error(
        "{file} is damaged: its hash is {found}, expected {expected}; something on the way to the \
         hub changes files"
    )]
    Hash {
        /// The file.
        file: String,
        /// What the hub says.
        expected: String,
        /// What came.
        found: String,
    },

    /// There is no room.
    #[error(
        "the disk of {} is full: {}{} is free; make room, or put the cache elsewhere with HF_HOME",
        .folder.display(), needs(*.needed), Size(*.free)
    )]
    DiskFull {
        /// Where it should go.
        folder: PathBuf,
        /// Bytes that are missing yet, if that is known.
        needed: Option<u64>,
        /// Bytes that are free.
        free: u64,
    },

    /// Several files may be meant.
    #[error(
        "{repo} has several models: choose one, as {repo}:{}{}",
        first(choices),
        listed(choices)
    )]
    Choose {
        /// The repository.
        repo: String,
        /// Its files.
        choices: Vec<String>,
    },

    /// The repository has nothing that an engine reads.
    #[error("{repo} has no weights that can be used: it has {found}, expected safetensors or GGUF")]
    NoWeights {
        /// The repository.
        repo: String,
        /// What it has.
        found: String,
    },

    /// A file of this machine.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },

    /// The cache has no such model.
    #[error("{name} is not in the hub's cache ({})", .cache.display())]
    NotCached {
        /// What was asked for.
        name: String,
        /// The cache.
        cache: PathBuf,
    },

    /// It would be removed from somewhere else than the cache.
    #[error(
        "{name} is in {}, outside the hub's cache ({}): remove it yourself",
        .path.display(), .cache.display()
    )]
    OutsideCache {
        /// What was asked for.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// The cache.
        cache: PathBuf,
    },

    /// It is being fetched.
    #[error("{repo} is being downloaded by another process; try again when that is done")]
    Busy {
        /// The repository.
        repo: String,
    },

    /// Somebody said to stop; what has come is kept.
    #[error("the download was stopped; the next one goes on from where it is")]
    Cancelled,

    /// What was fetched describes no model that works here.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl HubError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether another attempt may go better.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                *status >= 500 || matches!(status, 408 | 416 | 425 | 429)
            }
            Self::Connection { .. }
            | Self::Cut { .. }
            | Self::Length { .. }
            | Self::Hash { .. } => true,
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}

fn meant(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(", ")),
    }
}

fn listed(choices: &[String]) -> String {
    /// More are not read.
    const MOST: usize = 24;
    match choices {
        [] => String::new(),
        choices => {
            let more = if choices.len() > MOST { ", …" } else { "" };
            let shown: Vec<&str> = choices.iter().take(MOST).map(String::as_str).collect();
            format!("; it has {}{more}", shown.join(", "))
        }
    }
}

fn first(choices: &[String]) -> &str {
    choices.first().map_or("FILE", String::as_str)
}

fn private(token: bool) -> &'static str {
    if token {
        "; if it is private, HF_TOKEN has to be the token of somebody who may read it"
    } else {
        "; if it is private, set HF_TOKEN"
    }
}

fn gated(token: bool) -> &'static str {
    if token {
        " with the account that HF_TOKEN belongs to"
    } else {
        ", then set HF_TOKEN to a token of that account (https://huggingface.co/settings/tokens)"
    }
}

fn later(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| {
        format!("; try again in {} s", wait.as_secs().max(1))
    })
}

fn needs(needed: Option<u64>) -> String {
    needed.map_or_else(String::new, |needed| {
        format!("{} more are needed, ", Size(needed))
    })
}

/// Bytes as people read them: `1.2 GB`.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "kB", "MB", "GB", "TB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        for next in units {
            if value < 999.5 {
                break;
            }
            value /= 1000.0;
            unit = next;
        }
        let text = match value {
            _ if unit == "B" => format!("{} {unit}", self.0),
            value if value < 99.95 => format!("{value:.1} {unit}"),
            value => format!("{value:.0} {unit}"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_short() {
        for (bytes, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_960, "100 kB"),
            (1_234_567_890, "1.2 GB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(Size(bytes).to_string(), wanted);
        }
        assert_eq!(format!("{:>8}|", Size(1000)), "  1.0 kB|");
    }
}
