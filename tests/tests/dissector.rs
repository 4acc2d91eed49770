//! The Wireshark dissector reads what nodes say to each other. Needs `tshark`.

#[path = "dissector/told.rs"]
mod told;

use exo_protocol::rng::Rng;
use exo_protocol::wire::MessageType;
use exo_tests::capture::{Capture, Recorder};
use exo_tests::process::stand::say;
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{self, Member, Ring};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use told::TOLD;

/// The dissector and `tshark`, or a loud word that it is missing.
struct Shark {
    folder: tempfile::TempDir,
}

impl Shark {
    fn new() -> Option<Self> {
        if Command::new("tshark").arg("--version").output().is_err() {
            say(
                "SKIPPED: tshark is missing, so nothing reads the dissector; apt-get install tshark",
            );
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let script = Command::new(process::binary()).arg("dissector").output();
        let script = script.expect("exo-node starts");
        assert!(script.status.success(), "{script:?}");
        std::fs::write(folder.path().join("exo.lua"), script.stdout).expect("a writable folder");
        Some(Self { folder })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("capture.pcap")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let script = self.folder.path().join("exo.lua");
        let output = Command::new("tshark")
            .arg("-X")
            .arg(format!("lua_script:{}", script.display()))
            .arg("-r")
            .arg(self.file())
            .args(arguments)
            // No settings but the usual ones.
            .env("HOME", self.folder.path())
            .env("WIRESHARK_CONFIG_DIR", self.folder.path())
            .output()
            .expect("tshark starts");
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !words.contains("Lua"), "{words}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What is in the fields of each packet, one line for each; of a field that stands several
    /// times, with commas.
    fn fields(&self, names: &[&str]) -> Vec<Vec<String>> {
        let mut arguments = vec!["-T", "fields", "-E", "separator=/t", "-E", "aggregator=;"];
        for name in names {
            arguments.extend(["-e", name]);
        }
        let lines = self.run(&arguments);
        let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
        lines.lines().map(cells).collect()
    }

    /// The names of all messages, in order, and that nothing else is in the capture.
    fn names(&self) -> Vec<String> {
        let fields = self.fields(&["exo.name", "exo.bad", "_ws.malformed", "_ws.lua.error"]);
        let mut names = Vec::new();
        for line in fields {
            let trouble: String = line.iter().skip(1).map(String::as_str).collect();
            assert_eq!(trouble, "", "{line:?}");
            let said = line.first().map(String::as_str).unwrap_or_default();
            names.extend(
                said.split(';')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned),
            );
        }
        names
    }
}

fn hexadecimal(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The examples of the specification, which has one of every message.
fn examples() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");
    let document = std::fs::read_to_string(path).expect("the document");
    let blocks = document.split("```frame\n").skip(1);
    let frame = |block: &str| {
        let (block, _) = block.split_once("```").expect("an end");
        let line = |line: &str| match line.starts_with('{') {
            true => line.as_bytes().to_vec(),
            false => hexadecimal(line),
        };
        block.lines().flat_map(line).collect()
    };
    blocks.map(frame).collect()
}

/// What reference nodes were recorded saying.
fn vectors() -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/frames.json");
    let text = std::fs::read_to_string(path).expect("the vectors");
    let all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let frame = |vector: &Value| hexadecimal(vector["frame_hex"].as_str().expect("bytes"));
    all.iter().map(frame).collect()
}

fn name(frame: &[u8]) -> String {
    MessageType::from_byte(frame[4])
        .expect("a known one")
        .name()
}

