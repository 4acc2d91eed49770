//! Damaged, incomplete and lying models: a clear failure that names the file and what is wrong with
//! it, before anything is served; never a panic.
//!
//! Each case is a good checkpoint with one thing changed, loaded whole by each engine.

#[path = "bad_models/configs.rs"]
mod configs;
#[path = "bad_models/gguf.rs"]
mod gguf;

use exo_models::Model;
use exo_protocol::engine::{EngineFailure, FailureKind};
use exo_tests::families::gguf::converted;
use exo_tests::families::tensors::{self, Entry};
use exo_tests::families::{Kind, Runner, Step, checkpoint};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// How the engines are by default.
fn engines() -> Vec<Kind> {
    let all = Kind::all().into_iter();
    all.filter(|kind| matches!(kind, Kind::Cpu | Kind::Mlx | Kind::MlxPacked))
        .collect()
}

/// A checkpoint's files, to be changed.
struct Files {
    config: Value,
    weights: Vec<u8>,
}

impl Files {
    fn of(name: &str) -> Self {
        let read = |file: &str| std::fs::read(checkpoint(name).join(file)).expect("a file");
        Self {
            config: serde_json::from_slice(&read("config.json")).expect("JSON"),
            weights: read("model.safetensors"),
        }
    }

    /// Changes tensors.
    fn tensors(&mut self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) {
        let mut tensors = tensors::parse(&self.weights);
        change(&mut tensors);
        self.weights = tensors::bytes(&tensors);
    }

    /// Changes one tensor.
    fn tensor(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        self.tensors(|tensors| change(tensors.get_mut(name).expect("a tensor")));
    }

    /// Changes the header's text.
    fn header(&mut self, change: impl FnOnce(String) -> String) {
        let (length, rest) = self.weights.split_first_chunk().expect("a length");
        let length = u64::from_le_bytes(*length) as usize;
        let header = String::from_utf8(rest[..length].to_vec()).expect("text");
        let header = change(header).into_bytes();
        let data = rest[length..].to_vec();
        self.weights = (header.len() as u64).to_le_bytes().to_vec();
        self.weights.extend(header);
        self.weights.extend(data);
    }

    fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let config = serde_json::to_vec(&self.config).expect("JSON");
        std::fs::write(folder.path().join("config.json"), config).expect("writes");
        std::fs::write(folder.path().join("model.safetensors"), &self.weights).expect("writes");
        folder
    }
}

/// Loads all layers, of a model that is believed to have `layers`.
fn load(kind: Kind, path: &Path, layers: u32) -> Result<Runner, EngineFailure> {
    let path = path.to_owned();
    let mut runner = Runner::new(kind, layers, move || Model::open(&path));
    runner.load(0..layers)?;
    Ok(runner)
}

/// What is wrong with how an engine refuses, if anything.
fn refused(kind: Kind, path: &Path, layers: u32, words: &[&str]) -> Result<(), String> {
    match load(kind, path, layers) {
        Ok(_) => Err("it was loaded".to_owned()),
        Err(EngineFailure { kind, message }) if kind != FailureKind::BadModel => {
            Err(format!("{kind:?}: {message}"))
        }
        Err(EngineFailure { message, .. }) => match words.iter().find(|w| !message.contains(*w)) {
            Some(word) => Err(format!("it does not say {word:?}: {message}")),
            None => Ok(()),
        },
    }
}

type Change = fn(&mut Files);

