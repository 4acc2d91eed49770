//! Recordings: all that a node was told, with the times, so that what it did can be done again.
//!
//! A [`Node`](crate::Node) with the same settings, the same seed and the same inputs puts out the
//! same. A driver that was given a [`Recorder`] writes them down as it hands them in; a [`Log`]
//! reads them back for a fresh node. After each input stands a running hash of everything that the
//! node put out so far, so that whoever replays knows at which entry it did something else.
//!
//! ```text
//! log    = "EXO-LOG" version:u8 length:u32 head hash:u64 entry*
//! head   = prompts:bool program:text seed start config
//! entry  = length body sum:u32, trace:u64
//! body   = nanoseconds since the entry before, input or nothing (a deadline that may be due)
//! ```
//!
//! Numbers in seven-bit groups but for those with a width, which are big-endian. `hash`, `sum` (its
//! lower half) and `trace` are FNV-1a. A log may end anywhere, as it does when a machine stops: what
//! is left of an entry is passed over. Only its trace may be missing: an entry is written before the
//! node is told and its trace afterwards, so that an input on which the node fails is the last one.
//!
//! Unless prompts are wanted, nothing of what was said is written: see [`Recorder::prompts`].

mod codec;
mod config;
mod hash;
mod input;
mod json;
mod output;
mod pieces;
mod quiet;
mod redact;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::node::{Input, Output};
use crate::time::Instant;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use codec::{Damage, Item, Source};
use core::fmt;
use core::time::Duration;
use hash::Fnv;
use redact::Redactor;

/// The start of every log; the last byte is the format's version.
const MAGIC: [u8; 8] = *b"EXO-LOG\x01";

/// See [`Recorder::append`].
pub type Append = Box<dyn FnMut(&[u8]) -> bool + Send + Sync>;

/// Where a recording goes, and what is in it.
pub struct Recorder {
    /// Whether prompts, tokens and hidden states are written as they are. If not, something of the
    /// same length stands in for them: letters for letters, zeros for tensors (and for pieces of
    /// files, which would fill a disk), one token for all of as many digits that do not end an
    /// answer. Such a recording replays as well; words for people, which may quote what was said,
    /// are then not compared.
    pub prompts: bool,
    /// Takes bytes to append, all or none of them, and says whether it did; if not, it is not called
    /// again. Whoever holds the node calls it, so it must not wait for a disk.
    pub append: Append,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("prompts", &self.prompts)
            .finish_non_exhaustive()
    }
}

/// A recording that is under way, for drivers. Before every `handle_*` comes [`Recording::input`],
/// after it [`Recording::output`] for each output, and then [`Recording::commit`].
#[derive(Debug)]
pub struct Recording {
    recorder: Recorder,
    redactor: Option<Redactor>,
    trace: Trace,
    last: Instant,
    body: Vec<u8>,
    entry: Vec<u8>,
    /// The recorder takes more.
    open: bool,
}

impl Recording {
    /// Begins the log of a node that is made of these.
    #[must_use]
    pub fn start(mut recorder: Recorder, config: &Config, seed: u64, start: Instant) -> Self {
        let prompts = recorder.prompts;
        let mut head = Vec::new();
        prompts.put(&mut head);
        String::from(env!("CARGO_PKG_VERSION")).put(&mut head);
        seed.put(&mut head);
        start.as_nanos().put(&mut head);
        config.put(&mut head);
        let mut log = Vec::from(MAGIC);
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
        log.extend(length.to_be_bytes());
        log.extend(&head);
        log.extend(Fnv::of(&head).to_be_bytes());
        let open = (recorder.append)(&log);
        Self {
            recorder,
            redactor: (!prompts).then(Redactor::default),
            trace: Trace::new(prompts),
            last: start,
            body: Vec::new(),
            entry: Vec::new(),
            open,
        }
    }

    /// What the node is about to be told; nothing for a deadline that may be due.
    pub fn input(&mut self, now: Instant, input: Option<&Input>) {
        self.body.clear();
        let since = now.as_nanos().wrapping_sub(self.last.as_nanos());
        since.put(&mut self.body);
        self.last = now;
        input.is_some().put(&mut self.body);
        match (input, &mut self.redactor) {
            (Some(input), Some(redactor)) => redactor.input(input).put(&mut self.body),
            (Some(input), None) => input.put(&mut self.body),
            (None, _) => {}
        }
        self.entry.clear();
        self.body.len().put(&mut self.entry);
        self.entry.extend(&self.body);
        self.entry.extend(sum(&self.body).to_be_bytes());
        self.open = self.open && (self.recorder.append)(&self.entry);
    }

    /// What it put out.
    pub fn output(&mut self, output: &Output) {
        self.trace.output(output);
    }

    /// That was all of it. False: nothing more can be recorded.
    #[must_use]
    pub fn commit(&mut self) -> bool {
        let trace = self.trace.hash().to_be_bytes();
        self.open = self.open && (self.recorder.append)(&trace);
        self.open
    }
}

fn sum(body: &[u8]) -> u32 {
    Fnv::of(body) as u32
}

/// A running hash of outputs.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: Fnv,
    prompts: bool,
}

