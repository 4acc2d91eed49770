//! Real processes, real sockets, a real model split between them.

use exo_tests::process::ring::peer_config;
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{self, NodeProcess, PATIENCE, Ring};
use serde_json::{Value, json};
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const DUMMY: [&str; 2] = ["--inference-engine", "dummy"];
const CPU: [&str; 4] = ["--inference-engine", "cpu", "--threads", "1"];

/// The `data:` lines of a streamed answer.
fn stream(node: &NodeProcess, question: &Value) -> impl Iterator<Item = String> + use<> {
    let mut question = question.clone();
    question["stream"] = json!(true);
    let response =
        process::open(node.api, "/v1/chat/completions", &question).expect("an HTTP response");
    assert_eq!(response.status, 200, "{}", node.log());
    response
        .body
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("data: ").map(str::to_owned))
}

fn streamed_text(events: &[String]) -> String {
    let content = |event: &String| -> Option<String> {
        let event: Value = serde_json::from_str(event).ok()?;
        assert_eq!(event["object"], "chat.completion.chunk", "{event}");
        event["choices"][0]["delta"]["content"]
            .as_str()
            .map(str::to_owned)
    };
    events.iter().filter_map(content).collect()
}

/// The path of the real model, or a loud word that it is missing.
fn real_model() -> Option<(String, String)> {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED: set EXO_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf to run this test"
        );
        return None;
    };
    let folder = path
        .parent()
        .expect("a file is in a folder")
        .to_string_lossy()
        .into_owned();
    let stem = path
        .file_stem()
        .expect("a file has a name")
        .to_string_lossy()
        .into_owned();
    Some((folder, stem))
}

#[test]
fn dummy_rings_of_one_two_and_three_answer_on_every_node() {
    for runtimes in [
        &["smol"][..],
        &["std"],
        &["smol", "smol"],
        &["std", "std"],
        &["std", "smol", "std"],
    ] {
        let ring = Ring::start(runtimes, &DUMMY);
        for node in &ring.nodes {
            let text = answer(node, &chat("dummy", "hi", 100));
            assert_eq!(text.matches("dummy").count(), 9, "{runtimes:?}: {text:?}");
        }
    }
}

#[test]
fn a_streamed_answer_comes_in_chunks_and_ends_with_done() {
    let ring = Ring::start(&["std", "smol"], &DUMMY);
    let events: Vec<String> = stream(&ring.nodes[1], &chat("dummy", "hi", 100)).collect();
    assert_eq!(
        events.last().map(String::as_str),
        Some("[DONE]"),
        "{events:?}"
    );
    assert_eq!(streamed_text(&events).matches("dummy").count(), 9);
    let reasons: Vec<Value> = events
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .map(|event| event["choices"][0]["finish_reason"].clone())
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, [json!("stop")]);
}

