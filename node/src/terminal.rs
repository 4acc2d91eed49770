//! Colours, where somebody looks.

use std::fmt;
use std::io::IsTerminal;

/// How text may be dressed on one of the program's outputs.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colours: bool,
}

impl Style {
    /// For standard output: colours only on a terminal, and never with `NO_COLOR`.
    #[must_use]
    pub fn stdout() -> Self {
        Self {
            colours: std::io::stdout().is_terminal() && wanted(),
        }
    }

    /// For standard error, by the same rules.
    #[must_use]
    pub fn stderr() -> Self {
        Self {
            colours: std::io::stderr().is_terminal() && wanted(),
        }
    }

    /// Letters only.
    #[must_use]
    pub fn plain() -> Self {
        Self { colours: false }
    }

    /// Whether there are colours.
    #[must_use]
    pub fn colours(self) -> bool {
        self.colours
    }

    /// Strong text.
    pub fn bold<T: fmt::Display>(self, text: T) -> Dressed<T> {
        self.dressed("1", text)
    }

    /// Text for those who want to know more.
    pub fn dim<T: fmt::Display>(self, text: T) -> Dressed<T> {
        self.dressed("2", text)
    }

    /// Bad news.
    pub fn red<T: fmt::Display>(self, text: T) -> Dressed<T> {
        self.dressed("31", text)
    }

    /// Text in the colour of the `index`th node.
    pub fn node<T: fmt::Display>(self, index: usize, text: T) -> Dressed<T> {
        const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];
        self.dressed(
            COLOURS.get(index % COLOURS.len()).copied().unwrap_or("0"),
            text,
        )
    }

    fn dressed<T>(self, code: &'static str, text: T) -> Dressed<T> {
        Dressed {
            code: self.colours.then_some(code),
            text,
        }
    }
}

/// A text in its colour; widths and alignment apply to the text alone.
#[derive(Clone, Copy, Debug)]
pub struct Dressed<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Dressed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = self.code else {
            return self.text.fmt(f);
        };
        write!(f, "\x1b[{code}m")?;
        self.text.fmt(f)?;
        f.write_str("\x1b[0m")
    }
}

/// `NO_COLOR` counts when it is set to anything (no-color.org).
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output is a terminal that can show more than lines.
#[must_use]
pub fn takes_pictures() -> bool {
    let term = std::env::var_os("TERM");
    // Windows' terminals say nothing of themselves.
    let able = term.map_or(cfg!(windows), |term| term != "dumb" && !term.is_empty());
    able && std::io::stdout().is_terminal()
}

/// Whether the terminal listens to this program: one that a shell runs in the background would be
/// stopped for changing how the terminal behaves. True where nobody can tell.
#[must_use]
pub fn in_foreground() -> bool {
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        return leads(&stat).unwrap_or(true);
    }
    if cfg!(windows) {
        return true;
    }
    // macOS has no such file; `+` stands for the foreground.
    let id = std::process::id().to_string();
    let ps = std::process::Command::new("ps")
        .args(["-o", "stat=", "-p", &id])
        .output();
    ps.map_or(true, |ps| ps.stdout.contains(&b'+'))
}

/// Whether the process group of a process is its terminal's: proc(5), the fields `pgrp` and `tpgid`
/// of `/proc/PID/stat`, the third and the sixth after the name in brackets.
fn leads(stat: &str) -> Option<bool> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(2);
    let group = fields.next()?;
    let foreground = fields.nth(2)?;
    Some(group == foreground)
}

/// `text` without what would make a terminal do anything but print: models and peers write it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control() || matches!(letter, '\n' | '\t'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_not_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n\tc\u{9b}31m\u{7}"), "a[2Jb\n\tc31m");
    }

    #[test]
    fn a_program_in_the_background_is_known() {
        let stat = |foreground| format!("7 (a) b) S 1 77 5 34816 {foreground} 4194304 1 2");
        assert_eq!(leads(&stat(77)), Some(true));
        assert_eq!(leads(&stat(5)), Some(false));
        assert_eq!(leads("7 (a) S 1"), None);
    }

    #[test]
    fn widths_count_letters() {
        let colours = Style { colours: true };
        assert_eq!(format!("{:<4}|", colours.bold("ab")), "\x1b[1mab  \x1b[0m|");
        assert_eq!(format!("{:<4}|", Style::plain().bold("ab")), "ab  |");
    }
}
