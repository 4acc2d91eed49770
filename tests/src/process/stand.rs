//! A ring that is disturbed while it tells a story, which must not show it.

use super::story::{Story, Told, answer, chat};
use super::{PATIENCE, Ring, http};
use exo_protocol::rng::Rng;
use serde_json::{Value, json};
use std::io::{Write, stderr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// What nodes compute with.
pub const CPU: [&str; 4] = ["--inference-engine", "cpu", "--threads", "1"];

/// A question, and what is answered when nothing happens.
#[derive(Clone, Debug)]
pub struct Known {
    question: Value,
    told: Told,
}

/// A ring, and a greedy and a random story of its first node.
#[derive(Debug)]
pub struct Stand {
    /// The ring.
    pub ring: Ring,
    known: [Known; 2],
}

impl Stand {
    /// Has a ring tell the stories undisturbed.
    ///
    /// # Panics
    /// When it does not, or they are too short to be disturbed.
    #[must_use]
    pub fn new(ring: Ring, most: u32) -> Self {
        let known = [0.0, 0.9].map(|temperature| {
            let mut question = chat("stories", "Tell me a long story about the sea.", most);
            question["temperature"] = json!(temperature);
            question["seed"] = json!(7);
            let told = Story::begin(&ring.nodes[0], &question).finish();
            assert!(told.times.len() > 10, "{:?}", told.text);
            Known { question, told }
        });
        Self { ring, known }
    }

    /// The undisturbed stories.
    #[must_use]
    pub fn texts(&self) -> [&str; 2] {
        self.known.each_ref().map(|known| &*known.told.text)
    }

    /// What is asked for a story.
    #[must_use]
    pub fn question(&self, which: usize) -> &Value {
        &self.known[which].question
    }

    /// Strikes at a random moment of the first half of a story, and checks that the text is the
    /// same as ever. Gives the longest pause after that; nothing if the strike came too late to be
    /// felt. If it was, the first node says `why` its request goes on elsewhere.
    ///
    /// # Panics
    /// When the text is another, or comes to an end too early, or for another reason.
    pub fn strike(
        &mut self,
        which: usize,
        rng: &mut Rng,
        why: &str,
        blow: impl FnOnce(&mut Ring),
    ) -> Option<Duration> {
        let Known { question, told } = &self.known[which];
        let said = self.ring.nodes[0].log().len();
        let at = rng.below(told.times.len() as u64 / 2);
        let mut story = Story::begin(&self.ring.nodes[0], question);
        story.reach(at as usize);
        let since = Instant::now();
        blow(&mut self.ring);
        let disturbed = story.finish();
        let log = self.log_of_answer(said);
        assert_eq!(
            disturbed.text, told.text,
            "disturbed after {at} pieces\n{log}"
        );
        let felt = log.contains("goes on over");
        assert!(!felt || log.contains(why), "{log}");
        felt.then(|| disturbed.pause(since)).flatten()
    }

    /// Has a story told while nothing more happens, and checks that it is the same, over the ring
    /// that it began with. Gives the longest pause in it.
    ///
    /// # Panics
    /// When it is not.
    pub fn retell(&self, which: usize) -> Duration {
        let Known { question, told } = &self.known[which];
        let said = self.ring.nodes[0].log().len();
        let since = Instant::now();
        let again = Story::begin(&self.ring.nodes[0], question).finish();
        let log = self.log_of_answer(said);
        assert_eq!(again.text, told.text, "{log}");
        assert!(!log.contains("goes on over"), "{log}");
        again.pause(since).unwrap_or_default()
    }

    /// What the first node said of an answer, which is complete.
    fn log_of_answer(&self, from: usize) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.ring.nodes[0].log();
            let log = log.get(from..).unwrap_or_default();
            if log.contains("answered:") {
                return log.to_owned();
            }
            assert!(Instant::now() < until, "no word of the answer:\n{log}");
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Waits until all nodes are a ring, and checks that the next request goes over all of them.
    ///
    /// # Panics
    /// When it does not.
    pub fn whole(&mut self) {
        let (stages, log) = self.stages();
        assert_eq!(stages, self.ring.nodes.len(), "{log}");
    }

    /// The same where nodes may still learn that connections of theirs were cut: requests go over
    /// all nodes sooner or later.
    ///
    /// # Panics
    /// When they do not within [`PATIENCE`].
    pub fn heals(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let (stages, log) = self.stages();
            if stages == self.ring.nodes.len() {
                return;
            }
            assert!(Instant::now() < until, "{stages} stages:\n{log}");
        }
    }

    /// Over how many nodes the next request goes once all see each other, and the first one's log.
    fn stages(&mut self) -> (usize, String) {
        self.ring.wait_until_whole();
        let first = &self.ring.nodes[0];
        let text = answer(first, &chat("stories", "Tell me a story.", 4));
        assert!(!text.is_empty());
        let (_, body) = http::get(first.api, "/v1/topology").expect("an HTTP response");
        let topology: Value = serde_json::from_str(&body).expect("JSON");
        let ring = topology["exo"]["rings"]["stories"].as_array();
        (ring.map_or(0, Vec::len), first.log())
    }
}

/// A generator of random moments; `EXO_TEST_SEED` repeats them.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn moments() -> Rng {
    let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let seed = std::env::var("EXO_TEST_SEED").ok();
    let seed = seed.map_or(u64::from(time.subsec_nanos()), |seed| {
        seed.parse().expect("EXO_TEST_SEED is a number")
    });
    say(&format!("EXO_TEST_SEED={seed} repeats the moments"));
    Rng::new(seed)
}

/// Tells how long the pauses were.
///
/// # Panics
/// When there were none.
pub fn report(what: &str, mut pauses: Vec<Duration>) {
    pauses.sort_unstable();
    let at = |index: usize| pauses[index].as_secs_f64() * 1e3;
    say(&format!(
        "{what}: {} pauses, min {:.0} ms, median {:.0} ms, max {:.0} ms",
        pauses.len(),
        at(0),
        at(pauses.len() / 2),
        at(pauses.len() - 1),
    ));
}

/// Says a line past the test harness, which would keep it to itself.
pub fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
