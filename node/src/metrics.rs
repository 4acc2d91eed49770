//! What this node counts and measures, in Prometheus's text format. docs/METRICS.md has every name.
//!
//! Labels are bounded: routes and reasons are this program's own words, models are only those that
//! answered here, and peers are as many as the node knows.

mod crowd;
mod engine;
mod names;
mod snapshot;

pub use crowd::{Crowd, LineState, LookAtCrowd};
pub use engine::Timed;

use exo_protocol::engine::{EngineEvent, EngineOutput};
use exo_protocol::id::RequestId;
use exo_protocol::{Event, Failure, Rejection, Status};
use names::Names;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The type of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Between two tokens, and over one step of a stage: from a tiny model to one that hardly fits.
const STEP: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// To the first token, which may wait for a load.
const FIRST: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// Counters and histograms of one node.
pub struct Metrics {
    registry: Registry,
    /// What the node computes with.
    engine: Mutex<String>,
    started: f64,
    models: Names,
    replies: IntCounterVec,
    under_way: IntGaugeVec,
    prompt_tokens: IntCounterVec,
    generated_tokens: IntCounterVec,
    first_token: HistogramVec,
    inter_token: HistogramVec,
    endings: IntCounterVec,
    recoveries: IntCounter,
    compute: HistogramVec,
    engine_failures: IntCounter,
    weights: IntGauge,
    memory: IntGauge,
    crowd: OnceLock<LookAtCrowd>,
    courses: Mutex<BTreeMap<RequestId, Course>>,
}

/// A request of this node's clients.
#[derive(Debug)]
struct Course {
    model: String,
    /// What its client calls it.
    id: Arc<str>,
    since: Instant,
    /// Tokens of the prompt that are still to come.
    forced: u32,
    /// When the last token came.
    last: Option<Instant>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let registry = Registry::new();
        let new = Maker(&registry);
        Self {
            engine: Mutex::default(),
            started: since.unwrap_or_default().as_secs_f64(),
            models: Names::default(),
            replies: new.counters(
                "exo_http_requests_total",
                "Requests to the API that were answered; 499 if the client left before.",
                &["route", "status", "model"],
            ),
            under_way: new.gauges(
                "exo_http_requests_in_flight",
                "Requests to the API that are being answered.",
                &["route"],
            ),
            prompt_tokens: new.counters(
                "exo_prompt_tokens_total",
                "Tokens of the prompts that clients of this node gave.",
                &["model"],
            ),
            generated_tokens: new.counters(
                "exo_generated_tokens_total",
                "Tokens generated for clients of this node.",
                &["model"],
            ),
            first_token: new.histograms(
                "exo_time_to_first_token_seconds",
                "From a question to its first token.",
                &["model"],
                &FIRST,
            ),
            inter_token: new.histograms(
                "exo_inter_token_seconds",
                "From one token of an answer to the next.",
                &["model"],
                &STEP,
            ),
            endings: new.counters(
                "exo_requests_ended_total",
                "Requests of this node's clients that came to an end, and to which.",
                &["end"],
            ),
            recoveries: new.counter(
                "exo_recoveries_total",
                "How often a request of this node's clients lost a stage and went on over another ring.",
            ),
            compute: new.histograms(
                "exo_stage_compute_seconds",
                "What the engine took over one step of this node's stage.",
                &["model", "phase"],
                &STEP,
            ),
            engine_failures: new.counter(
                "exo_engine_failures_total",
                "Commands that the engine could not do.",
            ),
            weights: new.gauge(
                "exo_engine_weight_bytes",
                "Weights that the engine holds, resident or mapped.",
            ),
            memory: new.gauge(
                "exo_engine_memory_bytes",
                "What the engine holds: weights, KV caches, and what training needs.",
            ),
            crowd: OnceLock::new(),
            courses: Mutex::default(),
            registry,
        }
    }
}

impl Metrics {
    /// The engine in words, such as `cpu 0.1.0 (avx2)`.
    pub fn engine_is(&self, words: String) {
        *lock(&self.engine) = words;
    }

    /// A request to the API was answered. `model` is empty if there was none that is here.
    pub fn replied(&self, route: &str, status: u16, model: &str) {
        let (status, model) = (status.to_string(), self.models.label(model));
        let labels = [route, status.as_str(), model.as_str()];
        self.replies.with_label_values(&labels).inc();
    }

    /// Counts a request to the API for as long as it is being answered.
    #[must_use]
    pub fn under_way(&self, route: &str) -> UnderWay {
        let gauge = self.under_way.with_label_values(&[route]);
        gauge.inc();
        UnderWay(gauge)
    }

