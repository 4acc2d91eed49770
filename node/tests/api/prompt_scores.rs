//! How likely the tokens of a prompt were: `echo` with `logprobs`.

use crate::alone::Node;
use serde_json::{Value, json};

const PROMPT: &str = "Once upon a time there was a little fox who";

fn stories() -> Node {
    Node::start("--inference-engine cpu --threads 1 --default-model stories")
}

fn ask(node: &Node, body: &Value) -> Value {
    let answer = node.call("POST", "/v1/completions", "", &body.to_string());
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    answer.json()
}

fn question() -> Value {
    json!({"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 3})
}

fn list<'a>(choice: &'a Value, name: &str) -> &'a [Value] {
    let list = choice["logprobs"][name].as_array();
    list.unwrap_or_else(|| panic!("no {name} in {choice}"))
}

#[test]
fn a_prompt_is_told_with_its_scores_and_the_answer_stays_the_same() {
    let node = stories();
    let plain = ask(&node, &question());
    let mut echo = question();
    echo["echo"] = json!(true);
    let told = ask(&node, &echo);
    let (answer, whole) = (&plain["choices"][0], &told["choices"][0]);
    let text = whole["text"].as_str().unwrap();
    assert_eq!(
        text,
        format!("{PROMPT}{}", answer["text"].as_str().unwrap())
    );
    assert_eq!(told["usage"], plain["usage"]);
    assert_eq!(whole["finish_reason"], answer["finish_reason"]);
    let prompt = usize::try_from(told["usage"]["prompt_tokens"].as_u64().unwrap()).unwrap();
    let tokens = list(whole, "tokens");
    assert!(prompt > 5 && tokens.len() == prompt + 6, "{whole}");
    let joined: String = tokens.iter().filter_map(Value::as_str).collect();
    assert_eq!(joined, text);
    // Nothing came before the first.
    for name in ["token_logprobs", "top_logprobs"] {
        let all = list(whole, name);
        assert_eq!(all.len(), tokens.len(), "{name}");
        assert!(
            all[0].is_null() && all[1..].iter().all(|one| !one.is_null()),
            "{name}: {whole}"
        );
        assert_eq!(all[prompt..], *list(answer, name), "{name}");
    }
    let mut at = 0;
    for (token, offset) in tokens.iter().zip(list(whole, "text_offset")) {
        assert_eq!(*offset, json!(at));
        at += token.as_str().unwrap().chars().count();
    }

    // What is said of a place in the prompt is what is said behind the text before it.
    let before = "Once upon a time there was a";
    let place = (0..prompt).find(|&place| list(whole, "text_offset")[place] == json!(before.len()));
    let place = place.expect("a token begins there");
    let mut shorter = question();
    (shorter["prompt"], shorter["max_tokens"]) = (json!(before), json!(1));
    let shorter = ask(&node, &shorter);
    let likeliest = &list(&shorter["choices"][0], "top_logprobs")[0];
    assert_eq!(list(whole, "top_logprobs")[place], *likeliest);

    // The same in a stream, and in each of several choices.
    (echo["stream"], echo["n"]) = (json!(true), json!(2));
    let stream = node.call("POST", "/v1/completions", "", &echo.to_string());
    let (mut texts, mut scores) = ([String::new(), String::new()], [Vec::new(), Vec::new()]);
    for event in stream.events() {
        let Ok(event) = serde_json::from_str::<Value>(event) else {
            assert_eq!(event, "[DONE]");
            continue;
        };
        let choice = &event["choices"][0];
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index].push_str(choice["text"].as_str().unwrap());
        let told = choice["logprobs"]["token_logprobs"].as_array();
        scores[index].extend(told.into_iter().flatten().cloned());
    }
    for (told, score) in texts.iter().zip(&scores) {
        assert_eq!(told, text);
        assert_eq!(score, list(whole, "token_logprobs"));
    }
    let metrics = node.get("/metrics").body;
    let generated = "exo_generated_tokens_total{model=\"stories\"} 25";
    assert!(metrics.contains(generated), "{metrics}");
}

