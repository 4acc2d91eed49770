//! What the web page does with a node besides talking, in a real browser: models that come and go,
//! and a key. Needs `chromium` and `chromedriver`.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops"
)]

#[path = "../../models/src/hub/tests/server.rs"]
#[expect(dead_code, reason = "not everything can go wrong here")]
mod server;

use exo_tests::process::browser::{Browser, ENTER, ESCAPE};
use exo_tests::process::stand::{CPU, say};
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{NodeProcess, free_ports, post};
use serde_json::{Value, json};
use server::{Fault, HubServer, On};
use std::path::{Path, PathBuf};

const PROMPT: &str = "Tell me a story about a fox.";

/// A well-known model that every page offers, and where it is looked for.
const MODEL: &str = "llama-3.2-1b";
const REPO: &str = "unsloth/Llama-3.2-1B-Instruct";

/// So much of the weights comes before the hub says nothing more.
const STALLED: usize = 3_000_000;

fn browser() -> Option<Browser> {
    Browser::start()
        .map_err(|why| say(&format!("SKIPPED: {why}")))
        .ok()
}

/// One node that talks to nobody, once it answers.
fn node(flags: &[&str], folder: &Path) -> NodeProcess {
    let ports = free_ports(2);
    let flags = [&CPU[..], &["--discovery-module", "none"], flags].concat();
    let node = NodeProcess::start("node-1", ports[0], ports[1], &flags, folder);
    node.wait_for_words("/v1, ready", 0);
    node
}

fn stories() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories")
}

/// A hub with the model, and a folder for nodes that go there.
fn hub() -> (HubServer, tempfile::TempDir) {
    let hub = HubServer::start();
    hub.put_folder(REPO, &stories());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hub-endpoint"), hub.endpoint()).unwrap();
    (hub, folder)
}

fn open(browser: &Browser, node: &NodeProcess) {
    browser.open(&format!("http://{}/", node.api));
}

/// Writes into a field, and goes on once it stands there.
fn fill(browser: &Browser, field: &str, words: &str) {
    browser.keys(field, words);
    browser.wait(&format!(
        "document.querySelector('{field}').value === {}",
        json!(words)
    ));
}

/// The part of the page that tells of the model.
fn row(browser: &Browser, condition: &str) -> Value {
    browser.wait(&format!(
        "(() => {{
           const row = [...document.querySelectorAll('.model')].find(
             (row) => row.querySelector('.model-id').textContent === '{MODEL}');
           const facts = [...row.querySelectorAll('.model-facts')].map((part) => part.textContent).join(' | ');
           const bar = row.querySelector('progress');
           return ({condition}) && facts;
         }})()"
    ))
}

fn press(browser: &Browser, key: &str) {
    browser.click(&format!("[data-key=\"{key} {MODEL}\"]"));
}

#[test]
fn a_model_comes_answers_and_goes() {
    let Some(browser) = browser() else { return };
    let (hub, folder) = hub();
    let node = node(&["--default-temp", "0"], folder.path());
    let weights = folder
        .path()
        .join(format!("node-1/hf/hub/models--{}", REPO.replace('/', "--")));
    let size = std::fs::metadata(stories().join("model.safetensors"))
        .unwrap()
        .len();

    // It comes as far as the hub gives it, and is cancelled.
    hub.fault(On::Large, Fault::Stall(STALLED), 100);
    open(&browser, &node);
    browser.wait("document.getElementById('model-name').textContent === 'stories'");
    browser.click("#open-models");
    fill(&browser, "input[type=search]", MODEL);
    row(&browser, "facts.startsWith('on the hub')");
    // What is in the binary cannot be removed.
    assert_eq!(
        browser.value("document.querySelectorAll('[data-key^=remove]').length"),
        0
    );
    press(&browser, "get");
    let facts = row(
        &browser,
        &format!("bar.value >= {STALLED} && bar.value < bar.max && bar.max >= {size}"),
    );
    let facts = facts.as_str().unwrap();
    assert!(facts.contains("MiB of 6.9 MiB"), "{facts}");
    // However often the page looks how far it is: a button that is being pressed stays what it is.
    let looks = "performance.getEntriesByType('resource').filter(
        (entry) => entry.name.endsWith('/v1/downloads')).length";
    let cancel = format!("document.querySelector('[data-key=\"cancel {MODEL}\"]')");
    let keep = format!("window.kept = {cancel}; window.looks = {looks};");
    browser.script(&keep, &json!([]));
    browser.wait(&format!("{looks} >= window.looks + 3"));
    assert_eq!(browser.value(&format!("window.kept === {cancel}")), true);
    press(&browser, "cancel");
    row(&browser, "!bar && facts.startsWith('in part')");
    hub.heal();
    hub.asked();

    // It goes on from there, and answers as it should.
    press(&browser, "get");
    row(&browser, "!bar && facts.startsWith('here')");
    let asked = hub.asked();
    let bodies = asked
        .iter()
        .filter(|asked| asked.line.starts_with("GET /cdn/"));
    for asked in bodies {
        let from = asked
            .range
            .as_deref()
            .and_then(|range| range.strip_prefix("bytes="));
        let from: usize = from
            .and_then(|from| from.trim_end_matches('-').parse().ok())
            .unwrap();
        assert!(from > 0, "{asked:?}");
    }
    press(&browser, "pick");
    browser.wait(&format!(
        "document.getElementById('model-name').textContent === '{MODEL}'"
    ));
    fill(&browser, "#prompt", PROMPT);
    browser.keys("#prompt", ENTER);
    browser.wait("!document.querySelector('.running') && document.querySelector('.theirs .stats')?.textContent");
    let text = browser.value("document.querySelector('.theirs .markdown').innerText");
    let question = chat("stories", PROMPT, 10_000);
    assert_eq!(
        text.as_str().unwrap().trim(),
        answer(&node, &question).trim()
    );

    // It goes, although it is loaded, and can be had again.
    assert!(weights.exists());
    browser.click("#open-models");
    row(&browser, "facts.startsWith('loaded')");
    press(&browser, "remove");
    browser.click(".button.danger");
    row(&browser, "facts.startsWith('on the hub')");
    assert!(!weights.exists());
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");
    assert_eq!(
        browser.value("document.getElementById('model-name').textContent"),
        "stories"
    );
    assert_eq!(browser.console(), Vec::<String>::new());
}

