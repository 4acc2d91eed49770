//! What is shown: texts and numbers as people read them, without any terminal.

use super::facts::{Facts, NodeFacts, RequestFacts, RingFacts, StageFacts};
use crate::downloads;
use crate::terminal::printable;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// As many models' rings are remembered.
const RINGS: usize = 16;

/// A rate is told over this time: long enough not to jump, short enough to be true.
const RATE_OVER: Duration = Duration::from_secs(2);

/// Between two looks a round trip jitters; below this ratio it is still the same to people.
const SAME: f64 = 1.25;

/// What remains from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The last ring of each model, the latest one last.
    rings: Vec<RingFacts>,
    /// By request: when it was how far.
    progress: BTreeMap<String, VecDeque<(Instant, u32)>>,
    /// The round trips that are shown, by node.
    trips: BTreeMap<String, Duration>,
}

/// Everything that is on the screen but the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    /// This node and its ring in one line.
    pub(crate) title: String,
    /// The nodes, those of the ring in order first.
    pub(crate) nodes: Vec<Row>,
    /// The ring that the nodes' places are of.
    pub(crate) ring: Vec<StageFacts>,
    /// What is under way.
    pub(crate) tasks: Vec<Task>,
    /// Tokens per second of all answers under way; `None` while there are none.
    pub(crate) rate: Option<f64>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// What it is at.
    pub(crate) mark: Mark,
    /// Where in the ring it is.
    pub(crate) place: Place,
    /// Its name.
    pub(crate) name: String,
    /// Whether it is this one.
    pub(crate) here: bool,
    /// Its layers.
    pub(crate) layers: String,
    /// Memory, engine, round trip and bandwidth.
    pub(crate) memory: String,
    pub(crate) engine: String,
    pub(crate) rtt: String,
    pub(crate) goodput: String,
}

/// What a node is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It cannot be reached.
    #[default]
    Down,
    /// Nothing.
    Idle,
    /// It has a stage of a request under way.
    Busy,
    /// It is this node, and its engine computes right now.
    Computing,
}

/// Where in the ring a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in it.
    #[default]
    Outside,
    /// The only one.
    Alone,
    First,
    Between,
    Last,
}

/// Something that is under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Task {
    /// What.
    pub(crate) what: String,
    /// How far, for people.
    pub(crate) how_far: String,
    /// How far, in thousandths, if there is an end.
    pub(crate) done: Option<u16>,
}

impl Model {
    /// Looks at what is.
    pub(crate) fn look(&mut self, now: Instant, facts: &Facts) -> View {
        self.remember(facts);
        let (mut tasks, rate) = self.tasks(now, facts);
        let mut ring = self.ring(facts).to_vec();
        let mut nodes = self.rows(facts, &ring);
        // Peers choose their names, and those of models.
        for row in &mut nodes {
            for text in [&mut row.name, &mut row.layers, &mut row.engine] {
                *text = one_line(text);
            }
        }
        for stage in &mut ring {
            for text in [&mut stage.node, &mut stage.model] {
                *text = one_line(text);
            }
        }
        for task in &mut tasks {
            task.what = one_line(&task.what);
        }
        let up = facts.nodes.iter().filter(|node| node.up).count();
        let title = match up {
            0 | 1 => format!("{}, alone", facts.node),
            up => format!("{}, {up} nodes", facts.node),
        };
        View {
            title,
            nodes,
            ring,
            tasks,
            rate,
        }
    }

    /// Whether anything is under way that changes by itself.
    #[cfg(any(feature = "tui", test))]
    pub(crate) fn busy(facts: &Facts) -> bool {
        let idle = facts.requests.is_empty()
            && facts.loads.is_empty()
            && facts.jobs.is_empty()
            && facts.downloads.is_empty();
        !idle || facts.computing
    }

    fn remember(&mut self, facts: &Facts) {
        let under_way = facts.requests.iter().map(|request| &request.ring);
        for ring in facts.rings.iter().chain(under_way) {
            if ring.stages.is_empty() || self.rings.contains(ring) {
                continue;
            }
            self.rings.retain(|known| known.model != ring.model);
            self.rings.push(ring.clone());
        }
        let much = self.rings.len().saturating_sub(RINGS);
        self.rings.drain(..much);
        let there = |id: &String| facts.requests.iter().any(|request| request.id == *id);
        self.progress.retain(|id, _| there(id));
    }

