//! Nodes that meet through a real `sshd` (Debian's package `openssh-server`); without one, these
//! tests say so and are empty.

#![cfg(unix)]

mod stall;
#[cfg(target_os = "linux")]
mod stdio;
#[cfg(target_os = "linux")]
mod tunnel;

use exo_tests::process::ssh::{Sshd, forward, reverse};
use exo_tests::process::stand::{CPU, Stand, moments, say};
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{Member, Place, Ring, free_ports, http};
use serde_json::{Value, json};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The daemon, or a loud word on what is missing.
fn sshd(what: &str) -> Option<Sshd> {
    Sshd::start()
        .map_err(|missing| say(&format!("SKIPPED: {what}: {missing}")))
        .ok()
}

fn place(port: u16, api: u16) -> Place {
    Place {
        host: LOOPBACK,
        port,
        api,
        namespace: None,
    }
}

fn members(runtimes: [&'static str; 2]) -> [Member; 2] {
    runtimes.map(|runtime| Member {
        runtime,
        memory: 4096,
        engine: None,
    })
}

/// The flags of a node that reads its peers from `file`, which it is given here.
fn manual(folder: &Path, file: &str, peers: &Value) -> Vec<String> {
    let path = folder.join(file);
    fs::write(&path, json!({ "peers": peers }).to_string()).expect("a writable folder");
    let path = path.to_string_lossy();
    let module = ["--discovery-module", "manual", "--discovery-config-path"];
    module
        .into_iter()
        .chain([&*path])
        .map(str::to_owned)
        .collect()
}

/// The seed's `peers.json`: the far node behind the tunnel, what it is, and no entry of the reader.
fn behind_tunnel(port: u16) -> Value {
    json!({"node-2": {
        "address": format!("127.0.0.1:{port}"),
        "device_capabilities": {
            "model": "Unknown Model",
            "chip": "Unknown Chip",
            "memory": 0,
            "flops": {"fp32": 0, "fp16": 0, "int8": 0}
        }
    }})
}

/// The far node is started plain and knows nobody; one tunnel leads to its two ports, and the near
/// node has the seed's file.
fn one_forward_tunnel(runtimes: [&'static str; 2]) {
    let Some(sshd) = sshd("one forward tunnel") else {
        return;
    };
    let ports = free_ports(6);
    let [near, near_api, far, far_api, tunnel, tunnel_api] = ports[..] else {
        panic!("six ports");
    };
    let mut forwards = forward(tunnel, far).to_vec();
    forwards.extend(forward(tunnel_api, far_api));
    let mut tunnel_to_far = sshd.tunnel(&forwards);
    let places = [place(near, near_api), place(far, far_api)];
    let ring = Ring::found(&places, &members(runtimes), &CPU, |index, folder| {
        if index == 0 {
            manual(folder, "peers.json", &behind_tunnel(tunnel))
        } else {
            Vec::new()
        }
    });
    let mut stand = Stand::new(ring, 400);
    stand.whole();

    // Through either API, the far one by the tunnel: one ring, one text.
    let question = chat("stories", "Tell me a story about a bridge.", 24);
    let told = answer(&stand.ring.nodes[0], &question);
    let far_api = SocketAddr::new(LOOPBACK, tunnel_api);
    let (status, body) =
        http::post(far_api, "/v1/chat/completions", &question).expect("an HTTP response");
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["choices"][0]["message"]["content"], told);

    // The tunnel is cut in the middle of an answer, and opened again.
    let mut moments = moments();
    for which in [0, 1] {
        stand.strike(which, &mut moments, "", |_| tunnel_to_far.cut());
        tunnel_to_far.reopen();
        stand.heals();
    }
}

#[test]
fn one_forward_tunnel_on_smol() {
    one_forward_tunnel(["smol", "smol"]);
}

#[test]
fn one_forward_tunnel_on_std() {
    one_forward_tunnel(["std", "std"]);
}

/// As the reference's documents have it: each file names both nodes, and each node reaches the other
/// by a port of its own machine.
#[test]
fn a_tunnel_of_both_directions() {
    let Some(sshd) = sshd("a tunnel of both directions") else {
        return;
    };
    let ports = free_ports(6);
    let [mac1, mac1_api, mac2, mac2_api, to_mac2, to_mac1] = ports[..] else {
        panic!("six ports");
    };
    let mut ways = forward(to_mac2, mac2).to_vec();
    ways.extend(reverse(to_mac1, mac1));
    let _tunnel = sshd.tunnel(&ways);
    let entry = |port: u16| {
        json!({"address": "127.0.0.1", "port": port, "device_capabilities": {
            "model": "Mac", "chip": "Apple M2", "memory": 4096,
            "flops": {"fp32": 1, "fp16": 2, "int8": 4}
        }})
    };
    let places = [place(mac1, mac1_api), place(mac2, mac2_api)];
    let runtimes = members(["smol", "std"]);
    let mut ring = Ring::found(&places, &runtimes, &CPU, |index, folder| {
        let peers = if index == 0 {
            json!({"node-1": entry(mac1), "node-2": entry(to_mac2)})
        } else {
            json!({"node-1": entry(to_mac1), "node-2": entry(mac2)})
        };
        manual(folder, &format!("mac{}_peers.json", index + 1), &peers)
    });
    let question = chat("stories", "Tell me a story about a bridge.", 24);
    let told = answer(&ring.nodes[0], &question);
    assert_eq!(answer(&ring.nodes[1], &question), told);
    ring.wait_until_whole();
}
