//! Clients that others wrote, against a real ring of two nodes with a real model.
//!
//! `.ci/run` installs them into `target/clients` (`EXO_TEST_CLIENTS` names another folder): a virtual
//! environment `venv` with the packages `openai` and `llm-comply`, and `node_modules/openai`. Without
//! them, or without `EXO_TEST_MODEL`, these tests say loudly that they were skipped.

use exo_tests::process::Ring;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the checks of `llm-comply` do not pass, and why that is meant.
const KNOWN: [(&str, &str); 5] = [
    ("chat-image-input", "no model here sees"),
    (
        "chat-error-handling",
        "a request without a model gets the default one",
    ),
    ("anth-image-input", "no model here sees"),
    ("image-input", "no model here sees"),
    (
        "error-handling",
        "a request without a model gets the default one",
    ),
];

/// What is needed for these tests.
struct Setup {
    clients: PathBuf,
    /// The folder with the model, and its id.
    models: String,
    model: String,
}

/// `None` with a loud word if something is missing.
fn setup(test: &str) -> Option<Setup> {
    let skipped = |what: &str| eprintln!("!!!!!!!! SKIPPED clients::{test}: {what} !!!!!!!!");
    let Some(path) = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        skipped("EXO_TEST_MODEL names no model");
        return None;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let clients = std::env::var_os("EXO_TEST_CLIENTS")
        .map_or_else(|| root.join("target/clients"), PathBuf::from);
    if !clients.join("venv/bin/llm-comply").exists()
        || !clients.join("node_modules/openai").exists()
    {
        skipped(&format!(
            "no clients in {}; .ci/run installs them",
            clients.display()
        ));
        return None;
    }
    Some(Setup {
        clients,
        models: path.parent()?.to_string_lossy().into_owned(),
        model: path.file_stem()?.to_string_lossy().into_owned(),
    })
}

impl Setup {
    /// A ring of two, each with half of the layers; answers end after as many tokens.
    fn ring(&self, most: &str) -> Ring {
        let limit = ["--max-generate-tokens", most, "--threads", "1"];
        let models = ["--models-dir", &self.models, "--default-model", &self.model];
        Ring::start(&["std", "smol"], &[&limit[..], &models].concat())
    }

    fn python(&self) -> PathBuf {
        self.clients.join("venv/bin/python")
    }
}

fn base(ring: &Ring) -> String {
    format!("http://{}/v1", ring.nodes[0].api)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

/// Runs a client to its end; what it said is told if it failed.
fn run(command: &mut Command) {
    let output = command.output().expect("the client starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "{command:?}\n{said}\n{failed}");
}

#[test]
fn openai_for_python() {
    let Some(setup) = setup("openai_for_python") else {
        return;
    };
    let ring = setup.ring("512");
    let mut client = Command::new(setup.python());
    run(client
        .arg(script("openai_python.py"))
        .args([&base(&ring), &setup.model]));
}

#[test]
fn openai_for_node() {
    let Some(setup) = setup("openai_for_node") else {
        return;
    };
    let ring = setup.ring("512");
    let mut client = Command::new("node");
    client.arg(script("openai_node.mjs"));
    client.args([&base(&ring), &setup.model]);
    run(client.arg(&setup.clients));
}

/// The results of a format's checks.
fn comply(setup: &Setup, ring: &Ring, format: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut tool = Command::new(setup.clients.join("venv/bin/llm-comply"));
    tool.args(["--format", format, "-u", &base(ring), "-k", "none"]);
    tool.args(["-m", &setup.model, "--timeout", "120", "--json"]);
    let output = tool.output().expect("llm-comply starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    let results = report["results"].as_array().expect("a list of results");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let result = |result: &Value| {
        let errors = result["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let errors = errors.iter().map(text).collect();
        (text(&result["id"]), (text(&result["status"]), errors))
    };
    results.iter().map(result).collect()
}

#[test]
fn llm_comply() {
    let Some(setup) = setup("llm_comply") else {
        return;
    };
    let ring = setup.ring("160");
    for format in ["openai-chat", "anthropic", "open-responses"] {
        let results = comply(&setup, &ring, format);
        assert!(results.len() > 8, "{format}: {results:?}");
        for (id, (status, errors)) in results {
            println!("{format} {id}: {status} {errors:?}");
            let known = KNOWN.iter().find(|(known, _)| *known == id);
            match (status.as_str(), known) {
                ("passed" | "skipped", None) | ("failed", Some(_)) => {}
                (_, Some((_, why))) => panic!("{id} was known to fail ({why}), and is {status}"),
                _ => panic!("{id} is {status}: {errors:?}"),
            }
        }
    }
}
