//! A run that is written down instead of drawn: which world, what strikes when, who asks for what.
//!
//! Bytes say all of it, so that a fuzzer can change one thing and leave the rest. Eight are the world,
//! and every eight more are something that happens: how long after the one before, what, and what it
//! would have drawn. What they do not say is drawn from the seed in them.

use super::Mode;
use super::client::Wish;
use super::faults::{DRAW_EVERY, Fault, Faults, NOISE};
use super::outcome::{Outcome, Violation};
use super::ways::Ways;
use super::world::World;
use crate::invariants::everything_ends;
use exo_protocol::rng::Rng;
use exo_protocol::{Command, Input, Instant, RequestId};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// Bytes of the world, and of whatever happens in it.
const RECORD: usize = 8;

/// The most that happens in a run.
const MOST: usize = 48;

/// What a byte can stand for.
#[derive(Clone, Copy, Debug)]
enum Action {
    Submit,
    Cancel,
    /// Nothing, for a while.
    Wait,
    Strike(Fault),
    /// An engine takes longer over what it has begun.
    SlowEngine,
    /// An engine fails what it has begun.
    BadStep,
    /// A link gets another bandwidth.
    Link,
}

const ACTIONS: [Action; 26] = [
    Action::Submit,
    Action::Wait,
    Action::Strike(Fault::Crash),
    Action::Strike(Fault::Reset),
    Action::Strike(Fault::Stall),
    Action::Strike(Fault::HalfOpen),
    Action::Strike(Fault::BadEngine),
    Action::Strike(Fault::HungEngine),
    Action::Strike(Fault::Sleep),
    Action::Strike(Fault::Partition),
    Action::Strike(Fault::OneWay),
    Action::Strike(Fault::Clone),
    Action::Strike(Fault::Leave),
    Action::Strike(Fault::Discovery),
    Action::Strike(Fault::Strangers),
    Action::SlowEngine,
    Action::BadStep,
    Action::Link,
    Action::Cancel,
    Action::Submit,
    Action::Submit,
    Action::Submit,
    Action::Wait,
    Action::Strike(Fault::Reset),
    Action::Strike(Fault::Crash),
    Action::Submit,
];

/// What the last bytes stand for: they came later, and scripts written before mean what they meant.
const OF_ADDRESSES: [Action; 3] = [
    Action::Strike(Fault::DeadAddress),
    Action::Strike(Fault::MovedAddress),
    Action::Strike(Fault::SlowAddress),
];

/// The first of the last bytes.
const LAST: u8 = 234;

impl Action {
    fn of(byte: u8) -> Self {
        match byte.checked_sub(LAST).map(usize::from) {
            Some(last) => OF_ADDRESSES[last % OF_ADDRESSES.len()],
            None => ACTIONS[usize::from(byte) % ACTIONS.len()],
        }
    }

    /// What the invariants must reckon with.
    fn fault(self) -> Option<Fault> {
        match self {
            Self::Submit | Self::Wait => None,
            Self::Cancel => Some(Fault::Cancel),
            Self::Strike(fault) => Some(fault),
            Self::SlowEngine => Some(Fault::SlowEngine),
            Self::BadStep => Some(Fault::BadStep),
            Self::Link => Some(Fault::SlowLink),
        }
    }
}

