//! Questions for the embedded model, and its answers as they come.

use super::{NodeProcess, http};
use serde_json::{Value, json};
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A chat of one message, greedy.
#[must_use]
pub fn chat(model: &str, prompt: &str, most: u32) -> Value {
    json!({
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": most,
        "temperature": 0.0
    })
}

/// The whole answer of a node, checked to be one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn answer(node: &NodeProcess, question: &Value) -> String {
    let (status, body) =
        http::post(node.api, "/v1/chat/completions", question).expect("an HTTP response");
    assert_eq!(status, 200, "{body}\n{}", node.log());
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["object"], "chat.completion");
    let text = body["choices"][0]["message"]["content"].as_str();
    text.expect("text").to_owned()
}

/// An answer that is coming, read by a thread of its own so that times are right whatever the test
/// is at.
#[derive(Debug)]
pub struct Story {
    lines: Receiver<Line>,
    told: Told,
}

#[derive(Debug)]
enum Line {
    Text(Instant, String),
    End,
    Error(String),
}

/// An answer that came.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// All of it.
    pub text: String,
    /// When each piece came.
    pub times: Vec<Instant>,
}

impl Told {
    /// The longest time without a piece that ended after `since`; before the first piece it begins
    /// there.
    #[must_use]
    pub fn pause(&self, since: Instant) -> Option<Duration> {
        let before = self.times.first().map_or(since, |first| since.min(*first));
        let times: Vec<Instant> = [before].into_iter().chain(self.times.clone()).collect();
        let gaps = times.windows(2).filter(|pair| pair[1] > since);
        gaps.map(|pair| pair[1] - pair[0]).max()
    }
}

impl Story {
    /// Asks a node.
    #[must_use]
    pub fn begin(node: &NodeProcess, question: &Value) -> Self {
        let mut question = question.clone();
        question["stream"] = json!(true);
        let (tell, lines) = mpsc::channel();
        let api = node.api;
        thread::spawn(move || {
            // Who asked may have gone.
            let _ = read(api, &question, |line| tell.send(line).is_ok())
                .map_err(|error| tell.send(Line::Error(error)));
        });
        Self {
            lines,
            told: Told::default(),
        }
    }

    /// Waits for so many pieces in all; says whether they came before the end.
    ///
    /// # Panics
    /// When the answer fails.
    pub fn reach(&mut self, pieces: usize) -> bool {
        let reached = self.read_to(pieces);
        reached.unwrap_or_else(|error| panic!("after {:?}: {error}", self.told.text))
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the answer fails.
    #[must_use]
    pub fn finish(mut self) -> Told {
        self.reach(usize::MAX);
        self.told
    }

    /// Waits for the end, or for the reason why there is none.
    ///
    /// # Errors
    /// The node's words.
    pub fn outcome(mut self) -> Result<Told, String> {
        self.read_to(usize::MAX)?;
        Ok(self.told)
    }

    fn read_to(&mut self, pieces: usize) -> Result<bool, String> {
        while self.told.times.len() < pieces {
            match self.lines.recv() {
                Ok(Line::Text(at, text)) => {
                    self.told.times.push(at);
                    self.told.text.push_str(&text);
                }
                Ok(Line::Error(error)) => return Err(error),
                Ok(Line::End) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Reads a streamed answer to its end.
fn read(
    api: SocketAddr,
    question: &Value,
    mut tell: impl FnMut(Line) -> bool,
) -> Result<(), String> {
    let response = http::open(api, "/v1/chat/completions", question);
    let mut response = response.map_err(|error| error.to_string())?;
    if response.status != 200 {
        let mut body = String::new();
        let _ = response.body.read_to_string(&mut body);
        return Err(format!("{}: {body}", response.status));
    }
    for line in response.body.lines() {
        let line = line.map_err(|error| error.to_string())?;
        let at = Instant::now();
        let Some(event) = line.strip_prefix("data: ") else {
            continue;
        };
        if event == "[DONE]" {
            tell(Line::End);
            return Ok(());
        }
        let event: Value = serde_json::from_str(event).map_err(|error| error.to_string())?;
        if event["object"] != "chat.completion.chunk" {
            return Err(event.to_string());
        }
        let text = event["choices"][0]["delta"]["content"].as_str();
        // The first piece is only who speaks.
        let text = text.filter(|text| !text.is_empty());
        if text.is_some_and(|text| !tell(Line::Text(at, text.to_owned()))) {
            return Ok(());
        }
    }
    Err("the stream ends without a last word".to_owned())
}
