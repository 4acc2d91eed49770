//! Recordings without what was said.
//!
//! Prompts, tokens and hidden states are replaced before they are written, by something of the same
//! length. The node must decide on it as it decided on what really came, so that the recording can
//! be replayed. It looks at little of it: whether a token is one with which the model ends its
//! answer, whether a number is a token at all, and how long things are. All of that stays.

use super::pieces::{Pieces, tells};
use crate::engine::{
    EngineEvent, EngineOutput, ExampleInput, Sampling, Scores, Targets, TrainEvent,
};
use crate::json::Json;
use crate::node::{Command, Example, Input, LinkFault, Submit};
use crate::tensor::{DType, Tensor};
use crate::wire::{
    self, Chunk, DecodeError, Ending, Message, Notice, Open, Part, Scored, SendPrompt, SendResult,
    SendTensor, Step, StepBody, Token,
};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// Replaces what was said in inputs.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    /// Tokens that end an answer, of every request so far. They stay what they are.
    ends: BTreeSet<u32>,
    pieces: Pieces,
}

impl Redactor {
    pub(super) fn input(&mut self, input: &Input) -> Input {
        match input {
            Input::Received {
                connection,
                message: Message::Chunk(chunk),
                bytes,
            } => Input::Received {
                connection: *connection,
                message: Message::Chunk(self.pieces.redact(*connection, chunk)),
                bytes: *bytes,
            },
            Input::Received {
                connection,
                message,
                bytes,
            } => {
                if let Message::Abort { transfer } = message {
                    self.pieces.abort(*connection, *transfer);
                }
                Input::Received {
                    connection: *connection,
                    message: Side::In(&self.ends).message(message),
                    bytes: *bytes,
                }
            }
            Input::Lost { connection, fault } => {
                self.pieces.lost(*connection);
                Input::Lost {
                    connection: *connection,
                    fault: blank_fault(fault),
                }
            }
            Input::Engine(EngineEvent::Forwarded {
                call,
                output,
                positions,
            }) => Input::Engine(EngineEvent::Forwarded {
                call: *call,
                output: Side::In(&self.ends).engine_output(output),
                positions: *positions,
            }),
            Input::Command(Command::Submit(submit)) => {
                self.ends.extend(&submit.end_tokens);
                let side = Side::In(&self.ends);
                Input::Command(Command::Submit(Submit {
                    prompt: side.text(&submit.prompt).into(),
                    tokens: side.tokens(&submit.tokens),
                    sampling: side.sampling(&submit.sampling),
                    ..submit.clone()
                }))
            }
            Input::Command(Command::Example(example)) => {
                let side = Side::In(&self.ends);
                Input::Command(Command::Example(Example {
                    tokens: side.tokens(&example.tokens),
                    targets: side.targets(&example.targets),
                    ..example.clone()
                }))
            }
            Input::Command(Command::Part {
                read,
                size,
                code,
                content,
            }) => Input::Command(Command::Part {
                read: *read,
                size: *size,
                code: *code,
                content: zeros(content),
            }),
            Input::Engine(EngineEvent::Trained(event)) => {
                let side = Side::In(&self.ends);
                Input::Engine(EngineEvent::Trained(side.trained(event)))
            }
            Input::Opened { .. }
            | Input::DialFailed { .. }
            | Input::Progress { .. }
            | Input::Sent { .. }
            | Input::DiscoveryFile(_)
            | Input::Interfaces(_)
            | Input::Datagram { .. }
            | Input::Answered { .. }
            | Input::Asked { .. }
            | Input::Engine(_)
            | Input::Command(_) => input.clone(),
        }
    }
}

/// Deepest nesting of a plan.
const PLAN_DEPTH: usize = 8;

/// Which way something goes.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    /// To the node, which has to decide as it did.
    In(&'a BTreeSet<u32>),
    /// From the node, into a hash.
    Out,
}

