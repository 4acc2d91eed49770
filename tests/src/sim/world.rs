//! The world: hosts, pipes, one queue of what happens when.

use super::engine::BrokenTrail;
use super::faults::{DRAW_EVERY, FaultCounts, Faults, NOISE};
use super::host::{End, Host, discovery_file};
use super::pipe::Pipe;
use bytes::Bytes;
use exo_protocol::engine::{EngineCommand, EngineEvent, EngineFailure, FailureKind};
use exo_protocol::rng::Rng;
use exo_protocol::{ConnectionId, Input, Instant, LinkFault, Output};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Layers of the model that everybody runs.
pub(super) const LAYERS: u32 = 12;
/// Most tokens of a short answer.
pub(crate) const SHORT: u32 = 3;
/// What a client gives its request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);
/// After the noise: hung steps time out, peers find each other again.
const QUIET: Duration = Duration::from_secs(60);

/// One end of a connection: its host and its number there.
pub(super) type Ending = (usize, ConnectionId);

/// What happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// A host takes an input.
    Input(usize, u64, Input),
    /// The engine of a host is done with a command.
    Computed(usize, u64),
    /// A host's deadline may be due.
    Wake(usize, u64),
    /// A pipe delivers.
    Deliver(Ending),
    /// A pipe that stalled goes on.
    Resume(Ending),
    /// Faults and clients strike.
    Draw,
    /// A crashed host comes back.
    Restart(usize),
}

/// A simulated ring.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(super) rng: Rng,
    queue: BTreeMap<(Instant, u64), Happening>,
    sequence: u64,
    /// By writing end.
    pub(super) pipes: BTreeMap<Ending, Pipe>,
    pub(super) memories: Vec<i64>,
    pub(super) faults: Faults,
    pub(super) struck: FaultCounts,
    pub(super) last_connection: u64,
    pub(super) last_request: u64,
    steps: u64,
    trace: u64,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were answered to the end.
    pub finished: u64,
    /// Requests that failed with a reason.
    pub failed: u64,
    /// Requests that were never started, with a reason.
    pub rejected: u64,
    /// What struck.
    pub faults: FaultCounts,
    /// Simulated time.
    pub elapsed: Duration,
    /// Things that happened.
    pub steps: u64,
    /// A hash of everything that happened: the same seed gives the same.
    pub trace: u64,
}

