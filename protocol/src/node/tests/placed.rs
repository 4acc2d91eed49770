//! Rings by prediction, rings that a person chose, and what is told of both.

use super::net::{Net, counting};
use crate::config::Strategy;
use crate::dummy;
use crate::node::*;
use crate::topology::{LinkMetrics, ModelCost, Pin, Speed};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

const MIB: u64 = 1 << 20;

/// Eight layers of 100 MiB and two ends of 10 MiB; KV caches of 1 MiB for 1024 positions.
fn cost() -> ModelCost {
    ModelCost {
        layers: vec![100 * MIB; 8],
        used: 0,
        embedding: 10 * MIB,
        head: 10 * MIB,
        tied: false,
        kv: 1024,
        hidden: 1024,
    }
}

fn question() -> Question {
    Question {
        model: dummy::MODEL.into(),
        layers: dummy::LAYERS,
        bytes: 820 * MIB,
        cost: cost(),
        positions: 1024,
    }
}

/// Nodes that place by prediction, each of the given speed in MiB per second.
fn quick(memories: &[i64], speeds: &[u64]) -> Net {
    let mut net = Net::mesh(memories);
    for (host, speed) in net.hosts.iter_mut().zip(speeds) {
        host.node.config.placement = Strategy::Auto;
        host.node.config.capabilities.speed = Some(Speed {
            decode: speed * MIB,
            prefill: speed * MIB * 20,
        });
    }
    net.advance(Duration::from_secs(10));
    net
}

/// Two such nodes, so far apart, when they have known each other for as long as a dozen round trips.
fn just_met(way: Duration) -> Net {
    let mut net = Net::mesh(&[4000, 4000]);
    for address in ["host:1", "host:2"] {
        net.delays.insert(address.into(), way);
    }
    for host in &mut net.hosts {
        host.node.config.placement = Strategy::Auto;
        host.node.config.capabilities.speed = Some(Speed {
            decode: 1000 * MIB,
            prefill: 20_000 * MIB,
        });
    }
    net.advance(way * 24);
    net
}

/// All ways of a node's view take so long.
fn ways(net: &mut Net, index: usize, rtt_us: u64) {
    let topology = &mut net.hosts[index].node.topology;
    let nodes: Vec<_> = topology.nodes.keys().cloned().collect();
    for from in &nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            let metrics = LinkMetrics {
                rtt_us: Some(rtt_us),
                loaded_us: None,
                goodput: Some(100 * MIB),
            };
            topology.measure(from.clone(), to.clone(), metrics);
        }
    }
}

fn submit(net: &mut Net, request: &str) {
    let question = question();
    let submit = Submit {
        model: question.model,
        layers: question.layers,
        bytes: question.bytes,
        cost: question.cost,
        max_tokens: 1023,
        ..counting(request)
    };
    net.input(0, Input::Command(Command::Submit(submit)));
}

fn told(ring: &[Stage]) -> Vec<String> {
    let stage = |stage: &Stage| format!("{} {:?}", stage.node, stage.shard.range());
    ring.iter().map(stage).collect()
}

/// The ring of the newest request.
fn ring(net: &Net) -> Vec<String> {
    let accepted = |event: &Event| match event {
        Event::Accepted { ring, .. } | Event::Recovering { ring, .. } => Some(told(ring)),
        _ => None,
    };
    let mut events = net.hosts[0].events.iter().rev();
    events.find_map(accepted).expect("a ring")
}

fn placement(net: &Net) -> Placement {
    net.hosts[0].node.placement(&question()).expect("a ring")
}

#[test]
fn what_was_measured_reaches_every_node() {
    let net = quick(&[4000, 4000], &[1000, 500]);
    for host in &net.hosts {
        let speed = host.node.topology.nodes["n1"].speed;
        assert_eq!(speed.map(|speed| speed.decode), Some(500 * MIB));
        let (a, b) = ("n0".into(), "n1".into());
        for (from, to) in [(&a, &b), (&b, &a)] {
            // Time stands still while messages travel here.
            let link = host.node.topology.link(from, to);
            assert_eq!(link.rtt_us, Some(1));
            assert!(
                link.goodput.is_some(),
                "nothing large has gone, so it was tried"
            );
        }
    }
}

