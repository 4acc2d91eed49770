//! What strikes the addresses of hosts, and how nodes learn of them.

use super::client::Wish;
use super::faults::Fault;
use super::queue::Happening;
use super::ways::{Datagram, NODE_PORT, Place, Ways};
use super::world::World;
use crate::invariants::best_address;
use bytes::Bytes;
use exo_protocol::config::Broadcast;
use exo_protocol::{Command, Input, Instant};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How often an address changes when nothing else does.
const ROUNDS: usize = 3;

/// Between two rounds in which the addresses of a peer are measured, at first and at last.
const MEASURE: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];

/// When something last changed that nodes must get to know.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unrest {
    /// Anything.
    pub(crate) changed: Instant,
    /// Anything by which something may be lost.
    pub(crate) broke: Instant,
}

impl World {
    /// Something changes by which something may be lost.
    pub(super) fn breaks(&mut self) {
        self.unrest.broke = self.now;
        self.changes();
    }

    /// Something changes.
    pub(super) fn changes(&mut self) {
        self.unrest.changed = self.now;
    }

    /// Hosts with several addresses measure them more often than people would have it.
    pub(super) fn set_up_ways(&mut self) {
        if !self.net.ways.several {
            return;
        }
        let announced = self.net.ways.announced;
        for host in &mut self.hosts {
            let config = &mut host.config;
            // What is tried on the side, and what is about to be closed.
            config.limits.connections *= 2;
            [config.timing.measure_every, config.timing.measure_most] = MEASURE;
            config.discovery.broadcast = announced.then(|| Broadcast {
                node_port: NODE_PORT,
                target_port: NODE_PORT,
                nodes: Vec::new(),
                kinds: Vec::new(),
            });
        }
    }

    /// The application names to a node where the others are.
    pub(super) fn learn(&mut self, index: usize) {
        let ways = &self.net.ways;
        if !ways.several || ways.announced || !self.hosts[index].is_on() {
            return;
        }
        let command = Command::Discovered {
            source: String::from("list"),
            peers: ways.named(self.hosts[index].runs_as),
        };
        self.changes();
        self.input(index, Input::Command(command));
    }

    /// A node announces itself.
    pub(super) fn broadcast(&mut self, index: usize, from: Ipv4Addr, payload: &Bytes) {
        let ways = &self.net.ways;
        let place = ways.of(index).find(|place| place.ip() == from);
        let Some(place) = place.filter(|place| ways.works(*place)) else {
            return;
        };
        for to in 0..self.hosts.len() {
            let lost = self.rng.below(8) == 0;
            if to == index || lost || self.net.is_cut(index, to) {
                continue;
            }
            let datagram = Datagram {
                to,
                life: self.hosts[to].life,
                from: IpAddr::V4(from),
                payload: payload.clone(),
            };
            let delay = self.net.between(index, to, place).latency;
            let mail = &mut self.net.ways.mail;
            let number = mail.last_key_value().map_or(0, |(last, _)| last + 1);
            mail.insert(number, datagram);
            self.later(delay, Happening::Heard(number));
        }
    }

    pub(super) fn heard(&mut self, number: u64) {
        let Some(datagram) = self.net.ways.mail.remove(&number) else {
            return;
        };
        let Datagram {
            to,
            life,
            from,
            payload,
        } = datagram;
        if self.is_alive(to, life) {
            self.input(to, Input::Datagram { from, payload });
        }
    }

    fn some_place(&mut self, test: impl Fn(&Self, Place) -> bool) -> Option<Place> {
        let real = self.real_hosts();
        let all = self.net.ways.places().filter(|place| place.host < real);
        let all: Vec<Place> = all.filter(|place| test(self, *place)).collect();
        let index = self.rng.below(all.len() as u64);
        all.get(usize::try_from(index).unwrap_or(0)).copied()
    }

