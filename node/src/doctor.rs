//! `exo-node doctor`: why nodes do not find each other, and how good the ways between them are.
//!
//! What can be known is gathered first ([`facts`]), and judged by functions of it alone ([`judge`]);
//! what they find is told to people and to programs ([`report`]). Nothing is changed anywhere: nodes
//! are asked as a reference node would ask them, and the doctor is nobody's peer.

mod broadcasts;
mod client;
pub mod facts;
mod facts_json;
mod http;
pub mod judge;
pub mod link;
mod machine;
mod peer;
pub mod report;

use crate::cli::{Args, DiscoveryModule, UsageError};
use crate::settings::{NODE_PORT, address};
use crate::terminal::Style;
use client::Client;
use facts::{Air, Machine, Net, Peer, Port, Source, Voice};
use judge::ring::Here;
use report::{Finding, Level, Report, Section};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doctor {
    /// Peers that the user names, `host:port`.
    pub peers: Vec<String>,
    /// One JSON document instead of lines.
    pub json: bool,
}

/// Nodes announce themselves every 2.5 s.
const LISTEN: Duration = Duration::from_secs(3);

/// Most peers that are looked at; those that the user names come first.
const MOST: usize = 32;

/// Most peers to which the way is measured: it takes a second or two for each.
const MEASURED: usize = 8;

impl Doctor {
    /// What the words after `doctor` ask for.
    ///
    /// # Errors
    /// When one of them is no `host` or `host:port`.
    pub fn new(words: &[String], json: bool) -> Result<Self, UsageError> {
        let peers = words
            .iter()
            .map(|word| place(word))
            .collect::<Result<_, _>>()?;
        Ok(Self { peers, json })
    }
}

/// `host[:port]` with its port; an IPv6 address stands in brackets if it has one.
fn place(word: &str) -> Result<String, UsageError> {
    let wrong = |why: &str| UsageError(format!("doctor takes peers as HOST or HOST:PORT, {why}"));
    if let Some((_, host)) = word.split_once('@') {
        return Err(wrong(&format!(
            "not {word:?}; to look at it through SSH: exo-node tunnel {word}, then doctor \
             localhost:PORT of the tunnel (without it: doctor {host})"
        )));
    }
    if word.is_empty() || word.contains(['/', ' ']) {
        return Err(wrong(&format!("not {word:?}")));
    }
    let bare_six = word.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
    let (host, port) = match word.rsplit_once(':').filter(|_| !bare_six) {
        Some((host, "")) => (host, None),
        // Only the brackets' inside has colons.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (word, None),
    };
    let port = match port {
        None => NODE_PORT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => {
                return Err(wrong(&format!("and {port:?} is no port from 1 to 65535")));
            }
            Ok(port) => port,
        },
    };
    Ok(address(host, port))
}

/// Looks, judges and tells. Whether there is no problem.
///
/// # Errors
/// When nobody takes what is told.
pub fn doctor(args: &Args, what: &Doctor) -> io::Result<bool> {
    let report = report(args, what);
    let mut out = io::stdout().lock();
    if what.json {
        writeln!(out, "{:#}", report.json())?;
    } else {
        report.write(&mut out, Style::stdout())?;
    }
    out.flush()?;
    Ok(report.level() < Level::Problem)
}

fn report(args: &Args, what: &Doctor) -> Report {
    let (machine, filed) = machine::look(args);
    let nets = machine.nets.as_deref().unwrap_or_default();
    let here = here(&machine);
    let mut asked: Vec<(String, Source)> = Vec::new();
    let given = what.peers.iter().map(|peer| (peer.clone(), Source::Given));
    let filed = filed.into_iter().map(|peer| (peer.address, Source::File));
    add(&mut asked, given.chain(filed));
    // Listening takes its time; meanwhile peers that are known already are looked at.
    let (air, mut looked) = thread::scope(|scope| {
        let listening = listens(args)
            .then(|| scope.spawn(|| broadcasts::listen(args.listen_port, nets, LISTEN)));
        let looked = look(&asked, nets);
        (listening.and_then(|air| air.join().ok()), looked)
    });
    let before = asked.len();
    add(&mut asked, found(&machine, &here, air.as_ref()));
    looked.extend(look(asked.get(before..).unwrap_or_default(), nets));
    let mut peers = Vec::new();
    let mut measured = 0;
    for (mut peer, client) in looked {
        if let Some(mut client) = client.filter(|_| measured < MEASURED) {
            peer::measure(&mut peer, &mut client);
            measured += 1;
        }
        peers.push(peer);
    }
    judged(&machine, &here, air.as_ref(), &peers)
}

/// The node that runs here, or would.
fn here(machine: &Machine) -> Here {
    let by_port = match &machine.node_port {
        Port::Taken(Some(Voice::Own(identity))) => Some(identity),
        _ => None,
    };
    let by_api = machine.running.as_ref();
    let node = by_port
        .map(|identity| identity.node.clone())
        .or_else(|| by_api.map(|running| running.node.clone()));
    let resting = node.is_none() && !machine.home.locked;
    Here {
        incarnation: by_port
            .map(|identity| identity.incarnation)
            .or_else(|| by_api.and_then(|running| running.incarnation)),
        stored: machine.home.node.clone().filter(|_| resting),
        node,
    }
}

/// Whether a node with these flags listens to announcements.
fn listens(args: &Args) -> bool {
    let modules = args.discovery_module.as_ref();
    modules.is_none_or(|modules| modules.0.contains(&DiscoveryModule::Udp))
}

