//! `docs/PROTOCOL.md` keeps up with the code.

use exo_protocol::id::NodeId;
use exo_protocol::topology::{map_to_shards, ring_memory_weighted};
use exo_protocol::wire::{DecodeLimits, Decoder, Encoder, MAGIC, MessageType};
use exo_protocol::{DType, Tensor};

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");
    std::fs::read_to_string(path).expect("the document")
}

fn screaming(kind: MessageType) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[test]
fn every_message_is_in_the_document() {
    let document = document();
    for kind in MessageType::ALL {
        let row = format!("| `{:#04x}` | {} |", kind as u8, screaming(kind));
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
        seen.push(message.message_type());
    }
    let undefined = |kind: &MessageType| {
        use MessageType::{SendExampleRequest, SendExampleResponse, SendPromptResponse};
        matches!(
            kind,
            SendPromptResponse | SendExampleRequest | SendExampleResponse
        )
    };
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
