use super::*;
use exo_models::ChatMessage;

fn parse_json(value: Value) -> Result<Wish<ResponseReply>, ApiError> {
    parse(value.to_string().as_bytes(), 0.5)
}

fn with(name: &str, value: Value) -> Result<Ask, ApiError> {
    let mut request = json!({"input": "hi"});
    request[name] = value;
    parse_json(request).map(|wish| wish.ask)
}

#[test]
fn a_conversation_is_read() {
    let request = json!({
        "model": "m", "instructions": "be kind", "max_output_tokens": 7, "temperature": 0,
        "include": ["message.output_text.logprobs"], "top_logprobs": 2, "stream": true,
        "input": [
            {"role": "developer", "content": "in one word"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\": 1}"},
            {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{"},
            {"type": "function_call_output", "call_id": "c", "output": "sunny"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "so", "annotations": []}]},
        ],
        "tools": [{"type": "function", "name": "f", "strict": true, "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}}},
    });
    let wish = parse_json(request).unwrap();
    let ask = &wish.ask;
    assert!(wish.stream);
    assert_eq!(
        (ask.max_tokens, ask.temperature, ask.scores),
        (Some(7), Some(0.0), Some(2))
    );
    let format = ask.format.as_ref().unwrap();
    assert_eq!(format.schema, json!({"type": "array"}));
    assert_eq!(format.field, "text.format");
    let Input::Chat { messages, tools } = &ask.input else {
        panic!("no conversation")
    };
    let said = |message: &ChatMessage| (message.role.clone(), message.content.clone());
    let told: Vec<_> = messages.iter().map(said).collect();
    let expected = [
        ("system", "be kind"),
        ("system", "in one word"),
        ("user", "hi"),
        ("assistant", ""),
        ("tool", "sunny"),
        ("assistant", "so"),
    ];
    assert_eq!(
        told,
        expected.map(|(role, text)| (role.into(), text.into()))
    );
    assert_eq!(messages[3].tool_calls.len(), 2);
    assert_eq!(
        messages[3].tool_calls[0]["function"]["arguments"],
        json!({"a": 1})
    );
    assert_eq!(messages[4].tool_call_id.as_deref(), Some("c"));
    let tools = tools.as_ref().unwrap();
    assert_eq!(
        (&tools.names, &tools.strict),
        (&vec!["f".to_owned()], &vec!["f".to_owned()])
    );
    assert_eq!(tools.forced, Some(Some("f".to_owned())));
    assert_eq!(
        tools.list[0]["function"]["parameters"],
        json!({"type": "object"})
    );
}

#[test]
fn mistakes_and_what_needs_a_memory_name_their_field() {
    for (name, value, place) in [
        ("input", json!(null), "input"),
        ("input", json!([]), "input"),
        ("input", json!([5]), "input[0]"),
        (
            "input",
            json!([{"role": "wizard", "content": "x"}]),
            "input[0].role",
        ),
        (
            "input",
            json!([{"role": "system", "content": "x"}]),
            "input",
        ),
        (
            "input",
            json!([{"type": "item_reference", "id": "x"}]),
            "input[0].type",
        ),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_image"}]}]),
            "input[0].content[0]",
        ),
        (
            "previous_response_id",
            json!("resp_1"),
            "previous_response_id",
        ),
        ("conversation", json!("c"), "conversation"),
        ("store", json!(true), "store"),
        ("background", json!(true), "background"),
        ("truncation", json!("auto"), "truncation"),
        ("moderation", json!({"model": "x"}), "moderation"),
        ("context_management", json!([]), "context_management"),
        ("metadata", json!({"a": 5}), "metadata.a"),
        ("user", json!(5), "user"),
        ("reasoning", json!({"effort": "low"}), "reasoning.effort"),
        ("include", json!(["file_search_call.results"]), "include"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tool_choice", json!("required"), "tool_choice"),
        (
            "text",
            json!({"format": {"type": "xml"}}),
            "text.format.type",
        ),
        ("max_output_tokens", json!(0), "max_output_tokens"),
        ("top_logprobs", json!(21), "top_logprobs"),
    ] {
        let error = with(name, value.clone()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place), "{name}: {value}");
    }
    for (name, value) in [
        ("store", json!(false)),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("truncation", json!("disabled")),
        ("metadata", json!({"a": "b"})),
    ] {
        assert!(!with(name, value).unwrap().thoughtless, "{name}");
    }
    let ask = with("reasoning", json!({"effort": "none"})).unwrap();
    assert!(ask.thoughtless);
}
