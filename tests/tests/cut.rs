//! Cutting a stream of bytes anywhere never changes what comes out of it, and memory follows what
//! has come, not what is announced.

use bytes::Bytes;
use exo_protocol::wire::{
    Chunk, DecodeError, DecodeLimits, Decoder, Encoder, Ending, HEADER_LEN, Header, MAGIC, Message,
    MessageType, Open, SendPrompt, SendResult, SendTensor, Step, StepBody, TopologyReply, WireEdge,
    decode_payload,
};
use exo_protocol::{DType, Json, Shard, Tensor};
use proptest::prelude::*;

/// What a decoder holds besides the bytes that have come: its read-ahead, and the first piece of a
/// large body.
const CONSTANT: usize = 2 * (64 << 10);

/// Small enough that mutated lengths meet them.
fn limits() -> DecodeLimits {
    DecodeLimits {
        frame: 1 << 20,
        metadata: 4096,
        json: 8192,
        ..DecodeLimits::default()
    }
}

/// What comes of a stream: its messages, then an error or whether it ends inside a frame.
type Outcome = (Vec<Message>, Result<bool, DecodeError>);

/// By the definition of a frame, over the whole stream at once.
fn whole(mut stream: &[u8], limits: &DecodeLimits) -> Outcome {
    let mut messages = Vec::new();
    loop {
        let Some((header, rest)) = stream.split_first_chunk::<HEADER_LEN>() else {
            return (messages, Ok(!stream.is_empty()));
        };
        let header = match Header::decode(header) {
            Ok(header) => header,
            Err(DecodeError::UnknownType(number)) if MessageType::SKIPPABLE.contains(&number) => {
                let length = u32::from_be_bytes(header[5..].try_into().expect("four bytes"));
                match rest.split_at_checked(length as usize) {
                    Some((_, rest)) => stream = rest,
                    None => return (messages, Ok(true)),
                }
                continue;
            }
            Err(error) => return (messages, Err(error)),
        };
        let limit = limits.payload(header.kind);
        if header.length > limit {
            let Header { kind, length } = header;
            return (
                messages,
                Err(DecodeError::PayloadTooLarge {
                    kind,
                    length,
                    limit,
                }),
            );
        }
        let Some((payload, rest)) = rest.split_at_checked(header.length as usize) else {
            return (messages, Ok(true));
        };
        match decode_payload(header.kind, Bytes::copy_from_slice(payload), limits) {
            Ok(message) => messages.push(message),
            Err(error) => return (messages, Err(error)),
        }
        stream = rest;
    }
}

/// Through a decoder, in reads of the given sizes, over and over.
fn in_pieces(stream: &[u8], sizes: &[usize], limits: &DecodeLimits) -> Outcome {
    let mut decoder = Decoder::new(limits.clone());
    let mut messages = Vec::new();
    let mut came = 0;
    for &size in sizes.iter().cycle() {
        if came == stream.len() {
            break;
        }
        let space = decoder.space();
        assert!(!space.is_empty(), "no space after everything was polled");
        let n = size.clamp(1, stream.len() - came).min(space.len());
        space[..n].copy_from_slice(&stream[came..came + n]);
        came += n;
        decoder.advance(n);
        loop {
            match decoder.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.poll(), Err(error.clone()), "sticky");
                    assert!(decoder.space().is_empty());
                    assert_eq!(decoder.buffered(), 0);
                    return (messages, Err(error));
                }
            }
        }
        let most = (2 * came).min(limits.frame as usize) + CONSTANT;
        assert!(
            decoder.buffered() <= most,
            "{} bytes held after {came}",
            decoder.buffered()
        );
    }
    let mid_frame = decoder.is_mid_frame();
    (messages, Ok(mid_frame))
}