/// Checks cases: what they are called, what they change, and words of the message.
#[track_caller]
fn check(base: &str, layers: u32, cases: &[(&str, Change, &[&str])]) {
    let mut wrong = Vec::new();
    for (name, change, words) in cases {
        let mut files = Files::of(base);
        change(&mut files);
        let folder = files.write();
        for kind in engines() {
            if let Err(why) = refused(kind, folder.path(), layers, words) {
                wrong.push(format!("{name}, {}: {why}", kind.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FILE: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const Q: &str = "model.layers.1.self_attn.q_proj.weight";
const DOWN: &str = "model.layers.2.mlp.down_proj.weight";

fn float(entry: &mut Entry, at: usize, value: f32) {
    entry.data[at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

fn bf16(entry: &mut Entry, at: usize, value: f32) {
    let bits = (value.to_bits() >> 16) as u16;
    entry.data[at * 2..at * 2 + 2].copy_from_slice(&bits.to_le_bytes());
}

#[test]
fn damaged_weights() {
    check(
        "llama",
        4,
        &[
            (
                "cut short",
                |f| f.weights.truncate(f.weights.len() / 2),
                &[FILE, "tensor `"],
            ),
            (
                "cut in its header",
                |f| f.weights.truncate(200),
                &[FILE, "header"],
            ),
            ("empty", |f| f.weights.clear(), &[FILE]),
            (
                "header without end",
                |f| f.weights[..8].fill(0xff),
                &[FILE, "header"],
            ),
            (
                "header is no JSON",
                |f| f.header(|h| h.replacen('{', "[", 1)),
                &[FILE, "header"],
            ),
            (
                "header of another kind",
                |f| f.header(|_| "{\"a\": 3}".into()),
                &[FILE, "`a`"],
            ),
            (
                "missing tensor",
                |f| f.tensors(|tensors| drop(tensors.remove(Q))),
                &[FILE, Q],
            ),
            (
                "missing head",
                |f| f.tensors(|t| drop(t.remove("lm_head.weight"))),
                &["lm_head"],
            ),
            (
                "turned shape",
                |f| f.tensor(Q, |q| q.shape.reverse()),
                &[FILE, Q, "64", "32"],
            ),
            (
                "three dimensions",
                |f| f.tensor(Q, |q| q.shape = vec![8, 8, 32]),
                &[FILE, Q],
            ),
            (
                "more numbers than bytes",
                |f| f.tensor(Q, |q| q.data.truncate(q.data.len() / 2)),
                &[FILE, Q],
            ),
            (
                "unknown type",
                |f| f.tensor(Q, |q| q.dtype = "F8_E4M3".into()),
                &[FILE, Q, "F8_E4M3"],
            ),
            (
                "made of integers",
                |f| f.tensor(Q, |q| q.dtype = "I32".into()),
                &[FILE, Q, "I32"],
            ),
            (
                "not a number",
                |f| f.tensor(DOWN, |d| float(d, 77, f32::NAN)),
                &[FILE, DOWN, "row 1"],
            ),
            (
                "infinite",
                |f| f.tensor(Q, |q| float(q, 0, f32::NEG_INFINITY)),
                &[FILE, Q],
            ),
            (
                "a norm that is no number",
                |f| f.tensor("model.norm.weight", |n| float(n, 5, f32::NAN)),
                &[FILE, "model.norm.weight"],
            ),
            (
                "an embedding that is infinite",
                |f| {
                    f.tensor("model.embed_tokens.weight", |e| {
                        float(e, 4095, f32::INFINITY)
                    })
                },
                &[FILE, "model.embed_tokens.weight"],
            ),
            (
                "bytes beyond the end",
                |f| f.header(|h| h.replacen("[0,", "[99999999999,", 1)),
                &[FILE],
            ),
            (
                "bytes that end before they begin",
                |f| f.header(|h| h.replacen("[0,", "[9007199254740993,", 1)),
                &[FILE],
            ),
        ],
    );
}

#[test]
fn damaged_halves() {
    check(
        "llama-bf16",
        4,
        &[
            (
                "not a number",
                |f| f.tensor(DOWN, |d| bf16(d, 77, f32::NAN)),
                &[FILE, DOWN],
            ),
            (
                "infinite",
                |f| f.tensor(Q, |q| bf16(q, 2047, f32::INFINITY)),
                &[FILE, Q],
            ),
        ],
    );
}

#[test]
fn damaged_packed_weights() {
    const SCALES: &str = "model.layers.1.self_attn.q_proj.scales";
    const BIASES: &str = "model.layers.1.self_attn.q_proj.biases";
    check(
        "llama-mlx-4bit-g64",
        4,
        &[
            (
                "infinite scale",
                |f| f.tensor(SCALES, |s| bf16(s, 3, f32::INFINITY)),
                &[FILE, "q_proj"],
            ),
            (
                "bias that is no number",
                |f| f.tensor(BIASES, |b| bf16(b, 3, f32::NAN)),
                &[FILE, "q_proj"],
            ),
            (
                "no scales",
                |f| f.tensors(|t| drop(t.remove(SCALES))),
                &["q_proj"],
            ),
            (
                "no biases",
                |f| f.tensors(|t| drop(t.remove(BIASES))),
                &[FILE, "q_proj"],
            ),
            (
                "scales of another shape",
                |f| f.tensor(SCALES, |s| s.shape.reverse()),
                &[FILE, "q_proj"],
            ),
            (
                "scales of bytes",
                |f| f.tensor(SCALES, |s| s.dtype = "U16".into()),
                &[FILE, "q_proj"],
            ),
            (
                "other bits",
                |f| f.config["quantization"]["bits"] = json!(8),
                &[FILE],
            ),
            (
                "bits that are none",
                |f| f.config["quantization"]["bits"] = json!(5),
                &[CONFIG, "bits"],
            ),
            (
                "no bits",
                |f| f.config["quantization"]["bits"] = json!(0),
                &[CONFIG, "bits"],
            ),
            (
                "other groups",
                |f| f.config["quantization"]["group_size"] = json!(32),
                &[FILE],
            ),
            (
                "odd groups",
                |f| f.config["quantization"]["group_size"] = json!(48),
                &[CONFIG, "group"],
            ),
            (
                "another mode",
                |f| f.config["quantization"]["mode"] = json!("mxfp4"),
                &[CONFIG, "mxfp4"],
            ),
            (
                "no quantisation",
                |f| {
                    let config = f.config.as_object_mut().expect("an object");
                    config.remove("quantization");
                    config.remove("quantization_config");
                },
                &[FILE],
            ),
        ],
    );
}

/// Any bit of any file: it is refused, or computes without a panic.
#[test]
fn any_flipped_bit_does_no_harm() {
    let flip = |bytes: &mut [u8], seed: u64| {
        // SplitMix64, so that a failure can be repeated.
        let mut bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // Half of them where everything else is said: at the beginning.
        let reach = if seed.is_multiple_of(2) {
            bytes.len()
        } else {
            bytes.len().min(6000)
        };
        bytes[bits as usize % reach] ^= 1 << (bits >> 60 & 7);
    };
    let run = |kind: Kind, path: &Path| {
        let Ok(mut runner) = load(kind, path, 4) else {
            return;
        };
        let stage = [runner.load(0..4).expect("it is loaded")];
        let step = Step {
            request: "r",
            position: 0,
            tokens: &[9, 100, 33, 8],
            sample: true,
        };
        // A failure is fine, too.
        let _ = runner.step(&stage, &step);
    };
    for base in ["llama", "qwen3-mlx-mixed", "qwen3_moe-dense-layer"] {
        for seed in 0..30 {
            let mut files = Files::of(base);
            flip(&mut files.weights, seed);
            let folder = files.write();
            let mut config = serde_json::to_vec(&Files::of(base).config).expect("JSON");
            flip(&mut config, seed + 1000);
            let folder_of_config = Files::of(base).write();
            std::fs::write(folder_of_config.path().join("config.json"), config).expect("writes");
            for kind in engines() {
                run(kind, folder.path());
                run(kind, folder_of_config.path());
            }
        }
    }
    let gguf = converted("mistral").bytes();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    for seed in 0..60 {
        let mut bytes = gguf.clone();
        flip(&mut bytes, seed);
        std::fs::write(&file, bytes).expect("writes");
        for kind in engines() {
            run(kind, &file);
        }
    }
}
