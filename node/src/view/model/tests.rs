use super::*;
use exo_protocol::Shard;
use exo_protocol::wire::{Download, DownloadState};

fn node(name: &str, memory: i64) -> NodeFacts {
    NodeFacts {
        name: name.to_owned(),
        up: true,
        memory,
        ..NodeFacts::default()
    }
}

fn stage(node: &str, model: &str, first: u32, last: u32) -> StageFacts {
    StageFacts {
        node: node.to_owned(),
        model: model.to_owned(),
        first,
        last,
        layers: 8,
    }
}

fn ring(model: &str, nodes: &[&str]) -> RingFacts {
    let stages = nodes.iter().zip(0..);
    let stages = stages.map(|(node, index)| stage(node, model, 2 * index, 2 * index + 1));
    RingFacts {
        model: model.to_owned(),
        stages: stages.collect(),
    }
}

fn request(id: &str, ring: RingFacts, tokens: u32) -> RequestFacts {
    RequestFacts {
        id: id.to_owned(),
        origin: true,
        ring,
        tokens,
        ..RequestFacts::default()
    }
}

fn facts() -> Facts {
    Facts {
        node: "b".to_owned(),
        nodes: vec![node("a", 1024), node("b", 512), node("c", 4096)],
        ..Facts::default()
    }
}

fn names(view: &View) -> Vec<(&str, Place, Mark)> {
    let rows = view.nodes.iter();
    rows.map(|row| (&*row.name, row.place, row.mark)).collect()
}

#[test]
fn the_ring_comes_in_order_and_stays_when_its_request_is_over() {
    let mut model = Model::default();
    let now = Instant::now();
    let mut facts = facts();
    let view = model.look(now, &facts);
    assert_eq!(view.title, "b, 3 nodes");
    let outside = |name, mark| (name, Place::Outside, mark);
    let idle = ["c", "a", "b"].map(|name| outside(name, Mark::Idle));
    assert_eq!(names(&view), idle);
    facts.requests = vec![request("r", ring("m", &["b", "c"]), 0)];
    facts.computing = true;
    let view = model.look(now, &facts);
    let expected = [
        ("b", Place::First, Mark::Computing),
        ("c", Place::Last, Mark::Busy),
        ("a", Place::Outside, Mark::Idle),
    ];
    assert_eq!(names(&view), expected);
    assert_eq!(view.nodes[0].layers, "m 0-1 of 8");
    assert!(view.nodes[0].here && !view.nodes[1].here);
    (facts.requests, facts.computing) = (Vec::new(), false);
    let view = model.look(now, &facts);
    assert_eq!(view.nodes[1].layers, "m 2-3 of 8");
    assert!(view.nodes.iter().all(|row| row.mark == Mark::Idle));
}

#[test]
fn a_stage_whose_node_is_gone_is_shown_so() {
    let mut model = Model::default();
    let mut facts = facts();
    facts.requests = vec![request("r", ring("m", &["x", "b", "c"]), 0)];
    facts.nodes[2].up = false;
    let view = model.look(Instant::now(), &facts);
    let expected = [
        ("x", Place::First, Mark::Down),
        ("b", Place::Between, Mark::Busy),
        ("c", Place::Last, Mark::Down),
        ("a", Place::Outside, Mark::Idle),
    ];
    assert_eq!(names(&view), expected);
    assert_eq!(view.title, "b, 2 nodes");
}

#[test]
fn layers_of_several_models_stand_together_the_latest_first() {
    let mut model = Model::default();
    let now = Instant::now();
    let mut facts = facts();
    facts.rings = vec![ring("m", &["a", "b"])];
    model.look(now, &facts);
    facts.rings.push(ring("n", &["b"]));
    facts.shards = vec![stage("b", "n", 4, 7), stage("b", "old", 0, 7)];
    facts.nodes[1].leaving = true;
    let view = model.look(now, &facts);
    assert_eq!(names(&view)[0], ("b", Place::Alone, Mark::Idle));
    let layers = "leaving, n 0-1 of 8, m 2-3 of 8, old 0-7 of 8";
    assert_eq!(view.nodes[0].layers, layers);
}

#[test]
fn rings_are_remembered_up_to_a_limit() {
    let mut model = Model::default();
    let mut facts = facts();
    facts.rings = (0..40)
        .map(|index| ring(&format!("m{index}"), &["a"]))
        .collect();
    let view = model.look(Instant::now(), &facts);
    assert_eq!(model.rings.len(), RINGS);
    assert!(view.nodes[0].layers.starts_with("m39 "));
}

