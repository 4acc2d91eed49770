//! `/v1/completions`: a text goes on, without a chat template.

use super::dialect::{Dialect, Ending, Info, Part, Usage, Whole, sse};
use super::error::ApiError;
use super::fields::{Fields, body, wrong};
use super::http::{Request, Responder};
use super::offsets::Offsets;
use super::openai::{
    FINGERPRINT, STOPS, choices, include_usage, last_events, likeliest, logprob, shaping,
};
use super::serve::{Wish, serve};
use crate::answer::TokenScore;
use crate::app::App;
use crate::ask::{Ask, Input};
use crate::random;
use serde_json::{Map, Value, json};

/// As many tokens as OpenAI's generate when nothing else is said.
const MAX_TOKENS: u32 = 16;

/// Answers one request.
pub(super) fn handle(app: &App, request: &Request, responder: Responder) {
    let wish = parse(&request.body);
    serve(app, request, responder, wish, ApiError::to_reply);
}

fn parse(bytes: &[u8]) -> Result<Wish<Completion>, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    fields.refuse("suffix", "texts are only continued at their end here")?;
    let scores = likeliest(&fields, "logprobs")?;
    let choices = choices(&fields)?;
    let best_of = fields.count("best_of", 1)?;
    if best_of.is_some_and(|best| usize::try_from(best).ok() != Some(choices.unwrap_or(1))) {
        return Err(fields.unsupported("best_of", "as many are generated as are answered here"));
    }
    fields.text("user")?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let input = prompt(&fields)?;
    let ask = Ask {
        model: fields.text("model")?,
        input,
        choices,
        max_tokens: Some(fields.count("max_tokens", 0)?.unwrap_or(MAX_TOKENS)),
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: fields.top_k("top_k")?,
        shaping: shaping(&fields)?,
        seed: fields.seed("seed")?,
        stop: fields.stops("stop", STOPS)?,
        format: None,
        scores,
        echo: fields.boolean("echo")?.unwrap_or(false),
        goes_on: false,
        thoughtless: false,
    };
    let dialect = Completion {
        id: format!("cmpl-{}", random::uuid()),
        include_usage: include_usage(&fields, stream)?,
        scored: scores.map(|_| Vec::new()),
    };
    Ok(Wish {
        ask,
        stream,
        dialect,
    })
}

/// The shape that scores have here; `text` is what they come with, and `told` knows the tokens before.
/// Nothing says how likely the first token of a prompt is.
fn logprobs(scores: &[TokenScore], text: &str, told: &mut Offsets) -> Value {
    let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
    let (mut logprobs, mut likeliest) = (Vec::new(), Vec::new());
    for token in scores {
        tokens.push(token.text.as_str());
        offsets.push(told.next(token, text));
        if token.score.is_nan() {
            logprobs.push(Value::Null);
            likeliest.push(Value::Null);
            continue;
        }
        logprobs.push(json!(logprob(token.score)));
        let top = token.likeliest.iter();
        let top: Map<String, Value> = top
            .map(|other| (other.text.clone(), json!(logprob(other.score))))
            .collect();
        likeliest.push(Value::Object(top));
    }
    json!({
        "tokens": tokens,
        "token_logprobs": logprobs,
        "top_logprobs": likeliest,
        "text_offset": offsets,
    })
}

/// One text, or the tokens of one; a list of one is the same.
fn prompt(fields: &Fields<'_>) -> Result<Input, ApiError> {
    let value = fields.get("prompt").unwrap_or(&Value::Null);
    match value {
        Value::String(text) => Ok(Input::Text(text.clone())),
        Value::Array(list) => match &list[..] {
            [Value::String(text)] => Ok(Input::Text(text.clone())),
            [Value::Array(tokens)] => tokens_of(tokens),
            [Value::String(_) | Value::Array(_), ..] => {
                Err(fields.unsupported("prompt", "one prompt for each request here"))
            }
            tokens => tokens_of(tokens),
        },
        other => Err(wrong("prompt", "a text or a list of tokens", other)),
    }
}

