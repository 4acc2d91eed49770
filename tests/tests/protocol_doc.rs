//! `docs/PROTOCOL.md` keeps up with the code.

use exo_protocol::config::Config;
use exo_protocol::id::NodeId;
use exo_protocol::topology::{Capabilities, map_to_shards, ring_memory_weighted};
use exo_protocol::wire::extension::{end, error, failed, goodbye, part};
use exo_protocol::wire::{
    Chunk, DecodeLimits, Decoder, Encoder, ExampleReply, Hello, MAGIC, Message, MessageType,
    SendExample, Step, StepBody, Token, encode_payload,
};
use exo_protocol::{DType, Tensor};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");
    std::fs::read_to_string(path).expect("the document")
}

#[test]
fn every_message_is_in_the_document() {
    let document = document();
    for kind in MessageType::ALL {
        let row = format!("| `{:#04x}` | {} |", kind as u8, kind.name());
        assert!(document.contains(&row), "no row {row}");
    }
    assert!(
        document.contains(
            &format!("{:02x?}", MAGIC)
                .replace(", ", " ")
                .replace(['[', ']'], "")
        )
    );
}

#[test]
fn every_dtype_and_limit_is_in_the_document() {
    let document = document();
    for dtype in DType::ALL {
        let row = format!("| `{dtype}` | {} |", dtype.size());
        assert!(document.contains(&row), "no row {row}");
    }
    let DecodeLimits {
        frame,
        metadata,
        json_depth,
        json,
    } = DecodeLimits::default();
    for row in [
        format!("| {} MiB |", frame >> 20),
        format!("| {} MiB |", metadata >> 20),
        format!("| {} MiB |", json >> 20),
        format!("| {json_depth} levels |"),
        format!("| {} dimensions |", Tensor::MAX_DIMENSIONS),
        format!("| {} values |", exo_protocol::Json::MAX_VALUES),
    ] {
        assert!(document.contains(&row), "no limit {row}");
    }
}

/// The cells of the table that begins with `header`, row by row.
fn table(document: &str, header: &str) -> Vec<Vec<String>> {
    let (_, rows) = document
        .split_once(&format!("\n{header}\n"))
        .unwrap_or_else(|| panic!("no table {header}"));
    let rows: Vec<_> = rows
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "nothing in {header}");
    rows
}

#[test]
fn every_code_is_in_the_document_and_no_other() {
    let document = document();
    for (name, codes) in [
        ("ERROR", error::ALL),
        ("GOODBYE", goodbye::ALL),
        ("END", end::ALL),
        ("FAILED", failed::ALL),
        ("PART", part::ALL),
    ] {
        let rows = table(&document, &format!("| code | {name} | |"));
        let written: Vec<(&str, &str)> = rows.iter().map(|row| (&*row[1], &*row[2])).collect();
        let codes: Vec<(String, &str)> = codes
            .iter()
            .map(|(code, name)| (code.to_string(), *name))
            .collect();
        let codes: Vec<(&str, &str)> = codes.iter().map(|(code, name)| (&**code, *name)).collect();
        assert_eq!(written, codes, "codes of {name}");
        assert!(
            rows.iter().all(|row| !row[3].is_empty()),
            "a code of {name} without a meaning"
        );
    }
}

#[test]
fn the_hello_has_the_keys_of_the_document() {
    let document = document();
    let (_, section) = document.split_once("## 7. The hello").expect("section 7");
    let keys: Vec<String> = table(section, "| key | type | |")
        .iter()
        .map(|row| row[1].replace('`', ""))
        .collect();
    let hello = Hello::new("a").to_json();
    let written: Vec<&str> = hello
        .as_object()
        .expect("an object")
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, written);
    let version = format!("| `version` | integer, {} |", Hello::VERSION);
    assert!(section.contains(&version), "no row {version}");
}

fn step(body: StepBody) -> Message {
    Message::Step(Step {
        stream: 1,
        position: 0,
        sample: false,
        body,
    })
}

