//! Rings whose nodes have different engines: they tell what each of them tells alone, and go on
//! telling it when a node dies and one with the other engine takes over.
//!
//! Without MLX in the build there is nothing to mix.

#![cfg(unix)]

use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent};
use exo_protocol::{CallId, Shard};
use exo_tests::process::stand::{Stand, moments, report, say};
use exo_tests::process::story::{Story, answer, chat};
use exo_tests::process::{self, Member, NodeProcess, Ring};
use serde_json::Value;
use std::path::PathBuf;

/// For all nodes; MLX chooses its threads itself.
const THREADS: [&str; 2] = ["--threads", "1"];

/// Both orders of the engines in the ring, each under both pairings of the runtimes. The larger
/// memory has the first stage, and the first node of each is the one that is asked.
const RINGS: [[(&str, &str, u32); 2]; 4] = [
    [("mlx", "smol", 6144), ("cpu", "std", 4096)],
    [("mlx", "std", 6144), ("cpu", "smol", 4096)],
    [("mlx", "smol", 4096), ("cpu", "std", 6144)],
    [("mlx", "std", 4096), ("cpu", "smol", 6144)],
];

fn members(ring: &[(&'static str, &'static str, u32)]) -> Vec<Member> {
    let member = |&(engine, runtime, memory)| Member {
        runtime,
        memory,
        engine: Some(engine),
    };
    ring.iter().map(member).collect()
}

/// Whether there is something to mix, or a loud word that there is not.
fn mixed() -> bool {
    if !exo_engine_mlx::AVAILABLE {
        say("SKIPPED: this build has no MLX");
    }
    exo_engine_mlx::AVAILABLE
}

/// The engines of a model's last ring in its order, as a node tells them.
fn engines(node: &NodeProcess, model: &str) -> Vec<String> {
    let (_, body) = process::get(node.api, "/v1/topology").expect("an HTTP response");
    let topology: Value = serde_json::from_str(&body).expect("JSON");
    let stages = topology["exo"]["rings"][model].as_array().cloned();
    let engine = |stage: &Value| {
        let node = stage["node_id"].as_str().expect("a stage has a node");
        let engine = topology["nodes"][node]["engine"]["name"].as_str();
        engine.expect("every node tells its engine").to_owned()
    };
    stages.unwrap_or_default().iter().map(engine).collect()
}

/// The order in which a token meets the engines of one of [`RINGS`].
fn order(ring: &[(&str, &str, u32)]) -> Vec<String> {
    let mut sorted = ring.to_vec();
    sorted.sort_by_key(|(_, _, memory)| std::cmp::Reverse(*memory));
    sorted.iter().map(|(engine, ..)| (*engine).into()).collect()
}

#[test]
fn engines_tell_the_same_story_together() {
    if !mixed() {
        return;
    }
    let question = chat("stories", "Tell me a story about a fox.", 64);
    let alone = ["mlx", "cpu"].map(|engine| {
        let ring = Ring::of(&members(&[(engine, "std", 4096)]), &THREADS);
        answer(&ring.nodes[0], &question)
    });
    assert!(alone[0].split_whitespace().count() > 20, "{alone:?}");
    assert_eq!(alone[0], alone[1]);
    for members_of in &RINGS {
        let ring = Ring::of(&members(members_of), &THREADS);
        for node in &ring.nodes {
            let text = answer(node, &question);
            assert_eq!(text, alone[0], "{members_of:?}, asked at {}", node.id);
            assert_eq!(engines(node, "stories"), order(members_of));
        }
    }
}

/// Both stories, the greedy one and the one that is drawn, go on with the same words over the engine
/// that is left: it computes all positions anew from the tokens.
#[test]
fn an_engine_takes_over_from_another() {
    if !mixed() {
        return;
    }
    let mut moments = moments();
    let mut pauses = Vec::new();
    for (number, mut members_of) in RINGS.into_iter().enumerate() {
        // The asked node stays, with either engine.
        if number % 2 == 1 {
            members_of.reverse();
        }
        let mut stand = Stand::new(Ring::of(&members(&members_of), &THREADS), 400);
        stand.whole();
        assert_eq!(engines(&stand.ring.nodes[0], "stories"), order(&members_of));
        for which in [0, 1] {
            let blow = |ring: &mut Ring| ring.nodes[1].kill();
            let pause = stand.strike(which, &mut moments, "", blow);
            if let Some(pause) = pause {
                let left = [members_of[0].0.to_owned()];
                assert_eq!(engines(&stand.ring.nodes[0], "stories"), left);
                pauses.push(pause);
            }
            stand.ring.restart(1);
            stand.whole();
        }
    }
    report("killed beside another engine", pauses);
}

/// Steps of several requests that wait together are computed together, by either engine; nobody
/// hears another's words, or other ones than alone.
#[test]
fn many_at_once_hear_what_each_hears_alone() {
    if !mixed() {
        return;
    }
    let ring = Ring::of(&members(&RINGS[0]), &THREADS);
    let questions = ["a fox", "a boat", "the sea", "a robot"]
        .map(|what| chat("stories", &format!("Tell me a story about {what}."), 48));
    let alone = questions.each_ref().map(|q| answer(&ring.nodes[0], q));
    assert!(
        alone
            .iter()
            .all(|text| text.split_whitespace().count() > 10)
    );
    // At both nodes, each question twice.
    let ask = |at: usize| Story::begin(&ring.nodes[at % 2], &questions[at % 4]);
    let stories: Vec<Story> = (0..8).map(ask).collect();
    for (at, story) in stories.into_iter().enumerate() {
        assert_eq!(story.finish().text, alone[at % 4], "question {at}");
    }
}

