//! Every request ends within its time and for a reason that there was, and until then goes on: it is
//! placed anew when its ring is broken, but not for ever. When the faults stop, all nodes come to see
//! the same ring and a request at each of them succeeds.
//!
//! Broken on purpose: a lost peer is never dialled again. Seed 0 with 3 hosts shows it.

use super::{downloads_seen, must, nothing_impossible, nothing_left};
use crate::sim::{Client, End, Fault, INJECTED, World};
use exo_protocol::topology::ModelCost;
use exo_protocol::{Failure, FinishReason, Rejection, RequestId};
use std::time::Duration;

/// A deadline is an event like any other.
const GRACE: Duration = Duration::from_millis(10);

/// As many rings may break in a row before an origin makes pauses.
pub(crate) const NO_PAUSE: u32 = 4;

/// A node that failed a request so often is not asked again.
const TOO_OFTEN: u32 = 3;

/// No stage has more patience, nobody needs longer to notice that another is gone, and no engine
/// longer for what it has to do. What is lost then is lost for good.
const STUCK: Duration = Duration::from_secs(15);

/// No request is late, stays in a ring that its origin knows to be broken, or is stuck.
pub(crate) fn in_time(world: &World) -> Result<(), String> {
    let moves = !world.may(&Fault::DELAYS);
    // In the base protocol a step waits behind whole prompts of others.
    let base_moves = moves && world.is_fast() && !world.may(&[Fault::Leave]);
    let base_moves = base_moves && !world.may(&Fault::CUTS);
    for (index, host) in world.hosts.iter().enumerate() {
        let (now, regroup) = (host.clock.at(world.now), host.config.timing.regroup);
        let running = host.clients.iter().filter(|(_, c)| c.end.is_none());
        for (request, client) in running {
            let late = now.saturating_since(client.until);
            must(late <= GRACE, || {
                format!("n{index}: {request} is late by {late:?}")
            })?;
            let (course, mixed) = (&client.course, world.mixed.contains(request));
            let stuck = world.now.saturating_since(course.moved);
            let moves = if mixed { base_moves } else { moves };
            must(stuck <= STUCK || !moves, || {
                format!("n{index}: {request} has been stuck for {stuck:?}")
            })?;
            let since = course.broken.filter(|_| !course.pauses && !mixed);
            let broken = now.saturating_since(since.unwrap_or(now));
            must(broken <= regroup + GRACE, || {
                format!("n{index}: {request} has a broken ring for {broken:?}")
            })?;
        }
    }
    Ok(())
}

/// A request whose client went away is over at once.
pub(crate) fn cancelled(world: &World, index: usize, request: &RequestId) -> Result<(), String> {
    let client = world.hosts[index].clients.get(request);
    let over = client.is_none_or(|client| client.end.is_some());
    must(over, || {
        format!("n{index}: {request} was cancelled and goes on")
    })
}

/// A request that ended had a reason to end so.
pub(crate) fn fairly(world: &World, index: usize, request: &RequestId) -> Result<(), String> {
    let Some(client) = world.hosts[index].clients.get(request) else {
        return Ok(());
    };
    let Some(end) = &client.end else {
        return Ok(());
    };
    let fair = match end {
        End::Finished(_) | End::Orphaned => true,
        End::Failed(failure) => failed_fairly(world, index, request, client, failure),
        End::Rejected(Rejection::Busy(requests)) => {
            *requests >= world.hosts[index].config.limits.requests
        }
        End::Rejected(Rejection::Stopping) => world.hosts[index].leaving,
        End::Rejected(Rejection::Memory {
            needed,
            left,
            nodes,
        }) => too_little(world, *needed, *left, nodes),
        // Who speaks the base protocol cannot be told of penalties.
        End::Rejected(Rejection::Sampling(_)) => world.hosts.iter().any(|host| host.base),
        End::Rejected(_) => false,
    };
    must(fair, || format!("ended without reason: {end:?}"))
}

