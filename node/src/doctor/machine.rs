//! Looks at this machine, and changes nothing.

use super::facts::{Computing, Home, Host, KnownPeer, Machine, Net, Port, Running};
use super::http::{self, Web};
use super::peer;
use crate::capabilities;
use crate::cli::{Args, EngineKind};
use crate::engines;
use crate::identity;
use crate::library::Library;
use crate::settings::{NODE_PORT, Settings, own_key};
use exo_models::Catalog;
use exo_protocol::discovery::manual::{self, ManualPeer};
use if_addrs::{IfAddr, Ifv4Addr};
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

/// A node of this machine answers sooner.
const LOCAL: Duration = Duration::from_secs(2);

/// All but broadcasts. Also the peers that the file names.
pub(super) fn look(args: &Args) -> (Machine, Vec<ManualPeer>) {
    let node_address = (args.node_host.clone(), args.node_port.unwrap_or(NODE_PORT));
    let api_address = (args.chatgpt_api_host.clone(), args.chatgpt_api_port);
    let node_port = port(&node_address);
    let api_port = port(&api_address);
    let (file, peers) = match &args.discovery_config_path {
        None => (None, Vec::new()),
        Some(path) => {
            let read = read_peers(path);
            let name = path.display().to_string();
            match read {
                Ok(peers) => (Some((name, None)), peers),
                Err(problem) => (Some((name, Some(problem))), Vec::new()),
            }
        }
    };
    // One that is none is told where it was given; nobody else's API gets it.
    let key = own_key(args).ok().flatten();
    let running = match &api_port {
        Port::Taken(_) => local(&api_address)
            .and_then(|address| http::status(address, key.as_deref(), LOCAL))
            .and_then(|web| match web {
                Web::Node(status) => running(&status),
                Web::Locked | Web::Other => None,
            }),
        _ => None,
    };
    let machine = Machine {
        node_address,
        node_port,
        api_address,
        api_port,
        running,
        nets: nets().map_err(|error| error.to_string()),
        home: home(&identity::home()),
        computing: computing(args),
        host: host(),
        file,
    };
    (machine, peers)
}

/// Whether a port can be had. It is let go at once, and nobody was told of it.
fn port(address: &(String, u16)) -> Port {
    let host = address.0.trim_matches(['[', ']']);
    match TcpListener::bind((host, address.1)).map(drop) {
        Ok(()) => Port::Free,
        Err(error) => match error.kind() {
            ErrorKind::AddrInUse => Port::Taken(local(address).and_then(peer::voice)),
            ErrorKind::AddrNotAvailable => Port::NotOurs,
            ErrorKind::PermissionDenied => Port::Forbidden,
            _ => Port::Failed(error.to_string()),
        },
    }
}

/// Where whoever listens at this address can be reached from here.
fn local((host, port): &(String, u16)) -> Option<SocketAddr> {
    let host = host.trim_matches(['[', ']']);
    let mut address = (host, *port).to_socket_addrs().ok()?.next()?;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}

/// What a node's API says of it.
fn running(status: &Value) -> Option<Running> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let peers = status.get("peers").and_then(Value::as_array);
    let known = |peer: &Value| {
        Some(KnownPeer {
            node: peer.get("node_id").and_then(text),
            address: peer.get("address").and_then(text)?,
            up: peer.get("up").and_then(Value::as_bool).unwrap_or(false),
        })
    };
    Some(Running {
        node: status.get("node_id").and_then(text)?,
        version: status.get("version").and_then(text),
        incarnation: status.get("incarnation").and_then(Value::as_u64),
        peers: peers.into_iter().flatten().filter_map(known).collect(),
    })
}

fn nets() -> io::Result<Vec<Net>> {
    let all = if_addrs::get_if_addrs()?;
    Ok(all
        .into_iter()
        .map(|found| {
            let (address, prefix, broadcast) = match &found.addr {
                IfAddr::V4(v4) => (v4.ip.into(), v4.prefixlen, broadcast(v4)),
                IfAddr::V6(v6) => (v6.ip.into(), v6.prefixlen, None),
            };
            Net {
                name: found.name,
                address,
                prefix,
                broadcast: broadcast.filter(|_| !found.is_p2p),
            }
        })
        .collect())
}

/// As the runtimes have it: not every system tells of it.
fn broadcast(address: &Ifv4Addr) -> Option<Ipv4Addr> {
    let alone = address.netmask == Ipv4Addr::BROADCAST;
    let computed = || address.ip | !address.netmask;
    address.broadcast.or_else(|| (!alone).then(computed))
}

