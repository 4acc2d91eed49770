//! A peer of the checks' own: a socket, and the codec to look at what comes over it.
//!
//! It is a reference peer, unless it introduces itself: then it is one of our own, and the checks
//! speak the extension for it.

use super::PATIENCE;
use bytes::Bytes;
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{
    Chunk, DecodeLimits, Decoder, Encoder, Hello, Message, SendPrompt, SendTensor, TopologyReply,
    WireEdge, encode_payload,
};
use exo_protocol::{Shard, Tensor};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// One connection of such a peer.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    decoder: Decoder,
}

impl Raw {
    /// Connects to a host.
    ///
    /// # Panics
    /// If it does not accept.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the host accepts"))
    }

    /// Takes a host's connection.
    ///
    /// # Panics
    /// If it does not connect.
    #[must_use]
    pub fn accept(listener: &TcpListener) -> Self {
        listener
            .set_nonblocking(true)
            .expect("an option of every socket");
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < until, "the host does not connect");
                    thread::sleep(Duration::from_millis(1));
                }
                accepted => break accepted.expect("the host connects").0,
            }
        };
        stream
            .set_nonblocking(false)
            .expect("an option of every socket");
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option of every socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("an option of every socket");
        Self {
            stream,
            decoder: Decoder::new(DecodeLimits::default()),
        }
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The same connection, to be written to while it is read from.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn try_clone(&self) -> Self {
        Self::over(self.stream.try_clone().expect("a second handle"))
    }

    /// Sends bytes as they are. A connection that is closed meanwhile is no failure here.
    ///
    /// # Panics
    /// If they do not go out.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if is_gone(error.kind()) => {}
            written => written.expect("the bytes go out"),
        }
    }

    /// Sends messages in one write.
    pub fn send(&mut self, messages: &[Message]) {
        self.send_bytes(&bytes_of(messages));
    }

    /// The next message; `None` when the host has closed the connection.
    ///
    /// # Panics
    /// If nothing comes, or what is no message.
    pub fn receive(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.decoder.poll().expect("a host sends messages") {
                return Some(message);
            }
            match self.stream.read(self.decoder.space()) {
                Ok(0) => return None,
                Ok(count) => self.decoder.advance(count),
                Err(error) if is_gone(error.kind()) => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Asks for the host's health and waits for the answer to that.
    ///
    /// # Panics
    /// If something else comes.
    pub fn check_health(&mut self) {
        self.send(&[health()]);
        let answer = self.receive().expect("the connection is open");
        assert!(matches!(
            answer,
            Message::HealthCheckResponse {
                is_healthy: true,
                ..
            }
        ));
    }

    /// Waits until the host has closed the connection.
    ///
    /// # Panics
    /// If it does not.
    pub fn closed(mut self) {
        while self.receive().is_some() {}
    }

    /// Answers `count` questions as the reference node `raw`, which knows the node `host`.
    ///
    /// # Panics
    /// If something else comes.
    pub fn answer(&mut self, count: usize) {
        for _ in 0..count {
            let answer = match self.receive() {
                Some(Message::HealthCheckRequest { .. }) => Message::HealthCheckResponse {
                    is_healthy: true,
                    exo: None,
                },
                Some(Message::CollectTopologyRequest { .. }) => {
                    Message::CollectTopologyResponse(view())
                }
                other => panic!("a member of a ring is not asked {other:?}"),
            };
            self.send(&[answer]);
        }
    }

    /// Becomes a node of ours, `raw`, which knows the node `host`; from now on both speak the
    /// extension. Gives what the host said of itself.
    ///
    /// # Panics
    /// If the host does not introduce itself, or does not tell its topology at once.
    pub fn introduce(&mut self) -> Hello {
        let payload = Hello {
            window: u32::MAX,
            stream_window: u32::MAX,
            ..Hello::new("raw")
        }
        .to_request_payload();
        self.send(&[Message::HealthCheckRequest { payload }]);
        let hello = match self.receive() {
            Some(Message::HealthCheckResponse { exo, .. }) => {
                exo.as_ref().and_then(Hello::from_json)
            }
            other => panic!("an introduction is not answered with {other:?}"),
        };
        let told = self.receive();
        assert!(matches!(told, Some(Message::Topology(_))), "{told:?}");
        self.send(&[Message::Topology(view())]);
        hello.expect("the host is one of ours")
    }
}

fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// The frames of messages.
///
/// # Panics
/// If one is too large for a frame.
#[must_use]
pub fn bytes_of(messages: &[Message]) -> Vec<u8> {
    let encode = |message| {
        Encoder::new(message)
            .expect("it fits a frame")
            .slices()
            .concat()
    };
    messages.iter().flat_map(encode).collect()
}

/// A health check.
#[must_use]
pub fn health() -> Message {
    Message::HealthCheckRequest {
        payload: Bytes::new(),
    }
}

/// A question for the topology.
#[must_use]
pub fn ask_topology() -> Message {
    Message::CollectTopologyRequest {
        visited: vec![],
        max_depth: 4,
    }
}

/// A prompt for a model of one layer, all of it on the receiver.
#[must_use]
pub fn prompt(request: &str, model: &str) -> Message {
    Message::SendPromptRequest(SendPrompt {
        shard: whole(model),
        prompt: "hello".into(),
        request_id: Some(request.into()),
        inference_state: None,
    })
}

/// Token ids for the first stage, for the same.
#[must_use]
pub fn tokens(request: Option<&str>, model: &str) -> Message {
    Message::SendTensorRequest(SendTensor {
        shard: whole(model),
        tensor: Tensor::from_tokens(&[1]),
        request_id: request.map(Into::into),
        inference_state: None,
    })
}

fn whole(model: &str) -> Shard {
    Shard {
        model: model.into(),
        start: 0,
        end: 0,
        layers: 1,
    }
}

/// The plan of a request of `raw` for one token: its own the first layer, the host's the second.
#[must_use]
pub fn plan(request: &str, model: &str, prompt: u32) -> Bytes {
    let ring = r#"[["raw", 0, 0, 0], ["host", 1, 1, 0]]"#;
    let sampling = r#"{"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": 0}"#;
    Bytes::from(format!(
        r#"{{"request": "{request}", "epoch": 0, "origin": "raw", "model": "{model}", "layers": 2,
        "fingerprint": 0, "ring": {ring}, "prompt": {prompt}, "sampling": {sampling},
        "max_tokens": 1}}"#
    ))
}

