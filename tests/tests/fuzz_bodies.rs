//! The bodies of the fuzz targets over recorded frames and their mutations, on the stable toolchain.

use exo_protocol::rng::Rng;
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hex as text");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn recorded_frames() -> Vec<Vec<u8>> {
    let frames = vectors("frames.json");
    frames
        .as_array()
        .expect("a list")
        .iter()
        .map(|frame| bytes(&frame["frame_hex"]))
        .collect()
}

/// Changes a few bytes, cuts, doubles: what a fuzzer would try first.
fn mutate(data: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut mutated = data.to_vec();
    for _ in 0..=rng.below(4) {
        let length = mutated.len() as u64;
        let at = usize::try_from(rng.below(length)).expect("an index");
        match rng.below(5) {
            0 => mutated.truncate(at),
            1 => mutated.extend_from_slice(&data[at.min(data.len())..]),
            2 => mutated.insert(at, rng.next_u64().to_le_bytes()[0]),
            _ if !mutated.is_empty() => mutated[at] = rng.next_u64().to_le_bytes()[0],
            _ => {}
        }
    }
    mutated
}

#[test]
fn frames_and_their_mutations_decode_alike_however_they_are_cut() {
    let frames = recorded_frames();
    let small: Vec<&Vec<u8>> = frames.iter().filter(|frame| frame.len() < 4096).collect();
    assert!(small.len() > 80, "the vectors are there");
    for frame in &small {
        exo_tests::fuzz::decode(frame);
    }
    let seed = 0x00e0_5eed;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for frame in &small {
        for _ in 0..40 {
            exo_tests::fuzz::decode(&mutate(frame, &mut rng));
        }
    }
    let stream: Vec<u8> = small
        .iter()
        .flat_map(|frame| frame.iter().copied())
        .collect();
    exo_tests::fuzz::decode(&stream);
}

#[test]
fn discovery_files_and_their_mutations_are_read_or_refused() {
    let seed = 0x0d15_c0ed;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for file in [
        r#"{"peers": {"a": {"address": "127.0.0.1", "port": 1}, "b": {"address": "[::1]:2"}}}"#,
        r#"{"peers": {"a": {"address": "h:1", "device_capabilities": {"memory": 1}}}}"#,
    ] {
        for _ in 0..2000 {
            exo_tests::fuzz::discovery(&mutate(file.as_bytes(), &mut rng));
        }
    }
}

#[test]
fn a_gguf_head_and_its_mutations_are_read_or_refused() {
    let mut head = b"GGUF".to_vec();
    head.extend(3u32.to_le_bytes());
    head.extend(1u64.to_le_bytes());
    head.extend(1u64.to_le_bytes());
    head.extend(20u64.to_le_bytes());
    head.extend(b"general.architecture");
    head.extend(8u32.to_le_bytes());
    head.extend(5u64.to_le_bytes());
    head.extend(b"llama");
    let seed = 0x0066_7566;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for _ in 0..20_000 {
        exo_tests::fuzz::gguf(&mutate(&head, &mut rng));
    }
}