/// A capture in which both sides say all this, cut into segments of any length.
fn conversation(frames: &[Vec<u8>], seed: u64) -> Capture {
    let mut capture = Capture::default();
    let mut rng = Rng::new(seed);
    let all = frames.concat();
    for opener in [true, false] {
        let mut connection = capture.connection(1234);
        let mut rest = &all[..];
        // It is by the magic that a connection is recognised.
        let mut next = 4;
        while !rest.is_empty() {
            let (segment, after) = rest.split_at(next.min(rest.len()));
            capture.segment(&mut connection, opener, segment);
            rest = after;
            let most = if rng.below(4) == 0 { 900 } else { 40 };
            next = usize::try_from(1 + rng.below(most)).expect("small");
        }
    }
    capture
}

#[test]
fn every_message_has_its_name_wherever_segments_end() {
    let Some(shark) = Shark::new() else { return };
    let frames = [examples(), vectors()].concat();
    for seed in 0..4 {
        conversation(&frames, seed).write(&shark.file());
        let names: Vec<String> = frames.iter().map(|frame| name(frame)).collect();
        let (found, expected) = (shark.names(), [names.clone(), names].concat());
        let mut both = found.iter().zip(&expected);
        let other = both.position(|(found, expected)| found != expected);
        assert_eq!(other, None, "seed {seed}, of {}", expected.len());
        assert_eq!(found.len(), expected.len(), "seed {seed}");
    }
    let known = |kind: &MessageType| frames.iter().any(|frame| frame[4] == *kind as u8);
    assert!(MessageType::ALL.iter().all(known));
}

#[test]
fn every_field_has_its_value() {
    let Some(shark) = Shark::new() else { return };
    let frames = examples();
    let mut capture = Capture::default();
    // One in each packet, so that what is found has its place.
    for frame in &frames {
        let mut connection = capture.connection(50051);
        capture.segment(&mut connection, true, frame);
    }
    capture.write(&shark.file());
    let mut columns = vec!["exo.name"];
    for (field, _) in TOLD.iter().flat_map(|(_, fields)| *fields) {
        if !columns.contains(field) {
            columns.push(field);
        }
    }
    let found = shark.fields(&columns);
    assert_eq!(found.len(), frames.len());
    for (message, fields) in TOLD {
        let at = frames.iter().position(|frame| name(frame) == *message);
        let line = &found[at.unwrap_or_else(|| panic!("no example of {message}"))];
        for (field, value) in *fields {
            let column = columns.iter().position(|column| column == field);
            assert_eq!(
                line[column.expect("asked for")],
                *value,
                "{message}: {field}"
            );
        }
    }
    // Of the hidden state, which is the second example of its message.
    let mut steps = found.iter().filter(|line| line[0] == "STEP");
    let hidden = steps.nth(1).expect("two examples");
    let column = |name: &str| columns.iter().position(|column| *column == name);
    let cell = |name: &str| &*hidden[column(name).expect("asked for")];
    assert_eq!(cell("exo.width"), "2");
    assert_eq!(cell("exo.tensor.dtype"), "float32");
    assert_eq!(cell("exo.tensor.shape"), "[1, 1, 2]");
}

