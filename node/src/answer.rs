//! One answer of the ring, from the conversation to its last word.

mod score;

pub use score::TokenScore;

use crate::api::mark::Mark;
use crate::ask::{Ask, AskError, Input};
use crate::events::Events;
use crate::runtime::{CommandError, Handle};
use crate::settings::Answering;
use crate::speaker::{Speaker, Text};
use crate::stop::Stops;
use exo_models::{CallReader, ModelError};
use exo_protocol::{Command, Event, Failure, FinishReason, Rejection, RequestId, Submit};
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
    /// The number of the stop text that ended it, if one did.
    pub stop: Option<usize>,
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

/// Answers that are coming: one for each choice. Dropping it early stops the ring.
#[derive(Debug)]
pub struct Answer {
    handle: Handle,
    events: Arc<Events>,
    news: Receiver<Event>,
    model: String,
    /// Who knows the texts of tokens, if scores are to be told.
    scorer: Option<Box<Speaker>>,
    choices: Vec<Choice>,
    /// Finds calls of functions in an answer, if there are functions; copied for each choice.
    calls: Option<CallReader>,
    /// What is told before each choice.
    echo: String,
    prompt_tokens: usize,
    started: Instant,
    timeout: Duration,
    /// What is known already and comes next, and of which choice.
    ready: VecDeque<(usize, Progress)>,
}

/// One of the answers.
#[derive(Debug)]
struct Choice {
    request: RequestId,
    text: Text,
    stops: Stops,
    /// Tokens of the prompt that come before those of the answer.
    forced: u32,
    tokens: u32,
    first: Option<Duration>,
    ended: bool,
    /// Of tokens since they were last asked for.
    scores: Vec<TokenScore>,
}

impl Answer {
    pub(crate) fn start(
        handle: Handle,
        events: Arc<Events>,
        speaker: &Speaker,
        ask: &Ask,
        answering: &Answering,
        mark: &Mark,
    ) -> Result<Self, AskError> {
        let (submits, prompt_tokens) = ask.submits(speaker, answering)?;
        let news = events.of_all(submits.iter().map(|submit| &submit.request));
        let forced = |submit: &Submit| -> u32 {
            let shaping = submit.sampling.shaping.as_ref();
            let forced = shaping.map_or(0, |shaping| shaping.forced.len());
            u32::try_from(forced).unwrap_or(u32::MAX)
        };
        let with_prompt = ask.echo && ask.scores.is_some();
        let choice = |submit: &Submit| Choice {
            request: submit.request.clone(),
            text: speaker.text(),
            stops: Stops::new(ask.stop.clone()),
            forced: forced(submit),
            tokens: 0,
            first: None,
            ended: false,
            scores: match submit.tokens.first().filter(|_| with_prompt) {
                Some(&first) => vec![TokenScore::new(speaker, first, f32::NAN)],
                None => Vec::new(),
            },
        };
        let echo = ask
            .echo
            .then(|| submits.first().map(|first| &*first.prompt));
        let answer = Self {
            handle,
            events,
            news,
            model: speaker.id().to_string(),
            scorer: ask.scores.map(|_| Box::new(speaker.clone())),
            choices: submits.iter().map(choice).collect(),
            calls: call_reader(speaker, ask),
            echo: echo.flatten().unwrap_or_default().to_owned(),
            prompt_tokens,
            started: Instant::now(),
            timeout: answering.timeout,
            ready: VecDeque::new(),
        };
        for mut submit in submits {
            submit.trace = mark.trace();
            tracing::trace!("{submit:?}");
            tracing::debug!("{} is asked as {}", answer.model, submit.request);
            let metrics = answer.events.metrics();
            let tokens = (prompt_tokens, forced(&submit));
            metrics.begins(&submit.request, &answer.model, tokens, mark.id());
            if mark.trace() {
                let traces = answer.events.traces();
                traces.begin(&submit.request, mark.id(), &answer.model);
            }
            answer
                .handle
                .command(Command::Submit(submit))
                .map_err(AskError::Command)?;
        }
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

    /// What is told before each choice: the prompt, if it is wanted.
    #[must_use]
    pub fn echo(&self) -> &str {
        &self.echo
    }

    /// How many answers are coming.
    #[must_use]
    pub fn choices(&self) -> usize {
        self.choices.len()
    }

    /// How likely the tokens of a choice were that came since this was last asked.
    pub fn take_scores(&mut self, choice: usize) -> Vec<TokenScore> {
        let choice = self.choices.get_mut(choice);
        choice.map_or_else(Vec::new, |choice| std::mem::take(&mut choice.scores))
    }

    /// What finds calls of functions in the text of a choice, if there are functions.
    #[must_use]
    pub fn calls(&self) -> Option<CallReader> {
        self.calls.clone()
    }

    /// Time from the question to the first token of the first choice.
    #[must_use]
    pub fn first_token(&self) -> Option<Duration> {
        self.choices.first()?.first
    }

    /// Time since the question.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Tokens per second of the first choice after its first.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        self.choices.first()?.rate(self.started)
    }

