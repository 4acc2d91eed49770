//! From a question to a reply, whole or as a stream, in whatever dialect.

use super::calls::Calls;
use super::dialect::{Dialect, Ending, Info, Part, Usage, Whole};
use super::error::ApiError;
use super::http::{Client, Reply, Request, Responder};
use super::{models, opening};
use crate::answer::{Answer, AnswerError, Finish, Progress};
use crate::app::App;
use crate::ask::{Ask, AskError, Input};
use crate::library::LibraryError;
use crate::runtime::CommandError;
use exo_models::ModelError;
use exo_protocol::{Failure, FinishReason, Rejection};
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a waiting request looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// A stream begins this long after its request at the latest, so that clients and proxies see a
/// sign of life. Until then a failure is a proper reply, afterwards an event in the stream.
const FIRST_SIGN: Duration = Duration::from_secs(10);

/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A request as a dialect understood it.
pub(super) struct Wish<D> {
    /// What is asked.
    pub(super) ask: Ask,
    /// Whether the answer is to come in pieces.
    pub(super) stream: bool,
    /// How it is written.
    pub(super) dialect: D,
}

/// Answers one request; `fallback` writes the refusal of what `wish` did not understand.
pub(super) fn serve<D: Dialect>(
    app: &App,
    request: &Request,
    responder: Responder,
    wish: Result<Wish<D>, ApiError>,
    fallback: impl FnOnce(&ApiError) -> Reply,
) {
    let client = &request.client;
    let refused = |error: &ApiError| tracing::debug!("{}: {error}", client.address);
    let result = match wish {
        Err(error) => {
            refused(&error);
            responder.send(&fallback(&error))
        }
        Ok(Wish {
            ask,
            stream,
            mut dialect,
        }) => {
            let mut door = Door::new(responder);
            let field = dialect.asked_in();
            let mut alive = || match stream {
                true => door.keep_alive(&dialect),
                false => Ok(()),
            };
            match opening::open(app, &ask, request, !stream, field, &mut alive) {
                Err(error) => Err(error),
                Ok(None) => Ok(()),
                Ok(Some(Err(error))) => {
                    refused(&error);
                    door.refuse(&mut dialect, &error)
                }
                Ok(Some(Ok((answer, _places)))) => {
                    door.of_model(answer.model());
                    let course = Course::new(answer, ask);
                    if stream {
                        course.stream(&mut dialect, client, door)
                    } else {
                        course.whole(&mut dialect, client, door)
                    }
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!("{} went away: {error}", client.address);
    }
}

/// An answer on its way to a client.
struct Course {
    answer: Answer,
    info: Info,
    stops: Vec<String>,
    /// What finds calls of functions in each choice.
    readers: Vec<Option<Calls>>,
    /// Tokens generated, of the choices that have ended.
    tokens: usize,
    ended: usize,
}

impl Course {
    fn new(answer: Answer, ask: Ask) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let info = Info {
            created: since.unwrap_or_default().as_secs(),
            model: answer.model().to_owned(),
            choices: answer.choices(),
            echo: answer.echo().to_owned(),
            prompt_tokens: answer.prompt_tokens(),
        };
        let parallel = match &ask.input {
            Input::Chat { tools, .. } => tools.as_ref().is_none_or(|tools| tools.parallel),
            _ => true,
        };
        let readers = (0..info.choices).map(|_| {
            let reader = answer.calls()?;
            Some(Calls::new(reader, parallel))
        });
        Self {
            readers: readers.collect(),
            answer,
            info,
            stops: ask.stop,
            tokens: 0,
            ended: 0,
        }
    }

    fn whole(mut self, dialect: &mut impl Dialect, client: &Client, door: Door) -> io::Result<()> {
        let ending = Ending {
            reason: FinishReason::Stop,
            tokens: 0,
            stop: None,
            called: false,
        };
        let whole = Whole {
            text: String::new(),
            calls: Vec::new(),
            ending,
            scores: Vec::new(),
        };
        let mut choices = vec![whole; self.info.choices];
        while !client.gone() {
            let (at, progress) = self.answer.next_of(LOOK);
            let parts = self.parts(at, &progress);
            let Some(choice) = choices.get_mut(at) else {
                continue;
            };
            choice.scores.extend(self.answer.take_scores(at));
            for part in parts {
                match part {
                    Part::Text(text) => choice.text.push_str(&text),
                    Part::Call(call) => choice.calls.push(call),
                }
            }
            match progress {
                Progress::Waiting | Progress::Text(_) => {}
                Progress::Finished(finish) => {
                    choice.ending = self.ending(at, finish);
                    if self.over() {
                        dialect.timed(self.answer.first_token(), self.answer.elapsed());
                        let value = dialect.whole(&self.info, &choices, self.usage());
                        return door.send(&Reply::json(200, &value));
                    }
                }
                Progress::Failed(error) => {
                    return door.refuse(dialect, &failure(&error, dialect.asked_in()));
                }
            }
        }
        Ok(())
    }

    fn stream(
        mut self,
        dialect: &mut impl Dialect,
        client: &Client,
        mut door: Door,
    ) -> io::Result<()> {
        let mut next = loop {
            match self.answer.next_of(LOOK) {
                (_, Progress::Failed(error)) => {
                    return door.refuse(dialect, &failure(&error, dialect.asked_in()));
                }
                (_, Progress::Waiting) if client.gone() => return Ok(()),
                (_, Progress::Waiting) if door.begun.elapsed() < FIRST_SIGN => {}
                next => break next,
            }
        };
        let mut out = door.open(dialect)?;
        out.write(&dialect.begin(&self.info))?;
        loop {
            let (choice, progress) = next;
            let scores = self.answer.take_scores(choice);
            if !scores.is_empty() {
                dialect.scores(choice, &scores);
            }
            for part in self.parts(choice, &progress) {
                out.write(&dialect.part(&self.info, choice, &part))?;
            }
            match progress {
                Progress::Waiting | Progress::Text(_) => out.keep_alive(dialect.keep_alive())?,
                Progress::Finished(finish) => {
                    let ending = self.ending(choice, finish);
                    out.write(&dialect.finish(&self.info, choice, &ending))?;
                    if self.over() {
                        dialect.timed(self.answer.first_token(), self.answer.elapsed());
                        return out.write(&dialect.end(&self.info, self.usage()));
                    }
                }
                Progress::Failed(error) => {
                    return out.write(&dialect.fail(&failure(&error, dialect.asked_in())));
                }
            }
            if client.gone() {
                return Ok(());
            }
            next = self.answer.next_of(LOOK);
        }
    }

    /// What a piece of news says: text, or calls in it.
    fn parts(&mut self, choice: usize, progress: &Progress) -> Vec<Part> {
        let reader = self.readers.get_mut(choice).and_then(Option::as_mut);
        match (reader, progress) {
            (Some(reader), Progress::Text(text)) => reader.push(text),
            (Some(reader), Progress::Finished(_)) => reader.finish(),
            (None, Progress::Text(text)) => vec![Part::Text(text.clone())],
            _ => Vec::new(),
        }
    }

    fn ending(&mut self, choice: usize, finish: Finish) -> Ending {
        let reader = self.readers.get(choice).and_then(Option::as_ref);
        let tokens = usize::try_from(finish.tokens).unwrap_or(usize::MAX);
        self.tokens = self.tokens.saturating_add(tokens);
        self.ended += 1;
        Ending {
            reason: finish.reason,
            tokens: finish.tokens,
            stop: finish.stop.and_then(|at| self.stops.get(at).cloned()),
            called: reader.is_some_and(Calls::called),
        }
    }

    fn over(&self) -> bool {
        self.ended >= self.info.choices
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt: self.info.prompt_tokens,
            completion: self.tokens,
        }
    }
}

/// Where a reply goes. A stream may begin before there is an answer.
struct Door {
    begun: Instant,
    responder: Option<Responder>,
    stream: Option<Stream>,
}

impl Door {
    fn new(responder: Responder) -> Self {
        Self {
            begun: Instant::now(),
            responder: Some(responder),
            stream: None,
        }
    }

    /// The answer will be of this model, which is here.
    fn of_model(&mut self, model: &str) {
        if let Some(responder) = &mut self.responder {
            responder.of_model(model);
        }
    }

    /// A sign of life for a stream, when it is time for one.
    fn keep_alive(&mut self, dialect: &impl Dialect) -> io::Result<()> {
        if self.stream.is_none() && self.begun.elapsed() < FIRST_SIGN {
            return Ok(());
        }
        let mut stream = self.open(dialect)?;
        stream.keep_alive(dialect.keep_alive())?;
        self.stream = Some(stream);
        Ok(())
    }

    /// The stream, begun now if it was not before.
    fn open(&mut self, dialect: &impl Dialect) -> io::Result<Stream> {
        if let Some(stream) = self.stream.take() {
            return Ok(stream);
        }
        let responder = self.responder.take().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Stream {
            out: responder.stream(dialect.content_type())?,
            last: Instant::now(),
        })
    }

    fn send(self, reply: &Reply) -> io::Result<()> {
        self.responder
            .ok_or(io::ErrorKind::NotConnected)?
            .send(reply)
    }

    /// Says why there is no answer: in the stream, if that has begun.
    fn refuse(self, dialect: &mut impl Dialect, error: &ApiError) -> io::Result<()> {
        match self.stream {
            Some(mut stream) => stream.write(&dialect.fail(error)),
            None => self.send(&dialect.refuse(error)),
        }
    }
}
/// The body of a streamed reply.
struct Stream {
    out: Box<dyn Write + Send>,
    last: Instant,
}

