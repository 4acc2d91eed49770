//! No node says that a peer, its engine or itself did something that honest nodes do not do, however
//! bad the network: what it blames is what was done to it.
//!
//! Broken on purpose: credit is returned twice. Seed 0 with 3 hosts shows it.

use super::must;
use crate::sim::{Fault, File, INJECTED, World};
use exo_protocol::{Event, Failure};

/// Reasons to close a connection that a bad network gives.
const NETWORK: [&str; 6] = [
    "closed by the peer in the middle of a frame",
    "stopped in the middle of a frame",
    "takes no more bytes",
    "does not answer health checks",
    "does not answer topology requests",
    "does not acknowledge tensors",
];

/// Words that follow a number.
const LIMITS: [&str; 2] = [
    "connections are open already",
    "messages wait for it already",
];

/// Why a node may be gone, or out of reach, in such a network.
const LOST: [&str; 10] = [
    "silent after",
    "closed by the peer",
    "connection reset by peer",
    "no route to host",
    "has no connection to",
    "does not name it at this address",
    "it announces itself no longer",
    "is connected at another address already",
    "is connected already",
    "it is shutting down",
];

/// What a stage may say that has too much to do.
const BUSY: [&str; 2] = [
    "requests are under way already",
    "the engine has not come to",
];

/// What else a stage may say when there is more to do than it can.
const LOST_CACHE: &str = "positions expected in the KV cache";

/// What a stage says that waited in vain.
const WAITED: &str = "nothing happened for";

/// What a stage says that waited for an origin in vain, or for longer than anybody waits.
const FORGOT: &str = "this stage has given the request up";

/// What a stage says that leaves.
const FAREWELL: &str = "this node is shutting down";

/// What else a stage may say when it gives a request up.
const STAGE: [&str; 3] = [INJECTED, "left the ring", FAREWELL];

fn among(words: &[&str], reason: &str) -> bool {
    words.iter().any(|word| reason.contains(word))
}

/// Whether a stage had no room for a request.
pub(crate) fn is_busy(message: &str) -> bool {
    among(&BUSY, message)
}

/// Whether a stage waited in vain.
pub(crate) fn is_wait(message: &str) -> bool {
    message.contains(WAITED)
}

/// Whether a stage gave a request up because there was too much to do.
pub(crate) fn is_overload(world: &World, message: &str) -> bool {
    let waits = || world.may(&Fault::DELAYS) || world.may(&[Fault::HungEngine]);
    let waits = || !world.is_fast() || waits();
    let forgets = || world.may(&[Fault::Crash, Fault::Leave, Fault::Discovery]);
    is_busy(message)
        || message.contains(LOST_CACHE)
        || is_wait(message) && waits()
        || message.contains(FORGOT) && (waits() || forgets())
}

/// Whether a stage gave a request up because it has another model.
pub(crate) fn is_other_model(world: &World, message: &str) -> bool {
    message.contains("is another model") && world.may(&[Fault::OtherModel])
}

/// Whether a stage gave a request up because it leaves.
pub(crate) fn is_farewell(world: &World, message: &str) -> bool {
    message == FAREWELL && world.may(&[Fault::Leave])
}

/// Whether the network of this run closes connections.
pub(crate) fn is_bad(world: &World) -> bool {
    world.may(&Fault::CUTS) || world.may(&[Fault::Leave]) || !world.is_fast()
}

pub(crate) fn event(world: &World, index: usize, event: &Event) -> Result<(), String> {
    let may = |faults: &[Fault]| world.may(faults);
    let holds = match event {
        Event::ConnectionRefused { reason, .. } => {
            // A run that is gone may still seem to be there when the next one comes.
            let twice = reason.ends_with("is connected already");
            let again = [Fault::Clone, Fault::Crash, Fault::Leave];
            let network = || among(&NETWORK, reason) && is_bad(world);
            network() || among(&LIMITS, reason) || twice && may(&again)
        }
        Event::PeerRestarted { .. } => may(&[Fault::Clone, Fault::Crash, Fault::Leave]),
        Event::DuplicateNode { .. } => may(&[Fault::Clone]),
        Event::PeerLeaving { .. } | Event::Drained => may(&[Fault::Leave]),
        Event::EngineFailed { reason, .. } => among(&[INJECTED], reason),
        Event::DiscoveryRejected { .. } => world.hosts[index].file != File::Right,
        Event::Recovering { reason, .. } => {
            let lost = || among(&LOST, reason) || among(&NETWORK, reason) || among(&STAGE, reason);
            let bad = is_bad(world) || !world.faults.is_none();
            let struck = bad && (lost() || among(&LIMITS, reason));
            is_overload(world, reason) || is_other_model(world, reason) || struck
        }
        Event::Failed {
            request,
            failure: Failure::Stage { message, .. },
        } => {
            // Those who speak the base protocol say less, and it has no way to match what is said.
            let mixed = world.mixed.contains(request);
            let fair = is_overload(world, message) || is_other_model(world, message);
            mixed || among(&STAGE, message) || fair
        }
        _ => true,
    };
    must(holds, || format!("{event:?}"))
}
