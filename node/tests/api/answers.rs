//! The API over HTTP, in front of a node that is alone.

use crate::alone::{Answer, Node, ask, content, plain};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn both_runtimes_answer_alike() {
    for runtime in ["smol", "std"] {
        let node = Node::start(&format!("--inference-engine dummy --runtime {runtime}"));
        let answer = node.chat(&plain());
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(content(&answer), "dummy".repeat(9));
        let value = answer.json();
        assert_eq!(value["object"], "chat.completion");
        assert_eq!(value["model"], "dummy");
        assert_eq!(value["choices"][0]["finish_reason"], "stop");
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 10, "total_tokens": 11});
        assert_eq!(value["usage"], usage);
        assert!(
            answer.head.contains("\r\nConnection: close"),
            "{}",
            answer.head
        );
    }
}

#[test]
fn a_stream_has_role_text_reason_and_end() {
    let node = Node::dummy();
    let mut body = ask("stream", json!(true));
    body["stream_options"] = json!({"include_usage": true});
    let answer = node.chat(&body);
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("Content-Type: text/event-stream"),
        "{}",
        answer.head
    );
    let events = answer.events();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks
        .iter()
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, texts) = chunks[1..].split_last().unwrap();
    assert_eq!(last["usage"]["completion_tokens"], 10);
    assert_eq!(last["choices"], json!([]));
    let (finish, texts) = texts.split_last().unwrap();
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(texts.len(), 9);
    assert!(
        texts
            .iter()
            .all(|text| text["choices"][0]["delta"] == json!({"content": "dummy"}))
    );
    assert!(
        texts
            .iter()
            .all(|text| text["choices"][0]["finish_reason"].is_null())
    );

    let events = node.chat(&ask("stream", json!(true)));
    assert!(!events.body.contains("usage"));
}

#[test]
fn several_choices_come_side_by_side() {
    let node = Node::dummy();
    let mut body = ask("n", json!(3));
    let value = node.chat(&body).json();
    let choices = value["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["content"], "dummy".repeat(9));
    }
    assert_eq!(value["usage"]["completion_tokens"], 30);

    body["stream"] = json!(true);
    let answer = node.chat(&body);
    let (mut texts, mut reasons) = ([(); 3].map(|()| String::new()), [0; 3]);
    for event in answer.events() {
        let chunk: Value = serde_json::from_str(event).unwrap_or_default();
        let Some(choice) = chunk["choices"].get(0) else {
            continue;
        };
        let at = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[at].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        reasons[at] += usize::from(choice["finish_reason"] == "stop");
    }
    assert_eq!(texts, [(); 3].map(|()| "dummy".repeat(9)));
    assert_eq!(reasons, [1; 3]);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    node.wait_until_idle();
}

#[test]
fn an_answer_ends_where_the_client_says() {
    let node = Node::dummy();
    for (name, value, text, reason) in [
        ("max_tokens", json!(3), "dummydummydummy", "length"),
        ("max_completion_tokens", json!(1), "dummy", "length"),
        ("stop", json!("ydum"), "dumm", "stop"),
        ("stop", json!(["no such text", "mydummyd"]), "dum", "stop"),
        ("stop", json!("dummydummyx"), &"dummy".repeat(9), "stop"),
    ] {
        for stream in [false, true] {
            let mut body = ask(name, value.clone());
            body["stream"] = json!(stream);
            let answer = node.chat(&body);
            let (said, why) = if stream {
                streamed(&answer)
            } else {
                whole(&answer)
            };
            assert_eq!((said.as_str(), why.as_str()), (text, reason), "{body}");
        }
    }
    node.wait_until_idle();
}

fn whole(answer: &Answer) -> (String, String) {
    let reason = answer.json()["choices"][0]["finish_reason"]
        .as_str()
        .unwrap()
        .to_owned();
    (content(answer), reason)
}

fn streamed(answer: &Answer) -> (String, String) {
    let (mut text, mut reason) = (String::new(), String::new());
    for event in answer.events() {
        let chunk: Value = serde_json::from_str(event).unwrap_or_default();
        let choice = &chunk["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        reason.push_str(choice["finish_reason"].as_str().unwrap_or_default());
    }
    (text, reason)
}

#[test]
fn models_have_names() {
    let node = Node::dummy();
    for name in ["dummy", "gpt-4o", ""] {
        assert_eq!(
            node.chat(&ask("model", json!(name))).json()["model"],
            "dummy"
        );
    }
    let unknown = node.chat(&ask("model", json!("llama-3.2-1b")));
    assert_eq!(
        unknown.error(),
        (404, json!("model_not_found"), json!("model"))
    );
    let models = node.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "dummy");
    assert_eq!(models["data"][0]["object"], "model");
    assert_eq!(node.get("/v1/models/dummy").json()["id"], "dummy");
    assert_eq!(node.get("/models/x").error().0, 404);
}

