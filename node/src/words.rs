//! A command line in one text, as a shell would read it.

/// Splits a command into its words: blanks separate, quotes and backslashes keep together.
///
/// # Errors
/// When a quote is not closed, or there are no words.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match letters.next() {
                // Between double quotes a backslash means itself, but before these.
                Some(next) if quote.is_none() || matches!(next, '"' | '\\' | '$' | '`') => {
                    word.get_or_insert_default().push(next);
                }
                Some(next) => word.get_or_insert_default().extend([letter, next]),
                None => return Err("it ends in a backslash".to_owned()),
            },
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote {open} is not closed"));
    }
    words.extend(word);
    if words.first().is_none_or(String::is_empty) {
        return Err("it names no program".to_owned());
    }
    Ok(words)
}

/// A word as a shell reads it back.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, wanted) in [
            ("ssh host", &["ssh", "host"][..]),
            ("  ssh\t-p  22 \n", &["ssh", "-p", "22"]),
            (r#"a 'b  c' "d 'e" f\ g"#, &["a", "b  c", "d 'e", "f g"]),
            (r#"a"b"'c'd"#, &["abcd"]),
            (r#"a '' """#, &["a", "", ""]),
            (r#"a "\"\\\n" '\'"#, &["a", r#""\\n"#, r"\"]),
        ] {
            let words = split(text).expect(text);
            assert_eq!(words, wanted, "{text}");
            let again: Vec<String> = words.iter().map(|word| quoted(word)).collect();
            assert_eq!(split(&again.join(" ")), Ok(words), "{again:?}");
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (text, wanted) in [
            ("", "it names no program"),
            (" ", "it names no program"),
            ("'' a", "it names no program"),
            ("a 'b", "a quote ' is not closed"),
            ("a \"b", "a quote \" is not closed"),
            ("a \\", "it ends in a backslash"),
        ] {
            assert_eq!(split(text), Err(wanted.to_owned()), "{text}");
        }
    }
}