/// A message as the extension has it travel: whole, or in the pieces of a transfer of this number.
///
/// # Panics
/// If it is too large for both.
#[must_use]
pub fn pieces(message: &Message, transfer: u32) -> Vec<Message> {
    let payload = encode_payload(message).expect("it can be written");
    if payload.len() <= Chunk::MAX {
        return vec![message.clone()];
    }
    let total = u32::try_from(payload.len()).expect("it fits a frame");
    let piece = |(index, data): (usize, &[u8])| {
        let offset = u32::try_from(index * Chunk::MAX).expect("no more than the total");
        Message::Chunk(Chunk {
            transfer,
            kind: message.message_type() as u8,
            total,
            offset,
            data: payload.slice_ref(data),
        })
    };
    payload.chunks(Chunk::MAX).enumerate().map(piece).collect()
}

/// What `raw` says of itself: little memory, and that it knows the host.
fn view() -> TopologyReply {
    let edge = WireEdge {
        to_id: "host".into(),
        description: None,
        metrics: Default::default(),
    };
    let capabilities = Capabilities {
        memory: 1,
        ..Capabilities::unknown()
    };
    TopologyReply {
        nodes: vec![("raw".into(), capabilities)],
        peer_graph: vec![("raw".into(), vec![edge])],
    }
}