fn message() -> impl Strategy<Value = Message> {
    let text = || "[a-zé\"\u{7f}]{0,12}";
    let shard = || Shard {
        model: "m".into(),
        start: 0,
        end: 3,
        layers: 8,
    };
    let size = || prop_oneof![8 => 0usize..64, 2 => 0usize..20_000, 1 => 65_000usize..200_000];
    let tensor = move || {
        (size(), any::<u8>()).prop_map(|(size, fill)| {
            Tensor::new(DType::U8, vec![1, size], vec![fill; size].into()).expect("bytes match")
        })
    };
    let state =
        || prop::option::of(any::<u64>().prop_map(|n| Json::object([("n", Json::from(n))])));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|payload| Message::HealthCheckRequest {
            payload: payload.into()
        }),
        Just(Message::HealthCheckResponse {
            is_healthy: true,
            exo: None
        }),
        (text(), state()).prop_map(move |(prompt, inference_state)| {
            let request_id = Some("r".into());
            Message::SendPromptRequest(SendPrompt {
                shard: shard(),
                prompt,
                request_id,
                inference_state,
            })
        }),
        (tensor(), state()).prop_map(move |(tensor, inference_state)| {
            let request_id = None;
            Message::SendTensorRequest(SendTensor {
                shard: shard(),
                tensor,
                request_id,
                inference_state,
            })
        }),
        prop::option::of(tensor()).prop_map(Message::SendTensorResponse),
        (
            prop::option::of(tensor()),
            prop::collection::vec(any::<i64>(), 0..3)
        )
            .prop_map(|(tensor, result)| Message::SendResult(SendResult {
                request_id: Some("r".into()),
                result,
                is_finished: false,
                tensor,
            })),
        (text(), any::<i64>()).prop_map(|(id, max_depth)| {
            Message::CollectTopologyRequest {
                visited: vec![id],
                max_depth,
            }
        }),
        text().prop_map(|id| {
            let edge = WireEdge {
                to_id: id.clone(),
                description: None,
                metrics: Default::default(),
            };
            let peer_graph = vec![(id, vec![edge])];
            Message::CollectTopologyResponse(TopologyReply {
                nodes: vec![],
                peer_graph,
            })
        }),
        text().prop_map(|status| Message::SendOpaqueStatus {
            request_id: None,
            status
        }),
        any::<u64>().prop_map(|id| Message::Ping { id }),
        (any::<u32>(), size().prop_map(|size| size + 1), any::<u8>()).prop_map(
            |(position, width, fill)| {
                let data = vec![fill; 4 * width].into();
                let tensor = Tensor::new(DType::Bf16, vec![1, 2, width], data);
                Message::Step(Step {
                    stream: 1,
                    position,
                    sample: false,
                    body: StepBody::Hidden(tensor.expect("bytes match")),
                })
            }
        ),
        (any::<u32>(), size()).prop_map(|(stream, size)| Message::Open(Open {
            stream,
            plan: vec![b'p'; size.min(8000)].into(),
        })),
        (any::<u32>(), 1..=Chunk::MAX).prop_map(|(transfer, size)| Message::Chunk(Chunk {
            transfer,
            kind: 0x87,
            total: u32::MAX,
            offset: 0,
            data: vec![b'c'; size].into(),
        })),
        (any::<u32>(), text(), text()).prop_map(|(epoch, request, text)| Message::Failed(Ending {
            epoch,
            code: 1,
            request: request.into(),
            text,
        })),
    ]
}

/// Messages, and their bytes with some of a later version's between.
fn stream() -> impl Strategy<Value = (Vec<Message>, Vec<u8>)> {
    let later = (
        MessageType::SKIPPABLE.prop_filter("a later version's", |number| {
            MessageType::from_byte(*number).is_none()
        }),
        prop_oneof![0usize..40, 0usize..200_000],
    );
    let later = prop::option::weighted(0.2, later);
    prop::collection::vec((message(), later), 0..8).prop_map(|entries| {
        let mut bytes = Vec::new();
        let mut messages = Vec::new();
        for (message, later) in entries {
            if let Some((number, length)) = later {
                bytes.extend(MAGIC);
                bytes.push(number);
                bytes.extend((length as u32).to_be_bytes());
                bytes.resize(bytes.len() + length, b'E');
            }
            bytes.extend(Encoder::new(&message).expect("fits").slices().concat());
            messages.push(message);
        }
        (messages, bytes)
    })
}

fn reads() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1usize..12, 1usize..2000, 1usize..300_000];
    prop_oneof![
        Just(vec![usize::MAX]),
        Just(vec![1]),
        prop::collection::vec(size, 1..6)
    ]
}

/// One change to a stream.
#[derive(Clone, Debug)]
enum Mutation {
    Overwrite(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Truncate(prop::sample::Index),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<prop::sample::Index>;
    prop::collection::vec(
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
            at().prop_map(Mutation::Remove),
            (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
            at().prop_map(Mutation::Truncate),
        ],
        0..4,
    )
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        // Mostly within the first kilobyte, where the headers and the metadata are.
        let near = |at: &prop::sample::Index, length: usize| at.index(length.clamp(1, 1024));
        match mutation {
            _ if bytes.is_empty() => break,
            Mutation::Overwrite(at, byte) => {
                let at = near(at, bytes.len());
                bytes[at] = *byte;
            }
            Mutation::Remove(at) => drop(bytes.remove(near(at, bytes.len()))),
            Mutation::Insert(at, byte) => bytes.insert(near(at, bytes.len()), *byte),
            Mutation::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn valid_streams_give_back_their_messages((messages, bytes) in stream(), sizes in reads()) {
        let (got, end) = in_pieces(&bytes, &sizes, &limits());
        prop_assert_eq!(got, messages);
        prop_assert_eq!(end, Ok(false));
    }

    #[test]
    fn any_cut_of_any_stream_gives_the_same(
        (_, bytes) in stream(), mutations in mutations(), sizes in reads()
    ) {
        let bytes = mutate(bytes, &mutations);
        prop_assert_eq!(in_pieces(&bytes, &sizes, &limits()), whole(&bytes, &limits()));
    }

    #[test]
    fn noise_behind_a_header_gives_the_same(
        kind in 0..MessageType::ALL.len(), length in 0u32..100_000,
        noise in prop::collection::vec(any::<u8>(), 0..3000), sizes in reads(),
    ) {
        let kind = MessageType::ALL[kind];
        let bytes = [&Header { kind, length }.encode()[..], &noise].concat();
        prop_assert_eq!(in_pieces(&bytes, &sizes, &limits()), whole(&bytes, &limits()));
    }
}

#[test]
fn an_announced_length_takes_no_memory() {
    let kind = MessageType::SendTensorRequest;
    let limits = DecodeLimits::default();
    let header = Header {
        kind,
        length: limits.frame,
    }
    .encode();
    let (messages, end) = in_pieces(&header, &[usize::MAX], &limits);
    assert!(messages.is_empty());
    assert_eq!(end, Ok(true));
}