    /// Waits up to `wait` for what comes next, of whichever choice. After the end of all there is
    /// only [`Progress::Waiting`].
    pub fn next(&mut self, wait: Duration) -> Progress {
        self.next_of(wait).1
    }

    /// [`next`](Self::next), and of which choice.
    pub fn next_of(&mut self, wait: Duration) -> (usize, Progress) {
        let until = Instant::now() + wait;
        loop {
            if let Some(progress) = self.ready.pop_front() {
                return progress;
            }
            if self.choices.iter().all(|choice| choice.ended) {
                return (0, Progress::Waiting);
            }
            match self
                .news
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {
                    if self.started.elapsed() < self.timeout.saturating_add(GRACE) {
                        return (0, Progress::Waiting);
                    }
                    self.fail_all(|timeout| AnswerError::Silent(timeout.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => self.fail_all(|_| AnswerError::Stopped),
            }
        }
    }

    fn take(&mut self, event: Event) {
        let (Event::Token { request, .. }
        | Event::Finished { request, .. }
        | Event::Failed { request, .. }
        | Event::Rejected { request, .. }) = &event
        else {
            return;
        };
        let found = self
            .choices
            .iter_mut()
            .enumerate()
            .find(|(_, choice)| choice.request == *request);
        let Some((at, choice)) = found.filter(|(_, choice)| !choice.ended) else {
            return;
        };
        if let Event::Token {
            index,
            token,
            scores,
            ..
        } = &event
        {
            let forced = *index < choice.forced;
            if !forced {
                choice.first.get_or_insert_with(|| self.started.elapsed());
            }
            if let (Some(speaker), Some(scores)) = (&self.scorer, scores) {
                let likeliest = scores.likeliest.iter();
                let likeliest =
                    likeliest.map(|&(token, score)| TokenScore::new(speaker, token, score));
                choice.scores.push(TokenScore {
                    likeliest: likeliest.collect(),
                    ..TokenScore::new(speaker, *token, scores.chosen)
                });
            }
            if forced {
                return;
            }
        }
        let mut out = Vec::new();
        let cancel = choice.take(event, &mut out);
        for progress in out {
            match &progress {
                Progress::Finished(finish) => self.log_finish(at, *finish),
                Progress::Failed(error) => self.log_failure(at, error),
                _ => {}
            }
            self.ready.push_back((at, progress));
        }
        if cancel {
            self.cancel(at);
        }
    }

    fn fail_all(&mut self, error: impl Fn(Duration) -> AnswerError) {
        for at in 0..self.choices.len() {
            let Some(choice) = self.choices.get_mut(at).filter(|choice| !choice.ended) else {
                continue;
            };
            choice.ended = true;
            let error = error(self.timeout);
            self.cancel(at);
            self.log_failure(at, &error);
            self.ready.push_back((at, Progress::Failed(error)));
        }
    }

    fn log_finish(&self, at: usize, finish: Finish) {
        let Some(choice) = self.choices.get(at) else {
            return;
        };
        // A first token that ends the answer is told to nobody.
        let first = choice.first.unwrap_or_else(|| self.started.elapsed());
        tracing::info!(
            "{} answered: {} + {} tokens, {:.2} s to the first, {:.1} tokens/s ({})",
            self.model,
            self.prompt_tokens,
            finish.tokens,
            first.as_secs_f64(),
            choice.rate(self.started).unwrap_or(0.0),
            finish.word(),
        );
    }

    fn log_failure(&self, at: usize, error: &AnswerError) {
        let tokens = self.choices.get(at).map_or(0, |choice| choice.tokens);
        tracing::warn!(
            "{} did not answer: {error} (after {tokens} tokens)",
            self.model
        );
    }

    /// A ring that generates for nobody wastes everybody's time, so a busy node is asked again.
    fn cancel(&self, at: usize) {
        let Some(choice) = self.choices.get(at) else {
            return;
        };
        for _ in 0..50 {
            let command = Command::Cancel {
                request: choice.request.clone(),
            };
            match self.handle.command(command) {
                Err(CommandError::Busy) => std::thread::sleep(Duration::from_millis(10)),
                Ok(()) | Err(CommandError::Leaving | CommandError::Stopped) => return,
            }
        }
        tracing::warn!(
            "the node is too busy to hear that request {} is over",
            choice.request
        );
    }
}

impl Choice {
    fn rate(&self, started: Instant) -> Option<f64> {
        let decoding = started.elapsed().checked_sub(self.first?)?.as_secs_f64();
        (self.tokens > 1 && decoding > 0.0).then(|| f64::from(self.tokens - 1) / decoding)
    }

    /// Takes one piece of news of this choice; says whether the ring is to stop.
    fn take(&mut self, event: Event, out: &mut Vec<Progress>) -> bool {
        match event {
            Event::Token { token, .. } => {
                self.tokens = self.tokens.saturating_add(1);
                match self.text.push(token) {
                    Ok(text) => return self.pass(&text, out),
                    Err(error) => {
                        self.fail(AnswerError::Text(error), out);
                        return true;
                    }
                }
            }
            Event::Finished { reason, tokens, .. } => {
                let tokens = tokens.saturating_sub(self.forced);
                match self.text.finish() {
                    Ok(text) => _ = self.pass(&text, out),
                    Err(error) => self.fail(AnswerError::Text(error), out),
                }
                if !self.ended {
                    let text = self.stops.finish();
                    say(text, out);
                    let stop = None;
                    self.finish(
                        Finish {
                            reason,
                            tokens,
                            stop,
                        },
                        out,
                    );
                }
            }
            Event::Failed { failure, .. } => self.fail(AnswerError::Failed(failure), out),
            Event::Rejected { rejection, .. } => self.fail(AnswerError::Rejected(rejection), out),
            _ => {}
        }
        false
    }

    fn pass(&mut self, text: &str, out: &mut Vec<Progress>) -> bool {
        let passed = self.stops.push(text);
        say(passed.text, out);
        if passed.stopped.is_some() {
            let finish = Finish {
                reason: FinishReason::Stop,
                tokens: self.tokens,
                stop: passed.stopped,
            };
            self.finish(finish, out);
        }
        passed.stopped.is_some()
    }

    fn finish(&mut self, finish: Finish, out: &mut Vec<Progress>) {
        self.ended = true;
        out.push(Progress::Finished(finish));
    }

    fn fail(&mut self, error: AnswerError, out: &mut Vec<Progress>) {
        self.ended = true;
        out.push(Progress::Failed(error));
    }
}

fn call_reader(speaker: &Speaker, ask: &Ask) -> Option<CallReader> {
    let Input::Chat { tools, .. } = &ask.input else {
        return None;
    };
    let tools = tools.as_ref()?;
    let mut reader = CallReader::new(speaker.tool_format(), tools.names.clone());
    // What was put in the model's mouth is part of its answer.
    reader.push(&tools.beginning(speaker));
    Some(reader)
}

fn say(text: String, out: &mut Vec<Progress>) {
    if !text.is_empty() {
        out.push(Progress::Text(text));
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        for (at, choice) in self.choices.iter().enumerate() {
            if !choice.ended {
                tracing::info!(
                    "request for {} cancelled after {} tokens",
                    self.model,
                    choice.tokens
                );
                self.cancel(at);
            }
            self.events.forget(&choice.request);
        }
    }
}
