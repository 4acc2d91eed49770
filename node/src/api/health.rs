//! Whether this node can answer, for whoever sends it clients.

use super::http::Reply;
use crate::app::App;
use crate::library::LibraryError;
use crate::plan;
use serde_json::json;

/// 200 when a request would be taken now, else 503 and every reason why not.
pub(super) fn ready(app: &App) -> Reply {
    let reasons = reasons(app);
    if reasons.is_empty() {
        return Reply::json(200, &json!({"status": "ready"}));
    }
    Reply::json(503, &json!({"status": "not ready", "reasons": reasons}))
}

/// Whoever asks has got here, so the API is up, and a node has an engine before it has an API.
fn reasons(app: &App) -> Vec<String> {
    let mut reasons = Vec::new();
    if app.status().stopping {
        reasons.push("this node is leaving".to_owned());
        return reasons;
    }
    match app.library().speaker(None) {
        Ok(speaker) => {
            let question = plan::question(&speaker, plan::USUAL);
            if let Err(error) = app.placement(&question) {
                reasons.push(format!("{}: {error}", speaker.id()));
            }
        }
        // Nobody said which model is the default one, and the usual ones are not here: clients name theirs.
        Err(LibraryError::NotFound { .. }) if !app.library().has_default() => {}
        Err(error) => reasons.push(error.to_string()),
    }
    reasons
}
