//! Where log lines go: to standard error, and to the live view while it has the terminal.

use crate::terminal::printable;
use crate::wake::Wake;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As many lines are kept for the view, and printed when it ends.
const KEPT: usize = 200;

/// A line is kept up to this many characters.
const LONGEST: usize = 500;

/// Lines of this process.
static LINES: Mutex<Lines> = Mutex::new(Lines {
    kept: VecDeque::new(),
    unprinted: 0,
    view: None,
});

#[derive(Debug)]
struct Lines {
    /// The last ones, as they were written.
    kept: VecDeque<String>,
    /// The last so many of them are not on the terminal yet.
    unprinted: usize,
    /// Who shows them; then the terminal is not to be written to.
    view: Option<Arc<Wake>>,
}

impl Lines {
    /// Keeps what was written, and says whether it goes to standard error now.
    fn take(&mut self, text: &str, to_terminal: bool) -> bool {
        let now = self.view.is_none() || !to_terminal;
        for line in text.lines() {
            if self.kept.len() >= KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(line.chars().take(LONGEST).collect());
            let more = self.unprinted.saturating_add(1).min(self.kept.len());
            self.unprinted = if now { 0 } else { more };
        }
        now
    }

    /// The lines that were kept from the terminal.
    fn unprinted(&mut self) -> Vec<String> {
        let printed = self.kept.len().saturating_sub(self.unprinted);
        self.unprinted = 0;
        self.kept.iter().skip(printed).cloned().collect()
    }
}

/// From now on the view shows what is logged, and `wake` rings for each line.
#[cfg_attr(
    not(feature = "tui"),
    expect(dead_code, reason = "only the live view shows lines")
)]
pub(crate) fn to_view(wake: Arc<Wake>) {
    lock().view = Some(wake);
}

/// The terminal takes lines again, beginning with those that it missed.
#[cfg_attr(
    not(feature = "tui"),
    expect(dead_code, reason = "only the live view shows lines")
)]
pub(crate) fn to_terminal() {
    let mut lines = lock();
    lines.view = None;
    let mut out = io::stderr().lock();
    for line in lines.unprinted() {
        // A terminal that is gone is told nothing.
        let _ = writeln!(out, "{line}");
    }
}

/// The last lines, without colours.
#[cfg_attr(
    not(feature = "tui"),
    expect(dead_code, reason = "only the live view shows lines")
)]
pub(crate) fn lines() -> Vec<String> {
    lock().kept.iter().map(|line| plain(line)).collect()
}

/// A line without what sets colours.
fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        out.push_str(before);
        let end = after.find(|letter: char| letter.is_ascii_alphabetic());
        rest = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
    }
    out.push_str(rest);
    printable(&out).replace('\t', " ")
}

/// What the logger writes to.
#[derive(Debug)]
pub(super) struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = lock();
        let text = String::from_utf8_lossy(bytes);
        if lines.take(&text, io::stderr().is_terminal()) {
            // With the lock, so that no line comes between those of the view's end.
            io::stderr().write_all(bytes)?;
        }
        if let Some(view) = &lines.view {
            view.ring();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lock() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Lines {
        Lines {
            kept: VecDeque::new(),
            unprinted: 0,
            view: None,
        }
    }

    #[test]
    fn the_terminal_gets_what_it_missed() {
        let mut lines = none();
        assert!(lines.take("one\n", true));
        lines.view = Some(Arc::default());
        assert!(!lines.take("two\n", true));
        assert!(!lines.take("three\nfour\n", true));
        assert_eq!(lines.unprinted(), ["two", "three", "four"]);
        assert!(lines.unprinted().is_empty());
        assert_eq!(lines.kept.len(), 4);
        // A file misses nothing.
        assert!(lines.take("five\n", false));
        assert!(lines.unprinted().is_empty());
    }

    #[test]
    fn only_so_much_is_kept() {
        let mut lines = none();
        lines.view = Some(Arc::default());
        for number in 0..1000 {
            lines.take(&format!("{number}{}\n", "x".repeat(1000)), true);
        }
        let unprinted = lines.unprinted();
        assert_eq!(unprinted.len(), KEPT);
        assert!(unprinted.iter().all(|line| line.len() == LONGEST));
        assert!(unprinted[0].starts_with("800x"));
    }

    #[test]
    fn colours_are_taken_off() {
        assert_eq!(
            plain("\x1b[2mtime\x1b[0m \x1b[33m WARN\x1b[0m a\tb"),
            "time  WARN a b"
        );
        assert_eq!(plain("cut \x1b[3"), "cut ");
    }
}
