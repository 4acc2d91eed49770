//! A node as the second stage of a ring, fed by hand: bare sockets on the near end, in the base
//! protocol and in the extension. So both are measured alike, hand-over by hand-over.
//!
//! In the base protocol a hand-over is a tensor and its acknowledgement; in the extension, which
//! acknowledges nothing, a STEP with a PING right behind it and the PONG: in both, the far node has
//! taken the hidden state and answered. What it answers first is up to it: the acknowledgement goes
//! before the engine is called, the PONG after. A turn is the time until the token is back, for which
//! that makes no difference.

use crate::far::Far;
use crate::raw::{hidden, tensor};
use crate::ring::{FAR, NEAR};
use crate::{BLOCK, Block, Contestant, Outcome};
use bytes::Bytes;
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::extension::end;
use exo_protocol::wire::{
    DecodeLimits, Decoder, Encoder, Ending, Hello, Message, Open, SendResult, Step, StepBody,
    TopologyReply, WireEdge,
};
use exo_tests::conformance::engine::MODEL;
use exo_tests::conformance::host::introduce;
use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

/// One end of a connection.
struct Line {
    stream: TcpStream,
    decoder: Decoder,
}

impl Line {
    fn new(stream: TcpStream) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        let decoder = Decoder::new(DecodeLimits::default());
        Ok(Self { stream, decoder })
    }

    fn write(&mut self, frames: &[&Encoder]) -> Outcome<()> {
        let slices = frames.iter().flat_map(|frame| frame.slices());
        let slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
        let written = self.stream.write_vectored(&slices)?;
        let size: usize = frames.iter().map(|frame| frame.remaining()).sum();
        assert_eq!(written, size, "a socket takes it all");
        Ok(())
    }

    fn send(&mut self, message: &Message) -> Outcome<()> {
        self.write(&[&Encoder::new(message)?])
    }

    fn receive(&mut self) -> Outcome<Message> {
        loop {
            if let Some(message) = self.decoder.poll()? {
                return Ok(message);
            }
            match self.stream.read(self.decoder.space())? {
                0 => return Err("the far node has closed a connection".into()),
                count => self.decoder.advance(count),
            }
        }
    }
}

fn request(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// What the near end says of itself: it comes first in the ring, and knows the far node.
fn view() -> TopologyReply {
    let capabilities = Capabilities {
        memory: 1001,
        ..Capabilities::unknown()
    };
    let edge = WireEdge {
        to_id: FAR.into(),
        description: None,
        metrics: Default::default(),
    };
    TopologyReply {
        nodes: vec![(NEAR.into(), capabilities)],
        peer_graph: vec![(NEAR.into(), vec![edge])],
    }
}

/// What a reference node answers.
fn reply(message: &Message) -> Option<Message> {
    match message {
        Message::HealthCheckRequest { .. } => Some(Message::HealthCheckResponse {
            is_healthy: true,
            exo: None,
        }),
        Message::CollectTopologyRequest { .. } => Some(Message::CollectTopologyResponse(view())),
        Message::SendTensorRequest(_) => Some(Message::SendTensorResponse(None)),
        _ => None,
    }
}

pub(crate) fn base(name: &'static str) -> Outcome<Contestant> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("peers.json");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    introduce(&[(NEAR, listener.local_addr()?)], &file);
    let far = Far::node(name, &file)?;
    let mut back = Line::new(listener.accept()?.0)?;
    let mut there = Line::new(TcpStream::connect(("127.0.0.1", far.port))?)?;
    // Its health and its topology.
    for _ in 0..2 {
        let question = back.receive()?;
        back.send(&reply(&question).ok_or("a question was expected")?)?;
    }
    let mut edges = 0;
    while edges != 2 {
        there.send(&Message::CollectTopologyRequest {
            visited: vec![],
            max_depth: 3,
        })?;
        if let Message::CollectTopologyResponse(view) = there.receive()? {
            edges = view.peer_graph.iter().map(|(_, edges)| edges.len()).sum();
        }
    }
    let mut number = 0;
    let run = move || {
        let _alive = (&far, &folder, &listener);
        number += 1;
        let frame = tensor(&request(number))?;
        let (mut hops, mut turns) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
        for _ in 0..BLOCK {
            let start = Instant::now();
            there.write(&[&frame])?;
            let acknowledged = there.receive()?;
            hops.push(start.elapsed());
            assert_eq!(acknowledged, Message::SendTensorResponse(None));
            let mut token = false;
            while !token {
                let message = back.receive()?;
                token = matches!(message, Message::SendTensorRequest(_));
                if token {
                    turns.push(start.elapsed());
                }
                if let Some(reply) = reply(&message) {
                    back.send(&reply)?;
                }
            }
        }
        there.send(&Message::SendResult(SendResult {
            request_id: Some(request(number)),
            result: vec![],
            is_finished: true,
            tensor: None,
        }))?;
        Ok(vec![Block::of(hops), Block::of(turns)])
    };
    let rows = vec![("base hop", vec![]), ("base turn", vec![])];
    let run = Box::new(run);
    Ok(Contestant { name, run, rows })
}

/// The plan of such a request: the near end asks and has the first layer, the far node the second.
fn plan(request: &str) -> Bytes {
    let ring = format!(r#"[["{NEAR}", 0, 0, 0], ["{FAR}", 1, 1, 0]]"#);
    let sampling = r#"{"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": 0}"#;
    let most = BLOCK + 1;
    Bytes::from(format!(
        r#"{{"request": "{request}", "epoch": 0, "origin": "{NEAR}", "model": "{MODEL}",
        "layers": 2, "fingerprint": 0, "ring": {ring}, "prompt": 1, "sampling": {sampling},
        "max_tokens": {most}}}"#
    ))
}

