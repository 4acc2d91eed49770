//! The far end of a connection: what was said there, and what a faithful node would say next.

use super::message::{self, ME};
use super::plan::Plan;
use super::source::Source;
use exo_protocol::json::Json;
use exo_protocol::wire::{Message, Open, Scored, Step, StepBody, Token};
use std::collections::{BTreeMap, VecDeque};

/// Messages of the node that wait for an answer; older ones never get one.
const MOST_ASKED: usize = 32;

/// What was said on a connection, so that what is drawn often goes on from there.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Who is there.
    pub(super) node: &'static str,
    /// The newest stream that the far end opened.
    pub(super) stream: u32,
    /// The newest transfer.
    pub(super) transfer: u32,
    streams: BTreeMap<u32, Stream>,
    /// What the node said and wants an answer to.
    asked: VecDeque<Message>,
    /// Streams of the node, with those on which their results go back.
    back: BTreeMap<u32, u32>,
}

/// A stream that the far end opened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    /// Where it goes on.
    pub(super) position: u32,
    /// How many tokens were told on it.
    pub(super) tokens: u32,
    /// The node is its first stage.
    pub(super) to_first: bool,
    /// The node is its origin.
    to_origin: bool,
}

impl Scene {
    pub(super) fn of(node: &'static str) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    /// The far end said something.
    pub(super) fn said(&mut self, message: &Message) {
        match message {
            Message::Open(open) => {
                self.stream = open.stream;
                self.streams.insert(open.stream, stream(&open.plan));
            }
            Message::Step(step) => {
                let rows = match &step.body {
                    StepBody::Tokens(tokens) => tokens.len(),
                    StepBody::Hidden(tensor) => tensor.shape().get(1).copied().unwrap_or(0),
                };
                let rows = u32::try_from(rows).unwrap_or(0);
                let stream = self.streams.entry(step.stream).or_default();
                stream.position = step.position.saturating_add(rows);
            }
            Message::Token(token) | Message::Scored(Scored { token, .. }) => {
                let stream = self.streams.entry(token.stream).or_default();
                stream.tokens = token.index.saturating_add(1);
            }
            Message::Chunk(chunk) => self.transfer = self.transfer.max(chunk.transfer),
            _ => {}
        }
    }

    /// The node said something.
    pub(super) fn heard(&mut self, message: &Message) {
        if let Message::Ping { .. }
        | Message::Open(_)
        | Message::Step(_)
        | Message::HealthCheckRequest { .. }
        | Message::CollectTopologyRequest { .. }
        | Message::SendTensorRequest(_) = message
        {
            if self.asked.len() == MOST_ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back(message.clone());
        }
    }

    pub(super) fn known(&self, stream: u32) -> Stream {
        self.streams.get(&stream).copied().unwrap_or_default()
    }

    /// The number of the next transfer.
    pub(super) fn next_transfer(&self) -> u32 {
        self.transfer.saturating_add(1)
    }

    /// What a faithful node says next: an answer, or else something of its own.
    pub(super) fn goes_on(&mut self, source: &mut Source<'_>) -> Vec<Message> {
        match self.asked.pop_front() {
            Some(Message::Ping { id }) => vec![Message::Pong { id }],
            Some(Message::HealthCheckRequest { .. }) => vec![Message::HealthCheckResponse {
                is_healthy: true,
                exo: Some(message::introduction(source, self).to_json()),
            }],
            Some(Message::CollectTopologyRequest { .. }) => {
                let topology = message::topology(source, self.node);
                vec![Message::CollectTopologyResponse(topology)]
            }
            Some(Message::SendTensorRequest(_)) => vec![Message::SendTensorResponse(None)],
            Some(Message::Open(open)) => self.passes_on(open),
            Some(Message::Step(step)) => self.computes(&step, source),
            _ => vec![self.own(source)],
        }
    }

    /// The last stage brings the plan back.
    fn passes_on(&mut self, open: Open) -> Vec<Message> {
        let plan = Json::parse(&open.plan, 8).unwrap_or(Json::Null);
        let last = plan.get("ring").and_then(Json::as_array);
        let last = last.and_then(|ring| ring.last()?.as_array()?.first()?.as_str());
        if last != Some(self.node) {
            return vec![];
        }
        let stream = self.stream.saturating_add(1);
        self.back.insert(open.stream, stream);
        let plan = open.plan;
        vec![Message::Open(Open { stream, plan })]
    }

    /// The last stage chooses a token.
    fn computes(&mut self, step: &Step, source: &mut Source<'_>) -> Vec<Message> {
        let bytes = u32::try_from(step.payload_len()).unwrap_or(u32::MAX);
        let mut said = vec![
            Message::Credit { stream: 0, bytes },
            Message::Credit {
                stream: step.stream,
                bytes,
            },
        ];
        let Some(&stream) = self.back.get(&step.stream).filter(|_| step.sample) else {
            return said;
        };
        let known = self.known(stream);
        let last = source.one_in(4);
        if known.to_origin {
            said.push(Message::Token(Token {
                stream,
                index: known.tokens,
                token: 5,
                end: last,
                last,
            }));
        }
        if known.to_first && !last {
            let rows = match &step.body {
                StepBody::Tokens(tokens) => tokens.len(),
                StepBody::Hidden(tensor) => tensor.shape().get(1).copied().unwrap_or(0),
            };
            let rows = u32::try_from(rows).unwrap_or(0);
            said.push(Message::Step(Step {
                stream,
                position: step.position.saturating_add(rows),
                sample: true,
                body: StepBody::Tokens(vec![5]),
            }));
        }
        said
    }

    /// Brings a request of its own, or the next step of one.
    fn own(&self, source: &mut Source<'_>) -> Message {
        let (stream, shape) = (self.stream, source.byte());
        let known = self.known(stream);
        if stream > 0 && shape < 200 {
            return Message::Step(Step {
                stream,
                position: known.position,
                sample: true,
                body: match known.to_first {
                    true => StepBody::Tokens(vec![shape.into()]),
                    false => StepBody::Hidden(message::rows(1 + usize::from(shape & 1))),
                },
            });
        }
        let (first, last) = match shape & 1 {
            0 => (self.node, ME),
            _ => (ME, self.node),
        };
        let plan = Plan {
            request: format!("r{}", shape >> 1 & 3),
            epoch: shape >> 3 & 1,
            origin: self.node,
            fingerprint: 0,
            ring: vec![(first, 0, 3, 0), (last, 4, 7, 0)],
            prompt: 1,
            max_tokens: 9,
        };
        Message::Open(Open {
            stream: stream.saturating_add(1),
            plan: plan.write(),
        })
    }
}

/// What a plan makes of the stream that it came on.
fn stream(plan: &[u8]) -> Stream {
    let plan = Json::parse(plan, 8).unwrap_or(Json::Null);
    let mut stream = Stream {
        to_origin: plan.get("origin").and_then(Json::as_str) == Some(ME),
        ..Stream::default()
    };
    let ring = plan.get("ring").and_then(Json::as_array);
    for (index, stage) in ring.unwrap_or_default().iter().enumerate() {
        let Some([node, .., keep]) = stage.as_array() else {
            continue;
        };
        if node.as_str() == Some(ME) {
            stream.to_first = index == 0;
            stream.position = keep
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(0);
        }
    }
    stream
}
