//! What can be seen of a node from outside: its health, its metrics, and what requests are called.

use crate::alone::{Node, ask, plain};
use serde_json::json;

#[test]
fn live_and_ready_are_told_apart() {
    let node = Node::dummy();
    let live = node.get("/health/live");
    assert_eq!((live.status, live.json()), (200, json!({"status": "live"})));
    let ready = node.get("/health/ready");
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({"status": "ready"}))
    );
    let app = &node.started.as_ref().unwrap().app;
    app.drain().unwrap();
    let ready = node.get("/health/ready");
    assert_eq!(ready.status, 503);
    let reasons = json!(["this node is leaving"]);
    let value = json!({"status": "not ready", "reasons": reasons});
    assert_eq!(ready.json(), value);
    assert_eq!(node.get("/health/live").status, 200);
    assert_eq!(node.get("/healthcheck").json(), json!({"status": "ok"}));
}

#[test]
fn a_ring_without_room_for_the_default_model_is_not_ready() {
    let node = Node::start("--inference-engine cpu --default-model stories --node-memory 0");
    let ready = node.get("/health/ready");
    assert_eq!(ready.status, 503, "{}", ready.body);
    let value = ready.json();
    let reason = value["reasons"][0].as_str().unwrap();
    assert!(reason.contains("MiB"), "{reason}");
}

#[test]
fn requests_are_called_what_their_client_says() {
    let node = Node::dummy();
    let named = node.call("GET", "/v1/models", "X-Request-Id: abc.1\r\n", "");
    assert!(
        named.head.contains("\r\nX-Request-Id: abc.1"),
        "{}",
        named.head
    );
    let (body, own) = (plain().to_string(), "X-Request-Id: two words\r\n");
    let named = node.call("POST", "/v1/chat/completions", own, &body);
    assert_eq!(named.status, 200, "{}", named.body);
    let id = id(&named.head);
    assert!(id.len() == 36 && !id.contains(' '), "{id}");
    let stream = ask("stream", json!(true)).to_string();
    let own = "X-Request-Id: s-1\r\nx-request-id: s-2\r\n";
    let named = node.call("POST", "/v1/chat/completions", own, &stream);
    assert_eq!(self::id(&named.head), "s-1");
    assert_eq!(named.events().last(), Some(&"[DONE]"));
    let missing = node.get("/nowhere");
    assert_eq!((missing.status, self::id(&missing.head).len()), (404, 36));
}

fn id(head: &str) -> &str {
    let mut lines = head.lines();
    lines
        .find_map(|line| line.strip_prefix("X-Request-Id: "))
        .unwrap_or_else(|| panic!("no id in {head}"))
}

#[test]
fn metrics_count_what_was_asked() {
    let node = Node::dummy();
    let model_error = node.chat(&ask("model", json!("no/such-model-anywhere")));
    assert_eq!(model_error.status, 404);
    assert_eq!(node.chat(&plain()).status, 200);
    let metrics = node.get("/metrics");
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8";
    assert!(metrics.head.contains(kind), "{}", metrics.head);
    let text = metrics.body;
    for line in [
        "exo_http_requests_total{model=\"dummy\",route=\"/v1/chat/completions\",status=\"200\"} 1",
        // No name that a client made up becomes a label.
        "exo_http_requests_total{model=\"\",route=\"/v1/chat/completions\",status=\"404\"} 1",
        "exo_http_requests_in_flight{route=\"/metrics\"} 1",
        "exo_prompt_tokens_total{model=\"dummy\"} 1",
        "exo_generated_tokens_total{model=\"dummy\"} 9",
        "exo_time_to_first_token_seconds_count{model=\"dummy\"} 1",
        "exo_inter_token_seconds_count{model=\"dummy\"} 8",
        "exo_stage_compute_seconds_count{model=\"dummy\",phase=\"decode\"} 10",
        "exo_requests_ended_total{end=\"finished\"} 1",
        "exo_requests_running{role=\"origin\"} 0",
        "exo_models_loaded 1",
        "exo_layers_loaded{model=\"dummy\"} 8",
        "exo_recoveries_total 0",
        "# TYPE exo_inter_token_seconds histogram",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
    }
    let info = text
        .lines()
        .find(|line| line.starts_with("exo_build_info{"));
    let info = info.unwrap_or_else(|| panic!("no build info in\n{text}"));
    assert!(
        info.contains("engine=\"dummy") && info.ends_with(" 1"),
        "{info}"
    );
    assert!(!text.contains("no/such-model-anywhere"), "{text}");
}

/// Every name is in the documentation, and every name there exists.
#[test]
fn the_documentation_has_every_metric() {
    let node = Node::dummy();
    node.chat(&plain());
    let document = include_str!("../../../docs/METRICS.md");
    let documented = |name: &str| document.contains(&format!("`{name}`"));
    let text = node.get("/metrics").body;
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in names {
        assert!(documented(name), "{name} is not in docs/METRICS.md");
    }
    for line in document.lines().filter(|line| line.starts_with("| `exo_")) {
        let name = line.split('`').nth(1).unwrap();
        let known = NOT_ALWAYS.contains(&name) || text.contains(&format!("# TYPE {name} "));
        assert!(known, "{name} is in docs/METRICS.md only");
    }
}

/// What a node that is alone may have nothing to say of.
const NOT_ALWAYS: [&str; 10] = [
    "exo_peer_up",
    "exo_peer_rtt_seconds",
    "exo_peer_goodput_bytes_per_second",
    "exo_peer_steps_sent_total",
    "exo_peer_step_sent_bytes_total",
    "exo_peer_sent_frames_total",
    "exo_peer_sent_bytes_total",
    "exo_peer_received_frames_total",
    "exo_peer_received_bytes_total",
    // Elsewhere than on Linux.
    "process_resident_memory_bytes",
];
