//! Whatever is sent to whatever route: an answer in good form, and never the node's fault.

use crate::alone::{Answer, Node};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

const PATHS: [&str; 37] = [
    "/",
    "/health",
    "/v1/models",
    "/v1/models/dummy",
    "/v1/topology",
    "/v1/status",
    "/v1/plan",
    "/plan/dummy",
    "/api/tags",
    "/api/ps",
    "/api/version",
    "/api/show",
    "/initial_models",
    "/modelpool",
    "/v1/download/progress",
    "/nowhere",
    "/health/live",
    "/metrics",
    "/v1/trace/dummy",
    "/web/main.js",
    "/v1/downloads",
    "/v1/downloads/dummy",
    "/v1/responses",
    "/v1/responses/dummy",
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/v1/chat/token/encode",
    "/v1/models/%00%ff/../..",
    "/v1/chat/completions?stream=1",
    "//v1/messages",
];

/// Names of fields, and of parts of fields, that something here reads.
const NAMES: [&str; 38] = [
    "model",
    "messages",
    "role",
    "content",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "stop",
    "seed",
    "stream",
    "stream_options",
    "include_usage",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "tools",
    "tool_choice",
    "function",
    "name",
    "parameters",
    "response_format",
    "json_schema",
    "schema",
    "properties",
    "strict",
    "format",
    "input",
    "instructions",
    "output",
    "type",
    "text",
    "options",
    "num_predict",
    "system",
    "tool_calls",
];

const WORDS: [&str; 12] = [
    "user",
    "assistant",
    "system",
    "tool",
    "function",
    "text",
    "dummy",
    "auto",
    "json_object",
    "",
    "\u{0}\u{feff}\u{202e}",
    "data: [DONE]\n\n",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..5).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(&WORDS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..6).prop_map(
                |fields| {
                    let fields = fields.into_iter();
                    Value::Object(
                        fields
                            .map(|(name, value)| (name.to_owned(), value))
                            .collect(),
                    )
                }
            ),
        ]
    })
}

/// A question that is answered, but for a few of its fields.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let field = (prop::sample::select(&NAMES[..]), value());
    prop::collection::vec(field, 0..3).prop_map(|fields| {
        let mut body = json!({
            "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi", "max_tokens": 3,
        });
        for (name, value) in fields {
            body[name] = value;
        }
        body.to_string().into_bytes()
    })
}

fn deep() -> impl Strategy<Value = Vec<u8>> {
    (
        1usize..200_000,
        prop::sample::select(vec!["[", "{\"a\":", "{\"messages\":["]),
    )
        .prop_map(|(depth, open)| open.repeat(depth / open.len()).into_bytes())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..200),
        4 => value().prop_map(|value| value.to_string().into_bytes()),
        8 => nearly_right(),
        1 => deep(),
    ]
}

/// The error object of the API that the path belongs to.
fn has_good_form(path: &str, answer: &Answer) -> bool {
    let Ok(told) = serde_json::from_str::<Value>(&answer.body) else {
        return false;
    };
    let error = &told["error"];
    match path {
        _ if path.starts_with("/v1/messages") => {
            told["type"] == "error" && error["type"].is_string() && error["message"].is_string()
        }
        _ if path.starts_with("/api/") => error.is_string(),
        _ => {
            let fields = error.as_object();
            let names = fields.map(|fields| fields.keys().map(String::as_str).collect::<Vec<_>>());
            names.is_some_and(|names| names == ["message", "type", "param", "code"])
                && error["message"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
        }
    }
}

#[test]
fn any_body_to_any_route_is_answered_in_good_form() {
    let node = Node::dummy();
    let methods = prop_oneof![
        6 => Just("POST"),
        2 => Just("GET"),
        1 => prop::sample::select(vec!["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"]),
    ];
    let paths = prop::sample::select(&PATHS[..]);
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(methods, paths, body()), |(method, path, body)| {
        let answer = node.call_with(method, path, "", &body);
        let told = format!("{method} {path}: {} {}", answer.status, answer.body);
        prop_assert!((200..500).contains(&answer.status), "{}", told);
        if answer.status >= 400 && method != "HEAD" {
            prop_assert!(has_good_form(path, &answer), "{}", told);
        }
        Ok(())
    });
    result.unwrap();
    node.wait_until_idle();
}
