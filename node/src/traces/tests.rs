use super::*;
use exo_protocol::{FinishReason, Shard};

fn stage(node: &str, start: u32, end: u32) -> Stage {
    let shard = Shard {
        model: "m".into(),
        start,
        end,
        layers: 8,
    };
    Stage {
        node: node.into(),
        shard,
    }
}

fn accepted(request: &str) -> Event {
    Event::Accepted {
        request: request.into(),
        ring: vec![stage("a", 0, 3), stage("b", 4, 7)],
    }
}

fn timed(stage: u32, position: u32, positions: u32, micros: u64) -> Event {
    Event::StepTimed {
        request: "r".into(),
        stage,
        node: "a".into(),
        position,
        positions,
        wait: Duration::from_micros(1),
        compute: Duration::from_micros(micros),
        write: Duration::from_micros(10),
        rtt: Duration::from_micros(200),
    }
}

fn begun() -> Traces {
    let traces = Traces::default();
    traces.begin(&"r".into(), "mine", "m");
    traces.hear(&accepted("r"));
    traces
}

#[test]
fn steps_of_a_token_are_summed_over_the_stages() {
    let traces = begun();
    traces.hear(&timed(0, 0, 5, 5000));
    traces.hear(&timed(1, 0, 5, 7000));
    for position in 5..15 {
        traces.hear(&timed(1, position, 1, 2000));
        traces.hear(&timed(0, position, 1, 1000));
    }
    // A round of which only one stage told has no sum.
    traces.hear(&timed(0, 15, 1, 9000));
    // Nobody has this place.
    traces.hear(&timed(2, 15, 1, 9000));
    let value = traces.json("mine").unwrap();
    assert_eq!(traces.json("r"), Some(value.clone()));
    let first = &value["stages"][0];
    assert_eq!(
        (first["node_id"].as_str(), first["steps"].as_u64()),
        (Some("a"), Some(11))
    );
    assert_eq!(
        first["compute_ms"],
        json!({"count": 11, "p50": 1.0, "p99": 9.0})
    );
    assert_eq!(first["wire_ms"]["p50"], 0.1);
    assert_eq!(first["prompt"]["positions"], 5);
    assert_eq!(value["stages"][1]["prompt"]["compute_ms"], 7.0);
    let sum = 1.0 + 2.0 + 2.0 * (0.001 + 0.01 + 0.1);
    assert_eq!(
        value["sum_ms"],
        json!({"count": 10, "p50": sum, "p99": sum})
    );
}

#[test]
fn tokens_are_measured_when_they_come() {
    let traces = begun();
    for index in 0..3 {
        traces.hear(&Event::Token {
            request: "r".into(),
            index,
            token: 7,
            scores: None,
        });
    }
    assert_eq!(traces.json("r").unwrap()["state"], "running");
    traces.hear(&Event::Finished {
        request: "r".into(),
        reason: FinishReason::Stop,
        tokens: 3,
    });
    let value = traces.json("r").unwrap();
    assert_eq!(
        (&value["tokens"], &value["state"]),
        (&json!(3), &json!("finished"))
    );
    assert_eq!(value["inter_token_ms"]["count"], 2);
    assert!(value["first_token_ms"].is_number());
}

#[test]
fn another_ring_begins_anew() {
    let traces = begun();
    traces.hear(&timed(0, 5, 1, 1000));
    traces.hear(&Event::Recovering {
        request: "r".into(),
        reason: "b is gone".into(),
        epoch: 1,
        ring: vec![stage("a", 0, 7)],
    });
    let value = traces.json("r").unwrap();
    assert_eq!(value["recoveries"], 1);
    assert_eq!(value["stages"].as_array().unwrap().len(), 1);
    assert_eq!(value["stages"][0]["steps"], 0);
}

#[test]
fn only_so_much_is_kept() {
    let traces = begun();
    for position in 1..=POSITIONS as u32 + 10 {
        traces.hear(&timed(0, position, 1, 1));
    }
    assert_eq!(traces.json("r").unwrap()["stages"][0]["steps"], POSITIONS);
    for number in 0..KEPT {
        traces.begin(&format!("n{number}").as_str().into(), "x", "m");
    }
    assert_eq!(traces.json("r"), None);
    assert_eq!(
        traces.json("x").unwrap()["request_id"],
        format!("n{}", KEPT - 1)
    );
    // Nobody asked for this one.
    traces.hear(&accepted("other"));
    assert_eq!(traces.json("other"), None);
}