fn home(path: &Path) -> Home {
    let mut home = Home {
        path: path.display().to_string(),
        exists: path.exists(),
        trouble: None,
        node: None,
        locked: false,
    };
    if !home.exists {
        return home;
    }
    match OpenOptions::new()
        .read(true)
        .write(true)
        .open(path.join("node_id"))
    {
        Ok(mut file) => {
            let locked = file.try_lock_shared();
            home.locked = matches!(locked, Err(TryLockError::WouldBlock));
            let mut id = String::new();
            // More than this is no id.
            if Read::by_ref(&mut file)
                .take(128)
                .read_to_string(&mut id)
                .is_ok()
            {
                home.node = Some(id.trim().to_owned()).filter(|id| !id.is_empty());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            home.trouble = try_to_write(path).err().map(|error| error.to_string());
        }
        Err(error) => home.trouble = Some(error.to_string()),
    }
    home
}

/// Makes an empty file and takes it away again: there is no other way to know.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!("doctor-{:016x}", crate::random::number()));
    File::create_new(&path)?;
    fs::remove_file(&path)
}

fn computing(args: &Args) -> Computing {
    let kind = args.inference_engine.unwrap_or_else(EngineKind::best);
    let engine = Settings::check_engine(kind)
        .map(|()| engines::words(&engines::info(kind)))
        .map_err(|error| error.to_string());
    let dirs = args.models_dir.iter().chain(&args.models_seed_dir);
    let library = match kind {
        EngineKind::Dummy => Library::dummy(),
        _ => Library::on_disk(
            Catalog::new(dirs.cloned().collect()),
            args.default_model.clone(),
        ),
    };
    let told = capabilities::detect(args.node_memory).memory;
    Computing {
        engine,
        model: library
            .speaker(None)
            .map(|speaker| (speaker.id().to_string(), speaker.bytes()))
            .map_err(|error| error.to_string()),
        free: fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| free(&text)),
        told: u64::try_from(told).unwrap_or(0).saturating_mul(1 << 20),
    }
}

/// `MemAvailable` of `/proc/meminfo` in bytes.
fn free(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let line = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn host() -> Host {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let files = ["/.dockerenv", "/run/.containerenv"];
    Host {
        wsl: is_wsl(&release),
        container: files.iter().any(|file| Path::new(file).exists()),
    }
}

/// Microsoft's kernels say so in their names.
fn is_wsl(release: &str) -> bool {
    release.to_ascii_lowercase().contains("microsoft")
}

fn read_peers(path: &Path) -> Result<Vec<ManualPeer>, String> {
    let limit = manual::MAX_LEN as u64 + 1;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    manual::parse(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_read() {
        let status = json!({
            "version": "1.2.3", "node_id": "a", "incarnation": 7,
            "peers": [
                {"node_id": null, "address": "10.0.0.1:5", "up": false},
                {"node_id": "b", "address": "10.0.0.2:5", "up": true},
                {"address": 7},
            ],
        });
        let running = running(&status).unwrap();
        assert_eq!(running.version.as_deref(), Some("1.2.3"));
        assert_eq!(running.incarnation, Some(7));
        let up: Vec<bool> = running.peers.iter().map(|peer| peer.up).collect();
        assert_eq!(up, [false, true]);
        assert_eq!(super::running(&json!({"node_id": 7})), None);
    }

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(
            free("MemTotal: 9 kB\nMemAvailable:   12 kB\n"),
            Some(12_288)
        );
        assert_eq!(free("MemTotal: 9 kB\n"), None);
        assert!(is_wsl("5.15.90.1-microsoft-standard-WSL2\n"));
        assert!(!is_wsl("6.1.0-18-amd64"));
    }

    #[test]
    fn a_home_folder_is_looked_at_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let missing = home(&folder.path().join("no"));
        assert!(!missing.exists && missing.trouble.is_none());
        let empty = home(folder.path());
        assert!(empty.exists && empty.trouble.is_none() && empty.node.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let held = identity::Identity::stored(folder.path());
        let used = home(folder.path());
        assert!(used.locked);
        assert_eq!(used.node.as_deref(), Some(held.id()));
        drop(held);
        assert!(!home(folder.path()).locked);
        let file = folder.path().join("node_id");
        assert!(home(&file).trouble.is_some(), "a file is no folder");
    }

    #[test]
    fn ports_are_free_or_somebodys() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        drop(taken);
        let address = ("127.0.0.1".to_owned(), number);
        assert_eq!(port(&address), Port::Free);
        assert_eq!(
            local(&("0.0.0.0".into(), 7)),
            Some(([127, 0, 0, 1], 7).into())
        );
        assert_eq!(local(&("[::]".into(), 7)), "[::1]:7".parse().ok());
        // An address of the documentation is no machine's (RFC 5737).
        assert_eq!(port(&("203.0.113.77".into(), 0)), Port::NotOurs);
    }
}
