//! The ring as it changes, as server-sent events.

use super::error::ApiError;
use super::http::{Client, Responder};
use crate::app::App;
use crate::view::{Facts, Feed};
use crate::wake::Wake;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Between two events: as often as eyes can follow.
const EVERY: Duration = Duration::from_millis(250);

/// Between two looks at what nobody tells, such as how quick links are.
const IDLE: Duration = Duration::from_secs(1);

/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Tells `client` what there is to see, until it goes or the node stops.
pub(super) fn handle(app: &App, client: &Client, responder: Responder) {
    let result = match app.feed().enter() {
        Some(_place) => tell(app, client, responder),
        None => responder.send(&full().to_reply()),
    };
    if let Err(error) = result {
        tracing::debug!("{} went away: {error}", client.address);
    }
}

fn full() -> ApiError {
    let message = format!(
        "{} clients watch this node already; close one of them",
        Feed::MOST
    );
    ApiError::new(429, "too_many_listeners", message)
}

fn tell(app: &App, client: &Client, responder: Responder) -> io::Result<()> {
    let news = Arc::new(Wake::default());
    app.events().watch(&news);
    let mut out = responder.stream("text/event-stream")?;
    let (mut told, mut last) = (0, Instant::now());
    while !client.gone() && !app.events().is_stopping() {
        let look = app.feed().look(Instant::now(), &Facts::of(app));
        let text = if look.version != told {
            format!("event: view\ndata: {}\n\n", look.text)
        } else if last.elapsed() >= KEEP_ALIVE {
            ": nothing new\n\n".to_owned()
        } else {
            String::new()
        };
        if !text.is_empty() {
            out.write_all(text.as_bytes())?;
            out.flush()?;
            (told, last) = (look.version, Instant::now());
        }
        // News that come meanwhile are heard right after.
        thread::sleep(EVERY);
        news.wait(Some(IDLE));
    }
    Ok(())
}
