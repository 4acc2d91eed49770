//! What further APIs answer, to the byte.

use crate::alone::{Answer, Node};
use serde_json::{Value, json};

const SSE: &str = "text/event-stream";

/// What differs from answer to answer is taken out.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let (before, json) = match line.strip_prefix("data: ") {
            Some(json) => ("data: ", json),
            None => ("", line),
        };
        let Ok(mut value) = serde_json::from_str::<Value>(json) else {
            out.push_str(line);
            continue;
        };
        for name in [
            "id",
            "created",
            "created_at",
            "total_duration",
            "load_duration",
            "prompt_eval_duration",
            "eval_duration",
        ] {
            if let Some(field) = value.get_mut(name) {
                *field = json!("?");
            }
        }
        if let Some(id) = value.pointer_mut("/message/id") {
            *id = json!("?");
        }
        value["system_fingerprint"].take();
        if let Some(object) = value.as_object_mut() {
            object.retain(|name, _| name != "system_fingerprint");
        }
        let end = if line.ends_with('\n') { "\n" } else { "" };
        out.push_str(&format!("{before}{value}{end}"));
    }
    out
}

fn post(node: &Node, path: &str, body: &Value) -> Answer {
    let answer = node.call("POST", path, "", &body.to_string());
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer
}

fn is(answer: &Answer, content_type: &str) {
    let line = format!("\r\nContent-Type: {content_type}");
    assert!(answer.head.contains(&line), "{}", answer.head);
}

#[test]
fn completions() {
    let node = Node::dummy();
    let mut body = json!({"prompt": "Once", "max_tokens": 2, "echo": true});
    let whole = post(&node, "/v1/completions", &body);
    is(&whole, "application/json");
    assert_eq!(
        plain(&whole.body),
        r#"{"id":"?","object":"text_completion","created":"?","model":"dummy","choices":[{"text":"Oncedummydummy","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#
    );
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let stream = post(&node, "/v1/completions", &body);
    is(&stream, SSE);
    let chunk = |text: &str, finish: Value| {
        let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish});
        format!(
            "data: {}\n\n",
            json!({
                "id": "?", "object": "text_completion", "created": "?", "model": "dummy",
                "choices": [choice], "usage": null,
            })
        )
    };
    let usage = r#"data: {"id":"?","object":"text_completion","created":"?","model":"dummy","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;
    let wanted = [
        chunk("Once", Value::Null),
        chunk("dummy", Value::Null),
        chunk("dummy", Value::Null),
        chunk("", json!("length")),
        format!("{usage}\n\ndata: [DONE]\n\n"),
    ];
    assert_eq!(plain(&stream.body), wanted.concat());
}

/// Of a message, to its end.
fn usage(output: u32) -> String {
    format!(
        r#""stop_details":null,"container":null,"usage":{{"input_tokens":1,"output_tokens":{output},"cache_creation":null,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,"inference_geo":null,"output_tokens_details":null,"server_tool_use":null,"service_tier":"standard"}}}}"#
    )
}

