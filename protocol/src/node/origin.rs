//! The origin's side of requests: from the application's question to its last event.

use super::Node;
use super::client::{Client, Ended};
use super::failure::{Failure, FinishReason, Rejection};
use super::input::Submit;
use super::output::{Event, Stage};
use super::place::Need;
use super::plan::{Ends, Plan};
use crate::engine::{EngineInput, Sampling, Scores};
use crate::id::{NodeId, RequestId};
use crate::wire::extension::end;
use crate::wire::{Ending, Message, Step, StepBody};
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

impl Node {
    pub(super) fn submit(&mut self, submit: Submit) {
        let request = submit.request.clone();
        let none = BTreeSet::new();
        let prompt = u32::try_from(submit.tokens.len()).unwrap_or(u32::MAX);
        let answer = submit.max_tokens.min(self.config.max_tokens);
        let need = Need {
            model: &submit.model,
            layers: submit.layers,
            bytes: submit.bytes,
            cost: Some((&submit.cost, prompt.saturating_add(answer))),
            avoid: &none,
            own_only: false,
            before: &[],
        };
        let ring = match self.rejection(&submit) {
            Some(rejection) => Err(rejection),
            None => self.ring_for(&need),
        };
        let ring = match ring {
            Ok(ring) => ring,
            Err(rejection) => {
                self.tell(Event::Rejected { request, rejection });
                return;
            }
        };
        if let Some(node) = self.cannot_sample(&submit.sampling, &ring) {
            let rejection = Rejection::Sampling(node);
            self.tell(Event::Rejected { request, rejection });
            return;
        }
        self.remember_ring(&submit.model, &ring);
        self.tell(Event::Accepted {
            request: request.clone(),
            ring: ring.clone(),
        });
        let mut client = Client::new(submit, self.config.max_tokens, self.now);
        client.plain = ring.iter().any(|stage| !self.is_own(&stage.node));
        client.held = vec![0; ring.len()];
        client.ring = ring;
        let (nothing, plain) = (client.max_tokens == 0, client.plain);
        self.clients.insert(request.clone(), client);
        if nothing {
            self.finish(&request, FinishReason::Length);
        } else if plain {
            self.launch_plain(&request);
        } else {
            self.launch(&request, None);
        }
    }

    /// The ring of a new request.
    pub(super) fn ring_for(&self, need: &Need<'_>) -> Result<Vec<Stage>, Rejection> {
        if let Some(pinned) = self.pinned(need) {
            return pinned.map_err(Rejection::Pinned);
        }
        match self.place(need) {
            Ok(ring) if ring.is_empty() => Err(Rejection::Layers(need.layers)),
            Ok(ring) => Ok(ring),
            Err(shortage) => Err(Rejection::Memory {
                needed: shortage.needed,
                left: shortage.left,
                nodes: shortage.nodes,
            }),
        }
    }

    /// The last stage of `ring` if it cannot be told how to choose: a ring that speaks the base
    /// protocol carries nothing of that, and an earlier version does not know all of it.
    pub(super) fn cannot_sample(&self, sampling: &Sampling, ring: &[Stage]) -> Option<NodeId> {
        let last = ring.last().filter(|last| last.node != self.config.node)?;
        if !sampling.is_demanding() {
            return None;
        }
        let plain = ring.iter().any(|stage| !self.is_own(&stage.node));
        let connection = self.connection_to(&last.node);
        let knows = connection
            .and_then(|connection| self.connections.get(&connection)?.extended.as_ref())
            .is_some_and(|extended| extended.samples);
        (plain || !knows).then(|| last.node.clone())
    }

    fn rejection(&self, submit: &Submit) -> Option<Rejection> {
        let id = &submit.request;
        let known =
            self.clients.contains_key(id) || self.sessions.contains_key(id) || self.knows_job(id);
        if self.stopping || self.leaving {
            Some(Rejection::Stopping)
        } else if known || self.ended.covers(id, 0) {
            Some(Rejection::Duplicate(id.clone()))
        } else if submit.tokens.is_empty() {
            Some(Rejection::EmptyPrompt)
        } else if submit.layers == 0 {
            Some(Rejection::Layers(0))
        } else if self.clients.len() >= self.config.limits.requests {
            Some(Rejection::Busy(self.clients.len()))
        } else {
            None
        }
    }

