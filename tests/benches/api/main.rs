//! What the HTTP API costs, on top of the ring: requests a second, memory for each open stream, and
//! what it adds to each token.
//!
//! ```sh
//! cargo bench -p exo-tests --bench api [-- SECONDS]
//! ```

mod client;
mod tokens;

use client::Client;
use exo_tests::process::{NodeProcess, free_ports};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const STREAMS: usize = 200;

fn main() {
    let mut seconds = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let time = Duration::from_secs(seconds.next().unwrap_or(3).max(1));
    requests(time);
    streams();
    tokens::measure();
}

fn node(home: &TempDir, more: &[&str]) -> NodeProcess {
    let ports = free_ports(2);
    let flags = [&["--discovery-module", "none"], more].concat();
    let mut node = NodeProcess::start("alone", ports[0], ports[1], &flags, home.path());
    node.wait_for("itself", |topology| topology["nodes"]["alone"].is_object());
    node
}

fn requests(time: Duration) {
    let home = TempDir::new().expect("a folder");
    let node = node(&home, &["--inference-engine", "dummy"]);
    let complete = json!({"prompt": "Once", "max_tokens": 1}).to_string();
    println!("requests a second, dummy engine, connections kept:");
    println!("connections | /healthcheck | completion of one token");
    for connections in [1, 8, 64] {
        let health = rate(node.api, connections, time, "GET", "/healthcheck", "");
        let answers = rate(
            node.api,
            connections,
            time,
            "POST",
            "/v1/completions",
            &complete,
        );
        println!("{connections:11} | {health:12.0} | {answers:.0}");
    }
}

fn rate(
    api: SocketAddr,
    connections: usize,
    time: Duration,
    method: &str,
    path: &str,
    body: &str,
) -> f64 {
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let count: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(api);
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(client.ask(method, path, body), 200, "{path}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        let counts = clients.into_iter().map(|client| client.join());
        counts.map(|count| count.expect("a client")).sum()
    });
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Bytes of memory that a process holds.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// The ring as it changes is a stream that nothing ends and that costs no KV cache; but only
/// answers may be so many, and theirs are told with what they hold.
fn streams() {
    let home = TempDir::new().expect("a folder");
    let most = STREAMS.to_string();
    let node = node(
        &home,
        &[
            "--inference-engine",
            "cpu",
            "--max-parallel-requests",
            &most,
        ],
    );
    let body = json!({
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "temperature": 2.0, "stream": true,
    })
    .to_string();
    // So that the model is loaded before anything is counted.
    let mut first = Client::connect(node.api);
    assert_eq!(first.ask("POST", "/v1/chat/completions", &body), 200);
    let Some(before) = resident(node.pid()) else {
        eprintln!("SKIPPED: memory is read from /proc, which only Linux has");
        return;
    };
    let mut clients: Vec<Client> = (0..STREAMS)
        .map(|_| {
            let mut client = Client::connect(node.api);
            client.send("POST", "/v1/chat/completions", &body);
            client
        })
        .collect();
    // All of them are open when all have begun.
    for client in &mut clients {
        assert_eq!(client.head(), 200);
    }
    let after = resident(node.pid()).unwrap_or(before);
    let each = after.saturating_sub(before) as f64 / STREAMS as f64 / 1024.0;
    println!(
        "{STREAMS} open streams: {:.1} MiB, of which {:.1} MiB before; {each:.0} KiB each, with its KV cache",
        after as f64 / 1048576.0,
        before as f64 / 1048576.0,
    );
}
