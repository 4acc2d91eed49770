use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A vocabulary of bytes and of some longer tokens, as a model's has them; the last one ends answers.
fn vocabulary() -> (Vocabulary, Vec<Vec<u8>>) {
    let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    for word in [
        "{\"", "\": ", "\": \"", "name", "true", "\"}", ", \"", "<tool", "_call>", "12", "é",
    ] {
        words.push(word.as_bytes().to_vec());
    }
    words.push(Vec::new());
    words.push(b"\xff<end>".to_vec());
    let end = u32::try_from(words.len()).unwrap() - 1;
    (Vocabulary::of(&words, &[end, 9_999_999]).unwrap(), words)
}

/// Whether a text is one that the grammar allows, byte by byte, and may end there.
fn takes(grammar: &Grammar, text: &str) -> bool {
    let (vocabulary, words) = vocabulary();
    let end = u32::try_from(words.len()).unwrap() - 1;
    let mut guide = vocabulary.guide(grammar).unwrap();
    let mut answer = Vec::new();
    for byte in text.bytes() {
        if !guide.allowed(&answer).unwrap().contains(byte.into()) {
            return false;
        }
        answer.push(byte.into());
    }
    guide.allowed(&answer).unwrap().contains(end)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": false,
    })
}

#[test]
fn json_is_held_to_its_schema() {
    let grammar = Grammar::json(person());
    assert!(takes(&grammar, r#"{"name": "Zoë \"x\"", "age": 12}"#));
    for wrong in [
        "",
        "{}",
        r#"{"name": 5, "age": 12}"#,
        r#"{"name": "x", "age": 1.5}"#,
        r#"{"name": "x", "age": 12} "#,
        r#"{"name": "x", "age": 12, "more": 1}"#,
    ] {
        assert!(!takes(&grammar, wrong), "{wrong}");
    }
    let any = Grammar::json(json!({"type": "object"}));
    assert!(takes(&any, r#"{"a": [1, {"b": null}], "c": "d"}"#));
    assert!(!takes(&any, "[1]"));
}

#[test]
fn sequences_and_free_text() {
    let call = |free| Grammar {
        any: vec![
            vec![
                Part::Text("{\"name\": \"f\", \"arguments\": ".into()),
                Part::Json { json: person() },
                Part::Text("}".into()),
            ],
            vec![Part::Text("{\"name\": \"g\"}".into())],
        ],
        free,
    };
    let f = r#"{"name": "f", "arguments": {"name": "x", "age": 1}}"#;
    let g = r#"{"name": "g"}"#;
    let none = call(Free::None);
    assert!(takes(&none, f) && takes(&none, g) && !takes(&none, "hello"));
    let instead = call(Free::Instead);
    assert!(takes(&instead, f) && takes(&instead, "hello {} <\nthere") && takes(&instead, ""));
    assert!(!takes(&instead, r#"{"name": "h"}"#));
    let mark = call(Free::Mark("<tool_call>\n".into()));
    assert!(takes(&mark, "hello <tool> {\"name\": 5} there"));
    assert!(takes(
        &mark,
        &format!("so <tool_call>\n{g}</tool_call> and <tool_call>\n{f}.")
    ));
    assert!(!takes(&mark, "<tool_call>\n{\"name\": \"h\"}"));
    assert!(!takes(&mark, "<tool_call>\n"));
}

#[test]
fn a_guide_follows_whatever_answer_it_is_told() {
    let (vocabulary, _) = vocabulary();
    let mut guide = vocabulary
        .guide(&Grammar::json(json!({"enum": ["ab", "ac"]})))
        .unwrap();
    let tokens = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let mut next = |answer: &str| {
        let allowed = guide.allowed(&tokens(answer)).unwrap();
        let mut logits = [0.0_f32; 300];
        allowed.apply(&mut logits);
        let kept = (0_u8..=255).filter(|&byte| logits[usize::from(byte)] == 0.0);
        String::from_utf8(kept.collect()).unwrap()
    };
    assert_eq!(next(""), "\"");
    assert_eq!(next("\"a"), "bc");
    assert_eq!(next("\"ab"), "\"");
    // A ring that lost a stage goes back.
    assert_eq!(next("\"a"), "bc");
    assert_eq!(next("\"ac"), "\"");
    assert_eq!(next("\"ac\""), "");
    assert!(guide.allowed(&tokens("no")).is_err());
    assert!(guide.allowed(&tokens("\"a")).is_ok() || guide.allowed(&[]).is_err());
}

#[test]
fn what_cannot_be_held_is_named() {
    let refused = |grammar: &Grammar| {
        let error = check(grammar).unwrap_err();
        assert!(matches!(error, ModelError::Grammar(_)), "{error}");
        error.to_string()
    };
    for (schema, words) in [
        (json!({"type": "object", "if": {}, "then": {}}), "if"),
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"$ref": "https://example.com/schema"}), "$ref"),
        (json!({"type": "nothing"}), "nothing"),
        (json!(5), "5"),
    ] {
        let told = refused(&Grammar::json(schema.clone()));
        assert!(told.contains(words) || words == "$ref", "{schema}: {told}");
    }
    let any = Vec::new();
    refused(&Grammar {
        any,
        free: Free::None,
    });
    let told = refused(&Grammar::json(
        json!({"type": "string", "pattern": "(?=a)b"}),
    ));
    assert!(
        told.contains("look-around") && !told.contains('\n'),
        "{told}"
    );
    // What would be huge if it were written out, and a schema without an end.
    for pattern in [
        "^((a{1,500}){1,500}){1,500}$",
        "^(.*a.{300}|.*b.{301}|.*c.{302})$",
    ] {
        let _ = check(&Grammar::json(
            json!({"type": "string", "pattern": pattern}),
        ));
    }
    // There is no first step, or one with too many ways.
    refused(&Grammar::json(json!({"$ref": "#"})));
    let endless = json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
    refused(&Grammar::json(endless));
    let any = (0..2000).map(|number| (format!("p{number}"), json!({"type": "integer"})));
    let wide = json!({"type": "object", "properties": any.collect::<serde_json::Map<_, _>>()});
    refused(&Grammar::json(wide.clone()));
    // So is the beginning that every answer has.
    let within = json!({
        "type": "object", "properties": {"a": wide}, "required": ["a"],
        "additionalProperties": false,
    });
    refused(&Grammar::json(within));
    // What only some answers come to is seen when they do.
    let later = json!({"type": "array", "items": wide});
    check(&Grammar::json(later)).unwrap();
    let long = "x".repeat(Grammar::LONGEST);
    assert!(Grammar::json(json!({"const": long})).write().is_err());
    assert!(Grammar::read(&long).is_err() && Grammar::read(&long[1..]).is_err());
}

#[test]
fn a_grammar_survives_its_text() {
    for free in [Free::None, Free::Instead, Free::Mark("<x>".into())] {
        let grammar = Grammar {
            any: vec![vec![Part::Text("a".into()), Part::Json { json: person() }]],
            free,
        };
        assert_eq!(Grammar::read(&grammar.write().unwrap()).unwrap(), grammar);
    }
    assert_eq!(
        Grammar::json(json!({})).write().unwrap(),
        r#"{"any":[[{"json":{}}]]}"#
    );
}

fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "maxLength": 5})),
        Just(json!({"type": "integer", "minimum": -3, "maximum": 99})),
        Just(json!({"type": "boolean"})),
        Just(json!({"type": "null"})),
        Just(json!({"enum": ["a", 1, null]})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items, "maxItems": 2})),
            prop::collection::btree_map("[a-c]", inner.clone(), 0..3).prop_map(|properties| {
                let required: Vec<&String> = properties.keys().collect();
                json!({
                    "type": "object", "properties": properties, "required": required,
                    "additionalProperties": false,
                })
            }),
            prop::collection::vec(inner, 1..3).prop_map(|any| json!({"anyOf": any})),
        ]
    })
}

