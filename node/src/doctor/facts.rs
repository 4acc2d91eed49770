//! What can be known before anything is judged. Plain values: tests make them up.

use super::link::{Transfer, Trips};
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::topology::{Capabilities, EngineInfo};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Who answers at an address.
#[derive(Clone, Debug, PartialEq)]
pub enum Voice {
    /// A node of ours.
    Own(Identity),
    /// A node that speaks the base protocol alone.
    Reference,
    /// A web server; with the id of the node whose API it is, if it is one.
    Http(Option<String>),
    /// The API of a node that wants a key.
    Locked,
    /// A secure shell.
    Ssh,
    /// Something that expects encryption.
    Tls,
    /// It takes connections and says nothing.
    Silent,
    /// It takes connections and closes them.
    Closes,
    /// It says something else; the first bytes of it.
    Other(Vec<u8>),
}

/// A node of ours in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: String,
    /// Another one for each start.
    pub incarnation: u64,
    /// The extension's version.
    pub version: u32,
    /// What computes there.
    pub engine: Option<EngineInfo>,
}

/// What came of connecting to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialed {
    /// It was connected, in this time.
    Connected(Duration),
    /// The machine is there and nobody listens.
    Refused,
    /// Nothing came back.
    TimedOut,
    /// There is no way, says this machine or a router.
    Unreachable,
    /// This machine does not let it out.
    Forbidden,
    /// Another reason of the system.
    Failed(String),
}

/// What a node says of its ring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Its own id: the first one that it tells, as all versions do.
    pub node: Option<String>,
    /// Its machine.
    pub machine: Option<Capabilities>,
    /// The peers that it tells of.
    pub peers: Vec<String>,
}

/// What was found out about one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// As it was given or found, `host:port`.
    pub address: String,
    /// Where it comes from.
    pub source: Source,
    /// What the name stands for, and what came of each; or why it stands for nothing.
    pub dialed: Result<Vec<(SocketAddr, Dialed)>, String>,
    /// Who answers, if anybody was reached.
    pub voice: Option<Voice>,
    /// What it says of its ring, if it is a node.
    pub view: Option<View>,
    /// Round trips of the smallest message.
    pub trips: Trips,
    /// Round trips with as much as a token's hidden state.
    pub hops: Trips,
    /// Messages of growing sizes.
    pub transfers: Vec<Transfer>,
    /// Whether its address is in a subnet of this machine; loopback is none.
    pub near: bool,
}

/// How the doctor came to look at a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The user named it.
    Given,
    /// It stands in the file of peers.
    File,
    /// It announces itself.
    Heard,
    /// The node that runs here is connected to it, or tries.
    Known {
        /// It is; perhaps the peer came by itself, from a port that takes no connections.
        up: bool,
    },
}

/// A port of this machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Port {
    /// It could be had.
    Free,
    /// Somebody has it.
    Taken(Option<Voice>),
    /// The address is not this machine's.
    NotOurs,
    /// The user may not have it.
    Forbidden,
    /// Another reason of the system.
    Failed(String),
}

/// The node that runs here, by its API.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Its id.
    pub node: String,
    /// The program's version.
    pub version: Option<String>,
    /// Another one for each start.
    pub incarnation: Option<u64>,
    /// Its peers.
    pub peers: Vec<KnownPeer>,
}

/// A peer, as the node here sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its id, if it is known.
    pub node: Option<String>,
    /// Where it is.
    pub address: String,
    /// Whether it answers.
    pub up: bool,
}

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// The interface's name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix: u8,
    /// Where broadcasts go, if the interface has them.
    pub broadcast: Option<Ipv4Addr>,
}

impl Net {
    /// Whether an address is in the same network.
    #[must_use]
    pub fn holds(&self, other: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| {
            let prefix = u32::from(self.prefix).min(bits);
            let shift = bits - prefix;
            // A shift by all bits is none.
            prefix == 0 || a >> shift == b >> shift
        };
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }

    /// Whether announcements can go over it to other machines.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.broadcast.is_some() && !self.address.is_loopback()
    }
}

/// The port for announcements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// It was opened, perhaps beside a node.
    Open,
    /// A program has it that shares it with nobody.
    Taken,
    /// Another reason of the system.
    Failed(String),
}

/// What came of listening to announcements for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Air {
    /// The UDP port.
    pub port: u16,
    /// Whether it could be listened to.
    pub listening: Listening,
    /// Interfaces over which something was sent, and whether it was heard here.
    pub echoes: Vec<(String, bool)>,
    /// Announcements of others, one for each id and address.
    pub heard: Vec<(IpAddr, Announcement)>,
    /// For how long.
    pub time: Duration,
}

/// The home folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Where it is.
    pub path: String,
    /// Whether it is there; a node makes it.
    pub exists: bool,
    /// Why nothing can be written there.
    pub trouble: Option<String>,
    /// The id that is kept there.
    pub node: Option<String>,
    /// A node of this machine uses it.
    pub locked: bool,
}

/// What a node started with the same flags would compute with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computing {
    /// The engine in a few words.
    pub engine: Result<String, String>,
    /// The model for requests that name none, and the bytes of its weights; or why there is none.
    pub model: Result<(String, u64), String>,
    /// Bytes of memory that programs can have now, if the system tells.
    pub free: Option<u64>,
    /// Bytes of memory for models that peers are told of.
    pub told: u64,
}

/// Where this system runs, as far as it changes what others can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Linux under Windows.
    pub wsl: bool,
    /// A container.
    pub container: bool,
}

/// Everything about this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Where peers would connect.
    pub node_address: (String, u16),
    /// Whether it can be had.
    pub node_port: Port,
    /// Where clients would.
    pub api_address: (String, u16),
    /// Whether it can be had.
    pub api_port: Port,
    /// The node that runs here.
    pub running: Option<Running>,
    /// Its addresses.
    pub nets: Result<Vec<Net>, String>,
    /// The home folder.
    pub home: Home,
    /// What would compute.
    pub computing: Computing,
    /// What kind of system it is.
    pub host: Host,
    /// The file that names peers, and what is wrong with it.
    pub file: Option<(String, Option<String>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, prefix: u8) -> Net {
        Net {
            name: "eth0".into(),
            address: address.parse().unwrap(),
            prefix,
            broadcast: None,
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |net: &Net, other: &str| net.holds(other.parse().unwrap());
        let home = net("192.168.1.7", 24);
        assert!(holds(&home, "192.168.1.255") && !holds(&home, "192.168.2.1"));
        assert!(!holds(&home, "::1"));
        assert!(holds(&net("10.0.0.1", 0), "1.2.3.4"));
        let alone = net("10.0.0.1", 32);
        assert!(holds(&alone, "10.0.0.1") && !holds(&alone, "10.0.0.2"));
        let six = net("fe80::1", 64);
        assert!(holds(&six, "fe80::2") && !holds(&six, "fe81::1"));
        assert!(holds(&net("::1", 0), "fe80::2"));
    }
}