    /// The ring that is shown as one: that of a request under way, else the latest.
    fn ring<'a>(&'a self, facts: &'a Facts) -> &'a [StageFacts] {
        let under_way = facts.requests.last().map(|request| &request.ring);
        let ring = under_way.or(self.rings.last());
        ring.map_or(&[], |ring| &ring.stages)
    }

    fn rows(&mut self, facts: &Facts, ring: &[StageFacts]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (index, stage) in ring.iter().enumerate() {
            let place = match (index, ring.len() - index) {
                (0, 1) => Place::Alone,
                (0, _) => Place::First,
                (_, 1) => Place::Last,
                _ => Place::Between,
            };
            let known = facts.nodes.iter().find(|node| node.name == stage.node);
            let gone = NodeFacts {
                name: stage.node.clone(),
                ..NodeFacts::default()
            };
            rows.push(self.row(facts, known.unwrap_or(&gone), place));
        }
        let in_ring = |node: &NodeFacts| ring.iter().any(|stage| stage.node == node.name);
        let mut others: Vec<&NodeFacts> = facts.nodes.iter().collect();
        others.retain(|node| !in_ring(node));
        others.sort_by(|a, b| b.memory.cmp(&a.memory).then_with(|| a.name.cmp(&b.name)));
        for node in others {
            rows.push(self.row(facts, node, Place::Outside));
        }
        rows
    }

    fn row(&mut self, facts: &Facts, node: &NodeFacts, place: Place) -> Row {
        let here = node.name == facts.node;
        let stage_of = |request: &RequestFacts| {
            let mut stages = request.ring.stages.iter();
            stages.any(|stage| stage.node == node.name)
        };
        let mark = match () {
            () if !node.up => Mark::Down,
            () if here && facts.computing => Mark::Computing,
            () if facts.requests.iter().any(stage_of) => Mark::Busy,
            () => Mark::Idle,
        };
        let mut layers = self.layers(facts, node);
        if node.leaving {
            layers.insert(0, "leaving".to_owned());
        }
        Row {
            mark,
            place,
            name: node.name.clone(),
            here,
            layers: layers.join(", "),
            memory: memory(node.memory),
            engine: node.engine.clone().unwrap_or_default(),
            rtt: self.trip(node).map(time).unwrap_or_default(),
            goodput: node.goodput.map(bandwidth).unwrap_or_default(),
        }
    }

    /// The layers of a node, of each model: those of rings, and what this node has besides.
    fn layers(&self, facts: &Facts, node: &NodeFacts) -> Vec<String> {
        let mut all: Vec<&StageFacts> = Vec::new();
        let rings = self.rings.iter().rev().flat_map(|ring| &ring.stages);
        let held = facts.shards.iter();
        for stage in rings.chain(held).filter(|stage| stage.node == node.name) {
            if all.iter().all(|known| known.model != stage.model) {
                all.push(stage);
            }
        }
        let words = |stage: &&StageFacts| {
            let StageFacts {
                model,
                first,
                last,
                layers,
                ..
            } = stage;
            format!("{model} {first}-{last} of {layers}")
        };
        all.iter().map(words).collect()
    }

    /// The round trip that is shown: it changes when people would call it another one.
    fn trip(&mut self, node: &NodeFacts) -> Option<Duration> {
        let Some(rtt) = node.rtt else {
            self.trips.remove(&node.name);
            return None;
        };
        let shown = self.trips.entry(node.name.clone()).or_insert(rtt);
        let ratio = rtt.as_secs_f64() / shown.as_secs_f64().max(1e-9);
        if !(1.0 / SAME..=SAME).contains(&ratio) {
            *shown = rtt;
        }
        Some(*shown)
    }

