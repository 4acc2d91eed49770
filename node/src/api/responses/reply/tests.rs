use super::*;

fn info() -> Info {
    Info {
        created: 7,
        model: "m".into(),
        choices: 1,
        echo: String::new(),
        prompt_tokens: 3,
    }
}

fn ending(reason: FinishReason) -> Ending {
    Ending {
        reason,
        tokens: 2,
        stop: None,
        called: false,
    }
}

fn call() -> Call {
    Call {
        index: 0,
        id: "c".into(),
        name: "f".into(),
        arguments: r#"{"a":1}"#.into(),
    }
}

const USAGE: Usage = Usage {
    prompt: 3,
    completion: 2,
};

/// The events of a stream as JSON, their numbers checked.
fn events(text: &str) -> Vec<Value> {
    let events = text.split_terminator("\n\n").enumerate();
    let event = |(number, event): (usize, &str)| {
        let (kind, data) = event.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(kind.strip_prefix("event: "), value["type"].as_str());
        assert_eq!(value["sequence_number"], number);
        value
    };
    events.map(event).collect()
}

#[test]
fn a_stream_has_the_events_of_the_specification_in_order() {
    let mut reply = ResponseReply::new(json!({"store": false}), true);
    let score = TokenScore {
        text: "a".into(),
        bytes: vec![97],
        special: false,
        score: -0.5,
        likeliest: vec![],
    };
    let mut out = reply.begin(&info());
    reply.scores(0, &[score]);
    for part in [
        Part::Text("a".into()),
        Part::Text("b".into()),
        Part::Call(call()),
    ] {
        out += &reply.part(&info(), 0, &part);
    }
    out += &reply.finish(&info(), 0, &ending(FinishReason::Stop));
    out += &reply.end(&info(), USAGE);
    let events = events(&out);
    let kinds: Vec<&str> = events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[4]["logprobs"][0]["token"], "a");
    assert_eq!(events[5]["logprobs"], json!([]));
    assert_eq!(events[6]["text"], "ab");
    assert_eq!(events[9]["output_index"], 1);
    let response = &events[13]["response"];
    assert_eq!(response["output"][0], events[8]["item"]);
    assert_eq!(response["output"][1]["arguments"], r#"{"a":1}"#);
    assert_eq!(response["usage"]["total_tokens"], 5);
    assert_eq!(
        (&response["store"], &response["created_at"]),
        (&json!(false), &json!(7))
    );
}

#[test]
fn an_answer_that_was_cut_is_incomplete_and_an_empty_one_a_message() {
    let mut reply = ResponseReply::new(json!({}), false);
    let mut out = reply.begin(&info());
    out += &reply.finish(&info(), 0, &ending(FinishReason::Length));
    out += &reply.end(&info(), USAGE);
    let events = events(&out);
    let last = &events[events.len() - 1];
    assert_eq!(last["type"], "response.incomplete");
    let response = &last["response"];
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(response["output"][0]["status"], "incomplete");
    assert_eq!(response["output"][0]["content"][0]["text"], "");
}

#[test]
fn failures_end_a_stream() {
    let mut reply = ResponseReply::new(json!({}), false);
    let mut out = reply.begin(&info());
    out += &reply.fail(&ApiError::new(502, "peer_lost", "gone"));
    let events = events(&out);
    let response = &events[2]["response"];
    assert_eq!(
        (&events[2]["type"], &response["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    assert_eq!(
        response["error"],
        json!({"code": "peer_lost", "message": "gone"})
    );
}

#[test]
fn a_whole_response_has_its_items() {
    let whole = Whole {
        text: "a".into(),
        calls: vec![call()],
        ending: ending(FinishReason::Stop),
        scores: vec![],
    };
    let value = ResponseReply::new(json!({}), false).whole(&info(), &[whole], USAGE);
    assert_eq!(
        (&value["status"], &value["object"]),
        (&json!("completed"), &json!("response"))
    );
    assert_eq!(value["output"][0]["content"][0]["text"], "a");
    let kinds = [&value["output"][0]["type"], &value["output"][1]["type"]];
    assert_eq!(kinds, ["message", "function_call"]);
}
