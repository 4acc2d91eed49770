use super::*;
use crate::node::reassembly::Reassembly;
use crate::tensor::{DType, Tensor};
use crate::topology::Capabilities;
use crate::wire::{DecodeLimits, Encoder, Open, SendResult, TopologyReply, decode_payload};
use alloc::vec;
use proptest::prelude::*;

/// Values in the hidden state of one position.
const WIDTH: usize = 16;
/// Positions whose hidden state takes several pieces.
const LONG: usize = 1500;

fn hidden(stream: u32, positions: usize) -> Message {
    let data: Vec<u8> = (0..positions * WIDTH * 4)
        .map(|index| (index / 7) as u8)
        .collect();
    let shape = vec![1, positions, WIDTH];
    Message::Step(Step {
        stream,
        position: 3,
        sample: true,
        body: StepBody::Hidden(Tensor::new(DType::F32, shape, data.into()).expect("its size")),
    })
}

fn tokens(stream: u32, positions: u32) -> Message {
    Message::Step(Step {
        stream,
        position: 0,
        sample: false,
        body: StepBody::Tokens((0..positions).collect()),
    })
}

fn close(stream: u32) -> Message {
    Message::Close { stream }
}

fn open(stream: u32, plan: usize) -> Message {
    let plan = vec![b'x'; plan].into();
    Message::Open(Open { stream, plan })
}

fn topology(model: &str) -> Message {
    let capabilities = Capabilities {
        model: model.into(),
        ..Capabilities::unknown()
    };
    Message::Topology(TopologyReply {
        nodes: vec![("me".into(), capabilities)],
        peer_graph: vec![],
    })
}

fn ping(id: u64) -> Message {
    Message::Ping { id }
}

fn filled(messages: impl IntoIterator<Item = Message>) -> Outbox {
    let mut outbox = Outbox::default();
    for message in messages {
        outbox.push(message, true, 100).expect("there is room");
    }
    outbox
}

fn drain(outbox: &mut Outbox) -> Vec<Message> {
    core::iter::from_fn(|| outbox.pop()).collect()
}

/// The next frame, which is a piece.
fn piece(outbox: &mut Outbox) -> Chunk {
    match outbox.pop() {
        Some(Message::Chunk(chunk)) => chunk,
        other => panic!("expected a piece, got {other:?}"),
    }
}

/// What the peer makes of these frames.
fn reassemble(frames: Vec<Message>) -> Vec<Message> {
    let (mut reassembly, limits) = (Reassembly::default(), DecodeLimits::default());
    let mut messages = Vec::new();
    for frame in frames {
        match frame {
            Message::Chunk(chunk) => {
                if let Some((kind, payload)) = reassembly.chunk(chunk, &limits).expect("in order") {
                    messages.push(decode_payload(kind, payload, &limits).expect("as it was"));
                }
            }
            Message::Abort { transfer } => reassembly.abort(transfer).expect("it had begun"),
            message => messages.push(message),
        }
    }
    assert_eq!(
        reassembly.held(),
        0,
        "all that began is complete or aborted"
    );
    messages
}

#[test]
fn the_most_urgent_goes_first_and_its_equals_in_order() {
    let result = Message::SendResult(SendResult {
        request_id: Some("a".into()),
        result: vec![1],
        is_finished: false,
        tensor: None,
    });
    let health = Message::HealthCheckRequest {
        payload: Bytes::new(),
    };
    let tensor = Message::SendExampleRequest(Bytes::new());
    let mut outbox = filled([
        tensor.clone(),
        tokens(1, 2),
        tokens(2, 1),
        close(7),
        result.clone(),
        health.clone(),
        ping(1),
    ]);
    assert_eq!(outbox.len(), 7);
    let order = [
        health,
        ping(1),
        close(7),
        result,
        tokens(2, 1),
        tensor,
        tokens(1, 2),
    ];
    assert_eq!(drain(&mut outbox), order);
    assert!(outbox.len() == 0);
}

#[test]
fn it_holds_so_many_and_no_more() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(ping(1), true, 2), Ok(()));
    assert_eq!(outbox.push(hidden(1, LONG), true, 2), Ok(()));
    assert_eq!(outbox.push(ping(2), true, 2), Err(OutboxFull));
    assert_eq!(outbox.pop(), Some(ping(1)));
    piece(&mut outbox);
    assert_eq!(outbox.len(), 1, "what has begun counts until it is gone");
    assert_eq!(outbox.push(ping(2), true, 1), Err(OutboxFull));
}

