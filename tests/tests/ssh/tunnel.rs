//! `exo-node tunnel`.

use super::sshd;
use exo_tests::process::ssh::HOST;
use exo_tests::process::stand::CPU;
use exo_tests::process::story::{answer, chat};
use exo_tests::process::{NodeProcess, Place, binary, find, free_ports, http};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// The tunnel is opened and kept, whatever happens to it, and leads to both ports; what it prints
/// for this side is what this side is started with.
#[test]
fn a_tunnel_is_kept_open() {
    let Some(sshd) = sshd("exo-node tunnel") else {
        return;
    };
    let home = tempfile::tempdir().expect("a temporary folder");
    let ports = free_ports(6);
    let [far_port, far_api, near_port, near_api, to_node, to_api] = ports[..] else {
        panic!("six ports");
    };
    let mut words = vec!["--node-memory", "4096"];
    words.extend(CPU);
    let there = NodeProcess::start("node-2", far_port, far_api, &words, home.path());

    let [_, option, config] = sshd.ssh();
    let numbers = [to_node, to_api, far_port, far_api].map(|port| port.to_string());
    let flags = [
        "--local-node-port",
        "--local-api-port",
        "--remote-node-port",
        "--remote-api-port",
    ];
    let mut wanted: Vec<&str> = vec!["tunnel", HOST];
    wanted.extend(
        flags
            .iter()
            .zip(&numbers)
            .flat_map(|(flag, number)| [*flag, number]),
    );
    let printed = {
        let mut command = Command::new(binary());
        command.args(&wanted).args(["--", &option, &config]);
        let output = command.output().expect("it prints");
        String::from_utf8(output.stdout).expect("text")
    };
    let here = format!("exo-node --peer-host 127.0.0.1 --peer-port {to_node}");
    assert!(printed.contains(&here), "{printed}");
    assert!(
        printed.contains("ssh -o ExitOnForwardFailure=yes"),
        "{printed}"
    );

    wanted.extend(["--run", "--", &option, &config]);
    let nowhere = Place {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: to_node,
        api: to_api,
        namespace: None,
    };
    let mut tunnel = NodeProcess::start_plain("tunnel", &nowhere, &wanted, home.path());
    let open = tunnel.wait_for_words("is open", 0);

    let port = to_node.to_string();
    let mut words = vec!["--peer-host", "127.0.0.1", "--peer-port", &port];
    words.extend(["--node-memory", "4096"]);
    words.extend(CPU);
    let mut near = NodeProcess::start("node-1", near_port, near_api, &words, home.path());
    let both = |topology: &serde_json::Value| {
        topology["nodes"]
            .as_object()
            .is_some_and(|nodes| nodes.len() == 2)
    };
    near.wait_for("the far node", both);
    let question = chat("stories", "Tell me a story about a bridge.", 24);
    let told = answer(&near, &question);
    assert_eq!(answer(&there, &question), told);
    let far = (IpAddr::V4(Ipv4Addr::LOCALHOST), to_api).into();
    let (status, body) = http::get(far, "/v1/topology").expect("an HTTP response");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("node-2"), "{body}");

    // Its ssh is killed: it says so, and opens another one.
    let process = tunnel.process();
    for ssh in find::children_of(process) {
        find::kill(ssh);
    }
    let closed = tunnel.wait_for_words("is closed: ssh ended with signal: 9", open);
    tunnel.wait_for_words("is open", closed);
    near.wait_for("the far node again", both);
    assert_eq!(answer(&near, &question), told);

    // It ends with all that it started.
    assert_eq!(tunnel.terminate(), Some(0), "{}", tunnel.log());
    find::until(
        "no ssh is left",
        || find::with_words(&[&config, HOST]),
        <[u32]>::is_empty,
    );
}
