//! The web chat in a real browser, in front of real rings. Needs `chromium` and `chromedriver`.
//!
//! With `EXO_SCREENSHOTS=DIR` the pictures of the README are written there.

#![cfg(target_os = "linux")]

use exo_tests::process::browser::{ALT, Browser, ENTER, ESCAPE};
use exo_tests::process::stand::{CPU, say};
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{Member, NodeProcess, PATIENCE, Ring, free_ports, get, relay};
use serde_json::{Value, json};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PROMPT: &str = "Tell me a story about a fox.";

/// What the last answer says.
const TEXT: &str = "[...document.querySelectorAll('.theirs .markdown')].at(-1).innerText";

/// The answer is whole, and says what it took.
const DONE: &str = "!document.querySelector('.running') \
                    && [...document.querySelectorAll('.theirs .stats')].at(-1)?.textContent";

/// An answer is on its way and has begun.
const BEGUN: &str = "document.querySelector('.theirs.running .markdown').innerText.length > 20";

fn browser() -> Option<Browser> {
    Browser::start()
        .map_err(|why| say(&format!("SKIPPED: {why}")))
        .ok()
}

const fn member(runtime: &'static str, memory: u32) -> Member {
    Member {
        runtime,
        memory,
        engine: None,
    }
}

/// Nodes that are far apart, so that an answer takes its time and can be stopped in the middle.
fn far_apart(members: &[Member]) -> Ring {
    Ring::over(members, &CPU, |address| {
        relay::open(address, |_| Duration::from_millis(8))
    })
}

/// Opens the page of a node, which sees `nodes` in all.
fn open(browser: &Browser, node: &NodeProcess, nodes: usize) {
    browser.resize(1360, 860, false);
    browser.open(&format!("http://{}/", node.api));
    browser.wait(&format!(
        "document.querySelectorAll('.row-node').length === {nodes}
           && document.getElementById('model-name').textContent === 'stories'"
    ));
}

fn text(browser: &Browser, expression: &str) -> String {
    let value = browser.value(expression);
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// Writes a message, and sends it once it stands there.
fn say_in(browser: &Browser, field: &str, words: &str) {
    browser.keys(field, words);
    browser.wait(&format!(
        "document.querySelector('{field}').value === {}",
        json!(words)
    ));
    browser.keys(field, ENTER);
}

fn quiet(browser: &Browser) {
    assert_eq!(browser.console(), Vec::<String>::new());
}

/// Waits until a node works on nothing.
fn wait_until_idle(node: &NodeProcess) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let (_, body) = get(node.api, "/v1/status").expect("it answers");
        let status: Value = serde_json::from_str(&body).expect("JSON");
        if status["requests"].as_array().is_some_and(Vec::is_empty) {
            return;
        }
        assert!(Instant::now() < give_up, "{} goes on: {body}", node.id);
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// One of the README's pictures, if somebody wants them.
fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("EXO_SCREENSHOTS") {
        // What slides or fades has come to rest.
        browser.wait(
            "document.getAnimations().every((one) => one.playState !== 'running'
               || one.effect.getTiming().iterations === Infinity)",
        );
        browser.screenshot(&Path::new(&folder).join(format!("{name}.png")));
    }
}

