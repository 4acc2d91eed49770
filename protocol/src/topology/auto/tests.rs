use super::*;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use proptest::prelude::*;

/// Nodes `n0`, `n1`, …: budget in bytes, decode and prefill speed.
fn members(of: &[(u64, u64, u64)]) -> Vec<Member> {
    let member = |(at, &(budget, decode, prefill))| Member {
        node: NodeId::from(format!("n{at}").as_str()),
        budget,
        speed: Speed { decode, prefill },
    };
    of.iter().enumerate().map(member).collect()
}

fn number(node: &NodeId) -> usize {
    node.trim_start_matches('n').parse().unwrap_or(usize::MAX)
}

const WORK: Workload = Workload {
    prompt: 8,
    piece: 2,
    tokens: 4,
    positions: 12,
};

fn cost(layers: usize) -> ModelCost {
    ModelCost {
        layers: vec![1000; layers],
        used: 0,
        embedding: 300,
        head: 500,
        tied: false,
        kv: 3,
        hidden: 2,
    }
}

/// The quickest ring by looking at all of them: all orders, all cuts.
fn brute_force(problem: &Problem) -> Option<Prediction> {
    fn go(
        problem: &Problem,
        ring: &mut Vec<(usize, u32)>,
        left: u32,
        best: &mut Option<Prediction>,
    ) {
        if left == 0 {
            if problem.holds(ring) {
                let prediction = problem.predict(ring).expect("a ring of members");
                *best = Some(best.map_or(prediction, |best| best.min(prediction)));
            }
            return;
        }
        for member in 0..problem.members().len() {
            if ring.iter().any(|(other, _)| *other == member) {
                continue;
            }
            for layers in 1..=left {
                ring.push((member, layers));
                go(problem, ring, left - layers, best);
                ring.pop();
            }
        }
    }
    let mut best = None;
    go(problem, &mut Vec::new(), problem.layers, &mut best);
    best
}

impl Problem {
    fn holds(&self, ring: &[(usize, u32)]) -> bool {
        let last = ring.len() - 1;
        let fits = |(at, &(member, layers)): (usize, &(usize, u32))| {
            layers <= self.most_layers(member, at == 0, at == last)
        };
        ring.iter().enumerate().all(fits)
    }
}

type Drawn = (Vec<(u64, u64, u64)>, Vec<(u64, u64)>, usize);

/// Up to four nodes with links between each pair and the origin, and some layers.
fn drawn() -> impl Strategy<Value = Drawn> {
    let node = (900_u64..9000, 100_u64..5000, 100_u64..50_000);
    (1_usize..=4).prop_flat_map(move |count| {
        let nodes = prop::collection::vec(node.clone(), count);
        let ends = count + 1;
        let link = (1_u64..3_000_000, 1_u64..2000);
        (nodes, prop::collection::vec(link, ends * ends), 1_usize..=6)
    })
}

fn problem(drawn: &Drawn, change: impl Fn(usize, usize, LinkMetrics) -> LinkMetrics) -> Problem {
    let (nodes, links, layers) = drawn;
    let ends = nodes.len() + 1;
    let link = |from: &NodeId, to: &NodeId| {
        let (from, to) = (number(from).min(ends - 1), number(to).min(ends - 1));
        let (rtt, goodput) = links[from * ends + to];
        let metrics = LinkMetrics {
            rtt_us: Some(rtt),
            goodput: Some(goodput),
            ..LinkMetrics::default()
        };
        change(from, to, metrics)
    };
    Problem::new(cost(*layers), members(nodes), &"origin".into(), WORK, link)
}

