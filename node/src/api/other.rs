//! Models as the Python nodes and Ollama's API have them: their routes, their shapes.

use super::error::ApiError;
use super::fields::{Fields, body};
use super::http::{Client, Reply, Request, Responder};
use super::{models, ollama, views};
use crate::app::App;
use crate::downloads::{DownloadState, Item};
use crate::library::{Listed, Place};
use exo_models::hub::{HubName, Part};
use exo_models::{ToolFormat, registry};
use exo_protocol::wire::Download;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two lines about a download.
const EVERY: Duration = Duration::from_millis(250);

/// What a path has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// Ollama's `/api/version`.
    Version,
    /// Ollama's `/api/ps`: what is loaded.
    Loaded,
    /// Ollama's `/api/show`.
    Show,
    /// Ollama's `/api/pull`.
    Pull,
    /// Ollama's `/api/delete`.
    Delete,
    /// The Python nodes' `/initial_models`.
    Initial,
    /// Their `/modelpool`.
    Pool,
    /// Their `/v1/download/progress`.
    Progress,
    /// Their `/download`.
    Download,
}

impl Other {
    pub(super) fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/api/version" => Self::Version,
            "/api/ps" => Self::Loaded,
            "/api/show" => Self::Show,
            "/api/pull" => Self::Pull,
            "/api/delete" => Self::Delete,
            "/initial_models" => Self::Initial,
            "/modelpool" => Self::Pool,
            "/v1/download/progress" => Self::Progress,
            "/download" => Self::Download,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Version => "/api/version",
            Self::Loaded => "/api/ps",
            Self::Show => "/api/show",
            Self::Pull => "/api/pull",
            Self::Delete => "/api/delete",
            Self::Initial => "/initial_models",
            Self::Pool => "/modelpool",
            Self::Progress => "/v1/download/progress",
            Self::Download => "/download",
        }
    }

    pub(super) fn allows(self) -> &'static str {
        match self {
            Self::Show | Self::Pull | Self::Download => "POST",
            Self::Delete => "DELETE",
            _ => "GET, HEAD",
        }
    }

    /// Whether it is Ollama's, errors included.
    pub(super) fn is_ollamas(self) -> bool {
        self.name().starts_with("/api/")
    }

    /// Whether it goes on for long.
    pub(super) fn watches(self) -> bool {
        self == Self::Pull
    }
}

/// Answers one request.
pub(super) fn handle(
    app: &App,
    request: &Request,
    responder: Responder,
    route: Other,
) -> io::Result<()> {
    if route == Other::Pull {
        return pull(app, request, responder);
    }
    let reply = match answer(app, &request.body, route) {
        Ok(reply) => reply,
        Err(error) if route.is_ollamas() => ollama::refuse(&error),
        Err(error) => error.reply_with(&json!({"error": error.message})),
    };
    responder.send(&reply)
}

fn answer(app: &App, bytes: &[u8], route: Other) -> Result<Reply, ApiError> {
    let value = match route {
        Other::Version => json!({"version": env!("CARGO_PKG_VERSION")}),
        Other::Loaded => {
            // If nobody uses it from now on.
            let expires = SystemTime::now().checked_add(app.keep_alive());
            let expires = expires.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let expires = expires.map(|at| ollama::rfc3339(at.as_secs()));
            let loaded = models::all(app).into_iter();
            let loaded = loaded.filter(|listed| listed.place == Place::Loaded);
            let loaded = loaded.map(|listed| {
                json!({
                    "name": listed.id,
                    "model": listed.id,
                    "size": listed.bytes,
                    // Where it lies is the engine's business.
                    "size_vram": 0,
                    "digest": ollama::digest(&listed),
                    "expires_at": expires,
                    "context_length": listed.context,
                    "details": {},
                })
            });
            json!({"models": loaded.collect::<Vec<_>>()})
        }
        Other::Show => show(app, &named(bytes)?)?,
        Other::Delete => {
            models::remove(app, &named(bytes)?)?;
            json!({})
        }
        Other::Initial => initial(app),
        Other::Pool => return Ok(pool(app)),
        Other::Progress => {
            let status = app.status();
            let told = status.downloading();
            let told = told.map(|(node, download)| (node.to_string(), progress(download)));
            // One of each node, as there: the last.
            Value::Object(told.collect())
        }
        Other::Download | Other::Pull => {
            let model = named(bytes)?;
            let begun = app.downloads().begin(&model, Part::All);
            begun.map_err(|error| models::begin_error(&error))?;
            let message = format!("Download started for model: {model}");
            json!({"status": "success", "message": message})
        }
    };
    Ok(Reply::json(200, &value))
}

