//! Of the addresses of a peer that work, the one in use is never clearly slower than the best, by the
//! rule that nodes have for it, a while after the last change.
//!
//! Broken on purpose: addresses are measured, and nothing follows from it. Seed 6 with 3 hosts shows
//! it.

use super::must;
use crate::sim::{Fault, Place, Ways, World};
use std::time::Duration;

/// After a change: the longest pause between two rounds of measuring, a round in which two dead
/// addresses are dialled in vain, and another of both because the first one began too early.
pub(crate) const SURVEYED: Duration = Duration::from_secs(90);

/// Round trips that differ by less than this are alike to a node.
const ALIKE: Duration = Duration::from_micros(200);

/// A question and its answer have no more bytes.
const BYTES: u64 = 1024;

/// Every peer is used at an address that is about as quick as any.
pub(crate) fn check(world: &World) -> Result<(), String> {
    // While a reference node is there, nodes stay where they are: it may have a part in anything. And
    // where connections are given up for what waits for them, there may be none just now.
    if world.may(&[Fault::BaseOnly]) || !world.is_fast() {
        return Ok(());
    }
    let real = world.real_hosts();
    for (index, host) in world.hosts[..real].iter().enumerate() {
        for peer in &host.node.status().peers {
            let to = peer.node.as_ref().and_then(|node| world.host_of(node));
            let ways = &world.net.ways;
            let known = peer.addresses.iter().filter_map(|a| ways.find(&a.address));
            let works = |place: &Place| Some(place.host) == to && world.net.reaches(index, *place);
            let trips = known
                .filter(works)
                .map(|place| (trip(world, index, place), place));
            let Some(((_, most), best)) = trips.min_by_key(|((_, most), _)| *most) else {
                continue;
            };
            let used = ways.find(&peer.address).filter(works);
            let least = used.map(|place| trip(world, index, place).0);
            let clearly =
                |least: Duration| least.saturating_sub(most) > ALIKE && most < least / 10 * 7;
            must(least.is_some_and(|least| !clearly(least)), || {
                let best = Ways::name(best);
                format!("n{index}: {best} takes {most:?} at most, but {least:?} at least: {peer:?}")
            })?;
        }
    }
    Ok(())
}

/// The least and the most that a round trip can take.
fn trip(world: &World, index: usize, place: Place) -> (Duration, Duration) {
    let there = world.net.between(index, place.host, place);
    let back = world.net.between(place.host, index, place);
    let over = |rate: u64| Duration::from_nanos(BYTES * 1_000_000_000 / rate);
    let least = there.latency + back.latency;
    let most = least + over(there.bytes_per_second) + over(back.bytes_per_second);
    (least, most)
}
