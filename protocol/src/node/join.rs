//! The peers' side of requests: taking part in a ring, step by step.

use super::Node;
use super::output::{Failure, Stage};
use super::request::{Request, StepState};
use super::ring::{Plan, Step};
use crate::engine::{EngineInput, Sampling};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::shard::Shard;
use crate::wire::{SendPrompt, SendTensor};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Node {
    /// A prompt as text: only reference nodes send one, to the first stage.
    pub(super) fn prompt_came(&mut self, prompt: SendPrompt) {
        let id = match prompt.request_id {
            Some(id) => RequestId::from(id),
            None => RequestId::from(self.rng.uuid()),
        };
        if self.requests.contains_key(&id) || self.ended.contains(&id) {
            return;
        }
        if self.join_reference_ring(&id, &prompt.shard) {
            self.begin_step(&id, EngineInput::Text(prompt.prompt.into()));
        }
    }

    /// A tensor for this node's stage.
    pub(super) fn tensor_came(&mut self, from: ConnectionId, message: SendTensor) {
        let SendTensor {
            shard,
            tensor,
            request_id,
            inference_state,
        } = message;
        let Some(id) = request_id.map(RequestId::from) else {
            self.refuse(from, String::from("a tensor without request_id came"));
            return;
        };
        if self.ended.contains(&id) {
            return;
        }
        let stages = self.config.limits.stages;
        let state = inference_state.as_ref();
        let step = match Step::from_json(state, &shard.model, shard.layers, stages) {
            Ok(step) => step,
            Err(error) => {
                self.refuse(from, error.to_string());
                return;
            }
        };
        let joined = match step {
            Some(Step {
                position: 0,
                plan: Some(plan),
            }) => self.join_ring(&id, plan, &shard),
            Some(Step { position, .. }) => self.continue_ring(&id, position, &shard),
            None if self.requests.contains_key(&id) => true,
            None => self.join_reference_ring(&id, &shard),
        };
        if !joined {
            return;
        }
        let input = if shard.is_first() {
            match tensor.to_tokens() {
                Some(tokens) => EngineInput::Tokens(tokens),
                None => {
                    self.fail_here(&id, format!("{tensor:?} came where token ids belong"));
                    return;
                }
            }
        } else {
            EngineInput::Hidden(tensor)
        };
        self.begin_step(&id, input);
    }

    /// Takes part in a request that one of our own nodes placed.
    fn join_ring(&mut self, id: &RequestId, plan: Plan, shard: &Shard) -> bool {
        if self.requests.contains_key(id) {
            // The origin may be a stage itself: then the ring has come round to it. Anything else
            // is a second beginning.
            let origin = plan.origin == self.config.node;
            let fresh = self.requests.get(id).is_some_and(|r| r.position == 0);
            if origin && fresh {
                return self.check_shard(id, shard);
            }
            self.fail_here(id, String::from("a request began a second time"));
            return false;
        }
        let stage = self.stage_in(&plan.ring);
        self.insert_hop(
            id,
            Some(plan.origin),
            plan.ring,
            stage,
            plan.sampling,
            plan.max_tokens.min(self.config.max_tokens),
        ) && self.check_shard(id, shard)
    }

    /// Takes the next step of a request that it joined before.
    fn continue_ring(&mut self, id: &RequestId, position: u32, shard: &Shard) -> bool {
        let Some(request) = self.requests.get(id) else {
            // It ended here, so long ago that it is forgotten, or it never began. Its origin, if it
            // still waits, has its own deadline.
            return false;
        };
        if request.position != position {
            let expected = request.position;
            self.fail_here(
                id,
                format!("position {position} came where {expected} comes next"),
            );
            return false;
        }
        self.check_shard(id, shard)
    }

    /// Takes part in a request that a reference node started: nobody says which ring it has, so
    /// this node computes it as the reference would, once, and keeps it.
    fn join_reference_ring(&mut self, id: &RequestId, shard: &Shard) -> bool {
        let ring = self.ring(&shard.model, shard.layers);
        let stage = self.stage_in(&ring);
        let (sampling, most) = (Sampling::default(), self.config.max_tokens);
        self.insert_hop(id, None, ring, stage, sampling, most) && self.check_shard(id, shard)
    }

    fn insert_hop(
        &mut self,
        id: &RequestId,
        origin: Option<NodeId>,
        ring: Vec<Stage>,
        stage: Option<usize>,
        sampling: Sampling,
        max_tokens: u32,
    ) -> bool {
        let full = self.requests.len() >= self.config.limits.requests;
        let request = Request {
            origin,
            ring,
            stage,
            sampling,
            max_tokens,
            position: 0,
            tokens: 0,
            step: StepState::Idle,
            until: self.now + self.config.timing.stage_timeout,
            application: None,
        };
        self.requests.insert(id.clone(), request);
        if self.stopping {
            self.fail(id, Failure::Stopping);
            return false;
        }
        if full {
            self.fail_here(
                id,
                format!("{} requests are under way already", self.requests.len() - 1),
            );
            return false;
        }
        true
    }

    /// Whether the layers that the sender means are the ones that this node has in the ring. A node
    /// never computes other layers silently.
    fn check_shard(&mut self, id: &RequestId, shard: &Shard) -> bool {
        let Some(request) = self.requests.get(id) else {
            return false;
        };
        let own = request.shard();
        if own == Some(shard) {
            return true;
        }
        let own = own.map_or_else(|| String::from("no layers"), ToString::to_string);
        self.fail_here(
            id,
            format!("asked for {shard}, but has {own} in this request's ring"),
        );
        false
    }
}
