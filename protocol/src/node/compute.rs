//! The engine's side: what is loaded, what is being computed.

use super::Node;
use super::input::FilesNews;
use super::output::{Event, Output};
use crate::engine::{EngineCommand, EngineEvent, EngineFailure, FailureKind};
use crate::id::{CallId, RequestId};
use crate::shard::Shard;
use crate::time::Instant;
use crate::wire::extension::failed;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Commands without a completion, and the shards that the engine holds.
#[derive(Debug, Default)]
pub(super) struct Desk {
    calls: BTreeMap<CallId, Call>,
    shards: BTreeMap<Shard, ShardState>,
    /// Shards for which all idle ones were given back already.
    pub(super) pressed: Vec<Shard>,
    /// When the engine was last done with something, and when with what was before that.
    done: Instant,
    turn: Instant,
}

/// What a completion is for.
#[derive(Debug)]
pub(super) enum Call {
    Load(Shard),
    /// The application brings the files of a shard.
    Fetch(Shard),
    Forward(RequestId),
    /// A part of a training job.
    Job(RequestId),
    /// Nobody waits for it.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardState {
    Loading,
    Loaded {
        /// What the model is; zero when the engine cannot tell.
        fingerprint: u64,
        /// Bytes of its weights.
        bytes: u64,
        /// When it was used last; does not matter while it is.
        used: Instant,
    },
}

impl Desk {
    pub(super) fn loaded(&self) -> Vec<Shard> {
        let shards = self.shards.keys().filter(|shard| self.has(shard));
        shards.cloned().collect()
    }

    /// Whether a shard is ready to compute.
    pub(super) fn has(&self, shard: &Shard) -> bool {
        matches!(self.shards.get(shard), Some(ShardState::Loaded { .. }))
    }

    /// Whether a shard is under way, or its files are.
    pub(super) fn is_loading(&self, shard: &Shard) -> bool {
        matches!(self.shards.get(shard), Some(ShardState::Loading))
    }

    /// When each shard that is ready was used last.
    pub(super) fn last_uses(&self) -> impl Iterator<Item = (&Shard, Instant)> {
        self.shards.iter().filter_map(|(shard, state)| match state {
            ShardState::Loaded { used, .. } => Some((shard, *used)),
            ShardState::Loading => None,
        })
    }

    /// A shard is used no more, for now.
    pub(super) fn rests(&mut self, shard: &Shard, now: Instant) {
        if let Some(ShardState::Loaded { used, .. }) = self.shards.get_mut(shard) {
            *used = now;
        }
    }

    /// Bytes of the weights of a shard that is ready; else zero.
    pub(super) fn bytes(&self, shard: &Shard) -> u64 {
        match self.shards.get(shard) {
            Some(ShardState::Loaded { bytes, .. }) => *bytes,
            Some(ShardState::Loading) | None => 0,
        }
    }

    /// When the engine could begin with what it was last done with.
    pub(super) fn turn(&self) -> Instant {
        self.turn
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Those of them that wait for files, and not for the engine.
    pub(super) fn fetches(&self) -> usize {
        let fetch = |call: &&Call| matches!(call, Call::Fetch(_));
        self.calls.values().filter(fetch).count()
    }

    /// Remembers whose step the engine has.
    pub(super) fn forward(&mut self, call: CallId, request: &RequestId) {
        self.remember(call, Call::Forward(request.clone()));
    }

    /// Remembers what a call is for.
    pub(super) fn remember(&mut self, call: CallId, what: Call) {
        self.calls.insert(call, what);
    }
}

impl Node {
    /// Makes a request's shard ready, if it is not.
    pub(super) fn prepare(&mut self, id: &RequestId) {
        let Some(shard) = self.sessions.get(id).and_then(|s| s.shard()).cloned() else {
            return;
        };
        match self.desk.shards.get(&shard) {
            Some(ShardState::Loaded { fingerprint, .. }) => self.compare(id, *fingerprint),
            Some(ShardState::Loading) => {}
            None => self.load(shard),
        }
    }

