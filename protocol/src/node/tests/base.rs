//! What a reference node, or nobody we know, may send.

use super::net::Net;
use crate::Tensor;
use crate::dummy;
use crate::id::ConnectionId;
use crate::node::*;
use crate::shard::Shard;
use crate::topology::EngineInfo;
use crate::wire::{Hello, Message, SendPrompt, SendResult, SendTensor};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;

/// Speaks to node 0 of a net as a reference node would: over one connection that it opened, and by
/// answering on the one that the node opened.
fn accept(net: &mut Net) -> ConnectionId {
    let connection = ConnectionId(1_000_001);
    let remote = String::from("reference");
    net.input(
        0,
        Input::Opened {
            connection,
            origin: Origin::Accepted,
            remote,
        },
    );
    connection
}

/// A token for these layers, as a reference node sends it.
fn tensor_for(layers: Range<u32>) -> Message {
    Message::SendTensorRequest(SendTensor {
        shard: Shard::new(dummy::MODEL.into(), layers, 8).expect("a range of layers"),
        tensor: Tensor::from_tokens(&[1]),
        request_id: Some("r".into()),
        inference_state: None,
    })
}

fn outputs_of(net: &mut Net, input: Input) -> Vec<Message> {
    let now = net.now;
    net.hosts[0].node.handle_input(now, input);
    let mut sent = vec![];
    while let Some(output) = net.hosts[0].node.poll_output() {
        if let Output::Send { message, .. } = &output {
            sent.push(message.clone());
        }
        net.carry_out(0, output);
    }
    net.run();
    sent
}

#[test]
fn a_reference_peer_gets_its_own_bytes() {
    let mut net = Net::mesh(&[1000]);
    let connection = accept(&mut net);
    let health = Message::HealthCheckRequest {
        payload: Bytes::new(),
    };
    let sent = outputs_of(
        &mut net,
        Input::Received {
            connection,
            message: health,
            bytes: 9,
        },
    );
    assert_eq!(
        sent,
        [Message::HealthCheckResponse {
            is_healthy: true,
            exo: None
        }]
    );
    let hello = Hello::new("x");
    let health = Message::HealthCheckRequest {
        payload: hello.to_request_payload(),
    };
    let sent = outputs_of(
        &mut net,
        Input::Received {
            connection,
            message: health,
            bytes: 9,
        },
    );
    assert!(
        matches!(
            &sent[..],
            [
                Message::HealthCheckResponse { exo: Some(_), .. },
                Message::Topology(_),
                Message::Ping { .. }
            ]
        ),
        "who introduces itself gets an introduction, and is measured: {sent:?}"
    );
}