#[test]
fn what_the_extension_costs_and_allows_is_in_the_document() {
    let document = document();
    let limits = DecodeLimits::default();
    let mut rows = vec![
        format!(
            "| code and text | {} KiB |",
            limits.payload(MessageType::Error) >> 10
        ),
        format!("| piece | {} bytes |", Chunk::MAX),
        format!(
            "| `{:#04x}` to `{:#04x}` |",
            MessageType::SKIPPABLE.start(),
            MessageType::SKIPPABLE.end()
        ),
    ];
    for kind in [
        MessageType::Ping,
        MessageType::Pong,
        MessageType::Token,
        MessageType::Close,
        MessageType::Credit,
        MessageType::Abort,
    ] {
        let (number, name, size) = (kind as u8, kind.name(), limits.payload(kind));
        rows.push(format!("| `{number:#04x}` | {name} | {size} bytes |"));
    }
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let data = vec![0; dtype.size()].into();
        let tensor = Tensor::new(dtype, vec![1, 1, 1], data).expect("one element");
        let payload = encode_payload(&step(StepBody::Hidden(tensor))).expect("a hidden state");
        rows.push(format!("| {} | `{dtype}` |", payload[9]));
    }
    let frame = |message: &Message| Encoder::new(message).expect("small").remaining();
    let tensor = Tensor::new(DType::F32, vec![1, 1, 1], vec![0; 4].into()).expect("one element");
    let hidden = frame(&step(StepBody::Hidden(tensor))) - 4;
    rows.push(format!(
        "| hidden state of one position | {hidden} + H times 4 or 2 bytes | {hidden} bytes |"
    ));
    let token = frame(&Message::Token(Token {
        stream: 1,
        index: 0,
        token: 2,
        end: false,
        last: false,
    }));
    rows.push(format!(
        "| token to the origin | {token} bytes | {} bytes |",
        token - 4
    ));
    let id = frame(&step(StepBody::Tokens(vec![2])));
    rows.push(format!(
        "| token to the first stage | {id} bytes | {} bytes |",
        id - 4
    ));
    let config = Config::new("a".into(), Capabilities::unknown());
    rows.push(format!(
        "| silence before a PING | {} ms |",
        config.timing.probe_idle.as_millis()
    ));
    rows.push(format!(
        "| the same while a request uses the connection | {} ms |",
        config.timing.probe_busy.as_millis()
    ));
    rows.push(format!(
        "| unanswered PINGs | {} PINGs |",
        config.limits.probes
    ));
    rows.push(format!(
        "| jobs of one origin, and jobs of which one node has a stage | {} jobs |",
        config.limits.jobs
    ));
    rows.push(format!(
        "| beginning, an example, a checkpoint, over all stages | {} s |",
        config.timing.job_step.as_secs()
    ));
    rows.push(format!(
        "before it fails with HUNG | {} s |",
        config.timing.stage_timeout.as_secs()
    ));
    for row in rows {
        assert!(document.contains(&row), "no row {row}");
    }
}

#[test]
fn every_example_is_a_frame() {
    let document = document();
    let mut seen = Vec::new();
    for block in document.split("```frame\n").skip(1) {
        let (block, _) = block.split_once("```").expect("an end");
        let mut frame = Vec::new();
        for line in block.lines() {
            if line.starts_with('{') {
                frame.extend(line.bytes());
            } else {
                let digits: Vec<u32> = line.chars().filter_map(|c| c.to_digit(16)).collect();
                frame.extend(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8));
            }
        }
        let mut decoder = Decoder::new(DecodeLimits::default());
        decoder.space()[..frame.len()].copy_from_slice(&frame);
        decoder.advance(frame.len());
        let message = decoder.poll().expect("well-formed").expect("a whole frame");
        assert!(!decoder.is_mid_frame(), "{message:?}");
        let again = Encoder::new(&message).expect("short").slices().concat();
        assert_eq!(again, frame, "{message:?}");
        let limits = DecodeLimits::default();
        match &message {
            Message::SendExampleRequest(payload) => {
                let example = SendExample::read(payload, &limits).expect("an example");
                assert_eq!(example.write(), payload);
            }
            Message::SendExampleResponse(payload) => {
                let reply = ExampleReply::read(payload, &limits).expect("a reply");
                assert_eq!(reply.write(), payload);
            }
            _ => {}
        }
        seen.push(message.message_type());
    }
    let undefined = |kind: &MessageType| matches!(kind, MessageType::SendPromptResponse);
    for kind in MessageType::ALL.iter().filter(|kind| !undefined(kind)) {
        assert!(seen.contains(kind), "no example of {kind:?}");
    }
}

#[test]
fn the_placements_are_ours() {
    let document = document();
    let (_, table) = document
        .split_once("| memories | layers | shards |\n")
        .expect("the table");
    let rows: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let mut nodes: Vec<(NodeId, i64)> = Vec::new();
        for word in cells[1].split(", ") {
            let mut parts = word.split(' ');
            let id = parts.next().expect("an id");
            // `a, b, c 8192 each` gives the number once.
            nodes.push((
                id.into(),
                parts.next().map_or(-1, |n| n.parse().expect("a number")),
            ));
        }
        let last = nodes.last().expect("a node").1;
        nodes
            .iter_mut()
            .filter(|node| node.1 < 0)
            .for_each(|node| node.1 = last);
        let layers = cells[2].parse().expect("a number");
        let shards: Vec<String> = map_to_shards(&ring_memory_weighted(&nodes), &"m".into(), layers)
            .into_iter()
            .map(|(node, shard)| format!("{node} {}-{}", shard.start, shard.end))
            .collect();
        let written = cells[3].split(';').next().expect("shards");
        assert_eq!(shards.join(", "), written, "{row}");
    }
}
