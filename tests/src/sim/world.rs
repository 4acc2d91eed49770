//! The world: hosts, what connects them, one queue of what happens when.

use super::Mode;
use super::client::{End, Wish};
use super::faults::{DRAW_EVERY, Fault, FaultCounts, Faults, NOISE};
use super::fetching::Fetching;
use super::host::{File, Host, name};
use super::jobs::Jobs;
use super::net::Net;
use super::outcome::{Outcome, Violation};
use super::queue::{Happening, Queue};
use super::script::Dice;
use super::trace::Trace;
use super::wander::Unrest;
use super::ways::Ways;
use crate::invariants::nothing_left::Parting;
use crate::invariants::{everything_ends, replays};
use exo_protocol::rng::Rng;
use exo_protocol::topology::{Capabilities, ModelCost};
use exo_protocol::{Config, DType, Instant, RequestId};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// The model that everybody runs.
pub(super) const MODEL: &str = "trail";
/// Its layers.
pub(crate) const LAYERS: u32 = 12;
/// What an engine says that is made to fail.
pub(crate) const INJECTED: &str = "it smokes";
/// After the noise: hung steps time out, peers find each other again.
const QUIET: Duration = Duration::from_secs(100);
/// How often a host is asked once the noise is over, where the base protocol is spoken.
const ATTEMPTS: u32 = 4;

/// A simulated ring.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    pub(crate) now: Instant,
    /// The last one is a clone of another, which runs now and then.
    pub(crate) hosts: Vec<Host>,
    pub(super) rng: Dice,
    pub(super) queue: Queue,
    pub(crate) net: Net,
    pub(crate) faults: Faults,
    pub(super) struck: FaultCounts,
    pub(super) partitions: VecDeque<Vec<(usize, usize)>>,
    pub(super) last_request: u64,
    /// What all layers take.
    pub(crate) model_mib: u64,
    /// What placement goes by, where it goes by more.
    pub(crate) cost: ModelCost,
    pub(super) recovered: u64,
    /// How often a node took another address of a peer.
    pub(super) moved: u64,
    /// Predictions that were compared with what came.
    pub(super) predicted: u64,
    /// Requests of which a node knows the base protocol only.
    pub(crate) mixed: BTreeSet<RequestId>,
    /// What hosts must have forgotten soon.
    pub(crate) partings: VecDeque<Parting>,
    pub(super) jobs: Jobs,
    pub(super) fetching: Fetching,
    pub(crate) unrest: Unrest,
    /// How often clients come, times per thousand draws.
    pub(super) busy: u64,
    /// Elements of a hidden state's row.
    pub(super) width: usize,
    /// The noise is over.
    pub(super) quiet: bool,
    steps: u64,
    pub(super) trace: Trace,
    /// Every node is written down and replayed.
    taped: bool,
    violation: Option<Box<Violation>>,
}

/// Small limits and little patience, so that runs reach both.
fn config(index: usize, rng: &mut Rng) -> Config {
    let capabilities = Capabilities {
        memory: 1000 * (1 + i64::try_from(rng.below(5)).unwrap_or(0)),
        ..Capabilities::unknown()
    };
    let mut config = Config::new(name(index).into(), capabilities);
    config.discovery.file = true;
    config.timing.stage_timeout = Duration::from_secs(4 + rng.below(6));
    config.activations = match rng.below(4) {
        0 => vec![DType::Bf16, DType::F32],
        1 => vec![DType::F16, DType::Bf16, DType::F32],
        _ => vec![DType::F32],
    };
    config.limits.prefill = 1 + u32::try_from(rng.below(64)).unwrap_or(0);
    config.limits.window_bytes = 2000 << rng.below(8);
    config.limits.stream_window_bytes = 500 << rng.below(8);
    config.limits.requests = 4 + usize::try_from(rng.below(8)).unwrap_or(0);
    config.limits.connections = 64;
    config.limits.outbox = 256;
    config.limits.ended = 64;
    // Nobody ends a request of the base protocol whose origin is gone.
    config.max_tokens = 400;
    config.limits.calls = 48;
    config
}

impl World {
    /// A ring of `hosts` machines, with everything about it drawn from `seed`.
    pub(super) fn new(seed: u64, hosts: usize, mode: Mode) -> Self {
        let mut rng = Rng::new(seed);
        let mut faults = Faults::swarm(&mut rng);
        let mut ways = Ways::new(seed, hosts, None);
        if ways.several {
            faults.of_addresses(&mut ways.rng);
        }
        Self::under(faults, seed, rng, ways, mode)
    }

