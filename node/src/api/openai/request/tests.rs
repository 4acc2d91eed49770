use super::*;
use exo_models::ChatMessage;
use serde_json::{Value, json};

fn parse(value: Value) -> Result<ChatRequest, ApiError> {
    ChatRequest::parse(value.to_string().as_bytes())
}

fn with(name: &str, value: Value) -> Result<ChatRequest, ApiError> {
    let mut request = json!({"messages": [{"role": "user", "content": "hi"}]});
    request[name] = value;
    parse(request)
}

#[test]
fn a_plain_request_has_no_wishes() {
    let request = parse(json!({"messages": [{"role": "user", "content": "hi"}]})).unwrap();
    let expected = ChatRequest {
        ask: Ask {
            input: vec![ChatMessage::new("user", "hi")].into(),
            ..Ask::default()
        },
        ..ChatRequest::default()
    };
    assert_eq!(request, expected);
}

#[test]
fn every_wish_is_read() {
    let request = parse(json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 1, "top_k": -1,
        "seed": -1, "stop": "x", "tools": [{"type": "function", "function": {"name": "f"}}], "n": 2, "logprobs": false, "service_tier": "auto", "store": false,
        "metadata": {"a": "b"}, "prediction": {"type": "content", "content": "x"},
        "modalities": ["text"], "verbosity": "medium", "unheard_of": {"x": 1},
        "frequency_penalty": 0, "response_format": {"type": "text"}, "user": "u", "logit_bias": {},
        "messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": []},
        ],
    }))
    .unwrap();
    assert!(request.stream && request.include_usage && request.tier);
    let request = request.ask;
    let Input::Chat { messages, tools } = &request.input else {
        panic!("no conversation")
    };
    let contents: Vec<_> = messages
        .iter()
        .map(|m| (m.role.as_str(), m.content.as_str()))
        .collect();
    assert_eq!(
        contents,
        [("system", "be kind"), ("user", "a\nb"), ("assistant", "")]
    );
    assert_eq!(request.model.as_deref(), Some("m"));
    assert_eq!(request.max_tokens, Some(7));
    assert_eq!((request.temperature, request.top_p), (Some(0.5), Some(1.0)));
    assert_eq!((request.top_k, request.seed), (Some(0), Some(u64::MAX)));
    assert_eq!(request.stop, ["x"]);
    assert_eq!(tools.as_ref().unwrap().names, ["f"]);
    assert_eq!(request.choices, Some(2));
    assert_eq!(
        with("stop", json!(["a", "b"])).unwrap().ask.stop,
        ["a", "b"]
    );
    assert_eq!(
        with("seed", json!(u64::MAX)).unwrap().ask.seed,
        Some(u64::MAX)
    );
    assert_eq!(
        with("max_tokens", json!(9e9 as u64))
            .unwrap()
            .ask
            .max_tokens,
        Some(u32::MAX)
    );
    assert_eq!(
        with("temperature", json!(null)).unwrap().ask.temperature,
        None
    );
}

#[test]
fn what_shapes_the_choice_is_read() {
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}], "frequency_penalty": -0.5,
        "presence_penalty": 2, "repetition_penalty": 1.5, "min_p": 0.25,
        "logit_bias": {"7": -100, "8": 0.5},
    });
    let expected = Shaping {
        min_p: 0.25,
        repetition: 1.5,
        frequency: -0.5,
        presence: 2.0,
        bias: vec![(7, -100.0), (8, 0.5)],
        ..Shaping::default()
    };
    assert_eq!(parse(body).unwrap().ask.shaping, expected);
    for (bias, place) in [
        (json!({"x": 1}), "logit_bias.x"),
        (json!({"-1": 1}), "logit_bias.-1"),
        (json!({"7": 101}), "logit_bias.7"),
        (json!({"7": "a lot"}), "logit_bias.7"),
    ] {
        let error = with("logit_bias", bias).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place));
    }
}

#[test]
fn mistakes_name_their_field() {
    for (name, value) in [
        ("model", json!(5)),
        ("stream", json!("false")),
        ("stream_options", json!(true)),
        ("temperature", json!("hot")),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("top_p", json!(1.5)),
        ("top_k", json!(1.5)),
        ("top_k", json!(-2)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!("many")),
        ("max_completion_tokens", json!(1.0)),
        ("seed", json!("s")),
        ("stop", json!(5)),
        ("stop", json!(["a", 5])),
        ("stop", json!([""])),
        ("stop", json!(vec!["x"; 5])),
        ("tools", json!({})),
        ("n", json!(0)),
        ("n", json!(17)),
        ("n", json!("1")),
        ("audio", json!({"voice": "alloy"})),
        ("modalities", json!(["text", "audio"])),
        ("functions", json!([])),
        ("function_call", json!("auto")),
        ("store", json!(true)),
        ("metadata", json!("x")),
        ("metadata", json!({"a": "x".repeat(513)})),
        ("metadata", json!({"a".repeat(65): "x"})),
        (
            "metadata",
            (0..17).map(|at| (at.to_string(), json!(""))).collect(),
        ),
        ("moderation", json!({"model": "x"})),
        ("prompt_cache_options", json!("explicit")),
        ("prompt_cache_key", json!(5)),
        ("prediction", json!("x")),
        ("user", json!(5)),
        ("service_tier", json!("flex")),
        ("verbosity", json!("low")),
        ("reasoning_effort", json!("high")),
        ("web_search_options", json!({})),
        ("stream_options", json!({"include_usage": true})),
        ("logprobs", json!("yes")),
        ("top_logprobs", json!(1)),
        ("top_logprobs", json!(21)),
        ("presence_penalty", json!("x")),
        ("response_format", json!({"type": "xml"})),
        ("response_format", json!("json")),
        ("logit_bias", json!([])),
        ("frequency_penalty", json!(2.1)),
        ("min_p", json!(-1)),
        ("repetition_penalty", json!(0)),
        ("messages", json!([])),
        ("messages", json!("hi")),
    ] {
        let error = with(name, value.clone()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(name), "{name}: {value}");
        assert_eq!(error.status, 400);
    }
    for (name, value, place) in [
        ("metadata", json!({"a": "b", "c": 5}), "metadata.c"),
        ("prediction", json!({}), "prediction.type"),
        (
            "prediction",
            json!({"type": "content"}),
            "prediction.content",
        ),
        (
            "prompt_cache_options",
            json!({"mode": 5}),
            "prompt_cache_options.mode",
        ),
    ] {
        let error = with(name, value.clone()).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place), "{name}: {value}");
    }
    assert_eq!(
        with("temperature", json!("hot")).unwrap_err().message,
        "temperature must be a number, not a text"
    );
}