    /// Sends a request round its ring. `keep`: what each stage has of it already.
    pub(super) fn launch(&mut self, id: &RequestId, keep: Option<Vec<u32>>) {
        let own = self.config.node.clone();
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let keep = keep.unwrap_or_else(|| vec![0; client.ring.len()]);
        client.held.clone_from(&keep);
        let nodes = client.ring.iter().map(|stage| stage.node.clone());
        client.touched.extend(nodes);
        let plan = Plan {
            request: id.clone(),
            epoch: client.epoch,
            origin: Some(own.clone()),
            fingerprint: client.fingerprint,
            ends: Ends::of(&client.cost, client.ring.len()),
            ring: client.ring.clone(),
            keep,
            prompt: client.prompt_len(),
            sampling: client.sampling.clone(),
            max_tokens: client.max_tokens,
            answer: match client.sampling.looks_back() {
                true => client.answer.clone(),
                false => Vec::new(),
            },
            trace: client.trace,
        };
        let position = plan.keep(0);
        let known = client.prompt.iter().chain(&client.answer).copied();
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        let tokens: Vec<u32> = known.skip(from).collect();
        let Some(Stage { node: first, .. }) = plan.ring.first().cloned() else {
            return;
        };
        let epoch = client.epoch;
        if first == own {
            let plan = Arc::new(plan);
            if self.open_session(plan, 0) {
                self.enter(id, position, EngineInput::Tokens(tokens), true, None);
            }
            return;
        }
        let Some(route) = self.open_stream(&first, &plan) else {
            self.unreachable(id, epoch, &first);
            return;
        };
        if let Some(client) = self.clients.get_mut(id) {
            client.feed = Some(route);
        }
        let step = Step {
            stream: route.stream,
            position,
            sample: true,
            body: StepBody::Tokens(tokens),
        };
        self.send_step(route, step);
    }

    /// A token of the answer is here: each one once and in order.
    pub(super) fn token(
        &mut self,
        id: &RequestId,
        token: u32,
        end: bool,
        last: bool,
        scores: Option<Scores>,
    ) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        let index = client.told();
        let forced = usize::try_from(index).is_ok_and(|at| client.sampling.forced(at).is_some());
        let end = !forced && (end || client.end_tokens.contains(&token));
        client.answer.push(token);
        client.confirmed();
        // Whoever did not ask for them does not get them.
        let scores = scores.filter(|_| client.sampling.scores.is_some());
        // A reference stage knows nothing of the most tokens that were asked for here.
        let last = last || client.told() >= client.max_tokens;
        if !(end && last) {
            self.tell(Event::Token {
                request: id.clone(),
                index,
                token,
                scores: scores.map(Arc::new),
            });
        }
        if last {
            let reason = if end {
                FinishReason::Stop
            } else {
                FinishReason::Length
            };
            self.finish(id, reason);
        }
    }

    pub(super) fn finish(&mut self, id: &RequestId, reason: FinishReason) {
        let Some(client) = self.clients.get(id) else {
            return;
        };
        let tokens = client.told();
        self.tell(Event::Finished {
            request: id.clone(),
            reason,
            tokens,
        });
        self.over(id, end::FINISHED, String::from("complete"));
    }

    pub(super) fn cancel(&mut self, id: &RequestId) {
        self.fail(id, Failure::Cancelled);
    }

    /// A request that was submitted here comes to nothing more.
    pub(super) fn fail(&mut self, id: &RequestId, failure: Failure) {
        if !self.clients.contains_key(id) {
            return;
        }
        let text = failure.to_string();
        self.tell(Event::Failed {
            request: id.clone(),
            failure,
        });
        self.over(id, end::CANCELLED, text);
    }

    /// Forgets a request that was submitted here, and has all forget it that may know of it.
    fn over(&mut self, id: &RequestId, code: u16, text: String) {
        let Some(client) = self.clients.remove(id) else {
            return;
        };
        self.remember_end(id, Ended::ALL);
        self.remember_traced(id, &client);
        if let Some(route) = client.feed {
            self.close_stream(route);
        }
        self.end_session(id);
        let told = client.touched.iter().cloned().collect::<Vec<NodeId>>();
        self.tell_end(id, client.epoch, code, &text, &told);
        self.drained();
    }

    /// Tells nodes that a request is over for them.
    pub(super) fn tell_end(
        &mut self,
        id: &RequestId,
        epoch: u32,
        code: u16,
        text: &str,
        nodes: &[NodeId],
    ) {
        for node in nodes {
            if *node == self.config.node || !self.is_own(node) {
                continue;
            }
            let Some(connection) = self.connection_to(node) else {
                continue;
            };
            let ending = Ending {
                epoch,
                code,
                request: id.clone(),
                text: text.into(),
            };
            self.send(connection, Message::End(ending));
        }
    }

    pub(super) fn expire_clients(&mut self) {
        let now = self.now;
        let late: Vec<RequestId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.deadline() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let failure = match &client.waiting {
                Some(waiting) if client.until > now && waiting.again => {
                    let failure = waiting.failure.clone();
                    self.recover(&id, failure);
                    continue;
                }
                Some(waiting) if client.until > now => waiting.failure.clone(),
                _ => {
                    let nodes: Vec<&str> = client.ring.iter().map(|stage| &*stage.node).collect();
                    Failure::TimedOut {
                        seconds: client.seconds,
                        ring: nodes.join(" > "),
                    }
                }
            };
            self.fail(&id, failure);
        }
    }
}
