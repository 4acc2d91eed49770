//! What streams of one connection mean to each other.

use super::net::Net;
use crate::engine::EngineInput;
use crate::node::extended::{Charge, Route};
use crate::node::plan::Plan;
use crate::node::session::{Piece, Work};
use crate::node::*;
use crate::shard::Shard;
use crate::wire::{Message, Step, StepBody};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

#[test]
fn what_a_closed_stream_did_not_use_is_there_for_the_others() {
    let mut net = Net::mesh(&[1000, 1000]);
    net.hosts[1].node.config.limits.window_bytes = 100;
    net.advance(Duration::from_secs(10));
    let node = &mut net.hosts[0].node;
    let connection = node.connection_to("n1").expect("they met");
    let step = |stream, tokens| Step {
        stream,
        position: 0,
        sample: true,
        body: StepBody::Tokens(vec![7; tokens]),
    };
    let extended = node.extended(connection).expect("it is one of ours");
    let (first, second) = (extended.open("a".into(), 0), extended.open("b".into(), 0));
    let large = extended.admit(step(first, 30)).expect("there is credit");
    assert!(extended.admit(step(second, 1)).is_none(), "none is left");
    let waiting = node.connections.get_mut(&connection).expect("as above");
    assert!(waiting.push(Message::Step(large), 8).is_ok());
    node.close_stream(Route {
        connection,
        stream: first,
    });
    let streams = core::iter::from_fn(|| node.poll_output()).filter_map(|output| match output {
        Output::Send {
            message: Message::Close { stream },
            ..
        } => Some(("close", stream)),
        Output::Send {
            message: Message::Step(step),
            ..
        } => Some(("step", step.stream)),
        _ => None,
    });
    let streams: Vec<_> = streams.collect();
    assert_eq!(streams, [("close", first), ("step", second)]);
}

#[test]
fn a_long_prompt_gives_back_what_is_computed_of_it() {
    let shard = Shard::new("m".into(), 0..8, 8).expect("a range of layers");
    let plan = Plan {
        request: "r".into(),
        epoch: 0,
        origin: Some("a".into()),
        fingerprint: 0,
        ends: Default::default(),
        ring: vec![Stage {
            node: "b".into(),
            shard,
        }],
        keep: vec![0],
        prompt: 10,
        sampling: Default::default(),
        answer: vec![],
        trace: false,
        max_tokens: 1,
    };
    let mut session = Session::new(plan.into(), 0, Instant::ZERO);
    let route = Route {
        connection: ConnectionId(1),
        stream: 1,
    };
    session.pending.push_back(Work {
        input: EngineInput::Tokens(vec![7; 10]),
        sample: true,
        came: Instant::ZERO,
        charge: Some(Charge { route, bytes: 50 }),
    });
    let back = |piece: Piece| piece.charge.map(|charge| charge.bytes);
    let pieces = core::iter::from_fn(|| session.next_piece(4).map(back));
    assert_eq!(pieces.collect::<Vec<_>>(), [Some(16), Some(16), Some(18)]);
}
