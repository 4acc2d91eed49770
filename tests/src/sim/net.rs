//! Connections between hosts: dialling, delivering in pieces, hanging up.

use super::host::{PORT, Power};
use super::pipe::{Delivery, Pipe, Weather};
use super::queue::{End, Happening};
use super::ways::{Place, Ways};
use super::world::World;
use exo_protocol::rng::Rng;
use exo_protocol::wire::DecodeLimits;
use exo_protocol::{ConnectionId, DialId, Input, Instant, LinkFault, Origin};
use std::time::Duration;

/// A system gives up a dial to nowhere after this long.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);

/// What connects the hosts.
#[derive(Debug)]
pub(crate) struct Net {
    hosts: usize,
    /// By end. The two ends of a connection differ in their lowest bit.
    pipes: Vec<Option<Box<Pipe>>>,
    /// The ends that there are.
    live: Vec<End>,
    links: Vec<Weather>,
    pub(crate) ways: Ways,
    /// How many partitions keep `from` from reaching `to`.
    cuts: Vec<u8>,
    /// Bytes that a system takes before a writer must wait.
    pub(crate) buffer: usize,
}

impl Net {
    pub(crate) fn new(hosts: usize, mut ways: Ways, rng: &mut Rng) -> Self {
        // In one room, in one house, or over the world.
        let spread = [300, 5_000, 60_000][usize::try_from(rng.below(3)).unwrap_or(0)];
        ways.set_up(spread);
        let mut link = || Weather {
            latency: Duration::from_micros(50 + rng.below(spread)),
            bytes_per_second: 500_000 << rng.below(8),
        };
        Self {
            hosts,
            pipes: Vec::new(),
            live: Vec::new(),
            links: (0..hosts * hosts).map(|_| link()).collect(),
            ways,
            cuts: vec![0; hosts * hosts],
            buffer: 1024 << rng.below(7),
        }
    }

    pub(crate) fn pipe(&mut self, end: End) -> Option<&mut Pipe> {
        self.pipes.get_mut(end)?.as_deref_mut()
    }

    pub(crate) fn is_open(&self, end: End) -> bool {
        self.pipes
            .get(end)
            .and_then(Option::as_deref)
            .is_some_and(|pipe| pipe.open)
    }

    pub(crate) fn ends(&self) -> &[End] {
        &self.live
    }

    /// The ends of a host.
    pub(crate) fn ends_of(&self, host: usize) -> Vec<End> {
        let own = |end: &End| {
            let pipe = self.pipes.get(*end).and_then(Option::as_deref);
            pipe.is_some_and(|pipe| pipe.from == host)
        };
        self.live.iter().copied().filter(own).collect()
    }

    /// What it is like from one host to another over this address, which is of one of them.
    pub(crate) fn between(&self, from: usize, to: usize, place: Place) -> Weather {
        let link = self.links[from * self.hosts + to];
        self.ways.weather(place, from, to, link)
    }

    pub(crate) fn slow_down(&mut self, from: usize, to: usize, bytes_per_second: u64) {
        self.links[from * self.hosts + to].bytes_per_second = bytes_per_second;
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from * self.hosts + to] += 1;
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.hosts + to];
        *cuts = cuts.saturating_sub(1);
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.hosts + to] > 0
    }

    /// Whether nothing gets from one host to another over this address.
    fn is_blocked(&self, from: usize, to: usize, place: Place) -> bool {
        self.is_cut(from, to) || !self.ways.works(place)
    }

    /// Whether a host reaches an address of another one, and back.
    pub(crate) fn reaches(&self, from: usize, place: Place) -> bool {
        let blocked = |from, to| self.is_blocked(from, to, place);
        !blocked(from, place.host) && !blocked(place.host, from)
    }

    /// A connection; the first end is `from`'s.
    fn connect(&mut self, from: usize, place: Place, base: bool) -> End {
        let end = self.pipes.len();
        let pipe = |ends| {
            Some(Box::new(Pipe::new(
                ends,
                place,
                base,
                DecodeLimits::default(),
            )))
        };
        self.pipes.push(pipe([from, place.host]));
        self.pipes.push(pipe([place.host, from]));
        self.live.extend([end, other(end)]);
        end
    }

    /// A connection to a host from somebody who is none; the end of the host.
    pub(crate) fn stranger(&mut self, to: usize) -> End {
        let near = self.connect(self.hosts - 1, Place::first(to), false);
        if let Some(pipe) = self.pipe(near) {
            pipe.open = false;
            pipe.mute = true;
        }
        if let Some(pipe) = self.pipe(other(near)) {
            pipe.deaf = true;
        }
        other(near)
    }

    /// Forgets a connection of which neither end knows.
    pub(crate) fn sweep(&mut self, end: End) {
        if self.is_open(end) || self.is_open(other(end)) {
            return;
        }
        for end in [end, other(end)] {
            self.pipes[end] = None;
            if let Some(index) = self.live.iter().position(|live| *live == end) {
                self.live.swap_remove(index);
            }
        }
    }
}

