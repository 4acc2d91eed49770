use super::*;
use crate::shard::Shard;
use crate::tensor::{DType, Tensor};
use crate::wire::{Encoder, Header, SendTensor};

const HEALTH: &[u8] = b"EXO\x01\x01\0\0\0\0";

fn feed(decoder: &mut Decoder, mut bytes: &[u8]) -> Result<Vec<Message>, DecodeError> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let space = decoder.space();
        let n = space.len().min(bytes.len());
        assert!(n > 0, "no space");
        space[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        decoder.advance(n);
        while let Some(message) = decoder.poll()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn tensor(bytes: usize) -> Message {
    let data: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
    Message::SendTensorRequest(SendTensor {
        shard: Shard::new("m".into(), 0..1, 1).expect("layers"),
        tensor: Tensor::new(DType::U8, vec![1, bytes], data.into()).expect("bytes"),
        request_id: None,
        inference_state: None,
    })
}

#[test]
fn many_small_frames_come_out_of_one_read() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let stream = HEALTH.repeat(100);
    let space = decoder.space();
    space[..stream.len()].copy_from_slice(&stream);
    decoder.advance(stream.len());
    for _ in 0..100 {
        assert!(matches!(
            decoder.poll(),
            Ok(Some(Message::HealthCheckRequest { .. }))
        ));
    }
    assert_eq!(decoder.poll(), Ok(None));
    assert!(!decoder.is_mid_frame());
}

#[test]
fn frames_around_the_read_ahead_and_large_ones() {
    let mut stream = Vec::new();
    let mut sent = Vec::new();
    let head = Encoder::new(&tensor(0)).expect("small").remaining();
    for size in [
        0,
        1,
        AHEAD - head - 7,
        AHEAD - head,
        AHEAD - head + 1,
        AHEAD,
        1 << 20,
    ] {
        let message = tensor(size);
        stream.extend(Encoder::new(&message).expect("small").slices().concat());
        sent.push(message);
    }
    let mut decoder = Decoder::new(DecodeLimits::default());
    assert_eq!(feed(&mut decoder, &stream), Ok(sent));
    assert!(!decoder.is_mid_frame());
    assert_eq!(decoder.buffered(), AHEAD);
}

#[test]
fn memory_follows_what_came_not_what_was_announced() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let header = Header {
        kind: MessageType::SendTensorRequest,
        length: 256 << 20,
    };
    assert_eq!(feed(&mut decoder, &header.encode()), Ok(vec![]));
    assert!(decoder.is_mid_frame());
    let mut came = 0;
    while came < 3 << 20 {
        let space = decoder.space().len();
        assert!(space > 0);
        let n = space.min(10_000);
        decoder.advance(n);
        assert_eq!(decoder.poll(), Ok(None));
        came += n;
        assert!(decoder.buffered() <= 2 * came + 2 * AHEAD, "{came}");
    }
}

#[test]
fn limits_are_judged_from_the_header() {
    for kind in MessageType::ALL {
        let limits = DecodeLimits {
            frame: 30,
            metadata: 10,
            json: 20,
            json_depth: 4,
        };
        let limit = limits.payload(kind);
        let mut decoder = Decoder::new(limits);
        let header = Header {
            kind,
            length: limit + 1,
        };
        let error = DecodeError::PayloadTooLarge {
            kind,
            length: limit + 1,
            limit,
        };
        assert_eq!(feed(&mut decoder, &header.encode()), Err(error.clone()));
        assert_eq!(decoder.poll(), Err(error), "sticky");
        assert!(decoder.space().is_empty());
        assert_eq!(decoder.buffered(), 0);
    }
}

#[test]
fn messages_before_bad_bytes_still_come() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let stream = [HEALTH, b"XXXX\x01\0\0\0\0", HEALTH].concat();
    let space = decoder.space();
    space[..stream.len()].copy_from_slice(&stream);
    decoder.advance(stream.len());
    assert!(matches!(decoder.poll(), Ok(Some(_))));
    assert_eq!(decoder.poll(), Err(DecodeError::Magic(*b"XXXX")));
    assert_eq!(decoder.poll(), Err(DecodeError::Magic(*b"XXXX")));
}

#[test]
fn a_started_frame_is_told_from_a_finished_one() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    assert!(!decoder.is_mid_frame());
    for n in 1..HEALTH.len() {
        let mut decoder = Decoder::new(DecodeLimits::default());
        assert_eq!(feed(&mut decoder, &HEALTH[..n]), Ok(vec![]));
        assert!(decoder.is_mid_frame());
    }
    assert_eq!(
        feed(&mut decoder, HEALTH).map(|messages| messages.len()),
        Ok(1)
    );
    assert!(!decoder.is_mid_frame());
}

