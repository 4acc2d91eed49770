//! A node that is told to stop while it has something to do. The ring's other node is a peer of this
//! test's making, so that an answer takes exactly as long as the test wants.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use exo_protocol::dummy::END_TOKEN;
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{Decoder, Encoder, Message, SendResult, TopologyReply, WireEdge};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The prompt's name and the way to the node that sent it.
type Prompt = (Option<String>, TcpStream);

/// A peer as the reference would be: well, larger than the node, and in no hurry to answer.
struct Peer {
    port: u16,
    prompts: Receiver<Prompt>,
}

impl Peer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, prompts) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let tell = tell.clone();
                thread::spawn(move || serve(stream, &tell));
            }
        });
        Self { port, prompts }
    }
}

fn serve(mut stream: TcpStream, tell: &Sender<Prompt>) {
    let mut decoder = Decoder::new(Default::default());
    loop {
        match stream.read(decoder.space()) {
            Ok(count) if count > 0 => decoder.advance(count),
            _ => return,
        }
        while let Ok(Some(message)) = decoder.poll() {
            let answer = match message {
                Message::HealthCheckRequest { .. } => Message::HealthCheckResponse {
                    is_healthy: true,
                    exo: None,
                },
                Message::CollectTopologyRequest { .. } => {
                    let machine = Capabilities {
                        memory: 1001,
                        ..Capabilities::unknown()
                    };
                    let edge = WireEdge {
                        to_id: "near".into(),
                        description: None,
                        metrics: Default::default(),
                    };
                    Message::CollectTopologyResponse(TopologyReply {
                        nodes: vec![("far".into(), machine)],
                        peer_graph: vec![("far".into(), vec![edge])],
                    })
                }
                Message::SendTensorRequest(_) => Message::SendTensorResponse(None),
                Message::SendPromptRequest(prompt) => {
                    let way = stream.try_clone().unwrap();
                    let _ = tell.send((prompt.request_id, way));
                    continue;
                }
                _ => continue,
            };
            send(&mut stream, &answer);
        }
    }
}

fn send(stream: &mut TcpStream, message: &Message) {
    let bytes = Encoder::new(message).unwrap().slices().concat();
    let _ = stream.write_all(&bytes);
}

/// A serving node with that peer.
struct Node {
    process: Child,
    lines: Receiver<String>,
    api: String,
}

impl Node {
    fn start(peer: &Peer, runtime: &str) -> Self {
        let flags = format!(
            "--node-id near --node-host 127.0.0.1 --node-port 0 --node-memory 1000 \
             --chatgpt-api-host 127.0.0.1 --chatgpt-api-port 0 --inference-engine dummy \
             --runtime {runtime} --peer-host 127.0.0.1 --peer-port {} --peer-id far",
            peer.port
        );
        let mut process = Command::new(env!("CARGO_BIN_EXE_exo-node"))
            .args(flags.split_whitespace())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        let mut node = Self {
            process,
            lines,
            api: String::new(),
        };
        let ready = node.line("ready");
        let (_, url) = ready.split_once("http://").unwrap();
        let (address, _) = url.split_once('/').unwrap();
        node.api = address.to_owned();
        node
    }

    /// Waits for a line that contains `wanted`.
    fn line(&self, wanted: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{wanted:?} does not come: {seen:#?}"),
            }
        }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.api).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: \
             {}\r\n\r\n{body}",
            self.api,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn ask(&self) -> TcpStream {
        let body = json!({"model": "dummy", "messages": [{"role": "user", "content": "hi"}]});
        self.send("POST", "/v1/chat/completions", &body.to_string())
    }

    /// Waits until the peer is one that a model can be placed on.
    fn meet(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let (_, topology) = answer(self.send("GET", "/v1/topology", ""));
            if topology["nodes"]["far"]["memory"] == 1001 {
                return;
            }
            assert!(Instant::now() < until, "{topology}");
        }
    }

    fn signal(&self) {
        let pid = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// How it ended.
    fn end(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The status and the body of an HTTP answer.
fn answer(mut stream: TcpStream) -> (u16, Value) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// A node with one answer under way that is told to stop; the answer, and how to end it.
fn leaving(runtime: &str) -> (Node, TcpStream, Prompt) {
    let peer = Peer::start();
    let node = Node::start(&peer, runtime);
    node.meet();
    let asked = node.ask();
    let prompt = peer.prompts.recv_timeout(PATIENCE).unwrap();
    node.signal();
    let line = node.line("leaving");
    let wanted = "leaving: 1 answer under way; press ^C again to stop at once";
    assert!(line.contains(wanted), "{line}");
    (node, asked, prompt)
}

#[test]
fn a_node_that_is_told_to_stop_gives_its_answers_first_and_takes_no_new_questions() {
    for runtime in ["smol", "std"] {
        let (node, asked, (request_id, mut way)) = leaving(runtime);
        let (status, body) = answer(node.ask());
        assert_eq!((status, &body["error"]["code"]), (503, &json!("leaving")));
        let message = "this node is leaving; ask another one";
        assert_eq!(body["error"]["message"], message);
        for (token, is_finished) in [(2, false), (i64::from(END_TOKEN), true)] {
            let result = SendResult {
                request_id: request_id.clone(),
                result: vec![token],
                is_finished,
                tensor: None,
            };
            send(&mut way, &Message::SendResult(result));
        }
        let (status, body) = answer(asked);
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["choices"][0]["message"]["content"], "dummy");
        assert_eq!(node.end(), Some(0), "{runtime}");
    }
}

#[test]
fn a_second_signal_stops_it_at_once_and_its_answers_hear_of_it() {
    for runtime in ["smol", "std"] {
        let (node, asked, _prompt) = leaving(runtime);
        node.signal();
        let (status, body) = answer(asked);
        assert_eq!((status, &body["error"]["code"]), (503, &json!("stopping")));
        assert_eq!(node.end(), Some(0), "{runtime}");
    }
}
