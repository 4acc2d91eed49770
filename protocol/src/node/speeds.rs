//! How quick this node's engine is, from how long it took over what it was asked.

use super::Node;
use crate::id::{CallId, ModelId};
use crate::time::Instant;
use crate::topology::Speed;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

/// Models of which times are remembered.
const MOST_MODELS: usize = 8;

/// Times that are remembered for each: a median of so many follows a machine that gets busy within
/// seconds, and no hiccup.
const KEPT: usize = 15;

/// Steps of one position before they count. One of many positions counts at once: it is long, and
/// while nobody knows better, the first prompts are placed by a guess.
const ENOUGH: usize = 3;

/// How much more an engine usually does with its weights over many positions than over one.
const USUAL_GAIN: u64 = 6;

/// From so many positions on a step counts as a part of a prompt.
const PREFILL_FROM: u32 = 16;

/// What was measured, and the step that is measured now.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    /// The model that computed last at the end.
    models: VecDeque<(ModelId, Samples)>,
    under_way: Option<Step>,
    /// How many times, of one position and of many, were known when that was last told as it was,
    /// and not only because it had changed by much: first it was guessed, and of few steps, and
    /// the first steps of all are slow.
    exactly: [usize; 2],
    /// As others are told.
    told: Option<Speed>,
}

#[derive(Debug, Default)]
struct Samples {
    decode: VecDeque<u64>,
    prefill: VecDeque<u64>,
}

/// A step that the engine has alone: it began with it at once.
#[derive(Debug)]
struct Step {
    call: CallId,
    since: Instant,
    model: ModelId,
    /// Bytes of weights that it goes through for each position, and for the last one.
    work: (u64, u64),
}

impl Speeds {
    /// What others are told, as far as anything was measured.
    pub(super) fn told(&self) -> Option<Speed> {
        self.told
    }

    /// The engine, which had nothing to do, got a step.
    pub(super) fn begun(
        &mut self,
        call: CallId,
        since: Instant,
        model: &ModelId,
        work: (u64, u64),
    ) {
        let model = model.clone();
        self.under_way = (work.0 > 0).then_some(Step {
            call,
            since,
            model,
            work,
        });
    }

    /// A step is done. `before` is what others were told of this engine so far; says whether they
    /// are to be told anew.
    pub(super) fn done(
        &mut self,
        call: CallId,
        positions: u32,
        now: Instant,
        before: Option<Speed>,
    ) -> bool {
        let Some(step) = self.under_way.take_if(|step| step.call == call) else {
            return false;
        };
        let elapsed = now.saturating_since(step.since);
        let (each, last) = step.work;
        let amount = each.saturating_mul(positions.into()).saturating_add(last);
        let decode = positions == 1;
        let Some(samples) = self.samples(&step.model) else {
            return false;
        };
        let kind = match positions {
            1 => &mut samples.decode,
            PREFILL_FROM.. => &mut samples.prefill,
            _ => return false,
        };
        let Some(rate) = per_second(amount, elapsed) else {
            return false;
        };
        if kind.len() >= KEPT {
            kind.pop_front();
        }
        kind.push_back(rate);
        let enough = if decode { ENOUGH } else { 1 };
        let count = kind.len();
        let Some(median) = median(kind, enough) else {
            return false;
        };
        let known = self.told.or(before);
        let measured = match (known, decode) {
            (Some(known), true) => Speed {
                decode: median,
                ..known
            },
            (Some(known), false) => Speed {
                prefill: median,
                ..known
            },
            // As in `Speed::guess`, until both are measured.
            (None, true) => Speed {
                decode: median,
                prefill: median.saturating_mul(USUAL_GAIN),
            },
            (None, false) => Speed {
                decode: (median / USUAL_GAIN).max(1),
                prefill: median,
            },
        };
        let [of_one, of_many] = &mut self.exactly;
        let exactly = if decode { of_one } else { of_many };
        let as_it_is = *exactly == 0 || *exactly < KEPT && count >= KEPT;
        if as_it_is {
            *exactly = count;
        }
        let exact = measured.follow(None);
        let told = match known {
            // A guess is no reason to stay.
            Some(known) if as_it_is && decode => Speed {
                decode: exact.decode,
                ..known
            },
            Some(known) if as_it_is => Speed {
                prefill: exact.prefill,
                ..known
            },
            _ => measured.follow(known),
        };
        let news = self.told != Some(told) && known != Some(told);
        self.told = Some(told);
        news
    }

