//! The way of tokens through the ring, of requests that asked for it: what each stage told, and when
//! the tokens came.

use exo_protocol::id::RequestId;
use exo_protocol::{Event, Stage};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The last requests that were traced.
#[derive(Debug, Default)]
pub struct Traces(Mutex<VecDeque<Trace>>);

/// As many requests are kept.
const KEPT: usize = 32;

/// As many positions of each, the newest.
const POSITIONS: usize = 2048;

/// One traced request.
#[derive(Debug)]
struct Trace {
    request: RequestId,
    /// What its client calls it.
    id: Arc<str>,
    model: String,
    ring: Vec<Stage>,
    since: Instant,
    first: Option<Duration>,
    last: Option<Instant>,
    /// From one token to the next.
    gaps: VecDeque<Duration>,
    tokens: u64,
    recoveries: u32,
    state: &'static str,
    /// By position, what each stage told of the step of one token.
    steps: BTreeMap<u32, Vec<Option<Step>>>,
    /// For each stage, what it told of longer steps.
    prompt: Vec<Prompt>,
}

/// What the step of one token cost at one stage.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    wait: Duration,
    compute: Duration,
    write: Duration,
    /// Half a round trip.
    wire: Duration,
}

/// What the steps of a prompt cost at one stage.
#[derive(Clone, Copy, Debug, Default)]
struct Prompt {
    steps: u32,
    positions: u32,
    cost: Step,
}

impl Step {
    fn sum(&self) -> Duration {
        let parts = [self.wait, self.compute, self.write, self.wire];
        parts
            .iter()
            .fold(Duration::ZERO, |sum, part| sum.saturating_add(*part))
    }
}

impl Traces {
    /// A request is about to be submitted, whose stages will tell what its steps cost.
    pub fn begin(&self, request: &RequestId, id: &str, model: &str) {
        let trace = Trace {
            request: request.clone(),
            id: id.into(),
            model: model.to_owned(),
            ring: Vec::new(),
            since: Instant::now(),
            first: None,
            last: None,
            gaps: VecDeque::new(),
            tokens: 0,
            recoveries: 0,
            state: "running",
            steps: BTreeMap::new(),
            prompt: Vec::new(),
        };
        let mut kept = lock(&self.0);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(trace);
    }

    /// Takes the news of requests.
    pub(crate) fn hear(&self, event: &Event) {
        let (Event::Accepted { request, .. }
        | Event::Recovering { request, .. }
        | Event::Token { request, .. }
        | Event::Finished { request, .. }
        | Event::Failed { request, .. }
        | Event::Rejected { request, .. }
        | Event::StepTimed { request, .. }) = event
        else {
            return;
        };
        let mut kept = lock(&self.0);
        // Most requests are not traced, and then there is nothing here.
        if let Some(trace) = kept
            .iter_mut()
            .rev()
            .find(|trace| trace.request == *request)
        {
            trace.take(event);
        }
    }

    /// What is known of the request that its client, or the node, calls `id`; the newest of that name.
    #[must_use]
    pub fn json(&self, id: &str) -> Option<Value> {
        let kept = lock(&self.0);
        let is = |trace: &&Trace| &*trace.id == id || trace.request.as_str() == id;
        kept.iter().rev().find(is).map(Trace::json)
    }
}

