//! Rings of real nodes.

use super::{NodeProcess, Place, free_ports};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// What distinguishes a node of a ring from the others.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// `std` or `smol`.
    pub runtime: &'static str,
    /// In MiB; the ring's order is that of memory, the largest first.
    pub memory: u32,
    /// What it computes with, if that is not said for all.
    pub engine: Option<&'static str>,
}

/// A ring of nodes that all name each other.
#[derive(Debug)]
pub struct Ring {
    /// The nodes, `node-1` first.
    pub nodes: Vec<NodeProcess>,
    /// For each, how it was started.
    arguments: Vec<Vec<String>>,
    folder: tempfile::TempDir,
}

impl Ring {
    /// Starts one node for each entry of `runtimes`, with the seed's flags and mirrored discovery
    /// files, and waits until every node sees every other.
    ///
    /// # Panics
    /// When a node does not start, or they do not find each other.
    pub fn start(runtimes: &[&'static str], arguments: &[&str]) -> Self {
        let member = |&runtime: &&'static str| Member {
            runtime,
            memory: 4096,
            engine: None,
        };
        let members: Vec<Member> = runtimes.iter().map(member).collect();
        Self::of(&members, arguments)
    }

    /// The same, of nodes with different memory, on loopback.
    ///
    /// # Panics
    /// As [`Ring::start`].
    pub fn of(members: &[Member], arguments: &[&str]) -> Self {
        Self::over(members, arguments, |address| address)
    }

    /// The same, where `way` says what leads to a node.
    ///
    /// # Panics
    /// As [`Ring::start`].
    pub fn over(
        members: &[Member],
        arguments: &[&str],
        way: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Self {
        let count = members.len();
        let ports = free_ports(2 * count);
        let (ring, api) = ports.split_at(count);
        let place = |(&port, &api): (&u16, &u16)| Place {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            api,
            namespace: None,
        };
        let places: Vec<Place> = ring.iter().zip(api).map(place).collect();
        Self::at(&places, members, arguments, way)
    }

    /// The same, of nodes at given places.
    ///
    /// # Panics
    /// As [`Ring::start`].
    pub fn at(
        places: &[Place],
        members: &[Member],
        arguments: &[&str],
        way: impl FnMut(SocketAddr) -> SocketAddr,
    ) -> Self {
        let addresses: Vec<SocketAddr> = places
            .iter()
            .map(|place| SocketAddr::new(place.host, place.port))
            .map(way)
            .collect();
        Self::found(places, members, arguments, |index, folder| {
            if places.len() == 1 {
                return ["--discovery-module", "none"].map(str::to_owned).into();
            }
            let file = folder.join(format!("peer_config_{}.json", index + 1));
            std::fs::write(&file, peer_config(&addresses, index)).expect("a writable folder");
            let file = file.to_string_lossy();
            let words = [
                "--discovery-module",
                "manual",
                "--discovery-config-path",
                &file,
            ];
            words.map(str::to_owned).into()
        })
    }

    /// The same, where `discovery` says for each node, with which flags it finds the others; it may
    /// write into the ring's folder.
    ///
    /// # Panics
    /// As [`Ring::start`].
    pub fn found(
        places: &[Place],
        members: &[Member],
        arguments: &[&str],
        discovery: impl Fn(usize, &Path) -> Vec<String>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let of = |(index, member): (usize, &Member)| {
            let memory = member.memory.to_string();
            let own = ["--runtime", member.runtime, "--node-memory", &memory];
            let mut all: Vec<String> = own.map(str::to_owned).into();
            all.extend(discovery(index, folder.path()));
            if let Some(engine) = member.engine {
                all.extend(["--inference-engine", engine].map(str::to_owned));
            }
            all.extend(arguments.iter().map(|&word| word.to_owned()));
            all
        };
        let arguments: Vec<Vec<String>> = members.iter().enumerate().map(of).collect();
        let nodes = places.iter().zip(&arguments).enumerate();
        let nodes = nodes
            .map(|(index, (place, arguments))| {
                let id = format!("node-{}", index + 1);
                NodeProcess::start_at(&id, place, arguments, folder.path())
            })
            .collect();
        let mut ring = Self {
            nodes,
            arguments,
            folder,
        };
        ring.wait_until_whole();
        ring
    }

    /// Starts a node anew that has ended, at the same place and with the same words.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (id, place) = (node.id.clone(), node.place().clone());
        *node = NodeProcess::start_at(&id, &place, &self.arguments[index], self.folder.path());
    }

    /// Waits until every node sees every other and knows that it is seen.
    ///
    /// # Panics
    /// When that does not happen within [`PATIENCE`](super::PATIENCE).
    pub fn wait_until_whole(&mut self) {
        let count = self.nodes.len();
        for node in &mut self.nodes {
            node.wait_for("all nodes to see each other", |topology| {
                let edges = |from: &Value| from.as_array().map_or(0, Vec::len);
                let graph = topology["peer_graph"].as_object();
                topology["nodes"].as_object().map_or(0, Map::len) == count
                    && graph.map_or(0, |graph| graph.values().map(edges).sum())
                        == count * (count - 1)
            });
        }
    }

    /// Where the discovery files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The discovery file of node `own`, in the form of the seed's documents: `host:port`, no entry for
/// the node itself.
#[must_use]
pub fn peer_config(addresses: &[SocketAddr], own: usize) -> String {
    let peers: Map<String, Value> = addresses
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != own)
        .map(|(index, address)| {
            let peer = json!({
                "address": address.to_string(),
                "device_capabilities": {
                    "model": "Unknown Model",
                    "chip": "Unknown Chip",
                    "memory": 0,
                    "flops": {"fp32": 0, "fp16": 0, "int8": 0}
                }
            });
            (format!("node-{}", index + 1), peer)
        })
        .collect();
    json!({ "peers": peers }).to_string()
}