    /// One where these faults strike, of as many hosts as there are addresses for.
    pub(super) fn under(faults: Faults, seed: u64, mut rng: Rng, ways: Ways, mode: Mode) -> Self {
        let hosts = ways.hosts;
        let net = Net::new(hosts + 1, ways, &mut rng);
        let width = [0, 0, 32, 256][usize::try_from(rng.below(4)).unwrap_or(0)];
        let machines = (0..=hosts).map(|index| Host::new(index, config(index, &mut rng), width));
        let machines = machines.collect();
        let mut world = Self {
            seed,
            now: Instant::ZERO,
            hosts: machines,
            queue: Queue::default(),
            net,
            faults,
            struck: FaultCounts::default(),
            partitions: VecDeque::new(),
            last_request: 0,
            model_mib: 0,
            cost: ModelCost::default(),
            recovered: 0,
            moved: 0,
            predicted: 0,
            mixed: BTreeSet::new(),
            partings: VecDeque::new(),
            jobs: Jobs::new(seed),
            fetching: Fetching::new(seed),
            unrest: Unrest::default(),
            busy: 50 + rng.below(400),
            width,
            quiet: false,
            steps: 0,
            trace: Trace::new(seed, mode == Mode::Prints),
            taped: mode == Mode::Taped,
            violation: None,
            rng: rng.into(),
        };
        world.train_some();
        world.set_up();
        world
    }

    /// What is so in a run all the time.
    fn set_up(&mut self) {
        let real = self.real_hosts();
        if self.rng.below(4) == 0 {
            let outbox = 8 << self.rng.below(3);
            let hosts = self.hosts.iter_mut();
            hosts.for_each(|host| host.config.limits.outbox = outbox);
        }
        if !self.may(&[Fault::BaseOnly]) {
            for host in &mut self.hosts {
                // Two with each, and some whose end nobody has noticed yet. In the base protocol,
                // who does not know everybody sends hidden states to the wrong node.
                let more = usize::try_from(self.rng.below(16)).unwrap_or(0);
                host.config.limits.connections = 2 * real + more;
            }
        }
        self.set_up_ways();
        for index in 0..real {
            if self.strikes(Fault::Drift) {
                self.struck.count(Fault::Drift);
                let drift = i64::try_from(self.rng.below(100_000)).unwrap_or(0) - 50_000;
                self.hosts[index].clock.drift = drift;
            }
            if self.strikes(Fault::BaseOnly) {
                self.struck.count(Fault::BaseOnly);
                self.hosts[index].base = true;
            }
            if self.strikes(Fault::OtherModel) {
                self.struck.count(Fault::OtherModel);
                self.hosts[index].fingerprint ^= 1;
            }
            for to in 0..real {
                if self.strikes(Fault::SlowLink) {
                    self.struck.count(Fault::SlowLink);
                    let speed = 12_500 * (1 + self.rng.below(8));
                    self.net.slow_down(index, to, speed);
                }
            }
            let delay = Duration::from_millis(self.rng.below(500));
            self.later(delay, Happening::Start(index, 0));
        }
        // Whoever has another model must do with itself.
        if self.rng.below(3) == 0 && !self.may(&[Fault::OtherModel]) {
            let memory = |host: &Host| u64::try_from(host.config.capabilities.memory).unwrap_or(0);
            let all: u64 = self.hosts[..real].iter().map(memory).sum();
            self.model_mib = all * (20 + self.rng.below(70)) / 100;
        }
        self.later(DRAW_EVERY, Happening::Draw);
    }

    /// Hosts that are nobody's clone.
    pub(crate) fn real_hosts(&self) -> usize {
        self.hosts.len() - 1
    }

    /// Runs both phases and looks at what is left.
    pub(super) fn run(mut self) -> Result<Outcome, Box<Violation>> {
        let faults = self.faults;
        self.trace.say(self.now, || format!("-- {faults:?}"));
        self.run_until(Instant::after_origin(NOISE));
        self.come_to_rest()
    }