proptest! {
    #[test]
    fn the_quickest_ring_is_found(drawn in drawn()) {
        let problem = problem(&drawn, |_, _, metrics| metrics);
        let found = search(&problem);
        prop_assert_eq!(found.as_ref().map(|found| found.best.prediction.total),
            brute_force(&problem).map(|best| best.total));
        let Some(found) = found else { return Ok(()) };
        prop_assert!(found.exact);
        for choice in [Some(found.best), found.runner_up].into_iter().flatten() {
            let ring = choice.ring;
            prop_assert_eq!(ring.iter().map(|(_, layers)| layers).sum::<u32>(), problem.layers);
            prop_assert!(ring.iter().all(|(_, layers)| *layers > 0));
            prop_assert!(problem.fits(&ring), "beyond a budget: {:?}", ring);
        }
    }

    #[test]
    fn a_quicker_link_makes_nothing_slower(
        drawn in drawn(), from in 0_usize..5, to in 0_usize..5, quicker in 2_u64..100,
    ) {
        let before = search(&problem(&drawn, |_, _, metrics| metrics));
        let after = search(&problem(&drawn, |a, b, metrics| {
            if (a, b) != (from, to) {
                return metrics;
            }
            LinkMetrics {
                rtt_us: metrics.rtt_us.map(|rtt| (rtt / quicker).max(1)),
                goodput: metrics.goodput.map(|goodput| goodput * quicker),
                loaded_us: None,
            }
        }));
        let total = |found: Option<Found>| found.map(|found| found.best.prediction.total);
        prop_assert!(total(after) <= total(before));
    }

    #[test]
    fn many_nodes_are_no_reason_to_find_nothing(
        nodes in prop::collection::vec((2500_u64..4000, 100_u64..5000, 100_u64..50_000), 7..20),
    ) {
        let layers = 8;
        let problem = Problem::new(cost(layers), members(&nodes), &"n0".into(), WORK, |_, _| {
            LinkMetrics { rtt_us: Some(100), goodput: Some(1_000_000), loaded_us: None }
        });
        let found = search(&problem).expect("any eight of them hold it");
        prop_assert!(!found.exact);
        prop_assert!(problem.fits(&found.best.ring));
        prop_assert_eq!(found.best.ring.iter().map(|(_, layers)| layers).sum::<u32>(), 8);
        if nodes.len() < layers {
            return Ok(());
        }
        // No worse than a ring by budgets alone.
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|&at| core::cmp::Reverse(nodes[at].0));
        let plain: Vec<(usize, u32)> = order.into_iter().take(layers).map(|at| (at, 1)).collect();
        let plain = problem.predict(&plain).expect("members");
        prop_assert!(found.best.prediction.total <= plain.total);
    }
}

/// Whether there is a ring that holds the model: two nodes for its ends, and all others between them.
fn can_be_held(problem: &Problem) -> bool {
    let count = problem.members().len();
    let most = |at, first, last| u64::from(problem.most_layers(at, first, last));
    let layers = u64::from(problem.layers);
    let inner: u64 = (0..count).map(|at| most(at, false, false)).sum();
    let with_ends = |first: usize, last: usize| {
        let ends = [most(first, true, false), most(last, false, true)];
        let own = most(first, false, false) + most(last, false, false);
        first != last && !ends.contains(&0) && inner - own + ends.iter().sum::<u64>() >= layers
    };
    (0..count).any(|first| {
        most(first, true, true) >= layers || (0..count).any(|last| with_ends(first, last))
    })
}

proptest! {
    #[test]
    fn what_some_order_of_many_nodes_holds_is_not_refused(
        nodes in prop::collection::vec((500_u64..3500, 100_u64..5000, 100_u64..50_000), 7..20),
        large in 0_u64..15_000,
        ends in (0_u64..2500, 0_u64..2500),
    ) {
        let mut nodes = nodes;
        // One that may hold it alone, and is the slowest.
        nodes[3] = (large.max(500), 1, 1);
        let cost = ModelCost { embedding: ends.0, head: ends.1, ..cost(10) };
        let problem = Problem::new(cost, members(&nodes), &"n0".into(), WORK, |_, _| {
            LinkMetrics { rtt_us: Some(100), goodput: Some(1_000_000), ..LinkMetrics::default() }
        });
        let found = search(&problem);
        prop_assert_eq!(found.is_some(), can_be_held(&problem));
        prop_assert!(found.is_none_or(|found| problem.fits(&found.best.ring)));
    }
}

#[test]
fn small_nodes_are_no_reason_to_refuse_a_model_with_large_ends() {
    // The small ones have room for a layer, and the ends of the model need two large ones.
    let nodes = [3000, 3000, 1200, 1200, 1200, 1200, 1200].map(|budget| (budget, 1000, 1000));
    let ends = ModelCost {
        embedding: 1800,
        head: 1800,
        ..cost(7)
    };
    let link = |_: &NodeId, _: &NodeId| LinkMetrics::default();
    let problem = Problem::new(ends, members(&nodes), &"n0".into(), WORK, link);
    let found = search(&problem).expect("one layer each");
    let ring = found.best.ring;
    assert!(problem.fits(&ring), "{ring:?}");
    assert_eq!(ring.len(), 7);
}

#[test]
fn a_node_that_would_slow_things_down_is_left_out() {
    let quick = (1 << 40, 1 << 30, 1 << 36);
    let problem = |rtt| {
        let nodes = members(&[quick, quick]);
        let link = move |_: &NodeId, _: &NodeId| LinkMetrics {
            rtt_us: Some(rtt),
            goodput: Some(1 << 30),
            loaded_us: None,
        };
        let cost = ModelCost {
            layers: vec![1 << 20; 16],
            hidden: 64,
            ..ModelCost::default()
        };
        Problem::new(cost, nodes, &"n1".into(), Workload::default(), link)
    };
    let far = search(&problem(10_000)).expect("either holds it");
    assert_eq!(
        far.best.ring,
        [(1, 16)],
        "the one that asks has no way to go"
    );
    assert!(far.with[0] > Some(far.best.prediction));
    // Over a quick link two read the prompt at the same time.
    let near = search(&problem(1)).expect("either holds it");
    assert_eq!(near.best.ring.len(), 2);
    let layers: Vec<u32> = near.best.ring.iter().map(|(_, layers)| *layers).collect();
    assert_eq!(layers, [8, 8]);
}

