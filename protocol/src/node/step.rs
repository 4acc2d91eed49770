//! Steps through this node's stage: in from the stage before, through the engine, out to the next.

use super::Node;
use super::client::Client;
use super::extended::{Bound, Charge, Route};
use super::output::Output;
use super::session::{Computing, Work, positions, rows};
use super::violation::Violation;
use crate::engine::{EngineCommand, EngineInput, EngineOutput, Scores};
use crate::id::{CallId, ConnectionId, NodeId, RequestId};
use crate::tensor::Tensor;
use crate::wire::extension::failed;
use crate::wire::{Message, MessageType, Scored, Step, StepBody, Token};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

/// Steps of one request that may wait for the engine. Their bytes are bounded by credit; this
/// bounds steps that have hardly any.
const MOST_PENDING: usize = 1024;

impl Node {
    pub(super) fn step_came(&mut self, from: ConnectionId, step: Step) {
        let bytes = step.payload_len();
        let stream = step.stream;
        let Some(extended) = self.extended(from) else {
            return;
        };
        let sender = extended.node.clone();
        let bound = extended.bound(MessageType::Step, stream);
        let charged = extended.charge(stream, bytes);
        let bound = match bound.and_then(|bound| charged.map(|()| bound)) {
            Ok(bound) => bound,
            Err(violation) => {
                self.violated(from, &violation);
                return;
            }
        };
        let route = Route {
            connection: from,
            stream,
        };
        let charge = Charge { route, bytes };
        match bound {
            Some(bound) => self.step_on(from, &sender, &bound, step, charge),
            None => self.release(charge),
        }
    }

    fn step_on(
        &mut self,
        from: ConnectionId,
        sender: &NodeId,
        bound: &Bound,
        step: Step,
        charge: Charge,
    ) {
        let id = &bound.request;
        let Some(session) = self.sessions.get(id) else {
            self.release(charge);
            self.forgotten(bound);
            return;
        };
        if session.plan.epoch != bound.epoch || session.failed {
            self.release(charge);
            return;
        }
        let (plan, stage) = (Arc::clone(&session.plan), session.stage);
        let before = plan.before(stage).map(|stage| &stage.node);
        let may = before == Some(sender) || stage == 0 && plan.origin.as_ref() == Some(sender);
        let input = match step.body {
            StepBody::Tokens(tokens) if stage == 0 && may => EngineInput::Tokens(tokens),
            StepBody::Hidden(tensor) if stage > 0 && may => EngineInput::Hidden(tensor),
            StepBody::Tokens(_) | StepBody::Hidden(_) => {
                let (node, request) = (sender.clone(), id.clone());
                self.violated(from, &Violation::Foreign { node, request });
                return;
            }
        };
        let waiting = session.pending.len();
        if waiting >= MOST_PENDING {
            let violation = Violation::TooMany {
                what: "steps of one request",
                got: waiting + 1,
                limit: MOST_PENDING,
            };
            self.violated(from, &violation);
            return;
        }
        self.enter(id, step.position, input, step.sample, Some(charge));
    }

    /// A step came for a stage that gave up: its origin has to know.
    fn forgotten(&mut self, bound: &Bound) {
        if self.ended.is_known(&bound.request, bound.epoch) {
            return;
        }
        if let Some(origin) = &bound.origin {
            let text = String::from("this stage has given the request up");
            self.tell_origin(origin, &bound.request, bound.epoch, failed::POSITION, text);
        }
    }

    /// Something enters this node's stage.
    pub(super) fn enter(
        &mut self,
        id: &RequestId,
        position: u32,
        input: EngineInput,
        sample: bool,
        charge: Option<Charge>,
    ) {
        self.touch(id);
        let came = self.now;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let expected = session.expected;
        session.pending.push_back(Work {
            input,
            sample,
            charge,
            came,
        });
        if !session.is_plain() {
            if position != expected {
                let text = format!("position {position} came where {expected} comes next");
                self.fail_stage(id, failed::POSITION, text);
                return;
            }
            let added = session
                .pending
                .back()
                .and_then(|work| positions(&work.input));
            session.expected = expected.saturating_add(added.unwrap_or(0));
        }
        self.advance(id);
    }

