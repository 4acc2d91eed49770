//! A node that is alone, and a client of its API.

use exo_node::api::server::{self, Server};
use exo_node::app::{App, Started};
use exo_node::cli::{self, Parsed};
use exo_node::settings::Settings;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) struct Node {
    pub(crate) started: Option<Started>,
    pub(crate) server: Option<Server>,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(started) = self.started.take() {
            started.shutdown(Duration::from_secs(2));
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// All that comes until the connection's end.
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        let body = match head.contains("\r\nTransfer-Encoding: chunked") {
            true => joined(body),
            false => body.to_owned(),
        };
        Self {
            status,
            head: head.to_owned(),
            body,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The events of a stream, `[DONE]` included.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect()
    }

    pub(crate) fn error(&self) -> (u16, Value, Value) {
        let error = &self.json()["error"];
        (self.status, error["code"].clone(), error["param"].clone())
    }
}

impl Node {
    pub(crate) fn start(flags: &str) -> Self {
        Self::with(flags, |_| {})
    }

    pub(crate) fn with(flags: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let flags = format!("--node-id alone {flags}");
        let words: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        let Parsed::Args(args) = cli::parse(&words).unwrap() else {
            panic!("no arguments")
        };
        let mut settings = Settings::new(&args, false).unwrap();
        change(&mut settings);
        let started = App::start(&settings).unwrap();
        let listener = server::bind("127.0.0.1", 0).unwrap();
        let app = std::sync::Arc::clone(&started.app);
        let options = settings.guard();
        let access = settings.access;
        let server = Server::start(listener, app, access, options).unwrap();
        Self {
            started: Some(started),
            server: Some(server),
        }
    }

    pub(crate) fn dummy() -> Self {
        Self::start("--inference-engine dummy")
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        self.send_bytes(method, path, headers, body.as_bytes())
    }

    fn send_bytes(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let address = self
            .server
            .as_ref()
            .unwrap()
            .url()
            .strip_prefix("http://")
            .unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let length = body.len();
        // Unless the test has a better one.
        let host = match headers.contains("Host: ") {
            true => String::new(),
            false => format!("Host: {address}\r\n"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let request = [request.as_bytes(), body].concat();
        // Who is refused early may be told before all is sent.
        let _ = stream.write_all(&request);
        stream
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        self.call_with(method, path, headers, body.as_bytes())
    }

    pub(crate) fn call_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        Answer::read(self.send_bytes(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", "")
    }

    pub(crate) fn chat(&self, body: &Value) -> Answer {
        self.call("POST", "/v1/chat/completions", "", &body.to_string())
    }

    pub(crate) fn wait_until_idle(&self) {
        let begun = Instant::now();
        while !self
            .started
            .as_ref()
            .unwrap()
            .app
            .status()
            .requests
            .is_empty()
        {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the ring goes on"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The body whose chunks these are; it has to have its end.
fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let (chunk, rest) = rest.split_at(length);
        body.push_str(chunk);
        chunks = rest.strip_prefix("\r\n").unwrap();
        if length == 0 {
            assert_eq!(chunks, "");
            return body;
        }
    }
}

/// A question with one more wish.
pub(crate) fn ask(name: &str, value: Value) -> Value {
    let mut body =
        json!({"messages": [{"role": "user", "content": "Tell me a story about a fox."}]});
    if !name.is_empty() {
        body[name] = value;
    }
    body
}

pub(crate) fn plain() -> Value {
    ask("", Value::Null)
}

pub(crate) fn content(answer: &Answer) -> String {
    answer.json()["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned()
}