impl Side<'_> {
    fn token(self, token: u32) -> u32 {
        match self {
            Self::In(ends) if ends.contains(&token) => token,
            // The first number of as many digits that ends nothing: plans have tokens in decimal, and
            // how long messages are decides when the next one goes.
            Self::In(ends) => {
                let free = |number: &u32| !ends.contains(number);
                let least = token
                    .checked_ilog10()
                    .map_or(0, |digits| 10_u32.pow(digits));
                let least = if least == 1 { 0 } else { least };
                (least..=token).find(free).unwrap_or(token)
            }
            Self::Out => 0,
        }
    }

    pub(super) fn tokens(self, tokens: &[u32]) -> Vec<u32> {
        tokens.iter().map(|&token| self.token(token)).collect()
    }

    /// A number where a token belongs. What is none must stay none.
    fn number(self, number: i64) -> i64 {
        match (self, u32::try_from(number)) {
            (Self::Out, _) => 0,
            (_, Ok(token)) => self.token(token).into(),
            (_, Err(_)) => -1,
        }
    }

    fn text(self, text: &str) -> String {
        match self {
            Self::In(_) => text.chars().map(stand_in).collect(),
            Self::Out => String::new(),
        }
    }

    /// Without the text of a grammar, which may quote what was said, or whom it is about, and
    /// without the tokens of what the answer begins with, which were said.
    pub(super) fn sampling(self, sampling: &Sampling) -> Sampling {
        let mut sampling = sampling.clone();
        if let Some(shaping) = &mut sampling.shaping
            && let Some(grammar) = shaping.grammar.clone()
        {
            Arc::make_mut(shaping).grammar = Some(self.text(&grammar).into());
        }
        if let Some(shaping) = &mut sampling.shaping
            && !shaping.forced.is_empty()
        {
            let shaping = Arc::make_mut(shaping);
            shaping.forced = self.tokens(&shaping.forced);
        }
        sampling
    }

    /// Words that a program wrote for people.
    fn words(self, words: &str) -> String {
        match self {
            Self::In(_) => words.into(),
            Self::Out => String::new(),
        }
    }

    fn state(self, json: Option<&Json>) -> Option<Json> {
        match self {
            Self::In(_) => json.map(|json| self.json(json)),
            Self::Out => None,
        }
    }

    fn json(self, json: &Json) -> Json {
        match json {
            Json::Null | Json::Bool(_) => json.clone(),
            Json::Int(_) | Json::Uint(_) => Json::Int(0),
            Json::Float(_) => Json::Float(0.0),
            Json::String(text) => Json::String(self.text(text)),
            Json::Array(items) => items
                .iter()
                .map(|item| self.json(item))
                .collect::<Vec<_>>()
                .into(),
            Json::Object(entries) => Json::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), self.json(value)))
                    .collect(),
            ),
        }
    }

    /// Integers may be tokens, so they go one by one.
    pub(super) fn tensor(self, tensor: &Tensor) -> Tensor {
        let size = tensor.dtype().size();
        let signed = match tensor.dtype() {
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => true,
            DType::U8 | DType::U16 | DType::U32 | DType::U64 => false,
            DType::Bool | DType::F16 | DType::Bf16 | DType::F32 | DType::F64 | DType::Complex64 => {
                return with_data(tensor, vec![0; tensor.data().len()]);
            }
        };
        let mut data = Vec::with_capacity(tensor.data().len());
        for element in tensor.data().chunks_exact(size) {
            let negative = signed && element.last().is_some_and(|&byte| byte >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            for (to, from) in wide.iter_mut().zip(element) {
                *to = *from;
            }
            // An unsigned number beyond the largest signed one is no token either.
            let number = self.number(i64::from_le_bytes(wide));
            data.extend(number.to_le_bytes().into_iter().take(size));
        }
        with_data(tensor, data)
    }

    fn engine_output(self, output: &EngineOutput) -> EngineOutput {
        match output {
            EngineOutput::Hidden(tensor) => EngineOutput::Hidden(self.tensor(tensor)),
            EngineOutput::Token { token, end } => EngineOutput::Token {
                token: self.token(*token),
                end: *end,
            },
            EngineOutput::Scored { token, end, scores } => EngineOutput::Scored {
                token: self.token(*token),
                end: *end,
                scores: blank_scores(scores),
            },
            EngineOutput::Nothing => EngineOutput::Nothing,
        }
    }

    /// Which positions count goes too where an example comes in pieces.
    pub(super) fn targets(self, targets: &Targets) -> Targets {
        Targets {
            tokens: self.tokens(&targets.tokens),
            counted: match self {
                Self::In(_) => targets.counted.clone(),
                Self::Out => vec![(0, 0); targets.counted.len()],
            },
        }
    }

    pub(super) fn example(self, input: &ExampleInput) -> ExampleInput {
        match input {
            ExampleInput::Tokens { tokens, batch } => ExampleInput::Tokens {
                tokens: self.tokens(tokens),
                batch: *batch,
            },
            ExampleInput::Hidden(tensor) => ExampleInput::Hidden(self.tensor(tensor)),
        }
    }

    fn trained(self, event: &TrainEvent) -> TrainEvent {
        let mut event = event.clone();
        let tensor = match &mut event {
            TrainEvent::Forwarded { hidden, .. } => Some(hidden),
            TrainEvent::Compared { gradient, .. } | TrainEvent::Learned { gradient, .. } => {
                gradient.as_mut()
            }
            TrainEvent::Begun { .. } | TrainEvent::Saved { .. } | TrainEvent::Ended { .. } => None,
        };
        if let Some(tensor) = tensor {
            *tensor = self.tensor(tensor);
        }
        event
    }

    pub(super) fn message(self, message: &Message) -> Message {
        match message {
            Message::SendPromptRequest(prompt) => Message::SendPromptRequest(SendPrompt {
                shard: prompt.shard.clone(),
                prompt: self.text(&prompt.prompt),
                request_id: prompt.request_id.clone(),
                inference_state: self.state(prompt.inference_state.as_ref()),
            }),
            Message::SendTensorRequest(request) => Message::SendTensorRequest(SendTensor {
                shard: request.shard.clone(),
                tensor: self.tensor(&request.tensor),
                request_id: request.request_id.clone(),
                inference_state: self.state(request.inference_state.as_ref()),
            }),
            Message::SendTensorResponse(tensor) => {
                Message::SendTensorResponse(tensor.as_ref().map(|tensor| self.tensor(tensor)))
            }
            Message::SendResult(result) => Message::SendResult(SendResult {
                request_id: result.request_id.clone(),
                result: result.result.iter().map(|&n| self.number(n)).collect(),
                is_finished: result.is_finished,
                tensor: result.tensor.as_ref().map(|tensor| self.tensor(tensor)),
            }),
            Message::SendOpaqueStatus { request_id, status } => Message::SendOpaqueStatus {
                request_id: request_id.clone(),
                status: self.text(status),
            },
            Message::SendPromptResponse(bytes) => Message::SendPromptResponse(zeros(bytes)),
            Message::SendExampleRequest(bytes) => Message::SendExampleRequest(zeros(bytes)),
            Message::SendExampleResponse(bytes) => Message::SendExampleResponse(zeros(bytes)),
            Message::Step(step) => Message::Step(Step {
                body: match &step.body {
                    StepBody::Tokens(tokens) => StepBody::Tokens(self.tokens(tokens)),
                    StepBody::Hidden(tensor) => StepBody::Hidden(self.tensor(tensor)),
                },
                ..*step
            }),
            Message::Example(example) => Message::Example(wire::Example {
                input: self.example(&example.input),
                targets: self.targets(&example.targets),
                ..example.clone()
            }),
            Message::Gradient(gradient) => Message::Gradient(wire::Gradient {
                gradient: self.tensor(&gradient.gradient),
                ..gradient.clone()
            }),
            // Nobody said it, but a model would fill the disk.
            Message::Part(part) => Message::Part(Part {
                content: zeros(&part.content),
                ..*part
            }),
            Message::Open(open) => Message::Open(Open {
                stream: open.stream,
                plan: self.plan(&open.plan),
            }),
            Message::Token(token) => Message::Token(Token {
                token: self.token(token.token),
                ..*token
            }),
            Message::Scored(scored) => Message::Scored(Scored {
                token: Token {
                    token: self.token(scored.token.token),
                    ..scored.token
                },
                scores: blank_scores(&scored.scores),
            }),
            Message::Error(notice) => Message::Error(self.notice(notice)),
            Message::Goodbye(notice) => Message::Goodbye(self.notice(notice)),
            Message::End(ending) => Message::End(self.ending(ending)),
            Message::Failed(ending) => Message::Failed(self.ending(ending)),
            // On its way in a piece needs to be known with those before it; see `Pieces`.
            Message::Chunk(chunk) => Message::Chunk(Chunk {
                data: zeros(&chunk.data),
                ..*chunk
            }),
            Message::HealthCheckRequest { .. }
            | Message::HealthCheckResponse { .. }
            | Message::CollectTopologyRequest { .. }
            | Message::CollectTopologyResponse(_)
            | Message::Ping { .. }
            | Message::Pong { .. }
            | Message::Topology(_)
            | Message::Close { .. }
            | Message::Credit { .. }
            | Message::Abort { .. }
            | Message::Begin(_)
            | Message::Begun(_)
            | Message::Loss(_)
            | Message::Save(_)
            | Message::Saved(_)
            | Message::Want(_)
            | Message::Timing(_) => message.clone(),
        }
    }

    /// A plan without the answer so far, if it brings one.
    fn plan(self, plan: &Bytes) -> Bytes {
        let Ok(Json::Object(mut entries)) = Json::parse(plan, PLAN_DEPTH) else {
            return plan.clone();
        };
        let mut found = false;
        for (key, value) in &mut entries {
            match value {
                Json::Array(tokens) if key == "answer" => {
                    found = true;
                    for token in tokens {
                        *token = Json::Int(self.number(token.as_i64().unwrap_or(-1)));
                    }
                }
                Json::Object(sampling) if key == "sampling" => {
                    for (key, value) in sampling.iter_mut() {
                        match value {
                            Json::Array(tokens) if key == "forced" => {
                                found = true;
                                for token in tokens {
                                    *token = Json::Int(self.number(token.as_i64().unwrap_or(-1)));
                                }
                            }
                            value if key == "grammar" => {
                                found = true;
                                let text = self.text(value.as_str().unwrap_or_default());
                                *value = Json::from(&*text);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if !found {
            return plan.clone();
        }
        let mut text = Vec::new();
        Json::Object(entries).write(&mut text);
        Bytes::from(text)
    }

    fn notice(self, notice: &Notice) -> Notice {
        Notice {
            code: notice.code,
            text: self.words(&notice.text),
        }
    }

    fn ending(self, ending: &Ending) -> Ending {
        Ending {
            epoch: ending.epoch,
            code: ending.code,
            request: ending.request.clone(),
            text: self.words(&ending.text),
        }
    }
}

/// A letter for a letter that takes as many bytes, in UTF-8 and in JSON.
fn stand_in(letter: char) -> char {
    match letter {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => '\n',
        ' '..='~' => 'x',
        '\0'..='\u{7f}' => '\u{1}',
        '\u{80}'..='\u{7ff}' => '\u{df}',
        '\u{800}'..='\u{ffff}' => '\u{2591}',
        '\u{10000}'.. => '\u{10000}',
    }
}

pub(super) fn zeros(bytes: &Bytes) -> Bytes {
    Bytes::from(vec![0; bytes.len()])
}

fn with_data(tensor: &Tensor, data: Vec<u8>) -> Tensor {
    Tensor::new(tensor.dtype(), tensor.shape().to_vec(), data.into())
        .map_or_else(|_| tensor.clone(), |blank| blank.spelled(tensor.family()))
}

/// What is wrong with JSON may quote some of it.
fn blank_fault(fault: &LinkFault) -> LinkFault {
    match fault {
        LinkFault::Malformed(DecodeError::Json { kind, reason }) if tells(*kind) => {
            LinkFault::Malformed(DecodeError::Json {
                kind: *kind,
                reason: reason.chars().map(stand_in).collect(),
            })
        }
        _ => fault.clone(),
    }
}

/// As many scores, which tell nothing of what was said.
fn blank_scores(scores: &Scores) -> Scores {
    Scores {
        chosen: 0.0,
        likeliest: vec![(0, 0.0); scores.likeliest.len()],
    }
}