    /// Gives the engine the next step of a request, if it may have one: the shard is loaded, the
    /// step before is done, and what came of it is on its way.
    pub(super) fn advance(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let blocked = session.next.is_some_and(|next| self.is_blocked(next));
        if session.failed || session.computing.is_some() || blocked {
            return;
        }
        let Some(shard) = session
            .shard()
            .filter(|shard| self.desk.has(shard))
            .cloned()
        else {
            return;
        };
        let most = usize::try_from(self.config.limits.prefill).unwrap_or(usize::MAX);
        let (call, given) = (self.next_call(), self.now);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(piece) = session.next_piece(most) else {
            return;
        };
        session.held = true;
        session.computing = Some(Computing {
            call,
            sample: piece.sample,
            charge: piece.charge,
            came: piece.came,
            given,
        });
        let (position, sampling) = (session.position, session.sampling());
        if self.desk.calls() == 0 {
            let bytes = self.desk.bytes(&shard);
            let work = session.plan.ends.work(&shard, bytes, piece.sample);
            self.speeds.begun(call, self.now, &shard.model, work);
        }
        self.desk.forward(call, id);
        self.outputs
            .push_back(Output::Compute(EngineCommand::Forward {
                call,
                shard,
                request: id.clone(),
                position,
                input: piece.input,
                sampling: piece.sample.then_some(sampling),
            }));
    }

    /// The engine is done with a step; what belongs to an epoch that is over is nobody's.
    pub(super) fn forwarded(
        &mut self,
        id: &RequestId,
        call: CallId,
        output: EngineOutput,
        added: u32,
    ) {
        let Some(computing) = self.computed(id, call) else {
            return;
        };
        self.touch(id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let before = session.position;
        let scored = session.plan.sampling.scores.is_some();
        session.position = before.saturating_add(added);
        session.timing = session.timed(id, &computing, self.desk.turn(), self.now, added);
        let (last, plain) = (session.is_last(), session.is_plain());
        let output = session.unless_forced(output);
        match output {
            EngineOutput::Hidden(tensor) if !last && plain => self.plain_hidden(id, tensor),
            EngineOutput::Hidden(tensor) if !last => {
                self.hidden_done(id, tensor, before, computing.sample);
            }
            EngineOutput::Token { token, end } if last && plain && !scored => {
                self.plain_token(id, token, end, None);
            }
            EngineOutput::Scored { token, end, scores } if last && plain && scored => {
                self.plain_token(id, token, end, Some(scores));
            }
            EngineOutput::Token { token, end } if last && computing.sample && !scored => {
                self.token_done(id, token, end, None);
            }
            EngineOutput::Scored { token, end, scores } if last && computing.sample && scored => {
                self.token_done(id, token, end, Some(scores));
            }
            EngineOutput::Nothing if last && !computing.sample => {}
            EngineOutput::Hidden(_)
            | EngineOutput::Token { .. }
            | EngineOutput::Scored { .. }
            | EngineOutput::Nothing => {
                let text = String::from("the engine gave something else than it was asked for");
                self.fail_stage(id, failed::ENGINE, text);
            }
        }
        // Nothing went anywhere that it could be waited for.
        self.tell_timing(id);
        self.advance(id);
    }

    /// Takes a call off a request's stage, unless the request has moved on since.
    pub(super) fn computed(&mut self, id: &RequestId, call: CallId) -> Option<Computing> {
        let session = self.sessions.get_mut(id)?;
        let computing = session
            .computing
            .filter(|computing| computing.call == call)?;
        session.computing = None;
        if let Some(charge) = computing.charge {
            self.release(charge);
        }
        Some(computing)
    }

    /// This stage computed some positions; their hidden state goes on, except what the next stage
    /// has from an earlier epoch.
    fn hidden_done(&mut self, id: &RequestId, tensor: Tensor, position: u32, sample: bool) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let kept = session.plan.keep(session.stage + 1);
        let Some(route) = session.next else { return };
        let skipped = kept.saturating_sub(position);
        let skipped_rows = usize::try_from(skipped).unwrap_or(usize::MAX);
        if skipped_rows >= rows(&tensor) && skipped > 0 {
            return;
        }
        let Some(tensor) = tensor.rows(skipped_rows) else {
            let text = format!("the engine gave {tensor:?}, which is no hidden state");
            self.fail_stage(id, failed::ENGINE, text);
            return;
        };
        let step = Step {
            stream: route.stream,
            position: position.saturating_add(skipped),
            sample,
            body: StepBody::Hidden(tensor),
        };
        self.time_writing(id, route, MessageType::Step);
        self.send_step(route, step);
    }