/// The other end of the same connection.
pub(crate) const fn other(end: End) -> End {
    end ^ 1
}

/// How nodes know an end.
pub(crate) const fn number(end: End) -> ConnectionId {
    ConnectionId(end as u64)
}

impl World {
    pub(super) fn dial(&mut self, index: usize, dial: DialId, address: &str) {
        let life = self.hosts[index].life;
        let Some(place) = self.net.ways.find(address) else {
            return self.later(DIAL_PATIENCE, Happening::DialTimedOut(index, life, dial));
        };
        let there = self.net.between(index, place.host, place).latency;
        let back = self.net.between(place.host, index, place).latency;
        self.later(there + back, Happening::Dialed(index, life, dial, place));
    }

    pub(super) fn dialed(&mut self, index: usize, life: u64, dial: DialId, place: Place) {
        if !self.is_alive(index, life) {
            return;
        }
        let (to, reached) = (place.host, self.net.reaches(index, place));
        let power = self.hosts[to].power;
        if !reached || power == Power::Off {
            // The system asks again, or gives up.
            let again = Duration::from_millis(500 + self.rng.below(7500));
            return if self.rng.below(2) == 0 {
                self.later(again, Happening::Dialed(index, life, dial, place))
            } else {
                self.later(again * 3, Happening::DialTimedOut(index, life, dial))
            };
        }
        if power == Power::Idle {
            let reason = String::from("connection refused");
            return self.input(index, Input::DialFailed { dial, reason });
        }
        let base = self.hosts[index].base || self.hosts[to].base;
        let end = self.net.connect(index, place, base);
        let opened = |end, origin, remote| Input::Opened {
            connection: number(end),
            origin,
            remote,
        };
        let near = opened(end, Origin::Dialed(dial), Ways::name(place));
        let remote = format!("host:{}", index + PORT);
        let far = opened(other(end), Origin::Accepted, remote);
        if self.rng.below(2) == 0 {
            self.input(to, far);
            self.input(index, near);
        } else {
            self.input(index, near);
            self.input(to, far);
        }
    }

    pub(super) fn dial_timed_out(&mut self, index: usize, life: u64, dial: DialId) {
        if self.is_alive(index, life) {
            let reason = String::from("connection timed out");
            self.input(index, Input::DialFailed { dial, reason });
        }
    }

    /// Lets the system take what it has room for, and schedules its arrival.
    pub(super) fn push(&mut self, end: End) {
        let (now, buffer) = (self.now, self.net.buffer);
        let Some(pipe) = self.net.pipes.get_mut(end).and_then(Option::as_deref_mut) else {
            return;
        };
        let link = self.net.links[pipe.from * self.net.hosts + pipe.to];
        let weather = (self.net.ways).weather(pipe.place, pipe.from, pipe.to, link);
        let inbox = &mut self.hosts[pipe.from].inbox;
        let connection = number(end);
        pipe.fill(now, weather, buffer, &mut self.rng, |bytes| {
            inbox.push_back(Input::Sent { connection, bytes });
        });
        self.schedule(end);
    }

    pub(super) fn schedule(&mut self, end: End) {
        let now = self.now;
        let Some(pipe) = self.net.pipe(end) else {
            return;
        };
        if pipe.stalled || pipe.mute || pipe.scheduled {
            return;
        }
        let (from, to, place, finished) = (pipe.from, pipe.to, pipe.place, pipe.finished);
        let at = match pipe.arrives_at() {
            Some(at) => at.max(now),
            None if finished => now + self.net.between(from, to, place).latency,
            None => return,
        };
        // What a partition keeps is sent on when it ends.
        if self.net.is_blocked(from, to, place) {
            return;
        }
        if let Some(pipe) = self.net.pipe(end) {
            pipe.scheduled = true;
        }
        self.queue.push(at, Happening::Arrive(end));
    }

