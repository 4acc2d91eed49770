//! The calls of functions in one choice, numbered and named.

use super::dialect::{Call, Part};
use crate::random;
use exo_models::{AnswerPiece, CallReader};
use serde_json::Value;

/// Tells calls and text of a choice apart.
#[derive(Debug)]
pub(super) struct Calls {
    reader: CallReader,
    /// Whether more than one is wanted.
    parallel: bool,
    count: usize,
}

impl Calls {
    pub(super) fn new(reader: CallReader, parallel: bool) -> Self {
        Self {
            reader,
            parallel,
            count: 0,
        }
    }

    /// Whether functions were called.
    pub(super) fn called(&self) -> bool {
        self.count > 0
    }

    /// What is certain after some more text.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        let pieces = self.reader.push(text);
        self.parts(pieces)
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        let pieces = self.reader.finish();
        self.parts(pieces)
    }

    fn parts(&mut self, pieces: Vec<AnswerPiece>) -> Vec<Part> {
        let pieces = pieces.into_iter();
        pieces.filter_map(|piece| self.part(piece)).collect()
    }

    fn part(&mut self, piece: AnswerPiece) -> Option<Part> {
        match piece {
            AnswerPiece::Text(text) => Some(Part::Text(text)),
            AnswerPiece::Call(_) if self.called() && !self.parallel => None,
            AnswerPiece::Call(call) => {
                let index = self.count;
                self.count += 1;
                Some(Part::Call(Call {
                    index,
                    id: id(),
                    name: call.name,
                    arguments: Value::Object(call.arguments).to_string(),
                }))
            }
        }
    }
}

/// Nine letters and digits: the templates of Mistral's models refuse any others.
fn id() -> String {
    let mut number = random::number();
    let digit = |_| {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        number /= 36;
        char::from_digit(digit, 36).unwrap_or('0')
    };
    (0..9).map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_models::ToolFormat;

    #[test]
    fn calls_are_numbered_and_named() {
        let answer = r#"[{"name": "f", "arguments": {"a": 1}}, {"name": "f"}]"#;
        for (parallel, count) in [(true, 2), (false, 1)] {
            let reader = CallReader::new(ToolFormat::Mistral, vec!["f".into()]);
            let mut calls = Calls::new(reader, parallel);
            assert!(calls.push(answer).is_empty());
            let parts = calls.finish();
            assert_eq!(parts.len(), count);
            for (at, part) in parts.iter().enumerate() {
                let Part::Call(call) = part else {
                    panic!("{part:?}")
                };
                assert_eq!((call.index, call.id.len()), (at, 9));
            }
            assert!(calls.called());
        }
    }
}