#[test]
fn a_prompt_may_be_told_alone() {
    let node = stories();
    let mut body = question();
    (body["echo"], body["max_tokens"]) = (json!(true), json!(0));
    let told = ask(&node, &body);
    assert_eq!(told["choices"][0]["text"], PROMPT);
    assert_eq!(told["choices"][0]["finish_reason"], "length");
    assert_eq!(told["usage"]["completion_tokens"], 0);
    let tokens = list(&told["choices"][0], "tokens").len();
    assert_eq!(told["usage"]["prompt_tokens"], json!(tokens));
    // In tokens of the model, among them one that ends answers.
    body["prompt"] = json!([1, 300, 2, 301, 302]);
    let told = ask(&node, &body);
    let scores = list(&told["choices"][0], "token_logprobs");
    assert_eq!(scores.len(), 5);
    assert!(
        scores[0].is_null() && scores[1..].iter().all(Value::is_number),
        "{told}"
    );
    // Of one token nothing is known.
    body["prompt"] = json!([300]);
    let told = ask(&node, &body);
    assert_eq!(list(&told["choices"][0], "token_logprobs"), [Value::Null]);
    // Without scores nothing is computed.
    body["logprobs"] = Value::Null;
    let told = ask(&node, &body);
    assert!(told["choices"][0]["logprobs"].is_null(), "{told}");
}

#[test]
fn too_long_a_prompt_is_refused_with_both_numbers() {
    let node = Node::dummy();
    let body = json!({"prompt": vec![1; 4098], "echo": true, "logprobs": 0, "max_tokens": 1});
    let refused = node.call("POST", "/v1/completions", "", &body.to_string());
    let (status, _, param) = refused.error();
    assert_eq!(
        (status, param),
        (400, json!("logprobs")),
        "{}",
        refused.body
    );
    assert!(
        refused.body.contains("4098") && refused.body.contains("4097"),
        "{}",
        refused.body
    );
}

/// Which would take gigabytes, if all of them were made tokens at once.
#[test]
fn prompts_that_no_context_holds_are_not_counted_to_their_end() {
    let node = stories();
    let long = "7".repeat(4 << 20);
    let tokens = vec![1; 1 << 19];
    for (prompt, told) in [
        (json!(long), "more than 65472 tokens"),
        (json!(tokens), "has 524288 tokens"),
    ] {
        let body = json!({"prompt": prompt}).to_string();
        let refused = node.call("POST", "/v1/completions", "", &body);
        let wanted = (400, json!("context_length_exceeded"), json!("prompt"));
        assert_eq!(refused.error(), wanted);
        assert!(refused.body.contains(told), "{}", refused.body);
        assert!(refused.body.contains("512 tokens"), "{}", refused.body);
    }
}

#[test]
fn a_question_is_counted_as_it_is_asked() {
    let node = stories();
    let mut body = json!({
        "system": "Be kind.", "messages": [
            {"role": "user", "content": "A fox."}, {"role": "assistant", "content": "Once"},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    });
    let path = "/v1/messages/count_tokens";
    let counted = node.call("POST", path, "", &body.to_string());
    assert_eq!(counted.status, 200, "{}", counted.body);
    let counted = counted.json();
    assert_eq!(counted.as_object().map(serde_json::Map::len), Some(1));
    body["max_tokens"] = json!(1);
    let asked = node.call("POST", "/v1/messages", "", &body.to_string());
    let asked = asked.json();
    assert_eq!(counted["input_tokens"], asked["usage"]["input_tokens"]);
    let wrong = node.call("POST", path, "", "{}");
    assert_eq!(
        (wrong.status, &wrong.json()["type"]),
        (400, &json!("error"))
    );
}

#[test]
fn what_is_too_long_or_empty_is_named_as_the_client_named_it() {
    let node = stories();
    let long = "Once ".repeat(600);
    for (path, name, question, code) in [
        (
            "/v1/chat/completions",
            "messages",
            json!([{"role": "user", "content": long}]),
            "context_length_exceeded",
        ),
        (
            "/v1/completions",
            "prompt",
            json!(long),
            "context_length_exceeded",
        ),
        (
            "/v1/responses",
            "input",
            json!(long),
            "context_length_exceeded",
        ),
        ("/v1/completions", "prompt", json!(""), "empty_prompt"),
    ] {
        let body = json!({name: question}).to_string();
        let refused = node.call("POST", path, "", &body);
        assert_eq!(refused.error(), (400, json!(code), json!(name)), "{path}");
    }
}