fn skippable(number: u8, length: u32) -> [u8; 9] {
    let [a, b, c, d] = length.to_be_bytes();
    [b'E', b'X', b'O', 1, number, a, b, c, d]
}

#[test]
fn what_may_be_skipped_is_read_over_wherever_it_is_cut() {
    let mut stream = HEALTH.to_vec();
    for (number, length) in [(0xc0, 0), (0xfe, 1), (0xd7, 30)] {
        stream.extend(skippable(number, length));
        // What looks like a frame inside of one is none.
        stream.extend(HEALTH.iter().cycle().take(length as usize));
    }
    stream.extend(HEALTH);
    for first in 0..stream.len() {
        for second in [first, first + 1, first + 9, stream.len()] {
            let second = second.min(stream.len());
            let mut decoder = Decoder::new(DecodeLimits::default());
            let mut messages = 0;
            for piece in [&stream[..first], &stream[first..second], &stream[second..]] {
                messages += feed(&mut decoder, piece).expect("well-formed").len();
                assert!(decoder.buffered() <= AHEAD);
            }
            assert_eq!(messages, 2, "{first} {second}");
            assert!(!decoder.is_mid_frame());
        }
    }
}

#[test]
fn a_long_skipped_payload_takes_no_memory() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    let length: u32 = 300 << 20;
    assert_eq!(feed(&mut decoder, &skippable(0xc5, length)), Ok(vec![]));
    assert!(decoder.is_mid_frame());
    let mut left = length as usize;
    while left > 0 {
        assert!(decoder.is_mid_frame());
        let space = decoder.space().len();
        assert_eq!(space, AHEAD);
        let n = space.min(left);
        decoder.advance(n);
        left -= n;
        assert_eq!(decoder.poll(), Ok(None));
        assert_eq!(decoder.buffered(), AHEAD);
    }
    assert!(!decoder.is_mid_frame());
    assert_eq!(feed(&mut decoder, HEALTH).map(|m| m.len()), Ok(1));
}

#[test]
fn other_unknown_numbers_end_it() {
    for number in [0x00, 0x7f, 0x80, 0xa0, 0xbf, 0xff] {
        let mut decoder = Decoder::new(DecodeLimits::default());
        let stream = [&skippable(0xc0, 2)[..], b"xx", &skippable(number, 0)].concat();
        let error = DecodeError::UnknownType(number);
        assert_eq!(feed(&mut decoder, &stream), Err(error.clone()));
        assert_eq!(decoder.poll(), Err(error));
        assert!(!decoder.is_mid_frame());
    }
}

#[test]
fn the_length_of_a_frame_is_told_with_its_message() {
    let mut decoder = Decoder::new(DecodeLimits::default());
    assert_eq!(decoder.last_frame_len(), 0);
    for size in [0, 10, 100, AHEAD, 3 * AHEAD] {
        let message = tensor(size);
        let frame = Encoder::new(&message).expect("small").slices().concat();
        let stream = [&skippable(0xe0, 3)[..], b"abc", &frame].concat();
        assert_eq!(feed(&mut decoder, &stream), Ok(vec![message]));
        assert_eq!(decoder.last_frame_len(), frame.len());
    }
}

#[test]
fn a_greeting_is_read_over_however_it_is_cut() {
    let mut stream = b"Last login: today\r\nEXO EX EXO\x02 E".to_vec();
    stream.extend(HEALTH.repeat(2));
    for piece in 1..stream.len() {
        let mut decoder = Decoder::after_greeting(DecodeLimits::default());
        let mut messages = 0;
        for bytes in stream.chunks(piece) {
            messages += feed(&mut decoder, bytes).expect("a greeting").len();
        }
        assert_eq!((messages, decoder.is_mid_frame()), (2, false), "{piece}");
        // Between frames it is an error, as ever.
        let late = feed(&mut decoder, b"Last login");
        assert_eq!(late, Err(DecodeError::Magic(*b"Last")));
    }
    let plain = feed(&mut Decoder::new(DecodeLimits::default()), &stream);
    assert_eq!(plain, Err(DecodeError::Magic(*b"Last")));
}

#[test]
fn a_greeting_has_a_limit() {
    let greeting = vec![b'E'; GREETING];
    let mut decoder = Decoder::after_greeting(DecodeLimits::default());
    assert_eq!(feed(&mut decoder, &greeting), Ok(vec![]));
    assert!(!decoder.is_mid_frame());
    assert_eq!(
        feed(&mut decoder, &greeting),
        Err(DecodeError::Magic(*b"EEEE"))
    );
    let mut decoder = Decoder::after_greeting(DecodeLimits::default());
    assert_eq!(feed(&mut decoder, &greeting), Ok(vec![]));
    assert_eq!(feed(&mut decoder, HEALTH).map(|came| came.len()), Ok(1));
}