    fn samples(&mut self, model: &ModelId) -> Option<&mut Samples> {
        let at = self.models.iter().position(|(other, _)| other == model);
        let own = at.and_then(|at| self.models.remove(at));
        if self.models.len() >= MOST_MODELS {
            self.models.pop_front();
        }
        let own = own.unwrap_or_else(|| (model.clone(), Samples::default()));
        self.models.push_back(own);
        self.models.back_mut().map(|(_, samples)| samples)
    }
}

impl Node {
    /// The engine is done with a step of a request.
    pub(super) fn step_took(&mut self, call: CallId, positions: u32) {
        let before = self.config.capabilities.speed;
        if self.speeds.done(call, positions, self.now, before) {
            self.rebuild_topology();
        }
    }
}

fn per_second(amount: u64, elapsed: Duration) -> Option<u64> {
    let nanos = elapsed.as_nanos();
    let rate = u128::from(amount)
        .saturating_mul(1_000_000_000)
        .checked_div(nanos)?;
    u64::try_from(rate).ok().filter(|&rate| rate > 0)
}

fn median(samples: &VecDeque<u64>, enough: usize) -> Option<u64> {
    if samples.len() < enough {
        return None;
    }
    let mut sorted: Vec<u64> = samples.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(speeds: &mut Speeds, model: &str, positions: u32, millis: u64) -> bool {
        let call = CallId(1);
        let now = Instant::ZERO + Duration::from_millis(millis);
        speeds.begun(call, Instant::ZERO, &model.into(), (900_000, 100_000));
        speeds.done(call, positions, now, None)
    }

    #[test]
    fn medians_count_and_hiccups_do_not() {
        let mut speeds = Speeds::default();
        assert!(!run(&mut speeds, "m", 1, 10));
        assert!(!run(&mut speeds, "m", 1, 500));
        assert!(run(&mut speeds, "m", 1, 10));
        let told = |speeds: &Speeds| speeds.told().map(|speed| (speed.decode, speed.prefill));
        assert_eq!(told(&speeds), Some((100_000_000, 600_000_000)));
        assert!(!run(&mut speeds, "m", 2, 1), "neither one nor many");
        assert!(run(&mut speeds, "m", 100, 100), "one of many is enough");
        assert_eq!(told(&speeds), Some((100_000_000, 900_000_000)));
        for _ in 0..KEPT {
            run(&mut speeds, "m", 1, 100);
        }
        assert_eq!(told(&speeds), Some((10_000_000, 900_000_000)));
        assert!(!run(&mut speeds, "m", 1, 0), "too quick to measure");
    }

    #[test]
    fn what_was_guessed_goes_when_it_is_measured() {
        let mut speeds = Speeds::default();
        assert!(run(&mut speeds, "m", 100, 100));
        let told = |speeds: &Speeds| speeds.told().map(|speed| (speed.decode, speed.prefill));
        assert_eq!(told(&speeds), Some((150_000_000, 900_000_000)));
        // That near, a measured one would stay.
        for _ in 0..ENOUGH {
            run(&mut speeds, "m", 1, 6);
        }
        assert_eq!(told(&speeds), Some((170_000_000, 900_000_000)));
        for count in ENOUGH + 1..KEPT {
            assert!(!run(&mut speeds, "m", 1, 5), "{count}");
        }
        assert!(run(&mut speeds, "m", 1, 5), "the first ones were of few");
        assert_eq!(told(&speeds), Some((200_000_000, 900_000_000)));
        for _ in 0..KEPT {
            run(&mut speeds, "m", 1, 6);
        }
        assert_eq!(told(&speeds), Some((200_000_000, 900_000_000)));
    }

    #[test]
    fn another_call_and_another_model_are_not_mixed_up() {
        let mut speeds = Speeds::default();
        let (now, later) = (Instant::ZERO, Instant::ZERO + Duration::from_secs(1));
        speeds.begun(CallId(1), now, &"m".into(), (1000, 0));
        assert!(!speeds.done(CallId(2), 1, later, None));
        assert!(speeds.under_way.is_some());
        speeds.begun(CallId(3), now, &"m".into(), (0, 9));
        assert!(speeds.under_way.is_none(), "nobody knows its bytes");
        for number in 0..2 * MOST_MODELS {
            let model = alloc::format!("m{number}");
            run(&mut speeds, &model, 1, 10);
        }
        assert_eq!(speeds.models.len(), MOST_MODELS);
        assert_eq!(speeds.told(), None);
    }
}