    /// This stage, the last one, chose a token.
    fn token_done(&mut self, id: &RequestId, token: u32, end: bool, scores: Option<Scores>) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.chose(token);
        let plan = Arc::clone(&session.plan);
        let (position, next, results) = (session.position, session.next, session.results);
        let index = position.saturating_sub(plan.prompt);
        let last = end || index.saturating_add(1) >= plan.max_tokens;
        match results {
            Some(route) => {
                let token = Token {
                    stream: route.stream,
                    index,
                    token,
                    end,
                    last,
                };
                let message = match scores {
                    Some(scores) => Message::Scored(Scored { token, scores }),
                    None => Message::Token(token),
                };
                if last || next.is_none() {
                    self.time_writing(id, route, message.message_type());
                }
                self.send(route.connection, message);
            }
            None => {
                let current =
                    |client: &Client| client.epoch == plan.epoch && client.told() == index;
                if !self.clients.get(id).is_some_and(current) {
                    return;
                }
                self.token(id, token, end, last, scores);
            }
        }
        if last
            || self
                .sessions
                .get(id)
                .is_none_or(|s| s.plan.epoch != plan.epoch)
        {
            return;
        }
        match next {
            Some(route) => {
                let step = Step {
                    stream: route.stream,
                    position,
                    sample: true,
                    body: StepBody::Tokens(vec![token]),
                };
                self.time_writing(id, route, MessageType::Step);
                self.send_step(route, step);
            }
            None => self.enter(id, position, EngineInput::Tokens(vec![token]), true, None),
        }
    }

    /// A token of an answer came from its last stage.
    pub(super) fn token_came(&mut self, from: ConnectionId, token: Token, scores: Option<Scores>) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let sender = extended.node.clone();
        let bound = match extended.bound(MessageType::Token, token.stream) {
            Ok(Some(bound)) => bound,
            Ok(None) => return,
            Err(violation) => {
                self.violated(from, &violation);
                return;
            }
        };
        let id = bound.request;
        let Some(client) = self.clients.get(&id) else {
            if self.sessions.contains_key(&id) {
                let (node, request) = (sender, id);
                self.violated(from, &Violation::Foreign { node, request });
            }
            return;
        };
        if client.epoch != bound.epoch {
            return;
        }
        let is_last = client.ring.last().is_some_and(|stage| stage.node == sender);
        let expected = client.told();
        let violation = if !is_last {
            Some(Violation::Foreign {
                node: sender,
                request: id.clone(),
            })
        } else if token.index != expected {
            Some(Violation::TokenOrder {
                request: id.clone(),
                expected,
                index: token.index,
            })
        } else {
            None
        };
        match violation {
            Some(violation) => self.violated(from, &violation),
            None => self.token(&id, token.token, token.end, token.last, scores),
        }
    }
}
