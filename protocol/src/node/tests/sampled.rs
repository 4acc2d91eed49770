//! Requests that want more than a token: scores, penalties, grammars.

use super::net::{Net, counting};
use crate::dummy;
use crate::engine::{Sampling, Scores, Shaping};
use crate::node::*;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

fn submit(net: &mut Net, index: usize, request: &str, sampling: Sampling) {
    let submit = Submit {
        sampling,
        ..counting(request)
    };
    net.input(index, Input::Command(Command::Submit(submit)));
}

fn scored() -> Sampling {
    Sampling {
        scores: Some(2),
        ..Sampling::default()
    }
}

/// What was told with each token at a node.
fn scores(net: &Net, index: usize) -> Vec<(u32, Option<Scores>)> {
    let told = |event: &Event| match event {
        Event::Token { token, scores, .. } => Some((*token, scores.as_deref().cloned())),
        _ => None,
    };
    net.hosts[index].events.iter().filter_map(told).collect()
}

/// What the dummy engine says of its answer.
fn expected() -> Vec<(u32, Option<Scores>)> {
    let certain = |token| Scores {
        chosen: 0.0,
        likeliest: vec![(token, 0.0)],
    };
    (2..=10)
        .map(|token| (token, Some(certain(token))))
        .collect()
}

#[test]
fn scores_come_with_every_token_wherever_it_was_chosen() {
    for count in 1..=3 {
        for origin in 0..count {
            let mut net = Net::settled(&vec![1000; count]);
            submit(&mut net, origin, "r", scored());
            assert_eq!(scores(&net, origin), expected(), "{origin} of {count}");
            net.at_rest();
            // Whoever does not ask is told nothing more.
            net.submit(origin, "plain", 100);
            let told = scores(&net, origin);
            assert!(
                told[9..].iter().all(|(_, scores)| scores.is_none()),
                "{told:?}"
            );
        }
    }
}

#[test]
fn scores_go_on_when_a_stage_is_lost() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[1].hung = true;
    submit(&mut net, 0, "r", scored());
    net.kill(1);
    assert_eq!(scores(&net, 0), expected());
    net.at_rest();
}

/// A node forgets what all others can do.
fn forget_features(net: &mut Net, index: usize) {
    for connection in net.hosts[index].node.connections.values_mut() {
        if let Some(extended) = &mut connection.extended {
            extended.samples = false;
        }
    }
}

#[test]
fn an_earlier_version_is_not_asked_for_what_it_does_not_know() {
    let shaped = |shaping: Shaping| Sampling {
        shaping: Some(Arc::new(shaping)),
        ..Sampling::default()
    };
    let penalty = shaped(Shaping {
        presence: 1.0,
        ..Shaping::default()
    });
    let grammar = shaped(Shaping {
        grammar: Some("{}".into()),
        ..Shaping::default()
    });
    for sampling in [scored(), penalty, grammar] {
        let mut net = Net::settled(&[1000, 1000]);
        let last = |net: &Net, index: usize| {
            net.hosts[index]
                .events
                .iter()
                .rev()
                .find_map(|event| match event {
                    Event::Accepted { ring, .. } => ring.last().map(|stage| stage.node.to_string()),
                    _ => None,
                })
        };
        net.submit(0, "which", 100);
        let last = last(&net, 0).expect("it was taken");
        let asked = if last == "n1" { 0 } else { 1 };
        forget_features(&mut net, asked);
        submit(&mut net, asked, "r", sampling.clone());
        let failures = net.failures(asked);
        let [told] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert!(
            told.starts_with(&last) && told.contains("earlier version"),
            "{told}"
        );
        // The last stage itself needs to tell nobody; the dummy engine then holds no grammar.
        let own = 1 - asked;
        forget_features(&mut net, own);
        submit(&mut net, own, "own", sampling.clone());
        let looks = sampling
            .shaping
            .as_ref()
            .is_some_and(|s| s.grammar.is_some());
        assert_eq!(
            net.failures(own).len(),
            usize::from(looks),
            "{:?}",
            net.failures(own)
        );
        // What asks for nothing of that is answered.
        net.submit(asked, "plain", 100);
        assert_eq!(net.failures(asked).len(), 1);
    }
}

#[test]
fn a_recovery_does_not_end_at_an_earlier_version() {
    // The ring is n0, n1, n2, and without n1 it ends at n2 as before.
    let mut net = Net::settled(&[3000, 2000, 1000]);
    net.hosts[1].hung = true;
    submit(&mut net, 0, "r", scored());
    forget_features(&mut net, 0);
    net.kill(1);
    let failures = net.failures(0);
    assert!(
        matches!(&failures[..], [told] if told.contains("earlier version")),
        "{failures:?}"
    );
    net.at_rest();
}

/// Tokens with which an answer begins, one of which would end it.
fn forced() -> Sampling {
    let shaping = Shaping {
        forced: vec![5, dummy::END_TOKEN, 7],
        ..Shaping::default()
    };
    Sampling {
        shaping: Some(Arc::new(shaping)),
        ..scored()
    }
}

#[test]
fn an_answer_begins_with_what_is_forced_wherever_it_is_chosen() {
    let told = |net: &Net, index: usize| -> Vec<u32> {
        let told = scores(net, index);
        assert!(told.iter().all(|(_, scores)| scores.is_some()));
        told.into_iter().map(|(token, _)| token).collect()
    };
    for count in 1..=3 {
        for origin in 0..count {
            let mut net = Net::settled(&vec![1000; count]);
            submit(&mut net, origin, "r", forced());
            assert_eq!(told(&net, origin), [5, dummy::END_TOKEN, 7, 8, 9, 10]);
            net.at_rest();
        }
    }
    // Also when a stage is lost, and when nothing follows.
    let mut net = Net::settled(&[1000, 1000, 1000]);
    net.hosts[1].hung = true;
    submit(&mut net, 0, "r", forced());
    net.kill(1);
    assert_eq!(told(&net, 0), [5, dummy::END_TOKEN, 7, 8, 9, 10]);
    net.at_rest();
    let mut net = Net::settled(&[1000, 1000]);
    let mut sampling = forced();
    sampling.shaping = sampling.shaping.map(|shaping| {
        let forced = vec![5, dummy::END_TOKEN];
        Arc::new(Shaping {
            forced,
            ..Shaping::clone(&shaping)
        })
    });
    let only = Submit {
        sampling,
        max_tokens: 2,
        ..counting("r")
    };
    net.input(0, Input::Command(Command::Submit(only)));
    assert_eq!(told(&net, 0), [5, dummy::END_TOKEN]);
    net.at_rest();
}
