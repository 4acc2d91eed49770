//! What an answer has to be, in words that travel.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ModelError;

/// What the text of an answer has to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grammar {
    /// The text is one of these sequences.
    pub any: Vec<Vec<Part>>,
    /// Whether there may be anything else.
    #[serde(default, skip_serializing_if = "Free::is_none")]
    pub free: Free,
}

/// A part of a sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// This text.
    Text(String),
    /// A JSON value.
    Json {
        /// Its schema.
        json: Value,
    },
}

/// What may come beside the sequences of a [`Grammar`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Free {
    /// Nothing.
    #[default]
    None,
    /// Any text, in which this mark is always followed by one of the sequences.
    Mark(String),
    /// Any text in the place of the sequences that begins like none of them: with neither white space
    /// nor one of `{`, `[`, `<` and `` ` ``.
    Instead,
}

impl Free {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// More sequences than this are no choice of functions.
const MOST: usize = 1024;

impl Grammar {
    /// Bytes of the longest text of a grammar.
    pub const LONGEST: usize = 256 << 10;

    /// A JSON value of this schema, and nothing else.
    #[must_use]
    pub fn json(schema: Value) -> Self {
        Self {
            any: vec![vec![Part::Json { json: schema }]],
            free: Free::None,
        }
    }

    /// Reads what [`Grammar::write`] wrote.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] when it is something else.
    pub fn read(text: &str) -> Result<Self, ModelError> {
        if text.len() > Self::LONGEST {
            let (bytes, most) = (text.len(), Self::LONGEST);
            let why = format!("a grammar of {bytes} bytes is longer than the {most} allowed");
            return Err(ModelError::grammar(why));
        }
        serde_json::from_str(text).map_err(ModelError::grammar)
    }

    /// The text that travels.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] when it is too long.
    pub fn write(&self) -> Result<String, ModelError> {
        let text = serde_json::to_string(self).map_err(ModelError::grammar)?;
        if text.len() > Self::LONGEST {
            let (bytes, most) = (text.len(), Self::LONGEST);
            let why = format!("it has {bytes} bytes, and at most {most} are taken");
            return Err(ModelError::grammar(why));
        }
        Ok(text)
    }

    /// The same in llguidance's language.
    pub(super) fn lark(&self) -> Result<String, ModelError> {
        if self.any.is_empty() || self.any.len() > MOST {
            let count = self.any.len();
            let why = format!("it has {count} sequences, expected 1 to {MOST}");
            return Err(ModelError::grammar(why));
        }
        let names: Vec<String> = (0..self.any.len()).map(|at| format!("s{at}")).collect();
        let one = names.join(" | ");
        let mut out = match &self.free {
            Free::None => format!("start: {one}\n"),
            Free::Mark(mark) if mark.is_empty() => {
                return Err(ModelError::grammar("an empty mark stands everywhere"));
            }
            Free::Mark(mark) => {
                let mark = literal(mark);
                format!(
                    "start: (marked ({one}))* rest\n\
                     marked[lazy]: /(.|\\n)*{mark}/\n\
                     rest: /(.|\\n)*/\n"
                )
            }
            Free::Instead => {
                format!("start: {one} | other\nother: /([^{{\\[<`\\s](.|\\n)*)?/\n")
            }
        };
        for (name, parts) in names.iter().zip(&self.any) {
            let mut rule = format!("{name}:");
            for (at, part) in parts.iter().enumerate() {
                // Writing into a String cannot fail.
                let _ = match part {
                    Part::Text(text) if text.is_empty() => Ok(()),
                    Part::Text(text) => write!(rule, " {}", Value::from(text.as_str())),
                    Part::Json { json } => {
                        let json = spaced(json)?;
                        let _ = writeln!(out, "{name}_{at}: %json {json}");
                        write!(rule, " {name}_{at}")
                    }
                };
            }
            if rule.ends_with(':') {
                rule.push_str(" \"\"");
            }
            out.push_str(&rule);
            out.push('\n');
        }
        Ok(out)
    }
}

/// A schema with one way to space values: as models mostly write them on one line. With free white
/// space small models write nothing else until their time is over.
fn spaced(schema: &Value) -> Result<Value, ModelError> {
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        Value::Bool(true) => serde_json::Map::new(),
        _ => {
            let why = format!("a schema must be an object, not {schema}");
            return Err(ModelError::grammar(why));
        }
    };
    let spaces = json!({
        "whitespace_flexible": false,
        "item_separator": ", ",
        "key_separator": ": ",
    });
    schema.insert("x-guidance".to_owned(), spaces);
    Ok(Value::Object(schema))
}

/// A text as a regular expression between slashes.
fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            c if "\\.+*?()|[]{}^$#&-~/".contains(c) => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
