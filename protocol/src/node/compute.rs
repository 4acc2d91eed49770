//! The engine's side: what is loaded, what is being computed.

use super::Node;
use super::output::{Event, Output};
use super::request::StepState;
use crate::engine::{EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput};
use crate::id::{CallId, RequestId};
use crate::shard::Shard;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// Commands without a completion, and the shards that the engine holds.
#[derive(Debug, Default)]
pub(super) struct Desk {
    calls: BTreeMap<CallId, Call>,
    shards: BTreeMap<Shard, ShardState>,
}

#[derive(Debug)]
enum Call {
    Load(Shard),
    Forward(RequestId),
    /// Nobody waits for it.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardState {
    Loading,
    Loaded,
}

impl Desk {
    pub(super) fn loaded(&self) -> Vec<Shard> {
        let loaded = self
            .shards
            .iter()
            .filter(|(_, state)| **state == ShardState::Loaded);
        loaded.map(|(shard, _)| shard.clone()).collect()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }
}

impl Node {
    /// Something entered this node's stage: compute, after loading if need be.
    pub(super) fn begin_step(&mut self, id: &RequestId, input: EngineInput) {
        self.touch(id);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        if request.step != StepState::Idle {
            self.fail_here(
                id,
                String::from("a step came before the one before it was done"),
            );
            return;
        }
        let Some(shard) = request.shard().cloned() else {
            self.fail_here(
                id,
                String::from("a step came to a node without layers in the ring"),
            );
            return;
        };
        match self.desk.shards.get(&shard) {
            Some(ShardState::Loaded) => self.forward(id, shard, input),
            Some(ShardState::Loading) => request.step = StepState::Waiting(input),
            None => {
                request.step = StepState::Waiting(input);
                self.load(shard);
            }
        }
    }

    fn forward(&mut self, id: &RequestId, shard: Shard, input: EngineInput) {
        let call = self.next_call();
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.step = StepState::Computing;
        self.desk.calls.insert(call, Call::Forward(id.clone()));
        self.outputs
            .push_back(Output::Compute(EngineCommand::Forward {
                call,
                shard,
                request: id.clone(),
                position: request.position,
                input,
                sampling: request.sampling,
            }));
    }

    /// Loads a shard, after giving back those that no request uses: a ring that changed its cuts
    /// must not need the memory of both.
    fn load(&mut self, shard: Shard) {
        let used = |shard: &Shard| self.requests.values().any(|r| r.shard() == Some(shard));
        let idle: Vec<Shard> = self
            .desk
            .loaded()
            .into_iter()
            .filter(|loaded| !used(loaded))
            .collect();
        for shard in idle {
            self.desk.shards.remove(&shard);
            let call = self.next_call();
            self.desk.calls.insert(call, Call::Other);
            self.outputs
                .push_back(Output::Compute(EngineCommand::Unload { call, shard }));
        }
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
                self.tell(Event::Loading { shard, done, total });
            }
            return;
        }
        let Some(call) = self.desk.calls.remove(&event.call()) else {
            return;
        };
        match (call, event) {
            (Call::Load(shard), EngineEvent::Loaded { bytes, .. }) => self.loaded(shard, bytes),
            (Call::Load(shard), EngineEvent::Failed { failure, .. }) => {
                self.load_failed(&shard, &failure);
            }
            (
                Call::Forward(id),
                EngineEvent::Forwarded {
                    output, positions, ..
                },
            ) => {
                self.forwarded(&id, output, positions);
            }
            (Call::Forward(id), EngineEvent::Failed { failure, .. }) => {
                if let Some(request) = self.requests.get_mut(&id) {
                    request.step = StepState::Idle;
                    self.fail_here(&id, failure.message);
                }
            }
            (Call::Load(shard), other) => {
                let message = alloc::format!("the engine answered a load with {other:?}");
                let failure = EngineFailure::new(crate::engine::FailureKind::Internal, message);
                self.load_failed(&shard, &failure);
            }
            (Call::Forward(id), _) => {
                self.fail_here(
                    &id,
                    String::from("the engine answered a step with something else"),
                );
            }
            (Call::Other, _) => {}
        }
    }

    fn loaded(&mut self, shard: Shard, bytes: u64) {
        self.desk.shards.insert(shard.clone(), ShardState::Loaded);
        self.tell(Event::Loaded {
            shard: shard.clone(),
            bytes,
        });
        for id in self.waiting_for(&shard) {
            let Some(request) = self.requests.get_mut(&id) else {
                continue;
            };
            let step = core::mem::replace(&mut request.step, StepState::Idle);
            if let StepState::Waiting(input) = step {
                self.forward(&id, shard.clone(), input);
            }
        }
    }

    fn load_failed(&mut self, shard: &Shard, failure: &EngineFailure) {
        self.desk.shards.remove(shard);
        let reason = failure.message.clone();
        self.tell(Event::EngineFailed {
            shard: shard.clone(),
            reason: reason.clone(),
        });
        for id in self.waiting_for(shard) {
            self.fail_here(&id, reason.clone());
        }
    }

    fn waiting_for(&self, shard: &Shard) -> Vec<RequestId> {
        self.requests
            .iter()
            .filter(|(_, request)| {
                request.shard() == Some(shard) && matches!(request.step, StepState::Waiting(_))
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn forwarded(&mut self, id: &RequestId, output: EngineOutput, positions: u32) {
        self.touch(id);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        request.step = StepState::Idle;
        request.position = request.position.saturating_add(positions);
        let last = request.shard().is_some_and(Shard::is_last);
        match output {
            EngineOutput::Hidden(tensor) if !last => self.hidden_done(id, tensor, positions),
            EngineOutput::Token { token, end } if last => self.token_done(id, token, end),
            EngineOutput::Hidden(_) => {
                self.fail_here(
                    id,
                    String::from("the last stage's engine gave a hidden state"),
                );
            }
            EngineOutput::Token { .. } => {
                self.fail_here(
                    id,
                    String::from("an engine without the last layer gave a token"),
                );
            }
        }
    }
}
