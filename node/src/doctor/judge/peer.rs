//! Whether a peer can be reached, whether it is one, and how good the way to it is.

use super::super::facts::{Dialed, Peer, Source, View, Voice};
use super::super::link::{Transfer, stalls, swallowed};
use super::super::report::Finding;
use super::{size, time, who};
use crate::engines;
use std::net::SocketAddr;
use std::time::Duration;

/// A token waits this long at most before the way is worth a word.
const FAR: Duration = Duration::from_millis(20);

/// All of it.
#[must_use]
pub fn judge(peer: &Peer) -> Vec<Finding> {
    let dialed = match &peer.dialed {
        Ok(dialed) => dialed,
        Err(reason) => return vec![no_name(&peer.address, reason)],
    };
    let mut all = reach(peer, dialed);
    if let Some(voice) = &peer.voice {
        all.push(speaks(peer, voice));
    }
    all.extend(round_trips(peer));
    all.extend(tunnel_stall(peer));
    all.extend(sizes(&peer.transfers));
    all
}

fn no_name(address: &str, reason: &str) -> Finding {
    Finding::problem(
        "name",
        format!("{address} is not found: {reason}"),
        "check the spelling, or give the machine's address; names in .local need mDNS on both",
    )
}

fn reach(peer: &Peer, dialed: &[(SocketAddr, Dialed)]) -> Vec<Finding> {
    const CHECK: &str = "reach";
    let reached = dialed.iter().find_map(|(address, dialed)| match dialed {
        Dialed::Connected(took) => Some((address, took)),
        _ => None,
    });
    // Of several reasons the one that tells most: somebody said no, somebody knew of no way.
    let rank = |dialed: &Dialed| match dialed {
        Dialed::Connected(_) => 0,
        Dialed::Refused => 1,
        Dialed::Forbidden => 2,
        Dialed::TimedOut => 3,
        Dialed::Unreachable => 4,
        Dialed::Failed(_) => 5,
    };
    let failed = dialed.iter().filter(|(_, dialed)| rank(dialed) > 0);
    let Some((address, failure)) = failed.min_by_key(|(_, dialed)| rank(dialed)) else {
        return reached
            .map(|(address, took)| Finding::ok(CHECK, connected(peer, address, *took)))
            .into_iter()
            .collect();
    };
    if let Some((good, took)) = reached {
        let text = format!(
            "{}, but not at {address}: {}",
            connected(peer, good, *took),
            reason(failure)
        );
        let fix = format!("name the address that works: {good}");
        return vec![Finding::warning(CHECK, text, fix)];
    }
    if peer.source == (Source::Known { up: true }) {
        let text = "it is connected to the node here; it came by itself";
        return vec![Finding::ok(CHECK, text)];
    }
    let text = match peer.address == address.to_string() {
        true => reason(failure),
        false => format!("{address}: {}", reason(failure)),
    };
    let (text, check) = match peer.source {
        Source::Heard => (format!("it announces itself, but {text}"), "one_way"),
        Source::Given | Source::File | Source::Known { .. } => (text, CHECK),
    };
    vec![Finding::problem(check, text, cure(peer, address, failure))]
}

fn connected(peer: &Peer, address: &SocketAddr, took: Duration) -> String {
    let at = match peer.address == address.to_string() {
        true => String::new(),
        false => format!(" at {address}"),
    };
    format!("it takes connections{at}, in {}", time(took))
}

fn reason(dialed: &Dialed) -> String {
    match dialed {
        Dialed::Connected(_) => "it takes connections".to_owned(),
        Dialed::Refused => {
            "the connection is refused: the machine is there, and nobody listens on this port"
                .to_owned()
        }
        Dialed::TimedOut => {
            "nothing comes back: a firewall or an access point drops it, or the machine is off"
                .to_owned()
        }
        Dialed::Unreachable => "there is no way there from this machine".to_owned(),
        Dialed::Forbidden => "this machine's own firewall does not let it out".to_owned(),
        Dialed::Failed(reason) => reason.clone(),
    }
}

fn cure(peer: &Peer, address: &SocketAddr, dialed: &Dialed) -> String {
    let port = address.port();
    match dialed {
        Dialed::Refused if address.ip().is_loopback() => format!(
            "if it is a tunnel, open it (exo-node tunnel USER@HOST); else start a node here with \
             --node-port {port}"
        ),
        Dialed::Refused => format!(
            "start exo-node there; if it runs, its --node-port has to be {port}, and its \
             --node-host not 127.0.0.1"
        ),
        Dialed::TimedOut if peer.near || peer.source == Source::Heard => format!(
            "let TCP port {port} in in that machine's firewall (such as sudo ufw allow \
             {port}/tcp); on Wi-Fi switch client (AP) isolation off, or use a cable"
        ),
        Dialed::TimedOut => format!(
            "it is in another network: let TCP port {port} in in the firewalls on the way, or go \
             through SSH: exo-node tunnel USER@HOST"
        ),
        Dialed::Unreachable => {
            "check the address, and that both are in one network or VPN that is \
             up; or go through SSH: exo-node tunnel USER@HOST"
                .to_owned()
        }
        Dialed::Forbidden => format!(
            "let this program connect to TCP port {port} in this machine's firewall (macOS: \
             Privacy & Security, Local Network)"
        ),
        Dialed::Connected(_) | Dialed::Failed(_) => "check the address".to_owned(),
    }
}

