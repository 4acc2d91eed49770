//! Rings whose nodes live in network namespaces of one Linux machine, on a bridge of their own: what
//! only a network does. Needs `ip` (and `tc` with netem for delay and loss) and the right to use
//! them; says loudly what is missing.

#![cfg(target_os = "linux")]

use exo_tests::process::http;
use exo_tests::process::stand::{CPU, Stand, moments, report, say};
use exo_tests::process::{Member, Place, Ring};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const NODES: u8 = 3;

/// Pauses are measured: nothing else runs meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

/// What is taken down is gone only some time later: nothing has a name that was used.
static LAID: AtomicU8 = AtomicU8::new(0);

/// Runs a command of iproute2.
fn run(program: &str, words: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words.split(' '));
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words_back = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {words}: {}", words_back.trim()))
}

/// A namespace for each node, and one with the bridge between them; gone when dropped.
struct Wires {
    hub: String,
    namespaces: Vec<String>,
    /// This machine's end of the cable to the bridge.
    test: String,
    net: u8,
}

impl Wires {
    /// Namespaces for so many nodes.
    ///
    /// # Errors
    /// What is missing.
    fn lay(nodes: u8) -> Result<Self, String> {
        let laid = LAID.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{}", std::process::id(), char::from(b'a' + laid % 26));
        let mut wires = Self {
            hub: format!("exo-{id}-hub"),
            namespaces: Vec::new(),
            test: format!("exo{id}"),
            net: laid.wrapping_add(std::process::id() as u8),
        };
        // The bridge has a namespace, too: no firewall of this machine looks at it.
        let (hub, test) = (wires.hub.clone(), wires.test.clone());
        run("ip", &format!("netns add {hub}"))?;
        run("ip", &format!("-n {hub} link add bridge type bridge"))?;
        run("ip", &format!("-n {hub} link set bridge up"))?;
        run(
            "ip",
            &format!("link add {test} type veth peer name test netns {hub}"),
        )?;
        wires.plug("test")?;
        let host = wires.address(254);
        run("ip", &format!("addr add {host}/24 dev {test}"))?;
        run("ip", &format!("link set {test} up"))?;
        for number in 1..=nodes {
            let own = format!("exo-{id}-{number}");
            run("ip", &format!("netns add {own}"))?;
            wires.namespaces.push(own.clone());
            let port = format!("port{number}");
            let cable = format!("link add eth0 type veth peer name {port} netns {hub}");
            run("ip", &format!("-n {own} {cable}"))?;
            wires.plug(&port)?;
            let address = wires.address(number);
            run("ip", &format!("-n {own} addr add {address}/24 dev eth0"))?;
            run("ip", &format!("-n {own} link set eth0 up"))?;
            run("ip", &format!("-n {own} link set lo up"))?;
        }
        Ok(wires)
    }

    /// Puts an end of a cable into the bridge.
    fn plug(&self, port: &str) -> Result<(), String> {
        let hub = &self.hub;
        run("ip", &format!("-n {hub} link set {port} master bridge"))?;
        run("ip", &format!("-n {hub} link set {port} up"))
    }

    fn address(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 249, self.net, number))
    }

    fn places(&self) -> Vec<Place> {
        let place = |(number, namespace): (u8, &String)| Place {
            host: self.address(number),
            port: 50051,
            api: 52415,
            namespace: Some(namespace.clone()),
        };
        (1..).zip(&self.namespaces).map(place).collect()
    }

    /// Whether packets from and to a node of the ring pass. Its peers get no word of it: nothing is
    /// refused or reset.
    fn pass(&self, index: usize, pass: bool) {
        let (hub, state) = (&self.hub, if pass { "up" } else { "down" });
        let number = index + 1;
        run("ip", &format!("-n {hub} link set port{number} {state}")).expect("ip works");
    }

    /// Has every packet to a node treated by netem.
    fn treat(&self, treatment: &str) -> Result<(), String> {
        for number in 1..=NODES {
            let port = format!("port{number}");
            let words = format!(
                "-n {} qdisc add dev {port} root netem {treatment}",
                self.hub
            );
            run("tc", &words)?;
        }
        Ok(())
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let _ = run("ip", &format!("link del {}", self.test));
        for namespace in self.namespaces.iter().chain([&self.hub]) {
            let _ = run("ip", &format!("netns del {namespace}"));
        }
    }
}

