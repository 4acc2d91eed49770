//! `exo-node run`: one answer on the terminal.

use crate::Failed;
use crate::answer::{Answer, Progress};
use crate::api::mark::Mark;
use crate::app::App;
use crate::ask::Ask;
use crate::events::Events;
use crate::settings::Settings;
use crate::signals::Stop;
use crate::terminal::{Style, printable};
use exo_models::ChatMessage;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// What to ask whom.
#[derive(Clone, Debug)]
pub struct Run {
    /// The model's name or path; the default one if none.
    pub model: Option<String>,
    /// The question.
    pub prompt: String,
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
}

/// An orderly stop takes no longer; the answer is there already.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints the answer as it comes. `false` when somebody interrupted it.
///
/// # Errors
/// When there is no such model, the node does not start, or the ring fails.
pub fn run(settings: &Settings, run: &Run, stop: &Stop) -> Result<bool, Failed> {
    let started = App::start(settings)?;
    let app = &started.app;
    if settings.wait_for_peers > 0 {
        app.wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    }
    let ask = || {
        let model = run
            .model
            .as_deref()
            .map(|name| app.library().name(name))
            .transpose();
        let model = model.map_err(Failed::Model)?;
        let messages = vec![ChatMessage::new("user", run.prompt.clone())];
        let ask = Ask {
            model,
            input: messages.into(),
            max_tokens: run.max_tokens,
            ..Ask::default()
        };
        Ok(app.ask(&ask, &Mark::default())?)
    };
    let result = ask().and_then(|answer| print(answer, app.events(), stop));
    started.shutdown(PATIENCE);
    result
}

fn print(mut answer: Answer, events: &Events, stop: &Stop) -> Result<bool, Failed> {
    let mut out = io::stdout().lock();
    let mut last = String::new();
    let mut loading = Loading::new();
    let finish = loop {
        if stop.asked() {
            loading.end();
            writeln!(out)?;
            return Ok(false);
        }
        match answer.next(Duration::from_millis(50)) {
            Progress::Waiting => loading.show(events.loading()),
            Progress::Text(text) => {
                loading.end();
                let text = printable(&text);
                write!(out, "{text}")?;
                out.flush()?;
                last = text;
            }
            Progress::Finished(finish) => break finish,
            Progress::Failed(error) => {
                loading.end();
                if !last.is_empty() {
                    writeln!(out)?;
                }
                return Err(error.into());
            }
        }
    };
    if !last.ends_with('\n') {
        writeln!(out)?;
    }
    if io::stderr().is_terminal() {
        let first = answer.first_token().unwrap_or_default().as_secs_f64();
        let rate = answer.rate().unwrap_or(0.0);
        let told = format!(
            "{} tokens, {first:.2} s to the first, {rate:.1} tokens/s",
            finish.tokens
        );
        eprintln!("{}", Style::stderr().dim(told));
    }
    Ok(true)
}

/// How far a load is, on a line of the terminal that goes away.
#[derive(Debug)]
pub(crate) struct Loading {
    terminal: bool,
    shown: bool,
}

impl Loading {
    pub(crate) fn new() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            shown: false,
        }
    }

    pub(crate) fn show(&mut self, loading: Option<(u64, u64)>) {
        let Some((done, total)) = loading.filter(|_| self.terminal) else {
            return;
        };
        self.shown = true;
        eprint!("\r\x1b[Kloading: {} of {} MiB", done >> 20, total >> 20);
    }

    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
