//! Nodes that are named: over TCP where no broadcast comes, and by addresses of IPv6.

use super::ALONE;
use super::lan::{DUMMY, answers, members, two_that_see_each_other};
use super::wires::{run, wires};
use exo_tests::process::stand::say;
use exo_tests::process::{NodeProcess, Place, Ring, http};
use serde_json::{Value, json};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::PoisonError;

/// Where nodes announce themselves over TCP.
const PORT: &str = "5678";

/// Two nets with a router between them, and nodes that only know where others take announcements: one
/// of each net is enough for all to be one ring.
#[test]
fn seeds_join_two_nets() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = "two nets and seeds";
    let (Some(near), Some(far)) = (wires(what, 2), wires(what, 2)) else {
        return;
    };
    if let Err(missing) = near.join(&far) {
        say(&format!("SKIPPED: {what}: {missing}"));
        return;
    }
    let places = [near.places(), far.places()].concat();
    // Each names those that start after it, without their port: it is the usual one.
    let tcp = |index: usize, _: &Path| {
        let seeds = places.iter().skip(index + 1);
        let seeds: Vec<String> = seeds.map(|place| place.host.to_string()).collect();
        let mut words = vec!["--discovery-module", "tcp", "--listen-port", PORT];
        let seeds = seeds.join(",");
        if !seeds.is_empty() {
            words.extend(["--tcp-seeds", &seeds]);
        }
        words.into_iter().map(str::to_owned).collect()
    };
    let ring = Ring::found(&places, &members(4), &DUMMY, tcp);
    for node in &ring.nodes {
        answers(node);
    }
    let (_, body) = http::get(ring.nodes[0].api, "/v1/topology").expect("an HTTP response");
    let topology: Value = serde_json::from_str(&body).expect("JSON");
    let stages = topology["exo"]["rings"]["dummy"].as_array();
    assert_eq!(stages.map(Vec::len), Some(4), "{body}");
}

/// A node that only has a port at an address of IPv6 is dialled there, in brackets.
#[test]
fn addresses_in_brackets_are_dialled() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let what = "addresses of IPv6";
    let Some(wires) = wires(what, 2) else {
        return;
    };
    let address = |number: u8| Ipv6Addr::new(0xfd00, 0x249, 0, 0, 0, 0, 0, number.into());
    for number in [1, 2] {
        let (namespace, own) = (wires.namespace(number), address(number));
        // Nobody has it yet: there is no need to wait until that is known.
        let add = format!("-n {namespace} addr add {own}/64 dev eth0 nodad");
        if let Err(missing) = run("ip", &add) {
            say(&format!("SKIPPED: {what}: {missing}"));
            return;
        }
    }
    let there = SocketAddr::new(address(2).into(), 50051).to_string();
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("peers.json");
    let named = json!({"peers": {"node-2": {"address": &there}}});
    std::fs::write(&file, named.to_string()).expect("a writable folder");
    let file = file.to_str().expect("a name");
    let by_file = ["--discovery-config-path", file];
    let by_hand = ["--peer-host", &there];
    for (runtime, discovery) in [("smol", by_file), ("std", by_hand)] {
        let start = |(number, place): (u8, &Place), discovery: &[&str]| {
            let (id, host) = (format!("node-{number}"), address(number).to_string());
            let (api_host, api) = (place.host.to_string(), place.api.to_string());
            let own = [
                "--node-id",
                &id,
                "--node-host",
                &host,
                "--node-port",
                "50051",
            ];
            let served = ["--chatgpt-api-host", &api_host, "--chatgpt-api-port", &api];
            let others = [
                "--runtime",
                runtime,
                "--node-memory",
                "4096",
                "--disable-tui",
            ];
            let placed = ["--placement", "memory"];
            let words = [&own[..], &served, &others, &placed, &DUMMY, discovery].concat();
            NodeProcess::start_plain(&id, place, &words, home.path())
        };
        let places = wires.places();
        let mut first = start((1, &places[0]), &discovery);
        let mut second = start((2, &places[1]), &["--discovery-module", "none"]);
        first.wait_for("the other one", two_that_see_each_other);
        second.wait_for("the other one", two_that_see_each_other);
        answers(&first);
        answers(&second);
        let (_, body) = http::get(first.api, "/v1/status").expect("an HTTP response");
        assert!(body.contains(&format!("\"{there}\"")), "{body}");
    }
}
