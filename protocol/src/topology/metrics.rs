//! What nodes of ours measured and tell each other: how quick a link is, and how quick an engine.
//!
//! Numbers are rounded, and told anew only when they moved by much: whoever is told places models by
//! them, and that must not change with every breath of a network.

use super::Flops;
use crate::json::Json;
use alloc::vec::Vec;

/// How quick the way to a peer is, as one end measured it; each number only once it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkMetrics {
    /// Round trip in microseconds.
    pub rtt_us: Option<u64>,
    /// Round trip right behind a step of a request, in microseconds: with what it takes to wake up
    /// whoever waits for the step while other things are computed.
    pub loaded_us: Option<u64>,
    /// Bytes of payload per second that get there.
    pub goodput: Option<u64>,
}

impl LinkMetrics {
    /// The longest round trip that is told: a minute.
    pub const MOST_RTT_US: u64 = 60_000_000;

    /// Two round trips count as the same when they differ by less, in microseconds: on one machine
    /// they do whenever somebody computes.
    const NOISE_US: u64 = 100;

    /// The same of those behind steps, each of which is a middle one of many.
    const LOADED_NOISE_US: u64 = 40;

    /// What is known by this end, or else by the other one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            rtt_us: self.rtt_us.or(other.rtt_us),
            loaded_us: self.loaded_us.or(other.loaded_us),
            goodput: self.goodput.or(other.goodput),
        }
    }

    /// Whether round trip and goodput are known.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.rtt_us.is_some() && self.goodput.is_some()
    }

    /// What it says, as keys of an object.
    pub(crate) fn entries(&self) -> Vec<(&'static str, Json)> {
        let entries = [
            ("rtt_us", self.rtt_us),
            ("loaded_us", self.loaded_us),
            ("goodput", self.goodput),
        ];
        let known = entries.into_iter();
        known
            .filter_map(|(key, value)| Some((key, Json::from(value?))))
            .collect()
    }

    /// Reads the keys of an edge. What is malformed or beyond a limit is as good as not told.
    #[must_use]
    pub fn from_json(edge: &Json) -> Self {
        let number = |key, most| {
            let value = edge.get(key).and_then(Json::as_u64);
            value.filter(|value| (1..=most).contains(value))
        };
        Self {
            rtt_us: number("rtt_us", Self::MOST_RTT_US),
            loaded_us: number("loaded_us", Self::MOST_RTT_US),
            goodput: number("goodput", MOST),
        }
    }

    /// What is told after `self` was told and `measured` is the case.
    #[must_use]
    pub fn follow(self, measured: Self) -> Self {
        let trip = |told: Option<u64>, now: Option<u64>, noise: u64| {
            let now = now.map(|now| now.min(Self::MOST_RTT_US));
            match (told, now) {
                (Some(told), Some(now)) if told.abs_diff(now) < noise => Some(told),
                (told, now) => follow(told, now),
            }
        };
        Self {
            rtt_us: trip(self.rtt_us, measured.rtt_us, Self::NOISE_US),
            loaded_us: trip(self.loaded_us, measured.loaded_us, Self::LOADED_NOISE_US),
            goodput: follow(self.goodput, measured.goodput),
        }
    }
}

/// How quick an engine is, in a form that holds for other cuts and other models.
///
/// To compute one position it goes through all its weights once; over many positions at once it
/// does more with each weight. So a decode step takes `weights / decode` seconds, and a prefill of
/// `n` positions `weights * n / prefill` seconds, where `weights` are the bytes of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Bytes of weights per second that it goes through, one position at a time.
    pub decode: u64,
    /// Bytes of weights times positions per second, many positions at a time.
    pub prefill: u64,
}

impl Speed {
    /// What a machine can be expected to do that has not told its speed. An engine goes through
    /// 15 GB of weights per second for each TFLOPS in half precision, as Apple's chips do, and
    /// computes with half of those operations, two for each weight of two bytes. A machine of which
    /// even that is not known counts as a small processor.
    #[must_use]
    pub fn guess(flops: &Flops) -> Self {
        let whole = |value: f64| {
            // A cast saturates, and gives zero for what is no number.
            (value as u64).clamp(1, MOST)
        };
        if flops.fp16 > 0.0 {
            Self {
                decode: whole(flops.fp16 * 15e9),
                prefill: whole(flops.fp16 * 0.5e12),
            }
        } else {
            Self {
                decode: 5_000_000_000,
                prefill: 30_000_000_000,
            }
        }
    }