/// The model that a body names, in either of Ollama's ways.
fn named(bytes: &[u8]) -> Result<String, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    let model = fields.text("model")?;
    let model = match model.filter(|model| !model.is_empty()) {
        Some(model) => Some(model),
        None => fields.text("name")?,
    };
    let model = model.filter(|model| !model.is_empty());
    model.ok_or_else(|| ApiError::field("model", "model parameter is required"))
}

fn show(app: &App, id: &str) -> Result<Value, ApiError> {
    if !models::all(app).iter().any(|listed| listed.id == id) {
        return Err(models::not_here(id));
    }
    let mut capabilities = vec!["completion"];
    // What is on the hub only, or the dummy engine's, has no files to look into.
    let Ok(model) = app.library().model(id) else {
        return Ok(json!({"details": {}, "model_info": {}, "capabilities": capabilities}));
    };
    if let Ok(template) = model.chat_template()
        && template.tool_format() != ToolFormat::Explained
    {
        capabilities.push("tools");
    }
    let config = model.config();
    // GGUF calls them so, but for the dialects of one family.
    let family = format!("{:?}", config.family).to_ascii_lowercase();
    let mut info = Map::new();
    info.insert("general.architecture".to_owned(), json!(family));
    for (key, number) in [
        ("context_length", json!(config.context)),
        ("block_count", json!(config.layers)),
        ("embedding_length", json!(config.hidden)),
        ("attention.head_count", json!(config.heads)),
        ("attention.head_count_kv", json!(config.kv_heads)),
        ("vocab_size", json!(config.vocab)),
    ] {
        info.insert(format!("{family}.{key}"), number);
    }
    Ok(json!({
        "details": {"family": family, "families": [family]},
        "model_info": info,
        "capabilities": capabilities,
    }))
}

/// Ollama's lines about a download, or one object at its end. Who hangs up wants it no more.
fn pull(app: &App, request: &Request, responder: Responder) -> io::Result<()> {
    let begun = named(&request.body).and_then(|model| {
        let streams = Fields::new(&body(&request.body)?).boolean("stream")?;
        let begun = app.downloads().follow(&model, Part::All);
        let following = begun.map_err(|error| models::begin_error(&error))?;
        Ok((following, streams.unwrap_or(true)))
    });
    let (following, streams) = match begun {
        Ok(begun) => begun,
        Err(error) => return responder.send(&ollama::refuse(&error)),
    };
    if !streams {
        return match follow(app, &request.client, following.item(), &mut |_| Ok(()))? {
            Ok(()) => responder.send(&Reply::json(200, &json!({"status": "success"}))),
            Err(error) => responder.send(&ollama::refuse(&error)),
        };
    }
    let mut out = responder.stream("application/x-ndjson")?;
    let mut line = |value: &Value| {
        out.write_all(format!("{value}\n").as_bytes())?;
        out.flush()
    };
    line(&json!({"status": "pulling manifest"}))?;
    let mut told = |item: &Item| match item.total {
        0 => Ok(()),
        total => line(&json!({
            "status": format!("pulling {}", item.model),
            // Clients draw one bar for each of these, and none without.
            "digest": item.model,
            "completed": item.bytes,
            "total": total,
        })),
    };
    match follow(app, &request.client, following.item(), &mut told)? {
        Ok(()) => line(&json!({"status": "success"})),
        Err(error) => line(&json!({"error": error.message})),
    }
}

/// Waits for the end of a download, as long as its client and the node do.
fn follow(
    app: &App,
    client: &Client,
    item: &Item,
    told: &mut dyn FnMut(&Item) -> io::Result<()>,
) -> io::Result<Result<(), ApiError>> {
    let mut last = None;
    loop {
        let now = match app.downloads().wait(item.number, EVERY) {
            // It is over for so long that it is forgotten.
            None => return Ok(Ok(())),
            Some(now) if now.state == DownloadState::Done => {
                told(&now)?;
                return Ok(Ok(()));
            }
            Some(now) if now.is_over() => return Ok(Err(models::failed(&now))),
            Some(now) => now,
        };
        if client.gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if app.events().is_stopping() {
            let message = format!("the node ends; what has come of {} is kept", now.model);
            return Ok(Err(ApiError::new(503, "stopping", message)));
        }
        if last.replace((now.bytes, now.total)) != Some((now.bytes, now.total)) {
            told(&now)?;
        }
    }
}