/// The whole conversation with the keyboard: ask, stop, retry, edit, come back.
#[test]
fn a_conversation() {
    let Some(browser) = browser() else { return };
    let ring = far_apart(&[
        member("smol", 6144),
        member("std", 5120),
        member("smol", 4096),
    ]);
    let whole = answer(&ring.nodes[0], &chat("stories", PROMPT, 400));
    let whole = whole.trim();
    open(&browser, &ring.nodes[0], 3);

    // Greedy, so that it is known what is answered.
    browser.press(&format!("{ALT}s"));
    browser.keys("#setting-temperature", "0");
    browser.press(ESCAPE);
    browser.wait("!document.querySelector('dialog')");

    say_in(&browser, "#prompt", PROMPT);
    browser.wait(BEGUN);
    browser
        .wait("document.querySelector('#picture.turning .node.busy, #picture.turning .computing')");
    browser.wait("Number(document.getElementById('figure-rate').textContent) > 0");
    browser.wait("document.querySelector('.theirs.running .markdown').innerText.length > 300");
    picture(&browser, "web-light");
    let took = browser.wait(DONE).to_string();
    for words in [" tokens · ", " tokens/s", "first after "] {
        assert!(took.contains(words), "{took}");
    }
    assert_eq!(text(&browser, TEXT).trim(), whole);
    browser.dark(true);
    picture(&browser, "web-dark");
    browser.dark(false);
    browser.resize(390, 844, true);
    browser.wait("innerWidth === 390");
    picture(&browser, "web-phone");
    browser.resize(1360, 860, false);
    browser.wait("innerWidth === 1360");

    // Stopped in the middle; what came stays, and no node goes on.
    browser.click(".theirs button[aria-label=Retry]");
    browser.wait(BEGUN);
    browser.press(ESCAPE);
    let took = browser.wait(DONE).to_string();
    assert!(took.contains("stopped"), "{took}");
    let part = text(&browser, TEXT);
    assert!(
        part.len() < whole.len() && whole.starts_with(part.trim()),
        "{part}"
    );
    ring.nodes.iter().for_each(wait_until_idle);

    browser.click(".theirs button[aria-label=Retry]");
    browser.wait(BEGUN);
    browser.wait(DONE);
    assert_eq!(text(&browser, TEXT).trim(), whole);

    // Said otherwise, it goes on from there.
    browser.press(&format!("{ALT}e"));
    browser.script("document.querySelector('.edit').select()", &json!([]));
    say_in(&browser, ".edit", "Tell me a story about a frog.");
    browser.wait(BEGUN);
    browser.click("#send");
    browser.wait(DONE);
    assert_eq!(
        browser.value("[...document.querySelectorAll('.message')].length"),
        2
    );
    let asked = text(
        &browser,
        "document.querySelector('.mine .body').textContent",
    );
    assert_eq!(asked, "Tell me a story about a frog.");

    // It is there when the page is opened again, until it is deleted, which can be undone.
    open(&browser, &ring.nodes[0], 3);
    browser.click(".chat-open");
    assert_eq!(
        text(
            &browser,
            "document.querySelector('.mine .body').textContent"
        ),
        asked
    );
    browser.click(".chat-acts button[aria-label^=Delete]");
    browser.wait("!document.querySelector('.chat-open') && !document.querySelector('.message')");
    browser.click(".toast button");
    browser.wait("document.querySelector('.chat-open')");
    quiet(&browser);
}

#[test]
fn a_node_that_leaves_is_seen_to_leave() {
    let Some(browser) = browser() else { return };
    let mut ring = far_apart(&[member("std", 4096), member("smol", 4096)]);
    open(&browser, &ring.nodes[0], 2);
    let stages = |count: usize| {
        format!("document.querySelectorAll('#picture .range').length === {count} && {DONE}")
    };
    browser.click(".idea");
    browser.wait(&stages(2));
    let link = text(
        &browser,
        "document.querySelector('#picture .link').textContent",
    );
    assert!(link.ends_with(" ms"), "{link:?}");
    ring.nodes[1].kill();
    browser.wait("document.querySelector('.row-node.down .row-name').textContent === 'node-2'");
    browser.wait("document.querySelector('#picture .node.down')");
    assert_eq!(
        text(
            &browser,
            "document.getElementById('figure-nodes').textContent"
        ),
        "1"
    );
    say_in(&browser, "#prompt", "And one about a bear.");
    browser.wait(&format!(
        "document.querySelectorAll('.theirs').length === 2 && {}",
        stages(1)
    ));
    assert_eq!(
        browser.value("document.querySelectorAll('.trouble').length"),
        0
    );
    quiet(&browser);
}

