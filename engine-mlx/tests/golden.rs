//! A real model's greedy texts, as mlx-lm 0.31.3 gives them: `tests/families/README.md` says how they
//! were made.
#![cfg(mlx)]

mod common;

use common::{answer, engine, load, shard};
use exo_engine_mlx::MlxOptions;
use exo_models::Model;
use serde_json::Value;
use std::path::Path;

fn numbers(value: &Value) -> Vec<u32> {
    let numbers = value.as_array().expect("a list").iter();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    numbers
        .map(|value| number(value).expect("a token"))
        .collect()
}

#[test]
fn smollm2_says_what_mlx_lm_lets_it_say() {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL") else {
        eprintln!("SKIPPED smollm2_says_what_mlx_lm_lets_it_say: EXO_TEST_MODEL names no model");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("../tests/families/smollm2.json");
    let golden = std::fs::read(golden).expect("golden texts");
    let golden: Value = serde_json::from_slice(&golden).expect("JSON");
    let model = Model::open(Path::new(&path)).expect("EXO_TEST_MODEL is a model");
    let layers = model.config().layers;
    let shards = [shard(0..11, layers), shard(11..layers, layers)];
    let mut engine = engine(&model, MlxOptions::default());
    for shard in &shards {
        load(&mut engine, shard).expect("loads");
    }
    let cases = golden["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (prompt, run) = (numbers(&case["prompt"]), &case["gguf"]);
        let wanted = numbers(&run["tokens"]);
        assert_eq!(wanted.len(), 64);
        let got = answer(&mut engine, &shards, "r", &prompt, wanted.len());
        if got != wanted {
            let at = got.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            let lead = &run["gaps"][at];
            panic!(
                "{}: at {at}, where the lead was {lead}:\n{got:?}\n{wanted:?}",
                case["text"]
            );
        }
    }
}
