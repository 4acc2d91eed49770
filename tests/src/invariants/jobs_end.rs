//! Every training job ends: nothing that it does takes longer than it may, and it fails only for a
//! reason that there was. When the faults stop, a job at each node that trains comes to its end.
//!
//! Broken on purpose: no deadline of a job is kept. Seed 85 with 4 hosts shows it.

use super::{must, nothing_impossible};
use crate::sim::{Fault, INJECTED, JobClient, World};
use exo_protocol::{JobFailure, RequestId};
use std::time::Duration;

/// A deadline is an event like any other.
const GRACE: Duration = Duration::from_millis(10);

/// Nothing that a job does is late.
pub(crate) fn in_time(world: &World) -> Result<(), String> {
    for (index, host) in world.hosts.iter().enumerate() {
        let now = host.clock.at(world.now);
        for (job, client) in host.jobs.iter().filter(|(_, c)| c.end.is_none()) {
            let waits = now.saturating_since(client.since);
            must(waits <= host.config.timing.job_step + GRACE, || {
                format!("n{index}: {job} has waited for {waits:?}")
            })?;
        }
    }
    Ok(())
}

/// Something takes longer than it should.
fn is_slow(world: &World) -> bool {
    let slow = [Fault::HungEngine, Fault::Drift];
    world.may(&Fault::DELAYS) || world.may(&slow) || !world.is_fast()
}

/// A job that failed had a reason to.
pub(crate) fn fairly(
    world: &World,
    index: usize,
    client: &JobClient,
    failure: &JobFailure,
) -> Result<(), String> {
    let host = &world.hosts[index];
    let bad = nothing_impossible::is_bad(world);
    let fair = match failure {
        JobFailure::Busy(jobs) => *jobs >= host.config.limits.jobs,
        JobFailure::Unsupported(_) => !host.config.trains,
        JobFailure::PeerLost { reason, .. } => {
            bad && (reason == "the connection to it was lost"
                || reason == "it is shutting down"
                || reason == "there is no connection to it")
        }
        JobFailure::Stage { message, .. } => {
            let has = |words: &str| message.contains(words);
            message == INJECTED && world.may(&[Fault::BadStep, Fault::BadEngine])
                || has("training jobs already")
                || has("the engine has not come to")
                || has("is lost") && bad
                || (has("was lost") || has("has no connection to")) && bad
                || has("nothing happened for") && is_slow(world)
                || has("there is no checkpoint") && client.lessons.is_resumed()
                || nothing_impossible::is_farewell(world, message)
        }
        JobFailure::TimedOut { .. } => is_slow(world),
        JobFailure::Stopping => host.leaving,
        _ => false,
    };
    must(fair, || format!("failed without reason: {failure:?}"))
}

/// A job after the noise came to its end.
pub(crate) fn trained(world: &World, index: usize, job: &RequestId) -> Result<(), String> {
    let client = world.hosts[index].jobs.get(job);
    let complete = client.is_some_and(|client| client.lessons.is_complete());
    must(complete, || {
        let end = client.map(|client| &client.end);
        format!("n{index}: after the noise {job} ended with {end:?}")
    })
}