    /// Something happens to an address of a host that has several.
    pub(super) fn strike_address(&mut self, fault: Fault) -> bool {
        let several = |world: &Self, place: Place| {
            let ways = &world.net.ways;
            let others = ways.of(place.host).filter(|other| *other != place);
            ways.works(place) && others.filter(|other| ways.works(*other)).count() > 0
        };
        let moves = |world: &Self, place: Place| {
            // The first one stands in discovery files.
            place.way > 0 && place.way < 200 && several(world, place)
        };
        let place = match fault {
            Fault::MovedAddress => self.some_place(moves),
            _ => self.some_place(several),
        };
        let Some(place) = place else {
            return false;
        };
        let name = Ways::name(place);
        let long = if self.rng.below(2) == 0 {
            30_000
        } else {
            200_000
        };
        let time = Duration::from_millis(1000 + self.rng.below(long));
        match fault {
            Fault::DeadAddress => {
                self.net.ways.kill(place, true);
                self.later(time, Happening::Revive(place));
                self.breaks();
                self.trace.say(self.now, || format!("-- {name} is dead"));
            }
            Fault::MovedAddress => {
                let to = Ways::name(self.net.ways.replace(place));
                for index in 0..self.hosts.len() {
                    let life = self.hosts[index].life;
                    let delay = Duration::from_millis(self.rng.below(5000));
                    self.later(delay, Happening::Learn(index, life));
                }
                self.breaks();
                self.trace
                    .say(self.now, || format!("-- {name} is {to} now"));
            }
            _ => {
                // Little enough that nobody takes the peer for dead.
                let slow = Duration::from_millis(2 + self.rng.below(200));
                self.net.ways.slow_down(place, slow);
                self.later(time, Happening::Hasten(place));
                self.changes();
                self.trace
                    .say(self.now, || format!("-- {name} is slower by {slow:?}"));
            }
        }
        true
    }

    /// No host is left without an address that works.
    pub(super) fn give_each_a_way(&mut self) {
        for host in 0..self.real_hosts() {
            let ways = &self.net.ways;
            if !ways.of(host).any(|place| ways.works(place)) {
                self.revive(Place::first(host));
            }
        }
    }

    /// An address works again.
    pub(super) fn revive(&mut self, place: Place) {
        if self.net.ways.works(place) {
            return;
        }
        self.net.ways.kill(place, false);
        self.trace
            .say(self.now, || format!("-- {} is back", Ways::name(place)));
        self.changes();
        self.resume_all();
    }

    /// An address is as quick as it was.
    pub(super) fn hasten(&mut self, place: Place) {
        self.net.ways.slow_down(place, Duration::ZERO);
        self.changes();
    }

    /// Once all else is quiet: addresses change one after another, with time to find it out, while
    /// clients come.
    pub(super) fn wander(&mut self) {
        if !self.net.ways.several {
            return;
        }
        self.trace.say(self.now, || String::from("-- addresses"));
        let kinds = Fault::ADDRESSES.into_iter();
        let kinds: Vec<Fault> = kinds.filter(|kind| self.may(&[*kind])).collect();
        for round in 0..=ROUNDS {
            let kind = usize::try_from(self.rng.below(kinds.len() as u64)).unwrap_or(0);
            match kinds.get(kind) {
                Some(kind) if round > 0 => self.strike(*kind),
                // What nobody disturbs is found out once.
                None if round > 0 => break,
                _ => {}
            }
            let end = self.now + best_address::SURVEYED;
            // What comes back on the way has to be found out as well.
            while self.now < end.max(self.unrest.changed + best_address::SURVEYED) {
                if self.is_broken() {
                    return;
                }
                if self.draws(250) {
                    self.comes_along();
                }
                self.run_until(self.now + Duration::from_millis(500));
                self.look();
            }
            if let Err(what) = best_address::check(self) {
                self.broken("best_address", what);
            }
        }
    }

    /// Somebody asks for enough that an address may change meanwhile.
    fn comes_along(&mut self) {
        let wish = Wish {
            prompt: 5,
            mean: 80,
            most: 100,
            plain: false,
            timeout: Duration::from_secs(60),
        };
        let index = usize::try_from(self.rng.below(self.real_hosts() as u64)).unwrap_or(0);
        self.submit(index, &wish);
    }
}
