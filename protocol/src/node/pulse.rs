//! Whether the other end is still there, and how far away it is.

use super::address::median;
use crate::time::Instant;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Probes whose answers are still known when they come late.
const REMEMBERED: usize = 16;

/// A round trip counts as no longer than this, and nobody waits longer for an answer: beyond it, one
/// of the two ends was suspended or the way was blocked, and that must not make the next hang go
/// unnoticed for long.
const LONGEST: Duration = Duration::from_secs(2);

/// Between two probes of the way itself.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// Round trips of a series, after a first one that does not count: whatever was asleep is awake.
const SERIES: usize = 5;

/// Round trips of which the middle one is that of the way.
const COUNTED: usize = 15;

/// Round trips behind steps before they tell how long a hop takes; until then one goes whenever the
/// answer to the one before is here.
const LOADED: usize = 5;

/// Round trips after silences that are judged together.
const QUIET: usize = 5;

/// These differ by less on a computer that does something else, too.
const ALIKE: Duration = Duration::from_micros(200);

/// Keepalive and round-trip estimate of one connection. Any byte that comes is a sign of life; only
/// silence is probed.
///
/// How far away the other end is, is shown by *series* of probes, each right behind the answer to the
/// one before, and by a probe now and then while there is traffic. A single probe after a silence has
/// to wake up both ends first; it shows only whether the way has changed, and a series is due. The
/// first series goes at once, while perhaps both ends are busy with their beginning; so another one
/// goes after the first silence.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: Instant,
    state: State,
    /// Probes in a row whose patience ran out, with nothing heard since the first.
    misses: u32,
    /// Probes without an answer, the newest last.
    probes: VecDeque<Probe>,
    last_id: u64,
    estimate: Option<Estimate>,
    /// Round trips that show how far away the other end is, the newest last.
    counted: VecDeque<Duration>,
    series: Option<Series>,
    /// Those behind steps of requests, the newest last.
    loaded: VecDeque<Duration>,
    /// The last round trips after silences, and what they were when the last series went.
    quiet: Vec<Duration>,
    /// The beginning is over.
    settled: bool,
    usual: Option<Duration>,
    /// How quick the way was for what is large, in bytes per second, when it was seen last.
    rate: Option<u64>,
    /// The next probe does not wait for a silence.
    urgent: bool,
    sampled: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No probe is out, or what was heard since tells enough.
    Quiet,
    /// A probe of this number waits to be written: a slow link is no deaf peer.
    Queued(u64),
    /// A probe was written then, and nothing was heard since.
    Asked(Instant),
    /// Nothing is expected any more.
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    id: u64,
    /// When it was written, or else handed out.
    since: Instant,
    /// It went behind so many bytes, which began then.
    behind: Option<(usize, Instant)>,
    kind: Kind,
}

/// What the round trip of a probe shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// How far away the other end is: there is traffic, and nothing large in its way.
    Counts,
    /// Nothing: it may have waited behind what is large.
    Behind,
    /// Whether the way has changed: it goes after a silence.
    Quiet,
}

/// Probes of which each goes when the answer to the one before has come.
#[derive(Debug, Default)]
struct Series {
    /// The one that is out; the next one is to go if there is none.
    out: Option<u64>,
    trips: Vec<Duration>,
}

/// As in RFC 6298.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: Duration,
    variation: Duration,
}

/// What to do about a silent peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a probe of this number.
    Ping(u64),
    /// It is gone.
    Dead {
        /// How many probes it left unanswered.
        probes: u32,
    },
    /// Nothing is due.
    Nothing,
}

/// What the answer to a probe shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trip {
    /// A round trip.
    Alone(Duration),
    /// A round trip of a series.
    OfSeries(Duration),
    /// How quick the way is for what is large.
    Behind {
        /// Bytes per second.
        rate: u64,
        /// The time that they took.
        took: Duration,
    },
}