/// What the parts of JSON Schema that `any_schema` uses say of a value.
fn fits(value: &Value, schema: &Value) -> bool {
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|schema| fits(value, schema));
    }
    if let Some(any) = schema["enum"].as_array() {
        return any.contains(value);
    }
    match schema["type"].as_str() {
        Some("string") => value.as_str().is_some_and(|text| text.chars().count() <= 5),
        // -0.0 is a whole number too.
        Some("integer") => value
            .as_f64()
            .is_some_and(|number| (-3.0..=99.0).contains(&number) && number.fract() == 0.0),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("array") => value.as_array().is_some_and(|list| {
            list.len() <= 2 && list.iter().all(|value| fits(value, &schema["items"]))
        }),
        _ => value.as_object().is_some_and(|object| {
            let properties = schema["properties"].as_object().unwrap();
            object.len() == properties.len()
                && object
                    .iter()
                    .all(|(key, value)| fits(value, &properties[key]))
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever chooses by lot among what is allowed comes to a text that fits its schema.
    #[test]
    fn whatever_is_chosen_fits(schema in any_schema(), seed: u64) {
        let (vocabulary, words) = vocabulary();
        let end = u32::try_from(words.len()).unwrap() - 1;
        let mut guide = vocabulary.guide(&Grammar::json(schema.clone())).unwrap();
        let (mut answer, mut text, mut state) = (Vec::new(), Vec::new(), seed | 1);
        loop {
            let allowed = guide.allowed(&answer).unwrap();
            // Printable ASCII and the end, so that texts stay readable.
            let good: Vec<u32> = (0..=end)
                .filter(|&token| allowed.contains(token))
                .filter(|&token| token == end || words[token as usize].iter().all(|byte| (32..127).contains(byte)))
                .collect();
            prop_assert!(!good.is_empty(), "{schema}: {}", String::from_utf8_lossy(&text));
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let token = good[usize::try_from(state % good.len() as u64).unwrap()];
            if token == end {
                break;
            }
            answer.push(token);
            text.extend_from_slice(&words[token as usize]);
            prop_assert!(answer.len() < 1000);
        }
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        prop_assert!(fits(&value, &schema), "{value} of {schema}");
    }
}