impl Trace {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Accepted { ring, .. } => self.ring_is(ring),
            Event::Recovering { ring, .. } => {
                self.recoveries = self.recoveries.saturating_add(1);
                self.ring_is(ring);
            }
            Event::Token { .. } => self.token(),
            Event::Finished { .. } => self.state = "finished",
            Event::Failed { .. } | Event::Rejected { .. } => self.state = "failed",
            &Event::StepTimed {
                stage,
                position,
                positions,
                wait,
                compute,
                write,
                rtt,
                ..
            } => {
                let wire = rtt / 2;
                let step = Step {
                    wait,
                    compute,
                    write,
                    wire,
                };
                self.step(
                    usize::try_from(stage).unwrap_or(usize::MAX),
                    position,
                    positions,
                    step,
                );
            }
            _ => {}
        }
    }

    /// What another ring told is not comparable.
    fn ring_is(&mut self, ring: &[Stage]) {
        self.ring = ring.to_vec();
        self.steps.clear();
        self.prompt = vec![Prompt::default(); ring.len()];
    }

    fn token(&mut self) {
        let now = Instant::now();
        self.tokens = self.tokens.saturating_add(1);
        match self.last.replace(now) {
            Some(last) => {
                if self.gaps.len() >= POSITIONS {
                    self.gaps.pop_front();
                }
                self.gaps.push_back(now.saturating_duration_since(last));
            }
            None => self.first = Some(now.saturating_duration_since(self.since)),
        }
    }

    fn step(&mut self, stage: usize, position: u32, positions: u32, step: Step) {
        let stages = self.ring.len();
        let Some(prompt) = self.prompt.get_mut(stage) else {
            return;
        };
        // The first position is the prompt's, however short that is.
        if positions != 1 || position == 0 {
            prompt.steps = prompt.steps.saturating_add(1);
            prompt.positions = prompt.positions.saturating_add(positions);
            let sum = &mut prompt.cost;
            sum.wait = sum.wait.saturating_add(step.wait);
            sum.compute = sum.compute.saturating_add(step.compute);
            sum.write = sum.write.saturating_add(step.write);
            sum.wire = sum.wire.saturating_add(step.wire);
            return;
        }
        let told = self.steps.entry(position);
        let told = told.or_insert_with(|| vec![None; stages]);
        if let Some(place) = told.get_mut(stage) {
            *place = Some(step);
        }
        if self.steps.len() > POSITIONS {
            self.steps.pop_first();
        }
    }

    fn json(&self) -> Value {
        let stages = self.ring.iter().zip(&self.prompt).enumerate();
        let stages = stages.map(|(index, (stage, prompt))| {
            let of = |part: fn(&Step) -> Duration| {
                let told = self.steps.values().filter_map(|told| *told.get(index)?);
                spread(told.map(|step| part(&step)))
            };
            json!({
                "node_id": stage.node.as_str(),
                "start": stage.shard.start,
                "end": stage.shard.end,
                "steps": self.steps.values().filter(|told| matches!(told.get(index), Some(Some(_)))).count(),
                "wait_ms": of(|step| step.wait),
                "compute_ms": of(|step| step.compute),
                "write_ms": of(|step| step.write),
                "wire_ms": of(|step| step.wire),
                "prompt": {
                    "steps": prompt.steps,
                    "positions": prompt.positions,
                    "wait_ms": milliseconds(prompt.cost.wait),
                    "compute_ms": milliseconds(prompt.cost.compute),
                    "write_ms": milliseconds(prompt.cost.write),
                    "wire_ms": milliseconds(prompt.cost.wire),
                },
            })
        });
        // Only rounds of which every stage told.
        let rounds = self.steps.values().filter_map(|told| {
            let all: Option<Vec<Step>> = told.iter().copied().collect();
            let sums = all?.into_iter().map(|step| step.sum());
            Some(sums.fold(Duration::ZERO, Duration::saturating_add))
        });
        json!({
            "id": &*self.id,
            "request_id": self.request.as_str(),
            "model": self.model,
            "state": self.state,
            "tokens": self.tokens,
            "recoveries": self.recoveries,
            "first_token_ms": self.first.map(milliseconds),
            "stages": stages.collect::<Vec<_>>(),
            "sum_ms": spread(rounds),
            "inter_token_ms": spread(self.gaps.iter().copied()),
        })
    }
}

/// The middle and the end of some durations.
fn spread(times: impl Iterator<Item = Duration>) -> Value {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len().saturating_mul(percent) / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().map(milliseconds)
    };
    json!({"count": times.len(), "p50": at(50), "p99": at(99)})
}

fn milliseconds(time: Duration) -> f64 {
    // Microseconds are as fine as anybody reads.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