    /// Makes a training job's shard ready, if it is not.
    pub(super) fn prepare_job(&mut self, id: &RequestId) {
        let Some(shard) = self.job_stages.get(id).and_then(|s| s.shard()).cloned() else {
            return;
        };
        match self.desk.shards.get(&shard) {
            Some(ShardState::Loaded { fingerprint, .. }) => self.begin_training(id, *fingerprint),
            Some(ShardState::Loading) => {}
            None => self.load(shard),
        }
    }

    /// A model that only has the same name would give another text, or none.
    fn compare(&mut self, id: &RequestId, found: u64) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let expected = session.plan.fingerprint;
        if expected != 0 && found != 0 && expected != found {
            let model = session.shard().map_or("?", |shard| shard.model.as_str());
            let text = format!(
                "its {model} is another model: fingerprint {found:016x}, expected {expected:016x}"
            );
            self.fail_stage(id, failed::MODEL, text);
        }
    }

    /// Loads a shard, once its files are here.
    fn load(&mut self, shard: Shard) {
        if !self.config.fetches {
            return self.load_now(shard);
        }
        let call = self.next_call();
        self.desk.shards.insert(shard.clone(), ShardState::Loading);
        self.desk.calls.insert(call, Call::Fetch(shard.clone()));
        self.tell(Event::FilesWanted { call, shard });
    }

    /// The application speaks of files.
    pub(super) fn files_came(&mut self, call: CallId, news: FilesNews) {
        let Some(Call::Fetch(shard)) = self.desk.calls.get(&call) else {
            return;
        };
        let shard = shard.clone();
        if let FilesNews::Coming { .. } = news {
            for id in self.waiting_for(&shard) {
                self.touch(&id);
            }
            for id in self.jobs_waiting_for(&shard) {
                self.wait_for_engine(&id);
            }
            return;
        }
        self.desk.calls.remove(&call);
        match news {
            FilesNews::Missing(failure) => self.load_failed(&shard, &failure),
            // Whoever wanted it may be gone by now.
            _ if !self.is_used(&shard) => drop(self.desk.shards.remove(&shard)),
            _ => self.load_now(shard),
        }
    }

    /// Gives a shard back that is ready.
    pub(super) fn unload(&mut self, shard: Shard) {
        self.desk.shards.remove(&shard);
        let call = self.next_call();
        self.desk.calls.insert(call, Call::Other);
        if self.config.keep_loaded.is_some() {
            self.tell(Event::Unloaded {
                shard: shard.clone(),
            });
        }
        self.outputs
            .push_back(Output::Compute(EngineCommand::Unload { call, shard }));
    }

    /// Loads a shard, after giving back what is in its way.
    fn load_now(&mut self, shard: Shard) {
        self.make_room(&shard);
        let call = self.next_call();
        self.desk.shards.insert(shard.clone(), ShardState::Loading);
        self.desk.calls.insert(call, Call::Load(shard.clone()));
        self.outputs
            .push_back(Output::Compute(EngineCommand::Load { call, shard }));
    }

    pub(super) fn free(&mut self, id: &RequestId) {
        let call = self.next_call();
        self.desk.calls.insert(call, Call::Other);
        let request = id.clone();
        self.outputs
            .push_back(Output::Compute(EngineCommand::Free { call, request }));
    }

