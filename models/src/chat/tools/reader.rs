//! Finding the calls in an answer while it comes.

use std::mem;

use serde_json::{Deserializer, Map, Value};

use super::{CLOSE, LLAMA, MISTRAL, OPEN, ToolFormat};

/// A function that a model calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Map<String, Value>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some text.
    Text(String),
    /// A call.
    Call(ToolCall),
}

/// Tells calls and text apart while an answer comes. What begins like a call and is none comes out
/// as text, so nothing is ever lost.
#[derive(Debug, Clone)]
pub struct CallReader {
    format: ToolFormat,
    /// Functions that there are. What stands for itself, without tags, is a call only of these.
    names: Vec<String>,
    state: State,
    /// What is not certain yet.
    held: String,
    called: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    Begin,
    /// Text; with tags, calls may follow.
    Text,
    /// Behind an opening tag.
    Tagged,
    /// JSON that may be calls, to the end.
    Bare,
}

impl CallReader {
    /// For an answer in `format` that may call `names`.
    #[must_use]
    pub fn new(format: ToolFormat, names: Vec<String>) -> Self {
        Self {
            format,
            names,
            state: State::Begin,
            held: String::new(),
            called: false,
        }
    }

    /// What is certain after some more of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut out = Vec::new();
        while self.step(&mut out) {}
        out
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> Vec<Piece> {
        let held = mem::take(&mut self.held);
        let calls = match self.state {
            State::Begin | State::Text => None,
            State::Tagged => calls(&held).or_else(|| calls(&closed(&held))),
            State::Bare => self.bare(&held),
        };
        if let Some(calls) = calls {
            return calls.into_iter().map(Piece::Call).collect();
        }
        let open = if self.state == State::Tagged {
            OPEN
        } else {
            ""
        };
        let text = format!("{open}{held}");
        // White space between calls is nobody's.
        let blank = self.called && text.trim().is_empty();
        if text.is_empty() || blank {
            Vec::new()
        } else {
            vec![Piece::Text(text)]
        }
    }

    /// Goes on as far as it can; says whether there may be more to do.
    fn step(&mut self, out: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Begin => self.begin(),
            State::Bare => false,
            State::Text if self.format == ToolFormat::Hermes => self.text_with_tags(out),
            State::Text => {
                self.say(self.held.len(), out);
                false
            }
            State::Tagged => self.tagged(out),
        }
    }

    fn begin(&mut self) -> bool {
        if self.format == ToolFormat::Hermes {
            self.state = State::Text;
            return true;
        }
        let begun = self.held.trim_start();
        if begun.is_empty() {
            return false;
        }
        let markers = [MISTRAL, LLAMA, "```", "{", "["];
        if markers.iter().any(|marker| begun.starts_with(marker)) {
            self.state = State::Bare;
            return false;
        }
        if markers.iter().any(|marker| marker.starts_with(begun)) {
            return false;
        }
        self.state = State::Text;
        true
    }

    fn text_with_tags(&mut self, out: &mut Vec<Piece>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            let before = self.held.get(..at).unwrap_or_default().trim_end().len();
            self.say(before, out);
            let start = self.held.find(OPEN).map_or(0, |at| at + OPEN.len());
            self.held.drain(..start);
            self.state = State::Tagged;
            return true;
        }
        // The beginning of a tag, and white space that would stand before it, wait.
        let tag = (1..OPEN.len()).rev().find(|&count| {
            OPEN.get(..count)
                .is_some_and(|tag| self.held.ends_with(tag))
        });
        let end = self.held.len() - tag.unwrap_or(0);
        let certain = self.held.get(..end).unwrap_or_default().trim_end().len();
        self.say(certain, out);
        false
    }

    fn tagged(&mut self, out: &mut Vec<Piece>) -> bool {
        let Some(at) = self.held.find(CLOSE) else {
            return false;
        };
        let inside = self.held.get(..at).unwrap_or_default();
        match calls(inside) {
            Some(calls) => {
                self.called = true;
                out.extend(calls.into_iter().map(Piece::Call));
            }
            None => out.push(Piece::Text(format!("{OPEN}{inside}{CLOSE}"))),
        }
        self.held.drain(..at + CLOSE.len());
        self.state = State::Text;
        true
    }

    fn say(&mut self, count: usize, out: &mut Vec<Piece>) {
        let rest = self.held.split_off(count);
        let text = mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            out.push(Piece::Text(text));
        }
    }

    fn bare(&self, text: &str) -> Option<Vec<ToolCall>> {
        let mut text = text.trim();
        for marker in [MISTRAL, LLAMA] {
            text = text.strip_prefix(marker).unwrap_or(text).trim_start();
        }
        if let Some(fenced) = text.strip_prefix("```") {
            text = fenced.strip_prefix("json").unwrap_or(fenced);
            text = text.trim_end().strip_suffix("```").unwrap_or(text);
        }
        let calls = calls(text).or_else(|| calls(&closed(text)))?;
        let known = |call: &ToolCall| self.names.contains(&call.name);
        calls.iter().all(known).then_some(calls)
    }
}

/// The calls that a text is, and nothing else: objects or lists of them, perhaps with semicolons
/// between them. `None` if it is anything else.
fn calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        match values.next()?.ok()? {
            Value::Array(list) => {
                for value in list {
                    found.push(call(value)?);
                }
            }
            value => found.push(call(value)?),
        }
        let end = values.byte_offset();
        rest = rest
            .get(end..)?
            .trim_start_matches([';', ' ', '\n', '\t', '\r']);
    }
    (!found.is_empty()).then_some(found)
}

fn call(value: Value) -> Option<ToolCall> {
    let Value::Object(mut object) = value else {
        return None;
    };
    if let Some(Value::Object(function)) = object.remove("function") {
        object = function;
    }
    let Some(Value::String(name)) = object.remove("name") else {
        return None;
    };
    let arguments = object
        .remove("arguments")
        .or_else(|| object.remove("parameters"));
    let arguments = match arguments {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        // Some models write them as a text of JSON.
        Some(Value::String(text)) => serde_json::from_str(&text).ok()?,
        Some(_) => return None,
    };
    Some(ToolCall { name, arguments })
}

/// A call whose answer ended with its arguments lacks the last brackets: models whose beginning was
/// given to them leave these away.
fn closed(text: &str) -> String {
    let mut open = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => _ = open.pop(),
            _ => {}
        }
    }
    text.chars().chain(open.into_iter().rev()).collect()
}
