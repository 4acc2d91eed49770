//! Where in a text each of its tokens begins.

use crate::answer::TokenScore;

/// Counts characters while tokens come. A token that goes on in the middle of a character begins
/// where that character does.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    characters: usize,
    /// Bytes of a character that is not whole yet.
    partial: Vec<u8>,
    /// A token that stands in the text has come.
    begun: bool,
}

impl Offsets {
    /// Where this one begins; `text` is what it comes with. Tokens that only mark something stand in
    /// no text, and a few tokenizers drop the space with which a text begins.
    pub(super) fn next(&mut self, token: &TokenScore, text: &str) -> usize {
        let mut at = self.characters;
        if token.special {
            return at;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        let dropped = first && !text.is_empty() && !text.starts_with(' ');
        let bytes = match token.bytes.strip_prefix(b" ") {
            Some(rest) if dropped => rest,
            _ => &token.bytes,
        };
        let mut all = std::mem::take(&mut self.partial);
        let before = all.len();
        all.extend_from_slice(bytes);
        let mut rest = &all[..];
        loop {
            match std::str::from_utf8(rest) {
                Ok(whole) => {
                    self.characters += whole.chars().count();
                    return at;
                }
                Err(error) => {
                    let (whole, bad) = rest.split_at(error.valid_up_to());
                    self.characters += String::from_utf8_lossy(whole).chars().count();
                    let Some(wrong) = error.error_len() else {
                        self.partial = bad.to_vec();
                        return at;
                    };
                    // It will never be one, and stands in the text as U+FFFD.
                    self.characters += 1;
                    if whole.is_empty() && wrong <= before {
                        at = self.characters;
                    }
                    rest = bad.get(wrong..).unwrap_or_default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(text: &str, tokens: &[&[u8]]) -> Vec<usize> {
        let mut offsets = Offsets::default();
        let token = |bytes: &&[u8]| TokenScore {
            text: String::new(),
            special: bytes.starts_with(b"<"),
            bytes: bytes.to_vec(),
            score: 0.0,
            likeliest: Vec::new(),
        };
        let tokens = tokens.iter().map(token);
        tokens.map(|token| offsets.next(&token, text)).collect()
    }

    #[test]
    fn characters_are_counted_once() {
        let tokens: [&[u8]; 6] = [b"a", b" \xf0", b"\x9f\xa6", b"\x8a", b"\xc3", b"\xb6b"];
        assert_eq!(offsets("a \u{1f98a}\u{f6}b", &tokens), [0, 1, 2, 2, 3, 3]);
        // What is no character counts as the one in its place.
        assert_eq!(offsets("a\u{fffd}b", &[b"a", b"\xff", b"b"]), [0, 1, 2]);
        assert_eq!(offsets("\u{fffd}bc", &[b"\xc3", b"b", b"c"]), [0, 1, 2]);
    }

    #[test]
    fn what_the_text_does_not_have_is_not_counted() {
        let tokens: [&[u8]; 4] = [b"<s>", b" Hi", b" you", b"</s>"];
        assert_eq!(offsets("Hi you", &tokens), [0, 0, 2, 6]);
        assert_eq!(offsets(" Hi you", &tokens), [0, 0, 3, 7]);
    }
}
