//! Replays what `exo-node --record` wrote: the same inputs at the same times to a fresh node, which
//! must put out the same.

use exo_protocol::record::{Entry, Log, LogError, Trace};
use exo_protocol::{Input, Instant, Node, NodeId, Output};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Whose it is.
    pub node: NodeId,
    /// The version of the program that recorded.
    pub program: String,
    /// Whether prompts are in it.
    pub prompts: bool,
    /// Inputs and deadlines that were replayed.
    pub entries: u64,
    /// Outputs that came of them.
    pub outputs: u64,
    /// How long the recorded time is.
    pub elapsed: Duration,
    /// Bytes at the end that are no whole entry.
    pub cut: usize,
    /// The last entry has no hash: the node that was recorded did not come to its end.
    pub unfinished: bool,
}

/// Why a recording cannot be replayed, or where the replay went another way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no such file.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no recording, or a damaged one.
    #[error("{}: {source}", .path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: LogError,
    },
    /// The node did something else than it did.
    #[error(
        "entry {entry} at {at}, {input}: the node did something else; now it put out {outputs:?}"
    )]
    Diverged {
        /// Which entry, counted from one.
        entry: u64,
        /// The recorded time.
        at: Instant,
        /// What the node was told.
        input: String,
        /// What it put out this time.
        outputs: Vec<Output>,
    },
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            program,
            prompts,
            entries,
            outputs,
            elapsed,
            cut,
            unfinished,
        } = self;
        let prompts = if *prompts { "with" } else { "without" };
        write!(
            f,
            "{entries} entries over {:.3} s of node {node} (exo-node {program}, {prompts} prompts): \
             the same {outputs} outputs",
            elapsed.as_secs_f64()
        )?;
        if *unfinished {
            write!(f, "; the last entry has no end")?;
        }
        if *cut > 0 {
            write!(f, "; {cut} bytes at the end are no whole entry")?;
        }
        Ok(())
    }
}

/// Replays the recording at `path`.
///
/// # Errors
/// When it is none, is damaged, or the node puts out something else.
pub fn replay(path: &Path) -> Result<ReplayReport, ReplayError> {
    let bytes = std::fs::read(path).map_err(|source| ReplayError::File {
        path: path.into(),
        source,
    })?;
    replay_bytes(&bytes, path)
}

/// [`replay`] of what is in memory already; `path` is for errors.
///
/// # Errors
/// As [`replay`].
pub fn replay_bytes(bytes: &[u8], path: &Path) -> Result<ReplayReport, ReplayError> {
    let bad = |source| ReplayError::Log {
        path: path.into(),
        source,
    };
    let mut log = Log::read(bytes).map_err(bad)?;
    let head = log.head.clone();
    let mut trace = Trace::new(head.prompts);
    let mut report = ReplayReport {
        node: head.config.node.clone(),
        program: head.program,
        prompts: head.prompts,
        entries: 0,
        outputs: 0,
        elapsed: Duration::ZERO,
        cut: 0,
        unfinished: false,
    };
    let mut node = Node::new(head.config, head.seed, head.start);
    for entry in &mut log {
        let Entry {
            number,
            at,
            input,
            trace: expected,
        } = entry.map_err(bad)?;
        let told = describe(input.as_ref());
        match input {
            Some(input) => node.handle_input(at, input),
            None => node.handle_timeout(at),
        }
        let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
        for output in &outputs {
            trace.output(output);
        }
        if expected.is_some_and(|expected| expected != trace.hash()) {
            return Err(ReplayError::Diverged {
                entry: number,
                at,
                input: told,
                outputs,
            });
        }
        report.entries = number;
        report.outputs += outputs.len() as u64;
        report.unfinished = expected.is_none();
    }
    report.elapsed = log.elapsed();
    report.cut = log.left();
    Ok(report)
}

/// An input on one line, without what may be large.
fn describe(input: Option<&Input>) -> String {
    match input {
        None => String::from("a deadline"),
        Some(Input::Received {
            connection,
            message,
            ..
        }) => format!("{:?} from connection {connection}", message.message_type()),
        Some(Input::Command(_)) => String::from("a command"),
        Some(Input::Datagram { from, .. }) => format!("a datagram from {from}"),
        Some(Input::Asked { from, .. }) => format!("an announcement from {from}"),
        Some(Input::Answered { .. }) => String::from("an answer to an announcement"),
        Some(Input::Interfaces(_)) => String::from("this machine's addresses"),
        Some(Input::DiscoveryFile(_)) => String::from("the discovery file"),
        Some(Input::Engine(event)) => format!("the engine's answer to call {}", event.call()),
        Some(other) => format!("{other:?}"),
    }
}
