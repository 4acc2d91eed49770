//! A peer with two addresses, one of them behind a slow way (on loopback, where no kernel has to be
//! able to slow a network down).

use super::ALONE;
use super::lan::{DUMMY, answers, two_that_see_each_other};
use exo_tests::process::{NodeProcess, PATIENCE, free_ports, http, relay};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

/// The addresses of a node's only peer, and the one in use.
fn addresses(node: &NodeProcess) -> (usize, Option<String>) {
    let (_, body) = http::get(node.api, "/v1/status").expect("an HTTP response");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    let all = status["peers"][0]["addresses"].as_array();
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let used = all.iter().find(|address| address["in_use"] == true);
    let used = used.and_then(|address| address["address"].as_str());
    (all.len(), used.map(str::to_owned))
}

/// Waits until a node's only peer is reached at `wanted`, of as many addresses as `known` accepts.
pub(crate) fn wait_until_used(
    node: &NodeProcess,
    wanted: SocketAddr,
    known: impl Fn(usize) -> bool,
) {
    let (until, wanted) = (Instant::now() + PATIENCE, Some(wanted.to_string()));
    loop {
        let (count, used) = addresses(node);
        if known(count) && used == wanted {
            return;
        }
        assert!(
            Instant::now() < until,
            "{wanted:?}: {used:?} of {count}\n{}",
            node.log()
        );
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whichever of the two is named by hand, and which by a file: the node ends on the quick one.
#[test]
fn the_quicker_of_two_ways_is_taken() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (runtime, slow_by_hand) in [("smol", false), ("std", true)] {
        let home = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(4);
        let mut words = vec!["--runtime", runtime, "--node-memory", "4096"];
        words.extend(DUMMY);
        let there = NodeProcess::start("node-2", ports[0], ports[1], &words, home.path());
        let quick = there.address;
        let slow = relay::open(quick, |_| Duration::from_millis(30));
        let (by_hand, by_file): (SocketAddr, SocketAddr) = if slow_by_hand {
            (slow, quick)
        } else {
            (quick, slow)
        };

        let file = home.path().join("peers.json");
        let named = json!({"peers": {"node-2": {"address": by_file.to_string()}}});
        std::fs::write(&file, named.to_string()).expect("a writable folder");
        let (path, port) = (file.to_string_lossy(), by_hand.port().to_string());
        words.extend([
            "--discovery-module",
            "manual,direct",
            "--discovery-config-path",
            &path,
        ]);
        words.extend(["--peer-host", "127.0.0.1", "--peer-port", &port]);
        let mut here = NodeProcess::start("node-1", ports[2], ports[3], &words, home.path());
        here.wait_for("the other one", two_that_see_each_other);

        wait_until_used(&here, quick, |known| known == 2);
        here.wait_for("the other one still", two_that_see_each_other);
        answers(&here);
        answers(&there);
    }
}
