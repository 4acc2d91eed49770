//! Whatever form an answer is to have, and whatever functions it may call, with a model that can: an
//! answer, or the client's mistake.

use crate::alone::Node;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

const PATHS: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/chat",
];

fn simple() -> impl Strategy<Value = Value> {
    let pattern = prop::sample::select(vec![
        "^a+$", "[", "(a*)*b", "\\d{3}", "^$", "\\p{L}", "(?=a)",
    ]);
    let format = prop::sample::select(vec!["date-time", "email", "uuid", "ipv4", "nonsense"]);
    let bounds = (-5i64..5, -5i64..50);
    let multiple = prop::sample::select(vec![0.0, 1.0, 0.1, -1.0]);
    prop_oneof![
        prop::sample::select(vec![
            json!({}),
            json!(true),
            json!(false),
            json!({"type": "string"}),
            json!({"type": "boolean"}),
            json!({"type": ["integer", "null"]}),
            json!({"enum": [1, "é😀", null]}),
            json!({"enum": []}),
            json!({"const": {"a": ["\u{0}"]}}),
            json!({"type": "nonsense"}),
            json!({"not": {}}),
        ]),
        pattern.prop_map(|pattern| json!({"type": "string", "pattern": pattern})),
        format.prop_map(|format| json!({"type": "string", "format": format})),
        (0u32..200, 0u32..200).prop_map(
            |(least, most)| json!({"type": "string", "minLength": least, "maxLength": most})
        ),
        bounds.prop_map(
            |(least, most)| json!({"type": "integer", "minimum": least, "maximum": most})
        ),
        multiple
            .prop_map(|part| json!({"type": "number", "exclusiveMinimum": 0, "multipleOf": part})),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    simple().prop_recursive(4, 24, 4, |inner| {
        let name = || prop::sample::select(vec!["a", "b", "é", "\""]);
        let several = prop::collection::vec(inner.clone(), 0..3);
        let properties = prop::collection::vec((name(), inner.clone()), 0..4);
        let required = prop::collection::vec(name(), 0..3);
        let word = prop::sample::select(vec!["anyOf", "oneOf", "allOf"]);
        let target = prop::sample::select(vec![
            "#",
            "#/$defs/a",
            "#/$defs/none",
            "http://127.0.0.1:1/x",
        ]);
        prop_oneof![
            (properties, required, inner.clone()).prop_map(|(properties, required, more)| {
                let properties: Map<String, Value> = properties
                    .into_iter()
                    .map(|(name, part)| (name.to_owned(), part))
                    .collect();
                json!({
                    "type": "object", "properties": properties, "required": required,
                    "additionalProperties": more,
                })
            }),
            (inner.clone(), 0u64..1_000_000, 0u64..4).prop_map(|(items, least, most)| {
                json!({"type": "array", "items": items, "minItems": least % 5, "maxItems": most})
            }),
            (word, several).prop_map(|(word, parts)| json!({word: parts})),
            (inner, target)
                .prop_map(|(part, target)| json!({"$defs": {"a": part}, "$ref": target})),
        ]
    })
}

/// The same wish in the words of each API.
fn body(path: &str, form: Option<&Value>, tools: &[(String, Value, bool)], forced: bool) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "stream": false,
        "options": {"num_predict": 2},
    });
    if path == "/v1/responses" {
        body = json!({"input": "Hi", "max_output_tokens": 2});
    }
    let named = |schema: &Value| json!({"type": "json_schema", "name": "x", "schema": schema});
    match (path, form) {
        (_, None) => {}
        ("/v1/responses", Some(form)) => body["text"] = json!({"format": named(form)}),
        ("/v1/messages", Some(form)) => body["output_format"] = named(form),
        ("/api/chat", Some(form)) => body["format"] = form.clone(),
        (_, Some(form)) => {
            body["response_format"] = json!({"type": "json_schema", "json_schema": named(form)});
        }
    }
    let tool = |(name, schema, strict): &(String, Value, bool)| match path {
        "/v1/messages" => json!({"name": name, "input_schema": schema, "strict": strict}),
        "/v1/responses" => {
            json!({"type": "function", "name": name, "parameters": schema, "strict": strict})
        }
        _ => json!({"type": "function",
            "function": {"name": name, "parameters": schema, "strict": strict}}),
    };
    body["tools"] = tools.iter().map(tool).collect();
    if forced {
        body["tool_choice"] = match path {
            "/v1/messages" => json!({"type": "any"}),
            _ => json!("required"),
        };
    }
    body
}

#[test]
fn any_form_is_held_or_refused() {
    let node = Node::start("--inference-engine cpu --threads 1 --default-model stories");
    let name = prop::sample::select(vec!["f", "get weather", "\"", "é", "<tool_call>"]);
    let tool = (name.prop_map(str::to_owned), schema(), any::<bool>());
    let wish = (
        prop::sample::select(&PATHS[..]),
        prop::option::of(schema()),
        prop::collection::vec(tool, 0..3),
        any::<bool>(),
    );
    let config = Config {
        cases: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&wish, |(path, form, tools, forced)| {
        let body = body(path, form.as_ref(), &tools, forced);
        let answer = node.call("POST", path, "", &body.to_string());
        prop_assert!(
            matches!(answer.status, 200 | 400),
            "{path} {body}: {} {}",
            answer.status,
            answer.body
        );
        Ok(())
    });
    result.unwrap();
    node.wait_until_idle();
}

/// Whether there is a way through the middle of a form is seen when an answer gets there.
#[test]
fn a_form_that_has_no_middle_is_the_clients_mistake() {
    let node = Node::start("--inference-engine cpu --threads 1 --default-model stories");
    let any = (0..2000).map(|number| (format!("p{number}"), json!({"type": "integer"})));
    let wide = json!({"type": "object", "properties": any.collect::<Map<_, _>>()});
    let form = json!({
        "type": "object", "properties": {"a": {"type": "boolean"}, "b": wide},
        "required": ["a", "b"], "additionalProperties": false,
    });
    let mut body = body(PATHS[0], Some(&form), &[], false);
    body["max_tokens"] = json!(50);
    let refused = node.call("POST", PATHS[0], "", &body.to_string());
    let wanted = (400, json!("refused_by_model"), Value::Null);
    assert_eq!(refused.error(), wanted, "{}", refused.body);
    node.wait_until_idle();
}

/// It would be compiled for seconds, to be refused then.
#[test]
fn a_form_that_is_too_long_to_travel_is_not_even_compiled() {
    let node = Node::start("--inference-engine cpu --threads 1 --default-model stories");
    let words: Vec<String> = (0..400_000)
        .map(|number| format!("word {number}"))
        .collect();
    let body = body(PATHS[0], Some(&json!({"enum": words})), &[], false);
    let refused = node.call("POST", PATHS[0], "", &body.to_string());
    let wanted = (
        400,
        json!("unsupported_parameter"),
        json!("response_format"),
    );
    assert_eq!(refused.error(), wanted, "{}", refused.body);
    assert!(
        refused.body.contains("at most 262144 are taken"),
        "{}",
        refused.body
    );
}
