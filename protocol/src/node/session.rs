//! This node's stage of a request.

use super::compute::Desk;
use super::extended::{Charge, Route};
use super::plan::Plan;
use crate::engine::{EngineInput, EngineOutput, Sampling};
use crate::id::{CallId, NodeId};
use crate::shard::Shard;
use crate::tensor::Tensor;
use crate::time::Instant;
use crate::wire::{Ending, Timing};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A stage of a request, in one epoch.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) plan: Arc<Plan>,
    /// This node's place in the ring.
    pub(super) stage: usize,
    /// Positions in this node's KV cache.
    pub(super) position: u32,
    /// Where the next step must begin: after the steps that wait.
    pub(super) expected: u32,
    /// Steps that the engine does not have yet.
    pub(super) pending: VecDeque<Work>,
    /// What the engine has.
    pub(super) computing: Option<Computing>,
    /// The way to the next stage on another node.
    pub(super) next: Option<Route>,
    /// The last stage's way to an origin on another node.
    pub(super) results: Option<Route>,
    /// The answer so far, on the last stage, if what comes next hangs on it.
    pub(super) answer: Vec<u32>,
    /// Tokens chosen, on the last stage of a ring that speaks the base protocol.
    pub(super) chosen: u32,
    /// The engine may hold something for the request.
    pub(super) held: bool,
    /// It told the origin that it cannot go on; only the cache is kept, for the next epoch.
    pub(super) failed: bool,
    /// The origin cannot be reached: what is held is given back soon.
    pub(super) orphaned: bool,
    /// When to look whether it is time to give up.
    pub(super) until: Instant,
    /// How often that was looked at while nothing was to be done here.
    pub(super) idle: u32,
    /// What the step that is done now cost, if anybody wants to know.
    pub(super) timing: Option<Timing>,
}

/// What an origin was told that a stage cannot do. Kept for a while: the connection may be dead, and
/// neither of the two know it yet.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) origin: NodeId,
    pub(super) ending: Ending,
}

/// A step that came.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) input: EngineInput,
    /// A token is wanted at the end.
    pub(super) sample: bool,
    pub(super) charge: Option<Charge>,
    pub(super) came: Instant,
}

/// A step, or a piece of one, in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Computing {
    pub(super) call: CallId,
    /// A token is wanted at the end.
    pub(super) sample: bool,
    /// What it gives back when it is done.
    pub(super) charge: Option<Charge>,
    /// When it came here.
    pub(super) came: Instant,
    /// When the engine was given it.
    pub(super) given: Instant,
}

/// What goes to the engine at once.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) input: EngineInput,
    pub(super) sample: bool,
    pub(super) charge: Option<Charge>,
    pub(super) came: Instant,
}

impl Session {
    pub(super) fn new(plan: Arc<Plan>, stage: usize, until: Instant) -> Self {
        let keep = plan.keep(stage);
        Self {
            answer: plan.answer.clone(),
            plan,
            stage,
            position: keep,
            expected: keep,
            pending: VecDeque::new(),
            computing: None,
            next: None,
            results: None,
            chosen: 0,
            held: false,
            failed: false,
            orphaned: false,
            until,
            idle: 0,
            timing: None,
        }
    }

    /// This node's layers.
    pub(super) fn shard(&self) -> Option<&Shard> {
        self.plan.ring.get(self.stage).map(|stage| &stage.shard)
    }

    /// Whether it has the model's last layer.
    pub(super) fn is_last(&self) -> bool {
        self.stage + 1 == self.plan.ring.len()
    }

    /// Whether it is the engine's turn: with a step of it, or to load its layers.
    pub(super) fn awaits_engine(&self, desk: &Desk) -> bool {
        let loads = || self.shard().is_some_and(|shard| desk.is_loading(shard));
        self.computing.is_some() || !self.pending.is_empty() || loads()
    }

    /// Whether the ring speaks the base protocol.
    pub(super) fn is_plain(&self) -> bool {
        self.plan.origin.is_none()
    }

    /// The next step, or as many of its tokens as are computed at once.
    pub(super) fn next_piece(&mut self, most: usize) -> Option<Piece> {
        let cuts = !self.is_plain();
        let front = self.pending.front_mut()?;
        let came = front.came;
        if let EngineInput::Tokens(tokens) = &mut front.input
            && cuts
            && tokens.len() > most.max(1)
        {
            let rest = tokens.split_off(most.max(1));
            let now = core::mem::replace(tokens, rest);
            // What is done with goes back at once: a long prompt must not keep the others of its
            // connection waiting until its end.
            let bytes = now.len().saturating_mul(size_of::<u32>());
            let charge = front.charge.as_mut().map(|charge| charge.split(bytes));
            return Some(Piece {
                input: EngineInput::Tokens(now),
                sample: false,
                charge,
                came,
            });
        }
        let work = self.pending.pop_front()?;
        Some(Piece {
            input: work.input,
            sample: work.sample,
            charge: work.charge,
            came,
        })
    }

    /// How to choose the next token.
    pub(super) fn sampling(&self) -> Sampling {
        let mut sampling = self.plan.sampling.clone();
        if self.is_last()
            && sampling.looks_back()
            && let Some(shaping) = &mut sampling.shaping
        {
            Arc::make_mut(shaping).answer.clone_from(&self.answer);
        }
        sampling
    }

    /// What an engine chose, where it ends nothing if it had no choice.
    pub(super) fn unless_forced(&self, mut output: EngineOutput) -> EngineOutput {
        if let EngineOutput::Token { end, .. } | EngineOutput::Scored { end, .. } = &mut output
            && self.plan.sampling.forced(self.answer.len()).is_some()
        {
            *end = false;
        }
        output
    }

    /// A token was chosen here.
    pub(super) fn chose(&mut self, token: u32) {
        if self.plan.sampling.looks_back() {
            self.answer.push(token);
        }
    }

    /// What the steps that wait and the one in the engine took of the windows.
    pub(super) fn charges(&mut self) -> Vec<Charge> {
        let waiting = self.pending.drain(..).filter_map(|work| work.charge);
        let mut all: Vec<Charge> = waiting.collect();
        all.extend(self.computing.take().and_then(|computing| computing.charge));
        all
    }
}

/// How many positions something brings, as far as it tells.
pub(super) fn positions(input: &EngineInput) -> Option<u32> {
    let count = match input {
        EngineInput::Text(_) => return None,
        EngineInput::Tokens(tokens) => tokens.len(),
        EngineInput::Hidden(tensor) => rows(tensor),
    };
    u32::try_from(count).ok()
}

/// Positions of a hidden state `[1, T, H]`.
pub(super) fn rows(tensor: &Tensor) -> usize {
    match tensor.shape() {
        [_, rows] | [_, rows, _] => *rows,
        _ => 0,
    }
}
