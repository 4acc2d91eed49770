//! A node whose inputs are written down, if somebody wants to replay them.

use exo_protocol::record::{Recorder, Recording};
use exo_protocol::{Config, Input, Instant, Node, Output};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// A node, and the tapes that run along.
#[derive(Debug)]
pub(crate) struct Taped {
    node: Node,
    tapes: Vec<Tape>,
    /// The last entry lacks its end.
    open: bool,
}

#[derive(Debug)]
struct Tape {
    recording: Recording,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Tape {
    fn start(prompts: bool, config: &Config, seed: u64, now: Instant) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&log);
        let append = Box::new(move |bytes: &[u8]| {
            let mut log = to.lock().unwrap_or_else(PoisonError::into_inner);
            log.extend_from_slice(bytes);
            true
        });
        let recorder = Recorder { prompts, append };
        Self {
            recording: Recording::start(recorder, config, seed, now),
            log,
        }
    }
}

/// Looking is not written down.
impl Deref for Taped {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Taped {
    /// A node; on two tapes, with prompts and without, if it is `taped`.
    pub(crate) fn new(config: Config, seed: u64, now: Instant, taped: bool) -> Self {
        let kinds: &[bool] = if taped { &[true, false] } else { &[] };
        let tape = |prompts: &bool| Tape::start(*prompts, &config, seed, now);
        Self {
            tapes: kinds.iter().map(tape).collect(),
            node: Node::new(config, seed, now),
            open: false,
        }
    }

    pub(crate) fn handle_input(&mut self, now: Instant, input: Input) {
        self.begin(now, Some(&input));
        self.node.handle_input(now, input);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.begin(now, None);
        self.node.handle_timeout(now);
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        let output = self.node.poll_output()?;
        for tape in &mut self.tapes {
            tape.recording.output(&output);
        }
        Some(output)
    }

    fn begin(&mut self, now: Instant, input: Option<&Input>) {
        self.commit();
        for tape in &mut self.tapes {
            tape.recording.input(now, input);
        }
        self.open = true;
    }

    fn commit(&mut self) {
        if std::mem::take(&mut self.open) {
            for tape in &mut self.tapes {
                // What takes the bytes always takes them.
                let _ = tape.recording.commit();
            }
        }
    }

    /// Ends the tapes and gives what is on them.
    pub(crate) fn eject(&mut self) -> Vec<Vec<u8>> {
        while self.poll_output().is_some() {}
        self.commit();
        let log = |tape: Tape| {
            let mut log = tape.log.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *log)
        };
        std::mem::take(&mut self.tapes)
            .into_iter()
            .map(log)
            .collect()
    }
}
