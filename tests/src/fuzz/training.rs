//! What training jobs say, from bytes.

use super::message::{self, ME};
use super::source::Source;
use bytes::Bytes;
use exo_protocol::dummy;
use exo_protocol::engine::{ExampleInput, Optimizer, Targets, TrainSetup, Trainable};
use exo_protocol::tensor::{DType, Tensor};
use exo_protocol::wire::{Begin, Begun, Example, Gradient, Loss, Message, Save, Saved};
use exo_protocol::{RequestId, Train};
use std::sync::Arc;

/// Any message of a training job, mostly one that may come from `from`.
pub(super) fn any(source: &mut Source<'_>, from: &str) -> Message {
    let kind = source.below(16);
    let job = message::request(source);
    let step = u32::from(source.below(4));
    match kind {
        0..4 => Message::Begin(Begin {
            plan: plan(source, &job, from),
        }),
        4 | 5 => Message::Begun(Begun {
            job,
            trainable: source.number().into(),
            iteration: step,
        }),
        6..10 => {
            let (batch, positions) = (1 + source.below(2), 1 + source.below(3));
            let tokens = u32::from(batch) * u32::from(positions);
            let ids: Vec<u32> = (0..tokens).map(|_| source.byte().into()).collect();
            let to = source.below(positions + 1);
            let counted = vec![(0, to.into()); batch.into()];
            Message::Example(Example {
                job,
                step,
                learn: !source.one_in(4),
                input: match source.below(2) {
                    0 => ExampleInput::Hidden(hidden(source, batch, positions)),
                    _ => ExampleInput::Tokens {
                        tokens: ids.clone(),
                        batch: batch.into(),
                    },
                },
                targets: Targets {
                    tokens: ids,
                    counted,
                },
            })
        }
        10 | 11 => {
            let (batch, positions) = (1 + source.below(2), 1 + source.below(3));
            Message::Gradient(Gradient {
                job,
                step,
                loss: f32::from(source.byte()),
                positions: source.number(),
                gradient: hidden(source, batch, positions),
            })
        }
        12 | 13 => Message::Loss(Loss {
            job,
            step,
            loss: f32::from(source.byte()),
            positions: source.number(),
        }),
        14 => Message::Save(Save {
            job,
            iteration: step,
        }),
        _ => Message::Saved(Saved {
            job,
            iteration: step,
            file: String::from("file"),
        }),
    }
}

/// A job that begins here.
pub(super) fn begin(source: &mut Source<'_>, job: RequestId) -> Train {
    let shape = source.byte();
    Train {
        job,
        model: dummy::MODEL.into(),
        layers: if shape == 255 { 0 } else { dummy::LAYERS },
        bytes: if shape >> 6 == 1 { 1500 << 20 } else { 0 },
        fingerprint: u64::from(shape >> 5 & 1),
        setup: Arc::new(TrainSetup {
            name: String::from(if shape & 15 == 15 { "a/b" } else { "job" }),
            trainable: Trainable::Full { last_layers: 0 },
            optimizer: Optimizer::Sgd,
            learning_rate: 0.5,
            seed: 1,
            resume: (shape & 15 == 14).then_some(1),
        }),
    }
}

/// An example for one.
pub(super) fn example(source: &mut Source<'_>, job: RequestId) -> exo_protocol::Example {
    let shape = source.byte();
    let (batch, positions) = (1 + (shape & 1), 1 + (shape >> 1 & 3));
    let ids = usize::from(batch * positions);
    exo_protocol::Example {
        job,
        batch: batch.into(),
        tokens: vec![shape.into(); ids],
        targets: Targets {
            tokens: vec![1; if shape >> 3 == 31 { ids + 1 } else { ids }],
            counted: vec![(0, positions.into()); batch.into()],
        },
        learn: shape & 16 == 0,
    }
}

fn hidden(source: &mut Source<'_>, batch: u8, positions: u8) -> Tensor {
    let width = 1 + source.below(2);
    let shape = [batch, positions, width].map(usize::from).to_vec();
    message::filled(DType::F32, shape, source.byte() & 0x3f)
}

/// A job's plan.
fn plan(source: &mut Source<'_>, job: &str, from: &str) -> Bytes {
    let origin = match source.below(8) {
        0..6 => from,
        6 => ME,
        _ => "c",
    };
    let rings: [&[&str]; 8] = [
        &[from, ME],
        &[ME, from],
        &[ME],
        &[from, ME, "b"],
        &["b", ME],
        &[ME, "c"],
        &["c", "b"],
        &[ME, ME],
    ];
    let nodes = rings[usize::from(source.below(8))];
    let share = dummy::LAYERS / u32::try_from(nodes.len()).unwrap_or(1);
    let stages: Vec<String> = (0..)
        .zip(nodes)
        .map(|(index, node)| {
            let last = usize::try_from(index + 1) == Ok(nodes.len());
            let end = if last {
                dummy::LAYERS
            } else {
                (index + 1) * share
            };
            format!(r#"["{node}", {}, {}]"#, index * share, end - 1)
        })
        .collect();
    let name = ["job", "", "..", "a/b"][usize::from(source.below(16).saturating_sub(12))];
    let trainable = match source.below(4) {
        0 => r#"{"full": {"last_layers": 0}}"#,
        1 => r#"{"lora": {"rank": 0, "scale": 1.0, "last_layers": 0}}"#,
        _ => r#"{"lora": {"rank": 8, "scale": 1.0, "last_layers": 0}}"#,
    };
    let resume = if source.one_in(8) { "1" } else { "null" };
    let text = format!(
        r#"{{"job": "{job}", "origin": "{origin}", "model": "{}", "layers": {}, "fingerprint": 0,
        "ring": [{}], "setup": {{"name": "{name}", "trainable": {trainable},
        "optimizer": {{"sgd": {{}}}}, "learning_rate": 0.5, "seed": 1, "resume": {resume}}}}}"#,
        dummy::MODEL,
        dummy::LAYERS,
        stages.join(", "),
    );
    Bytes::from(text)
}
