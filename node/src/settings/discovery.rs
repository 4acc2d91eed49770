//! How peers are found, by the command line.

use super::{NODE_PORT, SettingsError, usage};
use crate::cli::{Args, DiscoveryModule, DiscoveryModules};
use exo_protocol::NodeId;
use exo_protocol::config::{Broadcast, DirectPeer, Discovery, Tcp};
use exo_protocol::discovery::{address, manual};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// Most nodes of `--tcp-seeds`.
const MOST_SEEDS: usize = 256;

/// How peers are found.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) discovery: Discovery,
    pub(super) file: Option<PathBuf>,
    pub(super) tailscale: Option<Tailscale>,
}

impl Peers {
    pub(super) fn are_looked_for(&self) -> bool {
        self.discovery != Discovery::default() || self.tailscale.is_some()
    }
}

/// Discovery in a tailnet.
#[derive(Clone, PartialEq, Eq)]
pub struct Tailscale {
    /// Where this node takes connections, and where others are tried whose port is not known.
    pub node_port: u16,
    /// The key of the API, without which only addresses are known.
    pub key: Option<String>,
    /// The tailnet; `-` is the one of the key.
    pub tailnet: String,
    /// Only these nodes count, unless there are none.
    pub nodes: Vec<NodeId>,
}

impl fmt::Debug for Tailscale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Tailscale")
            .field("node_port", &self.node_port)
            .field("tailnet", &self.tailnet)
            .finish_non_exhaustive()
    }
}

/// Without `--discovery-module`, the flags of modules choose them; without those, nodes that serve
/// announce themselves where others can hear and reach them.
fn modules(args: &Args, serving: bool) -> Vec<DiscoveryModule> {
    if let Some(DiscoveryModules(modules)) = &args.discovery_module {
        return modules.clone();
    }
    let given = [
        (
            args.discovery_config_path.is_some(),
            DiscoveryModule::Manual,
        ),
        (!args.peer_host.is_empty(), DiscoveryModule::Direct),
        (args.tcp_seeds.is_some(), DiscoveryModule::Tcp),
        (args.tcp_probe, DiscoveryModule::Tcp),
        (args.tailscale_api_key.is_some(), DiscoveryModule::Tailscale),
    ];
    let mut modules: Vec<DiscoveryModule> = Vec::new();
    for (_, module) in given.into_iter().filter(|(given, _)| *given) {
        if !modules.contains(&module) {
            modules.push(module);
        }
    }
    let reachable = args.node_port != Some(0) && !is_loopback(&args.node_host);
    if modules.is_empty() && serving && reachable && args.peer_command.is_empty() {
        modules.push(DiscoveryModule::Udp);
    }
    modules
}

pub(super) fn peers(args: &Args, serving: bool) -> Result<Peers, SettingsError> {
    let mut peers = Peers::default();
    for module in modules(args, serving) {
        match module {
            DiscoveryModule::Udp => peers.discovery.broadcast = Some(broadcast(args)?),
            DiscoveryModule::Tcp => peers.discovery.tcp = Some(tcp(args)?),
            DiscoveryModule::Manual => {
                let path = args.discovery_config_path.clone().ok_or_else(|| {
                    usage("--discovery-module manual needs --discovery-config-path FILE")
                })?;
                check_peers(&path)?;
                peers.discovery.file = true;
                peers.file = Some(path);
            }
            DiscoveryModule::Direct => peers.discovery.direct = direct(args)?,
            DiscoveryModule::Tailscale => peers.tailscale = Some(tailscale(args)?),
        }
    }
    Ok(peers)
}

fn tcp(args: &Args) -> Result<Tcp, SettingsError> {
    let node_port = args.node_port.unwrap_or(NODE_PORT);
    if node_port == 0 || args.listen_port == 0 {
        return Err(usage(
            "--discovery-module tcp needs ports that others know: --node-port and --listen-port \
             cannot be 0",
        ));
    }
    let seeds = list(args.tcp_seeds.as_deref());
    if seeds.len() > MOST_SEEDS {
        let count = seeds.len();
        return Err(usage(format!(
            "--tcp-seeds names {count} nodes, at most {MOST_SEEDS} are asked: one that knows the \
             others is enough"
        )));
    }
    let seed = |seed: &String| {
        address::with_port(seed, args.listen_port)
            .map_err(|error| usage(format!("--tcp-seeds: {error}")))
    };
    Ok(Tcp {
        node_port,
        seeds: seeds.iter().map(seed).collect::<Result<_, _>>()?,
        probe: args.tcp_probe,
        port: args.listen_port,
        nodes: nodes(args),
    })
}

