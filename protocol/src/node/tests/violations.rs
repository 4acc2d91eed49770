//! Peers that speak the extension wrongly: each loses its connection with a named violation, and
//! nobody else is disturbed.

use super::net::Net;
use crate::id::ConnectionId;
use crate::node::*;
use crate::tensor::{DType, Tensor};
use crate::wire::extension::error;
use crate::wire::{Chunk, Ending, Hello, Message, Open, Step, StepBody, Token};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

pub(super) const BAD: ConnectionId = ConnectionId(1_000_001);

/// A settled pair of nodes; node 0 has one more connection, to whom the test speaks for.
fn net() -> Net {
    let mut net = Net::settled(&[1000, 1000]);
    net.input(
        0,
        Input::Opened {
            connection: BAD,
            origin: Origin::Accepted,
            remote: String::from("bad"),
        },
    );
    net
}

pub(super) fn introduced() -> Net {
    let mut net = net();
    introduce(&mut net);
    net
}

fn introduce(net: &mut Net) {
    let hello = Hello {
        window: 100,
        ..Hello::new("x")
    };
    say(
        net,
        Message::HealthCheckRequest {
            payload: hello.to_request_payload(),
        },
    );
}

/// Hands a message in; says with which code the connection was closed, if it was.
pub(super) fn say(net: &mut Net, message: Message) -> Option<u16> {
    let now = net.now;
    let input = Input::Received {
        connection: BAD,
        message,
        bytes: 9,
    };
    net.hosts[0].node.handle_input(now, input);
    let (mut code, mut closed) = (None, false);
    while let Some(output) = net.hosts[0].node.poll_output() {
        match &output {
            Output::Send {
                connection: BAD,
                message,
            } => {
                assert!(!closed, "{message:?} after the end");
                if let Message::Error(notice) = message {
                    assert!(!notice.text.is_empty());
                    code = Some(notice.code);
                }
                let connection = BAD;
                net.input_later(
                    0,
                    Input::Sent {
                        connection,
                        bytes: 9,
                    },
                );
            }
            Output::Close { connection: BAD } => closed = true,
            _ => net.carry_out(0, output),
        }
    }
    net.run();
    assert_eq!(code.is_some(), closed, "it is told why");
    code
}

/// The others go on: a request over both nodes is answered.
fn others_go_on(net: &mut Net) {
    net.submit(0, "others", 100);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

fn plan(request: &str, origin: &str, ring: &str) -> Bytes {
    Bytes::from(format!(
        r#"{{"request": "{request}", "epoch": 0, "origin": "{origin}", "model": "dummy",
        "layers": 8, "fingerprint": 0, "ring": {ring}, "prompt": 1, "sampling": {{"temperature": 0,
        "top_p": 1, "top_k": 0, "seed": 1}}, "max_tokens": 4}}"#
    ))
}

fn open(stream: u32, plan: Bytes) -> Message {
    Message::Open(Open { stream, plan })
}

const MINE: &str = r#"[["n0", 0, 7, 0]]"#;

fn step(stream: u32, position: u32, tokens: usize) -> Message {
    Message::Step(Step {
        stream,
        position,
        sample: true,
        body: StepBody::Tokens(vec![1; tokens]),
    })
}

fn token(stream: u32) -> Message {
    Message::Token(Token {
        stream,
        index: 0,
        token: 5,
        end: false,
        last: false,
    })
}

fn chunk(transfer: u32, offset: u32, length: usize) -> Message {
    Message::Chunk(Chunk {
        transfer,
        kind: 0x87,
        total: 100,
        offset,
        data: Bytes::from(vec![0; length]),
    })
}

fn ending(request: &str) -> Ending {
    Ending {
        epoch: 0,
        code: 1,
        request: request.into(),
        text: "x".into(),
    }
}