fn initial(app: &App) -> Value {
    let pretty = |id: &str| registry::find(id).and_then(|entry| entry.pretty);
    let models = models::all(app).into_iter().map(|listed| {
        let name = pretty(&listed.id).unwrap_or(&listed.id).to_owned();
        let value = json!({
            "name": name,
            "downloaded": null,
            "download_percentage": null,
            "total_size": null,
            "total_downloaded": null,
            "loading": true,
        });
        (listed.id, value)
    });
    Value::Object(models.collect())
}

/// One event for each model, from what is known here: the hub is not asked.
fn pool(app: &App) -> Reply {
    let items = app.downloads().list();
    let mut text = String::new();
    for listed in models::all(app) {
        let value = pooled(&listed, &items);
        text += &format!("data: {}\n\n", json!({ listed.id: value }));
    }
    text += "data: [DONE]\n\n";
    let mut reply = Reply::json(200, &Value::Null);
    reply.content_type = "text/event-stream";
    reply.body = text.into_bytes();
    reply
}

fn pooled(listed: &Listed, items: &[Item]) -> Value {
    let item = items.iter().find(|item| item.model == listed.id);
    let whole = matches!(listed.place, Place::Local | Place::Loaded);
    let (done, total) = match item.filter(|_| !whole) {
        Some(item) => (item.bytes, item.total),
        None if whole => (listed.bytes, listed.bytes),
        None => (0, listed.bytes),
    };
    let percentage = match (whole, total) {
        (true, _) => 100.0,
        (false, 0) => 0.0,
        (false, total) => done as f64 * 100.0 / total as f64,
    };
    json!({
        "downloaded": whole,
        "download_percentage": percentage,
        "total_size": total,
        "total_downloaded": done,
    })
}

/// A download as the Python nodes tell it, their names of repositories included.
fn progress(download: &Download) -> Value {
    let mut told = views::value(&download.to_progress());
    if let Ok(name) = HubName::parse(&download.shard.model) {
        told["repo_id"] = json!(name.repo);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::Shard;

    #[test]
    fn the_pool_tells_how_much_is_here() {
        let mut listed = Listed {
            id: "me/tiny".to_owned(),
            layers: 4,
            bytes: 1000,
            context: None,
            place: Place::Partial,
            path: None,
        };
        let item = Item {
            number: 1,
            model: "me/tiny".to_owned(),
            shard: Shard::new("me/tiny".into(), 0..2, 4).unwrap(),
            state: DownloadState::Downloading,
            bytes: 500,
            total: 2000,
            speed: Some(100.0),
            left: Some(Duration::from_secs(15)),
            error: None,
        };
        let pool = |listed: &Listed, items: &[Item]| {
            let told = pooled(listed, items);
            let numbers = ["download_percentage", "total_downloaded", "total_size"];
            (
                told["downloaded"] == true,
                numbers.map(|name| told[name].as_f64().unwrap()),
            )
        };
        let items = [item];
        assert_eq!(pool(&listed, &items), (false, [25.0, 500.0, 2000.0]));
        assert_eq!(pool(&listed, &[]), (false, [0.0, 0.0, 1000.0]));
        listed.place = Place::Loaded;
        assert_eq!(pool(&listed, &items), (true, [100.0, 1000.0, 1000.0]));
        (listed.place, listed.bytes) = (Place::Remote, 0);
        assert_eq!(pool(&listed, &[]), (false, [0.0; 3]));

        let [item] = items;
        let told = progress(&item.to_ring());
        assert_eq!(told["repo_id"], "me/tiny");
        assert_eq!(
            (&told["overall_speed"], &told["overall_eta"]),
            (&json!(100.0), &json!(15.0))
        );
    }

    #[test]
    fn a_model_has_a_name_in_either_way() {
        for (body, wanted) in [
            (r#"{"model": "a"}"#, Some("a")),
            (r#"{"name": "a"}"#, Some("a")),
            (r#"{"model": "", "name": "b"}"#, Some("b")),
            (r#"{"model": 1}"#, None),
            (r#"{"name": ""}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(named(body.as_bytes()).ok().as_deref(), wanted, "{body}");
        }
    }
}
