//! One machine of the ring: a node, its engine, its clock, its discovery file, its clients.

use super::client::Client;
use super::engine::{FINGERPRINT, TrailEngine};
use super::jobs::JobClient;
use super::tape::Taped;
use crate::invariants::nothing_left::Orphan;
use exo_protocol::engine::EngineCommand;
use exo_protocol::topology::Speed;
use exo_protocol::wire::Download;
use exo_protocol::{Config, Input, Instant, NodeId, RequestId};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A machine.
#[derive(Debug)]
pub(crate) struct Host {
    /// Whose id it runs under: its own, or, for the clone, another's.
    pub(crate) runs_as: usize,
    pub(crate) config: Config,
    pub(crate) node: Taped,
    pub(crate) engine: TrailEngine,
    /// What model it has.
    pub(crate) fingerprint: u64,
    /// Commands that the engine has not come to.
    pub(crate) commands: VecDeque<EngineCommand>,
    pub(crate) computing: bool,
    /// How quick its engine is; as it happens, if nothing is said.
    pub(crate) speed: Option<Speed>,
    /// Counts what its engine began; only the last is under way.
    pub(crate) turn: u64,
    /// Its engine fails everything until then.
    pub(crate) fails_until: Instant,
    /// Its engine answers nothing until then.
    pub(crate) hangs_until: Instant,
    pub(crate) clock: Clock,
    pub(crate) power: Power,
    /// It knows the base protocol only.
    pub(crate) base: bool,
    /// It was told to leave.
    pub(crate) leaving: bool,
    /// Since when it says so.
    pub(crate) drains: Option<Instant>,
    /// Counts its lives: what was meant for an earlier one is thrown away.
    pub(crate) life: u64,
    /// Of its node.
    pub(crate) incarnation: u64,
    pub(crate) clients: BTreeMap<RequestId, Client>,
    pub(crate) jobs: BTreeMap<RequestId, JobClient>,
    /// What it fetches, by the first layer.
    pub(crate) fetches: BTreeMap<u32, Download>,
    /// Which run of each other node its own has met last.
    pub(crate) met: BTreeMap<NodeId, u64>,
    /// Requests that it placed just now.
    pub(crate) placed: Vec<RequestId>,
    /// What its node is to give up.
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) file: File,
    /// What the wake-up that is scheduled is for, by its own clock.
    pub(crate) wakes_at: Option<Instant>,
    /// Counts wake-ups; only the last is not forgotten.
    pub(crate) wakes: u64,
    /// What its node is told next, at once.
    pub(crate) inbox: VecDeque<Input>,
}

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// It runs a node.
    On,
    /// It runs, its node does not: whoever dials is refused.
    Idle,
    /// Nothing answers.
    Off,
}

/// A machine's clock, beside the world's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// How far it jumped ahead.
    pub(crate) ahead: Duration,
    /// How much too fast it is, in millionths.
    pub(crate) drift: i64,
}

/// What stands in a discovery file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Right,
    Missing,
    Malformed,
    /// Without this host.
    Without(usize),
    /// With this host at the address of that one.
    Wrong(usize, usize),
}

const MILLION: i64 = 1_000_000;

impl Clock {
    /// What it shows.
    pub(crate) fn at(self, now: Instant) -> Instant {
        let nanos = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        let gain = nanos.saturating_mul(self.drift) / MILLION;
        Instant::from_nanos(now.as_nanos().saturating_add_signed(gain)) + self.ahead
    }

    /// How long it really takes until it has gone on by `duration`.
    pub(crate) fn real(self, duration: Duration) -> Duration {
        let speed = (MILLION + self.drift) as f64 / MILLION as f64;
        // A little late rather than a little early: early wakes nobody.
        duration.div_f64(speed) + Duration::from_micros(u64::from(self.drift != 0))
    }
}

impl Host {
    pub(crate) fn new(index: usize, config: Config, width: usize) -> Self {
        Self {
            runs_as: index,
            node: Taped::new(config.clone(), 0, Instant::ZERO, false),
            config,
            engine: TrailEngine::new(width, FINGERPRINT),
            fingerprint: FINGERPRINT,
            commands: VecDeque::new(),
            computing: false,
            speed: None,
            turn: 0,
            fails_until: Instant::ZERO,
            hangs_until: Instant::ZERO,
            clock: Clock::default(),
            power: Power::Off,
            base: false,
            leaving: false,
            drains: None,
            life: 0,
            incarnation: 0,
            clients: BTreeMap::new(),
            jobs: BTreeMap::new(),
            fetches: BTreeMap::new(),
            met: BTreeMap::new(),
            placed: Vec::new(),
            orphans: Vec::new(),
            file: File::Right,
            wakes_at: None,
            wakes: 0,
            inbox: VecDeque::new(),
        }
    }

    /// A new life: nothing is remembered.
    pub(crate) fn start(&mut self, seed: u64, now: Instant, width: usize, taped: bool) {
        self.power = Power::On;
        self.node = Taped::new(self.config.clone(), seed, self.clock.at(now), taped);
        self.incarnation = self.node.status().incarnation;
        self.engine = TrailEngine::new(width, self.fingerprint);
    }

    /// The end of a life; its clients lose their requests.
    pub(crate) fn stop(&mut self, power: Power) {
        self.power = power;
        self.life += 1;
        self.commands.clear();
        self.computing = false;
        self.leaving = false;
        self.drains = None;
        self.wakes_at = None;
        self.wakes += 1;
        self.inbox.clear();
        self.fetches.clear();
        self.met.clear();
        self.orphans.clear();
        for client in self.clients.values_mut() {
            client.orphan();
        }
        for client in self.jobs.values_mut() {
            client.orphan();
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.power == Power::On
    }
}

pub(crate) fn name(index: usize) -> String {
    format!("n{index}")
}

/// What host `own` of `hosts` reads.
pub(crate) fn discovery_file(own: usize, hosts: usize, file: File) -> Result<String, String> {
    match file {
        File::Missing => return Err(String::from("no such file")),
        File::Malformed => return Ok(String::from(r#"{"peers": {"n0": "#)),
        _ => {}
    }
    let address = |other| match file {
        File::Wrong(host, address) if host == other => address,
        _ => other,
    };
    let peers: Vec<String> = (0..hosts)
        .filter(|other| *other != own && file != File::Without(*other))
        .map(|other| {
            format!(
                r#""n{other}": {{"address": "host:{}"}}"#,
                address(other) + PORT
            )
        })
        .collect();
    Ok(format!(r#"{{"peers": {{{}}}}}"#, peers.join(", ")))
}

/// The port of the first host: zero is none.
pub(crate) const PORT: usize = 1;
