//! One home folder and several programs: the node that serves keeps its id, and whatever runs beside
//! it gets another one for as long as it runs.

#![cfg(unix)]

use exo_tests::process::{self, NodeProcess, Place, free_ports};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

/// The folder's name below the test's own.
const HOME: &str = "shared";

const DUMMY: [&str; 4] = ["--inference-engine", "dummy", "--discovery-module", "none"];

/// A node that has its id from its home.
fn serve(ports: &[u16], home: &Path) -> NodeProcess {
    let place = Place {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: ports[0],
        api: ports[1],
        namespace: None,
    };
    let (port, api) = (ports[0].to_string(), ports[1].to_string());
    let own = ["--node-host", "127.0.0.1", "--node-port", &port];
    let served = [
        "--chatgpt-api-host",
        "127.0.0.1",
        "--chatgpt-api-port",
        &api,
    ];
    let words = [&own[..], &served, &DUMMY, &["--disable-tui"]].concat();
    let mut node = NodeProcess::start_plain(HOME, &place, &words, home);
    node.wait_for("an answer", |topology| own_name(topology).is_some());
    node
}

/// The only node that a node alone knows.
fn own_name(topology: &Value) -> Option<String> {
    let nodes = topology["nodes"].as_object()?;
    nodes.keys().next().cloned().filter(|_| nodes.len() == 1)
}

fn name(node: &NodeProcess) -> String {
    let (_, body) = process::get(node.api, "/v1/topology").expect("an HTTP response");
    let topology = serde_json::from_str(&body).expect("JSON");
    own_name(&topology).expect("it is alone")
}

#[test]
fn what_runs_beside_a_node_leaves_its_id_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().join(HOME);
    let ports = free_ports(4);
    let read = |file: &str| {
        let text = std::fs::read_to_string(home.join(file)).expect("the node wrote it");
        text.trim().to_owned()
    };
    let mut first = serve(&ports[..2], folder.path());
    let kept = name(&first);
    let untouched = |first: &NodeProcess, beside: &str| {
        assert_eq!(name(first), kept, "beside {beside}");
        assert_eq!(read("node_id"), kept, "beside {beside}");
        assert_eq!(
            read("node_id.pid"),
            first.pid().to_string(),
            "beside {beside}"
        );
    };
    untouched(&first, "nothing");
    let others: [&[&str]; 3] = [
        &["run", "--prompt", "hello", "--node-port", "0"],
        &[
            "bench",
            "--max-tokens",
            "4",
            "--repeat",
            "1",
            "--node-port",
            "0",
        ],
        &["demo", "--prompt", "hello"],
    ];
    for words in others {
        let output = Command::new(process::binary())
            .args(words)
            .args(&DUMMY[..2])
            .env("EXO_HOME", &home)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{words:?}: {output:?}");
        untouched(&first, words[0]);
    }
    let second = serve(&ports[2..], folder.path());
    let other = name(&second);
    assert_ne!(other, kept);
    let line = format!("process {} uses the home", first.pid());
    second.wait_for_words(&line, 0);
    untouched(&first, "another node");
    assert_eq!(first.terminate(), Some(0), "{}", first.log());
    assert_eq!(name(&second), other, "for as long as it runs");
    let third = serve(&ports[..2], folder.path());
    assert_eq!(
        name(&third),
        kept,
        "and the next one has the id of the home"
    );
}
