//! The bodies of the fuzz targets on the stable toolchain: over the committed corpora, over every
//! past finding, over recorded frames and over mutations of all of these.

use exo_protocol::rng::Rng;
use exo_tests::fuzz;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 8] = [
    ("cluster", fuzz::cluster),
    ("connection", fuzz::connection),
    ("decode", fuzz::decode),
    ("discovery", fuzz::discovery),
    ("gguf", fuzz::gguf),
    ("http", fuzz::http),
    ("node", fuzz::node),
    ("roundtrip", fuzz::roundtrip),
];

/// What is committed stays small.
const MOST_FILES: usize = 100;
const MOST_BYTES: u64 = 300 << 10;

fn fuzz_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz")
        .join(name)
}

/// The files of a folder, sorted; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs a body over files and says over which it panicked.
fn broken_by(body: Body, files: &[PathBuf]) -> Vec<String> {
    let breaks = |path: &&PathBuf| {
        let data = read(path);
        catch_unwind(AssertUnwindSafe(|| body(&data))).is_err()
    };
    let broken = files.iter().filter(breaks);
    broken.map(|path| path.display().to_string()).collect()
}

#[test]
fn corpora_are_replayed() {
    let mut broken = Vec::new();
    for (target, body) in TARGETS {
        let corpus = files(&fuzz_folder("corpus").join(target));
        assert!(!corpus.is_empty(), "{target} has a corpus");
        broken.extend(broken_by(body, &corpus));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn past_findings_stay_fixed() {
    let folders = files(&fuzz_folder("findings"));
    assert!(!folders.is_empty(), "there were some");
    let mut broken = Vec::new();
    for folder in folders {
        let target = folder.file_name().expect("a name").to_string_lossy();
        let known = TARGETS.iter().find(|(name, _)| *name == target);
        let (_, body) = known.unwrap_or_else(|| panic!("{target} is no target"));
        broken.extend(broken_by(*body, &files(&folder)));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn corpora_stay_small() {
    for folder in files(&fuzz_folder("corpus")) {
        let all = files(&folder);
        let sizes = all
            .iter()
            .map(|path| path.metadata().expect("a file").len());
        let (count, bytes) = (all.len(), sizes.sum::<u64>());
        assert!(
            count <= MOST_FILES && bytes <= MOST_BYTES,
            "{} has {count} files of {bytes} bytes: fuzz/README.md says how to choose",
            folder.display()
        );
    }
}

#[test]
fn every_target_is_replayed() {
    let sources = files(&fuzz_folder("fuzz_targets"));
    let names: Vec<_> = sources.iter().filter_map(|path| path.file_stem()).collect();
    let known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
}

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    serde_json::from_slice(&read(&path)).expect("JSON")
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
    for frame in &frames {
        fuzz::decode(frame);
        fuzz::roundtrip(frame);
    }
    let seed = 0x00e0_5eed;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for frame in &small {
        for _ in 0..40 {
            let mutated = mutate(frame, &mut rng);
            fuzz::decode(&mutated);
            fuzz::roundtrip(&mutated);
        }
    }
    let stream: Vec<u8> = small
        .iter()
        .flat_map(|frame| frame.iter().copied())
        .collect();
    fuzz::decode(&stream);
    fuzz::roundtrip(&stream);
}

#[test]
fn mutated_scripts_keep_every_promise() {
    let seed = 0x5c21_97ed;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for (target, body) in TARGETS {
        let times = match target {
            "connection" | "node" => 8,
            // A whole run each.
            "cluster" => 2,
            _ => continue,
        };
        for path in files(&fuzz_folder("corpus").join(target)) {
            for _ in 0..times {
                let data = mutate(&read(&path), &mut rng);
                let kept = catch_unwind(AssertUnwindSafe(|| body(&data)));
                assert!(kept.is_ok(), "{target} over {data:?}");
            }
        }
    }
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
            fuzz::discovery(&mutate(file.as_bytes(), &mut rng));
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
        fuzz::gguf(&mutate(&head, &mut rng));
    }
}

#[test]
fn http_requests_and_their_mutations_are_read_alike_however_they_are_cut() {
    let seed = 0x4774_97ed;
    eprintln!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for path in files(&fuzz_folder("corpus").join("http")) {
        let data = read(&path);
        for _ in 0..200 {
            fuzz::http(&mutate(&data, &mut rng));
        }
    }
}
