//! What the codec says is in a message.

use super::*;
use crate::engine::ExampleInput;
use crate::wire::StepBody;

pub(super) fn of_tensor(tensor: &Tensor) -> String {
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    format!("{dtype}{shape:?} {:?}", &tensor.data()[..])
}

fn bits(number: f32) -> String {
    format!("{:08x}", number.to_bits())
}

/// What the codec says is in an extension's message, in the order of its bytes; lengths aside,
/// which no value has. `None` for JSON.
pub(super) fn of_message(message: &Message) -> Option<Vec<(&'static str, String)>> {
    let flag = |set: bool, name: &'static str| set.then_some(name);
    let flags = |names: &[Option<&str>]| {
        let names: Vec<&str> = names.iter().copied().flatten().collect();
        ("flags", names.join("|"))
    };
    Some(match message {
        Message::Ping { id } | Message::Pong { id } => [("id", id.to_string())].into(),
        Message::Error(notice) | Message::Goodbye(notice) => [
            ("code", notice.code.to_string()),
            ("text", notice.text.clone()),
        ]
        .into(),
        Message::Open(open) => [
            ("stream", open.stream.to_string()),
            ("plan", format!("{:?}", &open.plan[..])),
        ]
        .into(),
        Message::Step(step) => {
            let mut all = Vec::from([
                ("stream", step.stream.to_string()),
                ("position", step.position.to_string()),
                flags(&[flag(step.sample, "SAMPLE")]),
            ]);
            match &step.body {
                StepBody::Tokens(tokens) => {
                    all.extend([
                        ("elements", "0".to_owned()),
                        ("tokens", format!("{tokens:?}")),
                    ]);
                }
                StepBody::Hidden(tensor) => {
                    let mut codes = ELEMENTS.iter();
                    let code = codes.find(|(_, dtype)| *dtype == Some(tensor.dtype()));
                    all.extend([
                        ("elements", code.expect("it travels").0.to_string()),
                        ("width", tensor.shape()[2].to_string()),
                        ("hidden", of_tensor(tensor)),
                    ]);
                }
            }
            all
        }
        Message::Token(token) => [
            ("stream", token.stream.to_string()),
            ("index", token.index.to_string()),
            ("token", token.token.to_string()),
            flags(&[flag(token.end, "END"), flag(token.last, "LAST")]),
        ]
        .into(),
        Message::Scored(scored) => {
            let token = scored.token;
            let (likeliest, scores): (Vec<u32>, Vec<f32>) =
                scored.scores.likeliest.iter().copied().unzip();
            let bytes: Vec<u8> = scores
                .iter()
                .flat_map(|score| score.to_le_bytes())
                .collect();
            let scores = Tensor::new(DType::F32, [1, 1, scores.len()].into(), bytes.into());
            [
                ("stream", token.stream.to_string()),
                ("index", token.index.to_string()),
                ("token", token.token.to_string()),
                flags(&[flag(token.end, "END"), flag(token.last, "LAST")]),
                ("score", bits(scored.scores.chosen)),
                ("likeliest_count", likeliest.len().to_string()),
                ("likeliest", format!("{likeliest:?}")),
                ("scores", of_tensor(&scores.expect("bytes match"))),
            ]
            .into()
        }
        Message::Timing(timing) => [
            ("epoch", timing.epoch.to_string()),
            ("stage", timing.stage.to_string()),
            ("position", timing.position.to_string()),
            ("counted_positions", timing.positions.to_string()),
            ("wait_ns", timing.wait.as_nanos().to_string()),
            ("compute_ns", timing.compute.as_nanos().to_string()),
            ("write_ns", timing.write.as_nanos().to_string()),
            ("rtt_ns", timing.rtt.as_nanos().to_string()),
            ("request", timing.request.to_string()),
        ]
        .into(),
        Message::Close { stream } => [("stream", stream.to_string())].into(),
        Message::Credit { stream, bytes } => {
            [("stream", stream.to_string()), ("bytes", bytes.to_string())].into()
        }
        Message::End(ending) | Message::Failed(ending) => [
            ("epoch", ending.epoch.to_string()),
            ("code", ending.code.to_string()),
            ("request", ending.request.to_string()),
            ("text", ending.text.clone()),
        ]
        .into(),
        Message::Chunk(chunk) => [
            ("transfer", chunk.transfer.to_string()),
            ("kind", chunk.kind.to_string()),
            ("total", chunk.total.to_string()),
            ("offset", chunk.offset.to_string()),
            ("data", format!("{:?}", &chunk.data[..])),
        ]
        .into(),
        Message::Abort { transfer } => [("transfer", transfer.to_string())].into(),
        Message::Begun(begun) => [
            ("trainable", begun.trainable.to_string()),
            ("iteration", begun.iteration.to_string()),
            ("job", begun.job.to_string()),
        ]
        .into(),
        Message::Example(example) => {
            let counted = example.targets.counted.iter();
            let counted: Vec<u32> = counted.flat_map(|&(from, to)| [from, to]).collect();
            let (batch, positions, width, input) = match &example.input {
                ExampleInput::Tokens { tokens, batch } => (
                    *batch as usize,
                    tokens.len() / *batch as usize,
                    0,
                    ("tokens", format!("{tokens:?}")),
                ),
                ExampleInput::Hidden(tensor) => {
                    let shape = tensor.shape();
                    (shape[0], shape[1], shape[2], ("hidden", of_tensor(tensor)))
                }
            };
            [
                ("step", example.step.to_string()),
                ("batch", batch.to_string()),
                ("positions", positions.to_string()),
                ("width", width.to_string()),
                flags(&[flag(example.learn, "LEARN")]),
                ("job", example.job.to_string()),
                ("targets", format!("{:?}", example.targets.tokens)),
                ("counted", format!("{counted:?}")),
                input,
            ]
            .into()
        }
        Message::Gradient(gradient) => {
            let shape = gradient.gradient.shape();
            [
                ("step", gradient.step.to_string()),
                ("loss", bits(gradient.loss)),
                ("counted_positions", gradient.positions.to_string()),
                ("batch", shape[0].to_string()),
                ("positions", shape[1].to_string()),
                ("width", shape[2].to_string()),
                ("job", gradient.job.to_string()),
                ("gradient", of_tensor(&gradient.gradient)),
            ]
            .into()
        }
        Message::Loss(loss) => [
            ("step", loss.step.to_string()),
            ("loss", bits(loss.loss)),
            ("counted_positions", loss.positions.to_string()),
            ("job", loss.job.to_string()),
        ]
        .into(),
        Message::Save(save) => [
            ("iteration", save.iteration.to_string()),
            ("job", save.job.to_string()),
        ]
        .into(),
        Message::Saved(saved) => [
            ("iteration", saved.iteration.to_string()),
            ("job", saved.job.to_string()),
            ("file", saved.file.clone()),
        ]
        .into(),
        Message::Want(want) => [
            ("want", want.want.to_string()),
            ("from", want.from.to_string()),
            ("most", want.length.to_string()),
            ("file", want.name.clone()),
        ]
        .into(),
        Message::Part(part) => [
            ("want", part.want.to_string()),
            ("size", part.size.to_string()),
            ("code", part.code.to_string()),
            ("content", format!("{:?}", &part.content[..])),
        ]
        .into(),
        _ => return None,
    })
}
