//! What can be seen of real rings from outside: where the time of a token goes, as `exo-node trace`
//! tells it, and metrics.

use exo_tests::process::stand;
use exo_tests::process::story::{Story, chat};
use exo_tests::process::{self, Member, NodeProcess, PATIENCE, Ring, free_ports, get, post, relay};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What `trace` prints; the node is told apart by its API's port.
fn trace(port: u16, words: &[&str]) -> (bool, String) {
    command("trace", port, words, "")
}

/// What a command prints, with this key in its environment.
fn command(name: &str, port: u16, words: &[&str], key: &str) -> (bool, String) {
    let port = port.to_string();
    let flags = [
        "--chatgpt-api-host",
        "127.0.0.1",
        "--chatgpt-api-port",
        &port,
    ];
    let output = Command::new(process::binary())
        .arg(name)
        .args(words)
        .args(flags)
        .env("EXO_API_KEY", key)
        .output()
        .expect("the program starts");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let text = said(&output.stdout) + &said(&output.stderr);
    (output.status.success(), text)
}

/// The least number of steps of which a stage told.
fn steps(value: &Value) -> u64 {
    let stages = value["stages"].as_array().expect("a list of stages");
    let steps = stages
        .iter()
        .map(|stage| stage["steps"].as_u64().unwrap_or(0));
    steps.min().unwrap_or(0)
}

#[test]
fn a_tokens_way_is_told_stage_by_stage() {
    let ring = Ring::start(&["std", "smol", "std"], &["--inference-engine", "dummy"]);
    for node in &ring.nodes {
        let (done, text) = trace(node.api.port(), &["--prompt", "hello", "--json"]);
        assert!(done, "{text}");
        let mut value: Value = serde_json::from_str(&text).expect("a document");
        let id = value["id"].as_str().expect("an id").to_owned();
        // The last words of the stages may come behind the answer.
        let until = Instant::now() + PATIENCE;
        while steps(&value) < 8 {
            assert!(Instant::now() < until, "{value:#}");
            std::thread::park_timeout(Duration::from_millis(10));
            let (status, body) = get(node.api, &format!("/v1/trace/{id}")).expect("HTTP");
            assert_eq!(status, 200, "{body}");
            value = serde_json::from_str(&body).expect("a document");
        }
        let stages = value["stages"].as_array().expect("a list of stages");
        assert_eq!(stages.len(), 3, "{value:#}");
        let mut next = 0;
        for stage in stages {
            assert_eq!(stage["start"].as_u64(), Some(next), "{value:#}");
            next = stage["end"].as_u64().expect("a last layer") + 1;
            for part in ["wait_ms", "compute_ms", "write_ms", "wire_ms"] {
                assert!(stage[part]["p50"].is_number(), "{part} in {value:#}");
            }
            for part in ["compute_ms", "write_ms", "wire_ms"] {
                assert!(
                    stage[part]["p99"].as_f64() > Some(0.0),
                    "{part} in {value:#}"
                );
            }
        }
        assert_eq!(next, 8);
        assert_eq!(
            (&value["tokens"], &value["state"]),
            (&json!(9), &json!("finished"))
        );
        assert_eq!(value["inter_token_ms"]["count"], 8);
        assert!(value["sum_ms"]["p50"].as_f64() > Some(0.0), "{value:#}");
        let (done, text) = trace(node.api.port(), &[&id]);
        assert!(done && text.contains("sum over the stages"), "{text}");
        assert!(
            ring.nodes.iter().all(|node| text.contains(&node.id)),
            "{text}"
        );
    }
    // A round trip is known once a ping came back.
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let (_, metrics) = get(ring.nodes[0].api, "/metrics").expect("HTTP");
        if metrics.matches("exo_peer_rtt_seconds{").count() == 2 {
            break metrics;
        }
        assert!(Instant::now() < deadline, "{metrics}");
    };
    let value = |name: &str, peer: &str| {
        let name = format!("{name}{{peer=\"{peer}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let value: f64 = line.expect("every peer has one").parse().expect("a number");
        value
    };
    for peer in ["node-2", "node-3"] {
        assert_eq!(value("exo_peer_up", peer), 1.0);
        assert!(value("exo_peer_rtt_seconds", peer) > 0.0, "{metrics}");
        for way in ["sent", "received"] {
            let frames = value(&format!("exo_peer_{way}_frames_total"), peer);
            let bytes = value(&format!("exo_peer_{way}_bytes_total"), peer);
            assert!(frames > 9.0 && bytes > 9.0 * frames, "{metrics}");
        }
    }
    // Requests that do not ask leave nothing, and what is not there is said in words.
    let (done, text) = trace(ring.nodes[0].api.port(), &["nobody"]);
    assert!(!done && text.contains("404"), "{text}");
}