    pub(super) fn engine(&mut self, event: EngineEvent) {
        if let EngineEvent::Progress { call, done, total } = event {
            if let Some(Call::Load(shard)) = self.desk.calls.get(&call) {
                let shard = shard.clone();
                self.touch_waiting();
                for id in self.jobs_waiting_for(&shard) {
                    self.wait_for_engine(&id);
                }
                self.tell(Event::Loading { shard, done, total });
            }
            return;
        }
        let Some(call) = self.desk.calls.remove(&event.call()) else {
            return;
        };
        let id = event.call();
        self.desk.turn = core::mem::replace(&mut self.desk.done, self.now);
        match (call, event) {
            (
                Call::Load(shard),
                EngineEvent::Loaded {
                    bytes, fingerprint, ..
                },
            ) => self.loaded(shard, bytes, fingerprint),
            (Call::Load(shard), EngineEvent::Failed { failure, .. }) => {
                self.load_failed(&shard, &failure);
            }
            (
                Call::Forward(request),
                EngineEvent::Forwarded {
                    output, positions, ..
                },
            ) => {
                self.step_took(id, positions);
                self.forwarded(&request, id, output, positions);
            }
            (Call::Forward(request), EngineEvent::Failed { failure, .. }) => {
                if self.computed(&request, id).is_some() {
                    self.fail_stage(&request, code(failure.kind), failure.message);
                }
            }
            (Call::Job(job), EngineEvent::Trained(event)) => self.trained(&job, event),
            (Call::Job(job), EngineEvent::Failed { failure, .. }) => {
                self.training_failed(&job, id, &failure);
            }
            (Call::Job(job), _) => {
                let message = "the engine answered a part of a job with something else";
                let failure = EngineFailure::new(FailureKind::Internal, message);
                self.training_failed(&job, id, &failure);
            }
            (Call::Load(shard), other) => {
                let message = format!("the engine answered a load with {other:?}");
                let failure = EngineFailure::new(FailureKind::Internal, message);
                self.load_failed(&shard, &failure);
            }
            (Call::Forward(request), _) => {
                if self.computed(&request, id).is_some() {
                    let text = String::from("the engine answered a step with something else");
                    self.fail_stage(&request, failed::ENGINE, text);
                }
            }
            // Only files are spoken of by it.
            (call @ Call::Fetch(_), _) => drop(self.desk.calls.insert(id, call)),
            (Call::Other, _) => {}
        }
    }

    fn loaded(&mut self, shard: Shard, bytes: u64, fingerprint: u64) {
        let state = ShardState::Loaded {
            fingerprint,
            bytes,
            used: self.now,
        };
        self.desk.pressed.retain(|pressed| *pressed != shard);
        self.desk.shards.insert(shard.clone(), state);
        self.tell(Event::Loaded {
            shard: shard.clone(),
            bytes,
        });
        for id in self.waiting_for(&shard) {
            self.touch(&id);
            self.compare(&id, fingerprint);
            self.advance(&id);
        }
        for id in self.jobs_waiting_for(&shard) {
            self.begin_training(&id, fingerprint);
        }
        self.keep_half_free();
    }

    fn training_failed(&mut self, id: &RequestId, call: CallId, failure: &EngineFailure) {
        let stage = self.job_stages.get(id);
        if stage.is_some_and(|stage| stage.doing.call() == Some(call)) {
            self.fail_job_stage(id, code(failure.kind), failure.message.clone());
        }
    }

    fn load_failed(&mut self, shard: &Shard, failure: &EngineFailure) {
        self.desk.shards.remove(shard);
        if failure.kind == FailureKind::OutOfMemory && self.press(shard) {
            return self.load_now(shard.clone());
        }
        self.desk.pressed.retain(|pressed| pressed != shard);
        let reason = failure.message.clone();
        self.tell(Event::EngineFailed {
            shard: shard.clone(),
            reason: reason.clone(),
        });
        for id in self.waiting_for(shard) {
            self.fail_stage(&id, code(failure.kind), reason.clone());
        }
        for id in self.jobs_waiting_for(shard) {
            self.fail_job_stage(&id, code(failure.kind), reason.clone());
        }
    }

    fn waiting_for(&self, shard: &Shard) -> Vec<RequestId> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.shard() == Some(shard) && !session.failed)
            .map(|(id, _)| id.clone())
            .collect()
    }
}

/// How an origin is told of an engine's failure.
fn code(kind: FailureKind) -> u16 {
    match kind {
        FailureKind::ModelNotFound | FailureKind::BadModel => failed::MODEL,
        FailureKind::OutOfMemory => failed::MEMORY,
        FailureKind::ContextFull | FailureKind::BadInput => failed::INPUT,
        FailureKind::Unsupported | FailureKind::Internal => failed::ENGINE,
    }
}
