use super::*;
use exo_protocol::FinishReason;
use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::{Engine, EngineCommand, EngineInput, Sampling};
use exo_protocol::id::CallId;
use exo_protocol::shard::Shard;

/// The value of a line that begins with these words.
fn value(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.parse().unwrap()
}

fn text(metrics: &Metrics) -> String {
    let mut out = String::new();
    TextEncoder::new()
        .encode_utf8(&metrics.registry.gather(), &mut out)
        .unwrap();
    out
}

#[test]
fn an_answer_leaves_its_times_and_tokens() {
    let metrics = Metrics::default();
    let request = RequestId::from("r");
    metrics.begins(&request, "m", (5, 1), "the client's");
    assert_eq!(metrics.id_of(&request).as_deref(), Some("the client's"));
    // The first one is of the prompt.
    for index in 0..4 {
        let request = request.clone();
        let token = 7;
        metrics.hear(&Event::Token {
            request,
            index,
            token,
            scores: None,
        });
    }
    metrics.hear(&Event::Finished {
        request: request.clone(),
        reason: FinishReason::Stop,
        tokens: 3,
    });
    metrics.forget(&request);
    // What comes late is nobody's.
    metrics.hear(&Event::Token {
        request: request.clone(),
        index: 3,
        token: 7,
        scores: None,
    });
    let text = text(&metrics);
    assert_eq!(value(&text, "exo_prompt_tokens_total{model=\"m\"}"), 5.0);
    assert_eq!(value(&text, "exo_generated_tokens_total{model=\"m\"}"), 3.0);
    let count = |name: &str| value(&text, &format!("{name}_count{{model=\"m\"}}"));
    assert_eq!(count("exo_time_to_first_token_seconds"), 1.0);
    assert_eq!(count("exo_inter_token_seconds"), 2.0);
    let ended = "exo_requests_ended_total{end=\"finished\"}";
    assert_eq!(value(&text, ended), 1.0);
    assert_eq!(metrics.id_of(&request), None);
}

#[test]
fn what_clients_leave_is_counted_too() {
    let metrics = Metrics::default();
    metrics.replied("/v1/models", 200, "");
    metrics.replied("/v1/models", 200, "");
    metrics.replied("/v1/chat/completions", 499, "m");
    let text = text(&metrics);
    let models = "exo_http_requests_total{model=\"\",route=\"/v1/models\",status=\"200\"}";
    assert_eq!(value(&text, models), 2.0);
    let left = "exo_http_requests_total{model=\"m\",route=\"/v1/chat/completions\",status=\"499\"}";
    assert_eq!(value(&text, left), 1.0);
    let name = "exo_http_requests_in_flight{route=\"/\"}";
    let under_way = metrics.under_way("/");
    assert_eq!(value(&self::text(&metrics), name), 1.0);
    drop(under_way);
    assert_eq!(value(&self::text(&metrics), name), 0.0);
}

#[test]
fn an_engine_is_measured_and_its_weights_are_known() {
    let metrics = Arc::new(Metrics::default());
    let mut engine = Timed::new(Box::new(DummyEngine::new()), Arc::clone(&metrics));
    let shard = Shard::new(dummy::MODEL.into(), 0..dummy::LAYERS, dummy::LAYERS).unwrap();
    let forward = |call, position, tokens: &[u32]| EngineCommand::Forward {
        call: CallId(call),
        shard: shard.clone(),
        request: "r".into(),
        position,
        input: EngineInput::Tokens(tokens.to_vec()),
        sampling: Some(Sampling::default()),
    };
    let load = EngineCommand::Load {
        call: CallId(1),
        shard: shard.clone(),
    };
    engine.execute(load, &mut |_| {});
    let mut told = Vec::new();
    let commands = vec![forward(2, 0, &[1, 2, 3]), forward(3, 3, &[4])];
    engine.execute_all(commands, &mut |event| told.push(event.call()));
    assert_eq!(told, [CallId(2), CallId(3)]);
    engine.execute(forward(4, 99, &[4]), &mut |_| {});
    let text = text(&metrics);
    let count = |phase: &str| {
        let labels = format!("{{model=\"dummy\",phase=\"{phase}\"}}");
        value(&text, &format!("exo_stage_compute_seconds_count{labels}"))
    };
    assert_eq!((count("prefill"), count("decode")), (1.0, 1.0));
    assert_eq!(value(&text, "exo_engine_failures_total"), 1.0);
}
