//! The clients of a host: what they ask, what they are told.

use super::engine::scores_of;
use super::faults::Fault;
use super::watch::Course;
use super::world::{LAYERS, MODEL, World};
use crate::invariants::tokens_once_in_order::{Answer, END, FIRST};
use crate::invariants::{everything_ends, nothing_impossible};
use exo_protocol::engine::{Sampling, Shaping};
use exo_protocol::{
    Command, Event, Failure, FinishReason, Input, Instant, Rejection, RequestId, Submit,
};
use std::sync::Arc;
use std::time::Duration;

/// A client of one request.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) answer: Answer,
    pub(crate) end: Option<End>,
    /// When its time is over, by its host's clock.
    pub(crate) until: Instant,
    pub(crate) cancelled: bool,
    pub(crate) course: Course,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished(FinishReason),
    Failed(Failure),
    Rejected(Rejection),
    /// Its host went down under it.
    Orphaned,
}

/// What a client wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) prompt: usize,
    /// Mean length of the answer.
    pub(crate) mean: u32,
    pub(crate) most: u32,
    /// Nothing is asked for that a reference node cannot be told.
    pub(crate) plain: bool,
    pub(crate) timeout: Duration,
}

impl Client {
    /// Its host is down.
    pub(crate) fn orphan(&mut self) {
        if self.end.is_none() {
            self.end = Some(End::Orphaned);
        }
    }
}

impl World {
    /// A client comes, perhaps.
    pub(super) fn clients_come(&mut self) {
        self.trainers_come();
        if self.draws(self.busy) {
            let index = self.some_host();
            let wish = self.wish();
            self.submit(index, &wish);
        }
        if self.strikes(Fault::Cancel) {
            let index = self.some_host();
            let host = &mut self.hosts[index];
            let mut running = host.clients.iter_mut();
            if let Some((request, client)) = running.find(|(_, client)| client.end.is_none()) {
                client.cancelled = true;
                let request = request.clone();
                self.struck.count(Fault::Cancel);
                let command = Command::Cancel {
                    request: request.clone(),
                };
                self.input(index, Input::Command(command));
                if let Err(what) = everything_ends::cancelled(self, index, &request) {
                    self.broken("everything_ends", what);
                }
            }
        }
    }

    fn wish(&mut self) -> Wish {
        let rng = &mut self.rng;
        let prompt = match rng.below(8) {
            0..3 => 1,
            3..6 => 2 + rng.below(10),
            6 => 10 + rng.below(60),
            _ => 60 + rng.below(400),
        };
        let mean = [3, 10, 10, 40][usize::try_from(rng.below(4)).unwrap_or(0)];
        let most = match rng.below(32) {
            0 => 0,
            1..12 => 1 + rng.below(4),
            _ => 4 + rng.below(100),
        };
        Wish {
            prompt: usize::try_from(prompt).unwrap_or(1),
            mean,
            most: u32::try_from(most).unwrap_or(1),
            plain: false,
            timeout: Duration::from_secs(4 + rng.below(26)),
        }
    }