    pub(super) fn arrive(&mut self, end: End) {
        let reader_open = self.net.is_open(other(end));
        let Some(pipe) = self.net.pipes.get_mut(end).and_then(Option::as_deref_mut) else {
            return;
        };
        pipe.scheduled = false;
        let (from, to, place) = (pipe.from, pipe.to, pipe.place);
        let cut = self.net.cuts[from * self.net.hosts + to] > 0;
        if pipe.stalled || cut || !self.net.ways.works(place) {
            return;
        }
        if !reader_open {
            pipe.arrived();
            let deaf = pipe.deaf || self.hosts[to].power == Power::Off;
            if !deaf && !self.net.is_cut(to, from) {
                let back = self.net.between(to, from, place).latency;
                self.later(back, Happening::Reset(end));
            }
        } else if pipe.arrives_at().is_none() {
            // Its last word.
            let fault = if pipe.is_mid_frame() {
                LinkFault::Truncated
            } else {
                LinkFault::Closed
            };
            self.lose(other(end), fault);
            return self.work(to);
        } else {
            let trace = &mut self.trace;
            let delivery = pipe.read(|bytes| trace.bytes(bytes));
            self.deliver(end, to, delivery);
        }
        self.push(end);
        self.work(from);
    }

    fn deliver(&mut self, end: End, to: usize, delivery: Delivery) {
        let connection = number(other(end));
        for (message, bytes) in delivery.messages {
            // The node may have closed it for the message before.
            if self.net.is_open(other(end)) {
                let received = Input::Received {
                    connection,
                    message,
                    bytes,
                };
                self.input(to, received);
            }
        }
        if !self.net.is_open(other(end)) {
            return;
        }
        if delivery.mid_frame {
            self.input(to, Input::Progress { connection });
        }
        if let Some(fault) = delivery.fault {
            self.lose(other(end), fault);
            self.work(to);
        }
    }

    /// An end of a connection is no more: its host is told once, and writes no more.
    pub(super) fn lose(&mut self, end: End, fault: LinkFault) {
        let Some(pipe) = self.net.pipe(end).filter(|pipe| pipe.open) else {
            return;
        };
        pipe.open = false;
        pipe.finish();
        let from = pipe.from;
        if self.hosts[from].power == Power::On {
            let connection = number(end);
            let lost = Input::Lost { connection, fault };
            self.hosts[from].inbox.push_back(lost);
        }
        self.net.sweep(end);
        self.schedule(end);
    }

    /// A connection breaks at both ends; what is under way is lost.
    pub(super) fn reset(&mut self, end: End) {
        let fault = || LinkFault::Io("connection reset by peer".into());
        let hosts = [end, other(end)].map(|end| {
            let pipe = self.net.pipe(end);
            pipe.map(|pipe| {
                pipe.swallow();
                pipe.from
            })
        });
        self.lose(end, fault());
        self.lose(other(end), fault());
        for host in hosts.into_iter().flatten() {
            self.work(host);
        }
    }

    /// `end` is lost, and the other end does not learn it.
    pub(super) fn half_open(&mut self, end: End) {
        let Some(pipe) = self.net.pipe(end) else {
            return;
        };
        pipe.swallow();
        pipe.mute = true;
        let host = pipe.from;
        if let Some(pipe) = self.net.pipe(other(end)) {
            pipe.deaf = true;
        }
        self.lose(end, LinkFault::Io("no route to host".into()));
        self.work(host);
    }

    pub(super) fn resume(&mut self, end: End) {
        if let Some(pipe) = self.net.pipe(end) {
            pipe.stalled = false;
        }
        self.breaks();
        self.schedule(end);
    }

    /// Everything that may flow again flows.
    pub(super) fn resume_all(&mut self) {
        for end in self.net.live.clone() {
            self.schedule(end);
        }
    }

    /// A happening in `delay`.
    pub(super) fn later(&mut self, delay: Duration, happening: Happening) {
        let at: Instant = self.now + delay;
        self.queue.push(at, happening);
    }
}
