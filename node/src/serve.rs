//! `exo-node serve`: join the ring, serve the API, until told to stop.

use crate::api::guard::GuardOptions;
use crate::api::server::{self, Server};
use crate::app::{App, Started};
use crate::settings::Settings;
use crate::signals::Stop;
use crate::{Failed, capabilities};
use exo_protocol::config::Discovery;
use std::time::Duration;

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
    let mut server = Server::start(listener, started.app.clone(), GuardOptions::default())?;
    tracing::info!("API at {}/v1, ready", server.url());
    stop.wait();
    tracing::info!("stopping");
    let begun = std::time::Instant::now();
    // Clients first: they still hear why their answers end, and no new ones come.
    server.refuse();
    started.shutdown(PATIENCE);
    server.drain(FAREWELL);
    drop(server);
    tracing::debug!("stopped in {:?}", begun.elapsed());
    Ok(())
}

fn tell(settings: &Settings, started: &Started) {
    let status = started.app.status();
    let here = status.topology.nodes.get(&status.node).cloned();
    let here = here.unwrap_or_else(|| capabilities::detect(settings.memory));
    tracing::info!(
        "node {} on {} ({}), {} MiB of memory, {} runtime, {} engine",
        status.node,
        here.model,
        here.chip,
        here.memory,
        settings.runtime.name(),
        settings.engine.name(),
    );
    if let Some(address) = started.local_addr() {
        tracing::info!("listening for nodes on {address}");
    }
    match &settings.discovery {
        Discovery::None => tracing::info!(
            "looking for no peers; add some with --discovery-config-path FILE or --peer-host HOST \
             --peer-port PORT"
        ),
        Discovery::Manual => {
            if let Some(file) = &settings.discovery_file {
                tracing::info!("peers are named in {}", file.display());
            }
        }
        Discovery::Direct(peers) => {
            for peer in peers {
                tracing::info!("looking for a peer at {}", peer.address);
            }
        }
    }
    for dir in &settings.models_dirs {
        tracing::info!("models in {}", dir.display());
    }
}