/// A ring in namespaces whose first node has the stage `place`.
fn ring(wires: &Wires, place: usize) -> Ring {
    let member = |number: usize| Member {
        runtime: if (number + place).is_multiple_of(2) {
            "std"
        } else {
            "smol"
        },
        // The others have more memory than the first if they come before it.
        memory: match number {
            0 => 5120,
            _ if number <= place => 6144,
            _ => 4096,
        },
        engine: None,
    };
    let members: Vec<Member> = (0..usize::from(NODES)).map(member).collect();
    Ring::at(&wires.places(), &members, &CPU, |address| address)
}

/// The namespaces, or a loud word on what is missing.
fn wires(what: &str, nodes: u8) -> Option<Wires> {
    Wires::lay(nodes)
        .map_err(|missing| say(&format!("SKIPPED: {what}: {missing}")))
        .ok()
}

#[test]
fn a_stage_whose_packets_are_lost_is_replaced() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires("lost packets", NODES) else {
        return;
    };
    let mut moments = moments();
    let mut pauses = Vec::new();
    for place in 0..usize::from(NODES) {
        let mut stand = Stand::new(ring(&wires, place), 400);
        for victim in [1, 2] {
            let blow = |_: &mut Ring| wires.pass(victim, false);
            pauses.extend(stand.strike(victim - 1, &mut moments, "silent", blow));
            wires.pass(victim, true);
            stand.heals();
        }
    }
    report("packets lost", pauses);
}

/// Has the same stories told on a ring as it is, and once netem treats its packets.
fn treated(what: &str, treatment: &str, most: u32) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires(what, NODES) else {
        return;
    };
    let mut stand = Stand::new(ring(&wires, 1), most);
    if let Err(missing) = wires.treat(treatment) {
        say(&format!("SKIPPED: {what}: {missing}"));
        return;
    }
    let pauses = [0, 1].map(|which| stand.retell(which));
    say(&format!("{what}: longest pauses {pauses:.0?}"));
    stand.whole();
}

#[test]
fn delay_changes_nothing() {
    treated("50 ms delay", "delay 50ms", 24);
}

#[test]
fn loss_changes_nothing() {
    treated("1 % loss", "loss 1%", 400);
}

/// Members of a ring of so many nodes, on both runtimes in turn.
fn members(nodes: u8) -> Vec<Member> {
    let member = |number: u8| Member {
        runtime: if number.is_multiple_of(2) {
            "std"
        } else {
            "smol"
        },
        memory: 4096,
        engine: None,
    };
    (0..nodes).map(member).collect()
}

fn udp(_: usize, _: &Path) -> Vec<String> {
    ["--discovery-module", "udp"].map(str::to_owned).into()
}

/// Asks a node of the ring, and has the answer that any ring gives.
fn answers(ring: &Ring, index: usize) {
    let question = json!({
        "model": "dummy",
        "messages": [{"role": "user", "content": "hi"}],
    });
    let answer = http::post(ring.nodes[index].api, "/v1/chat/completions", &question);
    let (status, body) = answer.expect("an HTTP response");
    assert_eq!(
        (status, body.matches("dummydummy").count()),
        (200, 4),
        "{body}"
    );
}

#[test]
fn nodes_on_one_wire_find_each_other() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires("discovery by broadcasts", 5) else {
        return;
    };
    let arguments = ["--inference-engine", "dummy"];
    let _built = exo_tests::process::binary();
    let started = Instant::now();
    let mut ring = Ring::found(&wires.places(), &members(5), &arguments, udp);
    say(&format!(
        "five nodes found each other in {:.1?}",
        started.elapsed()
    ));
    answers(&ring, 0);

    // A cable that is pulled and put back.
    wires.pass(4, false);
    ring.nodes[0].wait_for("the fifth node to be gone", |topology| {
        topology["nodes"]
            .as_object()
            .is_some_and(|nodes| nodes.len() == 4)
    });
    answers(&ring, 1);
    wires.pass(4, true);
    ring.wait_until_whole();
    answers(&ring, 4);
}