#[test]
fn the_first_model_is_placed_by_measured_ways() {
    // With 2 ms, which is what a way counts as that nobody measured, both would take part.
    for (way, ring) in [(1, vec!["n0 0..4", "n1 4..8"]), (50, vec!["n0 0..8"])] {
        let way = Duration::from_millis(way);
        let mut net = just_met(way);
        for host in &net.hosts {
            assert!(host.node.status().is_measured(), "{way:?}");
        }
        let placed = placement(&net);
        assert_eq!(told(&placed.ring), ring);
        let [link] = &placed.links[..] else {
            panic!("{:?}", placed.links)
        };
        assert_eq!(link.nodes, ["n0".into(), "n1".into()]);
        assert_eq!((link.rtt(), link.is_measured()), (Some(way * 2), true));
        submit(&mut net, "r");
        net.advance(Duration::from_secs(5));
        assert_eq!(self::ring(&net), ring);
        assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        // What a hop takes is known once steps went: here there is nobody to be woken up.
        let loaded = placement(&net).links.iter().find_map(LinkShare::loaded);
        assert_eq!(loaded, (ring.len() > 1).then_some(way * 2));
    }
}

#[test]
fn the_slow_and_the_far_are_left_out() {
    let mut net = quick(&[4000, 4000, 4000], &[1000, 1000, 10]);
    ways(&mut net, 0, 100);
    let near = placement(&net);
    assert_eq!(
        (near.by, told(&near.ring)),
        (By::Auto, vec!["n0 0..4".into(), "n1 4..8".into()])
    );
    let slow = near.nodes.iter().find(|share| *share.node == *"n2");
    let slow = slow.expect("it is told of").part;
    assert!(
        matches!(slow, Part::Slower(with) if Some(with) > near.prediction),
        "{slow}"
    );
    ways(&mut net, 0, 400_000);
    let far = placement(&net);
    assert_eq!(told(&far.ring), ["n0 0..8"]);
    assert!(far.exact && far.other.is_some());
    submit(&mut net, "r");
    assert_eq!(ring(&net), ["n0 0..8"]);
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

#[test]
fn a_ring_stays_until_another_is_better_by_more_than_a_tenth() {
    let mut net = quick(&[4000, 4000], &[1000, 1000]);
    ways(&mut net, 0, 100);
    submit(&mut net, "a");
    assert_eq!(ring(&net), ["n0 0..4", "n1 4..8"]);
    let speed = |net: &mut Net, decode: u64| {
        let node = net.hosts[0]
            .node
            .topology
            .nodes
            .get_mut("n1")
            .expect("it is up");
        node.speed = Some(Speed {
            decode: decode * MIB,
            prefill: decode * MIB * 20,
        });
    };
    // A little slower: it would have fewer layers, but has these.
    speed(&mut net, 900);
    assert_eq!(placement(&net).by, By::Kept);
    submit(&mut net, "b");
    assert_eq!(ring(&net), ["n0 0..4", "n1 4..8"]);
    speed(&mut net, 100);
    assert_eq!(placement(&net).by, By::Auto);
    submit(&mut net, "c");
    assert_eq!(ring(&net), ["n0 0..8"]);
    net.at_rest();
}

#[test]
fn no_node_gets_more_than_it_can_hold() {
    // Budgets of 469, 375 and 93 MiB; a layer takes 101, activations 9, an end 10.
    let mut net = quick(&[500, 400, 100], &[1000, 1000, 1000]);
    ways(&mut net, 0, 100);
    let error = net.hosts[0]
        .node
        .placement(&question())
        .expect_err("too little");
    let Rejection::Memory { needed, left, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*needed, *left), (837, 937));
    let text = error.to_string();
    assert!(
        text.contains("n0 has 468 MiB, which is 4 of 8 layers, n1 has 375 MiB, which is 3 of 8")
            && text.contains("n2 has 93 MiB, which is 0 of 8 layers"),
        "{text}"
    );
    assert!(!text.contains("no node has"), "{text}");
    submit(&mut net, "r");
    assert_eq!(net.failures(0), [text]);

    // Together they have enough, and nobody has enough for the head.
    let mut head = question();
    head.cost.head = 400 * MIB;
    let error = net.hosts[0].node.placement(&head).expect_err("too little");
    let text = error.to_string();
    assert!(
        text.contains("; the last layer, with the head, needs 510 MiB, which no node has; add"),
        "{text}"
    );
    assert!(!text.contains("the first layer"), "{text}");

    let mut net = quick(&[500, 500, 100], &[1000, 1000, 1000]);
    ways(&mut net, 0, 100);
    let placed = placement(&net);
    assert_eq!(told(&placed.ring), ["n0 0..4", "n1 4..8"]);
    assert_eq!(placed.nodes[2].part, Part::Small(101 * MIB + 9 * MIB));
}