/// The same files are the same model, whoever loads them; else no ring of both would form.
#[test]
fn engines_agree_what_a_model_is() {
    if !mixed() {
        return;
    }
    let layers = Model::embedded().expect("it is built in").config().layers;
    let call = CallId(1);
    let fingerprint = |engine: &mut dyn Engine, range| {
        let shard = Shard::new("stories".into(), range, layers).expect("a range of layers");
        let load = EngineCommand::Load { call, shard };
        match engine.execute(load, &mut |_| {}) {
            EngineEvent::Loaded { fingerprint, .. } => fingerprint,
            other => panic!("{other:?}"),
        }
    };
    let open = || Box::new(|_: &str| Model::embedded());
    let mut mlx = MlxEngine::new(MlxOptions::default(), open()).expect("MLX starts");
    let mut cpu = CpuEngine::new(CpuOptions::default(), open()).expect("threads start");
    let told = fingerprint(&mut mlx, 0..3);
    assert_ne!(told, 0);
    assert_eq!(told, fingerprint(&mut cpu, 3..layers));
}

/// Tokens of an answer that are compared.
const TOKENS: u32 = 32;

/// The most by which engines may differ in a logit, as a part of the largest one: engine-cpu
/// multiplies packed weights with 8-bit activations and keeps keys and values in half precision.
const TOLERANCE: f64 = 5e-3;

/// An answer of mlx-lm, from `tests/families/smollm2.json`.
struct Golden<'a> {
    model: &'a Model,
    tokens: Vec<u32>,
    /// In place of each token, the next likely one.
    seconds: Vec<u32>,
    /// By how much it is less likely.
    gaps: Vec<f64>,
    largest: f64,
}

impl<'a> Golden<'a> {
    fn new(model: &'a Model, case: &Value) -> Self {
        let case = &case["gguf"];
        let numbers = |key: &str| -> Vec<f64> {
            let list = case[key].as_array().expect("a list");
            let list = list.iter().take(TOKENS as usize);
            list.map(|n| n.as_f64().expect("a number")).collect()
        };
        let ids = |key| numbers(key).iter().map(|&id| id as u32).collect();
        Self {
            model,
            tokens: ids("tokens"),
            seconds: ids("seconds"),
            gaps: numbers("gaps"),
            largest: case["largest"].as_f64().expect("a number"),
        }
    }

    fn text(&self, tokens: &[u32]) -> String {
        let tokenizer = self.model.tokenizer().expect("it has a tokenizer");
        tokenizer.decode(tokens).expect("known tokens")
    }

    /// Nothing if an answer is the same; where it is another one and by how much the token there was
    /// the likelier one, if engines may differ so far; else what is wrong.
    fn judge(&self, answer: &str) -> Result<Option<(usize, f64)>, String> {
        if answer == self.text(&self.tokens) {
            return Ok(None);
        }
        let same = |count: &usize| answer.starts_with(&self.text(&self.tokens[..*count]));
        let at = (0..self.tokens.len()).rev().find(same).unwrap_or(0);
        let mut other = self.tokens[..at].to_vec();
        other.push(self.seconds[at]);
        let gap = self.gaps[at];
        if answer.starts_with(&self.text(&other)) && gap <= TOLERANCE * self.largest {
            return Ok(Some((at, gap)));
        }
        Err(format!(
            "token {at} is another one, with a gap of {gap} below a logit of {}: {answer:?}",
            self.largest
        ))
    }
}

#[test]
fn a_real_model_says_what_mlx_lm_says_or_almost() {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        say("SKIPPED: set EXO_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf to run this test");
        return;
    };
    if !mixed() {
        return;
    }
    let golden: Value = serde_json::from_str(include_str!("../families/smollm2.json"))
        .expect("the golden answers are JSON");
    let model = Model::open(&path).expect("the model opens");
    let folder = path.parent().expect("a file is in a folder");
    let folder = folder.to_string_lossy();
    let arguments = [&THREADS[..], &["--models-dir", &folder]].concat();
    let alone = [("mlx", "smol", 4096), ("cpu", "std", 4096)];
    // Either order, and either runtime under each engine.
    let both = [&RINGS[0][..], &RINGS[3]];
    for members_of in alone.chunks(1).chain(both) {
        let ring = Ring::of(&members(members_of), &arguments);
        let names = order(members_of).join(" > ");
        for (case, question) in [
            (0, "Write a long story about a fox."),
            (1, "Explain in three sentences why the sky is blue."),
        ] {
            let golden = Golden::new(&model, &golden["cases"][case]);
            let text = answer(&ring.nodes[0], &chat(model.id(), question, TOKENS));
            match golden.judge(&text) {
                Ok(None) => say(&format!("{names}: {TOKENS} tokens as mlx-lm")),
                Ok(Some((at, gap))) => say(&format!(
                    "{names}: as mlx-lm up to token {at}, which led by {gap} of {}",
                    golden.largest
                )),
                Err(why) => panic!("{names}: {why}"),
            }
        }
        assert_eq!(engines(&ring.nodes[0], model.id()), order(members_of));
    }
}