/// Runs a script. `prints`: all that happens, in words.
///
/// # Errors
/// The first thing that must hold and does not.
pub fn run_script(script: &[u8], prints: bool) -> Result<Outcome, Box<Violation>> {
    let mut head = [0; RECORD];
    let length = script.len().min(RECORD);
    head[..length].copy_from_slice(&script[..length]);
    let [hosts, high, low, base, other, drifts, drift, tape] = head;
    let seed = u64::from(u16::from_be_bytes([high, low]));
    let hosts = 2 + usize::from(hosts % 4);
    // All of these change what a run is about, so few have them.
    let few = |mask: u8| if mask >> 6 == 3 { mask & 0x1f } else { 0 };
    let (base, other) = (few(base), few(other));
    let mode = match (prints, tape & 15) {
        (true, _) => Mode::Prints,
        (false, 15) => Mode::Taped,
        (false, _) => Mode::Quiet,
    };
    let is_on = |mask: u8, index: usize| mask >> index & 1 == 1;
    let mut script: Vec<&[u8]> = script[length..].chunks(RECORD).take(MOST).collect();
    if (0..hosts).any(|index| is_on(base, index)) {
        // As in `Faults::swarm`.
        script.retain(|record| !matches!(action(record).fault(), Some(Fault::Discovery)));
    }
    // Few, as well: it takes time until nodes have found out about their addresses.
    let ways = Ways::new(seed, hosts, Some(tape >> 5 == 7));
    let mut world = World::under(Faults::default(), seed, Rng::new(seed), ways, mode);
    // What strikes is written down.
    world.quiet = true;
    let mut faults: Vec<Fault> = script.iter().filter_map(|r| action(r).fault()).collect();
    for index in 0..hosts {
        if is_on(base, index) {
            world.hosts[index].base = true;
            faults.push(Fault::BaseOnly);
        }
        if is_on(other, index) {
            world.hosts[index].fingerprint ^= 1;
            world.model_mib = 0;
            faults.push(Fault::OtherModel);
        }
        if is_on(drifts, index) && drift != 0 {
            world.hosts[index].clock.drift = i64::from(drift.cast_signed()) * 390;
            faults.push(Fault::Drift);
        }
    }
    if faults.contains(&Fault::BaseOnly) {
        let hosts = world.hosts.iter_mut();
        hosts.for_each(|host| host.config.limits.connections = 64);
    }
    world.faults = Faults::of(&faults);
    for record in script {
        world.play(record);
        if world.now >= Instant::after_origin(NOISE) {
            break;
        }
    }
    world.wait(DRAW_EVERY);
    world.come_to_rest()
}

fn action(record: &[u8]) -> Action {
    Action::of(record.get(1).copied().unwrap_or(0))
}

/// From nothing to a second, the shorter the finer.
fn pause(byte: u8) -> Duration {
    let fine = u64::from(byte & 15) + 16;
    Duration::from_micros((fine << (byte >> 4)) - 16)
}

impl World {
    fn play(&mut self, record: &[u8]) {
        self.wait(pause(record.first().copied().unwrap_or(0)));
        self.rng.said.extend(record.iter().skip(2));
        match action(record) {
            Action::Wait => {
                let time = self.rng.below(10_000);
                self.wait(Duration::from_millis(time));
            }
            Action::Submit => {
                let (index, wish) = (self.some_host(), self.wish_said());
                self.rng.said.clear();
                self.submit(index, &wish);
            }
            Action::Cancel => self.cancel_said(),
            Action::Strike(fault) => self.strike(fault),
            Action::SlowEngine => {
                let (index, time) = (self.some_host(), self.rng.below(12_000));
                if self.hosts[index].computing {
                    self.turn_engine(index, Duration::from_millis(time));
                }
            }
            Action::BadStep => {
                let index = self.some_host();
                let until = self.now + Duration::from_nanos(1);
                let host = &mut self.hosts[index];
                if host.computing {
                    host.fails_until = host.fails_until.max(until);
                    self.turn_engine(index, Duration::ZERO);
                }
            }
            Action::Link => {
                let (from, to) = (self.some_host(), self.some_host());
                let speed = match self.rng.below(16) {
                    slow @ 0..8 => 12_500 * (1 + slow),
                    fast => 500_000 << (fast - 8),
                };
                self.net.slow_down(from, to, speed);
            }
        }
        self.rng.said.clear();
        self.look();
    }

