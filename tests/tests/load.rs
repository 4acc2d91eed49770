//! A real node under the tools that others measure and break web servers with: `wrk` and
//! `slowhttptest`, both in Debian. Without them these tests say that they were skipped.

use exo_tests::process::story::chat;
use exo_tests::process::{NodeProcess, PATIENCE, Ring, free_ports, get, post};
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// A node that is alone, and quick.
fn node(home: &TempDir) -> NodeProcess {
    let ports = free_ports(2);
    let flags = ["--inference-engine", "dummy", "--discovery-module", "none"];
    let mut node = NodeProcess::start("alone", ports[0], ports[1], &flags, home.path());
    node.wait_for("itself", |topology| topology["nodes"]["alone"].is_object());
    node
}

/// Whether a program is here; loudly if not.
fn is_here(program: &str) -> bool {
    let found = Command::new(program).arg("-h").output().is_ok();
    if !found {
        eprintln!("SKIPPED: there is no {program}; Debian has it: apt-get install {program}");
    }
    found
}

fn wrk(url: &str, more: &[&str]) -> String {
    let output = Command::new("wrk")
        .args(["-t", "2", "-c", "64", "-d", "2s", "--timeout", "60s"])
        .args(more)
        .arg(url)
        .output()
        .expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    // wrk tells of what went wrong only if something did.
    assert!(!text.contains("Non-2xx"), "{text}");
    assert!(!text.contains("Socket errors"), "{text}");
    let count = text.lines().find_map(|line| {
        let (count, _) = line.trim().split_once(" requests in ")?;
        count.parse::<u64>().ok()
    });
    assert!(count.is_some_and(|count| count > 0), "{text}");
    text
}

#[test]
fn sixty_four_connections_of_wrk_get_what_they_ask_for() {
    if !is_here("wrk") {
        return;
    }
    let home = TempDir::new().expect("a folder");
    let node = node(&home);
    wrk(&format!("http://{}/healthcheck", node.api), &[]);
    // Half of these wait while the others are answered.
    let script = home.path().join("complete.lua");
    let body = json!({"prompt": "Once", "max_tokens": 1}).to_string();
    let lua = format!("wrk.method = \"POST\"\nwrk.body = [[{body}]]\n");
    std::fs::write(&script, lua).expect("a script");
    let url = format!("http://{}/v1/completions", node.api);
    wrk(&url, &["-s", &script.to_string_lossy()]);
    still_answers(node.api);
}

/// As clients do, it asks again when it is told that there are too many.
fn still_answers(api: SocketAddr) {
    let until = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    while Instant::now() < until {
        let health = get(api, "/healthcheck");
        let body = json!({"prompt": "Once", "max_tokens": 1});
        let answer = post(api, "/v1/completions", &body);
        match (&health, &answer) {
            (Ok((200, _)), Ok((200, _))) => return,
            (Ok((200 | 503, _)), Ok((200 | 429 | 503, _))) => {}
            // A connection that gave way before its request was read.
            _ => said.push((health, answer)),
        }
    }
    panic!("a normal client is not served: {said:?}");
}

/// Ended when dropped.
struct Attack(Child);

impl Drop for Attack {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    if !is_here("slowhttptest") {
        return;
    }
    let home = TempDir::new().expect("a folder");
    let node = node(&home);
    let (page, chat) = (
        format!("http://{}/", node.api),
        format!("http://{}/v1/chat/completions", node.api),
    );
    for (kind, more) in [
        // Headers, one every second.
        ("-H", ["-t", "GET", "-u", &page]),
        // A body that never ends.
        ("-B", ["-t", "POST", "-u", &chat]),
        // An answer that nobody takes.
        ("-X", ["-t", "GET", "-u", &page]),
    ] {
        let attack = Command::new("slowhttptest")
            .args([
                kind, "-c", "600", "-r", "200", "-i", "1", "-l", "8", "-p", "5",
            ])
            .args(more)
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slowhttptest runs");
        let mut attack = Attack(attack);
        let begun = Instant::now();
        let mut answered = 0;
        // To the end of the attack, whenever that is.
        while attack.0.try_wait().expect("a child").is_none() && begun.elapsed() < PATIENCE {
            still_answers(node.api);
            answered += 1;
        }
        assert!(answered > 0, "{kind}: the attack ended before it began");
        let _ = writeln!(
            std::io::stderr(),
            "{kind}: {answered} answers during the attack"
        );
    }
    still_answers(node.api);
}

/// Each node is a stage of all that the others are asked, besides its own.
#[test]
fn nodes_that_are_all_busy_do_not_turn_each_other_away() {
    let ring = Ring::start(&["smol", "std", "smol"], &[]);
    let answers: Vec<_> = (0..96)
        .map(|at| {
            let api = ring.nodes[at % 3].api;
            std::thread::spawn(move || {
                post(api, "/v1/chat/completions", &chat("stories", "A fox.", 40))
            })
        })
        .collect();
    for answer in answers {
        let (status, told) = answer.join().expect("asked").expect("an answer");
        assert_eq!(status, 200, "{told}");
    }
    for node in &ring.nodes {
        let (_, metrics) = get(node.api, "/metrics").expect("metrics");
        assert!(metrics.contains("\nexo_recoveries_total 0\n"), "{metrics}");
    }
}
