//! Who may use the API, over sockets.

use crate::alone::{Answer, Node, plain};
use serde_json::{Value, json};
use std::io::{Read, Write};

const CHAT: &str = "/v1/chat/completions";

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[test]
fn a_key_opens_everything_and_health_is_open() {
    let node = Node::start("--inference-engine dummy --api-key sesame --api-key=second");
    let body = plain().to_string();
    for headers in [
        "Authorization: Bearer sesame\r\n",
        "Authorization: Bearer second\r\n",
        "x-api-key: sesame\r\n",
    ] {
        assert_eq!(node.call("POST", CHAT, headers, &body).status, 200);
        assert_eq!(node.call("GET", "/v1/models", headers, "").status, 200);
    }
    for (method, path) in [
        ("POST", CHAT),
        ("GET", "/v1/models"),
        ("GET", "/v1/status"),
        ("GET", "/topology"),
        ("GET", "/nowhere"),
    ] {
        for headers in ["", "Authorization: Bearer wrong\r\n"] {
            let refused = node.call(method, path, headers, "");
            let wanted = (401, json!("invalid_api_key"), Value::Null);
            assert_eq!(refused.error(), wanted, "{path}");
            assert_eq!(header(&refused, "WWW-Authenticate"), Some("Bearer"));
        }
    }
    for path in ["/health", "/healthcheck"] {
        assert_eq!(node.get(path).status, 200);
    }
    // Each in its own API's words.
    let refused = node.call("POST", "/v1/messages", "", "{}").json();
    assert_eq!(refused["error"]["type"], "authentication_error");
    let refused = node.call("POST", "/api/chat", "", "{}").json();
    assert!(refused["error"].is_string(), "{refused}");
}

#[test]
fn names_and_web_sites_are_checked() {
    let node = Node::start(
        "--inference-engine dummy --api-host-name fox.example --cors-origin https://chat.example",
    );
    let body = plain().to_string();
    let rebound = node.call("GET", "/v1/models", "Host: evil.example\r\n", "");
    assert_eq!(
        rebound.error(),
        (421, json!("unknown_host"), Value::Null),
        "{}",
        rebound.body
    );
    assert!(
        rebound.body.contains("--api-host-name evil.example"),
        "{}",
        rebound.body
    );
    let named = node.call("GET", "/v1/models", "Host: fox.example:52415\r\n", "");
    assert_eq!(named.status, 200);

    let chat = "Origin: https://chat.example\r\n";
    let told = node.call("POST", CHAT, chat, &body);
    assert_eq!(told.status, 200);
    let allowed = "Access-Control-Allow-Origin";
    assert_eq!(header(&told, allowed), Some("https://chat.example"));
    assert_eq!(header(&told, "Vary"), Some("Origin"));
    let mistake = node.call("POST", CHAT, chat, "{");
    assert_eq!(
        (mistake.status, header(&mistake, allowed)),
        (400, Some("https://chat.example"))
    );

    let asks = "Access-Control-Request-Method: POST\r\n\
                Access-Control-Request-Headers: authorization,content-type\r\n";
    let preflight = node.call("OPTIONS", CHAT, &format!("{chat}{asks}"), "");
    assert_eq!((preflight.status, &*preflight.body), (204, ""));
    assert_eq!(header(&preflight, allowed), Some("https://chat.example"));
    assert_eq!(
        header(&preflight, "Access-Control-Allow-Headers"),
        Some("authorization,content-type")
    );
    assert_eq!(header(&preflight, "Content-Length"), None);

    let evil = "Origin: http://evil.example\r\n";
    let refused = node.call("POST", CHAT, evil, &body);
    assert_eq!(refused.error(), (403, json!("foreign_origin"), Value::Null));
    let preflight = node.call("OPTIONS", CHAT, &format!("{evil}{asks}"), "");
    assert_eq!(preflight.status, 403);
    let looks = node.call("GET", "/v1/models", evil, "");
    assert_eq!(looks.status, 200);
    for answer in [refused, preflight, looks] {
        assert_eq!(header(&answer, allowed), None);
    }
}

/// A connection goes on from route to route, streams among them.
#[test]
fn one_connection_serves_many_requests() {
    let node = Node::dummy();
    let chat = |stream: bool| {
        let mut body = plain();
        body["stream"] = json!(stream);
        let body = body.to_string();
        let length = body.len();
        format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let models = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let address = node.server.as_ref().unwrap().url().to_owned();
    let address = address.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let requests = [models, &chat(true), &chat(false), "", &chat(true), last].concat();
    stream.write_all(requests.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 5, "{text}");
    assert_eq!(
        text.matches("data: [DONE]\n\n\r\n0\r\n\r\n").count(),
        2,
        "{text}"
    );
    assert!(text.ends_with(r#"{"status":"ok"}"#), "{text}");
}

#[test]
fn quick_questions_are_answered_while_all_workers_are_busy() {
    let node = Node::start("--max-parallel-requests 1");
    let long = json!({
        "messages": [{"role": "user", "content": "A fox."}], "temperature": 2.0, "stream": true,
    });
    let clients: Vec<_> = (0..3)
        .map(|_| node.send("POST", CHAT, "", &long.to_string()))
        .collect();
    let app = &node.started.as_ref().unwrap().app;
    while app.status().requests.is_empty() {
        std::thread::yield_now();
    }
    for path in ["/health", "/v1/models", "/v1/status", "/v1/topology"] {
        assert_eq!(node.get(path).status, 200);
    }
    // One at a time, whoever asks.
    assert!(app.status().requests.len() <= 1);
    // Those who wait leave too, and nothing of them is computed.
    drop(clients);
    node.wait_until_idle();
    assert_eq!(
        node.chat(&crate::alone::ask("max_tokens", json!(1))).status,
        200
    );
}

#[test]
fn many_choices_wait_for_each_other_and_nobody_is_sent_away() {
    let node = Node::start("--inference-engine cpu --threads 1 --default-model stories");
    let question = |choices: usize| {
        let mut body = crate::alone::ask("max_tokens", json!(8));
        body["n"] = json!(choices);
        body
    };
    // More than a node has under way at a time.
    let asked = [16, 16, 16, 1, 16, 16, 16, 1].map(|choices| {
        let body = question(choices).to_string();
        (choices, node.send("POST", CHAT, "", &body))
    });
    for (choices, stream) in asked {
        let answer = Answer::read(stream);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let told = answer.json()["choices"].as_array().map(Vec::len);
        assert_eq!(told, Some(choices));
    }
    node.wait_until_idle();
}