    /// What is under way, and how many tokens per second all of it has.
    fn tasks(&mut self, now: Instant, facts: &Facts) -> (Vec<Task>, Option<f64>) {
        let mut tasks = Vec::new();
        let mut sum: Option<f64> = None;
        for request in &facts.requests {
            let rate = self.rate(now, request);
            if let Some(rate) = rate {
                *sum.get_or_insert(0.0) += rate;
            }
            tasks.push(task(request, rate));
        }
        tasks.extend(facts.jobs.iter().map(|job| Task {
            what: job.clone(),
            ..Task::default()
        }));
        for (node, download) in &facts.downloads {
            let at = match *node == facts.node {
                true => String::new(),
                false => format!(" on {node}"),
            };
            tasks.push(Task {
                what: format!("downloading {}{at}", downloads::what(&download.shard)),
                how_far: downloads::told_far(download),
                done: Some(thousandths(download.done, download.total)),
            });
        }
        for (shard, done, total) in &facts.loads {
            tasks.push(Task {
                what: format!("loading {shard}"),
                how_far: format!("{} of {} MiB", done >> 20, total >> 20),
                done: Some(thousandths(*done, *total)),
            });
        }
        (tasks, sum)
    }

    /// Tokens per second; `None` before there are any.
    fn rate(&mut self, now: Instant, request: &RequestFacts) -> Option<f64> {
        // Where the tokens are not told, each is a position of this node's cache.
        let far = request.tokens.max(if request.tokens == 0 {
            request.position
        } else {
            0
        });
        let known = self.progress.entry(request.id.clone()).or_default();
        // What was counted by positions first, and is by tokens now, begins anew.
        if known.back().is_some_and(|(_, before)| *before > far) {
            known.clear();
        }
        known.push_back((now, far));
        while known.len() > 2 && known.get(1).is_some_and(|(at, _)| now - *at >= RATE_OVER) {
            known.pop_front();
        }
        let (since, before) = known.front()?;
        let time = now.saturating_duration_since(*since).as_secs_f64();
        let count = far.saturating_sub(*before);
        (count > 0 && time > 0.0).then(|| f64::from(count) / time)
    }
}

fn task(request: &RequestFacts, rate: Option<f64>) -> Task {
    let from = if request.origin {
        "asked here"
    } else {
        "for a peer"
    };
    let mut what = format!("{} {from}", request.ring.model);
    if request.epoch > 0 {
        what.push_str(&format!(", ring {}", request.epoch.saturating_add(1)));
    }
    let far = match (request.tokens, request.position) {
        (0, 0) => "waiting".to_owned(),
        (0, position) => format!("{position} positions"),
        (1, _) => "1 token".to_owned(),
        (tokens, _) => format!("{tokens} tokens"),
    };
    let rate = rate.map(|rate| format!(", {rate:.1} tokens/s"));
    Task {
        what,
        how_far: far + &rate.unwrap_or_default(),
        done: None,
    }
}

/// How much of a total that is.
fn thousandths(done: u64, total: u64) -> u16 {
    let part = u128::from(done).saturating_mul(1000);
    let part = part.checked_div(total.into()).unwrap_or(0);
    u16::try_from(part.min(1000)).unwrap_or(1000)
}

/// A text without what moves a terminal's cursor.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Memory as people say it.
fn memory(mib: i64) -> String {
    match mib {
        ..=0 => String::new(),
        1..1024 => format!("{mib} MiB"),
        _ => format!("{:.1} GiB", mib as f64 / 1024.0),
    }
}

/// A time with two or three digits.
fn time(time: Duration) -> String {
    match time.as_secs_f64() * 1e3 {
        ms if ms < 0.01 => "<0.01 ms".to_owned(),
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.0} s", ms / 1e3),
    }
}

/// Bytes per second as bits, which networks are sold in.
fn bandwidth(bytes: u64) -> String {
    match bytes as f64 * 8.0 / 1e6 {
        mbit if mbit < 10.0 => format!("{mbit:.1} Mbit/s"),
        mbit if mbit < 1000.0 => format!("{mbit:.0} Mbit/s"),
        mbit => format!("{:.1} Gbit/s", mbit / 1e3),
    }
}

#[cfg(test)]
mod tests;
