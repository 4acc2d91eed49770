//! Stages that go while they are needed, in real processes: whoever waits for the answer gets all of
//! it, the same as ever, and the node is welcome when it is back.

#![cfg(unix)]

use exo_tests::process::stand::{CPU, Stand, moments, report, say};
use exo_tests::process::story::{Story, chat};
use exo_tests::process::{self, Member, Ring, relay};
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Pauses are measured: nothing else runs meanwhile.
static ALONE: Mutex<()> = Mutex::new(());

const fn member(runtime: &'static str, memory: u32) -> Member {
    Member {
        runtime,
        memory,
        engine: None,
    }
}

/// Rings whose first node, which is asked, has the first, the second and the last stage. Each other
/// stage is computed under both runtimes in one of them.
const RINGS: [[Member; 3]; 3] = [
    [
        member("std", 6144),
        member("std", 5120),
        member("smol", 4096),
    ],
    [
        member("smol", 5120),
        member("std", 6144),
        member("std", 4096),
    ],
    [
        member("std", 4096),
        member("smol", 6144),
        member("smol", 5120),
    ],
];

/// Long enough for any story to end by itself.
const WHOLE: u32 = 400;

/// Strikes the stages other than the asked node's so often in each ring, and has the ring mended
/// after each blow. Both stories take turns.
fn strikes(
    (what, why): (&str, &str),
    times: [usize; 3],
    blow: impl Fn(&mut Ring, usize),
    mend: impl Fn(&mut Ring, usize),
) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut moments = moments();
    let mut pauses = Vec::new();
    let mut texts: Option<[String; 2]> = None;
    for (members, times) in RINGS.iter().zip(times) {
        let mut stand = Stand::new(Ring::of(members, &CPU), WHOLE);
        let own = stand.texts().map(str::to_owned);
        assert_eq!(*texts.get_or_insert_with(|| own.clone()), own);
        let (mut count, mut misses) = (0, 0);
        while count < times {
            let victim = 1 + count % 2;
            let blow = |ring: &mut Ring| blow(ring, victim);
            let pause = stand.strike(count / 2 % 2, &mut moments, why, blow);
            mend(&mut stand.ring, victim);
            stand.whole();
            match pause {
                Some(pause) => {
                    count += 1;
                    pauses.push(pause);
                }
                None => misses += 1,
            }
            assert!(misses < 100, "nothing is felt of {what}");
        }
    }
    report(what, pauses);
}

#[test]
fn a_killed_stage_is_replaced() {
    strikes(
        ("killed", ""),
        [7, 7, 6],
        |ring, victim| ring.nodes[victim].kill(),
        Ring::restart,
    );
}

#[test]
fn a_hung_stage_is_replaced() {
    strikes(
        ("hung", "silent"),
        [2, 2, 2],
        |ring, victim| ring.nodes[victim].signal("STOP"),
        |ring, victim| ring.nodes[victim].signal("CONT"),
    );
}

#[test]
fn a_stage_that_is_asked_to_end_hands_over() {
    strikes(
        ("asked to end", "shutting down"),
        [2, 2, 2],
        |ring, victim| {
            let node = &mut ring.nodes[victim];
            assert_eq!(node.terminate(), Some(0), "{}", node.log());
        },
        Ring::restart,
    );
}

/// Two nodes, neither of which can hold the model without the other, and what they tell.
fn no_spare() -> Stand {
    let alone = Ring::start(&["std"], &CPU);
    let (_, body) = process::get(alone.nodes[0].api, "/v1/models").expect("an HTTP response");
    let models: Value = serde_json::from_str(&body).expect("JSON");
    let models = models["data"].as_array().into_iter().flatten();
    let bytes = models
        .filter(|model| model["id"] == "stories")
        .find_map(|model| model["bytes"].as_u64());
    let half = bytes.expect("the model has a size").div_ceil(2 << 20);
    let memory = u32::try_from(half).expect("a small model") + 1;
    let members = ["smol", "std"].map(|runtime| member(runtime, memory));
    Stand::new(Ring::of(&members, &CPU), WHOLE)
}

#[test]
fn a_stage_that_nobody_can_replace_stays_until_the_end() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stand = no_spare();
    for which in [0, 1] {
        let mut story = Story::begin(&stand.ring.nodes[0], stand.question(which));
        assert!(story.reach(5));
        let leaving = &mut stand.ring.nodes[1];
        assert_eq!(leaving.terminate(), Some(0), "{}", leaving.log());
        assert_eq!(story.finish().text, stand.texts()[which]);
        stand.ring.restart(1);
        stand.whole();
    }
}

#[test]
fn what_is_left_is_told_when_it_is_too_little() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stand = no_spare();
    let mut story = Story::begin(&stand.ring.nodes[0], stand.question(0));
    assert!(story.reach(5));
    stand.ring.nodes[1].kill();
    let error = story.outcome().expect_err("half a model tells no story");
    assert!(error.contains("node-2") && error.contains("MiB"), "{error}");
    stand.ring.restart(1);
    stand.whole();
}

/// Without its origin nobody wants a request computed.
#[test]
fn an_origin_that_dies_leaves_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ring = Ring::of(&RINGS[1], &CPU);
    let question = chat("stories", "Tell me a long story about the sea.", WHOLE);
    let mut story = Story::begin(&ring.nodes[0], &question);
    assert!(story.reach(5));
    ring.nodes[0].kill();
    for node in ring.nodes.iter_mut().skip(1) {
        let api = node.api;
        node.wait_for("the request to be forgotten", |_| {
            let status = process::get(api, "/v1/status").ok().map(|(_, body)| body);
            let status: Option<Value> = status.and_then(|body| serde_json::from_str(&body).ok());
            status.is_some_and(|status| status["requests"].as_array().is_some_and(Vec::is_empty))
        });
    }
    ring.restart(0);
    ring.wait_until_whole();
    Stand::new(ring, WHOLE).whole();
}

/// A ring whose nodes reach each other on ways that take so long.
fn far_apart(delay: relay::Delay, most: u32) -> Stand {
    let near = Stand::new(Ring::of(&RINGS[1], &CPU), most);
    let ring = Ring::over(&RINGS[1], &CPU, |address| relay::open(address, delay));
    let far = Stand::new(ring, most);
    assert_eq!(far.texts(), near.texts());
    far
}

#[test]
fn a_long_way_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut far = far_apart(|_| Duration::from_millis(50), 24);
    let pause = [0, 1].map(|which| far.retell(which));
    say(&format!("50 ms each way: longest pauses {pause:.0?}"));
    let mut moments = moments();
    let mut pauses = Vec::new();
    for victim in [1, 2] {
        let blow = |ring: &mut Ring| ring.nodes[victim].kill();
        pauses.extend(far.strike(victim - 1, &mut moments, "", blow));
        far.ring.restart(victim);
        far.whole();
    }
    report("killed, 50 ms each way", pauses);
}

/// As TCP on a way that loses packets: from time to time nothing comes for a while.
#[test]
fn a_way_that_stalls_changes_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let far = far_apart(
        |number| {
            let lost = number % 100 == 99;
            Duration::from_millis(if lost { 300 } else { 0 })
        },
        WHOLE,
    );
    let pause = [0, 1].map(|which| far.retell(which));
    say(&format!(
        "one piece in 100 late: longest pauses {pause:.0?}"
    ));
}
