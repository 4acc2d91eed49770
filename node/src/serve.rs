//! `exo-node serve`: join the ring, serve the API, until told to stop.

use crate::api::server::{self, Server};
use crate::app::{App, Started};
use crate::engines;
use crate::notify;
use crate::settings::Settings;
use crate::signals::Stop;
#[cfg(feature = "tui")]
use crate::tui::Live;
use crate::{Failed, capabilities};
use exo_protocol::config::Discovery;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// An orderly stop of the node takes no longer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A client takes no longer to hear that its answer ends.
const FAREWELL: Duration = Duration::from_millis(300);

/// Serves until `stop`.
///
/// # Errors
/// When a port is taken or the node does not start.
pub fn serve(settings: &Settings, stop: &Stop) -> Result<(), Failed> {
    let (host, port) = &settings.api;
    // Both ports before anything else: a node that half starts is no node.
    let listener = server::bind(host, *port)?;
    let started = App::start(settings)?;
    tell(settings, &started);
    if settings.wait_for_peers > 0 {
        started
            .app
            .wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    }
    started.app.let_quit(stop.clone());
    let access = settings.access.clone();
    let address = listener.local_addr();
    let who = address.map(|address| access.words(address.ip()));
    let app = Arc::clone(&started.app);
    let mut server = Server::start(listener, app, access, settings.guard())?;
    tracing::info!("API at {}/v1, ready", server.url());
    if let Ok(who) = who {
        tracing::info!("the API is open to {who}");
    }
    #[cfg(feature = "tui")]
    let live = Live::start(settings, &started.app, format!("{}/v1", server.url()));
    notify::ready();
    stop.wait();
    // Whatever comes now is told in lines.
    #[cfg(feature = "tui")]
    drop(live);
    // Who only lost its master has nobody left who waits for an orderly end.
    if stop.take_signal() {
        leave(&started.app, settings.drain, stop);
    }
    notify::stopping();
    stop.hurry();
    tracing::info!("stopping");
    let begun = Instant::now();
    // Clients first: they still hear why their answers end, and no new ones come.
    server.refuse();
    started.shutdown(PATIENCE);
    server.drain(FAREWELL);
    drop(server);
    tracing::debug!("stopped in {:?}", begun.elapsed());
    Ok(())
}

/// How often a node that leaves looks whether it may go.
const LOOK: Duration = Duration::from_millis(20);

/// Lets what is under way come to its end, for as long as `patience` and whoever stops it have some.
pub(crate) fn leave(app: &App, patience: Duration, stop: &Stop) {
    if patience.is_zero() || app.drain().is_err() {
        return;
    }
    let until = Instant::now() + patience;
    let mut told = String::new();
    while !app.events().drained() && !stop.asked() {
        if Instant::now() > until {
            tracing::warn!(
                "not done after {} s; --drain gives more time",
                patience.as_secs()
            );
            return;
        }
        let requests = app.status().requests;
        let answers = requests.iter().filter(|request| request.origin).count();
        let under_way = under_way(answers, requests.len() - answers);
        if under_way != told && !under_way.is_empty() {
            tracing::info!("leaving: {under_way} under way; press ^C again to stop at once");
            told = under_way;
        }
        thread::sleep(LOOK);
    }
}

/// What a node that leaves waits for; empty if there is nothing.
fn under_way(answers: usize, stages: usize) -> String {
    let say = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let said = [
        say(answers, "answer", "answers"),
        say(
            stages,
            "stage of another node's answer",
            "stages of other nodes' answers",
        ),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    said.join(" and ")
}

fn tell(settings: &Settings, started: &Started) {
    let status = started.app.status();
    let here = status.topology.nodes.get(&status.node).cloned();
    let here = here.unwrap_or_else(|| capabilities::detect(settings.memory));
    tracing::info!(
        "node {} on {} ({}), {} MiB of memory, {} runtime, engine {}",
        status.node,
        here.model,
        here.chip,
        here.memory,
        settings.runtime.name(),
        engines::words(&engines::info(settings.engine)),
    );
    if let Some(address) = started.local_addr() {
        tracing::info!("listening for nodes on {address}");
    }
    let discovery = &settings.discovery;
    if let (Some(broadcast), Some(port)) = (&discovery.broadcast, settings.announcements) {
        tracing::info!(
            "announcing this node on UDP port {}, listening for others on {port}",
            broadcast.target_port
        );
    }
    if let (Some(tcp), Some(port)) = (&discovery.tcp, settings.visitors) {
        let seeds = match tcp.seeds.len() {
            0 => String::new(),
            _ => format!(", announcing this node to {}", tcp.seeds.join(", ")),
        };
        tracing::info!("listening for announcements on TCP port {port}{seeds}");
    }
    if settings.tailscale.is_some() {
        tracing::info!("looking for peers in the tailnet");
    }
    if let Some(file) = &settings.discovery_file {
        tracing::info!("peers are named in {}", file.display());
    }
    for peer in &discovery.direct {
        tracing::info!("looking for a peer at {}", peer.address);
    }
    if *discovery == Discovery::default() && settings.tailscale.is_none() {
        tracing::info!(
            "looking for no peers; find some with --discovery-module udp, \
             --discovery-config-path FILE, or --peer-host HOST --peer-port PORT"
        );
    }
    for dir in &settings.models_dirs {
        tracing::info!("models in {}", dir.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_counted() {
        assert_eq!(under_way(0, 0), "");
        assert_eq!(under_way(1, 0), "1 answer");
        assert_eq!(under_way(0, 1), "1 stage of another node's answer");
        assert_eq!(
            under_way(2, 3),
            "2 answers and 3 stages of other nodes' answers"
        );
    }
}