#[test]
fn what_is_predicted_adds_up() {
    let nodes = members(&[
        (1 << 20, 1_000_000, 4_000_000),
        (1 << 20, 500_000, 1_000_000),
    ]);
    let link = |_: &NodeId, _: &NodeId| LinkMetrics {
        rtt_us: Some(2000),
        goodput: Some(1_000_000),
        loaded_us: None,
    };
    let problem = Problem::new(cost(4), nodes, &"n0".into(), WORK, link);
    let micros = Duration::from_micros;
    // A layer takes n0 1000 us for a position and 500 us for a piece of two, n1 2000 us each.
    assert_eq!(
        problem.stage_times(0, 3, false),
        (micros(3000), micros(1500))
    );
    let ring = problem.predict(&[(0, 3), (1, 1)]).expect("members");
    // Stages, the head, the hop with 8 bytes, and the way back.
    assert_eq!(ring.token, micros(3000 + 2000 + 1000 + 1008 + 1000));
    // Stages, the hop with 16 bytes, three more pieces at the slowest, the head, the way back.
    assert_eq!(
        ring.first,
        micros(1500 + 2000 + 1016 + 3 * 2000 + 1000 + 1000)
    );
    assert_eq!(ring.total, ring.first + ring.token * 3);
    assert_eq!(problem.predict(&[]), None);
    assert_eq!(problem.predict(&[(5, 4)]), None);
    let rate = format!("{:.1}", ring.rate());
    assert_eq!(rate, String::from("124.9"));
}

#[test]
fn memory_decides_who_can_take_what() {
    let link = |_: &NodeId, _: &NodeId| LinkMetrics::default();
    // A layer and its cache need 1036 bytes, a piece 144, the embedding 300, the head 500.
    let nodes = members(&[(144 + 3 * 1036 + 500, 9, 9), (1000, 9, 9)]);
    let problem = Problem::new(cost(3), nodes, &"n0".into(), WORK, link);
    let most = |first, last| problem.most_layers(0, first, last);
    assert_eq!([most(false, false), most(true, false)], [3, 3]);
    assert_eq!([most(false, true), most(true, true)], [3, 2]);
    assert_eq!(problem.most_layers(1, false, false), 0);
    assert_eq!(search(&problem), None);
    assert!(!problem.fits(&[(0, 3)]));
    assert!(problem.fits(&[(0, 2)]));
}

#[test]
fn a_hop_takes_as_long_as_steps_showed() {
    let quick = (1 << 20, 1_000_000, 4_000_000);
    let token = |loaded_us: [Option<u64>; 3]| {
        // Between n0 and n1, n1 and n2, n0 and n2; the second of each told it.
        let link = move |from: &NodeId, to: &NodeId| LinkMetrics {
            rtt_us: Some(2000),
            loaded_us: match (number(from), number(to)) {
                (1, 0) => loaded_us[0],
                (2, 1) => loaded_us[1],
                (2, 0) => loaded_us[2],
                _ => None,
            },
            goodput: Some(1 << 40),
        };
        let nodes = members(&[quick; 3]);
        let problem = Problem::new(cost(3), nodes, &"n0".into(), WORK, link);
        let all = [(0, 1), (1, 1), (2, 1)];
        let token = problem.predict(&all).expect("members").token;
        (token.as_nanos() + 500) / 1000
    };
    let computed = 3 * 1000 + 500;
    assert_eq!(token([None; 3]), computed + 3000);
    assert_eq!(token([Some(2200), Some(2400), Some(3000)]), computed + 3800);
    // No step went over the third one: it takes as much longer as the others.
    assert_eq!(token([Some(2400), Some(2400), None]), computed + 3600);
    assert_eq!(
        token([Some(1), None, None]),
        computed + 3000,
        "never quicker than light"
    );
}

#[test]
fn experts_take_memory_and_only_those_that_are_used_take_time() {
    let link = |_: &NodeId, _: &NodeId| LinkMetrics::default();
    let nodes = || members(&[(1 << 20, 1_000_000, 4_000_000)]);
    let problem = |used| {
        let cost = ModelCost { used, ..cost(4) };
        Problem::new(cost, nodes(), &"n0".into(), WORK, link)
    };
    let times = |used| problem(used).stage_times(0, 4, false).0;
    assert_eq!(times(0), Duration::from_millis(4));
    assert_eq!(times(1000), Duration::from_millis(1));
    assert_eq!(
        times(u64::MAX),
        Duration::from_millis(4),
        "more there is not"
    );
    assert_eq!(
        problem(1000).stage_bytes(0..4),
        problem(0).stage_bytes(0..4)
    );
    let most = |used| problem(used).most_layers(0, true, true);
    assert_eq!(most(1000), most(0));
}