impl World {
    /// A ring of `hosts` machines, with everything about it drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::swarm(&mut rng);
        let memories: Vec<i64> = (0..hosts)
            .map(|_| 1000 + i64::try_from(rng.below(5)).unwrap_or(0) * 1000)
            .collect();
        let mut world = Self {
            seed,
            now: Instant::ZERO,
            hosts: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            pipes: BTreeMap::new(),
            memories,
            faults,
            struck: FaultCounts::default(),
            last_connection: 0,
            last_request: 0,
            steps: 0,
            trace: seed,
            rng,
        };
        for index in 0..hosts {
            let node_seed = world.rng.next_u64();
            let memory = world.memories.get(index).copied().unwrap_or(1);
            world
                .hosts
                .push(Host::new(index, memory, node_seed, Instant::ZERO));
            world.wake(index);
        }
        world.later(DRAW_EVERY, Happening::Draw);
        world
    }

    /// Runs both phases and looks at what is left.
    ///
    /// # Panics
    /// When something that must hold does not.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.run_until(Instant::after_origin(NOISE));
        self.calm();
        self.run_until(self.now + QUIET);
        self.check_rest();
        self.check_answers();
        let last = self.submit(0, u32::MAX);
        self.run_until(self.now + TIMEOUT);
        let end = self
            .hosts
            .first()
            .and_then(|host| host.clients.get(&last)?.end.clone());
        let stop = End::Finished(exo_protocol::FinishReason::Stop);
        self.must(end == Some(stop), || {
            format!("after the noise a request ends with {end:?}")
        });
        self.run_until(self.now + Duration::from_secs(1));
        self.check_rest();
        self.check_answers();
        self.outcome()
    }

    fn outcome(&self) -> Outcome {
        let ends = || {
            self.hosts
                .iter()
                .flat_map(|host| host.clients.values())
                .map(|c| &c.end)
        };
        let count = |test: fn(&End) -> bool| {
            ends().filter(|end| end.as_ref().is_some_and(test)).count() as u64
        };
        Outcome {
            finished: count(|end| matches!(end, End::Finished(_))),
            failed: count(|end| matches!(end, End::Failed(_))),
            rejected: count(|end| matches!(end, End::Rejected(_))),
            faults: self.struck,
            elapsed: self.now - Instant::ZERO,
            steps: self.steps,
            trace: self.trace,
        }
    }

    pub(super) fn later(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now + delay, self.sequence), happening);
    }

    fn run_until(&mut self, end: Instant) {
        while let Some((&key, _)) = self.queue.first_key_value() {
            if key.0 > end {
                break;
            }
            let Some(happening) = self.queue.remove(&key) else {
                break;
            };
            self.now = self.now.max(key.0);
            self.steps += 1;
            self.happen(happening);
        }
        self.now = end;
        self.check_deadlines();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input(index, life, input) => self.input(index, life, input),
            Happening::Computed(index, life) => self.computed(index, life),
            Happening::Wake(index, life) => self.woken(index, life),
            Happening::Deliver(end) => self.deliver(end),
            Happening::Resume(end) => {
                if let Some(pipe) = self.pipes.get_mut(&end) {
                    pipe.stalled = false;
                }
                self.schedule(end);
            }
            Happening::Draw => self.draw(),
            Happening::Restart(index) => self.restart(index),
        }
    }

    fn is_alive(&self, index: usize, life: u64) -> bool {
        self.hosts
            .get(index)
            .is_some_and(|host| host.up && host.life == life)
    }

    fn input(&mut self, index: usize, life: u64, input: Input) {
        if !self.is_alive(index, life) {
            return;
        }
        self.note(index, &input);
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let now = self.now + host.ahead;
        host.node.handle_input(now, input);
        self.drain(index);
    }

    pub(super) fn soon(&mut self, index: usize, input: Input) {
        let life = self.hosts.get(index).map_or(0, |host| host.life);
        self.later(Duration::ZERO, Happening::Input(index, life, input));
    }

    pub(super) fn wake(&mut self, index: usize) {
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        let Some(deadline) = host.node.poll_timeout() else {
            return;
        };
        let delay = deadline.at.saturating_since(self.now + host.ahead);
        let at = self.now + delay;
        if host.wakes_at.is_some_and(|armed| armed <= at) {
            return;
        }
        host.wakes_at = Some(at);
        let life = host.life;
        self.later(delay, Happening::Wake(index, life));
    }

    fn woken(&mut self, index: usize, life: u64) {
        if !self.is_alive(index, life) {
            return;
        }
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        host.wakes_at = None;
        let now = self.now + host.ahead;
        host.node.handle_timeout(now);
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self
            .hosts
            .get_mut(index)
            .and_then(|host| host.node.poll_output())
        {
            self.carry_out(index, output);
        }
        // What became due at once fires at once, as a driver's timer would.
        if let Some(host) = self.hosts.get_mut(index) {
            let now = self.now + host.ahead;
            if host
                .node
                .poll_timeout()
                .is_some_and(|deadline| deadline.at <= now)
            {
                host.node.handle_timeout(now);
                return self.drain(index);
            }
        }
        // Looking costs more than stepping, so one step in eight is looked at; which, differs.
        if self.steps.is_multiple_of(8) {
            self.check_limits(index);
        }
        self.wake(index);
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Dial { dial, address } => self.dial(index, dial, &address),
            Output::Send {
                connection,
                message,
            } => {
                let end = (index, connection);
                let taken = self.pipes.get_mut(&end).map(|pipe| pipe.write(&message));
                self.sent(end, taken.unwrap_or_default());
                self.schedule(end);
            }
            Output::Close { connection } => {
                self.hang_up((index, connection), LinkFault::Local, LinkFault::Closed);
            }
            Output::ReadDiscoveryFile => {
                let file = discovery_file(index, self.hosts.len());
                self.soon(index, Input::DiscoveryFile(Ok(Bytes::from(file))));
            }
            Output::Compute(command) => {
                if let Some(host) = self.hosts.get_mut(index) {
                    host.commands.push_back(command);
                }
                self.compute(index);
            }
            Output::Event(event) => {
                let told = self.hosts.get_mut(index).map(|host| host.hear(event));
                if let Some(Err(wrong)) = told {
                    self.must(false, || format!("n{index} tells {wrong}"));
                }
            }
        }
    }

    fn compute(&mut self, index: usize) {
        let slow = self.strikes(self.faults.slow_engine);
        let millis = if slow {
            500 + self.rng.below(20_000)
        } else {
            1 + self.rng.below(5)
        };
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        if host.computing || host.commands.is_empty() {
            return;
        }
        host.computing = true;
        let life = host.life;
        self.struck.slow_engine += u64::from(slow);
        self.later(
            Duration::from_millis(millis),
            Happening::Computed(index, life),
        );
    }

    fn computed(&mut self, index: usize, life: u64) {
        if !self.is_alive(index, life) {
            return;
        }
        let bad = self.strikes(self.faults.bad_engine);
        let Some(host) = self.hosts.get_mut(index) else {
            return;
        };
        host.computing = false;
        let Some(command) = host.commands.pop_front() else {
            return;
        };
        let breaks = bad && matches!(command, EngineCommand::Forward { .. });
        let event = if breaks {
            self.struck.bad_engine += 1;
            let failure = EngineFailure::new(FailureKind::Internal, "it smokes");
            Ok(EngineEvent::Failed {
                call: command.call(),
                failure,
            })
        } else {
            host.engine.execute(command)
        };
        match event {
            Ok(event) => self.input(index, life, Input::Engine(event)),
            Err(BrokenTrail(trail)) => self.must(false, || format!("n{index}: {trail}")),
        }
        self.compute(index);
    }

    /// Adds to the trace: FNV-1a over the text of what happens.
    fn note(&mut self, index: usize, input: &Input) {
        let mut trace = Trace(self.trace);
        // Writing into a hash cannot fail.
        let _ = write!(trace, "{} n{index} {input:?}", self.now.as_nanos());
        self.trace = trace.0;
    }
}

struct Trace(u64);

impl Write for Trace {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
