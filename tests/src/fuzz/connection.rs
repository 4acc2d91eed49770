//! Bytes and time into one connection of one node.

use super::engine::Mood;
use super::harness::{Harness, config};
use super::message::{self, ME};
use super::source::Source;
use super::training;
use exo_protocol::config::Discovery;
use exo_protocol::engine::{FailureKind, Sampling};
use exo_protocol::wire::{Chunk, Decoder, MAGIC, Message, MessageType, encode_payload};
use exo_protocol::{Command, ConnectionId, Discovered, Input, LinkFault, NodeId, Submit, dummy};
use std::time::Duration;

/// One connection of a node, with the far end's bytes on their way to it.
struct Talk {
    harness: Harness,
    connection: ConnectionId,
    decoder: Decoder,
    /// Bytes of one read.
    cut: usize,
}

/// Any bytes as what happens on one connection: bytes come in pieces through a real decoder, what
/// was sent is confirmed or not, time passes, the engine works, the connection is lost.
pub fn connection(data: &[u8]) {
    let mut source = Source::new(data);
    let source = &mut source;
    let mut config = config(source.byte());
    let shape = source.byte();
    let dialed = shape & 1 == 1;
    if !dialed {
        config.discovery = Discovery::default();
    }
    let decoder = Decoder::new(config.decode.clone());
    let mut harness = Harness::new(config);
    let connection = harness.open(dialed, "a");
    let mut talk = Talk {
        harness,
        connection,
        decoder,
        cut: usize::MAX,
    };
    if shape & 6 != 0 {
        talk.introduce(source, dialed);
    }
    while !source.is_empty() && talk.is_open() {
        talk.next(source);
    }
    talk.harness.end();
}

impl Talk {
    fn is_open(&self) -> bool {
        self.harness.wires.contains_key(&self.connection)
    }

    /// The far end becomes a node of ours, with a place in every ring.
    fn introduce(&mut self, source: &mut Source<'_>, dialed: bool) {
        let Some(wire) = self.harness.wires.get(&self.connection) else {
            return;
        };
        let hello = message::introduction(source, &wire.scene);
        let node = wire.scene.node;
        self.say(&if dialed {
            Message::HealthCheckResponse {
                is_healthy: true,
                exo: Some(hello.to_json()),
            }
        } else {
            Message::HealthCheckRequest {
                payload: hello.to_request_payload(),
            }
        });
        self.harness.confirm(self.connection, 4);
        let topology = message::topology(source, node);
        self.say(&Message::Topology(topology));
    }

    fn next(&mut self, source: &mut Source<'_>) {
        let connection = self.connection;
        match source.below(24) {
            0 => self.bytes(source.bytes()),
            1 => {
                let kind = MessageType::ALL[usize::from(source.byte()) % MessageType::ALL.len()];
                self.frame(kind as u8, source.bytes());
            }
            2 => self.frame(source.byte(), source.bytes()),
            3..7 => self.goes_on(source),
            7..11 => {
                if let Some(wire) = self.harness.wires.get(&connection) {
                    let message = message::any(source, &wire.scene);
                    self.say(&message);
                }
            }
            11 => self.pieces(source),
            12 => self.cut = [usize::MAX, 1, 7, 100][usize::from(source.below(4))],
            13..16 => self
                .harness
                .confirm(connection, usize::from(source.below(8)) + 1),
            16 => {
                let millis = [1, 20, 100, 250, 1000, 5000, 30_000, 300_000];
                let time = Duration::from_millis(source.pick(&millis));
                self.harness.wait(time);
            }
            17 => self.harness.wait_for_deadline(),
            18..21 => self
                .harness
                .compute(usize::from(source.below(4)) + 1, Mood::Able),
            21 => match source.below(3) {
                0 => self.harness.compute(1, Mood::Ending),
                1 => self.harness.compute(1, Mood::Unable(FailureKind::Internal)),
                _ => self.harness.compute(1, Mood::Unable(FailureKind::BadInput)),
            },
            22 => self.harness.input(command(source)),
            _ if source.one_in(8) => {
                let fault = match self.decoder.is_mid_frame() {
                    true => LinkFault::Truncated,
                    false => LinkFault::Closed,
                };
                self.harness.lose(connection, fault);
            }
            _ => {}
        }
    }

