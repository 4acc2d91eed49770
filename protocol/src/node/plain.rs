//! Rings in which a reference node takes part. They speak the base protocol: nobody says which ring
//! a request has, so each node computes it as the reference would, once, and keeps it.

use super::Node;
use super::failure::Failure;
use super::output::Stage;
use super::peer::Peer;
use super::plan::{Ends, Plan};
use super::session::Session;
use super::violation::Violation;
use crate::engine::{EngineInput, Sampling, Scores};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::json::Json;
use crate::shard::Shard;
use crate::tensor::{DType, Tensor};
use crate::wire::{Message, SendPrompt, SendResult, SendTensor};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    /// Brings the prompt of a request that was submitted here to the first stage.
    pub(super) fn launch_plain(&mut self, id: &RequestId) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let nodes = client.ring.iter().map(|stage| stage.node.clone());
        client.touched.extend(nodes);
        let Some(first) = client.ring.first().cloned() else {
            return;
        };
        let (tokens, text) = (client.prompt.clone(), client.prompt_text.to_string());
        if first.node == self.config.node {
            if self.join_plain(id, &first.shard) {
                self.enter(id, 0, EngineInput::Tokens(tokens), true, None);
            }
        } else if self.is_own(&first.node) {
            self.send_plain(id, &first, Tensor::from_tokens(&tokens));
        } else {
            let message = Message::SendPromptRequest(SendPrompt {
                shard: first.shard.clone(),
                prompt: text,
                request_id: Some(id.as_str().into()),
                inference_state: Some(Json::Object(vec![])),
            });
            self.send_plainly(id, &first.node, message);
        }
    }

    /// A prompt as text: only reference nodes send one, to the first stage.
    pub(super) fn prompt_came(&mut self, prompt: SendPrompt) {
        let id = match prompt.request_id {
            Some(id) => RequestId::from(id),
            None => RequestId::from(self.rng.uuid()),
        };
        if self.sessions.contains_key(&id) || self.ended.covers(&id, 0) {
            return;
        }
        if self.join_plain(&id, &prompt.shard) {
            self.enter(&id, 0, EngineInput::Text(prompt.prompt.into()), true, None);
        }
    }

    /// A tensor for this node's stage.
    pub(super) fn tensor_came(&mut self, from: ConnectionId, message: SendTensor) {
        let SendTensor {
            shard,
            tensor,
            request_id,
            inference_state: _,
        } = message;
        let Some(id) = request_id.map(RequestId::from) else {
            let violation = Violation::Base(String::from("a tensor without request_id came"));
            self.violated(from, &violation);
            return;
        };
        if self.ended.covers(&id, 0) {
            return;
        }
        if let Some(session) = self.sessions.get(&id) {
            if !session.is_plain() {
                let text = format!("a tensor came for {id}, whose ring speaks the extension");
                self.violated(from, &Violation::Base(text));
                return;
            }
            if session.computing.is_some() || !session.pending.is_empty() {
                self.fail_plain(&id, "a step came before the one before it was done");
                return;
            }
            if !self.check_shard(&id, &shard) {
                return;
            }
        } else if !self.join_plain(&id, &shard) {
            return;
        }
        let input = if !shard.is_first() {
            EngineInput::Hidden(tensor)
        } else if let Some(tokens) = tensor.to_tokens() {
            EngineInput::Tokens(tokens)
        } else {
            self.fail_plain(&id, &format!("{tensor:?} came where token ids belong"));
            return;
        };
        self.enter(&id, 0, input, true, None);
    }

    fn join_plain(&mut self, id: &RequestId, shard: &Shard) -> bool {
        let client = self.clients.get(id);
        let (ring, sampling, max_tokens) = match client {
            Some(client) => (
                client.ring.clone(),
                client.sampling.clone(),
                client.max_tokens,
            ),
            None => (
                self.reference_ring(&shard.model, shard.layers),
                Sampling::default(),
                self.config.max_tokens,
            ),
        };
        let plan = Plan {
            request: id.clone(),
            epoch: 0,
            origin: None,
            fingerprint: 0,
            ends: Ends::default(),
            keep: vec![0; ring.len()],
            ring,
            prompt: 0,
            sampling,
            max_tokens,
            answer: vec![],
            trace: false,
        };
        let (stage, nowhere) = (plan.stage_of(&self.config.node), plan.ring.len());
        let busy = self.is_busy(false);
        let until = self.now + self.config.timing.stage_timeout;
        // Without a place in the ring the shard that was asked for is not this node's either.
        let session = Session::new(Arc::new(plan), stage.unwrap_or(nowhere), until);
        self.sessions.insert(id.clone(), session);
        if self.stopping || self.leaving {
            self.fail_plain(id, "this node is shutting down");
        } else if let Some(text) = busy {
            self.fail_plain(id, &text);
        } else if self.check_shard(id, shard) {
            self.prepare(id);
        }
        self.sessions.contains_key(id)
    }

    /// Whether the layers that the sender means are the ones that this node has in the ring. A node
    /// never computes other layers silently.
    fn check_shard(&mut self, id: &RequestId, shard: &Shard) -> bool {
        let Some(session) = self.sessions.get(id) else {
            return false;
        };
        let own = session.shard();
        if own == Some(shard) {
            return true;
        }
        let own = own.map_or_else(|| String::from("no layers"), ToString::to_string);
        let text = format!("asked for {shard}, but has {own} in this request's ring");
        self.fail_plain(id, &text);
        false
    }

    /// This node's stage is done; its hidden state goes on.
    pub(super) fn plain_hidden(&mut self, id: &RequestId, tensor: Tensor) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if let Some(next) = session.plan.after(session.stage).cloned() {
            self.send_plain(id, &next, tensor);
        }
    }

    /// This node's stage, the last one, chose a token.
    pub(super) fn plain_token(
        &mut self,
        id: &RequestId,
        token: u32,
        end: bool,
        scores: Option<Scores>,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.chosen = session.chosen.saturating_add(1);
        session.chose(token);
        let finished = end || session.chosen >= session.plan.max_tokens;
        let first = session.plan.ring.first().cloned();
        if self.clients.contains_key(id) {
            self.token(id, token, end, finished, scores);
        } else {
            // Who asked is unknown: as the reference does, everybody hears it.
            self.broadcast(&result(id, vec![token.into()], finished));
        }
        if finished {
            self.remember_end(id, 0);
            self.end_session(id);
        }
        let Some(first) = first.filter(|_| self.sessions.contains_key(id)) else {
            return;
        };
        if first.node == self.config.node {
            self.enter(id, 0, EngineInput::Tokens(vec![token]), true, None);
        } else {
            self.send_plain(id, &first, Tensor::from_tokens(&[token]));
        }
    }

    /// Tokens, or the end, from the last stage of a ring that speaks the base protocol.
    pub(super) fn result_came(&mut self, result: &SendResult) {
        let Some(id) = result.request_id.as_deref().map(RequestId::from) else {
            return;
        };
        let Some(client) = self.clients.get(&id) else {
            let plain = |session: &Session| session.is_plain();
            if result.is_finished && self.sessions.get(&id).is_some_and(plain) {
                self.remember_end(&id, 0);
                self.end_session(&id);
            }
            return;
        };
        if !client.plain {
            return;
        }
        let count = result.result.len();
        for (index, &token) in result.result.iter().enumerate() {
            let Ok(token) = u32::try_from(token) else {
                self.fail_plain(&id, &format!("{token} came where a token id belongs"));
                return;
            };
            let last = result.is_finished && index + 1 == count;
            self.token(&id, token, false, last, None);
        }
        if count == 0 && result.is_finished {
            self.fail_plain(&id, "the ring stopped without saying why");
        }
    }

    /// A request of such a ring cannot go on here.
    pub(super) fn fail_plain(&mut self, id: &RequestId, message: &str) {
        if self.clients.contains_key(id) {
            let failure = Failure::Stage {
                node: self.config.node.clone(),
                message: message.into(),
            };
            self.fail(id, failure);
        } else {
            // The only end that a reference node understands.
            self.broadcast(&result(id, vec![], true));
        }
        self.remember_end(id, 0);
        self.end_session(id);
    }

    /// Hands a tensor to a stage on another node: to a reference node nothing but what it knows,
    /// spelled as it spells it.
    fn send_plain(&mut self, id: &RequestId, stage: &Stage, tensor: Tensor) {
        let mut peers = self.peers.values();
        let known = peers.find(|peer| peer.node.as_ref() == Some(&stage.node));
        let family = known.map(Peer::family).unwrap_or_default();
        let tensor = tensor.cast(DType::F32).unwrap_or(tensor).spelled(family);
        let message = Message::SendTensorRequest(SendTensor {
            shard: stage.shard.clone(),
            tensor,
            request_id: Some(id.as_str().into()),
            inference_state: None,
        });
        self.send_plainly(id, &stage.node, message);
    }

    fn send_plainly(&mut self, id: &RequestId, node: &NodeId, message: Message) {
        match self.connection_to(node) {
            Some(connection) => {
                self.touch(id);
                self.send(connection, message);
            }
            None => {
                let text = format!("{} has no connection to {node}", self.config.node);
                self.fail_plain(id, &text);
            }
        }
    }

    fn broadcast(&mut self, message: &Message) {
        let all: Vec<ConnectionId> = self
            .peers
            .values()
            .filter(|peer| peer.up)
            .filter_map(|peer| self.route(peer))
            .collect();
        for connection in all {
            self.send(connection, message.clone());
        }
    }
}

/// New tokens of a request, or its end.
fn result(id: &RequestId, tokens: Vec<i64>, is_finished: bool) -> Message {
    Message::SendResult(SendResult {
        request_id: Some(id.as_str().into()),
        result: tokens,
        is_finished,
        tensor: None,
    })
}
