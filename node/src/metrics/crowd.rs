//! Where clients of the API wait, as metrics.

use super::Maker;
use prometheus::Registry;
use prometheus::proto::MetricFamily;

/// Everybody at the API's door right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// The lines in which requests stand.
    pub lines: Vec<LineState>,
    /// Connections that are open.
    pub connections: usize,
    /// As many may be.
    pub most_connections: usize,
    /// Connections that were sent away, since there were too many.
    pub turned_away: u64,
}

/// One line of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineState {
    /// Its name.
    pub name: &'static str,
    /// Requests that are worked on.
    pub working: usize,
    /// As many are at a time.
    pub slots: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// As many may.
    pub capacity: usize,
    /// Requests that heard 429, since as many waited as may.
    pub refused: u64,
}

/// Tells who is there.
pub type LookAtCrowd = Box<dyn Fn() -> Crowd + Send + Sync>;

pub(super) fn gather(crowd: &Crowd) -> Vec<MetricFamily> {
    let registry = Registry::new();
    let new = Maker(&registry);
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    for (name, help, value) in OF_LINES {
        let gauges = new.gauges(name, help, &["line"]);
        for line in &crowd.lines {
            gauges
                .with_label_values(&[line.name])
                .set(number(value(line)));
        }
    }
    let refused = new.counters(
        "exo_http_queue_refused_total",
        "Requests to the API that heard 429, since as many waited already as may.",
        &["line"],
    );
    for line in &crowd.lines {
        refused.with_label_values(&[line.name]).inc_by(line.refused);
    }
    new.gauge("exo_http_connections", "Connections of clients of the API.")
        .set(number(crowd.connections));
    new.gauge(
        "exo_http_connections_capacity",
        "Connections of clients that may be open at a time.",
    )
    .set(number(crowd.most_connections));
    new.counter(
        "exo_http_connections_refused_total",
        "Connections of clients that heard 503, since as many were open as may.",
    )
    .inc_by(crowd.turned_away);
    registry.gather()
}

/// Name, meaning and value.
type Of = (&'static str, &'static str, fn(&LineState) -> usize);

const OF_LINES: [Of; 4] = [
    (
        "exo_http_working",
        "Requests to the API that are worked on.",
        |line| line.working,
    ),
    (
        "exo_http_working_capacity",
        "Requests to the API that are worked on at a time.",
        |line| line.slots,
    ),
    (
        "exo_http_queue_length",
        "Requests to the API that wait to be worked on.",
        |line| line.waiting,
    ),
    (
        "exo_http_queue_capacity",
        "Requests to the API that may wait; further ones hear 429.",
        |line| line.capacity,
    ),
];
