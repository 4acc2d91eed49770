//! Every ring that an application is told covers the model's layers once and in order, each stage
//! on another node that has the memory for it; all of them know each other, and none has said that
//! it leaves. Whoever failed a request is asked again only when there is nobody else.
//!
//! Broken on purpose: a node takes the place of a lost one beside its own, seed 0 with 3 hosts shows
//! it; peers are taken that do not know each other, seed 37 with 4 hosts.

use super::{must, nothing_impossible};
use crate::sim::{Fault, Host, INJECTED, LAYERS, World};
use exo_protocol::{NodeId, RequestId, Stage};
use std::collections::BTreeSet;
use std::time::Duration;

/// A goodbye takes no longer where nothing is cut.
const FAREWELL: Duration = Duration::from_secs(1);

/// Nor does it take longer to be back when a connection was reset, and to say goodbye again.
const MOVED: Duration = Duration::from_secs(5);

pub(crate) fn check(ring: &[Stage], model: &str, layers: u32) -> Result<(), String> {
    let mut next = 0;
    let mut nodes = BTreeSet::new();
    for Stage { node, shard } in ring {
        must(*shard.model == *model && shard.layers == layers, || {
            format!("{shard} in a ring of {model} with {layers} layers")
        })?;
        must(shard.start == next && shard.end >= shard.start, || {
            format!("{shard} on {node} where layer {next} comes next: {ring:?}")
        })?;
        must(nodes.insert(node), || {
            format!("{node} comes twice: {ring:?}")
        })?;
        next = shard.end + 1;
    }
    must(next == layers, || {
        format!("{next} of {layers} layers are covered: {ring:?}")
    })
}

/// Each stage has the memory for its layers; the cuts are rounded, so one layer more or less.
pub(crate) fn fits(world: &World, ring: &[Stage]) -> Result<(), String> {
    let mut all = 0;
    for Stage { node, shard } in ring {
        let host = world.host_of(node).map(|index| &world.hosts[index]);
        let memory = host.map_or(0, |host| host.config.capabilities.memory);
        let memory = u64::try_from(memory).unwrap_or(0);
        let least = u64::from(shard.end - shard.start) * world.model_mib / u64::from(LAYERS);
        must(least <= memory, || {
            format!("{node} has {memory} MiB for {shard}, which takes {least} at least")
        })?;
        all += memory;
    }
    must(all >= world.model_mib, || {
        format!("{all} MiB for {}: {ring:?}", world.model_mib)
    })
}

/// Each stage sees each other, and the origin.
pub(crate) fn hangs_together(host: &Host, ring: &[Stage]) -> Result<(), String> {
    if ring.is_empty() {
        return Ok(());
    }
    let status = host.node.status();
    let sees = |from: &NodeId, to: &NodeId| {
        let edges = status.topology.edges.get(from);
        from == to || edges.is_some_and(|edges| edges.contains_key(to))
    };
    let nodes = || ring.iter().map(|stage| &stage.node).chain([&status.node]);
    for from in nodes() {
        let stranger = nodes().find(|to| !sees(from, to));
        must(stranger.is_none(), || {
            format!("{from} does not see {stranger:?}: {ring:?}")
        })?;
    }
    Ok(())
}

/// Whose engine failed, or took too long, if that is what happened.
pub(crate) fn who_failed(reason: &str) -> Option<NodeId> {
    let (node, failed) = reason.strip_prefix("node ")?.split_once(": ")?;
    (failed == INJECTED || nothing_impossible::is_wait(failed)).then(|| node.into())
}

/// Who had too much to do, if that is what happened.
pub(crate) fn who_is_busy(reason: &str) -> Option<NodeId> {
    let (node, said) = reason.strip_prefix("node ")?.split_once(": ")?;
    nothing_impossible::is_busy(said).then(|| node.into())
}

