//! While any address of a live peer works in both directions, and a node knows of it, the two are
//! connected: a while after the last change, whatever else is dead. And as long as nothing dies,
//! nothing is lost by a change of address: no peer goes down, and no request gets another ring.
//!
//! Broken on purpose: a lost peer is never dialled again, seed 1 with 3 hosts shows it; the connection
//! that another one takes the place of is closed at once, seed 30 with 3 hosts.

use super::must;
use crate::sim::{Fault, Place, Ways, World};
use exo_protocol::{Event, Failure};
use std::time::Duration;

/// After a change: four probes in vain, dials to the other addresses in vain, each of them until
/// both the system and the node give it up, and once more because an address was being waited for.
pub(crate) const SETTLED: Duration = Duration::from_secs(35);

/// A peer that is there is up, if anything changed long enough ago.
pub(crate) fn connected(world: &World) -> Result<(), String> {
    let quiet = world.now.saturating_since(world.unrest.changed) >= SETTLED;
    if !quiet || !is_roomy(world) {
        return Ok(());
    }
    let real = world.real_hosts();
    for (index, host) in world.hosts[..real].iter().enumerate() {
        let there = |host: &crate::sim::Host| host.is_on() && !host.leaving;
        if !there(host) {
            continue;
        }
        let status = host.node.status();
        for other in (0..real).filter(|other| *other != index && there(&world.hosts[*other])) {
            let node = &world.hosts[other].config.node;
            let peer = status.peers.iter().find(|p| p.node.as_ref() == Some(node));
            let Some(peer) = peer.filter(|peer| !peer.up) else {
                continue;
            };
            let ways = &world.net.ways;
            let places = peer.addresses.iter().filter_map(|a| ways.find(&a.address));
            let works = |place: &Place| place.host == other && world.net.reaches(index, *place);
            let works: Vec<Place> = places.filter(works).collect();
            must(works.is_empty(), || {
                let works: Vec<String> = works.into_iter().map(Ways::name).collect();
                format!("n{index} is not connected with {node}, which is at {works:?}: {peer:?}")
            })?;
        }
    }
    Ok(())
}

/// Whether no connection is given up for what waits for it.
fn is_roomy(world: &World) -> bool {
    world.is_fast() && !world.may(&[Fault::SlowLink, Fault::BaseOnly])
}

/// Words for a connection that is no more.
const LOST: [&str; 6] = [
    "silent after",
    "closed by the peer",
    "connection reset by peer",
    "no route to host",
    "has no connection to",
    "left the ring",
];

/// Nothing is lost where nothing died.
pub(crate) fn undisturbed(world: &World, index: usize, event: &Event) -> Result<(), String> {
    let quiet = world.now.saturating_since(world.unrest.broke) >= SETTLED;
    if !world.net.ways.several || !quiet || !is_roomy(world) {
        return Ok(());
    }
    let lost = |reason: &str| LOST.iter().any(|word| reason.contains(word));
    let holds = match event {
        Event::PeerDown { .. } => false,
        Event::Recovering { reason, .. } => !lost(reason),
        Event::Failed { failure, .. } => match failure {
            Failure::PeerLost { .. } => false,
            other => !lost(&other.to_string()),
        },
        _ => true,
    };
    must(holds, || {
        format!("n{index} lost something and nothing had died: {event:?}")
    })
}