#[test]
fn rates_are_of_the_last_seconds() {
    let mut model = Model::default();
    let start = Instant::now();
    let mut facts = facts();
    let mut far = |model: &mut Model, seconds: u64, tokens| {
        facts.requests = vec![request("r", ring("m", &["a"]), tokens)];
        let view = model.look(start + Duration::from_secs(seconds), &facts);
        view.tasks[0].how_far.clone()
    };
    assert_eq!(far(&mut model, 0, 0), "waiting");
    assert_eq!(far(&mut model, 1, 1), "1 token, 1.0 tokens/s");
    assert_eq!(far(&mut model, 2, 11), "11 tokens, 5.5 tokens/s");
    assert_eq!(far(&mut model, 3, 21), "21 tokens, 10.0 tokens/s");
    assert_eq!(far(&mut model, 60, 21), "21 tokens");
    facts.requests.clear();
    model.look(start, &facts);
    assert!(model.progress.is_empty());
}

#[test]
fn a_stage_that_hears_of_no_tokens_counts_positions() {
    let mut model = Model::default();
    let start = Instant::now();
    let mut facts = facts();
    for (seconds, position, words) in [
        (0, 16, "16 positions"),
        (1, 26, "26 positions, 10.0 tokens/s"),
    ] {
        facts.requests = vec![RequestFacts {
            id: "r".to_owned(),
            epoch: 1,
            ring: ring("m", &["a", "b"]),
            position,
            ..RequestFacts::default()
        }];
        let view = model.look(start + Duration::from_secs(seconds), &facts);
        assert_eq!(view.tasks[0].what, "m for a peer, ring 2");
        assert_eq!(view.tasks[0].how_far, words);
    }
}

#[test]
fn loads_have_a_part_that_is_done() {
    let mut model = Model::default();
    let idle = facts();
    let mut facts = facts();
    facts.loads = vec![
        ("m layers 0-3 of 8".to_owned(), 3 << 20, 12 << 20),
        ("n layers 0-3 of 8".to_owned(), 0, 0),
    ];
    let tasks = model.look(Instant::now(), &facts).tasks;
    assert_eq!(tasks[0].what, "loading m layers 0-3 of 8");
    assert_eq!(tasks[0].how_far, "3 of 12 MiB");
    assert_eq!((tasks[0].done, tasks[1].done), (Some(250), Some(0)));
    assert!(Model::busy(&facts) && !Model::busy(&idle));
}

#[test]
fn downloads_of_the_whole_ring_are_under_way() {
    let mut model = Model::default();
    let mut facts = facts();
    let download = |layers, done| Download {
        shard: Shard {
            model: "me/tiny".into(),
            start: 0,
            end: 3,
            layers,
        },
        state: DownloadState::Coming,
        done,
        total: 4_000_000,
        speed: 100_000,
    };
    facts.downloads = vec![
        ("b".to_owned(), download(0, 1_000_000)),
        ("a\x1b[2J\n".to_owned(), download(8, u64::MAX)),
    ];
    let tasks = model.look(Instant::now(), &facts).tasks;
    assert_eq!(tasks[0].what, "downloading me/tiny");
    let far = "1.0 MB of 4.0 MB, 100 kB/s, 30 s left";
    assert_eq!((&*tasks[0].how_far, tasks[0].done), (far, Some(250)));
    assert_eq!(
        tasks[1].what,
        "downloading me/tiny layers 0-3 of 8 on a[2J "
    );
    assert_eq!(tasks[1].done, Some(1000));
    assert!(Model::busy(&facts));
}

#[test]
fn a_round_trip_that_jitters_changes_nothing() {
    let mut model = Model::default();
    let mut facts = facts();
    let mut shown = |micros| {
        facts.nodes[0].rtt = Some(Duration::from_micros(micros));
        let view = model.look(Instant::now(), &facts);
        view.nodes[1].rtt.clone()
    };
    assert_eq!(shown(100), "0.10 ms");
    assert_eq!(shown(120), "0.10 ms");
    assert_eq!(shown(85), "0.10 ms");
    assert_eq!(shown(130), "0.13 ms");
    assert_eq!(shown(9_000), "9.0 ms");
    assert_eq!(shown(12_345), "12 ms");
    assert_eq!(shown(0), "<0.01 ms");
}

#[test]
fn numbers_are_as_people_read_them() {
    assert_eq!(memory(-1), "");
    assert_eq!(memory(512), "512 MiB");
    assert_eq!(memory(24_105), "23.5 GiB");
    assert_eq!(bandwidth(125_000), "1.0 Mbit/s");
    assert_eq!(bandwidth(11_750_000), "94 Mbit/s");
    assert_eq!(bandwidth(1_250_000_000), "10.0 Gbit/s");
}

#[test]
fn names_do_not_drive_the_terminal() {
    let mut model = Model::default();
    let mut facts = facts();
    facts.nodes.push(node("x\x1b[2J\n\ty", 9000));
    let view = model.look(Instant::now(), &facts);
    assert_eq!(view.nodes[0].name, "x[2J  y");
}