#[test]
fn messages() {
    let node = Node::dummy();
    let mut body =
        json!({"max_tokens": 2, "messages": [{"role": "user", "content": "Tell me a story."}]});
    let whole = post(&node, "/v1/messages", &body);
    assert_eq!(
        plain(&whole.body),
        r#"{"id":"?","type":"message","role":"assistant","model":"dummy","content":[{"type":"text","text":"dummydummy","citations":null}],"stop_reason":"max_tokens","stop_sequence":null,USAGE"#.replace("USAGE", &usage(2))
    );
    body["stream"] = json!(true);
    let stream = post(&node, "/v1/messages", &body);
    is(&stream, SSE);
    let wanted = r#"event: message_start
data: {"type":"message_start","message":{"id":"?","type":"message","role":"assistant","model":"dummy","content":[],"stop_reason":null,"stop_sequence":null,USAGE}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":null}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"dummy"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"dummy"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

"#;
    assert_eq!(plain(&stream.body), wanted.replace("USAGE", &usage(0)));
    let refused = node.call("POST", "/v1/messages", "", r#"{"messages": 1}"#);
    assert_eq!(refused.status, 400);
    let refused = refused.json();
    assert_eq!(
        (&refused["type"], &refused["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
}

#[test]
fn ollama() {
    let node = Node::dummy();
    let options = json!({"num_predict": 2});
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "options": options});
    let generate = json!({"prompt": "Hi", "options": options});
    for (path, mut body, name, text) in [
        (
            "/api/chat",
            chat,
            "message",
            (|text: &str| json!({"role": "assistant", "content": text})) as fn(&str) -> Value,
        ),
        ("/api/generate", generate, "response", |text| json!(text)),
    ] {
        let line = |said: &str, done: bool| {
            let mut value = json!({"model": "dummy", "created_at": "?", "done": done});
            value[name] = text(said);
            if done {
                value["done_reason"] = json!("length");
                value["total_duration"] = json!("?");
                value["prompt_eval_count"] = json!(1);
                value["eval_count"] = json!(2);
                for name in ["load_duration", "prompt_eval_duration", "eval_duration"] {
                    value[name] = json!("?");
                }
            }
            value.to_string()
        };
        // These stream unless they are told not to.
        let stream = post(&node, path, &body);
        is(&stream, "application/x-ndjson");
        let wanted = [line("dummy", false), line("dummy", false), line("", true)];
        assert_eq!(plain(&stream.body), wanted.join("\n") + "\n", "{path}");
        body["stream"] = json!(false);
        let whole = post(&node, path, &body);
        is(&whole, "application/json");
        assert_eq!(plain(&whole.body), line("dummydummy", true), "{path}");
        let refused = node.call("POST", path, "", "[]");
        assert_eq!(refused.status, 400);
        assert!(refused.json()["error"].is_string(), "{}", refused.body);
    }
    let tags = node.get("/api/tags").json();
    let model = &tags["models"][0];
    assert_eq!(model["name"], "dummy");
    // Their command line cuts it without looking.
    assert_eq!(model["digest"].as_str().map(str::len), Some(64), "{model}");
    for (path, said) in [
        ("/api/chat", json!({"role": "assistant", "content": ""})),
        ("/api/generate", json!("")),
    ] {
        // What `ollama run` sends before it lets anybody type.
        let loaded = post(&node, path, &json!({"model": "dummy"})).json();
        assert_eq!(
            (&loaded["done"], &loaded["done_reason"]),
            (&json!(true), &json!("load")),
            "{path}"
        );
        assert!(
            [&loaded["message"], &loaded["response"]].contains(&&said),
            "{loaded}"
        );
    }
}

#[test]
fn an_answer_goes_on_from_what_the_client_put_in_its_mouth() {
    let node = Node::start("--inference-engine cpu --threads 1 --default-model stories");
    let question = json!({"role": "user", "content": "Tell me a story about a fox."});
    let ask = |path: &str, messages: Value| {
        let body = json!({
            "messages": messages, "max_tokens": 12, "stream": false, "temperature": 0,
            "options": {"num_predict": 12, "temperature": 0},
        });
        let told = post(&node, path, &body).json();
        let text = told.pointer("/content/0/text");
        let text = text.or_else(|| told.pointer("/message/content"));
        text.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    for path in ["/v1/messages", "/api/chat"] {
        let whole = ask(path, json!([question]));
        let (begun, rest) = whole.split_at(whole.find(" time").unwrap());
        let begun = json!({"role": "assistant", "content": begun});
        let further = ask(path, json!([question, begun]));
        assert!(further.starts_with(rest), "{path}: {whole:?}, {further:?}");
    }
}

#[test]
fn tokens_of_a_conversation() {
    let node = Node::start("");
    let body = json!({"messages": [{"role": "user", "content": "Tell me a story about a fox."}]});
    let told = post(&node, "/v1/chat/token/encode", &body).json();
    let text = told["encoded_prompt"].as_str().unwrap();
    assert!(text.contains("a story about a fox"), "{text}");
    assert_eq!(told["length"], text.chars().count());
    let tokens = told["encoded_tokens"].as_array().unwrap();
    assert_eq!(told["num_tokens"], tokens.len());
    // It is what the ring is given.
    let chat = node.chat(&json!({"messages": body["messages"], "max_tokens": 1}));
    assert_eq!(chat.json()["usage"]["prompt_tokens"], tokens.len());
}