/// An answer that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the answer to a probe up to {newest}, got one to {id}")]
pub(super) struct Unasked {
    pub(super) id: u64,
    /// The newest probe; zero before the first.
    pub(super) newest: u64,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            state: State::Quiet,
            misses: 0,
            probes: VecDeque::new(),
            last_id: 0,
            estimate: None,
            counted: VecDeque::new(),
            series: Some(Series::default()),
            loaded: VecDeque::new(),
            quiet: Vec::new(),
            settled: false,
            usual: None,
            rate: None,
            urgent: false,
            sampled: None,
        }
    }

    /// Anything came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
        self.misses = 0;
        // A probe that still waits becomes the first of a new run once it is written.
        if !matches!(self.state, State::Queued(_)) {
            self.state = State::Quiet;
        }
    }

    /// Has the peer asked at once, whatever was heard last. Gives the newest probe before that: the
    /// answer to it says nothing of now.
    pub(super) fn challenge(&mut self) -> u64 {
        self.urgent = true;
        self.last_id
    }

    /// Whether it is in doubt that the peer is there.
    pub(super) fn is_asking(&self) -> bool {
        self.urgent || self.misses > 0 || matches!(self.state, State::Queued(_) | State::Asked(_))
    }

    /// A probe of the way itself while there is traffic, at most one in a while. Whether its round
    /// trip counts: it does not if what it goes behind takes long.
    pub(super) fn sample(&mut self, now: Instant, counts: bool) -> Option<u64> {
        let wanted = counts && self.loaded.len() < LOADED;
        let mut out = self.probes.iter();
        let due = wanted && !out.any(|probe| probe.kind == Kind::Counts)
            || self
                .sampled
                .is_none_or(|at| now.saturating_since(at) >= SAMPLE_EVERY);
        (due && self.probes.len() < REMEMBERED / 2).then(|| {
            self.sampled = Some(now);
            let id = self.probe(now);
            if let Some(probe) = self.probes.back_mut() {
                probe.kind = if counts { Kind::Counts } else { Kind::Behind };
            }
            id
        })
    }

    /// The next probe of a series, if one goes on and it is to go now.
    pub(super) fn next_of_series(&mut self, now: Instant) -> Option<u64> {
        self.series.as_ref().filter(|series| series.out.is_none())?;
        let id = self.probe(now);
        if let Some(series) = &mut self.series {
            series.out = Some(id);
        }
        Some(id)
    }

    /// Whether a series goes on: nothing should be in its way.
    pub(super) fn is_measuring(&self) -> bool {
        self.series.is_some()
    }

    /// A probe whose answer comes behind all that the peer has sent so far.
    pub(super) fn fence(&mut self, now: Instant) -> u64 {
        let id = self.probe(now);
        if let Some(probe) = self.probes.back_mut() {
            probe.kind = Kind::Behind;
        }
        id
    }

    /// A probe right behind a large message that began at `began`, one at a time.
    pub(super) fn behind(&mut self, now: Instant, bytes: usize, began: Instant) -> Option<u64> {
        let free = self.probes.len() < REMEMBERED / 2;
        if !free || self.probes.iter().any(|probe| probe.behind.is_some()) {
            return None;
        }
        let id = self.probe(now);
        if let Some(probe) = self.probes.back_mut() {
            probe.behind = Some((bytes, began));
        }
        Some(id)
    }

    /// When to call [`Pulse::beat`], if a silence of `every` is to be noticed.
    pub(super) fn due(&self, every: Duration) -> Instant {
        match self.state {
            State::Quiet if self.urgent => self.heard,
            State::Quiet => self.heard + every,
            State::Asked(at) => at + self.patience(every),
            State::Queued(_) | State::Dead => Instant::FAR_FUTURE,
        }
    }

    /// What is due: at most one miss is counted, however late it comes, so that whoever slept does
    /// not condemn its peers on waking up. The peer is dead after `most` misses in a row, of which
    /// no more can be wanted than probes are remembered.
    pub(super) fn beat(&mut self, now: Instant, every: Duration, most: u32) -> Beat {
        if now < self.due(every) {
            return Beat::Nothing;
        }
        match self.state {
            State::Queued(_) | State::Dead => return Beat::Nothing,
            State::Quiet => self.urgent = false,
            State::Asked(_) => {
                self.misses = self.misses.saturating_add(1);
                if self.misses >= most.clamp(1, REMEMBERED as u32) {
                    self.state = State::Dead;
                    return Beat::Dead {
                        probes: self.misses,
                    };
                }
            }
        }
        let id = self.probe(now);
        self.state = State::Queued(id);
        Beat::Ping(id)
    }

    fn probe(&mut self, now: Instant) -> u64 {
        self.last_id += 1;
        if self.probes.len() == REMEMBERED {
            self.probes.pop_front();
        }
        self.probes.push_back(Probe {
            id: self.last_id,
            since: now,
            behind: None,
            kind: Kind::Quiet,
        });
        self.last_id
    }

    /// The driver wrote a probe: its patience begins.
    pub(super) fn written(&mut self, id: u64, now: Instant) {
        if self.state != State::Queued(id) {
            return;
        }
        // Its answer can be here before the driver's word that it was written.
        self.state = match self.probes.iter_mut().find(|probe| probe.id == id) {
            Some(probe) => {
                probe.since = now;
                State::Asked(now)
            }
            None => State::Quiet,
        };
    }

    /// The answer to a probe, which is also a sign of life. Gives its round trip, unless it comes so
    /// late that the probe is forgotten.
    pub(super) fn pong(&mut self, id: u64, now: Instant) -> Result<Option<Trip>, Unasked> {
        if id == 0 || id > self.last_id {
            return Err(Unasked {
                id,
                newest: self.last_id,
            });
        }
        self.heard(now);
        let series = self.series.as_mut();
        let of_series = series.filter(|series| series.out == Some(id));
        let of_series = of_series.map(|series| series.out = None).is_some();
        let at = self.probes.iter().position(|probe| probe.id == id);
        let Some(probe) = at.and_then(|at| self.probes.remove(at)) else {
            return Ok(None);
        };
        if let Some((bytes, began)) = probe.behind {
            // It waited for what went before it, which says nothing of the way there and back.
            let way = self.rtt().unwrap_or_default();
            let elapsed = now.saturating_since(began);
            let took = elapsed.saturating_sub(way).max(elapsed / 8);
            let nanos = took.as_nanos().max(1);
            let rate = (bytes as u128).saturating_mul(1_000_000_000) / nanos;
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            self.rate = Some(rate);
            return Ok(Some(Trip::Behind { rate, took }));
        }
        let trip = now - probe.since;
        self.learn(trip.min(LONGEST));
        if of_series {
            self.in_series(trip.min(LONGEST));
            return Ok(Some(Trip::OfSeries(trip)));
        }
        match probe.kind {
            Kind::Counts => self.count(trip.min(LONGEST)),
            Kind::Quiet => self.after_silence(trip),
            Kind::Behind => {}
        }
        Ok(Some(Trip::Alone(trip)))
    }

    /// The round trip: the middle one of those that count. Before any does, the smoothed one of all.
    pub(super) fn rtt(&self) -> Option<Duration> {
        let counted = median(self.counted.iter().copied().collect());
        counted.or(self.estimate.map(|estimate| estimate.smoothed))
    }

    /// The round trip behind a step: what a hop takes there and back. `None` before there are enough.
    pub(super) fn loaded(&self) -> Option<Duration> {
        let enough = self.loaded.len() >= LOADED;
        let loaded = enough.then(|| self.loaded.iter().copied().collect());
        loaded.and_then(median)
    }

    fn count(&mut self, trip: Duration) {
        for counted in [&mut self.counted, &mut self.loaded] {
            if counted.len() == COUNTED {
                counted.pop_front();
            }
            counted.push_back(trip);
        }
    }

    /// At its end a series takes the place of whatever counted before.
    fn in_series(&mut self, trip: Duration) {
        let Some(series) = &mut self.series else {
            return;
        };
        series.trips.push(trip);
        if series.trips.len() > SERIES {
            self.counted = series.trips.drain(1..).collect();
            self.series = None;
        }
    }

    /// Begins a series when round trips after silences are not what they were.
    fn after_silence(&mut self, trip: Duration) {
        if !core::mem::replace(&mut self.settled, true) {
            self.series.get_or_insert_default();
        }
        self.quiet.push(trip);
        if self.quiet.len() < QUIET {
            return;
        }
        let Some(now) = median(core::mem::take(&mut self.quiet)) else {
            return;
        };
        let usual = *self.usual.get_or_insert(now);
        if now.abs_diff(usual) > ALIKE.max(usual / 2) {
            self.usual = Some(now);
            self.loaded.clear();
            self.series.get_or_insert_default();
        }
    }

    fn learn(&mut self, trip: Duration) {
        self.estimate = Some(match self.estimate {
            None => Estimate {
                smoothed: trip,
                variation: trip / 2,
            },
            Some(Estimate {
                smoothed,
                variation,
            }) => Estimate {
                smoothed: (smoothed * 7 + trip) / 8,
                variation: (variation * 3 + smoothed.abs_diff(trip)) / 4,
            },
        });
    }

    /// How long a probe may wait behind what is large and was written before it: a system takes more
    /// than a slow line carries in seconds.
    fn on_the_way(&self) -> Duration {
        let behind = self.probes.iter().find_map(|probe| probe.behind);
        let Some((bytes, _)) = behind else {
            return Duration::ZERO;
        };
        let nanos =
            |rate: u64| (bytes as u128).saturating_mul(2_000_000_000) / u128::from(rate.max(1));
        let time = self
            .rate
            .map(|rate| u64::try_from(nanos(rate)).unwrap_or(u64::MAX));
        time.map_or(LONGEST, Duration::from_nanos)
    }

    fn patience(&self, every: Duration) -> Duration {
        let likely = self
            .estimate
            .map(|estimate| estimate.smoothed + estimate.variation * 4);
        let likely = likely.unwrap_or_default().max(self.on_the_way());
        every.max(likely.min(LONGEST))
    }
}

#[cfg(test)]
mod tests;
