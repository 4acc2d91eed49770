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
