//! Which path does what.

use super::access::{Access, Door};
use super::error::ApiError;
use super::http::{REQUEST_ID, Reply, Request, Responder};
use super::mark::Account;
use super::other::{self, Other};
use super::service::{Lane, Service};
use super::{
    anthropic, chat, completions, encode, health, live, models, ollama, responses, views, web,
};
use crate::app::App;
use crate::metrics;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// What a path has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// A file of the web chat; the page itself if none is named.
    Web(Option<&'a str>),
    /// The ring as it changes.
    Events,
    Health,
    Live,
    Ready,
    Metrics,
    /// Of a request.
    Trace(&'a str),
    Models,
    Model(&'a str),
    Downloads,
    Download(&'a str),
    Topology,
    Status,
    /// Of a model, or of the default one.
    Plan(Option<&'a str>),
    Tags,
    /// Models in the words of other APIs.
    Other(Other),
    Post(Post),
}

/// What takes a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Post {
    Chat,
    Completions,
    Messages,
    CountTokens,
    Responses,
    Ollama(ollama::Kind),
    Encode,
    Quit,
}

impl<'a> Route<'a> {
    fn find(path: &'a str) -> Option<Self> {
        if let Some(other) = Other::find(path) {
            return Some(Self::Other(other));
        }
        Some(match path {
            "/" => Self::Web(None),
            "/v1/events" => Self::Events,
            "/health" | "/healthcheck" => Self::Health,
            "/health/live" => Self::Live,
            "/health/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/models" | "/v1/models" => Self::Models,
            "/downloads" | "/v1/downloads" => Self::Downloads,
            "/topology" | "/v1/topology" => Self::Topology,
            "/status" | "/v1/status" => Self::Status,
            "/plan" | "/v1/plan" => Self::Plan(None),
            "/chat/completions" | "/v1/chat/completions" => Self::Post(Post::Chat),
            "/completions" | "/v1/completions" => Self::Post(Post::Completions),
            "/v1/messages" => Self::Post(Post::Messages),
            "/v1/messages/count_tokens" => Self::Post(Post::CountTokens),
            "/responses" | "/v1/responses" => Self::Post(Post::Responses),
            "/api/chat" => Self::Post(Post::Ollama(ollama::Kind::Chat)),
            "/api/generate" => Self::Post(Post::Ollama(ollama::Kind::Generate)),
            "/api/tags" => Self::Tags,
            "/chat/token/encode" | "/v1/chat/token/encode" => Self::Post(Post::Encode),
            "/quit" => Self::Post(Post::Quit),
            _ => {
                if let Some(name) = path.strip_prefix("/web/") {
                    return Some(Self::Web(Some(name)));
                }
                let path = path.strip_prefix("/v1").unwrap_or(path);
                if let Some(id) = path.strip_prefix("/plan/") {
                    Self::Plan(Some(id))
                } else if let Some(id) = path.strip_prefix("/trace/") {
                    Self::Trace(id)
                } else if let Some(id) = path.strip_prefix("/downloads/") {
                    Self::Download(id)
                } else {
                    Self::Model(path.strip_prefix("/models/")?)
                }
            }
        })
    }

    fn allows(self) -> &'static str {
        match self {
            Self::Post(_) => "POST",
            Self::Other(other) => other.allows(),
            Self::Model(_) => "GET, HEAD, DELETE",
            Self::Downloads => "GET, HEAD, POST",
            Self::Download(_) => "DELETE",
            Self::Events => "GET",
            _ => "GET, HEAD",
        }
    }

    /// What replies are counted under: one word for each kind, however many paths it has.
    fn name(self) -> &'static str {
        match self {
            Self::Web(_) => "/",
            Self::Events => "/v1/events",
            Self::Health => "/healthcheck",
            Self::Live => "/health/live",
            Self::Ready => "/health/ready",
            Self::Metrics => "/metrics",
            Self::Trace(_) => "/v1/trace/{id}",
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
            Self::Downloads => "/v1/downloads",
            Self::Download(_) => "/v1/downloads/{id}",
            Self::Topology => "/v1/topology",
            Self::Status => "/v1/status",
            Self::Plan(_) => "/v1/plan",
            Self::Tags => "/api/tags",
            Self::Other(other) => other.name(),
            Self::Post(Post::Chat) => "/v1/chat/completions",
            Self::Post(Post::Completions) => "/v1/completions",
            Self::Post(Post::Messages) => "/v1/messages",
            Self::Post(Post::CountTokens) => "/v1/messages/count_tokens",
            Self::Post(Post::Responses) => "/v1/responses",
            Self::Post(Post::Ollama(ollama::Kind::Chat)) => "/api/chat",
            Self::Post(Post::Ollama(ollama::Kind::Generate)) => "/api/generate",
            Self::Post(Post::Encode) => "/v1/chat/token/encode",
            Self::Post(Post::Quit) => "/quit",
        }
    }

    /// What keeps strangers out.
    fn door(self) -> Door {
        match self {
            Self::Health | Self::Live | Self::Ready => Door::Open,
            Self::Web(_) => Door::Public,
            _ => Door::Locked,
        }
    }

    /// The line that it stands in.
    fn lane(self) -> Lane {
        match self {
            Self::Post(Post::Quit) => Lane::Quick,
            Self::Events => Lane::Watch,
            Self::Other(other) if other.watches() => Lane::Watch,
            Self::Post(_) => Lane::Answer,
            _ => Lane::Quick,
        }
    }
}

/// The API of one node.
pub(super) struct Routes {
    pub(super) app: Arc<App>,
    pub(super) access: Access,
}

impl Routes {
    /// A reply that no worker gives: counted and named as theirs are, and readable where theirs are.
    fn dressed(&self, request: &Request, reply: Reply) -> Reply {
        let name = Route::find(&request.path).map_or("other", Route::name);
        let metrics = self.app.events().metrics();
        Account::new(Arc::clone(metrics), name).replied(reply.status);
        tracing::debug!("{} {}: {}", request.method, request.path, reply.status);
        let reply = reply.with_header(REQUEST_ID, request.mark.id());
        let headers = self.access.headers(request).into_iter();
        headers.fold(reply, |reply, (name, value)| reply.with_header(name, value))
    }
}

impl Service for Routes {
    fn admit(&self, request: &Request) -> Result<Lane, Reply> {
        let route = check(&self.access, request);
        route
            .map(Route::lane)
            .map_err(|reply| self.dressed(request, reply))
    }

    fn opened(&self, look: metrics::LookAtCrowd) {
        self.app.events().metrics().clients_wait(look);
    }

    fn answer(&self, request: Request, responder: Responder) {
        let headers = self.access.headers(&request).into_iter();
        let responder = headers.fold(responder, |responder, (name, value)| {
            responder.with_header(name, value)
        });
        handle(&self.app, &request, responder);
    }

    fn refuse(&self, request: &Request, error: &ApiError) -> Reply {
        self.dressed(request, refuse(&request.path, error))
    }
}

/// An error in the words of the API that a path belongs to, also where that has more than is here.
fn refuse(path: &str, error: &ApiError) -> Reply {
    let is_under = |folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_under("/v1/messages") {
        anthropic::refuse(error)
    } else if is_under("/api") {
        ollama::refuse(error)
    } else {
        error.to_reply()
    }
}

/// Answers one request that was admitted.
fn handle(app: &App, request: &Request, mut responder: Responder) {
    // Every line that this thread logs from here on says which request it is about.
    let span = tracing::info_span!("request", id = request.mark.id());
    let _in_span = span.enter();
    let metrics = app.events().metrics();
    let name = Route::find(&request.path).map_or("other", Route::name);
    responder.count(Account::new(Arc::clone(metrics), name));
    let _under_way = metrics.under_way(name);
    tracing::debug!(
        "{} {} from {}",
        request.method,
        request.path,
        request.client.address
    );
    let result = match Route::find(&request.path) {
        Some(Route::Post(Post::Chat)) => return chat::handle(app, request, responder),
        Some(Route::Post(Post::Completions)) => {
            return completions::handle(app, request, responder);
        }
        Some(Route::Post(Post::Messages)) => return anthropic::handle(app, request, responder),
        Some(Route::Post(Post::Responses)) => return responses::handle(app, request, responder),
        Some(Route::Post(Post::Ollama(kind))) => {
            return ollama::handle(app, request, responder, kind);
        }
        Some(Route::Post(Post::CountTokens)) => {
            let counted = anthropic::count(app, &request.body);
            responder.send(&counted.unwrap_or_else(|error| anthropic::refuse(&error)))
        }
        Some(Route::Post(Post::Encode)) => {
            let encoded = encode::handle(app, &request.body);
            responder.send(&encoded.unwrap_or_else(|error| error.to_reply()))
        }
        Some(Route::Other(other)) => other::handle(app, request, responder, other),
        Some(Route::Post(Post::Quit)) => return quit(app, request, responder),
        Some(route) if changes(request) => {
            let done = change(app, route, request);
            responder.send(&done.unwrap_or_else(|error| error.to_reply()))
        }
        Some(Route::Events) => return live::handle(app, &request.client, responder),
        Some(Route::Web(name)) => {
            let file = web::file(name, request.header("If-None-Match"));
            responder.send(&file.unwrap_or_else(|error| error.to_reply()))
        }
        Some(route) => responder.send(&read(app, route).unwrap_or_else(|error| error.to_reply())),
        None => responder.send(&nothing(request)),
    };
    if let Err(error) = result {
        tracing::debug!("{} went away: {error}", request.client.address);
    }
}

fn nothing(request: &Request) -> Reply {
    let message = format!("there is nothing at {}", request.path);
    let error = ApiError::new(404, "not_found", message);
    refuse(&request.path, &error)
}

/// Which route a request is for, if it may use it.
fn check<'a>(access: &Access, request: &'a Request) -> Result<Route<'a>, Reply> {
    let route = Route::find(&request.path);
    let allowed = route.map_or("", Route::allows);
    // Browsers ask without a key.
    if let Some(reply) = access.preflight(request, allowed) {
        return Err(reply);
    }
    let door = route.map_or(Door::Locked, Route::door);
    access
        .check(request, door, changes(request))
        .map_err(|error| {
            let reply = refuse(&request.path, &error);
            match error.status {
                401 => reply.with_header("WWW-Authenticate", "Bearer"),
                _ => reply,
            }
        })?;
    let route = route.ok_or_else(|| nothing(request))?;
    if !allowed.split(", ").any(|method| method == request.method) {
        let message = format!("{} answers {allowed}", request.path);
        let error = ApiError::new(405, "method_not_allowed", message);
        return Err(refuse(&request.path, &error).with_header("Allow", allowed));
    }
    Ok(route)
}