#[test]
fn mistakes_are_the_clients() {
    let node = Node::dummy();
    let hot = node.chat(&ask("temperature", json!("hot")));
    assert_eq!(hot.error(), (400, Value::Null, json!("temperature")));
    let broken = node.call("POST", "/chat/completions", "", "{");
    assert_eq!(broken.error(), (400, json!("invalid_json"), Value::Null));
    let foreign = "Origin: http://evil.example\r\n";
    let body = plain().to_string();
    let refused = node.call("POST", "/v1/chat/completions", foreign, &body);
    assert_eq!(refused.error().0, 403);
    assert!(!refused.head.contains("Access-Control"), "{}", refused.head);
    let wrong = node.get("/v1/chat/completions");
    assert_eq!(wrong.error().0, 405);
    assert!(wrong.head.contains("\r\nAllow: POST"), "{}", wrong.head);
    assert_eq!(
        node.get("/nowhere").error(),
        (404, json!("not_found"), Value::Null)
    );
}

#[test]
fn layers_of_a_node_that_is_away_are_no_fault_of_this_one() {
    let node = Node::start(
        "--inference-engine cpu --threads 1 --default-model stories --layers alone=0-3,other=4-7",
    );
    let refused = node.chat(&plain());
    assert_eq!(
        refused.error(),
        (503, json!("layers_do_not_fit"), Value::Null),
        "{}",
        refused.body
    );
}

#[test]
fn the_node_can_be_looked_at() {
    let node = Node::dummy();
    for path in ["/health", "/healthcheck"] {
        assert_eq!(node.get(path).body, r#"{"status":"ok"}"#);
    }
    assert_eq!(node.chat(&plain()).status, 200);
    for path in ["/topology", "/v1/topology"] {
        let topology = node.get(path).json();
        assert!(topology["nodes"]["alone"]["memory"].as_i64().unwrap() > 0);
        assert_eq!(topology["peer_graph"], json!({}));
        assert_eq!(topology["active_node_id"], Value::Null);
        let ring = json!([{"node_id": "alone", "start": 0, "end": 7, "layers": 8}]);
        assert_eq!(topology["exo"]["rings"]["dummy"], ring);
        assert_eq!(topology["exo"]["node_id"], "alone");
    }
    let status = node.get("/v1/status").json();
    assert_eq!(status["node_id"], "alone");
    assert_eq!(status["stopping"], false);
    let page = node.get("/");
    assert!(page.head.contains("text/html") && page.body.contains("</html>"));
}

#[test]
fn a_stopping_node_says_so() {
    let node = Node::dummy();
    node.started.as_ref().unwrap().app.stop().unwrap();
    // It stops when its thread comes to it; until then it answers.
    let begun = Instant::now();
    let mut answer = node.chat(&plain());
    while answer.status == 200 && begun.elapsed() < Duration::from_secs(30) {
        answer = node.chat(&plain());
    }
    assert_eq!(answer.error().0, 503, "{}", answer.body);
    assert!(answer.head.contains("Retry-After"), "{}", answer.head);
}

#[test]
fn a_real_model_keeps_its_limits_and_its_dice() {
    let node = Node::start("");
    let long = "a fox and ".repeat(2000);
    let body = json!({"messages": [{"role": "user", "content": long}]});
    let answer = node.chat(&body);
    assert_eq!(
        answer.error(),
        (400, json!("context_length_exceeded"), json!("messages"))
    );
    assert_eq!(
        answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .matches("tokens")
            .count(),
        2
    );

    let throw = |seed: Option<u64>| {
        let mut body = ask("max_tokens", json!(24));
        body["temperature"] = json!(1.5);
        body["seed"] = json!(seed);
        let answer = node.chat(&body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        content(&answer)
    };
    assert_eq!(throw(Some(7)), throw(Some(7)));
    assert_ne!(throw(Some(7)), throw(Some(8)));
    assert_ne!(throw(None), throw(None));
    let cold = |body: Value| content(&node.chat(&body));
    assert_eq!(
        cold(ask("max_tokens", json!(8))),
        cold(ask("max_tokens", json!(8)))
    );
}

#[test]
fn a_client_that_leaves_stops_the_ring() {
    let node = Node::start("");
    for (stream, words) in [(true, 1), (false, 1), (true, 40), (false, 40)] {
        // A long prompt is still being computed when the client leaves.
        let content = "A fox. ".repeat(words);
        let mut body = json!({"messages": [{"role": "user", "content": content}]});
        body["stream"] = json!(stream);
        body["temperature"] = json!(2.0);
        let client = node.send("POST", "/v1/chat/completions", "", &body.to_string());
        let begun = Instant::now();
        while node
            .started
            .as_ref()
            .unwrap()
            .app
            .status()
            .requests
            .is_empty()
        {
            assert!(begun.elapsed() < Duration::from_secs(30), "it never began");
            thread::sleep(Duration::from_millis(1));
        }
        drop(client);
        node.wait_until_idle();
    }
}

#[test]
fn the_operators_system_message_is_part_of_the_prompt() {
    let tokens = |flags: &str| {
        let node = Node::start(flags);
        let answer = node.chat(&ask("max_tokens", json!(1)));
        answer.json()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    assert!(tokens("--system-prompt You-are-a-very-kind-old-owl") > tokens(""));
}