    /// A request goes to the ring, which its client calls `id`. It has so many tokens of a prompt;
    /// so many of them come back before those of the answer.
    pub fn begins(
        &self,
        request: &RequestId,
        model: &str,
        (prompt_tokens, forced): (usize, u32),
        id: &str,
    ) {
        let model = self.models.label(model);
        let tokens = u64::try_from(prompt_tokens).unwrap_or(u64::MAX);
        self.prompt_tokens
            .with_label_values(&[&model])
            .inc_by(tokens);
        let course = Course {
            model,
            id: id.into(),
            since: Instant::now(),
            forced,
            last: None,
        };
        lock(&self.courses).insert(request.clone(), course);
    }

    /// What a request's client calls it.
    #[must_use]
    pub fn id_of(&self, request: &RequestId) -> Option<Arc<str>> {
        let courses = lock(&self.courses);
        courses.get(request).map(|course| Arc::clone(&course.id))
    }

    /// Nobody waits for a request any more.
    pub fn forget(&self, request: &RequestId) {
        lock(&self.courses).remove(request);
    }

    /// Takes the news of requests.
    pub(crate) fn hear(&self, event: &Event) {
        match event {
            Event::Token { request, .. } => self.token(request),
            Event::Finished { .. } => self.ended("finished"),
            Event::Failed { failure, .. } => self.ended(failure_name(failure)),
            Event::Rejected { rejection, .. } => self.ended(rejection_name(rejection)),
            Event::Recovering { .. } => self.recoveries.inc(),
            _ => {}
        }
    }

    fn token(&self, request: &RequestId) {
        let now = Instant::now();
        let mut courses = lock(&self.courses);
        let Some(course) = courses.get_mut(request) else {
            return;
        };
        if course.forced > 0 {
            course.forced -= 1;
            return;
        }
        let model = [course.model.as_str()];
        let (histogram, since) = match course.last.replace(now) {
            Some(last) => (&self.inter_token, last),
            None => (&self.first_token, course.since),
        };
        let took = now.saturating_duration_since(since).as_secs_f64();
        histogram.with_label_values(&model).observe(took);
        self.generated_tokens.with_label_values(&model).inc();
    }

    fn ended(&self, how: &str) {
        self.endings.with_label_values(&[how]).inc();
    }

    /// The engine did something, for `model` if it is known, within `took`.
    fn computed(&self, model: Option<&str>, event: &EngineEvent, took: Duration) {
        match event {
            EngineEvent::Forwarded {
                positions, output, ..
            } => {
                let decodes = *positions == 1 && *output != EngineOutput::Nothing;
                let phase = if decodes { "decode" } else { "prefill" };
                let model = self.models.label(model.unwrap_or_default());
                let labels = [model.as_str(), phase];
                let histogram = self.compute.with_label_values(&labels);
                histogram.observe(took.as_secs_f64());
            }
            EngineEvent::Failed { .. } => self.engine_failures.inc(),
            _ => {}
        }
    }

    /// The engine holds so many bytes.
    fn holds(&self, bytes: u64) {
        self.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Where clients of the API wait, from now on.
    pub fn clients_wait(&self, look: LookAtCrowd) {
        // There is one door; a second one would be another node's.
        let _ = self.crowd.set(look);
    }

    /// All of it, with what the node says of itself right now.
    #[must_use]
    pub fn render(&self, status: &Status) -> String {
        let mut families = self.registry.gather();
        if let Some(look) = self.crowd.get() {
            families.extend(crowd::gather(&look()));
        }
        families.extend(snapshot::gather(status, &lock(&self.engine), self.started));
        let mut out = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut out) {
            tracing::error!("metrics cannot be written: {error}");
        }
        out
    }
}

/// A request that is being answered; it no longer is when this is dropped.
#[derive(Debug)]
pub struct UnderWay(IntGauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics of a registry. All names and labels are this program's own, so that none can be
/// refused but by a mistake that every start would show.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    const FINE: &'static str = "names and labels are well formed, and none is there twice";

    fn known<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let made = made.expect(Self::FINE);
        self.0.register(Box::new(made.clone())).expect(Self::FINE);
        made
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.known(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.known(IntGauge::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.known(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.known(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], steps: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(steps.to_vec());
        self.known(HistogramVec::new(options, labels))
    }
}

fn failure_name(failure: &Failure) -> &'static str {
    match failure {
        Failure::Cancelled => "cancelled",
        Failure::PeerLost { .. } => "peer_lost",
        Failure::Stage { .. } => "stage_failed",
        Failure::Refused { .. } => "refused",
        Failure::TimedOut { .. } => "timed_out",
        Failure::Memory { .. } => "insufficient_memory",
        Failure::Unrecoverable { .. } => "unrecoverable",
        Failure::Stopping => "stopping",
        _ => "other",
    }
}

fn rejection_name(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Busy(_) => "busy",
        Rejection::Memory { .. } => "insufficient_memory",
        Rejection::Stopping => "stopping",
        _ => "rejected",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
