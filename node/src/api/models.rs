//! Models: what there is, and what is fetched and removed.

use super::error::ApiError;
use super::http::Reply;
use crate::app::App;
use crate::downloads::{BeginError, DownloadState, Item};
use crate::library::{Listed, Place};
use exo_models::hub::{HubError, HubName, Part};
use exo_protocol::Command;
use exo_protocol::wire::{self, Download};
use serde_json::{Value, json};

/// The models that can be asked, in OpenAI's shape.
pub(super) fn list(app: &App) -> Value {
    let models = all(app);
    let models: Vec<Value> = models.iter().map(|listed| shown(app, listed)).collect();
    json!({"object": "list", "data": models})
}

/// One of them.
pub(super) fn one(app: &App, id: &str) -> Result<Value, ApiError> {
    let listed = all(app).into_iter().find(|listed| listed.id == id);
    let listed = listed.ok_or_else(|| not_here(id))?;
    Ok(shown(app, &listed))
}

pub(super) fn not_here(id: &str) -> ApiError {
    ApiError::new(404, "model_not_found", format!("model {id:?} is not here")).with_param("model")
}

/// What is here, and what would be fetched when it is asked for.
pub(super) fn all(app: &App) -> Vec<Listed> {
    let mut list = app.library().list();
    let shards = app.status().shards;
    for listed in &mut list {
        if shards.iter().any(|shard| shard.model.as_str() == listed.id) {
            listed.place = Place::Loaded;
        }
    }
    if app.fetches() {
        list.extend(app.library().remote(&list));
    }
    list
}

fn shown(app: &App, listed: &Listed) -> Value {
    let cache = &app.downloads().hub().options().cache;
    let removable = listed.path.as_ref();
    let removable = removable.is_some_and(|path| path.starts_with(cache));
    json!({
        "id": listed.id,
        "object": "model",
        "created": 0,
        "owned_by": "exo",
        "ready": listed.place != Place::Remote,
        "layers": listed.layers,
        "bytes": listed.bytes,
        "exo": {
            "state": listed.place.word(),
            "bytes": (listed.bytes > 0).then_some(listed.bytes),
            "context": listed.context,
            "removable": removable,
        },
    })
}

/// What comes, came, or failed to come since this node began; and what its peers say of theirs.
pub(super) fn downloads(app: &App) -> Value {
    let items: Vec<Value> = app.downloads().list().iter().map(item_json).collect();
    let status = app.status();
    let ring = status.told_downloads().map(|(node, download)| {
        let mut told = ring_json(download);
        told["node_id"] = json!(node.as_str());
        told
    });
    json!({"downloads": items, "ring": ring.collect::<Value>()})
}

/// A download of whichever node in the API's shape.
pub(super) fn ring_json(download: &Download) -> Value {
    let shard = &download.shard;
    let error = match &download.state {
        wire::DownloadState::Failed(error) => Some(error),
        _ => None,
    };
    json!({
        "model": shard.model.as_str(),
        // Of all layers nobody has to know how many there are.
        "layers": (shard.layers > 0).then(|| json!({
            "start": shard.start,
            "end": shard.end,
            "layers": shard.layers,
        })),
        "state": DownloadState::of(&download.state).word(),
        "bytes": download.done,
        "total": download.total,
        "bytes_per_second": download.speed,
        "error": error,
    })
}

/// A download in the API's shape.
pub(super) fn item_json(item: &Item) -> Value {
    json!({
        "model": item.model,
        "state": item.state.word(),
        "bytes": item.bytes,
        "total": item.total,
        "bytes_per_second": item.speed.map_or(0, |speed| speed as u64),
        "error": item.error.as_ref().map(|error| error.to_string()),
        "code": item.error.as_ref().map(|error| code(error).1),
    })
}

/// Begins a download of a whole model.
pub(super) fn begin(app: &App, body: &[u8]) -> Result<Reply, ApiError> {
    let object = super::fields::body(body)?;
    let model = super::fields::Fields::new(&object).wanted("model")?;
    let item = app
        .downloads()
        .begin(&model, Part::All)
        .map_err(|error| begin_error(&error))?;
    Ok(Reply::json(202, &item_json(&item)))
}

/// Stops a download.
pub(super) fn cancel(app: &App, model: &str) -> Result<Reply, ApiError> {
    let item = app.downloads().cancel(model).ok_or_else(|| {
        let message = format!("nothing of {model:?} is being downloaded");
        ApiError::new(404, "download_not_found", message)
    })?;
    Ok(Reply::json(200, &item_json(&item)))
}