/// In whatever a stranger says.
const HOSTILE: &str = "<img src=x onerror='window.hacked=1'>";

#[test]
fn what_strangers_say_is_text() {
    let Some(browser) = browser() else { return };
    let ring = Ring::of(&[member("smol", 4096)], &CPU);
    let ports = free_ports(2);
    let port = ring.nodes[0].address.port().to_string();
    let words = ["--discovery-module", "direct", "--peer-host", "127.0.0.1"];
    let words: Vec<&str> = words.into_iter().chain(["--peer-port", &port]).collect();
    let _stranger = NodeProcess::start(HOSTILE, ports[0], ports[1], &words, ring.folder());
    open(&browser, &ring.nodes[0], 2);
    browser.wait(&format!(
        "[...document.querySelectorAll('.row-name')].some((name) => name.textContent === {})",
        json!(HOSTILE)
    ));

    let said = format!(
        "{HOSTILE}\n<script>window.hacked=1</script>\n\n[a](javascript:window.hacked=1) \
         [b](data:text/html,x) [c](/quit) ![d](http://127.0.0.1:1/d.png) [e](https://example.org/e)\n\n\
         | {HOSTILE} | b |\n|---|---|\n| 1 | 2 |\n\n- {HOSTILE}\n\n```\"><b>\n</code>{HOSTILE}\n```\n\n\
         # {HOSTILE}\n\n{}\n\n{}\n\n{}\n\n{}",
        "**a ".repeat(5_000),
        "[".repeat(20_000),
        "> ".repeat(3_000),
        "*`_".repeat(5_000),
    );
    let event = |value: Value| format!("data: {value}\n\n");
    let chunk = json!({"model": HOSTILE, "choices": [{"index": 0, "delta": {"content": said}}]});
    let error = json!({"error": {"message": HOSTILE, "code": HOSTILE}});
    // This node's models say no such things: the page is told them in its place.
    browser.script(
        "const [stream] = arguments;
         const real = window.fetch;
         window.fetch = (path, options) => path.endsWith('/chat/completions')
           ? Promise.resolve(new Response(stream)) : real(path, options);",
        &json!([event(chunk) + &event(error)]),
    );
    say_in(&browser, "#prompt", HOSTILE);
    browser.wait("document.querySelector('.trouble')");
    let shown = text(&browser, "document.getElementById('messages').textContent");
    assert_eq!(shown.matches(HOSTILE).count(), 8, "{shown:.1000}");
    assert!(shown.contains("<script>window.hacked=1</script>"));
    assert_eq!(
        browser
            .value("document.querySelectorAll('#messages img, #messages script, iframe').length"),
        0
    );
    assert_eq!(
        browser.value(
            "[...document.querySelectorAll('#messages a')].map((link) => [link.href, link.rel])"
        ),
        json!([
            ["http://127.0.0.1:1/d.png", "noopener noreferrer nofollow"],
            ["https://example.org/e", "noopener noreferrer nofollow"]
        ])
    );
    assert_eq!(browser.value("window.hacked === undefined"), true);
    quiet(&browser);
}

/// Markdown with everything in it that is wide.
const WIDE: &str = "# A heading\n\n```rust\nfn a_long_line() -> &'static str { \"that does not fit on \
    any phone, however small its letters are\" }\n```\n\n| one | two | three | four | five | six |\n\
    |---|---|---|---|---|---|\n| a long cell | a long cell | a long cell | a long cell | a long cell | b |\n\n\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n\n\
    1. first\n   - inner **bold** and `code`\n2. second";