#[test]
fn a_large_message_goes_in_pieces_and_is_not_copied() {
    let message = hidden(1, LONG);
    let Message::Step(Step {
        body: StepBody::Hidden(tensor),
        ..
    }) = &message
    else {
        panic!("made above")
    };
    let first = tensor.data().as_ptr() as usize;
    let mut outbox = filled([message.clone()]);
    let total = message.payload_hint();
    let mut frames = Vec::new();
    let mut offset = 0;
    while let Some(frame) = outbox.pop() {
        let Message::Chunk(chunk) = &frame else {
            panic!("expected a piece, got {frame:?}")
        };
        assert_eq!((chunk.transfer, chunk.kind), (1, MessageType::Step as u8));
        assert_eq!(
            (chunk.total as usize, chunk.offset as usize),
            (total, offset)
        );
        let at = chunk.data.as_ptr() as usize;
        match offset.checked_sub(total - tensor.data().len()) {
            Some(from) => assert_eq!(at, first + from, "part of the tensor itself"),
            None => assert!(chunk.data.len() < 64, "the few bytes before the tensor"),
        }
        offset += chunk.data.len();
        frames.push(frame);
    }
    assert_eq!(frames.len(), 4, "96000 bytes");
    assert_eq!(reassemble(frames), [message]);
}

#[test]
fn a_small_message_and_any_for_a_reference_peer_stays_whole() {
    // To the byte: the largest that is small, and the smallest that is large.
    for (bytes, whole) in [(Chunk::MAX, true), (Chunk::MAX + 1, false)] {
        let message = open(1, bytes - open(1, 0).payload_hint());
        let frames = drain(&mut filled([message.clone()]));
        assert_eq!(frames.len() == 1, whole);
        assert_eq!(reassemble(frames), [message]);
    }
    let mut outbox = Outbox::default();
    let tensor = Message::SendExampleRequest(vec![0; 1 << 20].into());
    assert_eq!(outbox.push(tensor.clone(), false, 1), Ok(()));
    assert_eq!(outbox.pop(), Some(tensor));
}

#[test]
fn text_that_grows_on_the_wire_goes_in_pieces() {
    // JSON takes six bytes for each of these.
    let model = "\u{1}".repeat(Chunk::MAX / 5);
    let message = topology(&model);
    assert!(message.payload_hint() < Chunk::MAX);
    let frames = drain(&mut filled([message.clone()]));
    assert!(frames.len() > 1);
    assert_eq!(reassemble(frames), [message]);
}

#[test]
fn of_what_a_node_says_of_itself_only_the_last_word_waits() {
    let mut outbox = filled([topology("a"), ping(1)]);
    // Where there is room for nothing else.
    outbox
        .push(topology("b"), true, 2)
        .expect("it takes a place");
    assert_eq!(outbox.push(ping(2), true, 2), Err(OutboxFull));
    let last = topology(&"c".repeat(2 * Chunk::MAX));
    outbox
        .push(last.clone(), true, 2)
        .expect("it takes a place");
    let frames = drain(&mut outbox);
    assert!(frames.len() > 2, "what is large goes in pieces");
    assert_eq!(reassemble(frames), [last, ping(1)]);
    // What is gone is not taken back.
    let mut outbox = filled([topology("a")]);
    assert_eq!(outbox.pop(), Some(topology("a")));
    outbox.push(topology("b"), true, 2).expect("there is room");
    assert_eq!(drain(&mut outbox), [topology("b")]);
}

#[test]
fn what_is_urgent_goes_between_the_pieces() {
    let mut outbox = filled([hidden(1, LONG), hidden(2, LONG)]);
    let first = piece(&mut outbox);
    outbox.push(ping(1), true, 100).expect("there is room");
    outbox.push(tokens(3, 1), true, 100).expect("there is room");
    assert_eq!(outbox.pop(), Some(ping(1)));
    assert_eq!(outbox.pop(), Some(tokens(3, 1)));
    let second = piece(&mut outbox);
    assert_eq!((first.transfer, second.transfer), (1, 1));
    assert_eq!(second.offset as usize, first.data.len());
    let rest = drain(&mut outbox);
    let mut frames = vec![Message::Chunk(first), Message::Chunk(second)];
    frames.extend(rest);
    assert_eq!(reassemble(frames), [hidden(1, LONG), hidden(2, LONG)]);
}

#[test]
fn transfers_are_numbered_as_they_begin() {
    let open = open(9, 2 * Chunk::MAX);
    let mut outbox = filled([hidden(1, LONG)]);
    let mut frames = vec![Message::Chunk(piece(&mut outbox))];
    // Pushed later, begun earlier than the second step.
    for message in [hidden(2, LONG), ping(1), open.clone()] {
        outbox.push(message, true, 100).expect("there is room");
    }
    frames.extend(drain(&mut outbox));
    let expected = [ping(1), open, hidden(1, LONG), hidden(2, LONG)];
    assert_eq!(reassemble(frames), expected);
}

#[test]
fn the_last_position_of_a_prompt_does_not_overtake_the_others() {
    let steps = [tokens(1, 2), hidden(1, LONG), tokens(1, 1)];
    let mut outbox = filled(steps.clone());
    outbox.push(tokens(2, 1), true, 100).expect("there is room");
    let [a, b, c] = steps;
    let expected = [tokens(2, 1), a, b, c];
    assert_eq!(reassemble(drain(&mut outbox)), expected);
    let mut outbox = filled([hidden(1, LONG)]);
    let mut frames = vec![Message::Chunk(piece(&mut outbox))];
    outbox.push(tokens(1, 1), true, 100).expect("there is room");
    frames.extend(drain(&mut outbox));
    assert_eq!(reassemble(frames), [hidden(1, LONG), tokens(1, 1)]);
}