#[test]
fn each_costs_the_connection_under_its_name() {
    let hidden = Tensor::new(DType::F32, vec![1, 1, 1], Bytes::from_static(&[0; 4]));
    let hidden = Message::Step(Step {
        stream: 1,
        position: 0,
        sample: true,
        body: StepBody::Hidden(hidden.expect("four bytes")),
    });
    let good = || open(1, plan("r", "x", MINE));
    let cases: Vec<(&str, Vec<Message>, u16)> = vec![
        (
            "a stream out of order",
            vec![open(2, plan("r", "x", MINE))],
            error::STREAM,
        ),
        ("a step on no stream", vec![step(1, 0, 1)], error::STREAM),
        ("a token on no stream", vec![token(7)], error::STREAM),
        (
            "credit for no stream",
            vec![Message::Credit {
                stream: 3,
                bytes: 1,
            }],
            error::STREAM,
        ),
        (
            "an end of no stream",
            vec![Message::Close { stream: 1 }],
            error::STREAM,
        ),
        (
            "a chunk from the middle",
            vec![chunk(1, 50, 10)],
            error::CHUNK,
        ),
        (
            "chunks that overlap",
            vec![chunk(1, 0, 50), chunk(1, 40, 50)],
            error::CHUNK,
        ),
        (
            "a transfer out of order",
            vec![chunk(2, 0, 10)],
            error::CHUNK,
        ),
        (
            "an end of no transfer",
            vec![Message::Abort { transfer: 1 }],
            error::CHUNK,
        ),
        (
            "more credit than was spent",
            vec![Message::Credit {
                stream: 0,
                bytes: 1,
            }],
            error::CREDIT,
        ),
        (
            "an answer to no probe",
            vec![Message::Pong { id: 99 }],
            error::UNASKED,
        ),
        (
            "a token for a foreign request",
            vec![good(), token(1)],
            error::FOREIGN,
        ),
        (
            "an end of a foreign request",
            vec![open(1, plan("r", "x", MINE)), Message::End(ending("mine"))],
            error::FOREIGN,
        ),
        (
            "a hidden state for the first stage",
            vec![good(), hidden],
            error::FOREIGN,
        ),
        (
            "a plan of a ring without this node",
            vec![open(1, plan("r", "x", r#"[["n1", 0, 7, 0]]"#))],
            error::FOREIGN,
        ),
        (
            "a plan from nobody in it",
            vec![open(1, plan("r", "n1", MINE))],
            error::FOREIGN,
        ),
        (
            "a plan that leaves a layer out",
            vec![open(1, plan("r", "x", r#"[["n0", 0, 6, 0]]"#))],
            error::PLAN,
        ),
        (
            "a plan with a gap",
            vec![open(
                1,
                plan("r", "x", r#"[["n0", 0, 3, 0], ["x", 5, 7, 0]]"#),
            )],
            error::PLAN,
        ),
        (
            "a plan with a node twice",
            vec![open(
                1,
                plan("r", "x", r#"[["n0", 0, 3, 0], ["n0", 4, 7, 0]]"#),
            )],
            error::PLAN,
        ),
        (
            "a plan that is no JSON",
            vec![open(1, Bytes::from_static(b"{"))],
            error::PLAN,
        ),
    ];
    for (what, messages, code) in cases {
        let mut net = introduced();
        net.hosts[0].hung = true;
        net.submit(0, "mine", 100);
        let last = messages.len() - 1;
        for (index, message) in messages.into_iter().enumerate() {
            let closed = say(&mut net, message);
            assert_eq!(closed, (index == last).then_some(code), "{what}");
        }
        let connection = BAD;
        let fault = LinkFault::Local;
        net.input(0, Input::Lost { connection, fault });
        net.input(
            0,
            Input::Command(Command::Cancel {
                request: "mine".into(),
            }),
        );
        net.hosts[0].hung = false;
        for command in net.hosts[0].commands.clone() {
            use crate::engine::Engine;
            let event = net.hosts[0].engine.execute(command, &mut |_| {});
            net.input(0, Input::Engine(event));
        }
        net.advance(Duration::from_secs(10));
        others_go_on(&mut net);
    }
}

#[test]
fn the_extension_before_the_introduction_is_refused() {
    let mut net = net();
    let input = Input::Received {
        connection: BAD,
        message: Message::Ping { id: 1 },
        bytes: 9,
    };
    let now = net.now;
    net.hosts[0].node.handle_input(now, input);
    let outputs: Vec<Output> = core::iter::from_fn(|| net.hosts[0].node.poll_output()).collect();
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Close { connection: BAD })),
        "{outputs:?}"
    );
    assert!(
        !outputs
            .iter()
            .any(|output| matches!(output, Output::Send { .. })),
        "whoever did not introduce itself would not understand"
    );
}

#[test]
fn credit_is_not_overdrawn() {
    let mut net = net();
    net.hosts[0].hung = true;
    net.hosts[0].node.config.limits.stream_window_bytes = 100;
    introduce(&mut net);
    assert_eq!(say(&mut net, open(1, plan("r", "x", MINE))), None);
    // The engine is hung, so nothing of this comes back: one step may exceed the window, alone.
    assert_eq!(say(&mut net, step(1, 0, 200)), None);
    assert_eq!(say(&mut net, step(1, 200, 20)), None);
    assert_eq!(say(&mut net, step(1, 220, 1)), Some(error::CREDIT));
}

#[test]
fn a_token_out_of_order_is_refused_and_the_request_goes_on() {
    let mut net = Net::settled(&[1000, 1000]);
    // n1 is the first stage, n0 the last; n1 asks.
    net.hosts[0].hung = true;
    net.submit(1, "r", 100);
    let (&(_, connection), _) = net
        .pipes
        .iter()
        .find(|((host, connection), _)| {
            *host == 1
                && net.hosts[1]
                    .node
                    .connections
                    .get(connection)
                    .is_some_and(|c| c.extended.as_ref().is_some_and(|e| e.incoming().len() == 1))
        })
        .expect("n0 opened a stream to n1");
    let message = Message::Token(Token {
        stream: 1,
        index: 3,
        token: 5,
        end: false,
        last: false,
    });
    net.input(
        1,
        Input::Received {
            connection,
            message,
            bytes: 9,
        },
    );
    let refused = |event: &&Event| matches!(event, Event::ConnectionRefused { .. });
    let recovering = |event: &&Event| matches!(event, Event::Recovering { .. });
    assert_eq!(net.hosts[1].events.iter().filter(refused).count(), 1);
    assert!(net.hosts[1].events.iter().any(|event| recovering(&event)));
    assert!(net.tokens(1).is_empty());
}