#[test]
fn announcements_are_read_on_any_port() {
    let Some(shark) = Shark::new() else { return };
    let text = br#"{"type": "discovery", "node_id": "mac2", "grpc_port": 50051, "device_capabilities": {"model": "Mac Studio", "chip": "Apple M3 Ultra", "memory": 262144, "flops": {"fp32": 54.26, "fp16": 108.52, "int8": 217.04}}, "priority": 4, "interface_name": "eth0", "interface_type": "Ethernet"}"#;
    let mut capture = Capture::default();
    for port in [5678, 5999] {
        capture.datagram(port, text);
        capture.datagram(port, b"anything else");
        capture.datagram(port, br#"{"type": 1}"#);
    }
    capture.write(&shark.file());
    let columns = [
        "exo.announcement.node_id",
        "exo.announcement.port",
        "_ws.malformed",
    ];
    let found = shark.fields(&columns);
    let told = vec!["mac2".to_owned(), "50051".to_owned(), String::new()];
    let nothing = vec![String::new(); 3];
    let each = [told, nothing.clone(), nothing];
    assert_eq!(found, [each.clone(), each].concat());
}

/// Damaged frames are said to be, and stop nothing.
#[test]
fn what_is_wrong_is_told() {
    let Some(shark) = Shark::new() else { return };
    let damaged = [
        "45584f01 81 00000004 00000001",
        "45584f01 12 00000008 000000ff 7b7d7d7d",
        "45584f01 12 00000006 00000002 7b7b",
        "45584f01 87 0000000b 00000001 00000000 01 09 00",
        "45584f01 87 0000000b 00000001 00000000 01 00 00",
        "45584f01 87 0000000f 00000001 00000000 01 01 00000002 00",
        "45584f01 87 0000000f 00000001 00000000 01 01 00000000 00",
        "45584f01 88 0000000e 00000001 00000000 00000002 00 00",
        "45584f01 8b 00000008 00000000 0000 ffff",
        "45584f01 8d 0000000d 00000001 87 ffffffff 00000000",
        "45584f01 91 00000013 00000001 ffffffff ffffffff 00000000 01 0002",
        "45584f01 85 00000001 7b",
        "45584f01 7f 00000001 00",
        "45584f01 81 00000000",
    ];
    let mut capture = Capture::default();
    for digits in damaged {
        let mut connection = capture.connection(50051);
        capture.segment(&mut connection, true, &hexadecimal(digits));
    }
    // Out of step: what follows a whole frame is none.
    let mut connection = capture.connection(50051);
    capture.segment(
        &mut connection,
        true,
        &hexadecimal("45584f01 81 00000008 0000000000000001"),
    );
    capture.segment(&mut connection, true, b"GET / HTTP/1.1\r\n\r\n");
    capture.write(&shark.file());
    let found = shark.fields(&["exo.bad", "_ws.malformed", "_ws.lua.error"]);
    let (sound, bad) = (damaged.len(), found.len());
    assert_eq!(bad, damaged.len() + 2);
    for (at, line) in found.iter().enumerate() {
        assert_eq!(line[0].is_empty(), at == sound, "{at}: {line:?}");
        assert_eq!(line[2], "", "{at}: {line:?}");
    }
}

fn count(names: &[String], kind: MessageType) -> usize {
    let name = kind.name();
    names.iter().filter(|known| **known == name).count()
}

#[test]
fn two_nodes_are_understood_while_they_talk() {
    let Some(shark) = Shark::new() else { return };
    let members = ["std", "smol"].map(|runtime| Member {
        runtime,
        memory: 1024,
        engine: None,
    });
    let recorder = Recorder::default();
    let arguments = ["--inference-engine", "cpu", "--threads", "1"];
    let ring = Ring::over(&members, &arguments, |address| recorder.way(address));
    // Long enough to travel in pieces.
    let prompt = "Once upon a time there was a fox. ".repeat(30);
    for node in &ring.nodes {
        let told = answer(node, &chat("stories", &prompt, 8));
        assert!(!told.is_empty());
    }
    drop(ring);
    recorder.capture().write(&shark.file());
    let names = shark.names();
    for kind in [
        MessageType::HealthCheckRequest,
        MessageType::HealthCheckResponse,
        MessageType::Topology,
        MessageType::Open,
        MessageType::Step,
        MessageType::Token,
        MessageType::Chunk,
        MessageType::End,
    ] {
        assert!(count(&names, kind) > 0, "no {kind:?} in {names:?}");
    }
    let whole = [
        "-T",
        "fields",
        "-e",
        "exo.tensor",
        "-Y",
        "exo.reassembled == \"STEP\"",
    ];
    let whole = shark.run(&whole);
    assert!(whole.contains("float32[1, "), "{whole}");
    let list = shark.run(&["-Y", "exo.name == \"TOKEN\""]);
    assert!(
        list.contains("TOKEN stream=") && list.contains(" LAST"),
        "{list}"
    );
}