#[test]
fn commands_give_the_key_that_a_node_wants() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = free_ports(2);
    let flags = ["--inference-engine", "dummy", "--discovery-module", "none"];
    let flags = [&flags[..], &["--api-key", "sesame", "--api-key", "open"]].concat();
    let node = NodeProcess::start("node-1", ports[0], ports[1], &flags, folder.path());
    node.wait_for_words("/v1, ready", 0);
    let port = node.api.port();
    let file = folder.path().join("keys");
    std::fs::write(&file, "# the key\nopen\n").expect("a writable folder");
    let file = file.to_string_lossy();
    let ask = ["--prompt", "hello", "--max-tokens", "2"];
    for (words, variable) in [
        (&["--api-key", "open"][..], ""),
        (&["--api-key-file", &file], ""),
        (&[], "sesame"),
        // What the command line says counts.
        (&["--api-key", "open"], "wrong"),
    ] {
        let words = [&ask[..], words].concat();
        let (done, text) = command("trace", port, &words, variable);
        assert!(done && text.contains("sum over the stages"), "{text}");
    }
    for (words, says) in [
        (&[][..], "this node wants a key"),
        (&["--api-key", "guess"], "this is not a key of this node"),
    ] {
        let (done, text) = trace(port, &[&ask[..], words].concat());
        assert!(!done && text.contains(says), "{text}");
        assert!(
            text.contains("401") && text.contains("EXO_API_KEY gives it"),
            "{text}"
        );
        assert!(!text.contains("guess"), "{text}");
    }
    let (done, text) = trace(port, &["--api-key", "two words"]);
    assert!(
        !done && text.contains("--api-key: a key must have"),
        "{text}"
    );
    // Whether it lives anybody may know.
    let (done, text) = command("health", port, &[], "");
    assert_eq!((done, text.as_str()), (true, "ready\n"));
    // The doctor sees what the node sees with the key alone.
    let doctor = |key: &str| command("doctor", port, &["--json"], key).1;
    let finding = |text: &str| {
        let facts: Value = serde_json::from_str(text).expect("a document");
        facts.to_string()
    };
    assert!(finding(&doctor("")).contains("wants a key"));
    let text = finding(&doctor("open"));
    assert!(
        text.contains("the API of node") && !text.contains("wants a key"),
        "{text}"
    );
}

/// The value of a sample.
fn sample(node: &NodeProcess, name: &str) -> f64 {
    let (status, metrics) = get(node.api, "/metrics").expect("HTTP");
    assert_eq!(status, 200, "{metrics}");
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.parse().expect("a number")
}

fn wait_for_sample(node: &NodeProcess, name: &str, wanted: impl Fn(f64) -> bool) {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = sample(node, name);
        if wanted(value) {
            return;
        }
        assert!(Instant::now() < until, "{name} is {value}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn who_waits_and_what_an_engine_holds_is_told() {
    let flags = ["--max-parallel-requests", "1"];
    let flags = [&stand::CPU[..], &flags].concat();
    let ring = Ring::over(
        &[member("std"), member("smol")],
        &flags,
        // So that an answer lasts while it is looked at.
        |address| relay::open(address, |_| Duration::from_millis(20)),
    );
    let node = &ring.nodes[0];
    let line = |what: &str| format!("exo_http_{what}{{line=\"answers\"}}");
    let (memory, weights) = ("exo_engine_memory_bytes", "exo_engine_weight_bytes");
    assert_eq!(sample(node, &line("working_capacity")), 1.0);
    let capacity = sample(node, &line("queue_capacity"));
    assert!(capacity > 1.0);
    let question = chat("stories", "Tell me a story about a fox.", 200);
    let mut first = Story::begin(node, &question);
    assert!(first.reach(2));
    let cached = sample(node, memory) - sample(node, weights);
    assert!(cached > 0.0, "{cached}");
    let second = Story::begin(node, &question);
    wait_for_sample(node, &line("queue_length"), |count| count == 1.0);
    assert_eq!(sample(node, &line("working")), 1.0);
    assert!(sample(node, "exo_http_connections") >= 2.0);
    assert_eq!(first.finish().text, second.finish().text);
    for what in ["queue_length", "working"] {
        wait_for_sample(node, &line(what), |count| count == 0.0);
    }
    for refused in [
        line("queue_refused_total"),
        "exo_http_connections_refused_total".into(),
    ] {
        assert_eq!(sample(node, &refused), 0.0);
    }
    // With the answers their caches are gone.
    let held = sample(node, weights);
    assert!(held > 0.0);
    wait_for_sample(node, memory, |bytes| bytes == held);
}

const fn member(runtime: &'static str) -> Member {
    Member {
        runtime,
        memory: 4096,
        engine: None,
    }
}

/// Reads every sample, and refuses what a scraper would stumble over.
const READ: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
names = [family.name for family in families]
assert len(names) == len(set(names)), names
for family in families:
    assert family.documentation and family.type in ('counter', 'gauge', 'histogram'), family
    assert family.name.startswith(('exo_', 'process_')) and family.samples, family
    if family.type == 'histogram':
        assert any(sample.labels.get('le') == '+Inf' for sample in family.samples), family
print(len(families))
";

/// `.ci/run` installs the package `prometheus_client` where the other clients are.
#[test]
fn prometheus_reads_what_a_node_says_of_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let clients = std::env::var_os("EXO_TEST_CLIENTS")
        .map_or_else(|| root.join("target/clients"), PathBuf::from);
    let python = clients.join("venv/bin/python");
    let probe = Command::new(&python)
        .args(["-c", "import prometheus_client"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        let python = python.display();
        eprintln!(
            "!!!!!!!! SKIPPED seen: {python} has no prometheus_client; .ci/run installs it !!!!!!!!"
        );
        return;
    }
    let ring = Ring::start(&["smol", "std"], &["--inference-engine", "dummy"]);
    let question = json!({"messages": [{"role": "user", "content": "hello"}]});
    let api = ring.nodes[0].api;
    let (status, body) = post(api, "/v1/chat/completions", &question).expect("HTTP");
    assert_eq!(status, 200, "{body}");
    let (_, metrics) = get(api, "/metrics").expect("HTTP");
    let mut reader = Command::new(python)
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut input = reader.stdin.take().expect("a pipe");
    input.write_all(metrics.as_bytes()).expect("it reads");
    drop(input);
    let output = reader.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{metrics}");
    let families = String::from_utf8_lossy(&output.stdout);
    let kinds = metrics
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .count();
    assert_eq!(families.trim(), kinds.to_string());
}
