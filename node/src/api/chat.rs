//! Chat completions, whole and in chunks.

use super::error::ApiError;
use super::http::{Client, Reply, Request, Responder};
use super::openai::{ChatRequest, Envelope, Usage};
use crate::answer::{Answer, AnswerError, Progress};
use crate::app::App;
use crate::ask::{Ask, AskError};
use crate::library::LibraryError;
use crate::runtime::CommandError;
use exo_models::{ChatMessage, ModelError};
use exo_protocol::{Failure, Rejection};
use serde_json::Value;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// How often a waiting request looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// A stream begins this long after its request at the latest, so that clients and proxies see a
/// sign of life. Until then a failure is a proper reply, afterwards an event in the stream.
const FIRST_SIGN: Duration = Duration::from_secs(10);

/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers one chat request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let client = &request.client;
    let asked = ChatRequest::parse(&request.body).and_then(|chat| {
        let (stream, include_usage) = (chat.stream, chat.include_usage);
        let answer = app.ask(&ask(chat)).map_err(|error| refusal(&error))?;
        Ok((answer, stream, include_usage))
    });
    let result = match asked {
        Ok((answer, true, include_usage)) => stream(answer, include_usage, client, responder),
        Ok((answer, false, _)) => whole(answer, client, responder),
        Err(error) => {
            tracing::debug!("{}: {error}", client.address);
            responder.send(&error.to_reply())
        }
    };
    if let Err(error) = result {
        tracing::debug!("{} went away: {error}", client.address);
    }
}

fn ask(chat: ChatRequest) -> Ask {
    let message = |message: super::openai::Message| ChatMessage {
        role: message.role,
        content: message.content,
    };
    Ask {
        model: chat.model,
        messages: chat.messages.into_iter().map(message).collect(),
        tools: chat.tools,
        max_tokens: chat.max_tokens,
        temperature: chat.temperature,
        top_p: chat.top_p,
        top_k: chat.top_k,
        seed: chat.seed,
        stop: chat.stop,
    }
}

fn whole(mut answer: Answer, client: &Client, responder: Responder) -> io::Result<()> {
    let envelope = Envelope::new(answer.model().to_owned());
    let mut content = String::new();
    loop {
        match answer.next(LOOK) {
            Progress::Waiting if client.gone() => return Ok(()),
            Progress::Waiting => {}
            Progress::Text(text) => content.push_str(&text),
            Progress::Finished(finish) => {
                let usage = usage(&answer, finish.tokens);
                let value = envelope.completion(&content, finish.word(), usage);
                return responder.send(&Reply::json(200, &value));
            }
            Progress::Failed(error) => return responder.send(&failure(&error).to_reply()),
        }
        if client.gone() {
            return Ok(());
        }
    }
}

fn stream(
    mut answer: Answer,
    include_usage: bool,
    client: &Client,
    responder: Responder,
) -> io::Result<()> {
    let begin = Instant::now();
    let first = loop {
        match answer.next(LOOK) {
            Progress::Failed(error) => return responder.send(&failure(&error).to_reply()),
            Progress::Waiting if client.gone() => return Ok(()),
            Progress::Waiting if begin.elapsed() < FIRST_SIGN => {}
            progress => break progress,
        }
    };
    let envelope = Envelope::new(answer.model().to_owned());
    let mut events = Events {
        out: responder.stream("text/event-stream")?,
        last: Instant::now(),
    };
    events.send(&envelope.role_chunk())?;
    let mut progress = first;
    loop {
        match progress {
            Progress::Waiting => events.keep_alive()?,
            Progress::Text(text) => events.send(&envelope.text_chunk(&text))?,
            Progress::Finished(finish) => {
                events.send(&envelope.finish_chunk(finish.word()))?;
                if include_usage {
                    events.send(&envelope.usage_chunk(usage(&answer, finish.tokens)))?;
                }
                return events.done();
            }
            Progress::Failed(error) => return events.send(&failure(&error).to_json()),
        }
        if client.gone() {
            return Ok(());
        }
        progress = answer.next(LOOK);
    }
}

fn usage(answer: &Answer, tokens: u32) -> Usage {
    Usage {
        prompt: answer.prompt_tokens(),
        completion: usize::try_from(tokens).unwrap_or(usize::MAX),
    }
}

/// Server-sent events.
struct Events {
    out: Box<dyn Write + Send>,
    last: Instant,
}

impl Events {
    /// One write for one event, so that it travels in one packet.
    fn send(&mut self, value: &Value) -> io::Result<()> {
        self.write(&format!("data: {value}\n\n"))
    }

    fn done(&mut self) -> io::Result<()> {
        self.write("data: [DONE]\n\n")
    }

    /// A comment; clients skip it.
    fn keep_alive(&mut self) -> io::Result<()> {
        if self.last.elapsed() < KEEP_ALIVE {
            Ok(())
        } else {
            self.write(": waiting\n\n")
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.last = Instant::now();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// A question that was not put.
fn refusal(error: &AskError) -> ApiError {
    let message = error.to_string();
    match error {
        AskError::Model(LibraryError::NotFound { .. }) => {
            ApiError::new(404, "model_not_found", message).with_param("model")
        }
        AskError::Model(LibraryError::Broken { .. }) => {
            ApiError::new(500, "model_broken", message).with_param("model")
        }
        AskError::Conversation(ModelError::Tokenizer { .. }) => {
            ApiError::new(500, "model_broken", message)
        }
        AskError::Conversation(_) => ApiError::field("messages", message),
        AskError::TooLong { .. } => {
            ApiError::new(400, "context_length_exceeded", message).with_param("messages")
        }
        AskError::Command(CommandError::Busy) => ApiError::new(503, "busy", message),
        AskError::Command(CommandError::Leaving) => ApiError::new(503, "leaving", message),
        AskError::Command(CommandError::Stopped) => ApiError::new(503, "stopping", message),
    }
}

/// An answer that did not come.
fn failure(error: &AnswerError) -> ApiError {
    let (status, code) = match error {
        AnswerError::Failed(Failure::TimedOut { .. }) | AnswerError::Silent(_) => (504, "timeout"),
        AnswerError::Failed(Failure::PeerLost { .. }) => (502, "peer_lost"),
        AnswerError::Failed(Failure::Stage { .. }) => (502, "stage_failed"),
        AnswerError::Failed(Failure::Unrecoverable { .. }) => (502, "unrecoverable"),
        // The request is good: with more nodes it is answered.
        AnswerError::Failed(Failure::Memory { .. })
        | AnswerError::Rejected(Rejection::Memory { .. }) => (503, "insufficient_memory"),
        AnswerError::Failed(Failure::Stopping)
        | AnswerError::Rejected(Rejection::Stopping)
        | AnswerError::Stopped => (503, "stopping"),
        AnswerError::Rejected(Rejection::Busy(_)) => (503, "busy"),
        AnswerError::Rejected(Rejection::EmptyPrompt) => (400, "empty_prompt"),
        AnswerError::Failed(_) | AnswerError::Rejected(_) | AnswerError::Text(_) => {
            (500, "internal_error")
        }
    };
    ApiError::new(status, code, error.to_string())
}
