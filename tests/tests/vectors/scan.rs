//! What stands in a JSON text, without reading it as JSON.

/// What stands in a JSON text, valid or not.
pub(crate) struct Scan {
    /// The deepest nesting of brackets outside texts.
    pub(crate) depth: usize,
    /// Everything outside texts that is neither bracket nor separator.
    pub(crate) words: Vec<String>,
    /// Whether a text holds half of a surrogate pair.
    pub(crate) unpaired: bool,
}

impl Scan {
    /// Looks at `text` from end to end.
    pub(crate) fn of(text: &str) -> Self {
        let mut scan = Self {
            depth: 0,
            words: vec![String::new()],
            unpaired: false,
        };
        let mut open = 0usize;
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '[' | '{' => open += 1,
                ']' | '}' => open = open.saturating_sub(1),
                '"' => scan.text(&mut rest),
                _ => {}
            }
            scan.depth = scan.depth.max(open);
            if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') {
                scan.words.last_mut().expect("one").push(c);
            } else {
                scan.words.push(String::new());
            }
        }
        scan
    }

    fn text(&mut self, rest: &mut std::str::Chars<'_>) {
        let mut units = Vec::new();
        while let Some(c) = rest.next() {
            let escaped = match c {
                '"' => break,
                '\\' => rest.next(),
                _ => None,
            };
            if escaped == Some('u') {
                let digits: String = rest.by_ref().take(4).collect();
                units.push(u16::from_str_radix(&digits, 16).unwrap_or(0));
            } else {
                units.push(b' '.into());
            }
        }
        self.unpaired |= char::decode_utf16(units).any(|unit| unit.is_err());
    }
}