/// The texts that do not stand out from what is behind them as WCAG wants it of small letters.
const FAINT: &str = "(() => {
    const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const parts = (color) => {
      pixel.clearRect(0, 0, 1, 1);
      pixel.fillStyle = color;
      pixel.fillRect(0, 0, 1, 1);
      return [...pixel.getImageData(0, 0, 1, 1).data];
    };
    const over = (top, alpha, below) => below.map((part, at) => top[at] * alpha + part * (1 - alpha));
    const behind = (node) => {
      if (!node) return [255, 255, 255];
      const color = parts(getComputedStyle(node).backgroundColor);
      return color[3] === 255 ? color.slice(0, 3) : over(color, color[3] / 255, behind(node.parentElement));
    };
    const light = (color) => color.map((part) => part / 255)
      .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
      .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const opacity = (node) => node ? getComputedStyle(node).opacity * opacity(node.parentElement) : 1;
    const texts = [...document.querySelectorAll('body :not(svg, svg *, .visually-hidden, .skip)')].filter((node) =>
      node.checkVisibility() && [...node.childNodes].some((text) => text.nodeType === 3 && text.data.trim() !== ''));
    return texts.map((node) => {
      const color = parts(getComputedStyle(node).color);
      const below = behind(node);
      const [one, other] = [light(over(color, color[3] / 255 * opacity(node), below)), light(below)];
      const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      return [contrast, `${node.className || node.localName}: ${node.textContent.slice(0, 30)}`];
    }).filter(([contrast]) => contrast < 4.5);
  })()";

#[test]
fn it_fits_phones_and_the_dark() {
    let Some(browser) = browser() else { return };
    let ring = Ring::of(&[member("std", 4096), member("smol", 4096)], &CPU);
    open(&browser, &ring.nodes[0], 2);
    let kept = json!({"id": "a", "changed": 1, "messages": [
        {"role": "user", "content": "What is wide?"},
        {"role": "assistant", "model": "stories", "content": WIDE},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "No", "error": {"message": "no", "code": "cut"}},
    ]});
    browser.script(
        "localStorage.setItem('exo.chat.a', arguments[0])",
        &json!([kept.to_string()]),
    );
    open(&browser, &ring.nodes[0], 2);
    browser.click(".chat-open");
    assert_eq!(
        browser.value(
            "[...document.querySelectorAll('.markdown *')].map((part) => part.localName).filter(
            (name, at, all) => all.indexOf(name) === at).sort().join(' ')"
        ),
        "button code div h3 li ol p pre span strong svg table tbody td th thead tr ul use"
    );
    let wide = "[document.documentElement, document.body, ...document.querySelectorAll('.main, .log, .ring-panel')]
        .filter((part) => part.scrollWidth > part.clientWidth).map((part) => part.className || part.localName)";
    for (width, height, phone) in [
        (1360, 860, false),
        (820, 1100, false),
        (390, 844, true),
        (320, 600, true),
    ] {
        browser.resize(width, height, phone);
        browser.wait(&format!("innerWidth === {width}"));
        assert_eq!(browser.value(wide), json!([]), "at {width}");
    }
    assert_eq!(browser.value(FAINT), json!([]));
    browser.resize(390, 844, true);
    browser.click("#toggle-ring");
    browser.wait("document.getElementById('ring').getBoundingClientRect().right === innerWidth");
    assert_eq!(browser.value(wide), json!([]));
    browser.click("#close-ring");
    browser.wait("document.getElementById('ring').getBoundingClientRect().left >= innerWidth");

    let light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part > 128)";
    assert_eq!(browser.value(light), true);
    browser.dark(true);
    browser.wait(&format!("!({light})"));
    browser.resize(1360, 860, false);
    browser.wait("innerWidth === 1360");
    assert_eq!(browser.value(FAINT), json!([]));
    // Who wants it light has it light.
    browser.click("#open-settings");
    browser.keys("#setting-theme", "Light");
    browser.wait(light);
    browser.press(ESCAPE);

    // Everything that can be pressed has a name for those who hear the page.
    let nameless = "[...document.querySelectorAll('button, a, input, textarea, select')].filter((part) =>
        !(part.getAttribute('aria-label') || part.textContent.trim() || part.labels?.length)).length";
    assert_eq!(browser.value(nameless), 0);
    quiet(&browser);
}
