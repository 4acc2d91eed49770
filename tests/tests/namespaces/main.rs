//! Rings whose nodes live in network namespaces of one Linux machine, on a bridge of their own: what
//! only a network does. Needs `ip` (and `tc` with netem for delay and loss) and the right to use
//! them; says loudly what is missing.

#![cfg(target_os = "linux")]

mod lan;
mod paths;
mod seeds;
mod wires;

use exo_tests::process::stand::{CPU, Stand, moments, report, say};
use exo_tests::process::{Member, Ring};
use std::sync::{Mutex, PoisonError};
use wires::{Wires, wires};

const NODES: u8 = 3;

/// Pauses are measured: nothing else runs meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

/// A ring in namespaces whose first node has the stage `place`.
fn ring(wires: &Wires, place: usize) -> Ring {
    let member = |number: usize| Member {
        runtime: if (number + place).is_multiple_of(2) {
            "std"
        } else {
            "smol"
        },
        // The others have more memory than the first if they come before it.
        memory: match number {
            0 => 5120,
            _ if number <= place => 6144,
            _ => 4096,
        },
        engine: None,
    };
    let members: Vec<Member> = (0..usize::from(NODES)).map(member).collect();
    Ring::at(&wires.places(), &members, &CPU, |address| address)
}

#[test]
fn a_stage_whose_packets_are_lost_is_replaced() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires("lost packets", NODES) else {
        return;
    };
    let mut moments = moments();
    let mut pauses = Vec::new();
    for place in 0..usize::from(NODES) {
        let mut stand = Stand::new(ring(&wires, place), 400);
        for victim in [1, 2] {
            let blow = |_: &mut Ring| wires.pass(victim, false);
            pauses.extend(stand.strike(victim - 1, &mut moments, "silent", blow));
            wires.pass(victim, true);
            stand.heals();
        }
    }
    report("packets lost", pauses);
}

/// Has the same stories told on a ring as it is, and once netem treats its packets.
fn treated(what: &str, treatment: &str, most: u32) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(wires) = wires(what, NODES) else {
        return;
    };
    let mut stand = Stand::new(ring(&wires, 1), most);
    if let Err(missing) = wires.treat(NODES, treatment) {
        say(&format!("SKIPPED: {what}: {missing}"));
        return;
    }
    let pauses = [0, 1].map(|which| stand.retell(which));
    say(&format!("{what}: longest pauses {pauses:.0?}"));
    stand.whole();
}

#[test]
fn delay_changes_nothing() {
    treated("50 ms delay", "delay 50ms", 24);
}

#[test]
fn loss_changes_nothing() {
    treated("1 % loss", "loss 1%", 400);
}
