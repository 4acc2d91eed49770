//! `exo-node run`: one answer on the terminal.

use crate::Failed;
use crate::answer::{Answer, Progress};
use crate::api::mark::Mark;
use crate::app::App;
use crate::ask::{Ask, AskError};
use crate::downloads::{DownloadState, Item, told_far, what};
use crate::settings::Settings;
use crate::signals::Stop;
use crate::terminal::{Style, printable};
use exo_models::{ChatMessage, ModelError};
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

/// How often a wait looks whether somebody interrupts it.
const LOOK: Duration = Duration::from_millis(50);

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
    let result = match ask(app, run, stop) {
        Ok(Some(answer)) => print(answer, app, stop),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    started.shutdown(PATIENCE);
    result
}

/// Puts the question to the ring, once the model is here. Nothing when somebody interrupted it.
fn ask(app: &App, run: &Run, stop: &Stop) -> Result<Option<Answer>, Failed> {
    let mut came = false;
    loop {
        let named = run.model.as_deref().map(|name| app.library().name(name));
        let (model, missing) = match named.transpose() {
            Ok(model) => (model, None),
            // The API's way with a name from afar: what the hub has is fetched.
            Err(error @ ModelError::Unknown(_)) if app.fetches() => {
                (run.model.clone(), Some(error))
            }
            Err(error) => return Err(Failed::Model(error)),
        };
        let ask = Ask {
            model,
            input: vec![ChatMessage::new("user", run.prompt.clone())].into(),
            max_tokens: run.max_tokens,
            ..Ask::default()
        };
        let item = match (app.ask(&ask, &Mark::default()), missing) {
            (Ok(answer), _) => return Ok(Some(answer)),
            (Err(AskError::Downloading(item)), _) if !came => item,
            // It says where it was looked for.
            (Err(AskError::Model(_)), Some(error)) => return Err(Failed::Model(error)),
            (Err(error), _) => return Err(error.into()),
        };
        if !fetch(app, &item, stop)? {
            return Ok(None);
        }
        came = true;
    }
}

/// Waits for a download. `false` when somebody interrupted it.
fn fetch(app: &App, item: &Item, stop: &Stop) -> Result<bool, Failed> {
    let mut loading = Loading::new();
    let mut last = None;
    let result = loop {
        if stop.asked() {
            break Ok(false);
        }
        match app.downloads().wait(item.number, LOOK) {
            // It is over for so long that it is forgotten.
            None => break Ok(true),
            Some(now) if now.state == DownloadState::Done => break Ok(true),
            Some(Item {
                error: Some(error), ..
            }) => break Err(Failed::Download(error)),
            Some(now) if now.is_over() => break Ok(false),
            Some(now) => {
                let words = format!("downloading {}: {}", now.model, now.words());
                if last.as_ref() != Some(&words) {
                    loading.tell(&words);
                    last = Some(words);
                }
            }
        }
    };
    loading.end();
    result
}

fn print(mut answer: Answer, app: &App, stop: &Stop) -> Result<bool, Failed> {
    let mut out = io::stdout().lock();
    let mut last = String::new();
    let mut loading = Loading::new();
    let finish = loop {
        if stop.asked() {
            loading.end();
            writeln!(out)?;
            return Ok(false);
        }
        match answer.next(LOOK) {
            Progress::Waiting => match downloading(app) {
                Some(words) => loading.tell(&words),
                None => loading.show(app.events().loading()),
            },
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

/// How far the files of this node are, or those of another one that a stage waits for.
fn downloading(app: &App) -> Option<String> {
    if let Some(item) = app.downloads().under_way().first() {
        return Some(format!("downloading {}: {}", item.model, item.words()));
    }
    let status = app.status();
    let (node, download) = status.downloading().next()?;
    let (what, far) = (what(&download.shard), told_far(download));
    Some(format!("downloading {what} on {node}: {far}"))
}

/// How far a download or a load is, on a line of the terminal that goes away.
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
        if let Some((done, total)) = loading {
            self.tell(&format!("loading: {} of {} MiB", done >> 20, total >> 20));
        }
    }

    fn tell(&mut self, words: &str) {
        if self.terminal {
            self.shown = true;
            eprint!("\r\x1b[K{}", printable(words));
        }
    }

    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
