//! Processes of this machine that a test did not start itself.

use super::PATIENCE;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// The processes whose words have all of `wanted` among them, one after the other.
#[must_use]
pub fn with_words(wanted: &[&str]) -> Vec<u32> {
    let has = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words
            .windows(wanted.len().max(1))
            .any(|words| words.iter().zip(wanted).all(|(a, b)| *a == b.as_bytes()))
    };
    all().into_iter().filter(has).collect()
}

/// The children of a process.
#[must_use]
pub fn children_of(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let is_child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state, parent.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
        fields.and_then(|fields| fields.split_whitespace().nth(1)) == Some(&*parent)
    };
    all().into_iter().filter(is_child).collect()
}

/// Ends a process without a word.
///
/// # Panics
/// When the system refuses.
pub fn kill(process: u32) {
    let mut kill = Command::new("kill");
    let status = kill.args(["-s", "KILL", &process.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill works");
}

/// Waits until `found` finds what `wanted` accepts.
///
/// # Panics
/// When it does not within [`PATIENCE`].
pub fn until(
    what: &str,
    found: impl Fn() -> Vec<u32>,
    wanted: impl Fn(&[u32]) -> bool,
) -> Vec<u32> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let processes = found();
        if wanted(&processes) {
            return processes;
        }
        assert!(Instant::now() < give_up, "{what}: {processes:?}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.collect()
}