    /// The far end behaves well.
    fn goes_on(&mut self, source: &mut Source<'_>) {
        let Some(wire) = self.harness.wires.get_mut(&self.connection) else {
            return;
        };
        for message in wire.scene.goes_on(source) {
            self.say(&message);
        }
    }

    /// The far end writes a message.
    fn say(&mut self, message: &Message) {
        match encode_payload(message) {
            Ok(payload) => self.frame(message.message_type() as u8, &payload),
            Err(error) => panic!("{message:?} cannot be sent: {error}"),
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let head = [&MAGIC[..], &[kind], &length.to_be_bytes()];
        self.bytes(&[&head.concat(), payload].concat());
    }

    /// A message in pieces that may stop before its end.
    fn pieces(&mut self, source: &mut Source<'_>) {
        let Some(wire) = self.harness.wires.get(&self.connection) else {
            return;
        };
        let transfer = wire.scene.next_transfer();
        let message = message::any(source, &wire.scene);
        let Ok(payload) = encode_payload(&message) else {
            return;
        };
        let size = usize::from(source.byte()) + 1;
        let mut left = source.byte();
        let total = u32::try_from(payload.len()).unwrap_or(0);
        for (index, offset) in (0..payload.len()).step_by(size).enumerate() {
            left = left.wrapping_sub(1);
            if left == 0 || index > 64 {
                return;
            }
            let end = payload.len().min(offset + size);
            self.say(&Message::Chunk(Chunk {
                transfer,
                kind: message.message_type() as u8,
                total,
                offset: u32::try_from(offset).unwrap_or(0),
                data: payload.slice(offset..end),
            }));
        }
    }

    /// Bytes come, as many at once as the cut says. As the drivers do: first all messages that are
    /// complete, then the word that one is not.
    fn bytes(&mut self, mut rest: &[u8]) {
        let connection = self.connection;
        while !rest.is_empty() && self.is_open() {
            let space = self.decoder.space();
            let taken = rest.len().min(space.len()).min(self.cut);
            assert!(taken > 0, "a decoder that has not failed lends room");
            let (now, later) = rest.split_at(taken);
            if let Some(place) = space.get_mut(..taken) {
                place.copy_from_slice(now);
            }
            self.decoder.advance(taken);
            rest = later;
            loop {
                match self.decoder.poll() {
                    Ok(Some(message)) => self.harness.hear(connection, message),
                    Ok(None) => break,
                    Err(error) => {
                        self.harness.lose(connection, LinkFault::Malformed(error));
                        return;
                    }
                }
            }
            if self.decoder.is_mid_frame() {
                self.harness.input(Input::Progress { connection });
            }
        }
    }
}

/// A peer that an application names: somebody, or nobody in particular, somewhere.
fn discovered(source: &mut Source<'_>) -> Discovered {
    let node = match source.below(4) {
        0 => None,
        1 => Some(NodeId::from(ME)),
        who => Some(NodeId::from(format!("n{who}"))),
    };
    Discovered {
        node,
        address: format!("host:{}", source.below(4)),
        description: String::from("LIST"),
        capabilities: None,
    }
}

/// Something that an application wants.
pub(super) fn command(source: &mut Source<'_>) -> Input {
    let kind = source.below(32);
    let request = message::request(source);
    Input::Command(match kind {
        18 => Command::Train(training::begin(source, request)),
        19 => Command::Example(training::example(source, request)),
        20 => Command::Save { job: request },
        21 => Command::EndJob { job: request },
        0..18 => Command::Submit(Submit {
            request,
            model: dummy::MODEL.into(),
            layers: if kind == 0 { 0 } else { dummy::LAYERS },
            bytes: if kind == 1 { 1500 << 20 } else { 0 },
            cost: Default::default(),
            fingerprint: u64::from(kind & 1),
            prompt: "p".into(),
            tokens: message::tokens(source),
            end_tokens: vec![69],
            sampling: Sampling::default(),
            max_tokens: u32::from(source.below(8)),
            timeout: Duration::from_secs(20),
            trace: false,
        }),
        22 => Command::Unload {
            model: dummy::MODEL.into(),
        },
        23..29 => Command::Cancel { request },
        29 => Command::Discovered {
            source: format!("list {}", source.below(2)),
            peers: (0..source.below(4)).map(|_| discovered(source)).collect(),
        },
        30 => Command::Drain,
        _ => match source.below(4) {
            3 => Command::Stop,
            _ => Command::Cancel { request: ME.into() },
        },
    })
}