/// What the nodes have does not do: it is less than the model takes, or lies where no layer fits into
/// it.
fn too_little(world: &World, needed: u64, left: u64, nodes: &str) -> bool {
    let layers = |part: &str| -> Option<[u32; 2]> {
        let (fit, rest) = part.split_once(" of ")?;
        let (all, _) = rest.split_once(' ')?;
        Some([fit.parse().ok()?, all.parse().ok()?])
    };
    let each: Vec<[u32; 2]> = nodes.split("which is ").filter_map(layers).collect();
    let fit: u32 = each.iter().map(|[fit, _]| fit).sum();
    let scattered = each.first().is_some_and(|[_, all]| fit < *all);
    // What is placed by more than its weights takes more than those.
    let counted = match world.cost == ModelCost::default() {
        true => needed == world.model_mib,
        false => needed >= world.model_mib,
    };
    counted && (needed > left || scattered || nodes.contains("which no node has"))
}

fn failed_fairly(
    world: &World,
    index: usize,
    request: &RequestId,
    client: &Client,
    failure: &Failure,
) -> bool {
    let host = &world.hosts[index];
    let mixed = world.mixed.contains(request);
    match failure {
        Failure::Cancelled => client.cancelled,
        Failure::Stopping => host.leaving,
        Failure::Memory {
            needed,
            left,
            nodes,
            ..
        } => too_little(world, *needed, *left, nodes),
        Failure::Unrecoverable { recoveries, .. } => *recoveries == host.config.limits.recoveries,
        Failure::TimedOut { .. } => host.clock.at(world.now) >= client.until,
        // Whoever is left has failed it so often that nobody asks it again.
        Failure::PeerLost { .. } => mixed || client.course.injected >= TOO_OFTEN,
        Failure::Stage { message, .. } if nothing_impossible::is_farewell(world, message) => {
            mixed || client.course.injected >= TOO_OFTEN
        }
        // In the base protocol hidden states may come from anywhere.
        Failure::Refused { .. } => mixed,
        // Nobody is left who has not failed.
        Failure::Stage { message, .. } => {
            mixed
                || message == INJECTED
                || nothing_impossible::is_overload(world, message)
                || nothing_impossible::is_other_model(world, message)
        }
        _ => false,
    }
}

/// Whoever is told to stop tells all its clients at once.
pub(crate) fn stopped(world: &World, index: usize) -> Result<(), String> {
    let mut clients = world.hosts[index].clients.iter();
    let running = clients.find(|(_, client)| client.end.is_none());
    must(running.is_none(), || {
        format!("n{index} was stopped, and {running:?} goes on")
    })?;
    let mut jobs = world.hosts[index].jobs.iter();
    let running = jobs.find(|(_, client)| client.end.is_none());
    must(running.is_none(), || {
        format!("n{index} was stopped, and {running:?} goes on")
    })
}

/// All is as it was before the noise.
pub(crate) fn healed(world: &World) -> Result<(), String> {
    let hosts = world.real_hosts();
    for (index, host) in world.hosts[..hosts].iter().enumerate() {
        must(host.is_on() && !host.leaving, || {
            format!("n{index} is down")
        })?;
        let status = host.node.status();
        for peer in &status.peers {
            let name = peer.node.as_deref().unwrap_or_default();
            let base = world.hosts[..hosts].iter().any(|host| {
                host.base && (*host.config.node == *name || host.config.node == status.node)
            });
            must(peer.up && !peer.leaving && peer.own != base, || {
                format!("n{index} sees {peer:?}")
            })?;
        }
        must(status.peers.len() == hosts - 1, || {
            format!("n{index} has the peers {:?}", status.peers)
        })?;
        let ends = status.topology.edges.values().map(|to| to.len());
        let (seen, edges) = (status.topology.nodes.len(), ends.sum::<usize>());
        must(seen == hosts && edges == hosts * (hosts - 1), || {
            format!("n{index} sees {seen} nodes and {edges} edges")
        })?;
    }
    downloads_seen::check(world)?;
    nothing_left::check(world)
}

/// A request after the noise is answered, unless the model was too large from the first.
pub(crate) fn answered(world: &World, index: usize, request: &RequestId) -> Result<(), String> {
    let client = world.hosts[index].clients.get(request);
    let end = client.and_then(|client| client.end.clone());
    let finished = matches!(
        end,
        Some(End::Finished(FinishReason::Stop | FinishReason::Length))
    );
    let large = world.cost != ModelCost::default();
    let refused = matches!(end, Some(End::Rejected(Rejection::Memory { .. })));
    must(finished || large && refused, || {
        format!("n{index}: after the noise {request} ended with {end:?}")
    })
}
