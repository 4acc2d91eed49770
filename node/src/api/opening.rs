//! From a question to an answer that has begun: the model may have to come first.

use super::error::ApiError;
use super::http::Request;
use super::line::Permit;
use super::models;
use super::serve::refusal;
use crate::answer::Answer;
use crate::app::App;
use crate::ask::{Ask, AskError};
use crate::downloads::{DownloadState, Item};
use std::io;
use std::time::{Duration, Instant};

/// How often a wait looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// Clients that are sent away come back after this at the latest.
const LATEST: Duration = Duration::from_secs(60);

/// Puts a question to the ring, once the model is here. `None` when the client went away.
///
/// While a model comes, `alive` is told how far it is, many times a second. Who is `whole` waits no
/// longer than an answer may take, and hears at once if that will not be enough: clients that see
/// nothing for minutes rather give up. A stream waits as long as an answer may take. `asked_in` is the
/// field that holds the question.
pub(super) fn open(
    app: &App,
    ask: &Ask,
    request: &Request,
    whole: bool,
    asked_in: &str,
    alive: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Option<Result<(Answer, Permit), ApiError>>> {
    let until = Instant::now() + app.answering().timeout;
    let mut came = false;
    loop {
        let permit = match places(app, ask, request, until, alive)? {
            None => return Ok(None),
            Some(Err(error)) => return Ok(Some(Err(error))),
            Some(Ok(permit)) => permit,
        };
        let item = match app.ask(ask, &request.mark) {
            Err(AskError::Downloading(item)) if !came => item,
            Err(error) => return Ok(Some(Err(refusal(&error, asked_in)))),
            Ok(answer) => return Ok(Some(Ok((answer, permit)))),
        };
        // Others may be answered while it comes.
        drop(permit);
        loop {
            let now = app.downloads().wait(item.number, LOOK);
            let now = match now {
                // It is over for so long that it is forgotten.
                None => break,
                Some(now) if now.state == DownloadState::Done => break,
                Some(now) if now.is_over() => return Ok(Some(Err(models::failed(&now)))),
                Some(now) => now,
            };
            if request.client.gone() {
                return Ok(None);
            }
            let time = until.saturating_duration_since(Instant::now());
            if time.is_zero() || whole && now.left.is_some_and(|left| left > time) {
                return Ok(Some(Err(later(&now))));
            }
            alive()?;
        }
        came = true;
    }
}

/// Places for all choices of a question. A worker has one question, but that may have many choices.
fn places(
    app: &App,
    ask: &Ask,
    request: &Request,
    until: Instant,
    alive: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<Option<Result<Permit, ApiError>>> {
    let mut lost = Ok(());
    let permit = app.choices().enter_with(ask.choices.unwrap_or(1), || {
        lost = alive();
        lost.is_err() || request.client.gone() || Instant::now() >= until
    });
    lost?;
    Ok(match permit {
        Ok(permit) => Some(Ok(permit)),
        Err(_) if request.client.gone() => None,
        Err(_) => {
            let message = "others were answered for as long as an answer may take; try again";
            Some(Err(ApiError::new(503, "busy", message)))
        }
    })
}

/// What is said of a model that is still coming.
pub(super) fn later(item: &Item) -> ApiError {
    let message = format!(
        "{} is being downloaded: {}; ask again later (GET /v1/downloads tells how far it is)",
        item.model,
        item.words()
    );
    let wait = item.left.map_or(LATEST, |left| left.min(LATEST));
    ApiError::new(503, "model_downloading", message)
        .with_param("model")
        .retry_after(wait)
}
