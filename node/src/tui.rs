//! A live view of the ring on the terminal, for as long as a node serves.
//!
//! What is shown comes from the view, made without any terminal. `draw` puts it on a
//! screen of any size, and `screen` gives the terminal back however the program ends.

mod draw;
mod keys;
mod screen;
mod window;

use crate::app::App;
use crate::logging;
use crate::settings::Settings;
use crate::terminal;
use crate::view::{Facts, Model};
use crate::wake::Wake;
use draw::Look;
use screen::Screen;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use window::Window;

/// Between two looks while something is under way.
const BUSY: Duration = Duration::from_millis(250);

/// Between two looks at what nobody tells: how quick links are, and whether a peer uses this node.
const IDLE: Duration = Duration::from_secs(1);

/// News that come one after the other are shown together.
const TOGETHER: Duration = Duration::from_millis(50);

/// The view; dropping it gives the terminal back and prints what was logged meanwhile.
#[derive(Debug)]
pub struct Live {
    ends: Arc<Ends>,
    news: Arc<Wake>,
    window: Option<Window>,
    thread: Option<JoinHandle<()>>,
}

/// How the view hears that it is over.
#[derive(Debug, Default)]
struct Ends {
    closing: AtomicBool,
    wake: Wake,
}

impl Live {
    /// Shows the node, whose API is at `url`, unless nobody looks: without a terminal, or with
    /// `--disable-tui`, there are plain lines.
    #[must_use]
    pub fn start(settings: &Settings, app: &Arc<App>, url: String) -> Option<Self> {
        if !settings.live_view
            || settings.stop_with_stdin
            || !terminal::takes_pictures()
            || !terminal::in_foreground()
        {
            return None;
        }
        let screen = match screen::take() {
            Ok(screen) => screen,
            Err(error) => {
                tracing::debug!("no live view: {error}");
                return None;
            }
        };
        let news = Arc::new(Wake::default());
        logging::to_view(Arc::clone(&news));
        app.events().watch(&news);
        keys::listen(Arc::clone(&news));
        let ends = Arc::new(Ends::default());
        let (app, heard, ending) = (Arc::clone(app), Arc::clone(&news), Arc::clone(&ends));
        let show = move || show(screen, &app, &url, &heard, &ending);
        let thread = thread::Builder::new().name("view".to_owned()).spawn(show);
        Some(Self {
            ends,
            window: Window::watch(Arc::clone(&news)),
            news,
            thread: thread.ok(),
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.ends.closing.store(true, Ordering::SeqCst);
        self.ends.wake.ring();
        self.news.ring();
        self.window = None;
        if let Some(thread) = self.thread.take() {
            // Whatever it panicked of was printed.
            let _ = thread.join();
        }
        screen::give_back();
        logging::to_terminal();
    }
}

fn show(mut screen: Screen, app: &App, url: &str, news: &Wake, ends: &Ends) {
    let look = Look {
        colours: terminal::Style::stdout().colours(),
    };
    let mut model = Model::default();
    let mut shown = None;
    while !ends.closing.load(Ordering::SeqCst) && screen::is_taken() {
        let facts = Facts::of(app);
        let view = model.look(Instant::now(), &facts);
        let lines = logging::lines();
        let size = screen.size().ok();
        let all = Some((view, lines, size));
        if all != shown {
            shown = all;
            if let Some((view, lines, _)) = &shown
                && draw(&mut screen, |frame| {
                    draw::draw(frame, view, url, lines, look)
                })
                .is_err()
            {
                // The terminal is gone; the node is not.
                return;
            }
        }
        if Model::busy(&facts) {
            ends.wake.wait(Some(BUSY));
            continue;
        }
        let alone = facts.nodes.len() < 2 && cfg!(unix);
        news.wait((!alone).then_some(IDLE));
        ends.wake.wait(Some(TOGETHER));
    }
}

fn draw(screen: &mut Screen, with: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
    screen.draw(with).map(|_| ())
}
