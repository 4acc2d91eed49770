//! Namespaces with cables between them.

use exo_tests::process::Place;
use exo_tests::process::stand::say;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// The number of a net's router.
const GATEWAY: u8 = 253;

/// What is taken down is gone only some time later: nothing has a name that was used.
static LAID: AtomicU8 = AtomicU8::new(0);

/// Runs a command of iproute2.
pub(crate) fn run(program: &str, words: &str) -> Result<(), String> {
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
pub(crate) struct Wires {
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
    pub(crate) fn lay(nodes: u8) -> Result<Self, String> {
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

    pub(crate) fn address(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 249, self.net, number))
    }

    pub(crate) fn places(&self) -> Vec<Place> {
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
    pub(crate) fn pass(&self, index: usize, pass: bool) {
        let (hub, state) = (&self.hub, if pass { "up" } else { "down" });
        let number = index + 1;
        run("ip", &format!("-n {hub} link set port{number} {state}")).expect("ip works");
    }

    /// The namespace of a node.
    pub(crate) fn namespace(&self, number: u8) -> &str {
        self.namespaces
            .get(usize::from(number) - 1)
            .expect("nodes count from one")
    }

    /// Leads packets for the other net there and back, as a router does: what is meant for all, such
    /// as a broadcast, stays where it is.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn join(&self, other: &Self) -> Result<(), String> {
        let [near, far] = [self, other].map(|wires| wires.hub.as_str());
        let cable = format!("link add router type veth peer name router netns {far}");
        run("ip", &format!("-n {near} {cable}"))?;
        for (wires, beyond, own, next) in [(self, other, 1, 2), (other, self, 2, 1)] {
            let (hub, gateway) = (&wires.hub, wires.address(GATEWAY));
            let between = |end: u8| Ipv4Addr::new(10, 248, self.net, end);
            let net = format!("{}/24", beyond.address(0));
            let words = [
                format!("addr add {gateway}/24 dev bridge"),
                format!("addr add {}/24 dev router", between(own)),
                "link set router up".to_owned(),
                format!("route add {net} via {}", between(next)),
            ];
            for words in words {
                run("ip", &format!("-n {hub} {words}"))?;
            }
            let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
            let mut command = Command::new("ip");
            command.args(["netns", "exec", hub, "sh", "-c", forward]);
            if !command.status().is_ok_and(|status| status.success()) {
                return Err("a namespace may not forward packets".to_owned());
            }
            for namespace in &wires.namespaces {
                run(
                    "ip",
                    &format!("-n {namespace} route add {net} via {gateway}"),
                )?;
            }
        }
        Ok(())
    }

    /// Has every packet to a node treated by netem.
    pub(crate) fn treat(&self, nodes: u8, treatment: &str) -> Result<(), String> {
        for number in 1..=nodes {
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

/// The namespaces, or a loud word on what is missing.
pub(crate) fn wires(what: &str, nodes: u8) -> Option<Wires> {
    Wires::lay(nodes)
        .map_err(|missing| say(&format!("SKIPPED: {what}: {missing}")))
        .ok()
}