#[test]
fn the_same_text_over_one_two_and_three_nodes() {
    let question = chat("stories", "Tell me a story about a fox.", 48);
    let alone = answer(&Ring::start(&["std"], &CPU).nodes[0], &question);
    assert!(alone.split_whitespace().count() > 8, "{alone:?}");
    for runtimes in [&["smol", "std"][..], &["std", "smol", "smol"]] {
        let ring = Ring::start(runtimes, &CPU);
        for node in &ring.nodes {
            assert_eq!(
                answer(node, &question),
                alone,
                "{runtimes:?}, asked at {}",
                node.id
            );
        }
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let ring = Ring::start(&["std", "smol"], &CPU);
    let mut question = chat("stories", "Tell me a story about a boat.", 32);
    question["temperature"] = json!(0.9);
    question["seed"] = json!(7);
    let first = answer(&ring.nodes[0], &question);
    assert_eq!(answer(&ring.nodes[1], &question), first);
    question["seed"] = json!(8);
    assert_ne!(answer(&ring.nodes[0], &question), first);
}

#[test]
fn a_real_model_knows_the_capital_of_france() {
    let Some((folder, model)) = real_model() else {
        return;
    };
    let arguments = [&CPU[..], &["--models-dir", &folder]].concat();
    for runtimes in [["smol", "smol"], ["std", "std"]] {
        let ring = Ring::start(&runtimes, &arguments);
        let question = chat(
            &model,
            "What is the capital of France? Answer in one sentence.",
            48,
        );
        for node in &ring.nodes {
            let text = answer(node, &question);
            assert!(text.contains("Paris"), "{runtimes:?}: {text:?}");
        }
        let (_, body) = process::get(ring.nodes[0].api, "/v1/status").expect("an HTTP response");
        let status: Value = serde_json::from_str(&body).expect("JSON");
        let hops = &status["peers"][0]["hops"]["count"];
        assert!(
            hops.as_u64().is_some_and(|count| count > 0),
            "a ring without hops: {body}"
        );
    }
}

/// As behind a router that lets only one side connect.
#[test]
fn one_side_that_knows_the_other_is_enough() {
    for runtimes in [["std", "smol"], ["smol", "std"]] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = process::free_ports(4);
        let file = folder.path().join("peers.json");
        let passive = ["--runtime", runtimes[1], "--node-memory", "4096"];
        let passive = [&passive[..], &CPU].concat();
        let second = NodeProcess::start("node-2", ports[1], ports[3], &passive, folder.path());
        let addresses = [second.address; 2];
        std::fs::write(&file, peer_config(&addresses, 0)).expect("a writable folder");
        let file = file.to_string_lossy();
        let active = ["--runtime", runtimes[0], "--node-memory", "4096"];
        let manual = [
            "--discovery-module",
            "manual",
            "--discovery-config-path",
            &file,
        ];
        let active = [&active[..], &manual, &CPU].concat();
        let first = NodeProcess::start("node-1", ports[0], ports[2], &active, folder.path());
        let mut nodes = [first, second];
        let question = chat("stories", "Tell me a story about a fox.", 24);
        let mut texts = Vec::new();
        for node in &mut nodes {
            node.wait_for("both to know each other", |topology| {
                let graph = topology["peer_graph"].as_object();
                let edges = |from: &Value| from.as_array().map_or(0, Vec::len);
                graph.map_or(0, |graph| graph.values().map(edges).sum()) == 2
            });
            texts.push(answer(node, &question));
            let (_, body) = process::get(node.api, "/v1/topology").expect("an HTTP response");
            let topology: Value = serde_json::from_str(&body).expect("JSON");
            let ring = topology["exo"]["rings"]["stories"].as_array().map(Vec::len);
            assert_eq!(ring, Some(2), "asked at {}: {body}", node.id);
        }
        assert_eq!(texts[0], texts[1]);
        assert!(texts[0].split_whitespace().count() > 4, "{texts:?}");
    }
}

/// Waits until a node has dialled each of its peers, `count` of them, more than once in vain.
fn wait_for_retries(node: &NodeProcess, count: usize) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let (_, body) = process::get(node.api, "/v1/status").expect("an HTTP response");
        let status: Value = serde_json::from_str(&body).expect("JSON");
        let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
        let again = |peer: &&Value| peer["addresses"][0]["failures"].as_u64() > Some(1);
        if peers.iter().filter(again).count() == count {
            return;
        }
        assert!(Instant::now() < give_up, "{body}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn a_name_without_an_address_is_told_of_once_with_what_to_do() {
    // Names below it exist nowhere (RFC 6761).
    let nowhere = "no-such-host.invalid";
    let config = json!({"peers": {"node-2": {
        "address": nowhere,
        "port": 50051,
        "device_capabilities": null,
    }}});
    for runtime in ["std", "smol"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = process::free_ports(5);
        let file = folder.path().join("peers.json");
        std::fs::write(&file, config.to_string()).expect("a writable folder");
        let (file, port) = (file.to_string_lossy(), ports[4].to_string());
        let own = ["--runtime", runtime];
        let found = [
            "--discovery-module",
            "direct,tcp,manual",
            "--listen-port",
            &port,
        ];
        let named = [
            "--peer-host",
            "one.invalid:50052",
            "--discovery-config-path",
            &file,
        ];
        let seeds = ["--tcp-seeds", "two.invalid:50053"];
        let arguments = [&own[..], &found, &named, &seeds, &DUMMY].concat();
        let node = NodeProcess::start("node-1", ports[0], ports[1], &arguments, folder.path());
        let reached = format!("node-2 at {nowhere}:50051 cannot be reached");
        let told = [
            &reached,
            "one.invalid:50052 cannot be reached",
            "two.invalid:50053, of --tcp-seeds, cannot be asked for its node",
        ];
        let advice = "no address is known of that name; check it, or give an IP address (";
        for told in told {
            node.wait_for_words(&format!("{told}: {advice}"), 0);
        }
        wait_for_retries(&node, 2);
        let log = node.log();
        for told in told {
            assert_eq!(log.matches(told).count(), 1, "{told}: {log}");
        }
        assert_eq!(log.matches(advice).count(), 3, "{log}");
    }
}