fn speaks(peer: &Peer, voice: &Voice) -> Finding {
    const CHECK: &str = "speaks";
    let host = peer.address.rsplit_once(':').map_or("", |(host, _)| host);
    let port = format!("give the port for nodes, usually {host}:50051");
    let (text, fix) = match voice {
        Voice::Own(identity) => {
            let engine = identity.engine.as_ref().map(engines::words);
            let engine = engine.map_or(String::new(), |engine| format!(", computes with {engine}"));
            let text = format!("exo-node {:?}{engine}{}", identity.node, machine(peer));
            return Finding::ok(CHECK, text);
        }
        Voice::Reference => {
            let id = peer.view.as_ref().and_then(|view| view.node.as_deref());
            let id = id.map_or(String::new(), |id| format!(" {id:?}"));
            let text = format!(
                "node{id} of the base protocol, as Python's exo{}",
                machine(peer)
            );
            return Finding::ok(CHECK, text);
        }
        Voice::Http(_) | Voice::Locked => {
            (format!("{} answers, not a node", who(Some(voice))), port)
        }
        Voice::Ssh => (
            "a secure shell answers, not a node".to_owned(),
            format!("go through it: exo-node tunnel USER@{host}"),
        ),
        Voice::Tls => (
            "it wants TLS, which nodes do not speak: this is another program's port".to_owned(),
            port,
        ),
        Voice::Silent => (
            "it takes connections and says nothing: a node that hangs, another program, or \
             answers get lost on the way"
                .to_owned(),
            "start the node there anew; if that does not help, check that the port is the node's, \
             and try a smaller MTU if a VPN is on the way"
                .to_owned(),
        ),
        Voice::Closes => (
            "it takes connections and closes them: a tunnel or a container's port behind which \
             nobody listens"
                .to_owned(),
            "start the node at the far end, with the port that the tunnel leads to".to_owned(),
        ),
        Voice::Other(first) => {
            let first = first.get(..first.len().min(16)).unwrap_or_default();
            let text = format!("another program answers: \"{}\"", first.escape_ascii());
            (text, port)
        }
    };
    Finding::problem(CHECK, text, fix)
}

fn machine(peer: &Peer) -> String {
    let machine = peer
        .view
        .as_ref()
        .and_then(|view: &View| view.machine.as_ref());
    machine.map_or(String::new(), |machine| {
        let memory = u64::try_from(machine.memory).unwrap_or(0);
        format!(
            ", {}, {}",
            machine.chip,
            size(memory.saturating_mul(1 << 20))
        )
    })
}

fn round_trips(peer: &Peer) -> Option<Finding> {
    const CHECK: &str = "round_trip";
    let trips = &peer.trips;
    let (median, min) = (trips.median()?, trips.min()?);
    let (p95, jitter) = (trips.percentile(95)?, trips.jitter()?);
    let text = format!(
        "round trip {} (shortest {}, 95 of 100 within {}, jitter {}), {} of them",
        time(median),
        time(min),
        time(p95),
        time(jitter),
        trips.count()
    );
    if median > FAR {
        // A ring's token crosses each link once, which is half a round trip.
        let most = 2.0 / median.as_secs_f64();
        let text =
            format!("{text}: a ring over this link writes at most {most:.0} tokens a second");
        let fix = "use a quicker way if there is one: a cable, a nearer machine, no VPN";
        return Some(Finding::warning(CHECK, text, fix));
    }
    if p95 > FAR && p95 > median * 10 {
        let fix = "use a cable; on Wi-Fi, switch power saving off or go nearer";
        return Some(Finding::warning(
            CHECK,
            format!("{text}: it is unsteady"),
            fix,
        ));
    }
    Some(Finding::ok(CHECK, text))
}

fn tunnel_stall(peer: &Peer) -> Option<Finding> {
    let stalled = [&peer.trips, &peer.hops]
        .into_iter()
        .find(|trips| stalls(trips))?;
    let text = format!(
        "{} of {} round trips took 40 ms, where {} is usual: this is an SSH tunnel without a \
         session, ssh -N",
        stalled.stalls(),
        stalled.count(),
        time(stalled.median()?)
    );
    let fix = "open it with a command instead of -N: ssh -L … HOST 'sleep infinity', or \
               exo-node tunnel USER@HOST";
    Some(Finding::warning("tunnel_stall", text, fix))
}

fn sizes(transfers: &[Transfer]) -> Vec<Finding> {
    const CHECK: &str = "goodput";
    let rate = |transfer: &Transfer| {
        let (took, rate) = (transfer.took?, transfer.rate()?);
        Some(format!(
            "{} in {} ({})",
            size(transfer.bytes as u64),
            time(took),
            speed(rate)
        ))
    };
    let rates: Vec<String> = transfers.iter().filter_map(rate).collect();
    let mut all = Vec::new();
    if !rates.is_empty() {
        all.push(Finding::ok(CHECK, format!("sends {}", rates.join(", "))));
    }
    if let Some((lost, passed)) = swallowed(transfers) {
        let small = match passed {
            0 => "the smallest messages".to_owned(),
            bytes => format!("messages of {}", size(bytes as u64)),
        };
        all.push(Finding::problem(
            "large_messages",
            format!(
                "{small} come through, but none of {} in time: large packets get lost on the way \
                 (MTU), or the way is very slow",
                size(lost as u64)
            ),
            "try a smaller MTU on this machine's interface (sudo ip link set dev NAME mtu 1280), \
             above all with a VPN; and let ICMP pass in firewalls on the way",
        ));
    }
    all
}

/// Bytes a second, in the units in which links are sold.
fn speed(rate: f64) -> String {
    let bits = rate * 8.0;
    match bits {
        bits if bits >= 1e9 => format!("{:.1} Gbit/s", bits / 1e9),
        bits if bits >= 1e6 => format!("{:.0} Mbit/s", bits / 1e6),
        bits => format!("{:.0} kbit/s", bits / 1e3),
    }
}

#[cfg(test)]
mod tests;
