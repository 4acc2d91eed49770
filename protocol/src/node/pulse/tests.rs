use super::*;
use alloc::vec::Vec;

const EVERY: Duration = Duration::from_millis(250);
const HOUR: Duration = Duration::from_secs(3600);

fn at(millis: u64) -> Instant {
    Instant::after_origin(Duration::from_millis(millis))
}

fn pulse() -> Pulse {
    Pulse::new(Instant::ZERO)
}

/// A silent peer, probes written at once: when each beat is due and what it says.
fn silence(pulse: &mut Pulse, most: u32) -> Vec<(Instant, Beat)> {
    let mut beats = Vec::new();
    loop {
        let due = pulse.due(EVERY);
        if due == Instant::FAR_FUTURE {
            return beats;
        }
        let beat = pulse.beat(due, EVERY, most);
        beats.push((due, beat));
        written(pulse, due);
    }
}

/// The driver's word that the newest probe was written.
fn written(pulse: &mut Pulse, now: Instant) {
    pulse.written(pulse.last_id, now);
}

#[test]
fn a_silent_peer_is_dead_after_the_last_probe_had_its_patience() {
    let dead = Beat::Dead { probes: 4 };
    let expected = [
        (at(250), Beat::Ping(1)),
        (at(500), Beat::Ping(2)),
        (at(750), Beat::Ping(3)),
        (at(1000), Beat::Ping(4)),
        (at(1250), dead),
    ];
    let mut pulse = pulse();
    assert_eq!(silence(&mut pulse, 4), expected);
    assert_eq!(pulse.due(EVERY), Instant::FAR_FUTURE);
    assert_eq!(pulse.beat(at(9999), EVERY, 4), Beat::Nothing, "said once");
    // A limit of zero makes no peer dead unasked, an absurd one lets no probe be forgotten.
    for (most, beats) in [(0, 2), (1, 2), (u32::MAX, REMEMBERED + 1)] {
        assert_eq!(silence(&mut Pulse::new(Instant::ZERO), most).len(), beats);
    }
}

#[test]
fn who_waits_behind_what_is_large_is_given_the_time_for_it() {
    // Nothing is known of the way yet.
    let mut pulse = pulse();
    assert_eq!(pulse.behind(at(0), 64 << 10, at(0)), Some(1));
    let dead = |beats: Vec<(Instant, Beat)>| beats.last().map(|(when, _)| *when);
    assert_eq!(dead(silence(&mut pulse, 4)), Some(at(250 + 4 * 2000)));
    // Over a way that carried 100 MB in a second nobody waits longer for 64 KiB.
    for (took, end) in [(1, 1000), (3000, 4 * 2000), (300, 4 * 600)] {
        let mut pulse = Pulse::new(Instant::ZERO);
        let began = pulse.behind(at(0), 64 << 10, at(0)).expect("the first");
        let trip = pulse.pong(began, at(took)).expect("it was asked");
        assert!(matches!(trip, Some(Trip::Behind { .. })));
        assert!(pulse.behind(at(took), 64 << 10, at(took)).is_some());
        let seen = dead(silence(&mut pulse, 4)).expect("it dies");
        let expected = at(took + 250 + end);
        assert!(
            seen.saturating_since(expected) < Duration::from_millis(1),
            "{seen:?}"
        );
        assert!(
            expected.saturating_since(seen) < Duration::from_millis(1),
            "{seen:?}"
        );
    }
}

#[test]
fn nothing_is_due_before_its_time() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(249), EVERY, 4), Beat::Nothing);
    pulse.heard(at(200));
    assert_eq!(pulse.due(EVERY), at(450));
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Nothing);
    assert_eq!(pulse.beat(at(450), EVERY, 4), Beat::Ping(1));
}

