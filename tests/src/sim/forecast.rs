//! A ring without faults whose engines take as long as their layers are large: what is predicted of
//! a request there, and what becomes of it.

use super::client::{End, Wish};
use super::faults::Faults;
use super::outcome::{Outcome, Violation};
use super::ways::{Place, Ways};
use super::world::{LAYERS, MODEL, World};
use super::{Host, Mode};
use crate::invariants::prediction_holds;
use exo_protocol::config::{Limits, Strategy, Timing};
use exo_protocol::engine::EngineCommand;
use exo_protocol::node::{Placement, Question};
use exo_protocol::rng::Rng;
use exo_protocol::topology::auto::{Prediction, Workload};
use exo_protocol::topology::{ModelCost, Speed};
use exo_protocol::{DType, Instant, Stage};
use std::time::Duration;

/// Until everybody knows everybody, and how far away.
const MEETING: Duration = Duration::from_secs(15);

/// Requests of the kind that is predicted, until nothing new is learned from them.
const ATTEMPTS: u32 = 12;

/// Longer takes no answer over the slowest of these networks.
const PATIENCE: Duration = Duration::from_secs(600);

/// What was predicted, and what came.
#[derive(Clone, Debug)]
pub(crate) struct Forecast {
    pub(crate) predicted: Prediction,
    pub(crate) first: Duration,
    pub(crate) token: Duration,
    pub(crate) ring: Vec<Stage>,
    /// How far its hops are off half of a round trip, all together.
    pub(crate) skew: Duration,
    pub(crate) placement: Placement,
}

/// Compares predictions with what comes, in a ring where nothing strikes; `prints` all that happens
/// there.
///
/// # Errors
/// A prediction that does not hold, or anything else that must hold and does not.
pub fn forecast(seed: u64, hosts: usize, prints: bool) -> Result<Outcome, Box<Violation>> {
    let mode = if prints { Mode::Prints } else { Mode::Quiet };
    let outcome = super::caught(seed, hosts, || run(seed, hosts, mode));
    outcome.map_err(|mut violation| {
        violation.forecast = true;
        violation
    })
}

fn run(seed: u64, hosts: usize, mode: Mode) -> Result<Outcome, Box<Violation>> {
    let ways = Ways::new(seed, hosts, Some(false));
    let mut world = World::under(Faults::default(), seed, Rng::new(seed), ways, mode);
    world.quiet = true;
    world.measures(seed);
    world.run_until(Instant::after_origin(MEETING));
    let mut before = None;
    for _ in 0..ATTEMPTS {
        // Some models have layers that are too large for the smallest hosts.
        let Some(asked) = world.foretell(0) else {
            break;
        };
        let now = Some((asked.ring.clone(), asked.prediction));
        let settled = before == now;
        let Some(seen) = world.watches(0, asked) else {
            let what = String::from("nothing came of a request that was placed");
            world.broken("prediction_holds", what);
            break;
        };
        before = now;
        if settled {
            world.predicted += 1;
            if let Err(what) = prediction_holds::check(&seen) {
                world.broken("prediction_holds", what);
            }
            break;
        }
    }
    world.come_to_rest()
}

impl World {
    /// Every engine gets a speed, and the model sizes.
    fn measures(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0x666f_7265);
        let memory = |host: &Host| u64::try_from(host.config.capabilities.memory).unwrap_or(0);
        let real = self.real_hosts();
        let all: u64 = self.hosts[..real].iter().map(memory).sum();
        let layer = (all << 20) * (20 + rng.below(50)) / 100 / u64::from(LAYERS + 4);
        let mut end = || layer * rng.below(8) / 4;
        self.cost = ModelCost {
            layers: vec![layer; LAYERS as usize],
            used: 0,
            embedding: end(),
            head: end(),
            tied: false,
            kv: 64,
            hidden: u32::try_from(self.width.max(20)).unwrap_or(20),
        };
        self.model_mib = 0;
        for host in &mut self.hosts {
            let config = &mut host.config;
            config.placement = Strategy::Auto;
            config.activations = vec![DType::F32];
            (config.limits, config.timing) = (Limits::default(), Timing::default());
            let decode = layer.saturating_mul(1000) / (1 + rng.below(8));
            host.speed = Some(Speed {
                decode,
                prefill: decode.saturating_mul(2 + rng.below(15)),
            });
        }
    }

    /// What a node predicts of the request that it has in mind.
    fn foretell(&self, index: usize) -> Option<Placement> {
        let work = Workload::default();
        let question = Question {
            model: MODEL.into(),
            layers: LAYERS,
            bytes: 0,
            cost: self.cost.clone(),
            positions: work.positions,
        };
        self.hosts[index].node.placement(&question).ok()
    }

    /// Asks for it, and looks at the clock.
    fn watches(&mut self, index: usize, placement: Placement) -> Option<Forecast> {
        let work = Workload::default();
        let wish = Wish {
            prompt: usize::try_from(work.prompt).unwrap_or(1),
            mean: u32::MAX / 2,
            most: work.tokens,
            plain: true,
            timeout: PATIENCE,
        };
        let begun = self.now;
        let request = self.submit(index, &wish);
        while self.is_running(index, &request) && !self.is_broken() {
            self.run_until(self.now + Duration::from_millis(100));
        }
        let client = self.hosts[index].clients.get(&request)?;
        let ended = matches!(client.end, Some(End::Finished(_)));
        let [first, last] = client.course.told.filter(|_| ended)?;
        let steps = work.tokens.saturating_sub(1).max(1);
        Some(Forecast {
            predicted: placement.prediction?,
            first: first - begun,
            token: (last - first) / steps,
            ring: client.course.ring.clone(),
            skew: self.skew(index, &client.course.ring),
            placement,
        })
    }

    /// Ways there and back differ, and nodes can only measure both together.
    fn skew(&self, origin: usize, ring: &[Stage]) -> Duration {
        let hosts = ring.iter().filter_map(|stage| self.host_of(&stage.node));
        let hosts: Vec<usize> = hosts.collect();
        let (Some(first), Some(last)) = (hosts.first(), hosts.last()) else {
            return Duration::ZERO;
        };
        let inner = hosts.windows(2).map(|pair| [pair[0], pair[1]]);
        let ends = [[*last, *first], [origin, *first], [*last, origin]];
        let way = |from, to| self.net.between(from, to, Place::first(to)).latency;
        let off = |[from, to]: [usize; 2]| way(from, to).abs_diff(way(to, from)) / 2;
        inner.chain(ends).map(off).sum()
    }

    /// How long an engine takes over a step, if it was given a speed.
    pub(super) fn takes(&self, index: usize, command: &EngineCommand) -> Option<Duration> {
        let speed = self.hosts[index].speed?;
        let EngineCommand::Forward {
            shard,
            input,
            sampling,
            ..
        } = command
        else {
            return None;
        };
        let positions = super::engine::positions(input);
        let layers = self.cost.stage(shard.range(), 0, 0).weights;
        // The embedding is looked up, not gone through, and the head once for a sampled position.
        let first = if shard.is_first() {
            self.cost.embedding
        } else {
            0
        };
        let last = if shard.is_last() { self.cost.head } else { 0 };
        let layers = layers.saturating_sub(first).saturating_sub(last);
        let over = |bytes: u64, rate: u64| Duration::from_secs_f64(bytes as f64 / rate as f64);
        let body = match positions {
            0 | 1 => over(layers, speed.decode),
            many => over(layers.saturating_mul(many), speed.prefill),
        };
        let head = if sampling.is_some() { last } else { 0 };
        Some(body + over(head, speed.decode))
    }
}
