//! What this machine can do: its memory decides how many layers it gets.
//!
//! Each system has a file. What its tools and files say is understood by functions of texts, so that
//! every system's are tested on every other.

mod flops;
mod linux;
mod macos;
mod windows;

use exo_protocol::topology::Capabilities;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// Looks at this machine, once. `memory` (MiB) overrides what is found.
#[must_use]
pub fn detect(memory: Option<u64>) -> Capabilities {
    static FOUND: OnceLock<Capabilities> = OnceLock::new();
    let mut found = FOUND.get_or_init(machine).clone();
    if let Some(memory) = memory {
        found.memory = i64::try_from(memory).unwrap_or(i64::MAX);
    }
    found
}

fn machine() -> Capabilities {
    let mut found = if cfg!(target_os = "macos") {
        macos::machine()
    } else if cfg!(windows) {
        windows::machine()
    } else if cfg!(target_os = "linux") {
        linux::machine()
    } else {
        Found::default().told()
    };
    if found.memory <= 0 {
        tracing::warn!(
            "cannot tell how much memory this machine has; assuming {ASSUMED} MiB (set it with \
             --node-memory)"
        );
        found.memory = ASSUMED;
    }
    found
}

/// Enough for a small model, and little enough to be there.
const ASSUMED: i64 = 1024;

/// What was found out about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    model: Option<String>,
    chip: Option<String>,
    /// MiB.
    memory: Option<i64>,
}

impl Found {
    /// What another look finds in the place of what this one did not.
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self.model.is_some() && self.chip.is_some() && self.memory.is_some() {
            return self;
        }
        let other = other();
        Self {
            model: self.model.or(other.model),
            chip: self.chip.or(other.chip),
            memory: self.memory.or(other.memory),
        }
    }

    /// As peers are told.
    fn told(self) -> Capabilities {
        let unknown = Capabilities::unknown();
        let chip = self.chip.unwrap_or(unknown.chip);
        Capabilities {
            model: self.model.unwrap_or(unknown.model),
            memory: self.memory.unwrap_or(unknown.memory),
            flops: flops::of(&chip),
            chip,
            engine: None,
            speed: None,
        }
    }
}

fn mebibytes(bytes: u64) -> i64 {
    i64::try_from(bytes >> 20).unwrap_or(i64::MAX)
}

/// How long a tool may take to describe the machine: a broken driver must not keep a node from
/// starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that a tool's answer is read of.
const MOST: u64 = 1 << 20;

/// What a tool prints, if it is there and succeeds in time.
fn ask(program: &str, args: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let out = child.stdout.take()?;
    let (told, answer) = mpsc::channel();
    let reading = thread::Builder::new()
        .name("capabilities".to_owned())
        .spawn(move || {
            let mut text = String::new();
            let read = out.take(MOST).read_to_string(&mut text);
            let _ = told.send(read.is_ok().then_some(text));
        });
    let text = reading
        .ok()
        .and_then(|_| answer.recv_timeout(PATIENCE).ok());
    if text.is_none() {
        tracing::debug!("{program} does not answer");
        let _ = child.kill();
    }
    let ended = child.wait().ok()?;
    text.flatten().filter(|_| ended.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_wins_and_nothing_is_never_zero() {
        assert_eq!(detect(Some(1000)).memory, 1000);
        assert!(detect(None).memory > 0);
    }

    #[cfg(unix)]
    #[test]
    fn tools_are_asked_and_need_not_be_there() {
        assert_eq!(ask("echo", &["128 GB"]).as_deref(), Some("128 GB\n"));
        assert_eq!(ask("false", &[]), None);
        assert_eq!(ask("no-such-tool-anywhere", &[]), None);
    }
}