#[test]
fn formats_and_scores_are_read() {
    let format = |value: Value| {
        let format = with("response_format", value).map(|request| request.ask.format);
        format.map(|format| format.map(|format| format.schema))
    };
    assert_eq!(format(json!({"type": "text"})), Ok(None));
    let object = json!({"type": "object"});
    assert_eq!(
        format(json!({"type": "json_object"})),
        Ok(Some(object.clone()))
    );
    let schema = json!({"type": "array"});
    let named = json!({"name": "n", "strict": true, "schema": schema});
    let wanted = format(json!({"type": "json_schema", "json_schema": named}));
    assert_eq!(wanted, Ok(Some(schema)));
    let any = json!({"type": "json_schema", "json_schema": {"name": "n"}});
    assert_eq!(format(any), Ok(Some(object)));
    for (wrong, place) in [
        (
            json!({"type": "json_schema"}),
            "response_format.json_schema",
        ),
        (
            json!({"type": "json_schema", "json_schema": {}}),
            "response_format.json_schema.name",
        ),
        (json!({}), "response_format.type"),
    ] {
        let error = format(wrong).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place));
    }
    let scores = |more: Value| {
        let mut request = json!({"messages": [{"role": "user", "content": "hi"}]});
        request["logprobs"] = json!(true);
        request["top_logprobs"] = more;
        parse(request).unwrap().ask.scores
    };
    assert_eq!(
        (scores(json!(null)), scores(json!(20))),
        (Some(0), Some(20))
    );
}

#[test]
fn a_conversation_with_tools_is_what_templates_know() {
    let call = |arguments: Value| json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}});
    let messages = json!([
        {"role": "user", "content": "hi", "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": [call(json!("{\"a\": 1}")), call(json!("{"))]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "sunny"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]);
    let Input::Chat { messages, .. } = with("messages", messages).unwrap().ask.input else {
        panic!("no conversation")
    };
    let [user, assistant, tool, refusal] = &messages[..] else {
        panic!("{messages:?}")
    };
    assert_eq!(user.name.as_deref(), Some("Ann"));
    assert_eq!(assistant.content, "");
    let expected = [call(json!({"a": 1})), call(json!("{"))];
    assert_eq!(assistant.tool_calls, expected);
    assert_eq!(tool.tool_call_id.as_deref(), Some("c1"));
    assert_eq!(tool.content, "sunny");
    assert_eq!(refusal.content, "no");
}

#[test]
fn mistakes_in_messages_name_their_place() {
    let call = |call: Value| json!({"role": "assistant", "tool_calls": [call]});
    for (message, place) in [
        (json!("hi"), "messages[0]"),
        (json!({"content": "hi"}), "messages[0].role"),
        (json!({"role": 5, "content": "hi"}), "messages[0].role"),
        (json!({"role": "user"}), "messages[0].content"),
        (
            json!({"role": "wizard", "content": "hi"}),
            "messages[0].role",
        ),
        (
            json!({"role": "user", "content": "hi", "name": 5}),
            "messages[0].name",
        ),
        (
            json!({"role": "tool", "content": "hi"}),
            "messages[0].tool_call_id",
        ),
        (
            json!({"role": "assistant", "function_call": {}}),
            "messages[0].function_call",
        ),
        (call(json!(5)), "messages[0].tool_calls[0]"),
        (call(json!({"id": 5})), "messages[0].tool_calls[0].id"),
        (
            call(json!({"id": "x", "type": "custom"})),
            "messages[0].tool_calls[0].type",
        ),
        (
            call(json!({"id": "x"})),
            "messages[0].tool_calls[0].function",
        ),
        (
            call(json!({"id": "x", "function": {"name": "f", "arguments": 5}})),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (json!({"role": "user", "content": 5}), "messages[0].content"),
        (
            json!({"role": "user", "content": [5]}),
            "messages[0].content[0]",
        ),
        (
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            "messages[0].content[0]",
        ),
    ] {
        let error = with("messages", json!([message])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(place), "{message}");
    }
}

#[test]
fn rubbish_is_no_request() {
    for body in [
        &b"{"[..],
        b"",
        b"\xff",
        b"[1]",
        b"5",
        b"null",
        &b"[".repeat(100_000),
    ] {
        let error = ChatRequest::parse(body).unwrap_err();
        assert_eq!((error.status, error.code), (400, Some("invalid_json")));
    }
    assert_eq!(
        parse(json!({})).unwrap_err().param.as_deref(),
        Some("messages")
    );
}