fn tokens_of(list: &[Value]) -> Result<Input, ApiError> {
    let token = |value: &Value| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| wrong("prompt", "a text or a list of tokens", value))
    };
    let tokens: Vec<u32> = list.iter().map(token).collect::<Result<_, _>>()?;
    if tokens.is_empty() {
        return Err(ApiError::field("prompt", "prompt must not be empty"));
    }
    Ok(Input::Tokens(tokens))
}

/// How completions are written.
struct Completion {
    id: String,
    include_usage: bool,
    /// If scores are told: what is known of each choice.
    scored: Option<Vec<Scored>>,
}

/// Scores of one choice.
#[derive(Clone, Default)]
struct Scored {
    /// Those that wait for their text.
    waiting: Vec<TokenScore>,
    /// The tokens that were told.
    told: Offsets,
    /// The prompt was told, with its scores.
    echoed: bool,
}

impl Completion {
    fn wrap(&self, info: &Info, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": info.created,
            "model": info.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        })
    }

    /// What is known of the scores of a choice, if they are told.
    fn scored(&mut self, choice: usize) -> Option<&mut Scored> {
        let all = self.scored.as_mut()?;
        if all.len() <= choice {
            all.resize(choice + 1, Scored::default());
        }
        all.get_mut(choice)
    }

    fn chunk(&mut self, info: &Info, choice: usize, text: &str, finish: Option<&str>) -> String {
        let (mut text, mut scores) = (text.to_owned(), Value::Null);
        if let Some(scored) = self.scored(choice) {
            if !std::mem::replace(&mut scored.echoed, true) {
                text.insert_str(0, &info.echo);
            }
            if !scored.waiting.is_empty() {
                let waiting = std::mem::take(&mut scored.waiting);
                scores = logprobs(&waiting, &text, &mut scored.told);
            }
        }
        let choice =
            json!({"text": text, "index": choice, "logprobs": scores, "finish_reason": finish});
        let mut value = self.wrap(info, json!([choice]));
        if self.include_usage {
            value["usage"] = Value::Null;
        }
        sse(&value)
    }
}

impl Dialect for Completion {
    fn asked_in(&self) -> &'static str {
        "prompt"
    }

    fn begin(&mut self, info: &Info) -> String {
        // With scores the prompt comes when its own are there.
        if info.echo.is_empty() || self.scored.is_some() {
            return String::new();
        }
        let echo = info.echo.clone();
        (0..info.choices)
            .map(|choice| self.chunk(info, choice, &echo, None))
            .collect()
    }

    fn scores(&mut self, choice: usize, scores: &[TokenScore]) {
        if let Some(scored) = self.scored(choice) {
            scored.waiting.extend_from_slice(scores);
        }
    }

    fn part(&mut self, info: &Info, choice: usize, part: &Part) -> String {
        match part {
            Part::Text(text) => self.chunk(info, choice, text, None),
            // Without tools nothing is called.
            Part::Call(_) => String::new(),
        }
    }

    fn finish(&mut self, info: &Info, choice: usize, ending: &Ending) -> String {
        self.chunk(info, choice, "", Some(ending.word()))
    }

    fn end(&mut self, info: &Info, usage: Usage) -> String {
        let wrap = || self.wrap(info, json!([]));
        last_events(self.include_usage.then(wrap), usage)
    }

    fn fail(&mut self, error: &ApiError) -> String {
        sse(&error.to_json())
    }

    fn whole(&mut self, info: &Info, choices: &[Whole], usage: Usage) -> Value {
        let choice = |(index, whole): (usize, &Whole)| {
            let text = format!("{}{}", info.echo, whole.text);
            json!({
                "text": text,
                "index": index,
                "logprobs": match self.scored {
                    Some(_) => logprobs(&whole.scores, &text, &mut Offsets::default()),
                    None => Value::Null,
                },
                "finish_reason": whole.ending.word(),
            })
        };
        let choices = choices.iter().enumerate().map(choice).collect();
        let mut value = self.wrap(info, choices);
        value["usage"] = usage.to_json();
        value
    }
}
