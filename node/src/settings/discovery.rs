//! How peers are found, by the command line.

use super::{NODE_PORT, SettingsError, address, usage};
use crate::cli::{Args, DiscoveryModule, DiscoveryModules};
use exo_protocol::NodeId;
use exo_protocol::config::{Broadcast, DirectPeer, Discovery};
use exo_protocol::discovery::manual;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Without `--discovery-module`, the flags of a module choose it; without those, nodes that serve
/// announce themselves where others can hear and reach them.
pub(super) fn discovery(
    args: &Args,
    serving: bool,
) -> Result<(Discovery, Option<PathBuf>), SettingsError> {
    let modules = args.discovery_module.clone().unwrap_or_else(|| {
        let reachable = args.node_port != Some(0) && !is_loopback(&args.node_host);
        let module = if args.discovery_config_path.is_some() {
            Some(DiscoveryModule::Manual)
        } else if args.peer_host.is_some() {
            Some(DiscoveryModule::Direct)
        } else {
            (serving && reachable && args.peer_command.is_empty()).then_some(DiscoveryModule::Udp)
        };
        DiscoveryModules(module.into_iter().collect())
    });
    let (mut discovery, mut file) = (Discovery::default(), None);
    for module in modules.0 {
        match module {
            DiscoveryModule::Later(name) => {
                return Err(SettingsError::Unavailable(format!(
                    "--discovery-module {name} is not in this version; use udp, manual (with \
                     --discovery-config-path) or direct (with --peer-host and --peer-port)"
                )));
            }
            DiscoveryModule::Udp => discovery.broadcast = Some(broadcast(args)?),
            DiscoveryModule::Manual => {
                let path = args.discovery_config_path.clone().ok_or_else(|| {
                    usage("--discovery-module manual needs --discovery-config-path FILE")
                })?;
                check_peers(&path)?;
                discovery.file = true;
                file = Some(path);
            }
            DiscoveryModule::Direct => {
                let (Some(host), Some(port)) = (&args.peer_host, args.peer_port) else {
                    return Err(usage(
                        "--discovery-module direct needs --peer-host HOST and --peer-port PORT",
                    ));
                };
                discovery.direct.push(DirectPeer {
                    address: address(host, port),
                    node: args.peer_id.as_deref().map(NodeId::from),
                });
            }
        }
    }
    Ok((discovery, file))
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
    let list = |text: &Option<String>| -> Vec<String> {
        let names = text.iter().flat_map(|text| text.split(','));
        let names = names.map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    let nodes = list(&args.node_id_filter);
    Ok(Broadcast {
        node_port,
        target_port: args.broadcast_port,
        nodes: nodes.into_iter().map(NodeId::from).collect(),
        kinds: list(&args.interface_type_filter),
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
        let direct = settings("--node-id a --peer-host ::1 --peer-port 7 --peer-id b").unwrap();
        let peer = DirectPeer {
            address: "[::1]:7".into(),
            node: Some("b".into()),
        };
        assert_eq!(direct.discovery.direct, vec![peer]);
        assert_eq!(direct.announcements, None);
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
}