#[test]
fn patience_begins_when_the_probe_is_written() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Ping(1));
    assert_eq!(pulse.due(EVERY), Instant::FAR_FUTURE);
    assert_eq!(pulse.beat(at(9000), EVERY, 4), Beat::Nothing);
    written(&mut pulse, at(9000));
    written(&mut pulse, at(9100));
    assert_eq!(pulse.due(EVERY), at(9250), "the second word was of another");
    assert_eq!(
        pulse.pong(1, at(9040)),
        Ok(Some(Trip::Alone(Duration::from_millis(40))))
    );
}

#[test]
fn one_beat_counts_one_miss_however_late_it_is() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Ping(1));
    written(&mut pulse, at(250));
    let woken = at(250) + HOUR;
    assert_eq!(pulse.beat(woken, EVERY, 4), Beat::Ping(2));
    written(&mut pulse, woken);
    assert_eq!(pulse.due(EVERY), woken + EVERY);
    assert_eq!(pulse.beat(woken, EVERY, 4), Beat::Nothing);
}

#[test]
fn whatever_is_heard_forgives_all_misses() {
    let mut pulse = pulse();
    for (millis, id) in [(250, 1), (500, 2), (750, 3)] {
        assert_eq!(pulse.beat(at(millis), EVERY, 4), Beat::Ping(id));
        written(&mut pulse, at(millis));
    }
    pulse.heard(at(900));
    let beats = silence(&mut pulse, 4);
    assert_eq!(beats.first(), Some(&(at(1150), Beat::Ping(4))));
    assert_eq!(beats.last(), Some(&(at(2150), Beat::Dead { probes: 4 })));
}

#[test]
fn what_is_heard_while_a_probe_waits_leaves_it_the_only_one() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(250), EVERY, 2), Beat::Ping(1));
    pulse.heard(at(300));
    assert_eq!(pulse.due(EVERY), Instant::FAR_FUTURE);
    written(&mut pulse, at(400));
    assert_eq!(pulse.due(EVERY), at(650));
    assert_eq!(pulse.beat(at(650), EVERY, 2), Beat::Ping(2));
}

#[test]
fn an_answer_may_overtake_the_word_that_its_probe_was_written() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Ping(1));
    assert_eq!(
        pulse.pong(1, at(253)),
        Ok(Some(Trip::Alone(Duration::from_millis(3))))
    );
    assert_eq!(pulse.due(EVERY), Instant::FAR_FUTURE, "one probe at a time");
    written(&mut pulse, at(260));
    assert_eq!(pulse.due(EVERY), at(503), "it waits for nothing");
}

#[test]
fn a_late_answer_counts_from_its_own_probe() {
    let mut pulse = pulse();
    for (millis, id) in [(250, 1), (500, 2)] {
        assert_eq!(pulse.beat(at(millis), EVERY, 4), Beat::Ping(id));
        written(&mut pulse, at(millis));
    }
    assert_eq!(
        pulse.pong(1, at(600)),
        Ok(Some(Trip::Alone(Duration::from_millis(350))))
    );
    assert_eq!(pulse.rtt(), Some(Duration::from_millis(350)));
    assert_eq!(
        pulse.pong(2, at(610)),
        Ok(Some(Trip::Alone(Duration::from_millis(110))))
    );
    assert_eq!(pulse.due(EVERY), at(860));
}

#[test]
fn answers_that_nobody_asked_for() {
    let mut pulse = pulse();
    assert_eq!(pulse.pong(1, at(1)), Err(Unasked { id: 1, newest: 0 }));
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Ping(1));
    written(&mut pulse, at(250));
    for id in [0, 2] {
        assert_eq!(pulse.pong(id, at(260)), Err(Unasked { id, newest: 1 }));
    }
    assert_eq!(pulse.due(EVERY), at(500), "they were no answers");
    assert!(pulse.pong(1, at(260)).is_ok());
    assert_eq!(pulse.pong(1, at(260)), Ok(None), "only once");
}