    /// The quiet phase.
    pub(super) fn come_to_rest(mut self) -> Result<Outcome, Box<Violation>> {
        self.calm();
        self.settle(QUIET);
        self.wander();
        self.settle(QUIET);
        for index in 0..self.real_hosts() {
            self.ask(index);
            self.ask_to_train(index);
        }
        self.settle(QUIET);
        for index in 0..self.hosts.len() {
            self.replay(index);
        }
        match self.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(self.outcome()),
        }
    }

    /// A new life of a host begins.
    pub(super) fn wake_up(&mut self, index: usize, seed: u64) {
        self.replay(index);
        let (now, width, taped) = (self.now, self.width, self.taped);
        self.hosts[index].start(seed, now, width, taped);
        self.trace.say(now, || format!("-- n{index} starts"));
        self.breaks();
        self.work(index);
        self.learn(index);
    }

    /// A life of a host is over: does all that it did follow from what it was told?
    fn replay(&mut self, index: usize) {
        for log in self.hosts[index].node.eject() {
            if let Err(what) = replays::tape(&log) {
                self.broken("replays", format!("n{index}: {what}"));
            }
        }
    }

    /// A host is asked once more, and answers.
    fn ask(&mut self, index: usize) {
        for attempt in 1.. {
            if self.violation.is_some() {
                return;
            }
            let wish = Wish {
                prompt: 5,
                mean: 8,
                most: 20,
                plain: true,
                timeout: Duration::from_secs(40),
            };
            let request = self.submit(index, &wish);
            let end = self.now + wish.timeout * 2;
            while self.now < end && self.is_running(index, &request) && self.violation.is_none() {
                self.run_until(self.now + Duration::from_millis(100));
            }
            match everything_ends::answered(self, index, &request) {
                Ok(()) => return,
                // The base protocol finds a dead connection only by losing a request to it.
                Err(_) if self.is_mixed(&request) && attempt < ATTEMPTS => {
                    // Until its peers were asked what they see.
                    self.run_until(self.now + Duration::from_secs(5));
                    self.settle(QUIET);
                }
                Err(what) => self.broken("everything_ends", what),
            }
        }
    }

    /// Whether a request was placed with a node of the base protocol, or could not be placed for
    /// lack of one.
    fn is_mixed(&self, request: &RequestId) -> bool {
        let rejected =
            |client: &super::client::Client| matches!(client.end, Some(End::Rejected(_)));
        let mut clients = self
            .hosts
            .iter()
            .filter_map(|host| host.clients.get(request));
        let base = self.hosts.iter().any(|host| host.base);
        self.mixed.contains(request) || base && clients.any(rejected)
    }

    /// Goes on until all is healed and nothing is left.
    fn settle(&mut self, within: Duration) {
        let end = self.now + within;
        while self.violation.is_none() {
            self.run_until(self.now + Duration::from_millis(500));
            self.look();
            match everything_ends::healed(self) {
                Ok(()) => return,
                Err(what) if self.now >= end => self.broken("everything_ends", what),
                Err(_) => {}
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let ends = || {
            let clients = self.hosts.iter().flat_map(|host| host.clients.values());
            clients.filter_map(|client| client.end.as_ref())
        };
        let count = |test: fn(&End) -> bool| ends().filter(|end| test(end)).count() as u64;
        Outcome {
            finished: count(|end| matches!(end, End::Finished(_))),
            failed: count(|end| matches!(end, End::Failed(_))),
            rejected: count(|end| matches!(end, End::Rejected(_))),
            orphaned: count(|end| matches!(end, End::Orphaned)),
            recovered: self.recovered,
            moved: self.moved,
            predicted: self.predicted,
            trained: self.jobs.ended,
            untrained: self.jobs.failed,
            resumed: self.jobs.resumed,
            faults: self.struck,
            elapsed: self.now - Instant::ZERO,
            steps: self.steps,
            trace: self.trace.hash(),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.violation.is_some()
    }

    /// Something that must hold does not; the first is told.
    pub(super) fn broken(&mut self, property: &'static str, message: String) {
        self.trace
            .say(self.now, || format!("-- violated: {property}: {message}"));
        if self.violation.is_none() {
            self.violation = Some(Box::new(Violation {
                forecast: false,
                seed: self.seed,
                hosts: self.real_hosts(),
                at: Some(self.now),
                property,
                message,
            }));
        }
    }

    pub(super) fn run_until(&mut self, end: Instant) {
        while self.violation.is_none() {
            let Some((at, happening)) = self.queue.pop_until(end) else {
                break;
            };
            self.now = self.now.max(at);
            self.steps += 1;
            self.happen(happening);
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake(index, wake) => self.woken(index, wake),
            Happening::Arrive(end) => self.arrive(end),
            Happening::Resume(end) => self.resume(end),
            Happening::Reset(end) => self.reset(end),
            Happening::Dialed(index, life, dial, to) => self.dialed(index, life, dial, to),
            Happening::DialTimedOut(index, life, dial) => self.dial_timed_out(index, life, dial),
            Happening::Progress(index, turn) => self.half_loaded(index, turn),
            Happening::Computed(index, turn) => self.computed(index, turn),
            Happening::Draw => self.draw(),
            Happening::Start(index, life) => self.start(index, life),
            Happening::Leave(index, life) => self.gone(index, life),
            Happening::Heal => self.heal(),
            Happening::Rewrite(index) => {
                self.hosts[index].file = File::Right;
                self.breaks();
            }
            Happening::Revive(place) => self.revive(place),
            Happening::Hasten(place) => self.hasten(place),
            Happening::Learn(index, life) if self.is_alive(index, life) => self.learn(index),
            Happening::Learn(..) => {}
            Happening::Heard(number) => self.heard(number),
        }
    }
}