const KEY: &str = "sesame-7$%";

/// Questions that the node refused are lines of the browser's console, whatever the page does.
fn refused_only(browser: &Browser) {
    for line in browser.console() {
        assert!(line.contains("status of 401"), "{line}");
    }
}

#[test]
fn a_node_with_a_key_is_asked_with_it() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let node = node(&["--api-key", KEY], folder.path());
    let live = "document.getElementById('live').dataset.state === 'live' \
                && document.getElementById('model-name').textContent === 'stories'";
    let field = "document.querySelectorAll('#api-key').length === 1";

    // Who has none is asked once, and again when it is wrong.
    open(&browser, &node);
    browser.wait(field);
    assert_eq!(
        browser.value("document.querySelector('.bad') === null"),
        true
    );
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");
    browser.wait("document.getElementById('live').dataset.state === 'locked'");
    assert_eq!(
        browser.value("document.querySelectorAll('.model-id').length"),
        0
    );
    fill(&browser, "#prompt", PROMPT);
    browser.keys("#prompt", ENTER);
    browser.wait(field);
    fill(&browser, "#api-key", "open");
    browser.keys("#api-key", ENTER);
    browser.wait(
        "document.querySelector('dialog .bad')?.textContent === 'This node has no such key.'",
    );
    browser.wait(field);
    // No key has such a sign.
    fill(&browser, "#api-key", "€");
    browser.keys("#api-key", ENTER);
    browser.wait("document.querySelector('#api-key:invalid')");
    browser.script("document.querySelector('#api-key').select()", &json!([]));
    fill(&browser, "#api-key", KEY);
    browser.keys("#api-key", ENTER);

    // The question that wanted it is answered, and everything else is there.
    browser.wait("!document.querySelector('.running') && document.querySelector('.theirs .stats')?.textContent");
    browser.wait(live);
    assert_eq!(
        browser.value("document.querySelectorAll('.trouble, dialog').length"),
        0
    );
    refused_only(&browser);
    let told =
        "[document.documentElement.outerHTML, location.href, document.title, document.cookie,
                 JSON.stringify(localStorage), JSON.stringify(history.state),
                 ...performance.getEntriesByType('resource').map((entry) => entry.name),
                 ...[...document.querySelectorAll('input, textarea')].map((field) => field.value)]";
    let told = browser.value(told).to_string();
    for part in ["sesame", "7$%", "7%24%25"] {
        assert!(!told.contains(part), "{part} in {told}");
    }
    assert!(!node.log().contains("sesame"), "{}", node.log());

    // It is kept for this tab, so nobody is asked again.
    open(&browser, &node);
    browser.wait(live);
    assert_eq!(
        browser.value("document.querySelector('dialog') === null"),
        true
    );
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn what_another_node_fetches_is_seen() {
    let Some(browser) = browser() else { return };
    let (hub, folder) = hub();
    let node = node(&[], folder.path());
    let ports = free_ports(2);
    let (host, port) = (
        node.address.ip().to_string(),
        node.address.port().to_string(),
    );
    let peer = [
        "--discovery-module",
        "direct",
        "--peer-host",
        &host,
        "--peer-port",
        &port,
    ];
    let flags = [&CPU[..], &peer].concat();
    let other = NodeProcess::start("node-2", ports[0], ports[1], &flags, folder.path());
    other.wait_for_words("/v1, ready", 0);
    open(&browser, &node);
    browser.wait("document.getElementById('live').dataset.state === 'live'");

    hub.fault(On::Large, Fault::Stall(STALLED), 100);
    let (status, body) = post(other.api, "/v1/downloads", &json!({"model": MODEL})).unwrap();
    assert_eq!(status, 202, "{body}");
    let task = format!(
        "[...document.querySelectorAll('.task')].find((task) =>
           task.querySelector('.task-what').textContent === 'downloading {MODEL} on node-2'
           && task.querySelector('progress').value > 0)"
    );
    browser.wait(&task);
    browser.click("#open-models");
    fill(&browser, "input[type=search]", MODEL);
    row(
        &browser,
        "!bar && facts.includes('node-2: ') && facts.includes('MiB of 6.9 MiB')",
    );
    hub.heal();
    row(&browser, "!facts.includes('node-2')");
    browser.wait("!document.querySelector('.task')");
    assert_eq!(browser.console(), Vec::<String>::new());
}
