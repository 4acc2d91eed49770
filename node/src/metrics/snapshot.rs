//! What a node says of itself at one moment, as metrics.

use super::Maker;
use exo_protocol::Status;
use exo_protocol::node::{PeerStatus, Traffic};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts, Registry};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Built anew each time: peers and models that are gone leave nothing behind.
pub(super) fn gather(status: &Status, engine: &str, started: f64) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let new = Maker(&registry);
    new.own(status, engine);
    new.models(status);
    new.links(status);
    new.process(started);
    registry.gather()
}

impl Maker<'_> {
    fn own(&self, status: &Status, engine: &str) {
        self.floats(
            "exo_build_info",
            "Always 1; its labels say what runs here.",
            &["version", "engine"],
        )
        .with_label_values(&[env!("CARGO_PKG_VERSION"), engine])
        .set(1.0);
        let running = self.gauges(
            "exo_requests_running",
            "Requests under way: of this node's clients (origin), and of which it only has a stage.",
            &["role"],
        );
        let origins = status.requests.iter().filter(|request| request.origin);
        let origins = origins.count();
        for (role, count) in [
            ("origin", origins),
            ("stage", status.requests.len() - origins),
        ] {
            running.with_label_values(&[role]).set(number(count));
        }
        for (name, help, value) in [
            (
                "exo_training_jobs_running",
                "Training jobs under way, begun here or not.",
                status.jobs.len(),
            ),
            (
                "exo_engine_calls_waiting",
                "Commands that the engine has not answered yet.",
                status.calls,
            ),
            (
                "exo_messages_queued",
                "Messages that wait to be written to peers.",
                status.queued,
            ),
            (
                "exo_connections",
                "Connections with other nodes, both directions.",
                status.connections,
            ),
            (
                "exo_streams",
                "Open streams of requests, both directions.",
                status.extended.streams,
            ),
            (
                "exo_leaving",
                "1 if this node takes no new requests.",
                usize::from(status.stopping),
            ),
        ] {
            self.gauge(name, help).set(number(value));
        }
        self.gauge(
            "exo_steps_held_bytes",
            "Bytes of steps that came and are not computed yet.",
        )
        .set(whole(status.extended.held));
    }

    fn models(&self, status: &Status) {
        let mut layers: BTreeMap<&str, u32> = BTreeMap::new();
        for shard in &status.shards {
            let held = shard.end.saturating_sub(shard.start).saturating_add(1);
            let sum = layers.entry(shard.model.as_str()).or_default();
            *sum = sum.saturating_add(held);
        }
        self.gauge(
            "exo_models_loaded",
            "Models of which this node has layers loaded.",
        )
        .set(number(layers.len()));
        let loaded = self.gauges(
            "exo_layers_loaded",
            "Layers that are loaded here.",
            &["model"],
        );
        for (model, count) in layers {
            loaded.with_label_values(&[model]).set(count.into());
        }
    }

    /// Peers without a name cannot be told apart from one scrape to the next.
    fn links(&self, status: &Status) {
        let up = self.gauges("exo_peer_up", "1 if the peer answers.", &["peer"]);
        let rtt = self.floats(
            "exo_peer_rtt_seconds",
            "Smoothed round trip to the peer and back.",
            &["peer"],
        );
        let goodput = self.floats(
            "exo_peer_goodput_bytes_per_second",
            "Bytes per second that get to the peer, as large messages showed.",
            &["peer"],
        );
        let hops = self.counters(
            "exo_peer_steps_sent_total",
            "Steps of requests handed to the peer.",
            &["peer"],
        );
        let bytes = self.counters(
            "exo_peer_step_sent_bytes_total",
            "Bytes of these steps.",
            &["peer"],
        );
        let traffic =
            TRAFFIC.map(|(name, help, value)| (self.counters(name, help, &["peer"]), value));
        let mut seen = BTreeSet::new();
        let named = |peer: &'_ PeerStatus| peer.node.clone();
        for peer in &status.peers {
            let Some(node) = named(peer).filter(|node| seen.insert(node.clone())) else {
                continue;
            };
            let label = [node.as_str()];
            up.with_label_values(&label).set(peer.up.into());
            if let Some(time) = peer.rtt {
                rtt.with_label_values(&label)
                    .set(Duration::as_secs_f64(&time));
            }
            if let Some(rate) = peer.goodput {
                goodput.with_label_values(&label).set(rate as f64);
            }
            hops.with_label_values(&label).inc_by(peer.hops.count);
            bytes.with_label_values(&label).inc_by(peer.hops.bytes);
            for (counter, value) in &traffic {
                let count = value(&peer.traffic);
                counter.with_label_values(&label).inc_by(count);
            }
        }
    }

    fn process(&self, started: f64) {
        self.floats(
            "process_start_time_seconds",
            "When this process started, in seconds since 1970.",
            &[],
        )
        .with_label_values(NONE)
        .set(started);
        if let Some(bytes) = resident_bytes() {
            self.gauge(
                "process_resident_memory_bytes",
                "Memory of this process that is in RAM.",
            )
            .set(whole(bytes));
        }
    }

    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.known(GaugeVec::new(Opts::new(name, help), labels))
    }
}

/// Name, meaning and value.
type Of = (&'static str, &'static str, fn(&Traffic) -> u64);

const TRAFFIC: [Of; 4] = [
    (
        "exo_peer_sent_frames_total",
        "Frames written to the peer.",
        |traffic| traffic.sent_frames,
    ),
    (
        "exo_peer_sent_bytes_total",
        "Bytes of these frames, headers included.",
        |traffic| traffic.sent_bytes,
    ),
    (
        "exo_peer_received_frames_total",
        "Frames that came from the peer.",
        |traffic| traffic.received_frames,
    ),
    (
        "exo_peer_received_bytes_total",
        "Bytes of these frames, headers included.",
        |traffic| traffic.received_bytes,
    ),
];

const NONE: &[&str] = &[];

/// What Linux says of this process; `None` elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
