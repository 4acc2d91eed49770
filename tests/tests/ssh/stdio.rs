//! A peer without any port: `ssh HOST exo-node connect --stdio`.

use super::sshd;
use exo_tests::process::ssh::{HOST, Sshd};
use exo_tests::process::stand::CPU;
use exo_tests::process::story::{Story, answer, chat};
use exo_tests::process::{NodeProcess, binary, find, free_ports, http};
use serde_json::Value;
use std::path::Path;

/// A node that reaches its peer by a command.
fn node(runtime: &str, command: &str, home: &Path) -> NodeProcess {
    let mut words = vec!["--runtime", runtime, "--node-memory", "4096"];
    words.extend(["--peer-command", command]);
    words.extend(CPU);
    let ports = free_ports(2);
    NodeProcess::start("node-1", ports[0], ports[1], &words, home)
}

/// `ssh` to the daemon, with a command for its shell.
fn ssh(sshd: &Sshd, command: &str) -> String {
    format!("{} {HOST} '{command}'", sshd.ssh().join(" "))
}

/// The far node; its words are found again among the processes of this machine.
fn far(name: &str, home: &Path) -> String {
    let (binary, home, cpu) = (binary().display(), home.display(), CPU.join(" "));
    format!(
        "exec env EXO_HOME={home}/far HF_HOME={home}/hub {binary} connect --stdio \
         --node-id {name} --node-memory 4096 {cpu}"
    )
}

fn wait_until_whole(node: &mut NodeProcess) {
    node.wait_for("two nodes that see each other", |topology| {
        let edges = |from: &Value| from.as_array().map_or(0, Vec::len);
        let graph = topology["peer_graph"].as_object();
        graph.is_some_and(|graph| graph.len() == 2 && graph.values().map(edges).sum::<usize>() == 2)
    });
}

/// How many nodes the last request went over.
fn stages(node: &NodeProcess) -> usize {
    let (_, body) = http::get(node.api, "/v1/topology").expect("an HTTP response");
    let topology: Value = serde_json::from_str(&body).expect("JSON");
    let ring = topology["exo"]["rings"]["stories"].as_array();
    ring.map_or(0, Vec::len)
}

fn a_peer_without_ports(runtime: &str, greeting: &str) {
    let Some(sshd) = sshd("a peer without ports") else {
        return;
    };
    let home = tempfile::tempdir().expect("a temporary folder");
    let name = format!("far-{}-{runtime}", std::process::id());
    let far = format!("{greeting}{} --runtime {runtime}", far(&name, home.path()));
    let mut near = node(runtime, &ssh(&sshd, &far), home.path());
    wait_until_whole(&mut near);
    let question = chat("stories", "Tell me a long story about the sea.", 300);
    let told = answer(&near, &question);
    assert_eq!(stages(&near), 2);

    // The far node is killed in the middle of an answer, then what leads to it.
    let far_node = || find::with_words(&["--node-id", &name]);
    let is_far = |id: &u32| far_node().contains(id);
    for victim in ["the far node", "ssh"] {
        let mut story = Story::begin(&near, &question);
        assert!(story.reach(5), "{victim}");
        let processes = if victim == "ssh" {
            let process = near.process();
            find::until(
                victim,
                || find::children_of(process),
                |found| !found.is_empty(),
            )
        } else {
            let one = |found: &[u32]| found.iter().any(is_far);
            find::until(victim, || far_binary(&name), one)
        };
        processes.into_iter().for_each(find::kill);
        assert_eq!(story.finish().text, told, "{victim}");
        wait_until_whole(&mut near);
        assert_eq!(answer(&near, &question), told);
        assert_eq!(stages(&near), 2, "{}", near.log());
    }

    // Nothing is left when this side ends.
    assert_eq!(near.terminate(), Some(0), "{}", near.log());
    find::until("nothing is left", far_node, <[u32]>::is_empty);
}

/// The far node itself, not the shell whose words it is in.
fn far_binary(name: &str) -> Vec<u32> {
    let binary = binary().display().to_string();
    let ours = find::with_words(&[&binary, "connect", "--stdio", "--node-id", name]);
    ours.into_iter().collect()
}

#[test]
fn a_peer_without_ports_on_smol() {
    a_peer_without_ports("smol", "");
}

#[test]
fn a_peer_without_ports_on_std_behind_a_shell_that_greets() {
    a_peer_without_ports("std", "echo Welcome to EXO; ");
}

/// A node that listens there already, by our relay and by that of ssh.
#[test]
fn a_node_that_is_there_already() {
    let Some(sshd) = sshd("a relay") else { return };
    let home = tempfile::tempdir().expect("a temporary folder");
    let ports = free_ports(2);
    let mut words = vec!["--runtime", "std", "--node-memory", "4096"];
    words.extend(CPU);
    let mut there = NodeProcess::start("node-2", ports[0], ports[1], &words, home.path());
    there.wait_for("its API", |_| true);
    let ours = format!(
        "{} connect --stdio --to {}",
        binary().display(),
        there.address
    );
    let relays = [
        ("smol", ssh(&sshd, &ours)),
        (
            "std",
            format!("{} -W {} {HOST}", sshd.ssh().join(" "), there.address),
        ),
    ];
    let question = chat("stories", "Tell me a story about a door.", 24);
    let told = answer(&there, &question);
    for (runtime, relay) in relays {
        let mut near = node(runtime, &relay, home.path());
        wait_until_whole(&mut near);
        assert_eq!(answer(&near, &question), told);
        assert_eq!(stages(&near), 2);
        assert_eq!(near.terminate(), Some(0), "{}", near.log());
    }
}

/// Why there is no peer is said in the words of who knows it.
#[test]
fn a_command_that_fails_is_told() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for runtime in ["smol", "std"] {
        let script = "echo no route to anywhere >&2; exit 255";
        let near = node(runtime, &format!("sh -c '{script}'"), home.path());
        near.wait_for_words("sh ended with exit status: 255: no route to anywhere", 0);
        let near = node(runtime, "/nowhere/ssh far", home.path());
        near.wait_for_words("cannot start /nowhere/ssh: No such file", 0);
    }
}