#[test]
fn old_probes_are_forgotten() {
    let (mut pulse, mut now) = (pulse(), Instant::ZERO);
    for id in 1..=REMEMBERED as u64 + 1 {
        now = pulse.due(EVERY);
        assert_eq!(pulse.beat(now, EVERY, 4), Beat::Ping(id));
        written(&mut pulse, now);
        pulse.heard(now);
    }
    assert_eq!(pulse.probes.len(), REMEMBERED);
    assert_eq!(pulse.pong(1, now), Ok(None));
    assert!(pulse.pong(2, now).is_ok());
}

#[test]
fn the_estimate_follows_the_standard() {
    let mut pulse = pulse();
    assert_eq!(pulse.rtt(), None);
    for (trip, smoothed, variation) in [
        (400, 400, 200_000),
        (400, 400, 150_000),
        (800, 450, 212_500),
    ] {
        let asked = pulse.due(EVERY);
        assert!(matches!(pulse.beat(asked, EVERY, 4), Beat::Ping(_)));
        written(&mut pulse, asked);
        let came = asked + Duration::from_millis(trip);
        assert!(pulse.pong(pulse.last_id, came).is_ok());
        assert_eq!(pulse.rtt(), Some(Duration::from_millis(smoothed)));
        let patience = Duration::from_micros(1000 * smoothed + 4 * variation);
        assert_eq!(pulse.patience(EVERY), patience);
        assert_eq!(pulse.patience(HOUR), HOUR, "the interval at least");
    }
}

#[test]
fn a_sleep_does_not_make_the_next_hang_last() {
    let mut pulse = pulse();
    assert_eq!(pulse.beat(at(250), EVERY, 4), Beat::Ping(1));
    written(&mut pulse, at(250));
    assert_eq!(
        pulse.pong(1, at(250) + HOUR),
        Ok(Some(Trip::Alone(HOUR))),
        "told as it was"
    );
    assert_eq!(pulse.rtt(), Some(LONGEST));
    assert!(pulse.patience(EVERY) <= LONGEST * 3);
}

/// Round trips of a whole series, in milliseconds.
fn series(pulse: &mut Pulse, trips: [u64; SERIES + 1]) {
    let mut now = at(10_000);
    for trip in trips {
        assert!(pulse.is_measuring());
        let id = pulse.next_of_series(now).expect("it goes on");
        assert_eq!(pulse.next_of_series(now), None, "one after the other");
        let trip = Duration::from_millis(trip);
        now = now + trip;
        assert_eq!(pulse.pong(id, now), Ok(Some(Trip::OfSeries(trip))));
    }
    assert_eq!(
        (pulse.is_measuring(), pulse.next_of_series(now)),
        (false, None)
    );
}

#[test]
fn a_series_shows_how_far_away_the_other_end_is() {
    let mut pulse = pulse();
    series(&mut pulse, [900, 30, 10, 500, 20, 10]);
    let rtt = |pulse: &Pulse| pulse.rtt().map(|rtt| rtt.as_millis());
    assert_eq!(rtt(&pulse), Some(20));
    let mut now = at(20_000);
    let mut silence = |pulse: &mut Pulse, millis| {
        now = now + HOUR;
        let Beat::Ping(id) = pulse.beat(now, EVERY, 4) else {
            panic!("it was silent for long");
        };
        written(pulse, now);
        now = now + Duration::from_millis(millis);
        pulse.pong(id, now).expect("it was asked");
    };
    silence(&mut pulse, 70);
    series(&mut pulse, [900, 20, 20, 20, 20, 20]);
    for millis in [60, 80, 200, 50, 300, 90, 90, 40, 70] {
        silence(&mut pulse, millis);
    }
    assert!(!pulse.is_measuring());
    assert_eq!(rtt(&pulse), Some(20), "whoever slept has to wake up first");
    for _ in 0..QUIET {
        assert!(!pulse.is_measuring());
        silence(&mut pulse, 150);
    }
    series(&mut pulse, [99, 41, 42, 43, 44, 45]);
    assert_eq!(rtt(&pulse), Some(43), "the way has changed");
    // While there is traffic each probe counts.
    for at_millis in [1, 2, 3] {
        let now = at(50_000_000 + at_millis * 100);
        let id = pulse.sample(now, true).expect("a while has passed");
        pulse
            .pong(id, now + Duration::from_millis(7))
            .expect("it was asked");
    }
    assert_eq!(rtt(&pulse), Some(42));
}