/// Whether it does more than look.
fn changes(request: &Request) -> bool {
    !matches!(request.method.as_str(), "GET" | "HEAD")
}

/// What is neither asked of a model nor only looked at.
fn change(app: &App, route: Route<'_>, request: &Request) -> Result<Reply, ApiError> {
    match route {
        Route::Downloads => models::begin(app, &request.body),
        Route::Download(id) => models::cancel(app, &plain(id)),
        Route::Model(id) => models::remove(app, &plain(id)),
        _ => read(app, route),
    }
}

/// A name in a path, where clients may write `%2F` for `/`.
fn plain(id: &str) -> Cow<'_, str> {
    if !id.contains('%') {
        return Cow::Borrowed(id);
    }
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(hex.unwrap_or(*first));
        rest = match hex {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// Ends the node as an interrupt would, for who sits at this machine.
fn quit(app: &App, request: &Request, responder: Responder) {
    let local = request.client.address.parse::<SocketAddr>();
    let result = if !local.is_ok_and(|address| address.ip().to_canonical().is_loopback()) {
        let message = "only this machine's own programs may end the node";
        responder.send(&ApiError::new(403, "not_local", message).to_reply())
    } else {
        // First the reply: whoever asked hears it before the node is gone.
        let told = responder.send(&Reply::json(
            200,
            &json!({"detail": "Quit signal received"}),
        ));
        app.quit();
        told
    };
    if let Err(error) = result {
        tracing::debug!("{} went away: {error}", request.client.address);
    }
}

fn read(app: &App, route: Route<'_>) -> Result<Reply, ApiError> {
    Ok(match route {
        Route::Health => Reply::json(200, &json!({"status": "ok"})),
        Route::Models => Reply::json(200, &models::list(app)),
        Route::Model(id) => Reply::json(200, &models::one(app, &plain(id))?),
        Route::Downloads => Reply::json(200, &models::downloads(app)),
        Route::Live => Reply::json(200, &json!({"status": "live"})),
        Route::Ready => health::ready(app),
        Route::Trace(id) => Reply::json(200, &trace(app, id)?),
        Route::Metrics => Reply::text(metrics::CONTENT_TYPE, app.metrics()),
        Route::Topology => Reply::json(200, &views::topology(app)),
        Route::Plan(id) => Reply::json(200, &views::plan(app, id)?),
        Route::Tags => Reply::json(200, &ollama::tags(app)),
        Route::Status
        | Route::Post(_)
        | Route::Other(_)
        | Route::Download(_)
        | Route::Events
        | Route::Web(_) => Reply::json(200, &views::status(app)),
    })
}

/// The way of a request's tokens.
fn trace(app: &App, id: &str) -> Result<Value, ApiError> {
    app.events().traces().json(id).ok_or_else(|| {
        let message = format!(
            "no request {id:?} was traced here lately; send X-Exo-Trace: 1 with one, and look for \
             its X-Request-Id"
        );
        ApiError::new(404, "not_traced", message)
    })
}

#[cfg(test)]
mod tests;