fn direct(args: &Args) -> Result<Vec<DirectPeer>, SettingsError> {
    let (hosts, ids) = (&args.peer_host, &args.peer_id);
    if hosts.is_empty() {
        return Err(usage(
            "--discovery-module direct needs --peer-host HOST and --peer-port PORT",
        ));
    }
    if !ids.is_empty() && ids.len() != hosts.len() {
        let (ids, hosts) = (ids.len(), hosts.len());
        return Err(usage(format!(
            "--peer-id is given {ids} times and --peer-host {hosts} times; name all peers or none"
        )));
    }
    let peer = |(index, host): (usize, &String)| {
        let bad = |error| usage(format!("--peer-host: {error}"));
        let (name, port) = address::split(host).map_err(bad)?;
        let port = port.or(args.peer_port.filter(|&port| port > 0));
        let port = port.ok_or_else(|| {
            usage(format!(
                "--peer-host {host:?} has no port; write HOST:PORT, or give --peer-port from 1 to \
                 65535"
            ))
        })?;
        let node = ids.get(index).map(|id| NodeId::from(id.as_str()));
        if node.as_ref().is_some_and(|id| !NodeId::is_fit(id)) {
            return Err(usage("--peer-id must be a name that can be printed"));
        }
        let address = format!("{name}:{port}");
        Ok(DirectPeer { address, node })
    };
    hosts.iter().enumerate().map(peer).collect()
}

fn tailscale(args: &Args) -> Result<Tailscale, SettingsError> {
    let node_port = args.node_port.unwrap_or(NODE_PORT);
    if node_port == 0 {
        return Err(usage(
            "--discovery-module tailscale needs a port that others know: --node-port cannot be 0",
        ));
    }
    let tailnet = args.tailnet_name.clone().unwrap_or_else(|| "-".to_owned());
    let is_word = |text: &String| {
        let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '?' | '#' | '"' | '\\');
        !text.is_empty() && !text.contains(odd)
    };
    if !is_word(&tailnet) || !args.tailscale_api_key.iter().all(is_word) {
        return Err(usage(
            "--tailscale-api-key and --tailnet-name are words as Tailscale's admin console shows \
             them",
        ));
    }
    Ok(Tailscale {
        node_port,
        key: args.tailscale_api_key.clone(),
        tailnet,
        nodes: nodes(args),
    })
}