/// A ring that comes after another.
pub(crate) fn again(
    world: &World,
    index: usize,
    request: &RequestId,
    ring: &[Stage],
    reason: &str,
) -> Result<(), String> {
    // Its own id, not its own place: a clone goes on alone as well.
    let own = &world.hosts[index].config.node;
    let others = ring.iter().any(|stage| stage.node != *own);
    must(!others || !world.speaks_base(index, ring), || {
        format!("{request} goes on over the base protocol: {ring:?}")
    })?;
    let client = world.hosts[index].clients.get(request);
    let (Some(client), Some(node)) = (client, who_failed(reason)) else {
        return Ok(());
    };
    // With a model that needs several nodes there may be no ring without it.
    let again = ring.iter().any(|stage| stage.node == node) && world.model_mib == 0;
    let other = ring
        .iter()
        .find(|stage| !client.course.blamed.contains(&stage.node));
    must(!again || other.is_none(), || {
        format!("{request} goes back to {node} after {reason:?}, and there is {other:?}")
    })
}

/// No stage is on a host that said goodbye a while ago. The base protocol has no word for it.
pub(crate) fn on_who_stays(world: &World, index: usize, ring: &[Stage]) -> Result<(), String> {
    if world.may(&Fault::CUTS) || world.hosts[index].base {
        return Ok(());
    }
    let gone = leaver(world, index, ring, FAREWELL);
    must(gone.is_none(), || {
        format!("{gone:?} leaves, but is in {ring:?}")
    })
}

/// Requests move away from a host that said goodbye, as long as there is another one: their origin.
pub(crate) fn nobody_stays_with_a_leaver(world: &World) -> Result<(), String> {
    let cuts = Fault::CUTS
        .into_iter()
        .filter(|fault| *fault != Fault::Reset);
    if world.may(&cuts.collect::<Vec<_>>()) || world.model_mib > 0 || !world.is_fast() {
        return Ok(());
    }
    let real = world.hosts.iter().enumerate().take(world.real_hosts());
    for (index, host) in real.filter(|(_, host)| !host.base) {
        let running = host.clients.iter().filter(|(_, c)| c.end.is_none());
        for (request, client) in running.filter(|(request, _)| !world.mixed.contains(*request)) {
            let course = &client.course;
            let settled = world.now.saturating_since(course.placed) >= MOVED;
            let gone = leaver(world, index, &course.ring, MOVED);
            // Not even its origin can take it: what the leaver has begun it finishes.
            let own = &host.config.node;
            let alone = course.blamed.contains(own) || course.busy.contains(own);
            must(gone.is_none() || !settled || alone, || {
                format!("n{index}: {request} stays with {gone:?}, which leaves")
            })?;
        }
    }
    Ok(())
}

/// A stage on another host that said goodbye so long ago.
fn leaver(world: &World, index: usize, ring: &[Stage], long: Duration) -> Option<NodeId> {
    let leaves = |stage: &&Stage| {
        let host = world.host_of(&stage.node).filter(|other| *other != index);
        let host = host.map(|other| &world.hosts[other]).filter(|h| !h.base);
        let since = host.and_then(|host| host.drains);
        since.is_some_and(|at| world.now.saturating_since(at) >= long)
    };
    ring.iter().find(leaves).map(|stage| stage.node.clone())
}

#[cfg(test)]
mod tests {
    use super::check;
    use exo_protocol::{Shard, Stage};

    fn ring(stages: &[(&str, std::ops::Range<u32>)]) -> Vec<Stage> {
        let stage = |(node, range): &(&str, std::ops::Range<u32>)| Stage {
            node: (*node).into(),
            shard: Shard::new("m".into(), range.clone(), 8).expect("a range of layers"),
        };
        stages.iter().map(stage).collect()
    }

    #[test]
    fn gaps_overlaps_and_doubles_are_seen() {
        assert_eq!(check(&ring(&[("a", 0..3), ("b", 3..8)]), "m", 8), Ok(()));
        for wrong in [
            ring(&[]),
            ring(&[("a", 0..7)]),
            ring(&[("a", 0..3), ("b", 4..8)]),
            ring(&[("a", 0..5), ("b", 3..8)]),
            ring(&[("a", 0..3), ("a", 3..8)]),
        ] {
            assert!(check(&wrong, "m", 8).is_err(), "{wrong:?}");
        }
        assert!(check(&ring(&[("a", 0..8)]), "n", 8).is_err());
    }
}
