//! Whether nodes that can reach each other are in one ring: seen one way only, seen by nobody, or
//! two of one id.

use super::super::facts::{Identity, Peer, Running, Source, Voice};
use super::super::report::Finding;
use std::net::IpAddr;

/// The node of this machine, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Its id, if one runs.
    pub node: Option<String>,
    /// Another one for each start.
    pub incarnation: Option<u64>,
    /// The id that the home folder keeps for the next one, if none has it now.
    pub stored: Option<String>,
}

/// How one peer stands to the node that runs here. `heard` are the ids that announce themselves and
/// from where; none if nobody could listen.
#[must_use]
pub fn judge(
    peer: &Peer,
    here: &Here,
    running: Option<&Running>,
    heard: Option<&[(IpAddr, String)]>,
) -> Vec<Finding> {
    let Some(id) = id(peer) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    if is_here(peer, here) {
        all.push(Finding::ok("same_node", "this is the node of this machine"));
        return all;
    }
    all.extend(both_ways(peer, id, here, running));
    all.extend(silent(peer, id, heard));
    all
}

/// The peer's id, if it is a node.
#[must_use]
pub fn id(peer: &Peer) -> Option<&str> {
    match &peer.voice {
        Some(Voice::Own(identity)) => Some(&identity.node),
        Some(Voice::Reference) => peer.view.as_ref()?.node.as_deref(),
        _ => None,
    }
}

fn is_here(peer: &Peer, here: &Here) -> bool {
    let Some(Voice::Own(identity)) = &peer.voice else {
        return false;
    };
    here.node.as_deref() == Some(&identity.node)
        && here
            .incarnation
            .is_none_or(|run| run == identity.incarnation)
}

/// Whether each of the two nodes knows the other.
fn both_ways(peer: &Peer, id: &str, here: &Here, running: Option<&Running>) -> Option<Finding> {
    const CHECK: &str = "one_way";
    let own = here.node.as_deref()?;
    let lists_us = peer
        .view
        .as_ref()
        .map(|view| view.peers.iter().any(|peer| peer == own));
    let we_know = running.map(|running| {
        let mut peers = running.peers.iter();
        peers.any(|peer| peer.up && peer.node.as_deref() == Some(id))
    });
    let it = format!("node {id:?}");
    Some(match (we_know, lists_us) {
        (None, None) => return None,
        (Some(true) | None, Some(true)) => {
            Finding::ok(CHECK, format!("{it} and the node here are in one ring"))
        }
        (Some(true), None) => Finding::ok(CHECK, format!("the node here is connected to {it}")),
        (Some(true), Some(false)) => Finding::warning(
            CHECK,
            format!(
                "seen one way only: the node here is connected to {it}, which does not know it"
            ),
            "wait some seconds and look again; if it stays, let that node find this one, too: \
             exo-node doctor there says what is in its way",
        ),
        (Some(false), Some(true)) => Finding::warning(
            CHECK,
            format!("seen one way only: {it} knows the node here, which is not connected to it"),
            "wait some seconds and look again; if it stays, name it here: --peer-host HOST \
             --peer-port PORT",
        ),
        (Some(false) | None, Some(false)) | (Some(false), None) => Finding::warning(
            CHECK,
            format!("{it} and the node here can connect, but are not in one ring"),
            format!(
                "one of the two has to know the other: start the node here with {}",
                dial(&peer.address)
            ),
        ),
    })
}

fn dial(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) => format!("--peer-host {host} --peer-port {port}"),
        None => format!("--peer-host {address}"),
    }
}

/// A node of this network whose announcements do not come.
fn silent(peer: &Peer, id: &str, heard: Option<&[(IpAddr, String)]>) -> Option<Finding> {
    let heard = heard?;
    if !peer.near || peer.source == Source::Heard || heard.iter().any(|(_, node)| node == id) {
        return None;
    }
    Some(Finding::warning(
        "not_heard",
        format!("connections to node {id:?} work, but its announcements do not come here"),
        format!(
            "if it is to be found by itself: UDP port 5678 has to be open in both firewalls, and \
             Wi-Fi must not isolate clients. It works without: {}",
            dial(&peer.address)
        ),
    ))
}

const CLONED: &str = "a home folder was copied: remove node_id from ~/.cache/exo on one of the \
    machines and start its node anew, or give it --node-id NAME";

/// Ids that two nodes have at the same time: a home folder, or a whole disk, was copied.
#[must_use]
pub fn duplicates(here: &Here, peers: &[Peer]) -> Vec<Finding> {
    let mut met: Vec<(&str, u64, &str)> = Vec::new();
    if let (Some(node), Some(incarnation)) = (&here.node, here.incarnation) {
        met.push((node, incarnation, "this machine"));
    }
    let mut all = Vec::new();
    for peer in peers {
        let Some(Voice::Own(Identity {
            node, incarnation, ..
        })) = &peer.voice
        else {
            continue;
        };
        if here.stored.as_deref() == Some(node) {
            all.push(Finding::problem(
                "duplicate_id",
                format!(
                    "the node at {} has the id that this machine keeps, {node:?}",
                    peer.address
                ),
                CLONED,
            ));
        }
        let twin = |(id, run, _): &&(&str, u64, &str)| id == node && run != incarnation;
        if let Some((_, _, first)) = met.iter().find(twin) {
            all.push(Finding::problem(
                "duplicate_id",
                format!(
                    "two nodes have the id {node:?}, on {first} and at {}: only one of them can be \
                     in a ring",
                    peer.address
                ),
                CLONED,
            ));
        }
        if !met.contains(&(node, *incarnation, &peer.address)) {
            met.push((node, *incarnation, &peer.address));
        }
    }
    all
}

#[cfg(test)]
mod tests;