/// What stands between commas.
fn list(text: Option<&str>) -> Vec<String> {
    let names = text.into_iter().flat_map(|text| text.split(','));
    let names = names.map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn nodes(args: &Args) -> Vec<NodeId> {
    let nodes = list(args.node_id_filter.as_deref());
    nodes.into_iter().map(NodeId::from).collect()
}

fn broadcast(args: &Args) -> Result<Broadcast, SettingsError> {
    let node_port = args.node_port.unwrap_or(NODE_PORT);
    if node_port == 0 || args.broadcast_port == 0 || args.listen_port == 0 {
        return Err(usage(
            "--discovery-module udp needs ports that others know: --node-port, --listen-port and \
             --broadcast-port cannot be 0",
        ));
    }
    if args.discovery_timeout == 0 {
        return Err(usage("--discovery-timeout must be at least 1"));
    }
    Ok(Broadcast {
        node_port,
        target_port: args.broadcast_port,
        nodes: nodes(args),
        kinds: list(args.interface_type_filter.as_deref()),
    })
}

/// Whether only this machine can reach the address.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A bad file is told at once; later it would cost a search for peers that never come.
fn check_peers(file: &Path) -> Result<(), SettingsError> {
    let bad = |problem: String| SettingsError::Peers {
        file: file.to_owned(),
        problem,
    };
    let bytes = fs::read(file).map_err(|error| bad(error.to_string()))?;
    manual::parse(&bytes).map_err(|error| bad(error.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, settings};
    use super::*;
    use std::time::Duration;

    #[test]
    fn peers_are_found_as_told() {
        let plain = settings("--node-id a").unwrap();
        let broadcast = Broadcast {
            node_port: 50051,
            target_port: 5678,
            nodes: Vec::new(),
            kinds: Vec::new(),
        };
        assert_eq!(plain.discovery.broadcast, Some(broadcast.clone()));
        assert_eq!(plain.announcements, Some(5678));
        for quiet in [
            "--discovery-module none",
            "--node-port 0",
            "--node-host ::1",
        ] {
            let quiet = settings(&format!("--node-id a {quiet}")).unwrap();
            assert_eq!(quiet.discovery, Discovery::default());
            assert_eq!(quiet.announcements, None);
        }
        let told = settings(
            "--node-id a --node-port 7 --listen-port 8 --broadcast-port 9 --discovery-timeout 5 \
             --node-id-filter b,c --interface-type-filter Ethernet,WiFi",
        )
        .unwrap();
        let wanted = Broadcast {
            node_port: 7,
            target_port: 9,
            nodes: vec!["b".into(), "c".into()],
            kinds: vec!["Ethernet".into(), "WiFi".into()],
        };
        assert_eq!(told.discovery.broadcast, Some(wanted));
        assert_eq!(told.announcements, Some(8));
        assert_eq!(told.announce_timeout, Duration::from_secs(5));
        let both =
            settings("--node-id a --discovery-module udp,direct --peer-host h --peer-port 1");
        let both = both.unwrap().discovery;
        assert_eq!(both.broadcast, Some(broadcast));
        assert_eq!((both.direct.len(), both.file), (1, false));
        assert_eq!(plain.listen.as_deref(), Some("0.0.0.0:50051"));
        let direct =
            "--node-id a --peer-host ::1 --peer-host b:8 --peer-host [::2]:9 --peer-port 7";
        let peers = |ids: [Option<&str>; 3]| -> Vec<DirectPeer> {
            let addresses = ["[::1]:7", "b:8", "[::2]:9"].into_iter();
            let peer = |(address, id): (&str, Option<&str>)| DirectPeer {
                address: address.to_owned(),
                node: id.map(NodeId::from),
            };
            addresses.zip(ids).map(peer).collect()
        };
        let plain = settings(direct).unwrap();
        assert_eq!(plain.discovery.direct, peers([None; 3]));
        assert_eq!(plain.announcements, None);
        let named = format!("{direct} --peer-id x --peer-id y --peer-id z");
        let named = settings(&named).unwrap().discovery.direct;
        assert_eq!(named, peers([Some("x"), Some("y"), Some("z")]));
        let seeded = "--node-id a --tcp-seeds ::1,b:8,c --listen-port 9 --node-id-filter b";
        let seeded = settings(seeded).unwrap();
        let wanted = Tcp {
            node_port: 50051,
            seeds: vec!["[::1]:9".into(), "b:8".into(), "c:9".into()],
            probe: false,
            port: 9,
            nodes: vec!["b".into()],
        };
        assert_eq!(seeded.discovery.tcp, Some(wanted));
        assert_eq!((seeded.visitors, seeded.announcements), (Some(9), None));
        let all = "--node-id a --discovery-module udp,tcp,direct,tailscale --peer-host h:1";
        let all = settings(all).unwrap();
        assert!(all.discovery.broadcast.is_some() && all.discovery.tcp.is_some());
        assert_eq!(all.discovery.direct.len(), 1);
        let tailnet = all.tailscale.unwrap();
        assert_eq!((tailnet.tailnet.as_str(), &tailnet.key), ("-", &None));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("peers.json");
        fs::write(&file, r#"{"peers": {"b": {"address": "localhost:50052"}}}"#).unwrap();
        let line = format!("--node-id a --discovery-config-path {}", file.display());
        let manual = settings(&line).unwrap();
        assert!(manual.discovery.file && manual.discovery.broadcast.is_none());
        assert_eq!(manual.discovery_file.as_deref(), Some(file.as_path()));
        fs::write(
            &file,
            r#"{"peers": {"b": {"address": "localhost", "port": "x"}}}"#,
        )
        .unwrap();
        let told = error(&line);
        assert!(
            told.contains("peers.json") && told.contains("port"),
            "{told}"
        );
        assert!(!told.contains('\n'), "{told}");
    }

    #[test]
    fn what_names_no_peer_is_refused_in_one_line() {
        for (line, wanted) in [
            (
                "--tcp-seeds a:0",
                "--tcp-seeds: \"a:0\" does not end in a port",
            ),
            ("--tcp-seeds [::1", "is no IPv6 address in brackets"),
            ("--tcp-seeds user@a", "holds no host name"),
            ("--discovery-module tcp --node-port 0", "cannot be 0"),
            ("--discovery-module tcp --listen-port 0", "cannot be 0"),
            ("--discovery-module tailscale --node-port 0", "cannot be 0"),
            ("--discovery-module tailscale --tailnet-name a/b", "words"),
            ("--discovery-module direct", "needs --peer-host HOST"),
            ("--peer-host a:99999", "does not end in a port"),
            ("--peer-host a --peer-port 0", "has no port"),
            (
                "--peer-host a:1 --peer-host b:1 --peer-id x",
                "name all peers or none",
            ),
            ("--peer-host a:1 --peer-id \u{1b}[2J", "can be printed"),
            ("--node-id \u{1b}[2J", "can be printed"),
        ] {
            let told = error(line);
            assert!(told.contains(wanted), "{line}: {told}");
            assert!(!told.contains(['\n', '\u{1b}']), "{told:?}");
        }
        let many = ["a"; MOST_SEEDS + 1].join(",");
        assert!(error(&format!("--tcp-seeds {many}")).contains("at most 256"));
    }
}