impl Trace {
    /// Of no outputs yet; `prompts` as the recording has it.
    #[must_use]
    pub fn new(prompts: bool) -> Self {
        Self {
            hash: Fnv::new(),
            prompts,
        }
    }

    /// Adds one.
    pub fn output(&mut self, output: &Output) {
        if self.prompts {
            output.put(&mut self.hash);
        } else {
            quiet::output(output).put(&mut self.hash);
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.value()
    }
}

/// A recording that is read.
#[derive(Clone, Debug)]
pub struct Log<'a> {
    /// What was recorded.
    pub head: Head,
    rest: Source<'a>,
    at: Instant,
    number: u64,
}

/// What a recording says before its first entry.
#[derive(Clone, Debug)]
pub struct Head {
    /// As [`Recorder::prompts`].
    pub prompts: bool,
    /// The version of the program that recorded.
    pub program: String,
    /// The node's seed.
    pub seed: u64,
    /// When the node was made.
    pub start: Instant,
    /// The node's settings.
    pub config: Config,
}

/// One call of the node.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Counted from one.
    pub number: u64,
    /// When.
    pub at: Instant,
    /// What it was told; nothing for a deadline that may have been due.
    pub input: Option<Input>,
    /// [`Trace::hash`] of everything that it had put out after it; `None` if the recording ends
    /// before.
    pub trace: Option<u64>,
}

/// Why bytes are not a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// They are something else.
    #[error("this is no recording of a node")]
    Foreign,
    /// They are of another version.
    #[error("the recording has format {got}, this program reads {expected}")]
    Version {
        /// What is read here.
        expected: u8,
        /// What came.
        got: u8,
    },
    /// The part before the first entry is damaged.
    #[error("the head of the recording is damaged: {0}")]
    Head(&'static str),
    /// An entry is damaged.
    #[error("entry {number} of the recording is damaged: {problem}")]
    Entry {
        /// Which, counted from one.
        number: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl<'a> Log<'a> {
    /// Reads the head of a log.
    ///
    /// # Errors
    /// When the bytes are no log of this version.
    pub fn read(bytes: &'a [u8]) -> Result<Self, LogError> {
        let mut rest = Source(bytes);
        let [name @ .., version]: [u8; 8] = rest.array().map_err(|_| LogError::Foreign)?;
        let [expected_name @ .., expected] = MAGIC;
        if name != expected_name {
            return Err(LogError::Foreign);
        }
        if version != expected {
            return Err(LogError::Version {
                expected,
                got: version,
            });
        }
        let head = Self::head(&mut rest).map_err(|Damage(problem)| LogError::Head(problem))?;
        Ok(Self {
            rest,
            at: head.start,
            number: 0,
            head,
        })
    }

    fn head(rest: &mut Source<'a>) -> Result<Head, Damage> {
        let length = u32::from_be_bytes(rest.array()?);
        let head = rest.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        if u64::from_be_bytes(rest.array()?) != Fnv::of(head) {
            return Err(CHANGED);
        }
        let mut head = Source(head);
        Ok(Head {
            prompts: Item::take(&mut head)?,
            program: Item::take(&mut head)?,
            seed: Item::take(&mut head)?,
            start: u64::take(&mut head).map(Instant::from_nanos)?,
            config: Item::take(&mut head)?,
        })
    }

    /// Bytes that are not read yet. After the last entry: what is left of one that was cut off.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.0.len()
    }

    /// Time from the node's beginning to the last entry that was read.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.at.saturating_since(self.head.start)
    }

    /// Body, sum and trace of the next entry, if it is there.
    fn cut(&mut self) -> Option<(&'a [u8], u32, Option<u64>)> {
        let mut rest = self.rest;
        let length = usize::take(&mut rest).ok()?;
        let body = rest.bytes(length).ok()?;
        let sum = u32::from_be_bytes(rest.array().ok()?);
        let trace = rest.array().ok().map(u64::from_be_bytes);
        self.rest = rest;
        Some((body, sum, trace))
    }

    fn entry(&mut self, body: &[u8], expected: u32, trace: Option<u64>) -> Result<Entry, Damage> {
        if sum(body) != expected {
            return Err(CHANGED);
        }
        let mut body = Source(body);
        let since = u64::take(&mut body)?;
        self.at = Instant::from_nanos(self.at.as_nanos().wrapping_add(since));
        let input = Item::take(&mut body)?;
        if !body.0.is_empty() {
            return Err(Damage("something follows where it should end"));
        }
        Ok(Entry {
            number: self.number,
            at: self.at,
            input,
            trace,
        })
    }
}

const CHANGED: Damage = Damage("its bytes were changed");

impl Iterator for Log<'_> {
    type Item = Result<Entry, LogError>;

    /// The next entry. After a damaged one there is none: nobody knows where it ends.
    fn next(&mut self) -> Option<Self::Item> {
        let (body, sum, trace) = self.cut()?;
        self.number += 1;
        let number = self.number;
        let entry = self.entry(body, sum, trace);
        Some(entry.map_err(|Damage(problem)| {
            self.rest = Source(&[]);
            LogError::Entry { number, problem }
        }))
    }
}
