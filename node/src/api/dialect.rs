//! What every API has to say of an answer, each in its own words.

use super::error::ApiError;
use super::http::Reply;
use crate::answer::TokenScore;
use exo_protocol::FinishReason;
use serde_json::{Value, json};
use std::time::Duration;

/// How one API writes answers. What a stream is told comes in this order: [`begin`](Self::begin),
/// [`part`](Self::part) and [`finish`](Self::finish) of each choice, [`end`](Self::end); or
/// [`fail`](Self::fail) at any point, and nothing after it.
pub(super) trait Dialect {
    /// What a streamed body is.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// The field of a request that holds what is asked.
    fn asked_in(&self) -> &'static str {
        "messages"
    }

    /// How a silent stream shows that it is alive; clients skip it.
    fn keep_alive(&self) -> &'static str {
        ": waiting\n\n"
    }

    /// What a stream begins with.
    fn begin(&mut self, info: &Info) -> String;

    /// How likely tokens of a choice were; what they say comes next. Only where it was asked for.
    fn scores(&mut self, _choice: usize, _scores: &[TokenScore]) {}

    /// Some more of a choice.
    fn part(&mut self, info: &Info, choice: usize, part: &Part) -> String;

    /// The end of a choice.
    fn finish(&mut self, info: &Info, choice: usize, ending: &Ending) -> String;

    /// What the answer took until its first token, if there was one, and in all; told before its end.
    fn timed(&mut self, _first: Option<Duration>, _all: Duration) {}

    /// The end of all.
    fn end(&mut self, info: &Info, usage: Usage) -> String;

    /// The end of a stream that had begun when something went wrong.
    fn fail(&mut self, error: &ApiError) -> String;

    /// The answer in one piece.
    fn whole(&mut self, info: &Info, choices: &[Whole], usage: Usage) -> Value;

    /// The reply when there is no answer.
    fn refuse(&self, error: &ApiError) -> Reply {
        error.to_reply()
    }
}

/// What all parts of one answer have in common.
#[derive(Clone, Debug)]
pub(super) struct Info {
    /// When it began, in seconds since 1970.
    pub(super) created: u64,
    /// Who answers.
    pub(super) model: String,
    /// How many choices there are.
    pub(super) choices: usize,
    /// What is told before each choice.
    pub(super) echo: String,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: usize,
}

/// A piece of a choice.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// Some text.
    Text(String),
    /// A function that is called.
    Call(Call),
}

/// A function that an answer calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Its number in the choice.
    pub(super) index: usize,
    /// What its result will name.
    pub(super) id: String,
    /// The function.
    pub(super) name: String,
    /// An object, as JSON.
    pub(super) arguments: String,
}

impl Call {
    /// OpenAI's shape, in a message.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

/// How a choice ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: FinishReason,
    /// Tokens generated.
    pub(super) tokens: u32,
    /// The stop text that ended it, if one did.
    pub(super) stop: Option<String>,
    /// Whether functions were called.
    pub(super) called: bool,
}

impl Ending {
    /// OpenAI's word for it.
    #[must_use]
    pub(super) fn word(&self) -> &'static str {
        match self.reason {
            FinishReason::Stop if self.called => "tool_calls",
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }
}

/// A choice in one piece.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Whole {
    /// Its text.
    pub(super) text: String,
    /// Functions that it calls.
    pub(super) calls: Vec<Call>,
    /// How it ended.
    pub(super) ending: Ending,
    /// How likely its tokens were, if that is to be told.
    pub(super) scores: Vec<TokenScore>,
}

/// How many tokens an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens generated, of all choices.
    pub(super) completion: usize,
}

impl Usage {
    /// OpenAI's shape.
    #[must_use]
    pub(super) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt.saturating_add(self.completion),
        })
    }
}

/// `value` as a server-sent event.
pub(super) fn sse(value: &Value) -> String {
    format!("data: {value}\n\n")
}