/// Peers that nobody named.
fn found(machine: &Machine, here: &Here, air: Option<&Air>) -> Vec<(String, Source)> {
    let heard = air.map_or(&[][..], |air| &air.heard);
    let others = heard
        .iter()
        .filter(|(_, announced)| Some(announced.node.as_str()) != here.node.as_deref());
    let mut all: Vec<(String, Source)> = others
        .map(|(from, announced)| {
            let address = SocketAddr::new(*from, announced.port).to_string();
            (address, Source::Heard)
        })
        .collect();
    let is_heard = |id: &str| {
        heard
            .iter()
            .any(|(_, announced)| announced.node.as_str() == id)
    };
    let known = machine.running.iter().flat_map(|running| &running.peers);
    let known = known.filter(|peer| is_place(&peer.address));
    let known = known.filter(|peer| !peer.node.as_deref().is_some_and(is_heard));
    all.extend(known.map(|peer| (peer.address.clone(), Source::Known { up: peer.up })));
    all
}

/// Whether it is `host:port`: a peer behind a command has no such address.
fn is_place(address: &str) -> bool {
    let place = address.rsplit_once(':');
    place.is_some_and(|(host, port)| {
        !host.contains(char::is_whitespace) && !host.is_empty() && port.parse::<u16>().is_ok()
    })
}

fn add(all: &mut Vec<(String, Source)>, more: impl IntoIterator<Item = (String, Source)>) {
    for (address, source) in more {
        if all.len() < MOST && !all.iter().any(|(known, _)| *known == address) {
            all.push((address, source));
        }
    }
}

/// Looks at several at the same time: most of it is waiting.
fn look(all: &[(String, Source)], nets: &[Net]) -> Vec<(Peer, Option<Client>)> {
    let looked = thread::scope(|scope| {
        let looking: Vec<_> = all
            .iter()
            .map(|(address, source)| scope.spawn(move || peer::look(address, *source)))
            .collect();
        let looked = looking.into_iter().filter_map(|one| one.join().ok());
        looked.collect::<Vec<_>>()
    });
    looked
        .into_iter()
        .map(|(mut peer, client)| {
            peer.near = is_near(&peer, nets);
            (peer, client)
        })
        .collect()
}

fn is_near(peer: &Peer, nets: &[Net]) -> bool {
    let dialed = peer.dialed.as_deref().unwrap_or_default();
    let mut addresses = dialed.iter().map(|(address, _)| address.ip());
    addresses.any(|ip| {
        let mut nets = nets.iter().filter(|net| !net.address.is_loopback());
        nets.any(|net| net.holds(ip) && net.address != ip)
    })
}

fn judged(machine: &Machine, here: &Here, air: Option<&Air>, peers: &[Peer]) -> Report {
    let nets = machine.nets.as_deref().unwrap_or_default();
    let elsewhere = |from: &IpAddr| !nets.iter().any(|net| net.address == *from);
    let heard = air.is_some_and(|air| air.heard.iter().any(|(from, _)| elsewhere(from)));
    let mut findings = judge::machine::judge(machine, heard);
    if let Some(air) = air {
        let known = !peers.is_empty();
        findings.extend(judge::air::judge(air, here.node.as_deref(), known));
    }
    findings.extend(judge::ring::duplicates(here, peers));
    let mut sections = vec![Section {
        peer: None,
        findings,
        facts: facts_json::machine(machine, air),
    }];
    let heard: Option<Vec<(IpAddr, String)>> = air
        .filter(|air| air.listening == facts::Listening::Open)
        .map(|air| {
            let ids = air.heard.iter();
            ids.map(|(from, announced)| (*from, announced.node.as_str().to_owned()))
                .collect()
        });
    for peer in peers {
        let mut findings: Vec<Finding> = judge::peer::judge(peer);
        let running = machine.running.as_ref();
        findings.extend(judge::ring::judge(peer, here, running, heard.as_deref()));
        sections.push(Section {
            peer: Some(peer.address.clone()),
            findings,
            facts: facts_json::peer(peer),
        });
    }
    Report { sections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_no_place() {
        assert!(is_place("10.0.0.1:7") && is_place("[::1]:7") && is_place("a:7"));
        for other in [
            "command ssh there",
            "command:nc a:7",
            "ssh u@a nc b:7",
            ":7",
            "a",
        ] {
            assert!(!is_place(other), "{other}");
        }
    }

    #[test]
    fn peers_are_hosts_with_ports_or_without() {
        for (word, wanted) in [
            ("mac2", "mac2:50051"),
            ("mac2:7", "mac2:7"),
            ("mac2.local:", "mac2.local:50051"),
            ("10.0.0.1", "10.0.0.1:50051"),
            ("::1", "[::1]:50051"),
            ("[::1]", "[::1]:50051"),
            ("[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(place(word).unwrap(), wanted);
        }
        for (word, wanted) in [
            ("me@mac2", "exo-node tunnel me@mac2"),
            ("mac2:x", "\"x\" is no port"),
            ("mac2:0", "\"0\" is no port"),
            ("mac2:70000", "\"70000\" is no port"),
            ("", "not \"\""),
            ("http://mac2", "not \"http://mac2\""),
        ] {
            let told = place(word).unwrap_err().to_string();
            assert!(told.contains(wanted), "{word}: {told}");
        }
    }
}