    pub(super) fn submit(&mut self, index: usize, wish: &Wish) -> RequestId {
        self.last_request += 1;
        let request = RequestId::from(format!("r{}", self.last_request));
        let rng = &mut self.rng;
        let mut tokens = vec![FIRST + wish.mean];
        tokens.resize_with(wish.prompt, || {
            1000 + u32::try_from(rng.below(50_000)).unwrap_or(0)
        });
        let sampling = if rng.below(2) == 0 {
            Sampling::default()
        } else {
            let seed = rng.next_u64();
            // Some begin with what the client says, the end token among it.
            let forced = match seed.is_multiple_of(4) {
                true => (0..seed >> 32 & 7)
                    .map(|at| (seed >> 40) + at)
                    .map(|drawn| match drawn.is_multiple_of(3) {
                        true => END,
                        false => 1000 + u32::try_from(drawn % 50_000).unwrap_or(0),
                    })
                    .collect(),
                false => Vec::new(),
            };
            let penalties = Shaping {
                frequency: 0.5,
                forced,
                ..Shaping::default()
            };
            Sampling {
                temperature: 0.7,
                top_p: 0.9,
                top_k: 40,
                seed,
                shaping: (seed.is_multiple_of(2) && !wish.plain).then(|| Arc::new(penalties)),
                scores: (seed.is_multiple_of(3) && !wish.plain).then_some(1),
            }
        };
        let words: Vec<String> = tokens.iter().map(ToString::to_string).collect();
        let host = &mut self.hosts[index];
        if !host.is_on() {
            return request;
        }
        let client = Client {
            answer: Answer::new(&tokens, sampling.clone(), wish.most),
            end: None,
            until: host.clock.at(self.now) + wish.timeout,
            cancelled: false,
            course: Course::new(host.config.node.clone(), host.incarnation, self.now),
        };
        host.clients.insert(request.clone(), client);
        let submit = Submit {
            request: request.clone(),
            model: MODEL.into(),
            layers: LAYERS,
            bytes: self.model_mib << 20,
            cost: self.cost.clone(),
            fingerprint: host.fingerprint,
            prompt: words.join(" ").into(),
            tokens,
            end_tokens: vec![END],
            sampling,
            max_tokens: wish.most,
            timeout: wish.timeout,
            // Some are watched on their way, which must not change what comes of them.
            trace: wish.most.is_multiple_of(3),
        };
        self.input(index, Input::Command(Command::Submit(submit)));
        request
    }

    /// A host tells its clients.
    pub(super) fn hear(&mut self, index: usize, event: Event) {
        if let Err(what) = nothing_impossible::event(self, index, &event) {
            self.broken("nothing_impossible", format!("n{index}: {what}"));
        }
        self.watch(index, &event);
        self.job_hears(index, &event);
        let told = match event {
            Event::Token {
                request,
                index: place,
                token,
                scores,
            } => {
                self.trace.number(u64::from(token));
                let client = self.hosts[index].clients.get(&request);
                let asked = client.is_some_and(|client| client.answer.wants_scores());
                let expected = asked.then(|| scores_of(token));
                // Where a stage sends to another last one than its origin means, the base protocol
                // brings the token alone.
                let silent = scores.is_none() && self.mixed.contains(&request);
                if scores.as_deref() != expected.as_ref() && !silent {
                    let what = format!("n{index}: {request}: {scores:?} with {token}");
                    self.broken("tokens_once_in_order", what);
                }
                self.with_client(index, &request, |client| client.answer.token(place, token))
            }
            Event::Finished {
                request,
                reason,
                tokens,
            } => self.with_client(index, &request, |client| {
                client.end = Some(End::Finished(reason));
                client.answer.end()?;
                client.answer.finished(reason, tokens)
            }),
            Event::Failed { request, failure } => self.with_client(index, &request, |client| {
                client.end = Some(End::Failed(failure));
                client.answer.end()
            }),
            Event::Rejected { request, rejection } => self.with_client(index, &request, |client| {
                client.end = Some(End::Rejected(rejection));
                client.answer.end()
            }),
            Event::Drained => {
                self.drained(index);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(what) = told {
            self.broken("tokens_once_in_order", format!("n{index}: {what}"));
        }
    }

    fn with_client(
        &mut self,
        index: usize,
        request: &RequestId,
        tell: impl FnOnce(&mut Client) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(client) = self.hosts[index].clients.get_mut(request) else {
            return Err(format!("{request}: nobody asked for it"));
        };
        let already = client.end.clone();
        tell(client).map_err(|what| match already {
            Some(end) => format!("{request}, which ended with {end:?}: {what}"),
            None => format!("{request}: {what}"),
        })?;
        if let Err(what) = everything_ends::fairly(self, index, request) {
            self.broken("everything_ends", format!("n{index}: {request}: {what}"));
        }
        self.is_over(index, request);
        Ok(())
    }
}