impl Stream {
    fn keep_alive(&mut self, sign: &str) -> io::Result<()> {
        if self.last.elapsed() < KEEP_ALIVE {
            Ok(())
        } else {
            self.write(sign)
        }
    }

    /// One write for what is told at once, so that it travels in one packet.
    fn write(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.last = Instant::now();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

/// A question that was not put.
/// `asked_in` is the field that holds what is asked.
pub(super) fn refusal(error: &AskError, asked_in: &str) -> ApiError {
    let message = error.to_string();
    match error {
        AskError::Model(LibraryError::NotFound { .. }) => {
            ApiError::new(404, "model_not_found", message).with_param("model")
        }
        AskError::Model(LibraryError::Broken { .. }) => {
            ApiError::new(500, "model_broken", message).with_param("model")
        }
        AskError::Downloading(item) => opening::later(item),
        AskError::Fetch(error) => models::begin_error(error),
        AskError::Conversation(ModelError::Tokenizer { .. }) => {
            ApiError::new(500, "model_broken", message)
        }
        AskError::Conversation(_) => ApiError::field(asked_in, message),
        AskError::Format { field, .. } => ApiError::unsupported(*field, message),
        AskError::Echo { .. } => ApiError::unsupported("logprobs", message),
        AskError::Token { field, .. } => ApiError::field(*field, message),
        AskError::TooLong { .. } => {
            ApiError::new(400, "context_length_exceeded", message).with_param(asked_in)
        }
        AskError::Command(CommandError::Busy) => ApiError::new(503, "busy", message),
        AskError::Command(CommandError::Leaving) => ApiError::new(503, "leaving", message),
        AskError::Command(CommandError::Stopped) => ApiError::new(503, "stopping", message),
    }
}

/// An answer that did not come.
fn failure(error: &AnswerError, asked_in: &str) -> ApiError {
    let (status, code) = match error {
        AnswerError::Failed(Failure::TimedOut { .. }) | AnswerError::Silent(_) => (504, "timeout"),
        AnswerError::Failed(Failure::PeerLost { .. }) => (502, "peer_lost"),
        AnswerError::Failed(Failure::Stage { .. }) => (502, "stage_failed"),
        // Some things, such as whether a form can be held to its end, only who computes can tell.
        AnswerError::Failed(Failure::Refused { .. }) => (400, "refused_by_model"),
        AnswerError::Failed(Failure::Unrecoverable { .. }) => (502, "unrecoverable"),
        // The request is good: with more nodes it is answered.
        AnswerError::Failed(Failure::Memory { .. })
        | AnswerError::Rejected(Rejection::Memory { .. }) => (503, "insufficient_memory"),
        AnswerError::Failed(Failure::Stopping)
        | AnswerError::Rejected(Rejection::Stopping)
        | AnswerError::Stopped => (503, "stopping"),
        AnswerError::Rejected(Rejection::Busy(_)) => (503, "busy"),
        AnswerError::Rejected(Rejection::Sampling(_)) => (400, "unsupported_parameter"),
        AnswerError::Rejected(Rejection::EmptyPrompt) => {
            return ApiError::new(400, "empty_prompt", error.to_string()).with_param(asked_in);
        }
        // A node that was given layers is not there yet, or they are another model's.
        AnswerError::Rejected(Rejection::Pinned(_)) => (503, "layers_do_not_fit"),
        AnswerError::Failed(_) | AnswerError::Rejected(_) | AnswerError::Text(_) => {
            (500, "internal_error")
        }
    };
    ApiError::new(status, code, error.to_string())
}