#[test]
fn who_only_asks_is_told_and_is_no_peer() {
    let mut net = Net::mesh(&[1000]);
    let connection = accept(&mut net);
    let ask = |net: &mut Net, payload| {
        let message = Message::HealthCheckRequest { payload };
        let asked = Input::Received {
            connection,
            message,
            bytes: 22,
        };
        outputs_of(net, asked)
    };
    let sent = ask(&mut net, Hello::question());
    let [
        Message::HealthCheckResponse {
            is_healthy: true,
            exo: Some(exo),
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    let hello = Hello::from_json(exo).expect("it is a hello, too");
    assert_eq!(hello.node_id, "n0");
    let engine = exo.get("engine").and_then(EngineInfo::from_json);
    assert_eq!(engine, net.hosts[0].node.config.capabilities.engine);
    assert!(net.hosts[0].node.peers.is_empty());
    // A question of any size and content costs no more than its answer.
    for payload in [vec![b' '; 1 << 20], b"{\"exo\": 1}".to_vec()] {
        let sent = ask(&mut net, Bytes::from(payload));
        let plain = Message::HealthCheckResponse {
            is_healthy: true,
            exo: None,
        };
        assert_eq!(sent, [plain]);
    }
    assert_eq!(net.hosts[0].node.status().connections, 1);
}

#[test]
fn a_reference_peer_hears_of_no_engine() {
    let mut net = Net::settled(&[1000, 1000]);
    assert!(net.hosts[0].node.topology.nodes["n1"].engine.is_some());
    let connection = accept(&mut net);
    let message = Message::CollectTopologyRequest {
        visited: vec![],
        max_depth: 3,
    };
    let ask = Input::Received {
        connection,
        message,
        bytes: 9,
    };
    let sent = outputs_of(&mut net, ask);
    let [Message::CollectTopologyResponse(reply)] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert_eq!(reply.nodes.len(), 2);
    assert!(reply.nodes.iter().all(|(_, node)| node.engine.is_none()));
}

#[test]
fn tensors_are_acknowledged_at_once_and_empty() {
    let mut net = Net::mesh(&[1000]);
    net.hosts[0].hung = true;
    let connection = accept(&mut net);
    let tensor = tensor_for(0..8);
    let sent = outputs_of(
        &mut net,
        Input::Received {
            connection,
            message: tensor,
            bytes: 9,
        },
    );
    assert_eq!(sent, [Message::SendTensorResponse(None)]);
    assert_eq!(net.hosts[0].node.status().requests.len(), 1);
}

#[test]
fn a_prompt_from_a_reference_node_is_answered_by_broadcast() {
    let mut net = Net::settled(&[1000, 1000]);
    // n1 is the first stage: equal memories go by the larger id.
    let connection = ConnectionId(1_000_001);
    let remote = String::from("reference");
    net.input(
        1,
        Input::Opened {
            connection,
            origin: Origin::Accepted,
            remote,
        },
    );
    let shard = Shard::new(dummy::MODEL.into(), 0..4, 8).expect("a range of layers");
    let message = Message::SendPromptRequest(SendPrompt {
        shard,
        prompt: "hi".into(),
        request_id: Some("r".into()),
        inference_state: Some(crate::Json::Object(vec![])),
    });
    net.input(
        1,
        Input::Received {
            connection,
            message,
            bytes: 9,
        },
    );
    let results: Vec<i64> = net
        .sent
        .iter()
        .filter_map(|(_, _, message)| match message {
            Message::SendResult(SendResult { result, .. }) => result.first().copied(),
            _ => None,
        })
        .collect();
    assert_eq!(results, [2, 3, 4, 5, 6, 7, 8, 9, 10, 69]);
    net.at_rest();
}

#[test]
fn a_late_tensor_does_not_revive_a_request_that_ended() {
    let mut net = Net::mesh(&[1000]);
    net.submit(0, "r", 3);
    let commands = net.hosts[0].commands.len();
    let connection = accept(&mut net);
    let message = tensor_for(0..8);
    net.input(
        0,
        Input::Received {
            connection,
            message,
            bytes: 9,
        },
    );
    assert_eq!(net.hosts[0].commands.len(), commands);
    net.at_rest();
}

#[test]
fn other_layers_than_the_ring_says_are_refused() {
    let mut net = Net::settled(&[1000, 1000]);
    let connection = ConnectionId(1_000_001);
    let remote = String::from("reference");
    net.input(
        1,
        Input::Opened {
            connection,
            origin: Origin::Accepted,
            remote,
        },
    );
    let message = tensor_for(0..6);
    net.input(
        1,
        Input::Received {
            connection,
            message,
            bytes: 9,
        },
    );
    assert!(net.hosts[1].commands.is_empty());
    net.at_rest();
}

#[test]
fn an_unexpected_reply_costs_the_connection() {
    let mut net = Net::settled(&[1000, 1000]);
    let connection = net.hosts[0].node.connection_to("n1").expect("it is up");
    let message = Message::SendTensorResponse(None);
    net.input(
        0,
        Input::Received {
            connection,
            message,
            bytes: 13,
        },
    );
    let refused = |event: &Event| matches!(event, Event::ConnectionRefused { reason, .. } if reason.contains("nobody waits"));
    assert!(
        net.hosts[0].events.iter().any(refused),
        "{:?}",
        net.hosts[0].events
    );
    net.advance(Duration::from_secs(5));
    assert_eq!(
        net.hosts[0].node.topology.nodes.len(),
        2,
        "it is dialled again"
    );
}

#[test]
fn a_half_frame_is_cut_off_in_time() {
    let mut net = Net::mesh(&[1000]);
    let connection = accept(&mut net);
    net.pipes.insert((0, connection), (0, ConnectionId(7)));
    net.input(0, Input::Progress { connection });
    net.advance(Duration::from_secs(29));
    net.input(0, Input::Progress { connection });
    net.advance(Duration::from_secs(29));
    assert_eq!(
        net.hosts[0].node.status().connections,
        1,
        "it moves, if slowly"
    );
    net.advance(Duration::from_secs(2));
    assert_eq!(net.hosts[0].node.status().connections, 0);
}

#[test]
fn connections_have_a_limit() {
    let mut net = Net::mesh(&[1000]);
    for number in 0..300 {
        let connection = ConnectionId(2_000_000 + number);
        net.pipes.insert((0, connection), (0, ConnectionId(0)));
        let remote = String::from("crowd");
        net.input(
            0,
            Input::Opened {
                connection,
                origin: Origin::Accepted,
                remote,
            },
        );
    }
    assert_eq!(net.hosts[0].node.status().connections, 256);
}
