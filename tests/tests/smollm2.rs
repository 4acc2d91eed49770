//! Greedy texts of a real model, token by token beside the oracle's: see `tests/families/README.md`.

use exo_models::Model;
use exo_tests::families::smollm2::{Text, file, texts, write_folder};
use exo_tests::families::{Kind, Runner, Step};
use std::path::Path;

/// How large a lead of the oracle's token may be for another one to be chosen, relative to the
/// largest logit.
fn near_tie(kind: Kind) -> f32 {
    match kind {
        Kind::CpuSingle | Kind::Mlx | Kind::MlxPacked => 2e-4,
        // Activations of eight bits: engine-cpu's own tests hold its logits to what the same costs
        // llama.cpp.
        Kind::Cpu => 2e-2,
        Kind::MlxBf16 => 5e-2,
    }
}

/// Tells the oracle's tokens to an engine and compares what it would have said. As long as all are
/// the same, so is the text.
fn compare(kind: Kind, model: &Path, texts: &[Text]) -> Result<(), String> {
    let path = model.to_owned();
    let layers = Model::open(model).expect("a model").config().layers;
    let mut runner = Runner::new(kind, layers, move || Model::open(&path));
    let stages = runner.load_cut(&[layers / 2]).map_err(|e| e.to_string())?;
    for (n, text) in texts.iter().enumerate() {
        let request = format!("text {n}");
        let (mut tokens, mut position) = (text.prompt.clone(), 0);
        let mut others = Vec::new();
        for (at, (&expected, &lead)) in text.tokens.iter().zip(&text.leads).enumerate() {
            let step = Step {
                request: &request,
                position,
                tokens: &tokens,
                sample: true,
            };
            let (token, _) = runner.step(&stages, &step).map_err(|e| e.to_string())?;
            let token = token.expect("a token was to be chosen");
            if token != expected {
                others.push(format!(
                    "{at}: {token} instead of {expected}, which leads by {lead}"
                ));
                if lead > near_tie(kind) * text.largest {
                    return Err(format!("{}, {request}: {others:?}", kind.name()));
                }
            }
            position += tokens.len() as u32;
            tokens = vec![expected];
        }
        let (name, all) = (kind.name(), text.tokens.len());
        println!(
            "{name:10} {request}: {} of {all} the same {others:?}",
            all - others.len()
        );
    }
    Ok(())
}

fn all(model: &Path, texts: &[Text], kinds: &[Kind]) {
    let there = Kind::all();
    let kinds = kinds.iter().filter(|kind| there.contains(kind));
    let wrong: Vec<String> = kinds
        .filter_map(|kind| compare(*kind, model, texts).err())
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn from_gguf() {
    if let Some(model) = file("smollm2::from_gguf") {
        let kinds = [Kind::Mlx, Kind::MlxPacked, Kind::Cpu, Kind::CpuSingle];
        all(&model, &texts("gguf"), &kinds);
    }
}

#[test]
fn from_safetensors() {
    if let Some(model) = file("smollm2::from_safetensors") {
        let folder = tempfile::tempdir().expect("a folder");
        write_folder(&model, folder.path());
        let kinds = [Kind::Mlx, Kind::Cpu, Kind::CpuSingle];
        all(folder.path(), &texts("safetensors"), &kinds);
    }
}
