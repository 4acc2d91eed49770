//! Any sequence of inputs into one node with several connections and peers.

use super::connection::command;
use super::engine::Mood;
use super::harness::{Harness, config, discovery_file};
use super::message::{self, ME, NODES};
use super::source::Source;
use bytes::Bytes;
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::discovery::interface::Interface;
use exo_protocol::discovery::tcp::Announce;
use exo_protocol::engine::FailureKind;
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{Chunk, Message, encode_payload};
use exo_protocol::{ConnectionId, Input, LinkFault};
use std::net::IpAddr;
use std::time::Duration;

/// Any bytes as the life of a node: connections come and go, peers say anything, the engine answers
/// rightly and wrongly, the application asks, cancels and stops.
pub fn node(data: &[u8]) {
    let mut source = Source::new(data);
    let shape = source.byte();
    let mut harness = Harness::new(config(shape));
    harness.lingers = shape >> 6 == 3;
    while !source.is_empty() {
        next(&mut harness, &mut source);
    }
    harness.end();
}

fn next(harness: &mut Harness, source: &mut Source<'_>) {
    harness.hang_up();
    match source.below(32) {
        0 if harness.wires.len() < 5 => meet(harness, source),
        1 if harness.wires.len() < 5 => {
            let kind = source.byte();
            let node = NODES[usize::from(kind >> 1 & 3)];
            harness.open(kind & 1 == 1, node);
        }
        2 => {
            if let Some(dial) = harness.dials.pop_front() {
                let reason = String::from("refused");
                harness.input(Input::DialFailed { dial, reason });
            }
        }
        3 => {
            if let Some(connection) = some(harness, source) {
                let faults = [LinkFault::Closed, LinkFault::Truncated];
                let fault = faults[usize::from(source.below(2))].clone();
                harness.lose(connection, fault);
            }
        }
        4 => {
            if let Some(connection) = some(harness, source) {
                harness.input(Input::Progress { connection });
            }
        }
        5 | 6 => {
            if let Some(connection) = some(harness, source) {
                harness.confirm(connection, usize::from(source.below(16)) + 1);
            }
        }
        7..11 => harness.compute(usize::from(source.below(4)) + 1, Mood::Able),
        11 => {
            let mood = match source.below(7) {
                0 | 1 => Mood::Ending,
                2 => Mood::Unable(FailureKind::ModelNotFound),
                3 => Mood::Unable(FailureKind::OutOfMemory),
                4 => Mood::Unable(FailureKind::ContextFull),
                _ => Mood::Unable(FailureKind::Internal),
            };
            harness.compute(1, mood);
        }
        12 => {
            let event = match source.one_in(8) {
                true => Some(harness.engine.lie(source)),
                false => harness.engine.progress(),
            };
            if let Some(event) = event {
                harness.input(Input::Engine(event));
            }
        }
        13 | 14 => harness.input(command(source)),
        15 => {
            let millis = [1, 20, 100, 250, 1000, 5000, 30_000, 300_000];
            let time = Duration::from_millis(source.pick(&millis));
            harness.wait(time);
        }
        16 => harness.wait_for_deadline(),
        17 => {
            if std::mem::take(&mut harness.reads_file) {
                let file = discovery_file(source.byte());
                harness.input(Input::DiscoveryFile(file));
            } else if std::mem::take(&mut harness.lists_interfaces) {
                harness.input(Input::Interfaces(interfaces(source.byte())));
            } else if let Some(ask) = harness.asks.pop_front() {
                let answer = answer(source);
                harness.input(Input::Answered { ask, answer });
            } else if source.one_in(4) {
                let host = source.byte();
                harness.visited(host, announce(source));
            } else if harness.datagrams > 0 {
                harness.datagrams -= 1;
                harness.input(datagram(source));
            }
        }
        18 => {
            if let Some(connection) = some(harness, source) {
                in_pieces(harness, connection, source);
            }
        }
        19..26 => {
            if let Some(connection) = some(harness, source) {
                harness.goes_on(connection, source);
            }
        }
        _ => {
            if let Some(connection) = some(harness, source) {
                let message = message::any(source, &harness.wires[&connection].scene);
                harness.hear(connection, message);
            }
        }
    }
}

/// One of the connections.
fn some(harness: &Harness, source: &mut Source<'_>) -> Option<ConnectionId> {
    let index = usize::from(source.byte()).checked_rem(harness.wires.len())?;
    harness.wires.keys().nth(index).copied()
}

