//! Carrying a request round its ring: hidden states forward, tokens to the first stage and to the
//! origin.

use super::Node;
use super::news::result;
use super::output::{Event, Failure, FinishReason, Stage};
use super::peer::Peer;
use super::ring::{Plan, Step};
use crate::engine::EngineInput;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::tensor::Tensor;
use crate::wire::{Message, SendTensor};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    /// This node's stage added `positions` positions; their hidden state goes on.
    pub(super) fn hidden_done(&mut self, id: &RequestId, tensor: Tensor, positions: u32) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let Some(next) = request.next_stage().cloned() else {
            return;
        };
        // The stage after this one has not added them yet.
        let position = request.position.saturating_sub(positions);
        self.send_step(id, &next, tensor, position);
    }

    /// This node's stage, the last one, chose a token.
    pub(super) fn token_done(&mut self, id: &RequestId, token: u32, end: bool) {
        let own = self.config.node.clone();
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let told_here = request.application.is_some();
        if !told_here {
            request.tokens = request.tokens.saturating_add(1);
        }
        let generated = request.tokens.saturating_add(u32::from(told_here));
        let finished = end || generated >= request.max_tokens;
        let first = request.ring.first().cloned();
        let position = request.position;
        let origin = request.origin.clone();
        let news = result(id, vec![token.into()], finished);
        match &origin {
            Some(origin) if told_here || *origin == own => self.token(id, token, finished),
            Some(origin) => {
                if !self.send_to_stage(id, origin, news) {
                    return;
                }
            }
            // Who asked is unknown: as the reference does, everybody hears it.
            None => self.broadcast(&news),
        }
        if finished {
            // The origin tells the other stages.
            self.end(id);
            return;
        }
        let Some(first) = first else { return };
        if first.node == own {
            self.begin_step(id, EngineInput::Tokens(vec![token]));
        } else {
            self.send_step(id, &first, Tensor::from_tokens(&[token]), position);
        }
    }

    /// Tells the application a token; the origin's side of the ring.
    pub(super) fn token(&mut self, id: &RequestId, token: u32, last: bool) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let Some(application) = &request.application else {
            return;
        };
        let end = application.end_tokens.contains(&token);
        let index = request.tokens;
        request.tokens = request.tokens.saturating_add(1);
        // A reference stage knows nothing of the most tokens that were asked for here.
        let last = last || request.tokens >= request.max_tokens;
        if !(end && last) {
            self.tell(Event::Token {
                request: id.clone(),
                index,
                token,
            });
        }
        if last {
            self.finished(
                id,
                if end {
                    FinishReason::Stop
                } else {
                    FinishReason::Length
                },
            );
        }
    }

    pub(super) fn finished(&mut self, id: &RequestId, reason: FinishReason) {
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let tokens = request.tokens;
        let empty = result(id, vec![], true);
        for stage in request.ring.clone() {
            if self.is_own(&stage.node) {
                self.tell_node(&stage.node, empty.clone());
            }
        }
        self.tell(Event::Finished {
            request: id.clone(),
            reason,
            tokens,
        });
        self.end(id);
    }

    /// Hands a tensor to a stage on another node, which has `position` positions already, with as
    /// much of the plan as it needs.
    pub(super) fn send_step(
        &mut self,
        id: &RequestId,
        stage: &Stage,
        tensor: Tensor,
        position: u32,
    ) {
        let own = self.is_own(&stage.node);
        let Some(request) = self.requests.get(id) else {
            return;
        };
        let state = own.then(|| {
            let plan = (position == 0).then(|| Plan {
                origin: request
                    .origin
                    .clone()
                    .unwrap_or_else(|| self.config.node.clone()),
                ring: request.ring.clone(),
                sampling: request.sampling,
                max_tokens: request.max_tokens,
            });
            Step { position, plan }.to_json()
        });
        // To a reference peer nothing but what it knows, spelled as it spells it.
        let known = self
            .peers
            .values()
            .find(|peer| peer.node.as_ref() == Some(&stage.node));
        let family = known.map(Peer::family).unwrap_or_default();
        let tensor = if own { tensor } else { tensor.spelled(family) };
        let message = Message::SendTensorRequest(SendTensor {
            shard: stage.shard.clone(),
            tensor,
            request_id: Some(id.as_str().into()),
            inference_state: state,
        });
        self.send_to_stage(id, &stage.node, message);
    }

    /// Sends to a node that the request cannot do without; without a connection the request fails.
    pub(super) fn send_to_stage(
        &mut self,
        id: &RequestId,
        node: &NodeId,
        message: Message,
    ) -> bool {
        let Some(connection) = self.connection_to(node) else {
            let reason = format!("{} has no connection to it", self.config.node);
            self.fail(
                id,
                Failure::PeerLost {
                    node: node.clone(),
                    reason,
                },
            );
            return false;
        };
        self.touch(id);
        self.send(connection, message);
        self.requests.contains_key(id)
    }

    /// Sends to a node if it can be reached.
    pub(super) fn tell_node(&mut self, node: &NodeId, message: Message) {
        if let Some(connection) = self.connection_to(node) {
            self.send(connection, message);
        }
    }

    pub(super) fn broadcast(&mut self, message: &Message) {
        let all: Vec<ConnectionId> = self
            .peers
            .values()
            .filter(|peer| peer.up)
            .filter_map(|peer| peer.data.connection())
            .collect();
        for connection in all {
            self.send(connection, message.clone());
        }
    }
}
