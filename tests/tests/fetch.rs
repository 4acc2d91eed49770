//! Models that come to a ring of real nodes: from a hub on this machine, and from each other.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops"
)]

#[path = "../../models/src/hub/tests/server.rs"]
#[expect(dead_code, reason = "not everything can go wrong here")]
mod server;

use exo_tests::families::tensors;
use exo_tests::process::ring::peer_config;
use exo_tests::process::{self, Member, PATIENCE, Place, Ring, free_ports};
use serde_json::{Value, json};
use server::{Fault, HubServer, On};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const REPO: &str = "me/stories";

fn hub() -> HubServer {
    let hub = HubServer::start();
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories");
    hub.put_folder(REPO, &stories);
    hub
}

/// The same model with each layer in a file of its own, and one for what is before and after.
fn hub_of_many_files() -> HubServer {
    const ONE: &str = "model.safetensors";
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories");
    let hub = HubServer::start();
    for beside in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        hub.put(REPO, beside, fs::read(stories.join(beside)).unwrap());
    }
    let mut files: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
    for (name, tensor) in tensors::read(&stories.join(ONE)) {
        let layer = name.strip_prefix("model.layers.");
        let layer = layer.and_then(|rest| rest.split('.').next());
        let file = format!("model-{}.safetensors", layer.unwrap_or("ends"));
        files.entry(file).or_default().insert(name, tensor);
    }
    let mut map = BTreeMap::new();
    for (file, tensors) in files {
        map.extend(tensors.keys().map(|name| (name.clone(), file.clone())));
        hub.put(REPO, &file, tensors::bytes(&tensors));
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    hub.put(REPO, "model.safetensors.index.json", index);
    hub
}

fn ring(hub: &HubServer, count: usize, flags: &[&str]) -> Ring {
    let ports = free_ports(2 * count);
    let place = |index: usize| Place {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: ports[index],
        api: ports[count + index],
        namespace: None,
    };
    let places: Vec<Place> = (0..count).map(place).collect();
    let addresses: Vec<SocketAddr> = places
        .iter()
        .map(|place| SocketAddr::new(place.host, place.port))
        .collect();
    let runtimes = ["smol", "std"];
    let members: Vec<Member> = (0..count)
        .map(|index| Member {
            runtime: runtimes[index % 2],
            memory: 4096,
            engine: Some("cpu"),
        })
        .collect();
    let flags = [&["--threads", "1"], flags].concat();
    Ring::found(&places, &members, &flags, |index, folder| {
        fs::write(folder.join("hub-endpoint"), hub.endpoint()).unwrap();
        let file = folder.join(format!("peers-{index}.json"));
        fs::write(&file, peer_config(&addresses, index)).unwrap();
        let file = file.to_string_lossy().into_owned();
        [
            "--discovery-module",
            "manual",
            "--discovery-config-path",
            &file,
        ]
        .map(str::to_owned)
        .into()
    })
}

fn ask(ring: &Ring, index: usize, model: &str) -> (u16, Value) {
    let question = json!({
        "model": model, "max_tokens": 12,
        "messages": [{"role": "user", "content": "Tell me a story about a fox."}],
    });
    let api = ring.nodes[index].api;
    let (status, body) = process::post(api, "/v1/chat/completions", &question).expect("a reply");
    (status, serde_json::from_str(&body).expect("JSON"))
}

fn text(answer: &Value) -> &Value {
    &answer["choices"][0]["message"]["content"]
}