pub(crate) fn extension(name: &'static str) -> Outcome<Contestant> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("peers.json");
    introduce(&[], &file);
    let far = Far::node(name, &file)?;
    let mut line = Line::new(TcpStream::connect(("127.0.0.1", far.port))?)?;
    let hello = Hello {
        window: u32::MAX,
        stream_window: u32::MAX,
        ..Hello::new(NEAR)
    };
    let payload = hello.to_request_payload();
    line.send(&Message::HealthCheckRequest { payload })?;
    line.send(&Message::Topology(view()))?;
    let (mut number, mut pings) = (0, 0);
    let run = move || {
        let _alive = (&far, &folder);
        number += 1;
        let stream = u32::try_from(number)?;
        let plan = plan(&request(number));
        line.send(&Message::Open(Open { stream, plan }))?;
        let (mut hops, mut turns) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
        for position in 0..u32::try_from(BLOCK)? {
            pings += 1;
            let step = Encoder::new(&Message::Step(Step {
                stream,
                position,
                sample: true,
                body: StepBody::Hidden(hidden()?),
            }))?;
            let ping = Encoder::new(&Message::Ping { id: pings })?;
            let (mut answered, mut back) = (false, false);
            let start = Instant::now();
            line.write(&[&step, &ping])?;
            while !(answered && back) {
                match line.receive()? {
                    Message::Pong { id } if id == pings => {
                        hops.push(start.elapsed());
                        answered = true;
                    }
                    Message::Step(_) => {
                        turns.push(start.elapsed());
                        back = true;
                    }
                    Message::Ping { id } => line.send(&Message::Pong { id })?,
                    Message::Error(notice) => return Err(notice.text.into()),
                    Message::Failed(ending) => return Err(ending.text.into()),
                    _ => {}
                }
            }
        }
        line.send(&Message::End(Ending {
            epoch: 0,
            code: end::FINISHED,
            request: request(number).into(),
            text: String::new(),
        }))?;
        line.send(&Message::Close { stream })?;
        Ok(vec![Block::of(hops), Block::of(turns)])
    };
    let rows = vec![("extension hop", vec![]), ("extension turn", vec![])];
    let run = Box::new(run);
    Ok(Contestant { name, run, rows })
}
