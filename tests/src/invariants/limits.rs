//! Nothing that a node holds passes its limit in `Config`.
//!
//! Broken on purpose: stages are taken beyond `limits.requests`, seed 2 with 5 hosts shows it; beyond
//! `limits.jobs`, seed 5 with 4 hosts.

use super::must;
use exo_protocol::{Config, Status};

/// The largest step of the workload.
const MOST_STEP: u64 = 512 * 1024;

/// No example of a training job has more bytes, and none twice as many come in pieces.
const MOST_EXAMPLE: u64 = 1 << 20;

/// The largest `limits.requests` of a host.
const MOST_REQUESTS: usize = 12;

pub(crate) fn check(status: &Status, config: &Config) -> Result<(), String> {
    let limits = &config.limits;
    let submitted = status.requests.iter().filter(|request| request.origin);
    let submitted = submitted.count();
    let others = status.requests.len() - submitted;
    must(submitted.max(others) <= limits.requests, || {
        format!(
            "{submitted} requests submitted and {others} of others, at most {} of each: {:?}",
            limits.requests, status.requests
        )
    })?;
    let begun = status.jobs.iter().filter(|job| job.origin).count();
    let joined = status.jobs.len() - begun;
    must(begun.max(joined) <= limits.jobs, || {
        format!(
            "{begun} jobs begun and {joined} of others, at most {} of each: {:?}",
            limits.jobs, status.jobs
        )
    })?;
    // One more is there until it is closed, and what the node dials itself is bounded by its peers
    // and by what it tries on the side or leaves.
    let several = status.peers.iter().filter(|p| p.addresses.len() > 1);
    let tried = limits.trials + several.count();
    let connections = limits.connections + 1 + 2 * status.peers.len() + tried;
    must(status.connections <= connections, || {
        format!("{} connections", status.connections)
    })?;
    must(status.peers.len() <= limits.peers, || {
        format!("{} peers", status.peers.len())
    })?;
    must(status.queued <= limits.outbox * status.connections, || {
        format!(
            "{} messages wait for {} connections",
            status.queued, status.connections
        )
    })?;
    // One step of each connection may exceed its window, alone; another one of the same size may
    // come in pieces.
    let step = u64::from(config.limits.window_bytes).max(MOST_STEP);
    let held = (step + 2 * MOST_STEP + MOST_EXAMPLE) * status.extended.connections as u64;
    must(status.extended.held <= held, || {
        format!("holds {} bytes of steps", status.extended.held)
    })?;
    let streams = 8 * MOST_REQUESTS * status.extended.connections;
    must(status.extended.streams <= streams, || {
        format!("has {} open streams", status.extended.streams)
    })?;
    // With so many calls no stage is begun any more, but each one that was begun may have one step
    // in the engine, and leave a call behind that frees it.
    let calls = limits.calls + 3 * limits.requests + 4 * limits.jobs;
    must(status.calls <= calls, || format!("{} calls", status.calls))?;
    must(
        status.topology.nodes.len() <= status.peers.len() + 1,
        || format!("sees {} nodes", status.topology.nodes.len()),
    )
}
