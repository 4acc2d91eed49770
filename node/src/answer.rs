//! One answer of the ring, from the conversation to its last word.

use crate::ask::{Ask, AskError};
use crate::events::Events;
use crate::runtime::{CommandError, Handle};
use crate::settings::Answering;
use crate::speaker::{Speaker, Text};
use crate::stop::Stops;
use exo_models::ModelError;
use exo_protocol::{Command, Event, Failure, FinishReason, Rejection, RequestId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Why an answer did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The ring failed.
    #[error("{0}")]
    Failed(Failure),
    /// The node did not take the request.
    #[error("{0}")]
    Rejected(Rejection),
    /// The tokens make no text.
    #[error("{0}")]
    Text(ModelError),
    /// The node said nothing for longer than the request's time.
    #[error("no answer within {0} s")]
    Silent(u64),
    /// The node has ended.
    #[error("this node is shutting down")]
    Stopped,
}

/// What comes next.
#[derive(Debug)]
pub enum Progress {
    /// Nothing yet.
    Waiting,
    /// Some more text.
    Text(String),
    /// The end.
    Finished(Finish),
    /// The end, too early.
    Failed(AnswerError),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens generated.
    pub tokens: u32,
}

impl Finish {
    /// OpenAI's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// Beyond a request's own time, for the node to say that it is over.
const GRACE: Duration = Duration::from_secs(5);

/// An answer that is coming. Dropping it early stops the ring.
#[derive(Debug)]
pub struct Answer {
    handle: Handle,
    events: Arc<Events>,
    news: Receiver<Event>,
    request: RequestId,
    model: String,
    text: Text,
    stops: Stops,
    prompt_tokens: usize,
    tokens: u32,
    started: Instant,
    first: Option<Duration>,
    timeout: Duration,
    /// What is known already and comes next.
    ready: VecDeque<Progress>,
    ended: bool,
}

impl Answer {
    pub(crate) fn start(
        handle: Handle,
        events: Arc<Events>,
        speaker: Speaker,
        ask: &Ask,
        answering: &Answering,
    ) -> Result<Self, AskError> {
        let (submit, prompt_tokens) = ask.submit(&speaker, answering)?;
        let request = submit.request.clone();
        tracing::trace!("{submit:?}");
        let news = events.of(request.clone());
        let answer = Self {
            handle,
            events,
            news,
            request,
            model: speaker.id().to_string(),
            text: speaker.text(),
            stops: Stops::new(ask.stop.clone()),
            prompt_tokens,
            tokens: 0,
            started: Instant::now(),
            first: None,
            timeout: answering.timeout,
            ready: VecDeque::new(),
            ended: false,
        };
        answer
            .handle
            .command(Command::Submit(submit))
            .map_err(AskError::Command)?;
        Ok(answer)
    }

    /// The model that answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Tokens of the prompt.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// Time from the question to the first token.
    #[must_use]
    pub fn first_token(&self) -> Option<Duration> {
        self.first
    }

    /// Tokens per second after the first.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let decoding = self
            .started
            .elapsed()
            .checked_sub(self.first?)?
            .as_secs_f64();
        (self.tokens > 1 && decoding > 0.0).then(|| f64::from(self.tokens - 1) / decoding)
    }

    /// Waits up to `wait` for what comes next. After the end there is only [`Progress::Waiting`].
    pub fn next(&mut self, wait: Duration) -> Progress {
        let until = Instant::now() + wait;
        loop {
            if let Some(progress) = self.ready.pop_front() {
                return progress;
            }
            if self.ended {
                return Progress::Waiting;
            }
            match self
                .news
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {
                    if self.started.elapsed() < self.timeout.saturating_add(GRACE) {
                        return Progress::Waiting;
                    }
                    self.cancel();
                    self.fail(AnswerError::Silent(self.timeout.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => self.fail(AnswerError::Stopped),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Token { token, .. } => {
                self.first.get_or_insert_with(|| self.started.elapsed());
                self.tokens = self.tokens.saturating_add(1);
                match self.text.push(token) {
                    Ok(text) => self.pass(&text),
                    Err(error) => {
                        self.cancel();
                        self.fail(AnswerError::Text(error));
                    }
                }
            }
            Event::Finished { reason, tokens, .. } => {
                match self.text.finish() {
                    Ok(text) => self.pass(&text),
                    Err(error) => return self.fail(AnswerError::Text(error)),
                }
                if !self.ended {
                    let text = self.stops.finish();
                    self.say(text);
                    self.finish(Finish { reason, tokens });
                }
            }
            Event::Failed { failure, .. } => self.fail(AnswerError::Failed(failure)),
            Event::Rejected { rejection, .. } => self.fail(AnswerError::Rejected(rejection)),
            _ => {}
        }
    }

    fn pass(&mut self, text: &str) {
        let passed = self.stops.push(text);
        self.say(passed.text);
        if passed.stopped {
            self.cancel();
            self.finish(Finish {
                reason: FinishReason::Stop,
                tokens: self.tokens,
            });
        }
    }

    fn say(&mut self, text: String) {
        if !text.is_empty() {
            self.ready.push_back(Progress::Text(text));
        }
    }

    fn finish(&mut self, finish: Finish) {
        self.ended = true;
        let seconds = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64());
        tracing::info!(
            "{} answered: {} + {} tokens, {:.2} s to the first, {:.1} tokens/s ({})",
            self.model,
            self.prompt_tokens,
            finish.tokens,
            seconds(self.first),
            self.rate().unwrap_or(0.0),
            finish.word(),
        );
        self.ready.push_back(Progress::Finished(finish));
    }

    fn fail(&mut self, error: AnswerError) {
        self.ended = true;
        tracing::warn!(
            "{} did not answer: {error} (after {} tokens)",
            self.model,
            self.tokens
        );
        self.ready.push_back(Progress::Failed(error));
    }

    /// A ring that generates for nobody wastes everybody's time, so a busy node is asked again.
    fn cancel(&self) {
        for _ in 0..50 {
            let command = Command::Cancel {
                request: self.request.clone(),
            };
            match self.handle.command(command) {
                Err(CommandError::Busy) => std::thread::sleep(Duration::from_millis(10)),
                Ok(()) | Err(CommandError::Leaving | CommandError::Stopped) => return,
            }
        }
        tracing::warn!(
            "the node is too busy to hear that request {} is over",
            self.request
        );
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.ended {
            tracing::info!(
                "request for {} cancelled after {} tokens",
                self.model,
                self.tokens
            );
            self.cancel();
        }
        self.events.forget(&self.request);
    }
}
