//! Answers as the formats' documentation has them.

use serde_json::json;

use super::*;

fn names() -> Vec<String> {
    ["get_weather", "add"].map(str::to_owned).to_vec()
}

/// What is read, with the text of neighbouring pieces together, cut in pieces of every length.
fn read(format: ToolFormat, answer: &str) -> Vec<Piece> {
    let letters: Vec<char> = answer.chars().collect();
    let mut all = [1, 2, 3, 7, 1000].map(|size| {
        let mut reader = CallReader::new(format, names());
        let mut pieces = Vec::new();
        for piece in letters.chunks(size) {
            pieces.extend(reader.push(&String::from_iter(piece)));
        }
        pieces.extend(reader.finish());
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (joined.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(&text),
                (_, piece) => joined.push(piece),
            }
        }
        joined
    });
    let [first, others @ ..] = &mut all;
    for other in others {
        assert_eq!(first, other, "{answer}");
    }
    mem_take(first)
}

fn mem_take(pieces: &mut Vec<Piece>) -> Vec<Piece> {
    std::mem::take(pieces)
}

fn call(name: &str, arguments: Value) -> Piece {
    let Value::Object(arguments) = arguments else {
        panic!("no arguments")
    };
    Piece::Call(ToolCall {
        name: name.to_owned(),
        arguments,
    })
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

#[test]
fn hermes_and_qwen_call_between_tags() {
    let paris = call("get_weather", json!({"city": "Paris"}));
    let one = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
    assert_eq!(read(ToolFormat::Hermes, one), std::slice::from_ref(&paris));
    let two = format!("I look. \n{one}\n{one}\n");
    assert_eq!(
        read(ToolFormat::Hermes, &two),
        [text("I look."), paris.clone(), paris.clone()]
    );
    // The end of the answer closes a call, too.
    let cut = one.trim_end_matches("</tool_call>");
    assert_eq!(read(ToolFormat::Hermes, cut), [paris]);
}

#[test]
fn llama_calls_with_parameters() {
    let paris = call("get_weather", json!({"city": "Paris"}));
    let one = r#"{"name": "get_weather", "parameters": {"city": "Paris"}}"#;
    assert_eq!(read(ToolFormat::Llama, one), std::slice::from_ref(&paris));
    let marked = format!("<|python_tag|>{one}; {one}");
    assert_eq!(read(ToolFormat::Llama, &marked), [paris.clone(), paris]);
}

#[test]
fn mistral_calls_in_a_list() {
    let sum = call("add", json!({"a": 1, "b": [2]}));
    let list = r#"[{"name": "add", "arguments": {"a": 1, "b": [2]}}, {"name": "add", "arguments": {"a": 1, "b": [2]}}]"#;
    for answer in [format!("[TOOL_CALLS]{list}"), format!(" {list}")] {
        let read = read(ToolFormat::Mistral, &answer);
        assert_eq!(read, [sum.clone(), sum.clone()], "{answer}");
    }
}

#[test]
fn others_call_with_json() {
    let none = call("add", json!({}));
    for answer in [
        "```json\n{\"name\": \"add\"}\n```",
        r#"{"name": "add", "arguments": "{}"}"#,
        r#"{"type": "function", "function": {"name": "add", "arguments": {}}}"#,
    ] {
        for format in [ToolFormat::Json, ToolFormat::Explained] {
            assert_eq!(
                read(format, answer),
                std::slice::from_ref(&none),
                "{answer}"
            );
        }
    }
}

#[test]
fn what_is_no_call_stays_text() {
    for answer in [
        "",
        "Hello.",
        " [1] is a footnote",
        "[1, 2]",
        "{\"name\": \"unknown\", \"arguments\": {}}",
        "{\"name\": \"add\", \"arguments\": 5}",
        "{\"name\": \"add\"} and more",
        "a < b <tool",
        "<tool_call>rubbish</tool_call> tail",
        "<tool_call>{\"name\"",
        "```python\nprint(1)\n```",
    ] {
        for format in [
            ToolFormat::Hermes,
            ToolFormat::Llama,
            ToolFormat::Mistral,
            ToolFormat::Json,
        ] {
            let expected: &[Piece] = match answer {
                "" => &[],
                answer => &[text(answer)],
            };
            assert_eq!(read(format, answer), expected, "{format:?}: {answer}");
        }
    }
}

#[test]
fn a_given_beginning_is_a_call_when_the_model_ends_it() {
    for format in [
        ToolFormat::Hermes,
        ToolFormat::Llama,
        ToolFormat::Mistral,
        ToolFormat::Json,
    ] {
        let begun = format.beginning(Some("add"));
        for end in ["{\"a\": 1}}", "{\"a\": 1}"] {
            let answer = format!("{begun}{end}");
            assert_eq!(
                read(format, &answer),
                [call("add", json!({"a": 1}))],
                "{answer}"
            );
        }
        let answer = format!("{}add\", \"arguments\": {{}}}}", format.beginning(None));
        assert_eq!(read(format, &answer), [call("add", json!({}))]);
    }
}

#[test]
fn templates_show_their_format() {
    for (template, format) in [
        ("{{ messages }}", ToolFormat::Explained),
        ("{% if tools %}<tool_call>{% endif %}", ToolFormat::Hermes),
        ("{{ tools }}[TOOL_CALLS]", ToolFormat::Mistral),
        ("{{ tools }}<|python_tag|>", ToolFormat::Llama),
        ("{{ tools }}", ToolFormat::Json),
    ] {
        assert_eq!(ToolFormat::of(template), format, "{template}");
    }
}

#[test]
fn tools_are_explained_to_who_knows_none() {
    let tools = json!([{"type": "function", "function": {"name": "add"}}]);
    let called = ChatMessage {
        tool_calls: vec![
            json!({"id": "x", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}),
        ],
        ..ChatMessage::new("assistant", "")
    };
    let messages = [
        ChatMessage::new("system", "Be kind."),
        called,
        ChatMessage::new("tool", "2"),
    ];
    let told = ToolFormat::explain(&messages, &tools);
    let [system, assistant, user] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(system.content.starts_with("Be kind.\n\n"));
    assert!(system.content.contains(r#"{"name":"add"}"#));
    assert_eq!(assistant.content, r#"{"name":"add","arguments":{"a":1}}"#);
    assert_eq!(
        (user.role.as_str(), user.content.as_str()),
        ("user", "The result of the function: 2")
    );
}