#[test]
fn probes_behind_steps_tell_how_long_a_hop_takes() {
    let mut pulse = pulse();
    series(&mut pulse, [9; SERIES + 1]);
    let behind_a_step = |pulse: &mut Pulse, now: Instant, millis, counts| {
        let id = pulse.sample(now, counts).expect("it is due");
        assert_eq!(pulse.sample(now, true), None, "one after the other");
        let now = now + Duration::from_millis(millis);
        pulse.pong(id, now).expect("it was asked");
        now
    };
    let mut now = at(20_000);
    // Shortly after each other, until there are enough.
    for millis in [7, 6, 9, 8, 19] {
        assert_eq!(pulse.loaded(), None);
        now = behind_a_step(&mut pulse, now, millis, true);
        assert_eq!(pulse.sample(now, false), None, "{millis} ms are no while");
    }
    assert_eq!(pulse.sample(now, true), None, "there are enough");
    let loaded = |pulse: &Pulse| pulse.loaded().map(|trip| trip.as_millis());
    assert_eq!(loaded(&pulse), Some(8));
    for _ in 0..COUNTED {
        now = now + SAMPLE_EVERY;
        now = behind_a_step(&mut pulse, now, 20, true);
        now = behind_a_step(&mut pulse, now, 90, false);
    }
    assert_eq!(loaded(&pulse), Some(20), "the last ones count");
    // Another series shows how far away the other end is, not how long steps take.
    pulse.series.get_or_insert_default();
    series(&mut pulse, [5; SERIES + 1]);
    assert_eq!(pulse.rtt(), Some(Duration::from_millis(5)));
    assert_eq!(loaded(&pulse), Some(20));
    for millis in [5, 500] {
        for _ in 0..QUIET {
            pulse.after_silence(Duration::from_millis(millis));
        }
    }
    assert_eq!(loaded(&pulse), None, "it is another way now");
}

#[test]
fn a_probe_of_a_series_that_is_forgotten_goes_again() {
    let mut pulse = pulse();
    let first = pulse.next_of_series(at(0)).expect("it begins");
    for _ in 0..REMEMBERED {
        pulse.fence(at(1));
    }
    assert_eq!(pulse.pong(first, at(5)), Ok(None));
    assert!(pulse.next_of_series(at(5)).is_some());
}

#[test]
fn a_probe_behind_a_large_message_tells_the_goodput_alone() {
    let mut pulse = Pulse::new(at(0));
    assert_eq!(pulse.sample(at(0), true), Some(1));
    let alone = Trip::Alone(Duration::from_millis(20));
    assert_eq!(pulse.pong(1, at(20)), Ok(Some(alone)));
    assert_eq!(pulse.behind(at(150), 1_000_000, at(100)), Some(2));
    assert_eq!(
        pulse.behind(at(160), 1_000_000, at(150)),
        None,
        "one at a time"
    );
    // 100 ms for all, 20 of which are the way there and back.
    let behind = Trip::Behind {
        rate: 12_500_000,
        took: Duration::from_millis(80),
    };
    assert_eq!(pulse.pong(2, at(200)), Ok(Some(behind)));
    assert_eq!(pulse.rtt(), Some(Duration::from_millis(20)), "it waited");
    // Sooner than the usual round trip: no more is believed than eight times the whole.
    assert_eq!(pulse.behind(at(300), 1_000_000, at(300)), Some(3));
    let soon = pulse.pong(3, at(308)).map(|trip| {
        trip.map(|trip| {
            matches!(
                trip,
                Trip::Behind {
                    rate: 1_000_000_000,
                    ..
                }
            )
        })
    });
    assert_eq!(soon, Ok(Some(true)));
}
