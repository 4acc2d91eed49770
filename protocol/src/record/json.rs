//! JSON text that passes by: the texts and numbers under one key of the outermost object are
//! replaced, everything else stays, and so does every length.

/// Where in the text it is.
#[derive(Debug)]
pub(super) struct Scanner {
    wanted: &'static [u8],
    /// Containers that are open.
    depth: u32,
    string: Option<Text>,
    /// The outermost object's next string is a key.
    key_next: bool,
    /// How much of `wanted` the key consists of so far; `None` when it is another one.
    matched: Option<usize>,
    /// What follows stands under the key.
    under: bool,
}

/// What a string that began is, and how much of an escape is still to come in it.
#[derive(Clone, Copy, Debug)]
struct Text {
    what: What,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Key,
    Said,
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    No,
    /// After a backslash.
    Begun,
    /// After `\u` and so many digits; whether the first says that a surrogate may follow.
    Digits(u8, bool),
}

impl Scanner {
    pub(super) fn new(wanted: &'static [u8]) -> Self {
        Self {
            wanted,
            depth: 0,
            string: None,
            key_next: false,
            matched: None,
            under: false,
        }
    }

    /// Takes the next part of the text.
    pub(super) fn blank(&mut self, text: &mut [u8]) {
        for byte in text {
            *byte = match self.string {
                Some(string) => self.in_string(string, *byte),
                None => self.between(*byte),
            };
        }
    }

    fn between(&mut self, byte: u8) -> u8 {
        match byte {
            b'{' | b'[' => {
                self.key_next = self.depth == 0;
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 1 => (self.key_next, self.under) = (true, false),
            b':' if self.depth == 1 => {
                self.key_next = false;
                self.under = self.matched == Some(self.wanted.len());
            }
            b'"' => {
                let what = match (self.depth, self.key_next, self.under) {
                    (1, true, _) => What::Key,
                    (_, _, true) => What::Said,
                    _ => What::Other,
                };
                if what == What::Key {
                    self.matched = Some(0);
                }
                self.string = Some(Text {
                    what,
                    escape: Escape::No,
                });
            }
            b'0'..=b'9' if self.under => return b'1',
            _ => {}
        }
        byte
    }

    fn in_string(&mut self, Text { what, escape }: Text, byte: u8) -> u8 {
        let said = what == What::Said;
        let (escape, stand_in) = match (escape, byte) {
            (Escape::No, b'"') => {
                self.string = None;
                return byte;
            }
            (Escape::No, b'\\') => (Escape::Begun, byte),
            (Escape::No, _) => (Escape::No, plain(byte)),
            (Escape::Begun, b'u') => (Escape::Digits(0, false), byte),
            (Escape::Begun, _) => (Escape::No, byte),
            (Escape::Digits(at, surrogate), _) => {
                let next = match at {
                    0 => Escape::Digits(1, matches!(byte, b'd' | b'D')),
                    1 | 2 => Escape::Digits(at + 1, surrogate),
                    _ => Escape::No,
                };
                (next, digit(at, surrogate, byte))
            }
        };
        if what == What::Key {
            self.matched = self
                .matched
                .filter(|&at| self.wanted.get(at) == Some(&byte))
                .map(|at| at + 1);
        }
        self.string = Some(Text { what, escape });
        if said { stand_in } else { byte }
    }
}

/// Letters, and the bytes of those outside ASCII so that they stay UTF-8.
fn plain(byte: u8) -> u8 {
    match byte {
        b' '..=0x7f => b'x',
        0x80..=0xbf => 0x80,
        0xc2..=0xdf => 0xc3,
        0xe0..=0xef => 0xe3,
        0xf0..=0xf4 => 0xf1,
        // Nowhere in UTF-8, or nowhere in JSON.
        _ => byte,
    }
}

/// A digit of `\uXXXX`, so that halves of pairs stay halves: those begin with `d8` to `df`.
fn digit(at: u8, surrogate: bool, byte: u8) -> u8 {
    match (at, byte) {
        _ if !byte.is_ascii_hexdigit() => byte,
        (0, b'd' | b'D') => b'd',
        (0, _) => b'2',
        (1, b'8' | b'9' | b'a' | b'b' | b'A' | b'B') if surrogate => b'8',
        (1, b'c'..=b'f' | b'C'..=b'F') if surrogate => b'c',
        _ => b'0',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use alloc::string::String;

    fn blanked(text: &str, cut: usize) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let mut scanner = Scanner::new(b"prompt");
        for part in bytes.chunks_mut(cut) {
            scanner.blank(part);
        }
        String::from_utf8(bytes).expect("it stays UTF-8")
    }

    #[test]
    fn only_what_stands_under_the_key_of_the_outermost_object_goes() {
        for (text, left) in [
            (r#"{"prompt": "abc"}"#, r#"{"prompt": "xxx"}"#),
            (
                r#"{"prompts": "abc", "a": 12}"#,
                r#"{"prompts": "abc", "a": 12}"#,
            ),
            (r#"{"promp": "abc"}"#, r#"{"promp": "abc"}"#),
            (
                r#"{"a": {"prompt": "b"}, "prompt" :["c", {"d": 42}], "e": "prompt"}"#,
                r#"{"a": {"prompt": "b"}, "prompt" :["x", {"x": 11}], "e": "prompt"}"#,
            ),
            (
                r#"{"a\"": ":", "prompt": "\"}"}"#,
                r#"{"a\"": ":", "prompt": "\"x"}"#,
            ),
            (
                "{\"prompt\": \"a\u{e4}\u{20ac}\u{1f98a}\"}",
                "{\"prompt\": \"x\u{c0}\u{3000}\u{40000}\"}",
            ),
            (
                r#"{"prompt": "\u00E4\ud83E\uDD8a\ud7ff"}"#,
                r#"{"prompt": "\u2000\ud800\udc00\ud000"}"#,
            ),
        ] {
            for cut in 1..=text.len() {
                assert_eq!(blanked(text, cut), left, "{cut}");
            }
            assert!(Json::parse(left.as_bytes(), 9).is_ok(), "{left}");
        }
    }
}