#[test]
fn junk_on_the_ring_port_disturbs_nobody() {
    for runtime in ["std", "smol"] {
        let ring = Ring::start(&[runtime, runtime], &DUMMY);
        let address = ring.nodes[0].address;
        let oversize = [&b"EXO\x01\x12"[..], &[0xff; 4]].concat();
        let half = b"EXO\x01\x12\x00\x00\x10\x00half a frame";
        let wrong_json = b"EXO\x01\x10\x00\x00\x00\x02{]";
        let mut tensor = b"EXO\x01\x12\x00\x00\x00\x00".to_vec();
        let metadata = br#"{"shard": {"model_id": "dummy", "start_layer": 0, "end_layer": 7, "n_layers": 8}, "tensor": {"shape": [1, 2], "dtype": "int32"}, "request_id": "r", "inference_state": null}"#;
        tensor.extend(u32::try_from(metadata.len()).expect("small").to_be_bytes());
        tensor.extend(metadata);
        tensor.extend([1, 0, 0, 0]);
        let length = u32::try_from(tensor.len() - 9)
            .expect("small")
            .to_be_bytes();
        tensor[5..9].copy_from_slice(&length);
        for junk in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &oversize,
            wrong_json,
            &tensor,
        ] {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(junk).expect("it reads");
            let mut rest = Vec::new();
            // A reset is as good as an end: the bytes behind the junk are thrown away.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.is_empty(), "{junk:?} was answered with {rest:?}");
        }
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(half).expect("it reads");
        drop(stream);
        for node in &ring.nodes {
            let text = answer(node, &chat("dummy", "hi", 100));
            assert_eq!(text.matches("dummy").count(), 9);
        }
        let log = ring.nodes[0].log();
        assert!(
            log.contains("127.0.0.1"),
            "who sent junk must stand in the log:\n{log}"
        );
    }
}

#[test]
fn a_client_that_leaves_stops_the_ring() {
    let mut ring = Ring::start(&["smol", "std"], &CPU);
    let mut question = chat("stories", "Tell me a long story about a ship.", 100_000);
    question["stream"] = json!(true);
    let response =
        process::open(ring.nodes[0].api, "/v1/chat/completions", &question).expect("a response");
    let mut body = response.body;
    let mut line = String::new();
    body.read_line(&mut line).expect("a first event");
    drop(body);
    for node in &mut ring.nodes {
        let api = node.api;
        node.wait_for("the request to end everywhere", |_| {
            let status = process::get(api, "/v1/status").ok().map(|(_, body)| body);
            let status: Option<Value> = status.and_then(|body| serde_json::from_str(&body).ok());
            status.is_some_and(|status| status["requests"].as_array().is_some_and(Vec::is_empty))
        });
    }
}