    /// The object as peers get it: `{"decode", "prefill"}`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::object([
            ("decode", Json::from(self.decode)),
            ("prefill", Json::from(self.prefill)),
        ])
    }

    /// Reads the object; more keys than these are fine. What is malformed or beyond a limit is as
    /// good as not told.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        let number = |key| {
            let value = json.get(key).and_then(Json::as_u64);
            value.filter(|value| (1..=MOST).contains(value))
        };
        Some(Self {
            decode: number("decode")?,
            prefill: number("prefill")?,
        })
    }

    /// What is told after `told` was told and `self` is the case.
    #[must_use]
    pub fn follow(self, told: Option<Self>) -> Self {
        let (decode, prefill) = told.map(|told| (told.decode, told.prefill)).unzip();
        Self {
            decode: follow(decode, Some(self.decode)).unwrap_or(self.decode),
            prefill: follow(prefill, Some(self.prefill)).unwrap_or(self.prefill),
        }
    }
}

/// Beyond it nothing is: a million terabytes per second.
const MOST: u64 = 1_000_000_000_000_000_000;

/// A number with two significant digits that stays until the measured one is a third away from it.
fn follow(told: Option<u64>, measured: Option<u64>) -> Option<u64> {
    let Some(measured) = measured else {
        return told;
    };
    let measured = measured.clamp(1, MOST);
    match told {
        Some(told) if told.abs_diff(measured) <= told / 3 => Some(told),
        _ => Some(rounded(measured)),
    }
}

/// To two significant digits.
fn rounded(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    (value + unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json {
        Json::parse(text.as_bytes(), 4).expect("JSON")
    }

    #[test]
    fn numbers_keep_two_digits() {
        for (value, expected) in [
            (1, 1),
            (99, 99),
            (101, 100),
            (105, 110),
            (999, 1000),
            (123_456_789, 120_000_000),
            (MOST, MOST),
        ] {
            assert_eq!(rounded(value), expected);
        }
    }

    #[test]
    fn what_is_told_follows_only_what_moved_by_much() {
        let link = |rtt_us, goodput| LinkMetrics {
            rtt_us,
            goodput,
            loaded_us: None,
        };
        let none = LinkMetrics::default();
        let told = none.follow(link(Some(1234), None));
        assert_eq!(told, link(Some(1200), None));
        assert_eq!(told.follow(none), told, "what was known stays known");
        assert_eq!(told.follow(link(Some(1599), None)), told);
        assert_eq!(told.follow(link(Some(1601), None)), link(Some(1600), None));
        let near = link(Some(90), None);
        assert_eq!(near.follow(link(Some(180), None)), near);
        assert_eq!(near.follow(link(Some(190), None)), link(Some(190), None));
        let loaded = |loaded_us| LinkMetrics {
            loaded_us: Some(loaded_us),
            ..near
        };
        assert_eq!(near.follow(loaded(151)), loaded(150));
        assert_eq!(loaded(90).follow(loaded(129)), loaded(90));
        assert_eq!(loaded(90).follow(loaded(131)), loaded(130));
        let far = none.follow(link(Some(u64::MAX), Some(0)));
        assert_eq!(far, link(Some(LinkMetrics::MOST_RTT_US), Some(1)));
        let quick = Speed {
            decode: 1_000_000,
            prefill: 5_000_000,
        };
        let little = Speed {
            decode: 1_300_000,
            prefill: 5_000_001,
        };
        assert_eq!(little.follow(Some(quick)), quick);
        let much = Speed {
            decode: 1_350_001,
            prefill: 2,
        };
        let expected = Speed {
            decode: 1_400_000,
            prefill: 2,
        };
        assert_eq!(much.follow(Some(quick)), expected);
        assert_eq!(much.follow(None), expected);
    }

    #[test]
    fn metrics_read_back_and_what_is_malformed_is_not_told() {
        let link = LinkMetrics {
            rtt_us: Some(60_000_000),
            loaded_us: Some(60_000_000),
            goodput: Some(MOST),
        };
        assert_eq!(LinkMetrics::from_json(&Json::object(link.entries())), link);
        let none = LinkMetrics::default();
        assert_eq!(LinkMetrics::from_json(&Json::object(none.entries())), none);
        for text in [
            r#"{"rtt_us": 60000001, "goodput": 0}"#,
            r#"{"loaded_us": 60000001}"#,
            r#"{"rtt_us": -5, "goodput": 1000000000000000001}"#,
            r#"{"rtt_us": 0.5, "goodput": "1"}"#,
            r#"{"rtt_us": null, "goodput": [1]}"#,
            "[]",
        ] {
            assert_eq!(LinkMetrics::from_json(&read(text)), none, "{text}");
        }
        let speed = Speed {
            decode: 1,
            prefill: MOST,
        };
        assert_eq!(Speed::from_json(&speed.to_json()), Some(speed));
        for text in [
            r#"{"decode": 1}"#,
            r#"{"decode": 0, "prefill": 1}"#,
            r#"{"decode": 1, "prefill": 1e3}"#,
            r#"{"decode": 1, "prefill": 1000000000000000001}"#,
            "5",
        ] {
            assert_eq!(Speed::from_json(&read(text)), None, "{text}");
        }
    }
}