#[test]
fn a_lost_stage_is_placed_by_prediction_too() {
    let mut net = quick(&[4000, 4000, 900], &[1000, 1000, 900]);
    ways(&mut net, 0, 100);
    net.hosts[1].hung = true;
    submit(&mut net, "r");
    assert!(ring(&net).iter().any(|stage| stage.starts_with("n1")));
    net.kill(1);
    net.advance(Duration::from_secs(2));
    assert!(
        ring(&net).iter().all(|stage| !stage.starts_with("n1")),
        "{:?}",
        ring(&net)
    );
    assert_eq!(net.tokens(0), [2, 3, 4, 5, 6, 7, 8, 9, 10]);
    net.at_rest();
}

#[test]
fn unknown_costs_are_placed_by_memory() {
    let mut net = quick(&[4000, 4000], &[1000, 1]);
    ways(&mut net, 0, 400_000);
    net.submit(0, "r", 100);
    assert_eq!(ring(&net), ["n1 0..4", "n0 4..8"]);
    let mut question = question();
    question.cost = ModelCost::default();
    let placed = net.hosts[0].node.placement(&question).expect("a ring");
    assert_eq!((placed.by, placed.prediction), (By::Memory, None));
}

#[test]
fn by_memory_the_quickest_ring_is_told_too() {
    let mut net = quick(&[4000, 4000], &[1000, 1]);
    net.hosts[0].node.config.placement = Strategy::Memory;
    let placed = placement(&net);
    assert_eq!(
        (placed.by, told(&placed.ring)),
        (By::Memory, vec!["n1 0..4".into(), "n0 4..8".into()])
    );
    let (quickest, prediction) = placed.other.expect("another ring is quicker");
    assert_eq!(told(&quickest), ["n0 0..8"]);
    assert!(Some(prediction) < placed.prediction);
}

#[test]
fn who_runs_a_node_may_choose_the_layers() {
    let pins = |of: &[(&str, u32, u32)]| {
        let pin = |&(node, first, last): &(&str, u32, u32)| Pin {
            node: node.into(),
            first,
            last,
        };
        of.iter().map(pin).collect::<Vec<_>>()
    };
    let mut net = quick(&[4000, 4000, 200], &[1000, 1000, 1000]);
    net.hosts[0].node.config.pins = pins(&[("n2", 1, 1), ("n1", 0, 0), ("n0", 2, 7)]);
    let placed = placement(&net);
    assert_eq!(placed.by, By::Pins);
    assert_eq!(told(&placed.ring), ["n1 0..1", "n2 1..2", "n0 2..8"]);
    assert!(placed.prediction.is_some() && placed.other.is_some());
    submit(&mut net, "r");
    assert_eq!(ring(&net), ["n1 0..1", "n2 1..2", "n0 2..8"]);
    assert_eq!(net.tokens(0).len(), 9);
    for (chosen, error) in [
        (
            pins(&[("n0", 0, 3), ("n3", 4, 7)]),
            "n3 is not there; the nodes are n0, n1, n2",
        ),
        (pins(&[("n0", 0, 3)]), "nobody has layers 4-7"),
        (
            pins(&[("n0", 0, 4), ("n2", 5, 7)]),
            "layers 5-7 need 322 MiB (310 of weights, 3 of KV caches, 9 of activations), n2 has 187 \
             MiB for them",
        ),
    ] {
        net.hosts[0].node.config.pins = chosen;
        submit(&mut net, "s");
        let told = net.failures(0).pop().expect("a failure");
        let expected =
            format!("the layers that nodes were given do not do for this model: {error}");
        assert_eq!(told, expected);
    }
    net.at_rest();
}