/// A node of ours comes and takes part.
fn meet(harness: &mut Harness, source: &mut Source<'_>) {
    let shape = source.byte();
    let dialed = shape & 1 == 1 && !harness.dials.is_empty();
    let connection = harness.open(dialed, NODES[1 + usize::from(shape >> 1) % 3]);
    let Some(wire) = harness.wires.get(&connection) else {
        return;
    };
    let node = wire.scene.node;
    let hello = message::introduction(source, &wire.scene);
    let hello = if dialed {
        Message::HealthCheckResponse {
            is_healthy: true,
            exo: Some(hello.to_json()),
        }
    } else {
        Message::HealthCheckRequest {
            payload: hello.to_request_payload(),
        }
    };
    harness.hear(connection, hello);
    harness.confirm(connection, 8);
    let topology = message::topology(source, node);
    harness.hear(connection, Message::Topology(topology));
}

/// A message in up to three pieces, the last of which may not come.
fn in_pieces(harness: &mut Harness, connection: ConnectionId, source: &mut Source<'_>) {
    let Some(wire) = harness.wires.get(&connection) else {
        return;
    };
    let transfer = wire.scene.next_transfer();
    let message = message::any(source, &wire.scene);
    let Ok(payload) = encode_payload(&message) else {
        return;
    };
    let (kind, shape) = (message.message_type() as u8, source.byte());
    let total = u32::try_from(payload.len()).unwrap_or(0);
    let size = payload.len().div_ceil(1 + usize::from(shape & 3)).max(1);
    let count = payload.len().div_ceil(size) - usize::from(shape >> 5 == 7 && !payload.is_empty());
    for offset in (0..payload.len()).step_by(size).take(count) {
        let end = payload.len().min(offset + size);
        let piece = Chunk {
            transfer,
            kind,
            total,
            offset: u32::try_from(offset).unwrap_or(0),
            data: payload.slice(offset..end),
        };
        harness.hear(connection, Message::Chunk(piece));
    }
}

fn interfaces(shape: u8) -> Result<Vec<Interface>, String> {
    if shape == 0 {
        return Err("no addresses today".to_owned());
    }
    let interface = |n: u8| Interface {
        name: ["lo", "eth0", "docker0"][usize::from(n) % 3].to_owned(),
        address: [10, 0, n, shape].into(),
        broadcast: (shape & 1 == 0).then_some([10, 0, n, 255].into()),
    };
    Ok((0..shape % 70).map(interface).collect())
}

/// An announcement, perhaps of this node, of one that is connected, or spoiled.
fn datagram(source: &mut Source<'_>) -> Input {
    let node = source.pick(&[ME, "a", "b", "c", "\u{7}"]);
    let name = source.pick(&["eth0", "lo", "wlan0"]);
    let port = source.pick(&[1, 2, 65_535]);
    let machine = Capabilities::unknown();
    let mut payload = Announcement::over(name, node.into(), port, machine)
        .encode()
        .to_vec();
    spoil(source, &mut payload);
    Input::Datagram {
        from: [10, 0, 0, source.byte() % 4].into(),
        payload: payload.into(),
    }
}

/// The same over TCP.
fn announce(source: &mut Source<'_>) -> Bytes {
    let announce = Announce {
        node: source.pick(&[ME, "a", "b", "c", "\u{7}"]).into(),
        port: source.pick(&[1, 2, 65_535]),
        capabilities: Capabilities::unknown(),
    };
    let mut payload = announce.encode().to_vec();
    spoil(source, &mut payload);
    payload.into()
}

/// What becomes of an announcement over TCP.
fn answer(source: &mut Source<'_>) -> Result<(IpAddr, Bytes), String> {
    if source.one_in(4) {
        return Err("refused".to_owned());
    }
    let from = [10, 0, 0, source.byte() % 4].into();
    let silent = source.one_in(4);
    let payload = if silent {
        Bytes::new()
    } else {
        announce(source)
    };
    Ok((from, payload))
}

fn spoil(source: &mut Source<'_>, payload: &mut Vec<u8>) {
    if source.one_in(4) {
        let at = usize::from(source.byte()) % payload.len();
        payload[at] = source.byte();
    }
    if source.one_in(8) {
        payload.truncate(usize::from(source.byte()));
    }
}
