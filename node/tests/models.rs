//! `exo-node models` with a hub on this machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "../../models/src/hub/tests/server.rs"]
#[expect(dead_code, reason = "not everything can go wrong here")]
mod server;

use serde_json::{Value, json};
use server::{Fault, HubServer, On};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const REPO: &str = "me/stories";

struct Machine {
    hub: HubServer,
    home: tempfile::TempDir,
}

impl Machine {
    /// The hub has the model that is built in, too.
    fn new() -> Self {
        let hub = HubServer::start();
        let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories");
        hub.put_folder(REPO, &stories);
        let home = tempfile::tempdir().unwrap();
        Self { hub, home }
    }

    fn run(&self, words: &str) -> (i32, String, String) {
        let home = self.home.path();
        let output = Command::new(env!("CARGO_BIN_EXE_exo-node"))
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .env("EXO_HOME", home.join("exo"))
            .env("HF_HOME", home.join("hf"))
            .env("HF_ENDPOINT", self.hub.endpoint())
            .env("NO_COLOR", "1")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE")
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE")
            .env_remove("HF_TOKEN")
            .env_remove("HUGGING_FACE_HUB_TOKEN")
            .env_remove("DEBUG")
            .output()
            .unwrap();
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn good(&self, words: &str) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 0, "{words}: {out}{err}");
        out
    }

    fn bad(&self, words: &str) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 1, "{words}: {out}{err}");
        err
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.good(&format!("{words} --json"))).unwrap()
    }
}

#[test]
fn a_model_is_pulled_listed_asked_and_removed() {
    let machine = Machine::new();
    let told = machine.bad("models info me/stories");
    assert!(told.contains("exo-node models pull me/stories"), "{told}");

    // Something goes wrong on the way, and is said.
    machine
        .hub
        .fault(On::Body, Fault::Status(503, "", "busy"), 1);
    let (code, out, err) = machine.run("models pull me/stories");
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("answered 503: busy; trying again in 0.3 s"),
        "{err}"
    );
    assert!(out.contains("downloaded, every file has its hash"), "{out}");
    assert!(
        machine
            .good("models pull me/stories")
            .contains("was here already")
    );

    let list = machine.good("models");
    let line = list.lines().find(|line| line.starts_with(REPO)).unwrap();
    assert!(
        line.contains("Llama") && line.contains("/hf/hub/models--me--stories/"),
        "{list}"
    );
    let list = machine.json("models list");
    let models = list["models"].as_array().unwrap();
    let model = models.iter().find(|model| model["model"] == REPO).unwrap();
    assert_eq!(model["whole"], true);
    assert!(
        machine
            .good("models info me/stories")
            .contains("layers here  all")
    );
    let verified = machine.json("models verify me/stories");
    assert_eq!(verified["whole"], true);

    // What was pulled answers as what is built in.
    let ask = |model: &str| {
        machine.good(&format!(
            "run {model} --prompt Once --max-tokens 12 --discovery-module none --offline"
        ))
    };
    assert_eq!(ask(REPO), ask("stories"));

    let removed = machine.good("models rm me/stories");
    let wanted = machine.home.path().join("hf/hub/models--me--stories");
    assert!(
        removed.starts_with(&format!("removed {}", wanted.display())),
        "{removed}"
    );
    assert!(!wanted.exists());
    let told = machine.bad("models rm me/stories");
    assert!(told.contains("is not in the hub's cache"), "{told}");
}

#[test]
fn a_model_is_fetched_because_it_is_run() {
    let machine = Machine::new();
    let words =
        |model: &str| format!("run {model} --prompt Once --max-tokens 12 --discovery-module none");
    for careful in ["--offline", "--no-download"] {
        let told = machine.bad(&format!("{} {careful}", words(REPO)));
        assert!(told.contains("on this machine"), "{told}");
    }
    assert_eq!(machine.hub.asked().len(), 0);

    let (code, out, err) = machine.run(&words(REPO));
    assert_eq!((code, &out), (0, &machine.good(&words("stories"))), "{err}");
    assert!(!machine.hub.asked().is_empty());
    // The second time it is here.
    assert_eq!(machine.good(&words(REPO)), out);
    assert_eq!(machine.hub.asked().len(), 0);

    let told = machine.bad(&words("me/nothing"));
    assert!(told.contains("has no repository me/nothing"), "{told}");
    let told = machine.bad(&words("nothing"));
    assert!(told.contains("no model named `nothing`"), "{told}");
}

#[test]
fn damage_is_said_and_mended_when_that_is_wanted() {
    let machine = Machine::new();
    let pulled = machine.json("models pull me/stories");
    let folder = Path::new(pulled["path"].as_str().unwrap());
    let weights = fs::canonicalize(folder.join("model.safetensors")).unwrap();
    let right = fs::read(&weights).unwrap();
    let damage = || {
        let mut bytes = right.clone();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
    };
    damage();
    let (code, out, _) = machine.run("models verify me/stories");
    assert_eq!(code, 1);
    let mends = "exo-node models verify me/stories --repair";
    assert!(out.contains("DAMAGED") && out.contains(mends), "{out}");
    let told = machine.bad("models verify me/stories --repair --offline");
    assert!(told.contains("leave out --offline"), "{told}");
    let told = machine.good("models verify me/stories --repair");
    assert!(told.ends_with("repaired: 7.1 MB downloaded\n"), "{told}");
    assert_eq!(fs::read(&weights).unwrap(), right);
    machine.good("models verify me/stories");
    damage();
    let told = machine.json("models verify me/stories --repair");
    assert_eq!(
        (&told["whole"], &told["downloaded"]),
        (&json!(true), &json!(right.len()))
    );
    let files = told["files"].as_array().unwrap();
    let repaired = files.iter().filter(|file| file["state"] == "repaired");
    assert_eq!(repaired.count(), 1, "{told}");
    let told = machine.json("models verify me/stories --repair");
    assert_eq!(told["downloaded"], 0);
}

#[test]
fn what_is_not_done_says_why() {
    let machine = Machine::new();
    for (words, wanted) in [
        (
            "models pull stories",
            "is built in, there is nothing to download",
        ),
        ("models pull me/nothing", "has no repository me/nothing"),
        ("models pull me/stories --offline", "leave out --offline"),
        (
            "models pull a/b/c",
            "expected a name of the registry, a repository",
        ),
        ("models verify me/stories", "is not in the hub's cache"),
    ] {
        let told = machine.bad(words);
        assert!(told.contains(wanted), "{words}: {told}");
    }
    let mine = machine.home.path().join("mine");
    fs::create_dir(&mine).unwrap();
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories");
    fs::create_dir(mine.join("own")).unwrap();
    for entry in fs::read_dir(stories).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            fs::copy(entry.path(), mine.join("own").join(entry.file_name())).unwrap();
        }
    }
    let told = machine.bad(&format!("models rm own --models-dir {}", mine.display()));
    assert!(told.contains("outside the hub's cache"), "{told}");
    let told = machine.bad(&format!(
        "models verify own --models-dir {}",
        mine.display()
    ));
    assert!(told.contains("did not come from the hub"), "{told}");
    assert!(mine.join("own/config.json").exists());
    for words in [
        "models pull",
        "models dance",
        "models pull x --max-parallel-downloads 0",
        "models pull x --repair",
    ] {
        let (code, _, err) = machine.run(words);
        assert_eq!(code, 2, "{words}: {err}");
    }
}
