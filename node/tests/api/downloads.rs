//! Models that are fetched, from a hub on this machine.

use crate::alone::{Node, ask, content};
use crate::server::{Fault, HubServer, On};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const REPO: &str = "me/stories";

struct Setup {
    hub: HubServer,
    cache: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let hub = HubServer::start();
        let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories");
        hub.put_folder(REPO, &stories);
        let cache = tempfile::tempdir().unwrap();
        Self { hub, cache }
    }

    fn node(&self, flags: &str) -> Node {
        Node::with(&format!("--inference-engine cpu {flags}"), |settings| {
            settings.hub.endpoint = self.hub.endpoint();
            settings.hub.cache = self.cache.path().to_owned();
            settings.hub.token = None;
            settings.hub.pause = Duration::from_millis(5);
            settings.hub.stall = Duration::from_secs(60);
        })
    }
}

fn call(node: &Node, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = node.call(method, path, "", &body.to_string());
    (answer.status, answer.json())
}

/// What `look` sees, once that is what is `wanted`.
fn until(look: impl Fn() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{seen}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The download of the model, once `wanted` is true of it.
fn download(node: &Node, wanted: impl Fn(&Value) -> bool) -> Value {
    let look = || node.get("/v1/downloads").json()["downloads"][0].clone();
    until(look, wanted)
}

fn state(node: &Node) -> Value {
    let model = node.get(&format!("/v1/models/{REPO}"));
    match model.status {
        200 => model.json()["exo"]["state"].clone(),
        status => json!(status),
    }
}

#[test]
fn a_model_is_fetched_used_and_removed() {
    let setup = Setup::new();
    let node = setup.node("");
    assert_eq!(state(&node), 404);
    let (status, item) = call(&node, "POST", "/v1/downloads", &json!({"model": REPO}));
    assert_eq!((status, &item["state"]), (202, &json!("downloading")));
    let item = download(&node, |item| item["state"] == "done");
    assert_eq!(
        (&item["model"], &item["error"]),
        (&json!(REPO), &Value::Null)
    );
    assert!(item["total"].as_u64().unwrap() > 100_000 && item["bytes"] == item["total"]);
    let model = node.get(&format!("/v1/models/{REPO}")).json();
    assert_eq!(model["exo"]["state"], "local");
    assert!(model["exo"]["context"].as_u64().unwrap() > 0);
    assert!(model["exo"]["bytes"].as_u64().unwrap() > 100_000);

    let answer = node.chat(&ask("model", json!(REPO)));
    assert!(!content(&answer).is_empty());
    assert_eq!(state(&node), "loaded");

    let path = "/v1/models/me%2Fstories";
    let (status, removed) = call(&node, "DELETE", path, &Value::Null);
    assert_eq!(
        (status, &removed["deleted"]),
        (200, &json!(true)),
        "{removed}"
    );
    assert!(!setup.cache.path().join("models--me--stories").exists());
    assert_eq!(state(&node), 404);
    let (status, told) = call(&node, "DELETE", path, &Value::Null);
    assert_eq!(
        (status, &told["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

#[test]
fn a_model_is_fetched_because_it_is_asked_for() {
    let setup = Setup::new();
    let node = setup.node("");
    let answer = node.chat(&ask("model", json!(REPO)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let built_in = node.chat(&ask("model", json!("stories")));
    assert_eq!(content(&answer), content(&built_in));

    let careful = Setup::new();
    let node = careful.node("--no-download");
    let answer = node.chat(&ask("model", json!(REPO)));
    assert_eq!(
        answer.error(),
        (404, json!("model_not_found"), json!("model"))
    );
    assert_eq!(careful.hub.asked().len(), 0);
}

#[test]
fn a_model_that_nobody_uses_leaves_the_memory() {
    let setup = Setup::new();
    let node = setup.node("--keep-alive 0");
    assert_eq!(node.chat(&ask("model", json!(REPO))).status, 200);
    let begun = Instant::now();
    while state(&node) != "local" {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
    let node = setup.node("--keep-alive forever");
    assert_eq!(node.chat(&ask("model", json!(REPO))).status, 200);
    node.wait_until_idle();
    assert_eq!(state(&node), "loaded");
}

#[test]
fn a_download_is_stopped() {
    let setup = Setup::new();
    let node = setup.node("");
    setup.hub.fault(On::Body, Fault::Stall(1000), 9);
    let (status, _) = call(&node, "POST", "/v1/downloads", &json!({"model": REPO}));
    assert_eq!(status, 202);
    download(&node, |item| item["total"].as_u64() > Some(0));
    let (status, told) = call(&node, "DELETE", &format!("/v1/models/{REPO}"), &Value::Null);
    // Nothing has a name yet, but the download would bring it back.
    assert_eq!(
        (status, &told["error"]["code"]),
        (409, &json!("model_in_use"))
    );
    let path = format!("/v1/downloads/{REPO}");
    let (status, item) = call(&node, "DELETE", &path, &Value::Null);
    assert_eq!((status, &item["state"]), (200, &json!("cancelled")));
    let (status, _) = call(&node, "DELETE", "/v1/downloads/me/other", &Value::Null);
    assert_eq!(status, 404);
}

#[test]
fn what_goes_wrong_reaches_the_client() {
    let setup = Setup::new();
    let node = setup.node("");
    let asked = |model: &str| {
        let answer = node.chat(&ask("model", json!(model)));
        let error = answer.json()["error"].clone();
        (
            answer.status,
            error["code"].clone(),
            error["message"].to_string(),
        )
    };
    let (status, code, message) = asked("me/nothing");
    assert_eq!((status, code), (404, json!("model_not_found")), "{message}");
    assert!(
        message.contains("has no repository me/nothing"),
        "{message}"
    );
    setup.hub.gate(REPO);
    let (status, code, message) = asked(REPO);
    assert_eq!((status, code), (403, json!("model_gated")), "{message}");
    assert!(message.contains("accept its licence"), "{message}");
    let item = download(&node, |item| {
        item["model"] == REPO || item["model"] == "me/nothing"
    });
    assert_eq!(item["state"], "failed");
    assert!(item["error"].is_string());
    for (body, wanted) in [
        (json!({"model": "stories"}), (400, "model_built_in")),
        (
            json!({"model": "no such/name/at all"}),
            (404, "model_not_found"),
        ),
    ] {
        let (status, told) = call(&node, "POST", "/v1/downloads", &body);
        assert_eq!(
            (status, &told["error"]["code"]),
            (wanted.0, &json!(wanted.1))
        );
    }
    let (status, told) = call(&node, "POST", "/v1/downloads", &json!({}));
    assert_eq!((status, &told["error"]["param"]), (400, &json!("model")));
    let (status, told) = call(&node, "DELETE", "/v1/models/stories", &Value::Null);
    assert_eq!(
        (status, &told["error"]["code"]),
        (400, &json!("model_built_in"))
    );
}

#[test]
fn ollamas_clients_fetch_look_and_remove() {
    let setup = Setup::new();
    let node = setup.node("");
    let name = json!({"model": REPO});
    let pulled = node.call("POST", "/api/pull", "", &name.to_string());
    assert_eq!(pulled.status, 200);
    let lines: Vec<Value> = pulled
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], json!({"status": "pulling manifest"}));
    assert_eq!(lines[lines.len() - 1], json!({"status": "success"}));
    let bar = &lines[lines.len() - 2];
    assert_eq!(bar["status"], "pulling me/stories");
    assert_eq!(bar["digest"], REPO);
    assert!(bar["total"].as_u64() > Some(100_000) && bar["completed"] == bar["total"]);

    let (status, told) = call(&node, "POST", "/api/show", &name);
    assert_eq!(status, 200);
    assert_eq!(told["capabilities"], json!(["completion"]));
    let info = &told["model_info"];
    assert_eq!(info["general.architecture"], "llama");
    let context = node.get(&format!("/v1/models/{REPO}")).json()["exo"]["context"].clone();
    assert_eq!(info["llama.context_length"], context);
    assert_eq!(node.get("/api/ps").json()["models"], json!([]));
    assert_eq!(node.chat(&ask("model", json!(REPO))).status, 200);
    let loaded = node.get("/api/ps").json()["models"][0].clone();
    assert_eq!(loaded["name"], REPO);
    // `ollama ps` takes twelve letters of the one, and tells how long it is until the other.
    assert_eq!(
        loaded["digest"].as_str().map(str::len),
        Some(64),
        "{loaded}"
    );
    let tags = node.get("/api/tags").json();
    let known = tags["models"].as_array().unwrap().iter();
    let known: Vec<&Value> = known.map(|model| &model["digest"]).collect();
    assert!(known.contains(&&loaded["digest"]), "{tags}");
    assert!(
        loaded["expires_at"].as_str().unwrap().ends_with('Z'),
        "{loaded}"
    );
    let version = node.get("/api/version").json();
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION")}));

    node.wait_until_idle();
    let removed = call(&node, "DELETE", "/api/delete", &name);
    assert_eq!(removed, (200, json!({})));
    assert!(!setup.cache.path().join("models--me--stories").exists());
    for (method, path) in [("DELETE", "/api/delete"), ("POST", "/api/show")] {
        let (status, told) = call(&node, method, path, &name);
        assert!(status == 404 && told["error"].is_string(), "{path}: {told}");
    }
}

#[test]
fn ollamas_clients_hear_of_a_pull_that_fails() {
    let setup = Setup::new();
    let node = setup.node("");
    let whole = |name: &str| json!({"name": name, "stream": false});
    let (status, told) = call(&node, "POST", "/api/pull", &whole("me/nothing"));
    assert!(status == 404 && told["error"].is_string(), "{told}");
    setup.hub.gate(REPO);
    let (status, told) = call(&node, "POST", "/api/pull", &whole(REPO));
    assert!(status == 403 && told["error"].is_string(), "{told}");
    // Who streams has its status already.
    let pulled = node.call("POST", "/api/pull", "", &json!({"model": REPO}).to_string());
    let last = pulled.body.lines().last().unwrap();
    assert!(last.starts_with(r#"{"error":"#), "{last}");
    let (status, told) = call(&node, "POST", "/api/pull", &json!({}));
    assert!(status == 400 && told["error"].is_string(), "{told}");

    let other = Setup::new();
    let node = other.node("");
    other.hub.fault(On::Body, Fault::Stall(1000), 9);
    let mut pull = pulling(&node);
    let (status, _) = call(
        &node,
        "DELETE",
        &format!("/v1/downloads/{REPO}"),
        &Value::Null,
    );
    assert_eq!(status, 200);
    let mut rest = String::new();
    pull.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(r#"{"error":"#), "{rest}");
    assert!(!rest.contains("success"), "{rest}");
}

/// A client that pulls, once bytes come.
fn pulling(node: &Node) -> BufReader<std::net::TcpStream> {
    let body = json!({"model": REPO}).to_string();
    let mut pull = BufReader::new(node.send("POST", "/api/pull", "", &body));
    let mut line = String::new();
    while !line.contains("pulling me/stories") {
        line.clear();
        assert!(pull.read_line(&mut line).unwrap() > 0, "it ended");
    }
    pull
}

#[test]
fn a_pull_stops_when_nobody_is_left_who_wants_it() {
    let setup = Setup::new();
    let node = setup.node("");
    setup.hub.fault(On::Body, Fault::Stall(1000), 99);
    drop((pulling(&node), pulling(&node)));
    download(&node, |item| item["state"] == "cancelled");
}

#[test]
fn clients_of_the_python_nodes_fetch_and_look() {
    let setup = Setup::new();
    let node = setup.node("");
    let pool = |node: &Node| {
        let told = node.get("/modelpool");
        assert!(told.head.contains("text/event-stream"), "{}", told.head);
        let events = told.events().into_iter().map(str::to_owned);
        let mut events: Vec<String> = events.collect();
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        let models = events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap());
        models.collect::<Vec<Value>>()
    };
    let of_repo = |models: &[Value]| models.iter().find_map(|model| model.get(REPO).cloned());
    assert!(pool(&node).iter().any(|model| {
        let model = &model["llama-3.2-1b"];
        model["downloaded"] == false && model["total_downloaded"] == 0
    }));
    assert_eq!(of_repo(&pool(&node)), None);
    until(
        || node.get("/v1/download/progress").json(),
        |all| *all == json!({}),
    );
    let pretty = node.get("/initial_models").json()["llama-3.2-1b"].clone();
    assert_eq!(pretty["name"], "Llama 3.2 1B");
    assert!(pretty["loading"] == true && pretty["downloaded"].is_null());

    setup.hub.fault(On::Body, Fault::Stall(1000), 9);
    let name = json!({"model": REPO});
    let (status, told) = call(&node, "POST", "/download", &name);
    let message = "Download started for model: me/stories";
    let wanted = json!({"status": "success", "message": message});
    assert_eq!((status, told), (200, wanted));
    let item = download(&node, |item| item["total"].as_u64() > Some(0));
    // The ring, this node with it, hears of it only now and then.
    let look = || node.get("/v1/download/progress").json()["alone"].clone();
    let progress = until(look, |progress| progress["total_bytes"] == item["total"]);
    assert_eq!(progress["repo_id"], REPO);
    assert_eq!(progress["status"], "in_progress");
    let (status, _) = call(
        &node,
        "DELETE",
        &format!("/v1/downloads/{REPO}"),
        &Value::Null,
    );
    assert_eq!(status, 200);
    until(
        || node.get("/v1/download/progress").json(),
        |all| *all == json!({}),
    );

    // Of another node, since the first may still hold files of what was stopped.
    let setup = Setup::new();
    let node = setup.node("");
    assert_eq!(call(&node, "POST", "/download", &name).0, 200);
    download(&node, |item| item["state"] == "done");
    let told = of_repo(&pool(&node)).unwrap();
    assert_eq!(told["downloaded"], true);
    assert_eq!(told["download_percentage"], 100.0);
    assert!(told["total_size"].as_u64() > Some(100_000));
    assert_eq!(told["total_downloaded"], told["total_size"]);
    let (status, told) = call(&node, "DELETE", &format!("/models/{REPO}"), &Value::Null);
    let message = json!("Model me/stories deleted successfully");
    assert_eq!((status, &told["message"]), (200, &message));
    let (status, told) = call(&node, "POST", "/download", &json!({}));
    let wanted = json!({"error": "model parameter is required"});
    assert_eq!((status, told), (400, wanted));
}

#[test]
fn a_damaged_file_is_never_used() {
    let setup = Setup::new();
    let node = setup.node("");
    setup.hub.fault(On::Body, Fault::Damage, 99);
    let answer = node.chat(&ask("model", json!(REPO)));
    let code = answer.json()["error"]["code"].clone();
    assert_eq!((answer.status, code), (502, json!("download_damaged")));
    setup.hub.heal();
    let answer = node.chat(&ask("model", json!(REPO)));
    assert_eq!(answer.status, 200, "{}", answer.body);
}