#[test]
fn the_next_length_is_that_of_the_next_frame() {
    let mut outbox = filled([
        hidden(1, LONG),
        tokens(1, 5),
        hidden(2, 1),
        close(1),
        ping(1),
    ]);
    let mut frames = 0;
    while let Some(length) = outbox.next_len() {
        let frame = outbox.pop().expect("there is a next one");
        assert_eq!(length, Encoder::new(&frame).expect("small").remaining());
        frames += 1;
    }
    assert_eq!(frames, 4 + 4);
}

#[test]
fn steps_that_are_withdrawn_never_go() {
    let mut outbox = filled([
        tokens(1, 1),
        hidden(1, 2),
        hidden(1, LONG),
        hidden(2, LONG),
        close(1),
    ]);
    let lengths = [tokens(1, 1), hidden(1, 2), hidden(1, LONG)].map(|step| step.payload_hint());
    assert_eq!(outbox.withdraw(1), lengths);
    assert_eq!(outbox.withdraw(1), [0; 0]);
    assert_eq!(outbox.len(), 2);
    let frames = drain(&mut outbox);
    assert_eq!(reassemble(frames), [close(1), hidden(2, LONG)]);
}

#[test]
fn a_step_that_has_begun_is_aborted_in_its_place() {
    let mut outbox = filled([hidden(1, LONG), hidden(2, LONG), tokens(1, 2)]);
    let mut frames = vec![Message::Chunk(piece(&mut outbox))];
    let unsent = outbox.withdraw(1);
    assert_eq!(
        unsent,
        [hidden(1, LONG), tokens(1, 2)].map(|step| step.payload_hint()),
        "a step that is not complete was never charged"
    );
    assert_eq!(outbox.withdraw(1), [0; 0]);
    outbox.push(close(1), true, 100).expect("there is room");
    let rest = drain(&mut outbox);
    assert_eq!(rest.first(), Some(&close(1)));
    assert_eq!(rest.get(1), Some(&Message::Abort { transfer: 1 }));
    frames.extend(rest);
    assert_eq!(reassemble(frames), [close(1), hidden(2, LONG)]);
}

#[derive(Clone, Debug)]
enum Action {
    Push(u8, u32),
    Pop,
    Withdraw(u32),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0u8..6, 1u32..4).prop_map(|(kind, stream)| Action::Push(kind, stream)),
        4 => Just(Action::Pop),
        1 => (1u32..4).prop_map(Action::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each stream's steps arrive in order, or were withdrawn; everything else arrives.
    #[test]
    fn nothing_is_lost_or_disordered(actions in prop::collection::vec(action(), 0..80)) {
        let mut outbox = Outbox::default();
        let (mut frames, mut sent) = (vec![], vec![]);
        let mut position = 0;
        // What the sender paid for, in bytes.
        let mut paid = 0;
        let mut see = |frame: Message| frames.push(frame);
        for action in actions {
            match action {
                Action::Push(kind, stream) => {
                    let mut message = match kind {
                        0 => ping(u64::from(position)),
                        1 => open(stream, 40_000),
                        2 => tokens(stream, 1),
                        3 => hidden(stream, 2),
                        4 => tokens(stream, 20_000),
                        _ => hidden(stream, LONG),
                    };
                    position += 1;
                    if let Message::Step(step) = &mut message {
                        step.position = position;
                        paid += message.payload_hint();
                    }
                    outbox.push(message.clone(), true, 1000).expect("there is room");
                    sent.push(message);
                }
                Action::Pop => {
                    if let Some(frame) = outbox.pop() {
                        see(frame);
                    }
                }
                Action::Withdraw(stream) => {
                    paid -= outbox.withdraw(stream).into_iter().sum::<usize>();
                }
            }
        }
        for frame in drain(&mut outbox) {
            see(frame);
        }
        let largest = frames.iter().map(|frame| frame.payload_hint()).max();
        prop_assert!(largest.unwrap_or(0) <= Chunk::MAX + 13);
        let came = reassemble(frames);
        // What the receiver is charged with: steps that are complete.
        let steps = came.iter().filter(|message| step(message).is_some());
        prop_assert_eq!(paid, steps.map(Message::payload_hint).sum::<usize>());
        for message in &sent {
            let arrived = came.iter().filter(|other| *other == message).count();
            if step(message).is_some() {
                prop_assert!(arrived <= 1);
            } else {
                let same = sent.iter().filter(|other| *other == message).count();
                prop_assert_eq!(arrived, same);
            }
        }
        for stream in 1..4 {
            let positions: Vec<u32> = came
                .iter()
                .filter_map(step)
                .filter(|step| step.stream == stream)
                .map(|step| step.position)
                .collect();
            prop_assert!(positions.is_sorted(), "stream {stream}: {positions:?}");
        }
    }
}
