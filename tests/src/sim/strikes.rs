//! What strikes from outside.

use super::faults::{DRAW_EVERY, Fault, NOISE};
use super::host::{File, Power};
use super::net::{number, other};
use super::queue::{End, Happening};
use super::world::World;
use crate::invariants::placement_covers;
use crate::invariants::{everything_ends, jobs_end, limits, nothing_left, peers_stay};
use exo_protocol::{Command, Input, Instant, Origin};
use std::time::Duration;

impl World {
    /// Whether something that happens so many times per thousand happens now.
    pub(super) fn draws(&mut self, per_mille: u64) -> bool {
        self.rng.below(1000) < per_mille
    }

    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let weight = if self.quiet {
            0
        } else {
            self.faults.weight(fault)
        };
        weight > 0 && self.draws(weight)
    }

    /// A whole number of milliseconds.
    fn some_time(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.rng.below(to - from))
    }

    fn some_end(&mut self) -> Option<End> {
        let count = self.net.ends().len() as u64;
        let index = usize::try_from(self.rng.below(count)).ok()?;
        self.net.ends().get(index).copied()
    }

    /// One of the hosts, or the clone.
    pub(super) fn some_host(&mut self) -> usize {
        usize::try_from(self.rng.below(self.hosts.len() as u64)).unwrap_or(0)
    }

    fn some_real_host(&mut self) -> usize {
        usize::try_from(self.rng.below(self.real_hosts() as u64)).unwrap_or(0)
    }

    pub(super) fn draw(&mut self) {
        if self.quiet {
            return;
        }
        if self.now + DRAW_EVERY < Instant::after_origin(NOISE) {
            self.later(DRAW_EVERY, Happening::Draw);
        }
        for fault in Fault::ALL {
            if self.strikes(fault) {
                self.strike(fault);
            }
        }
        self.clients_come();
        self.fetch_some();
        self.look();
    }

    /// Looking at a whole node costs more than stepping it: one at a time.
    pub(super) fn look(&mut self) {
        let (index, now) = (self.some_host(), self.now);
        let host = &mut self.hosts[index];
        let mut found = Vec::new();
        if host.is_on() {
            let status = host.node.status();
            found.push(("limits", limits::check(&status, &host.config)));
            found.push(("nothing_left", nothing_left::orphans(host, now, &status)));
        }
        found.push(("everything_ends", everything_ends::in_time(self)));
        found.push(("jobs_end", jobs_end::in_time(self)));
        found.push(("nothing_left", nothing_left::soon(self)));
        let stays = placement_covers::nobody_stays_with_a_leaver(self);
        found.push(("placement_covers", stays));
        found.push(("peers_stay", peers_stay::connected(self)));
        for (property, found) in found {
            if let Err(what) = found {
                self.broken(property, format!("n{index} was looked at: {what}"));
            }
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        let struck = match fault {
            Fault::Crash => self.crash(),
            Fault::Reset => self.some_end().map(|end| self.reset(end)).is_some(),
            Fault::HalfOpen => self.some_end().map(|end| self.half_open(end)).is_some(),
            Fault::Stall => self.stall(),
            Fault::BadEngine | Fault::HungEngine => self.spoil_engine(fault),
            Fault::Sleep => self.sleep(),
            Fault::Partition | Fault::OneWay => self.partition(fault == Fault::OneWay),
            Fault::Clone => self.clone_somebody(),
            Fault::Leave => self.leave(),
            Fault::Discovery => self.spoil_file(),
            Fault::Strangers => self.strangers(),
            Fault::DeadAddress | Fault::MovedAddress | Fault::SlowAddress => {
                self.strike_address(fault)
            }
            // Drawn when a command is computed, or a client comes, or once for all.
            Fault::SlowEngine
            | Fault::BadStep
            | Fault::Drift
            | Fault::SlowLink
            | Fault::BaseOnly
            | Fault::OtherModel
            | Fault::Cancel => false,
        };
        if struck {
            if !Fault::ADDRESSES.contains(&fault) {
                self.breaks();
            }
            self.struck.count(fault);
            self.trace.say(self.now, || format!("-- {fault:?}"));
        }
    }

    fn stall(&mut self) -> bool {
        let time = self.some_time(100, 12_000);
        let Some(end) = self.some_end() else {
            return false;
        };
        if let Some(pipe) = self.net.pipe(end) {
            pipe.stalled = true;
        }
        self.later(time, Happening::Resume(end));
        true
    }

    /// Somebody connects a few times and says nothing.
    fn strangers(&mut self) -> bool {
        let (index, count) = (self.some_real_host(), 1 + self.rng.below(12));
        let time = self.some_time(1000, 15_000);
        // In the base protocol, who does not know everybody sends hidden states to the wrong node.
        if !self.hosts[index].is_on() || self.may(&[Fault::BaseOnly]) {
            return false;
        }
        for _ in 0..count {
            let end = self.net.stranger(index);
            let opened = Input::Opened {
                connection: number(end),
                origin: Origin::Accepted,
                remote: String::from("host:0"),
            };
            self.input(index, opened);
            self.later(time, Happening::Reset(end));
        }
        true
    }

    fn spoil_engine(&mut self, fault: Fault) -> bool {
        let index = self.some_real_host();
        let time = self.some_time(1000, 10_000);
        let now = self.now;
        let host = &mut self.hosts[index];
        if fault == Fault::BadEngine {
            host.fails_until = now + time;
        } else {
            host.hangs_until = now + time * 4;
        }
        true
    }

    fn sleep(&mut self) -> bool {
        let index = self.some_real_host();
        let jump = if self.draws(500) {
            self.some_time(1000, 20_000)
        } else {
            self.some_time(20_000, 3_600_000)
        };
        let host = &mut self.hosts[index];
        host.clock.ahead += jump;
        host.wakes_at = None;
        self.trace
            .say(self.now, || format!("-- n{index} slept {jump:?}"));
        self.work(index);
        true
    }

    /// Two groups; `one_way`, the second still reaches the first.
    fn partition(&mut self, one_way: bool) -> bool {
        let time = self.some_time(300, 12_000);
        let group = self.rng.next_u64();
        let first = |host: usize| group >> host & 1 == 0;
        let mut cuts = Vec::new();
        for from in 0..self.hosts.len() {
            for to in 0..self.hosts.len() {
                if first(from) != first(to) && (first(from) || !one_way) {
                    self.net.cut(from, to);
                    cuts.push((from, to));
                }
            }
        }
        if cuts.is_empty() {
            return false;
        }
        self.trace.say(self.now, || format!("-- cut: {cuts:?}"));
        self.partitions.push_back(cuts);
        self.later(time, Happening::Heal);
        true
    }

    pub(super) fn heal(&mut self) {
        for (from, to) in self.partitions.pop_front().unwrap_or_default() {
            self.net.mend(from, to);
        }
        self.breaks();
        self.resume_all();
    }

    /// A host dies without a word.
    fn crash(&mut self) -> bool {
        let index = self.some_real_host();
        if !self.hosts[index].is_on() {
            return false;
        }
        let power = if self.draws(400) {
            Power::Off
        } else {
            Power::Idle
        };
        let reset = self.draws(500);
        self.take_down(index, power, reset);
        self.start_later(index);
        true
    }

    fn start_later(&mut self, index: usize) {
        let time = if self.draws(300) {
            self.some_time(1, 200)
        } else {
            self.some_time(200, 12_000)
        };
        let life = self.hosts[index].life;
        self.later(time, Happening::Start(index, life));
    }

    /// A host is no more; who was connected with it sees a reset, an end, or nothing at all.
    fn take_down(&mut self, index: usize, power: Power, reset: bool) {
        self.trace.say(self.now, || {
            format!("-- n{index} is {power:?}, reset: {reset}")
        });
        self.hosts[index].stop(power);
        for end in self.net.ends_of(index) {
            if power == Power::Off {
                if let Some(pipe) = self.net.pipe(end) {
                    pipe.swallow();
                    pipe.mute = true;
                }
            } else if reset {
                self.reset(end);
            }
            self.lose(end, exo_protocol::LinkFault::Local);
        }
    }

    pub(super) fn start(&mut self, index: usize, life: u64) {
        let seed = self.rng.next_u64();
        let host = &self.hosts[index];
        if host.life == life && !host.is_on() {
            self.wake_up(index, seed);
        }
    }

    fn leave(&mut self) -> bool {
        let index = self.some_real_host();
        let time = self.some_time(10, 3000);
        let host = &mut self.hosts[index];
        if !host.is_on() || host.leaving {
            return false;
        }
        host.leaving = true;
        let life = host.life;
        let command = match self.rng.below(4) {
            0 => Command::Stop,
            _ => Command::Drain,
        };
        if matches!(command, Command::Drain) {
            host.drains = Some(self.now);
        }
        // Who drains goes when it is drained, or when somebody loses patience.
        if matches!(command, Command::Stop) || self.draws(200) {
            self.later(time, Happening::Leave(index, life));
        }
        let stops = matches!(command, Command::Stop);
        self.input(index, Input::Command(command));
        if stops && let Err(what) = everything_ends::stopped(self, index) {
            self.broken("everything_ends", what);
        }
        true
    }

    /// A host has nothing to do any more.
    pub(super) fn drained(&mut self, index: usize) {
        let time = self.some_time(1, 500);
        let life = self.hosts[index].life;
        self.later(time, Happening::Leave(index, life));
    }

    pub(super) fn gone(&mut self, index: usize, life: u64) {
        if !self.is_alive(index, life) {
            return;
        }
        self.take_down(index, Power::Idle, false);
        self.breaks();
        if index < self.real_hosts() {
            self.start_later(index);
        }
    }

    /// A second host under the id of another.
    fn clone_somebody(&mut self) -> bool {
        let clone = self.real_hosts();
        if self.hosts[clone].is_on() {
            return false;
        }
        let victim = self.some_real_host();
        let reader = self.some_real_host();
        let (time, known) = (self.some_time(1000, 15_000), self.draws(500));
        let (config, base) = (self.hosts[victim].config.clone(), self.hosts[victim].base);
        let host = &mut self.hosts[clone];
        host.base = base;
        host.runs_as = victim;
        host.config = config;
        let life = host.life;
        self.later(time, Happening::Leave(clone, life));
        if known {
            self.hosts[reader].file = File::Wrong(victim, clone);
            self.later(time, Happening::Rewrite(reader));
        }
        self.start(clone, life);
        true
    }

    fn spoil_file(&mut self) -> bool {
        let (index, victim) = (self.some_real_host(), self.some_real_host());
        let time = self.some_time(1000, 12_000);
        self.hosts[index].file = match self.rng.below(5) {
            0 => File::Missing,
            1 => File::Malformed,
            2 => File::Without(victim),
            3 => File::Wrong(victim, index),
            _ => File::Wrong(victim, self.some_host()),
        };
        self.later(time, Happening::Rewrite(index));
        true
    }

    /// Ends the noise: what is broken is whole again, at once.
    pub(super) fn calm(&mut self) {
        self.quiet = true;
        self.breaks();
        self.trace.say(self.now, || String::from("-- quiet"));
        while !self.partitions.is_empty() {
            self.heal();
        }
        for end in self.net.ends().to_vec() {
            self.resume(end);
            self.resume(other(end));
        }
        let clone = self.real_hosts();
        if self.hosts[clone].is_on() {
            self.take_down(clone, Power::Idle, true);
        }
        self.give_each_a_way();
        for index in 0..clone {
            let now = self.now;
            let host = &mut self.hosts[index];
            host.file = File::Right;
            host.fails_until = now;
            host.hangs_until = now;
            if host.computing {
                self.turn_engine(index, Duration::ZERO);
            }
        }
    }
}
