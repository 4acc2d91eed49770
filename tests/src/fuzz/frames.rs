//! Bytes to messages and back.

use super::message;
use super::scene::Scene;
use super::source::Source;
use exo_protocol::wire::{
    DecodeError, DecodeLimits, Decoder, Encoder, HEADER_LEN, MAGIC, Message, MessageType,
};

/// Room that a decoder may hold beyond what has arrived: its read-ahead and one doubling.
const SLACK: usize = 256 << 10;

fn limits() -> DecodeLimits {
    DecodeLimits {
        frame: 1 << 20,
        ..DecodeLimits::default()
    }
}

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
    let limits = limits();
    let whole = decode_in_pieces(data, &limits, |length| length);
    let single = decode_in_pieces(data, &limits, |_| 1);
    let mut turn = data.len();
    let uneven = decode_in_pieces(data, &limits, |_| {
        turn = turn.wrapping_mul(31).wrapping_add(7) % 97;
        turn
    });
    // As text, because no number equals itself that is none.
    assert_eq!(format!("{whole:?}"), format!("{single:?}"), "byte by byte");
    assert_eq!(
        format!("{whole:?}"),
        format!("{uneven:?}"),
        "in uneven pieces"
    );
}

/// The payloads of the frames at the start of `data`, those that are to be read over left out.
fn frames(data: &[u8]) -> Vec<(MessageType, &[u8])> {
    let mut frames = Vec::new();
    let mut rest = data;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let [m0, m1, m2, m3, number, l0, l1, l2, l3] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (true, Some(payload)) = ([m0, m1, m2, m3] == MAGIC, after.get(..length)) else {
            break;
        };
        match MessageType::from_byte(number) {
            Some(kind) => frames.push((kind, payload)),
            None if MessageType::SKIPPABLE.contains(&number) => {}
            None => break,
        }
        rest = after.get(length..).unwrap_or_default();
    }
    frames
}

/// Any bytes as frames: what decodes is written again and decodes to the same. Messages of the
/// extension keep their bytes; those with JSON do once they have been written by us. The same for
/// a message that is made of the bytes.
pub fn roundtrip(data: &[u8]) {
    let limits = limits();
    let (messages, _) = decode_in_pieces(data, &limits, |length| length);
    let frames = frames(data);
    assert!(messages.len() <= frames.len(), "a message without a frame");
    for (message, (kind, payload)) in messages.iter().zip(frames) {
        assert_eq!(message.message_type(), kind);
        let written = survives(message, &limits);
        let json = !kind.is_extension() || kind == MessageType::Topology;
        if !json {
            assert_eq!(&written[HEADER_LEN..], payload, "{message:?}");
        }
    }
    let mut source = Source::new(data);
    let message = message::any(&mut source, &Scene::default());
    survives(&message, &limits);
}

/// Writes a message, reads it, writes it again; gives its frame.
fn survives(message: &Message, limits: &DecodeLimits) -> Vec<u8> {
    let frame = written(message);
    let (again, error) = decode_in_pieces(&frame, limits, |length| length);
    assert_eq!(error, None, "{message:?}");
    assert_eq!(again.len(), 1, "{again:?}");
    for again in again {
        // As text, because no number equals itself that is none.
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
        assert_eq!(frame, written(&again), "{message:?}");
    }
    frame
}

fn written(message: &Message) -> Vec<u8> {
    match Encoder::new(message) {
        Ok(encoder) => encoder.slices().concat(),
        Err(error) => panic!("{message:?} came and cannot be sent: {error}"),
    }
}