/// Removes a model from the disk.
pub(super) fn remove(app: &App, id: &str) -> Result<Reply, ApiError> {
    let status = app.status();
    let used = status.requests.iter().any(|request| {
        let mut ring = request.ring.iter();
        ring.any(|stage| stage.shard.model.as_str() == id)
    });
    if used {
        let message = format!("{id} answers a request right now; try again when that is over");
        return Err(ApiError::new(409, "model_in_use", message).with_param("model"));
    }
    let under_way = app.downloads().under_way();
    if under_way.iter().any(|item| item.model == id) {
        let message = format!("{id} is being downloaded; DELETE /v1/downloads/{id} stops that");
        return Err(ApiError::new(409, "model_in_use", message).with_param("model"));
    }
    if let Some(path) = app.library().elsewhere(id, app.downloads().hub()) {
        return Err(hub_error(&HubError::OutsideCache {
            name: id.to_owned(),
            path,
            cache: app.downloads().hub().options().cache.clone(),
        }));
    }
    let name = HubName::parse(id).map_err(|error| hub_error(&error))?;
    // A node that does not listen gives it back later.
    let _ = app.command(Command::Unload { model: id.into() });
    let removed = app.downloads().hub().remove(&name);
    let removed = removed.map_err(|error| hub_error(&error))?;
    app.library().forget(id);
    tracing::info!("{id} was removed from the disk");
    // OpenAI's words and the Python nodes'.
    Ok(Reply::json(
        200,
        &json!({
            "id": id,
            "object": "model",
            "deleted": true,
            "bytes": removed.bytes,
            "status": "success",
            "message": format!("Model {id} deleted successfully"),
        }),
    ))
}

/// A download that was not begun.
pub(super) fn begin_error(error: &BeginError) -> ApiError {
    match error {
        BeginError::Hub(error) => hub_error(error),
        BeginError::Full => ApiError::new(429, "too_many_downloads", error.to_string()),
        BeginError::Thread(_) => ApiError::new(503, "busy", error.to_string()),
    }
}

/// A download that came to nothing.
pub(super) fn failed(item: &Item) -> ApiError {
    match (&item.error, item.state) {
        (Some(error), _) => hub_error(error),
        (None, DownloadState::Cancelled) => hub_error(&HubError::Cancelled),
        (None, _) => super::opening::later(item),
    }
}

/// What a failure of the hub, its cache, or the disk is to a client.
pub(super) fn hub_error(error: &HubError) -> ApiError {
    let (status, code) = code(error);
    let told = ApiError::new(status, code, error.to_string());
    match status {
        400 | 403 | 404 | 409 => told.with_param("model"),
        _ => told,
    }
}

fn code(error: &HubError) -> (u16, &'static str) {
    match error {
        HubError::Name { .. }
        | HubError::NoRepository { .. }
        | HubError::NoFile { .. }
        | HubError::NotCached { .. } => (404, "model_not_found"),
        HubError::BuiltIn(_) => (400, "model_built_in"),
        HubError::Choose { .. } => (400, "several_models"),
        HubError::NoWeights { .. } => (400, "unsupported_model"),
        HubError::Offline { .. } => (403, "downloads_disabled"),
        HubError::Gated { .. } => (403, "model_gated"),
        HubError::Forbidden { .. } => (403, "hub_forbidden"),
        HubError::OutsideCache { .. } => (409, "model_elsewhere"),
        HubError::Busy { .. } => (409, "model_in_use"),
        HubError::Cancelled => (409, "download_cancelled"),
        HubError::DiskFull { .. } => (507, "disk_full"),
        HubError::Hash { .. } | HubError::Length { .. } => (502, "download_damaged"),
        HubError::Status { .. }
        | HubError::Connection { .. }
        | HubError::Tls { .. }
        | HubError::Answer { .. }
        | HubError::Cut { .. } => (502, "hub_unreachable"),
        HubError::Setting { .. } => (500, "hub_settings"),
        HubError::Model(_) => (500, "model_broken"),
        _ => (500, "internal_error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_status() {
        let gated = HubError::Gated {
            repo: "me/tiny".into(),
            url: "http://hub/me/tiny".into(),
            token: false,
        };
        let full = HubError::DiskFull {
            folder: "/x".into(),
            needed: Some(2_000_000_000),
            free: 1_000_000,
        };
        for (error, wanted) in [
            (gated, (403, "model_gated")),
            (full, (507, "disk_full")),
            (HubError::Cancelled, (409, "download_cancelled")),
        ] {
            let told = hub_error(&error);
            assert_eq!((told.status, told.code), (wanted.0, Some(wanted.1)));
            assert_eq!(told.message, error.to_string());
        }
    }
}
