//! Bodies of the fuzz targets: each takes any bytes and panics when something that must hold does
//! not. An ordinary test runs them over the recorded frames.

use exo_models::gguf::Gguf;
use exo_protocol::discovery::manual;
use exo_protocol::wire::{DecodeError, DecodeLimits, Decoder, Message};

/// Room that a decoder may hold beyond what has arrived: its read-ahead and one doubling.
const SLACK: usize = 256 << 10;

/// What a stream of bytes decodes to, in pieces whose lengths `cut` chooses.
///
/// # Panics
/// When the decoder lends no room although it has not failed, or holds more memory than bytes
/// arrived and a constant.
pub fn decode_in_pieces(
    data: &[u8],
    limits: &DecodeLimits,
    mut cut: impl FnMut(usize) -> usize,
) -> (Vec<Message>, Option<DecodeError>) {
    let mut decoder = Decoder::new(limits.clone());
    let mut messages = Vec::new();
    let mut rest = data;
    loop {
        loop {
            match decoder.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        if rest.is_empty() {
            return (messages, None);
        }
        let wanted = cut(rest.len()).clamp(1, rest.len());
        let space = decoder.space();
        assert!(
            !space.is_empty(),
            "a decoder that has not failed lends room"
        );
        let taken = wanted.min(space.len());
        let (now, later) = rest.split_at(taken);
        if let Some(place) = space.get_mut(..taken) {
            place.copy_from_slice(now);
        }
        decoder.advance(taken);
        rest = later;
        let arrived = data.len() - rest.len();
        let held = decoder.buffered();
        assert!(
            held <= 2 * arrived + SLACK,
            "{held} bytes held after {arrived} arrived"
        );
    }
}

/// Any bytes into a decoder: no panic, bounded memory, and cutting them elsewhere changes nothing.
pub fn decode(data: &[u8]) {
    let limits = DecodeLimits {
        frame: 1 << 20,
        ..DecodeLimits::default()
    };
    let whole = decode_in_pieces(data, &limits, |length| length);
    let single = decode_in_pieces(data, &limits, |_| 1);
    let mut turn = data.len();
    let uneven = decode_in_pieces(data, &limits, |_| {
        turn = turn.wrapping_mul(31).wrapping_add(7) % 97;
        turn
    });
    assert_eq!(whole, single, "byte by byte");
    assert_eq!(whole, uneven, "in uneven pieces");
}

/// Any text as a discovery file: no panic, and what is accepted has an address to dial.
pub fn discovery(data: &[u8]) {
    if let Ok(peers) = manual::parse(data) {
        for peer in peers {
            let port = peer
                .address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            assert!(
                matches!(port, Some(Ok(1..))),
                "{:?} cannot be dialled",
                peer.address
            );
        }
    }
}

/// Any bytes as a GGUF file: no panic, and no memory by announced sizes (the fuzzer's limit tells).
pub fn gguf(data: &[u8]) {
    let _ = Gguf::parse(data);
}