/// Downloads the model on one node, and waits for its end.
fn download(ring: &Ring, index: usize) -> Value {
    let api = ring.nodes[index].api;
    let wanted = json!({"model": REPO});
    let (status, body) = process::post(api, "/v1/downloads", &wanted).expect("a reply");
    assert_eq!(status, 202, "{body}");
    let begun = Instant::now();
    loop {
        let (_, body) = process::get(api, "/v1/downloads").expect("a reply");
        let list: Value = serde_json::from_str(&body).expect("JSON");
        let item = list["downloads"][0].clone();
        if item["state"] != "downloading" {
            return item;
        }
        assert!(begun.elapsed() < PATIENCE, "{list}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The bodies of the weights that the hub was asked for, as ranges.
fn ranges(hub: &HubServer) -> Vec<Range<u64>> {
    let body = |line: &str| line.starts_with("GET /cdn/") && line.contains("model.safetensors");
    let asked = hub.asked().into_iter().filter(|asked| body(&asked.line));
    let number = |text: &str| text.parse::<u64>().ok();
    asked
        .map(|asked| {
            let range = asked.range.unwrap_or_else(|| "bytes=0-".to_owned());
            let (from, last) = range
                .strip_prefix("bytes=")
                .unwrap()
                .split_once('-')
                .unwrap();
            number(from).unwrap()..number(last).map_or(whole().len() as u64, |last| last + 1)
        })
        .collect()
}

/// How often bytes of the weights were asked of the hub.
fn bodies(hub: &HubServer) -> usize {
    ranges(hub).len()
}

/// The weights as they were published.
fn whole() -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/stories/model.safetensors");
    fs::read(file).unwrap()
}

/// What a node has of the weights, if not all: how many bytes its record says, each of which is that
/// of the model, and how many its file takes on the disk.
fn part(ring: &Ring, index: usize) -> (u64, u64) {
    let folder = format!("node-{}/hf/hub/models--me--stories", index + 1);
    let folder = ring.folder().join(folder);
    assert!(
        !folder
            .join("snapshots")
            .join(server::COMMIT)
            .join("model.safetensors")
            .exists()
    );
    let files = fs::read_dir(folder.join("exo-parts")).expect("parts");
    let paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    let with = |end: &str| {
        paths
            .iter()
            .find(|path| path.extension().is_some_and(|it| it == end))
    };
    let record = fs::read(with("json").expect("a record")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let (data, whole) = (fs::read(with("part").unwrap()).unwrap(), whole());
    let mut there = vec![false; whole.len()];
    for piece in record["pieces"].as_array().unwrap() {
        let end = |name: &str| piece[name].as_u64().unwrap() as usize;
        let range = end("from")..end("to");
        assert_eq!(data[range.clone()], whole[range.clone()], "{range:?}");
        there[range].fill(true);
    }
    let blocks = fs::metadata(with("part").unwrap()).unwrap().blocks();
    (
        there.iter().filter(|&&there| there).count() as u64,
        blocks * 512,
    )
}

/// Where a node has the model.
fn snapshot(ring: &Ring, index: usize) -> PathBuf {
    let snapshots = format!("node-{}/hf/hub/models--me--stories/snapshots", index + 1);
    ring.folder().join(snapshots).join(server::COMMIT)
}

/// Where a node has the weights.
fn weights(ring: &Ring, index: usize) -> PathBuf {
    fs::canonicalize(snapshot(ring, index).join("model.safetensors")).expect("weights")
}

/// The files of weights that a node has whole.
fn whole_files(ring: &Ring, index: usize) -> BTreeSet<String> {
    let entries = fs::read_dir(snapshot(ring, index)).expect("a snapshot");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".safetensors"))
        .collect()
}

#[test]
fn a_ring_fetches_a_model_that_it_is_asked_for_once() {
    let hub = hub();
    let ring = ring(&hub, 3, &[]);
    let (status, answer) = ask(&ring, 0, REPO);
    assert_eq!(status, 200, "{answer}");
    let (_, built_in) = ask(&ring, 0, "stories");
    assert_eq!(text(&answer), text(&built_in));
    // About one model left the hub: what more than one of them needs came from another.
    let all = whole().len() as u64;
    let left: u64 = ranges(&hub)
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    assert!((all..all + all / 8).contains(&left), "{left} of {all}");
    // Each has its own layers, and where they are; the first and the last share an embedding.
    let mut sum = 0;
    for index in 0..3 {
        let (there, on_disk) = part(&ring, index);
        assert!(there < all * 5 / 8, "node {index} has {there} of {all}");
        assert!(
            on_disk < there + all / 8,
            "node {index}: {on_disk} for {there}"
        );
        sum += there;
    }
    assert!((all..all + all / 4).contains(&sum), "{sum} of {all}");
    // It is the same model on the second question, and nothing more comes for it.
    let (_, again) = ask(&ring, 0, REPO);
    assert_eq!(text(&again), text(&answer));
    assert_eq!(bodies(&hub), 0);
}

#[test]
fn without_a_hub_the_ring_has_what_one_of_it_has() {
    let hub = hub();
    let ring = ring(&hub, 2, &[]);
    assert_eq!(download(&ring, 0)["state"], "done");
    drop(hub);
    let item = download(&ring, 1);
    assert_eq!(item["state"], "done", "{item}\n{}", ring.nodes[1].log());
    assert!(weights(&ring, 1).is_file());
}

#[test]
fn without_a_hub_the_ring_has_what_all_of_it_have_together() {
    let hub = hub_of_many_files();
    let ring = ring(&hub, 3, &[]);
    let (status, answer) = ask(&ring, 0, REPO);
    assert_eq!(status, 200, "{answer}");
    let [a, b, c] = [0, 1, 2].map(|index| whole_files(&ring, index));
    let all = &(&a | &b) | &c;
    assert_eq!(all.len(), 9, "{all:?}");
    assert!(&a | &b != all && &a | &c != all, "{a:?} {b:?} {c:?}");
    drop(hub);
    let item = download(&ring, 0);
    assert_eq!(item["state"], "done", "{item}\n{}", ring.nodes[0].log());
    assert_eq!(whole_files(&ring, 0), all);
}

#[test]
fn what_a_peer_spoiled_comes_from_elsewhere() {
    let hub = hub();
    let ring = ring(&hub, 2, &[]);
    assert_eq!(download(&ring, 0)["state"], "done");
    let file = weights(&ring, 0);
    let mut bytes = fs::read(&file).unwrap();
    let good = bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    bodies(&hub);
    let item = download(&ring, 1);
    assert_eq!(item["state"], "done", "{item}");
    assert_eq!(fs::read(weights(&ring, 1)).unwrap(), good);
    assert_eq!(bodies(&hub), 1);
    let log = ring.nodes[1].log();
    assert!(log.contains("what node-1 sent"), "{log}");
}

#[test]
fn who_does_not_share_gives_and_takes_nothing() {
    let hub = hub();
    let ring = ring(&hub, 2, &["--no-share"]);
    assert_eq!(download(&ring, 0)["state"], "done");
    assert_eq!(download(&ring, 1)["state"], "done");
    assert_eq!(bodies(&hub), 2);
}

/// What node 1 says of a download of node 2, once that is in this state.
fn seen_by_another(ring: &Ring, state: &str) -> Value {
    let begun = Instant::now();
    loop {
        let (_, body) = process::get(ring.nodes[0].api, "/v1/downloads").expect("a reply");
        let list: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(list["downloads"], json!([]), "it fetches nothing itself");
        let told = &list["ring"][0];
        if told["state"] == state && (state != "downloading" || told["total"] != 0) {
            return told.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{list}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_ring_sees_how_far_a_download_is() {
    let hub = hub();
    let ring = ring(&hub, 2, &[]);
    hub.fault(On::Large, Fault::Stall(10_000), usize::MAX);
    let wanted = json!({"model": REPO});
    let (status, body) =
        process::post(ring.nodes[1].api, "/v1/downloads", &wanted).expect("a reply");
    assert_eq!(status, 202, "{body}");
    let told = seen_by_another(&ring, "downloading");
    assert_eq!(told["node_id"], "node-2");
    assert_eq!(
        (&told["model"], &told["layers"]),
        (&json!(REPO), &Value::Null)
    );
    assert!(told["bytes"].as_u64() < told["total"].as_u64(), "{told}");
    // The same for people, for the Python nodes' scripts, and in numbers.
    let looked = |index: usize, path: &str| -> Value {
        let (_, body) = process::get(ring.nodes[index].api, path).expect("a reply");
        serde_json::from_str(&body).expect("JSON")
    };
    let peer = &looked(0, "/v1/status")["peers"][0];
    assert_eq!(peer["downloads"][0]["state"], "downloading", "{peer}");
    let own = &looked(1, "/v1/status")["downloads"][0];
    assert_eq!(own["model"], REPO);
    for index in 0..2 {
        let progress = &looked(index, "/v1/download/progress")["node-2"];
        assert_eq!(progress["repo_id"], REPO, "{progress}");
        assert_eq!(progress["status"], "in_progress");
    }
    hub.heal();
    let told = seen_by_another(&ring, "done");
    assert_eq!(told["bytes"], told["total"]);
    assert_eq!(looked(0, "/v1/download/progress"), json!({}));
}
