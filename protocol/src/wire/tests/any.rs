//! Messages of every kind.

use super::*;
use crate::topology::{Capabilities, EngineInfo, LinkMetrics, Speed};

pub(in super::super) fn any_message() -> impl Strategy<Value = Message> {
    let text = || any::<String>();
    let maybe = || prop::option::of(any::<String>());
    let shard = (text(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(model, start, end, layers)| crate::Shard {
            model: model.into(),
            start,
            end,
            layers,
        },
    );
    let state = prop::option::of(text().prop_map(|text| Json::object([("k", Json::from(text))])));
    let tensor = (
        0usize..14,
        prop::collection::vec(0usize..4, 0..4),
        any::<bool>(),
    )
        .prop_map(|(dtype, shape, mlx)| {
            let dtype = DType::ALL[dtype];
            let bytes = shape.iter().product::<usize>() * dtype.size();
            let family = if mlx {
                DTypeFamily::Mlx
            } else {
                DTypeFamily::Numpy
            };
            let data = vec![0xa5; bytes].into();
            Tensor::new(dtype, shape, data)
                .expect("bytes match")
                .spelled(family)
        });
    let number = || prop::option::of(1..=60_000_000_u64);
    let metrics =
        (number(), number(), number()).prop_map(|(rtt_us, loaded_us, goodput)| LinkMetrics {
            rtt_us,
            loaded_us,
            goodput,
        });
    let edge = (text(), maybe(), metrics).prop_map(|(to_id, description, metrics)| WireEdge {
        to_id,
        description,
        metrics,
    });
    let bytes = || prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let formats = prop::collection::vec("[A-Z0-9_]{0,8}", 0..4);
    let engine = ("[ -~]{0,64}", "[a-z0-9]{0,9}", formats).prop_map(|(version, dtype, formats)| {
        EngineInfo {
            name: String::from("engine"),
            version,
            dtype,
            formats,
        }
    });
    let rate = proptest::num::f64::NORMAL;
    let machine = (text(), any::<i64>(), rate, prop::option::of(engine)).prop_map(
        |(chip, memory, rate, engine)| {
            let mut machine = Capabilities::unknown();
            (machine.chip, machine.memory, machine.flops.fp16) = (chip, memory, rate);
            machine.engine = engine;
            machine.speed = (memory > 0).then(|| Speed {
                decode: memory.unsigned_abs() % 1000 + 1,
                prefill: 7,
            });
            machine
        },
    );
    let reply = (
        prop::collection::btree_map(text(), machine, 0..4),
        prop::collection::btree_map(text(), prop::collection::vec(edge, 0..4), 0..4),
    )
        .prop_map(|(nodes, graph)| TopologyReply {
            nodes: nodes.into_iter().collect(),
            peer_graph: graph.into_iter().collect(),
        });
    prop_oneof![
        bytes().prop_map(|payload| Message::HealthCheckRequest { payload }),
        bytes().prop_map(Message::SendPromptResponse),
        bytes().prop_map(Message::SendExampleRequest),
        bytes().prop_map(Message::SendExampleResponse),
        any::<bool>().prop_map(|is_healthy| Message::HealthCheckResponse {
            is_healthy,
            exo: None
        }),
        (shard.clone(), text(), maybe(), state.clone()).prop_map(
            |(shard, prompt, request_id, inference_state)| Message::SendPromptRequest(SendPrompt {
                shard,
                prompt,
                request_id,
                inference_state
            })
        ),
        (shard, tensor.clone(), maybe(), state).prop_map(
            |(shard, tensor, request_id, inference_state)| Message::SendTensorRequest(SendTensor {
                shard,
                tensor,
                request_id,
                inference_state
            })
        ),
        prop::option::of(tensor.clone()).prop_map(Message::SendTensorResponse),
        (
            maybe(),
            prop::collection::vec(any::<i64>(), 0..5),
            any::<bool>(),
            prop::option::of(tensor)
        )
            .prop_map(|(request_id, result, is_finished, tensor)| {
                Message::SendResult(SendResult {
                    request_id,
                    result,
                    is_finished,
                    tensor,
                })
            }),
        (prop::collection::vec(text(), 0..4), any::<i64>()).prop_map(|(visited, max_depth)| {
            Message::CollectTopologyRequest { visited, max_depth }
        }),
        reply.prop_map(Message::CollectTopologyResponse),
        (maybe(), text())
            .prop_map(|(request_id, status)| { Message::SendOpaqueStatus { request_id, status } }),
    ]
}
