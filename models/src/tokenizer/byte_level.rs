//! GPT-2's way to write bytes as printable characters, which byte-level vocabularies use.

/// The byte that a character stands for. Printable Latin-1 characters stand for themselves; the other
/// 68 bytes were numbered from U+0100 on.
fn byte(c: char) -> Option<u8> {
    match c {
        '!'..='~' | '¡'..='¬' | '®'..='ÿ' => u8::try_from(c).ok(),
        '\u{100}'..='\u{143}' => {
            let nth = u8::try_from(u32::from(c) - 0x100).ok()?;
            Some(match nth {
                0..=32 => nth,
                33..=66 => nth - 33 + 0x7f,
                _ => 0xad,
            })
        }
        _ => None,
    }
}

/// The bytes of a token. A text with any other character in it is no byte-level token but one that
/// was added to the vocabulary as it is.
pub(super) fn bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(byte)
        .collect::<Option<_>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use tokenizers::{Decoder, decoders::byte_level::ByteLevel};

    #[test]
    fn every_byte_has_its_character() {
        let alphabet = ByteLevel::alphabet();
        let mut seen: Vec<u8> = alphabet.into_iter().filter_map(super::byte).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn agrees_with_the_library() {
        for c in (0..0x200).filter_map(char::from_u32) {
            let token = c.to_string();
            let theirs = ByteLevel::default().decode(vec![token.clone()]).unwrap();
            assert_eq!(
                String::from_utf8_lossy(&super::bytes(&token)),
                theirs,
                "{c:?}"
            );
        }
    }
}
