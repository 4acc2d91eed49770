use super::*;

fn ask(body: Value) -> Result<Ask, ApiError> {
    parse(body.to_string().as_bytes()).map(|wish| wish.ask)
}

#[test]
fn a_conversation_with_tools_is_what_templates_know() {
    let asked = ask(json!({
        "model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "Be kind."}],
        "stop_sequences": ["x"], "temperature": 0.5,
        "tools": [{"name": "add", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "2"}]},
            ]},
        ],
    }))
    .unwrap();
    assert_eq!((asked.max_tokens, asked.temperature), (Some(5), Some(0.5)));
    assert_eq!(asked.stop, ["x"]);
    let Input::Chat { messages, tools } = asked.input else {
        panic!("no conversation")
    };
    let [system, user, assistant, tool] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(*system, ChatMessage::new("system", "Be kind."));
    assert_eq!(*user, ChatMessage::new("user", "1 + 1?"));
    assert_eq!(assistant.content, "I add.");
    assert_eq!(assistant.tool_calls[0]["function"]["arguments"]["a"], 1);
    assert_eq!((tool.role.as_str(), tool.content.as_str()), ("tool", "2"));
    assert_eq!(tool.tool_call_id.as_deref(), Some("t"));
    let tools = tools.unwrap();
    assert_eq!(tools.forced, Some(Some("add".to_owned())));
    assert!(!tools.parallel);
    assert_eq!(tools.list[0]["function"]["parameters"]["type"], "object");
}

#[test]
fn an_answer_may_begin_with_the_clients_words_but_not_with_any() {
    let with = |name: &str, value: Value, begun: &str| {
        let mut body = json!({"max_tokens": 5, "messages": [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": begun},
        ]});
        body[name] = value;
        body["tools"] = json!([{"name": "add", "input_schema": {"type": "object"}}]);
        ask(body)
    };
    assert!(with("system", json!("Be kind."), "Well,").unwrap().goes_on);
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for (name, value, begun) in [
        ("system", json!("Be kind."), "Well, "),
        ("output_format", format, "Well,"),
        ("tool_choice", json!({"type": "any"}), "Well,"),
    ] {
        let error = with(name, value, begun).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages"), "{name}");
    }
}

#[test]
fn thoughts_can_be_left_out() {
    let body = |thinking: Value| {
        json!({
            "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "thinking": thinking,
        })
    };
    assert!(ask(body(json!({"type": "disabled"}))).unwrap().thoughtless);
    assert!(!ask(body(Value::Null)).unwrap().thoughtless);
}

#[test]
fn an_answer_may_have_a_form() {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let format = json!({"type": "json_schema", "schema": schema});
    for (name, value) in [
        ("output_format", format.clone()),
        ("output_config", json!({"format": format, "effort": "high"})),
    ] {
        let mut body = json!({
            "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}],
        });
        body[name] = value;
        let asked = ask(body).unwrap().format.unwrap();
        assert_eq!(asked.schema, schema, "{name}");
        assert!(asked.field.starts_with(name), "{}", asked.field);
    }
}

#[test]
fn mistakes_name_their_place() {
    let user = json!([{"role": "user", "content": "hi"}]);
    for (name, value, place) in [
        ("max_tokens", Value::Null, "max_tokens"),
        ("max_tokens", json!(0), "max_tokens"),
        ("messages", json!([]), "messages"),
        ("messages", json!([5]), "messages[0]"),
        (
            "messages",
            json!([{"role": "system", "content": ""}]),
            "messages[0].role",
        ),
        ("messages", json!([{"role": "user"}]), "messages[0].content"),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image"}]}]),
            "messages[0].content[0]",
        ),
        ("system", json!(5), "system"),
        ("temperature", json!(1.5), "temperature"),
        ("thinking", json!({"type": "enabled"}), "thinking"),
        ("mcp_servers", json!([{"name": "x"}]), "mcp_servers"),
        ("container", json!("x"), "container"),
        ("output_format", json!("json"), "output_format"),
        ("output_format", json!({}), "output_format.type"),
        (
            "output_format",
            json!({"type": "text"}),
            "output_format.type",
        ),
        (
            "output_config",
            json!({"format": {"type": "json_schema"}}),
            "output_config.format.schema",
        ),
        (
            "output_config",
            json!({"effort": "low"}),
            "output_config.effort",
        ),
        ("tools", json!([{}]), "tools[0].name"),
        ("tools", json!([{"type": "bash_20250124"}]), "tools[0].type"),
        ("tool_choice", json!({"type": "any"}), "tool_choice"),
        ("tool_choice", json!({"type": "x"}), "tool_choice.type"),
    ] {
        let mut body = json!({"max_tokens": 5, "messages": user});
        body[name] = value;
        let error = ask(body.clone()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place), "{body}");
        assert_eq!(error.status, 400);
    }
}