#[test]
fn mistakes_end_with_one_clear_line_and_a_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = process::free_ports(2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_port = taken.local_addr().expect("an address").port();
    let bad_file = folder.path().join("bad.json");
    std::fs::write(
        &bad_file,
        r#"{"peers": {"node-2": {"address": "127.0.0.1"}}}"#,
    )
    .expect("write");
    let bad = bad_file.to_string_lossy().into_owned();
    let missing = folder
        .path()
        .join("missing.json")
        .to_string_lossy()
        .into_owned();
    let manual = |file: &str| {
        [
            "--discovery-module",
            "manual",
            "--discovery-config-path",
            file,
        ]
        .map(str::to_owned)
    };
    let no_words: [String; 0] = [];
    let cases: [(u16, u16, Vec<String>, &str); 5] = [
        (
            taken_port,
            ports[1],
            no_words.to_vec(),
            &taken_port.to_string(),
        ),
        (
            ports[0],
            taken_port,
            no_words.to_vec(),
            &taken_port.to_string(),
        ),
        (ports[0], ports[1], manual(&bad).to_vec(), "node-2"),
        (
            ports[0],
            ports[1],
            manual(&missing).to_vec(),
            "missing.json",
        ),
        (
            ports[0],
            ports[1],
            vec!["--no-such-flag".to_owned()],
            "--no-such-flag",
        ),
    ];
    for (port, api, arguments, word) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(DUMMY).collect();
        let mut node = NodeProcess::start("node-1", port, api, &arguments, folder.path());
        let code = node.exit_code();
        assert!(
            code.is_some_and(|code| code != 0),
            "{arguments:?}: {code:?}"
        );
        let log = node.log();
        assert!(log.contains(word), "{arguments:?} must name {word}:\n{log}");
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn a_third_node_plans_for_nodes_that_run() {
    let ring = Ring::start(&["std", "smol"], &CPU);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ports = process::free_ports(2);
    let [port, api] = [0, 1].map(|at: usize| ports[at].to_string());
    let peers = [0, 1].map(|at| ring.nodes[at].address.to_string());
    let output = std::process::Command::new(process::binary())
        .args(["plan", "stories", "--json", "--node-id", "planner"])
        .args(["--node-host", "127.0.0.1", "--node-port", &port])
        .args(["--chatgpt-api-port", &api])
        .args(["--discovery-module", "direct", "--wait-for-peers", "2"])
        .args(["--peer-host", &peers[0], "--peer-host", &peers[1]])
        .args(CPU)
        .env("EXO_HOME", folder.path())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = |of: &Value| {
        let mut names: Vec<String> = of
            .as_array()
            .into_iter()
            .flatten()
            .map(|node| node["node_id"].to_string())
            .collect();
        names.sort();
        names.join(" ")
    };
    let all = [&*ring.nodes[0].id, &*ring.nodes[1].id, "planner"];
    let all = all.map(|name| format!("{name:?}")).join(" ");
    assert_eq!(names(&plan["nodes"]), all, "{plan:#}");
    let layers = |stage: &Value| Some(stage["end"].as_u64()? + 1 - stage["start"].as_u64()?);
    let stages = plan["ring"].as_array().expect("a ring");
    let layers: Option<u64> = stages.iter().map(layers).sum();
    assert_eq!(layers, Some(8), "{plan:#}");
    assert!(
        plan["prediction"]["tokens_per_s"].as_f64() > Some(0.0),
        "{plan:#}"
    );
    let links = plan["links"].as_array().expect("the ways between them");
    assert_eq!(links.len(), 3, "{plan:#}");
    assert!(
        links.iter().all(|link| link["rtt_ms"].is_number()),
        "{plan:#}"
    );
}

#[test]
fn an_unknown_model_is_a_404_of_the_openai_kind() {
    let ring = Ring::start(&["smol"], &CPU);
    let question = chat("no-such-model", "hi", 4);
    let (status, body) =
        process::post(ring.nodes[0].api, "/v1/chat/completions", &question).expect("a response");
    assert_eq!(status, 404, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["error"]["code"], "model_not_found");
}

#[cfg(unix)]
#[test]
fn a_node_that_is_asked_to_end_ends_well() {
    for runtime in ["std", "smol"] {
        let mut ring = Ring::start(&[runtime, runtime], &DUMMY);
        let mut last = ring.nodes.pop().expect("two nodes");
        assert_eq!(last.terminate(), Some(0), "{}", last.log());
        ring.nodes[0].wait_for("the other to leave the topology", |topology| {
            topology["nodes"]
                .as_object()
                .is_some_and(|nodes| nodes.len() == 1)
        });
    }
}
