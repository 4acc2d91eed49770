//! The terminal: taken when the view begins, and given back as it was however the program ends.

use crate::logging;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether keys come to this program one by one.
static RAW: AtomicBool = AtomicBool::new(false);

pub(super) type Screen = Terminal<CrosstermBackend<Stdout>>;

/// Takes the terminal.
pub(super) fn take() -> io::Result<Screen> {
    give_back_on_panic();
    enter()?;
    Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| give_back())
}

fn enter() -> io::Result<()> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    // Without a terminal on standard input there are no keys, and ^C is whoever's that has it.
    if io::stdin().is_terminal() && enable_raw_mode().is_ok() {
        RAW.store(true, Ordering::SeqCst);
    }
    execute!(io::stdout(), EnterAlternateScreen, Hide).inspect_err(|_| give_back())
}

/// Whether the terminal is ours: a panic gives it back wherever it happens.
pub(super) fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Gives the terminal back, once. A terminal that is gone needs nothing.
pub(super) fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, Show, LeaveAlternateScreen);
    let _ = out.flush();
    if RAW.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
    }
}

/// A panic is to be read, whichever thread it is in.
fn give_back_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if is_taken() {
                give_back();
                logging::to_terminal();
            }
            before(panic);
        }));
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Runs on a terminal of its own, in a process that the test below starts.
    #[test]
    #[ignore = "a part of the test below"]
    fn panics_on_a_terminal() {
        let _screen = take().expect("there is a terminal");
        let thread = std::thread::spawn(|| panic!("on purpose"));
        assert!(thread.join().is_err());
        assert!(!is_taken());
    }

    #[test]
    fn a_panic_in_any_thread_gives_the_terminal_back() {
        if Command::new("script").arg("--version").output().is_err() {
            eprintln!(
                "SKIPPED: script is missing, so there is no terminal; apt-get install bsdutils"
            );
            return;
        }
        let own = std::env::current_exe().expect("this program");
        let test = "tui::screen::tests::panics_on_a_terminal";
        let line = format!(
            "{} --ignored --nocapture --exact {test}; stty -a",
            own.display()
        );
        let output = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::null())
            .output()
            .expect("it was there a moment ago");
        let seen = String::from_utf8_lossy(&output.stdout);
        let (view, after) = seen.split_once("\x1b[?1049l").expect(&seen);
        assert!(
            view.contains("\x1b[?1049h") && view.contains("\x1b[?25h"),
            "{seen:?}"
        );
        assert!(after.contains("on purpose"), "it can be read: {seen:?}");
        assert!(after.contains("1 passed;"), "{seen:?}");
        let settings: Vec<&str> = after.split([' ', '\r', '\n']).collect();
        for word in ["icanon", "echo", "isig", "opost"] {
            assert!(settings.contains(&word), "{word}: {seen:?}");
        }
    }
}
