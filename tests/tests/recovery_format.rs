//! A stage that goes while an answer is held to a form: the new last stage knows how far the form is
//! filled, so what comes is whole, in form, and the same as ever.

#![cfg(unix)]

use exo_tests::process::stand::{CPU, say};
use exo_tests::process::story::{Story, chat};
use exo_tests::process::{Member, Ring, relay};
use serde_json::{Value, json};
use std::time::Duration;

const fn member(runtime: &'static str, memory: u32) -> Member {
    Member {
        runtime,
        memory,
        engine: None,
    }
}

/// The node that is asked has the first stage.
const MEMBERS: [Member; 3] = [
    member("std", 6144),
    member("smol", 5120),
    member("std", 4096),
];

/// In the order of their layers.
const MIDDLE: usize = 1;
const LAST: usize = 2;

/// Tokens take long enough that a stage can go between two of them.
const WAY: Duration = Duration::from_millis(4);

fn question() -> Value {
    let text = |most: u32| json!({"type": "string", "maxLength": most});
    let schema = json!({
        "type": "object",
        "properties": {
            "title": text(40),
            "friends": {"type": "array", "items": text(30), "minItems": 3, "maxItems": 3},
            "age": {"type": "integer", "minimum": 1, "maximum": 99},
            "brave": {"type": "boolean"},
            "story": text(120),
        },
        "required": ["title", "friends", "age", "brave", "story"],
        "additionalProperties": false,
    });
    let mut question = chat("stories", "Tell me a story about a fox.", 400);
    question["response_format"] = json!({
        "type": "json_schema",
        "json_schema": {"name": "story", "schema": schema},
    });
    question
}

/// Whether an answer is what was asked for, no more and no less.
fn in_form(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let length = |value: &Value| value.as_str().map(|text| text.chars().count());
    let object = value.as_object().expect("an object");
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["title", "friends", "age", "brave", "story"],
        "{text}"
    );
    assert!(
        length(&value["title"]).is_some_and(|length| length <= 40),
        "{text}"
    );
    let friends = value["friends"].as_array().expect("a list");
    assert_eq!(friends.len(), 3, "{text}");
    for friend in friends {
        assert!(length(friend).is_some_and(|length| length <= 30), "{text}");
    }
    assert!(
        value["age"]
            .as_u64()
            .is_some_and(|age| (1..=99).contains(&age)),
        "{text}"
    );
    assert!(value["brave"].is_boolean(), "{text}");
    assert!(
        length(&value["story"]).is_some_and(|length| length <= 120),
        "{text}"
    );
}

#[test]
fn a_form_is_kept_when_a_stage_goes() {
    let mut ring = Ring::over(&MEMBERS, &CPU, |address| relay::open(address, |_| WAY));
    let question = question();
    let whole = Story::begin(&ring.nodes[0], &question).finish();
    in_form(&whole.text);
    let pieces = whole.times.len();
    assert!(pieces >= 20, "{:?}", whole.text);
    for victim in [LAST, MIDDLE] {
        let mut felt = 0;
        for eighths in [1, 3, 5] {
            let from = ring.nodes[0].log().len();
            let mut story = Story::begin(&ring.nodes[0], &question);
            assert!(story.reach(pieces * eighths / 8));
            ring.nodes[victim].kill();
            let told = story.finish();
            ring.nodes[0].wait_for_words("answered:", from);
            let log = ring.nodes[0].log();
            let log = log.get(from..).unwrap_or_default();
            assert_eq!(
                told.text, whole.text,
                "stage {victim} at {eighths}/8\n{log}"
            );
            felt += usize::from(log.contains("goes on over"));
            ring.restart(victim);
            ring.wait_until_whole();
        }
        say(&format!(
            "stage {victim} of an answer in form: {felt} of 3 losses were felt"
        ));
        assert!(felt > 0, "stage {victim}");
    }
}
