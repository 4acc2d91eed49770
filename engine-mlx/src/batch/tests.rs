use super::*;
use exo_protocol::id::ModelId;
use exo_protocol::{DType, Tensor};

fn forward(request: &str, layers: u32, input: EngineInput) -> EngineCommand {
    EngineCommand::Forward {
        call: CallId(0),
        shard: Shard::new(ModelId::from("model"), 0..layers, 9).expect("a range of layers"),
        request: RequestId::from(request),
        position: 0,
        input,
        sampling: None,
    }
}

fn one(request: &str) -> EngineCommand {
    forward(request, 4, EngineInput::Tokens(vec![1]))
}

/// How many commands go together, group by group.
fn sizes(commands: Vec<EngineCommand>) -> Vec<usize> {
    groups(commands).iter().map(Vec::len).collect()
}

#[test]
fn steps_of_different_requests_go_together() {
    assert!(sizes(vec![]).is_empty());
    assert_eq!(sizes(vec![one("a"), one("b"), one("c")]), [3]);
    let data = vec![0; 8].into();
    let state = Tensor::new(DType::F32, vec![1, 1, 2], data).expect("8 bytes");
    let state = forward("b", 4, EngineInput::Hidden(state));
    assert_eq!(sizes(vec![one("a"), state]), [2]);
}

#[test]
fn what_differs_stays_alone() {
    assert_eq!(sizes(vec![one("a"), one("a")]), [1, 1]);
    let prompt = forward("b", 4, EngineInput::Tokens(vec![1, 2]));
    assert_eq!(sizes(vec![one("a"), prompt, one("c"), one("d")]), [1, 1, 2]);
    let other = forward("b", 5, EngineInput::Tokens(vec![1]));
    assert_eq!(sizes(vec![one("a"), other]), [1, 1]);
    let text = forward("b", 4, EngineInput::Text("a".into()));
    assert_eq!(sizes(vec![one("a"), text]), [1, 1]);
    let request = RequestId::from("c");
    let free = EngineCommand::Free {
        call: CallId(0),
        request,
    };
    assert_eq!(sizes(vec![one("a"), one("b"), free, one("c")]), [2, 1, 1]);
}
