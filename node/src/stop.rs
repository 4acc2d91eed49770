//! Stop strings: where an answer ends because the client said so.

/// Lets text through up to the first stop string, which never shows, not even in part.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
}

/// What is known after some more text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Text that is no part of a stop string.
    pub text: String,
    /// Which stop string came behind it, by its number, if one did.
    pub stopped: Option<usize>,
}

impl Stops {
    /// Stops at any of `stops`; empty ones are none.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(at, stop)| Some((self.held.find(stop.as_str())?, at)))
            .min();
        if let Some((end, stop)) = first {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(end);
            return Passed {
                text,
                stopped: Some(stop),
            };
        }
        let certain = self.certain();
        let held = self.held.split_off(certain);
        Passed {
            text: std::mem::replace(&mut self.held, held),
            stopped: None,
        }
    }

    /// The text that was held back, when nothing follows it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many bytes cannot be part of a stop string any more.
    fn certain(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let mut starts = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .filter(|&at| at >= from);
        starts
            .find(|&at| {
                let tail = self.held.get(at..).unwrap_or_default();
                self.stops.iter().any(|stop| stop.starts_with(tail))
            })
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stops = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut out = String::new();
        for piece in pieces {
            let passed = stops.push(piece);
            out.push_str(&passed.text);
            if passed.stopped.is_some() {
                return (out, true);
            }
        }
        (out + &stops.finish(), false)
    }

    #[test]
    fn a_stop_string_never_shows_however_the_text_is_cut() {
        let text = "one\n\ntwo ünd ###drei END vier";
        for (stops, wanted) in [
            (&["END"][..], "one\n\ntwo ünd ###drei "),
            (&["###", "END"], "one\n\ntwo ünd "),
            (&["\n\n"], "one"),
            (&["nd #"], "one\n\ntwo ü"),
            (&["one"], ""),
        ] {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(run(stops, &letters), (wanted.to_owned(), true), "{stops:?}");
            assert_eq!(run(stops, &[text]), (wanted.to_owned(), true), "{stops:?}");
        }
    }

    #[test]
    fn what_only_began_like_a_stop_string_comes_through() {
        assert_eq!(
            run(&["ENDE"], &["the E", "N", "D"]),
            ("the END".to_owned(), false)
        );
        assert_eq!(
            run(&["aab"], &["a", "a", "a", "c"]),
            ("aaac".to_owned(), false)
        );
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".to_owned(), true));
        assert_eq!(run(&[""], &["x"]), ("x".to_owned(), false));
        assert_eq!(run(&[], &["x", "y"]), ("xy".to_owned(), false));
    }

    #[test]
    fn text_is_not_held_longer_than_needed() {
        let mut stops = Stops::new(vec!["###".to_owned()]);
        assert_eq!(stops.push("hello").text, "hello");
        assert_eq!(stops.push(" #").text, " ");
        assert_eq!(stops.push("x").text, "#x");
    }
}