    /// Time passes; somebody looks now and then.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now + DRAW_EVERY < end {
            self.run_until(self.now + DRAW_EVERY);
            self.look();
        }
        self.run_until(end);
    }

    fn wish_said(&mut self) -> Wish {
        let rng = &mut self.rng;
        let prompt = match rng.below(256) {
            short @ 0..192 => 1 + short / 8,
            long => 25 + (long - 192) * 4,
        };
        Wish {
            prompt: usize::try_from(prompt).unwrap_or(1),
            mean: 1 + u32::try_from(rng.below(40)).unwrap_or(0),
            most: u32::try_from(rng.below(100)).unwrap_or(1),
            plain: false,
            timeout: Duration::from_millis(rng.below(30_000)),
        }
    }

    fn cancel_said(&mut self) {
        let (index, which) = (self.some_host(), self.rng.below(4));
        let clients = self.hosts[index].clients.iter();
        let running = clients.filter(|(_, client)| client.end.is_none());
        let running: Vec<RequestId> = running.map(|(request, _)| request.clone()).collect();
        let which = usize::try_from(which).unwrap_or(0);
        let Some(request) = running.get(which).or(running.first()).cloned() else {
            return;
        };
        if let Some(client) = self.hosts[index].clients.get_mut(&request) {
            client.cancelled = true;
        }
        let command = Command::Cancel {
            request: request.clone(),
        };
        self.input(index, Input::Command(command));
        if let Err(what) = everything_ends::cancelled(self, index, &request) {
            self.broken("everything_ends", what);
        }
    }
}

/// What a world draws from: its seed, or, as far as it goes, what a script says.
#[derive(Debug)]
pub(super) struct Dice {
    rng: Rng,
    said: VecDeque<u8>,
}

impl From<Rng> for Dice {
    fn from(rng: Rng) -> Self {
        let said = VecDeque::new();
        Self { rng, said }
    }
}

impl Deref for Dice {
    type Target = Rng;

    fn deref(&self) -> &Rng {
        &self.rng
    }
}

impl DerefMut for Dice {
    fn deref_mut(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

impl Dice {
    /// A number in `0..bound`; zero when `bound` is zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        match self.said.pop_front().map(u64::from) {
            Some(byte) if bound <= 256 => byte.checked_rem(bound).unwrap_or(0),
            Some(byte) => byte * (bound >> 8) + ((byte * (bound & 255)) >> 8),
            None => self.rng.below(bound),
        }
    }

    /// The next 64 bits. A script says the lowest eight: nobody is to be born twice.
    pub(super) fn next_u64(&mut self) -> u64 {
        let drawn = self.rng.next_u64();
        let said = self.said.pop_front().map(u64::from);
        said.map_or(drawn, |byte| drawn >> 8 << 8 | byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_drawn_and_then_the_rest() {
        let mut dice = Dice::from(Rng::new(3));
        dice.said.extend([13, 255, 0, 7]);
        assert_eq!(dice.below(10), 3);
        assert_eq!(dice.below(1000), 996);
        assert_eq!(dice.below(1000), 0);
        let mut rng = Rng::new(3);
        assert_eq!(dice.next_u64(), rng.next_u64() & !255 | 7);
        assert_eq!(dice.below(1000), rng.below(1000));
    }

    #[test]
    fn pauses_grow_to_a_second() {
        assert_eq!(pause(0), Duration::ZERO);
        let grows = |byte: u8| pause(byte) < pause(byte + 1);
        assert!((0..255).all(grows));
        assert_eq!(pause(255).as_millis(), 1015);
    }

    #[test]
    fn what_is_written_happens() {
        let asks = [255, 0, 1, 40, 9, 90, 255, 0];
        for what in (0..26).chain(LAST..LAST + 3) {
            let action = Action::of(what);
            let several = if what < LAST { 0 } else { 0xe0 };
            let world = [1, 0, 7, 0, 0, 0, 0, several];
            let strikes = [250, what, 1, 1, 1, 1, 1, 1];
            let script = [world, asks, asks, strikes].concat();
            let outcome = run_script(&script, false).unwrap_or_else(|v| panic!("{action:?}: {v}"));
            if let Action::Strike(fault) = action {
                // Addresses change three times more when all else is quiet.
                let times = if what < LAST { 1 } else { 4 };
                assert_eq!(outcome.faults.of(fault), times, "{action:?}");
            }
            let asked = outcome.finished + outcome.failed + outcome.rejected + outcome.orphaned;
            // Three are asked when all is quiet again.
            assert!(outcome.finished >= 3 && asked >= 5, "{outcome:?}");
            assert_eq!(run_script(&script, false).ok(), Some(outcome));
        }
    }
}
