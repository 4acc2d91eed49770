use super::*;
use crate::rng::Rng;
use alloc::vec;
use proptest::prelude::*;

fn name(source: Source, priority: Option<i64>) -> Name {
    Name {
        source,
        node: Some("n".into()),
        description: alloc::format!("{priority:?}"),
        capabilities: None,
        heard: priority.map(|priority| Heard {
            at: Instant::ZERO,
            priority,
        }),
    }
}

fn address(priority: Option<i64>) -> Address {
    let source = match priority {
        Some(_) => Source::Udp,
        None => Source::Manual,
    };
    Address::new("h:1".into(), name(source, priority), Instant::ZERO)
}

#[test]
fn redial_waits_double_up_to_the_maximum() {
    let timing = Timing::default();
    let mut rng = Rng::new(3);
    let mut waits = |at: &str, cloned| {
        let mut address = address(None);
        address.address = at.into();
        if cloned {
            address.refused();
        }
        let mut wait = || {
            address.failed(Instant::ZERO, &timing, &mut rng);
            address.again - Instant::ZERO
        };
        (0..40).map(|_| wait()).collect::<Vec<_>>()
    };
    let about = |wait: Option<&Duration>, most: Duration| {
        wait.is_some_and(|wait| (most * 3 / 4..=most).contains(wait))
    };
    let plain = waits("h:1", false);
    assert!(about(plain.first(), timing.redial_min), "{plain:?}");
    assert!(about(plain.last(), timing.redial_max), "{plain:?}");
    assert!(about(waits("h:1", true).last(), timing.measure_most));
    let behind = waits("command x", false);
    assert!(about(behind.last(), timing.command_redial_max));
}

#[test]
fn who_answered_goes_before_who_failed_and_lists_before_strangers() {
    let mut rng = Rng::new(3);
    let mut all = vec![
        address(Some(3)),
        address(Some(9)),
        address(None),
        address(None),
    ];
    all[3].failed(Instant::ZERO, &Timing::default(), &mut rng);
    let order = |all: &[Address]| {
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|a, b| all[*a].rank().cmp(&all[*b].rank()));
        order
    };
    assert_eq!(order(&all), [2, 1, 0, 3]);
    all[0].succeeded();
    assert_eq!(order(&all), [0, 2, 1, 3]);
}

#[test]
fn an_announcement_takes_the_place_of_the_last_one() {
    let mut address = address(Some(3));
    for priority in 0..100 {
        let mut again = name(Source::Udp, Some(priority));
        again.node = Some(alloc::format!("n{priority}").as_str().into());
        address.name(again);
    }
    assert_eq!((address.names.len(), address.priority()), (1, Some(99)));
    address.name(name(Source::Manual, None));
    assert_eq!((address.names.len(), address.description()), (2, "None"));
    assert!(!address.is_announced() && address.heard().is_none());
}

#[test]
fn a_change_is_worth_it_when_it_is_clearly_better() {
    let way = |micros, priority| Way {
        rtt: Duration::from_micros(micros),
        priority,
    };
    let better =
        |a: (u64, Option<i64>), b: (u64, Option<i64>)| way(a.0, a.1).is_better_than(way(b.0, b.1));
    assert!(better((500, None), (3000, None)));
    assert!(!better((2800, None), (3000, None)));
    assert!(!better((50, None), (240, None)), "who cares");
    assert!(better((450, Some(4)), (500, Some(3))));
    assert!(better((550, Some(4)), (500, Some(3))));
    assert!(!better((550, Some(4)), (500, None)));
    assert!(!better((900, Some(4)), (500, Some(3))));
}

proptest! {
    #[test]
    fn no_way_is_better_than_one_that_is_better(
        a in (0u64..100_000, prop::option::of(0i64..8)),
        b in (0u64..100_000, prop::option::of(0i64..8)),
    ) {
        let way = |(micros, priority)| Way { rtt: Duration::from_micros(micros), priority };
        let (a, b) = (way(a), way(b));
        prop_assert!(!(a.is_better_than(b) && b.is_better_than(a)), "{a:?} {b:?}");
    }
}
