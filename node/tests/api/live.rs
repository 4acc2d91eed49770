//! What is pushed, what is kept, and what ends the node.

use crate::alone::Node;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// A listener; the view that it was told first.
fn listen(node: &Node) -> (BufReader<TcpStream>, Value) {
    let mut lines = BufReader::new(node.send("GET", "/v1/events", "", ""));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    let view = serde_json::from_str(&line["data: ".len()..]).unwrap();
    (lines, view)
}

#[test]
fn the_ring_is_pushed_to_as_many_as_there_is_room_for() {
    let node = Node::dummy();
    let mut all: Vec<_> = (0..16).map(|_| listen(&node)).collect();
    for (_, view) in &all {
        assert_eq!(view["node_id"], "alone");
        assert_eq!(view["nodes"][0]["here"], true);
        assert_eq!(view["ring"], Value::Array(Vec::new()));
    }
    let (status, code, _) = node.get("/v1/events").error();
    assert_eq!((status, code), (429, "too_many_listeners".into()));
    // What happens is told.
    let (lines, _) = &mut all[0];
    assert_eq!(node.chat(&crate::alone::plain()).status, 200);
    let mut line = String::new();
    while !line.contains(r#""model":"dummy""#) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    // Whoever goes makes room.
    drop(all);
    let give_up = Instant::now() + Duration::from_secs(60);
    let found = loop {
        let mut stream = BufReader::new(node.send("GET", "/v1/events", "", ""));
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.contains("200") || Instant::now() > give_up {
            break line;
        }
        thread::park_timeout(Duration::from_millis(20));
    };
    assert!(found.contains("200 OK"), "{found}");
}

#[test]
fn listeners_hear_the_end_of_a_node_that_stops() {
    let node = Node::dummy();
    let (mut lines, _) = listen(&node);
    node.started.as_ref().unwrap().app.stop().unwrap();
    let mut rest = String::new();
    while lines.read_line(&mut rest).unwrap() > 0 {}
}

#[test]
fn a_browser_that_has_the_page_is_not_sent_it_again() {
    let node = Node::dummy();
    let page = node.get("/");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with("<!DOCTYPE html>"), "{}", page.body);
    let header = |name: &str| {
        let mut lines = page.head.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(header("Content-Security-Policy: ").starts_with("default-src 'self'"));
    let known = format!("If-None-Match: {}\r\n", header("ETag: "));
    let again = node.call("GET", "/", &known, "");
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(node.get("/web/main.js").status, 200);
    assert_eq!(node.get("/web/../Cargo.toml").status, 404);
}

#[test]
fn other_sites_do_not_end_the_node() {
    let node = Node::dummy();
    let foreign = node.call("POST", "/quit", "Origin: http://evil.example\r\n", "");
    assert_eq!(foreign.status, 403);
    let own = node.call("POST", "/quit", "", "");
    assert_eq!(own.status, 200);
    assert_eq!(own.json()["detail"], "Quit signal received");
}
