use super::*;
use exo_protocol::FinishReason;

const INFO: &str = concat!(
    r#","created":7,"model":"m","system_fingerprint":"exo-node_"#,
    env!("CARGO_PKG_VERSION"),
    r#"","choices":["#
);

fn info(choices: usize) -> Info {
    Info {
        created: 7,
        model: "m".into(),
        choices,
        echo: String::new(),
        prompt_tokens: 1,
    }
}

fn reply(include_usage: bool, tier: bool) -> ChatReply {
    ChatReply {
        id: "chatcmpl-1".into(),
        include_usage,
        tier,
        scored: None,
    }
}

#[test]
fn scores_come_with_the_text_that_they_belong_to() {
    let score = |text: &str, likeliest: Vec<TokenScore>| TokenScore {
        text: text.into(),
        bytes: text.into(),
        special: false,
        score: -0.5,
        likeliest,
    };
    let mut reply = ChatReply::new(false, false, true);
    assert!(reply.begin(&info(2)).contains(r#""logprobs":null"#));
    reply.scores(1, &[score("a", vec![score("b", vec![])])]);
    reply.scores(1, &[score("c", vec![])]);
    let other = reply.part(&info(2), 0, &Part::Text("x".into()));
    assert!(other.contains(r#""logprobs":null"#), "{other}");
    let chunk = reply.part(&info(2), 1, &Part::Text("ac".into()));
    let first = concat!(
        r#""logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":"#,
        r#"[{"token":"b","logprob":-0.5,"bytes":[98]}]},"#,
        r#"{"token":"c","logprob":-0.5,"bytes":[99],"top_logprobs":[]}],"refusal":null}"#
    );
    assert!(chunk.contains(first), "{chunk}");
    let last = reply.finish(&info(2), 1, &ending(FinishReason::Stop));
    assert!(last.contains(r#""logprobs":null"#), "{last}");
    let whole = Whole {
        text: "a".into(),
        calls: vec![],
        ending: ending(FinishReason::Stop),
        scores: vec![score("a", vec![])],
    };
    let value = reply.whole(&info(1), &[whole], USAGE);
    assert_eq!(value["choices"][0]["logprobs"]["content"][0]["token"], "a");
}

fn ending(reason: FinishReason) -> Ending {
    Ending {
        reason,
        tokens: 10,
        stop: None,
        called: false,
    }
}

const USAGE: Usage = Usage {
    prompt: 1,
    completion: 10,
};

#[test]
fn whole_answers_have_openais_shape() {
    let whole = Whole {
        text: "hi".into(),
        calls: vec![],
        ending: ending(FinishReason::Stop),
        scores: vec![],
    };
    let value = reply(false, false).whole(&info(1), &[whole], USAGE);
    assert_eq!(
        value.to_string(),
        format!(
            concat!(
                r#"{{"id":"chatcmpl-1","object":"chat.completion"{}{{"index":0,"message":"#,
                r#"{{"role":"assistant","content":"hi","refusal":null,"annotations":[]}},"#,
                r#""logprobs":null,"finish_reason":"stop"}}],"#,
                r#""usage":{{"prompt_tokens":1,"completion_tokens":10,"total_tokens":11}}}}"#
            ),
            INFO
        )
    );
}

#[test]
fn chunks_have_openais_shape() {
    let head = format!(r#"data: {{"id":"chatcmpl-1","object":"chat.completion.chunk"{INFO}"#);
    let mut plain = reply(false, false);
    let role = r#"{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}"#;
    assert_eq!(plain.begin(&info(1)), format!("{head}{role}]}}\n\n"));
    assert_eq!(plain.begin(&info(3)).matches("\"role\"").count(), 3);
    let text = r#"{"index":1,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}"#;
    assert_eq!(
        plain.part(&info(2), 1, &Part::Text("a".into())),
        format!("{head}{text}]}}\n\n")
    );
    let last = plain.finish(&info(1), 0, &ending(FinishReason::Length));
    let finish = r#""delta":{},"logprobs":null,"finish_reason":"length""#;
    assert!(last.contains(finish), "{last}");
    assert_eq!(plain.end(&info(1), USAGE), "data: [DONE]\n\n");
}

#[test]
fn calls_have_openais_shape() {
    let call = Call {
        index: 1,
        id: "call_1".into(),
        name: "add".into(),
        arguments: r#"{"a":1}"#.into(),
    };
    let function = r#"{"name":"add","arguments":"{\"a\":1}"}"#;
    let text = reply(false, false).part(&info(1), 0, &Part::Call(call.clone()));
    let delta = format!(
        r#""delta":{{"tool_calls":[{{"id":"call_1","type":"function","function":{function},"index":1}}]}}"#
    );
    assert!(text.contains(&delta), "{text}");
    let whole = Whole {
        text: String::new(),
        calls: vec![call],
        ending: Ending {
            called: true,
            ..ending(FinishReason::Stop)
        },
        scores: vec![],
    };
    let choice = &reply(false, false).whole(&info(1), &[whole], USAGE)["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let message = choice["message"].to_string();
    let calls =
        format!(r#""tool_calls":[{{"id":"call_1","type":"function","function":{function}}}]"#);
    assert!(message.contains(&calls), "{message}");
}

#[test]
fn usage_and_tier_are_told_to_who_asked() {
    let mut full = reply(true, true);
    let text = full.part(&info(1), 0, &Part::Text("a".into()));
    assert!(
        text.ends_with("],\"service_tier\":\"default\",\"usage\":null}\n\n"),
        "{text}"
    );
    let end = full.end(&info(1), USAGE);
    assert!(end.contains(r#""choices":[],"#), "{end}");
    assert!(end.contains(r#""total_tokens":11"#), "{end}");
    assert!(end.ends_with("data: [DONE]\n\n"), "{end}");
}
