//! `exo-node plan`: who would have which layers of a model, and how quick that would be.

use crate::Failed;
use crate::app::App;
use crate::settings::Settings;
use crate::signals::Stop;
use crate::speaker::Speaker;
use crate::terminal::{Style, printable};
use exo_protocol::Rejection;
use exo_protocol::node::{By, LinkShare, NodeShare, Placement, Question, Stage};
use exo_protocol::topology::auto::{Prediction, USUAL_GOODPUT, USUAL_RTT_US};
use serde_json::{Value, json};
use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

/// What to plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model's name or path; the default one if none.
    pub model: Option<String>,
    /// Tokens of prompt and answer for which there must be room.
    pub positions: u32,
    /// One JSON document instead of lines.
    pub json: bool,
}

/// Positions of a prompt of 512 tokens and an answer of 128.
pub(crate) const USUAL: u32 = 640;

/// An orderly stop takes no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ways to all peers are measured by then, or something keeps them from it.
const MEASURING: Duration = Duration::from_secs(6);

/// Plans, and prints it. `false` when somebody interrupted it.
///
/// # Errors
/// When there is no such model, the node does not start, or the nodes cannot hold the model.
pub fn plan(settings: &Settings, plan: &Plan, stop: &Stop) -> Result<bool, Failed> {
    let started = App::start(settings)?;
    let app = &started.app;
    app.wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    wait_for_measures(app, stop);
    let result = make(app, plan);
    started.shutdown(PATIENCE);
    if stop.asked() {
        return Ok(false);
    }
    result.map(|()| true)
}

/// Waits until the ways between all nodes of ours are measured.
fn wait_for_measures(app: &App, stop: &Stop) {
    let until = Instant::now() + MEASURING;
    loop {
        if app.status().is_measured() || stop.asked() || Instant::now() > until {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn make(app: &App, plan: &Plan) -> Result<(), Failed> {
    let name = plan.model.as_deref();
    let name = name.map(|name| app.library().name(name)).transpose();
    let name = name.map_err(Failed::Model)?;
    let speaker = app.library().speaker(name.as_deref());
    let speaker = speaker.map_err(crate::ask::AskError::Model)?;
    let question = question(&speaker, plan.positions);
    let placement = app.placement(&question)?;
    let mut out = io::stdout();
    if plan.json {
        writeln!(out, "{:#}", placement_json(&question, &placement))?;
    } else {
        write!(out, "{}", Shown(&question, &placement, Style::stdout()))?;
    }
    Ok(())
}

/// What is asked of the node for a model.
pub(crate) fn question(speaker: &Speaker, positions: u32) -> Question {
    Question {
        model: speaker.id(),
        layers: speaker.layers(),
        bytes: speaker.bytes(),
        cost: speaker.cost(),
        positions: positions.min(speaker.context()),
    }
}

/// A ring, for programs.
pub(crate) fn ring_json(ring: &[Stage]) -> Value {
    let stage = |stage: &Stage| {
        json!({
            "node_id": stage.node.as_str(),
            "start": stage.shard.start,
            "end": stage.shard.end,
            "layers": stage.shard.layers,
        })
    };
    ring.iter().map(stage).collect()
}

/// How a model would be placed, for programs.
pub(crate) fn placement_json(question: &Question, placement: &Placement) -> Value {
    let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let prediction = |of: Prediction| {
        json!({
            "first_token_ms": millis(of.first),
            "tokens_per_s": (of.rate() * 10.0).round() / 10.0,
        })
    };
    let node = |share: &NodeShare| {
        json!({
            "node_id": share.node.as_str(),
            "start": share.shard.as_ref().map(|shard| shard.start),
            "end": share.shard.as_ref().map(|shard| shard.end),
            "budget_bytes": share.budget,
            "needs": share.needs.map(|needs| json!({
                "weights_bytes": needs.weights,
                "kv_bytes": needs.kv,
                "activations_bytes": needs.activations,
            })),
            "token_ms": share.decode.map(millis),
            "piece_ms": share.piece.map(millis),
            "why": share.part.to_string(),
        })
    };
    let link = |link: &LinkShare| {
        let [there, back] = &link.measured;
        json!({
            "nodes": link.nodes.each_ref().map(|node| node.as_str()),
            "rtt_ms": link.rtt().map(millis),
            "loaded_ms": link.loaded().map(millis),
            "goodput": [there.goodput, back.goodput],
        })
    };
    json!({
        "model": question.model.as_str(),
        "layers": question.layers,
        "positions": question.positions,
        "by": name(placement.by),
        "ring": ring_json(&placement.ring),
        "prediction": placement.prediction.map(prediction),
        "other": placement.other.as_ref().map(|(other, predicted)| json!({
            "ring": ring_json(other),
            "prediction": prediction(*predicted),
        })),
        "exact": placement.exact,
        "nodes": placement.nodes.iter().map(node).collect::<Value>(),
        "links": placement.links.iter().map(link).collect::<Value>(),
    })
}

fn name(by: By) -> &'static str {
    match by {
        By::Memory => "memory",
        By::Auto => "auto",
        By::Kept => "kept",
        By::Pins => "layers",
    }
}

/// How a model would be placed, for people.
struct Shown<'a>(&'a Question, &'a Placement, Style);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self(question, placement, style) = self;
        let total = question.bytes.div_ceil(1 << 20);
        let (layers, positions) = (question.layers, question.positions);
        let model = printable(&question.model);
        writeln!(
            f,
            "{}: {layers} layers, {total} MiB, room for {positions} tokens\n",
            style.bold(model)
        )?;
        let head = ["node", "layers", "needs MiB", "of MiB", "ms/token"];
        let [node, range, needs, of, token] = head;
        writeln!(
            f,
            "{}",
            style.dim(format_args!(
                "{node:<16} {range:>8} {needs:>10} {of:>8} {token:>9}"
            ))
        )?;
        for share in &placement.nodes {
            let shard = share.shard.as_ref();
            let range = shard.map(|shard| format!("{}-{}", shard.start, shard.end));
            let needs = share
                .needs
                .map(|needs| needs.sum().div_ceil(1 << 20).to_string());
            let token = share
                .decode
                .map(|time| format!("{:.2}", time.as_secs_f64() * 1e3));
            let or_none = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
            writeln!(
                f,
                "{:<16} {:>8} {:>10} {:>8} {:>9}  {}",
                printable(&share.node),
                or_none(range),
                or_none(needs),
                share.budget >> 20,
                or_none(token),
                share.part,
            )?;
        }
        if !placement.links.is_empty() {
            writeln!(
                f,
                "\n{}",
                style.dim(format_args!(
                    "{:<30} {:>13} {:>12} {:>8}",
                    "way", "round trip ms", "in use ms", "MB/s"
                ))
            )?;
        }
        for link in &placement.links {
            writeln!(f, "{}", Way(link))?;
        }
        let by = match placement.by {
            By::Memory => "by memory",
            By::Auto if placement.exact => "the quickest ring of all",
            By::Auto => "the quickest ring that was found; there are too many to look at all",
            By::Kept => "kept: no other ring is quicker by more than a tenth",
            By::Pins => "as --layers says",
        };
        match placement.prediction {
            Some(predicted) => writeln!(f, "\n{by}; predicted: {}", InWords(predicted))?,
            None => writeln!(
                f,
                "\n{by}; the model's costs are not known, so nothing is predicted"
            )?,
        }
        if let Some((other, predicted)) = &placement.other {
            let what = match placement.by {
                By::Auto => "runner-up",
                By::Memory | By::Kept | By::Pins => "quickest",
            };
            writeln!(f, "{what}: {}: {}", Ring(other), InWords(*predicted))?;
        }
        Ok(())
    }
}

/// A prediction in words.
pub(crate) struct InWords(pub(crate) Prediction);

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.first.as_secs_f64();
        write!(
            f,
            "{:.1} tokens/s, the first of them {first:.2} s after a prompt of 512",
            self.0.rate()
        )
    }
}

/// What is known of a way, on a line.
struct Way<'a>(&'a LinkShare);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.0.nodes.each_ref().map(|node| printable(node));
        let [there, back] = self.0.measured.map(|measured| measured.goodput);
        let goodput = there.or(back);
        let or_none = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
        let millis = |rtt: Duration| format!("{:.2}", rtt.as_secs_f64() * 1e3);
        let millions = |rate: u64| format!("{:.1}", rate as f64 / 1e6);
        write!(
            f,
            "{:<30} {:>13} {:>12} {:>8}",
            format!("{a} - {b}"),
            or_none(self.0.rtt().map(millis)),
            or_none(self.0.loaded().map(millis)),
            or_none(goodput.map(millions)),
        )?;
        let assumed = [
            self.0.rtt().is_none().then(|| {
                let usual = Duration::from_micros(USUAL_RTT_US);
                format!("{} ms", millis(usual))
            }),
            goodput
                .is_none()
                .then(|| format!("{} MB/s", millions(USUAL_GOODPUT))),
        ];
        let assumed: Vec<String> = assumed.into_iter().flatten().collect();
        match assumed.is_empty() {
            true => Ok(()),
            false => write!(f, "  not measured; taken for {}", assumed.join(", ")),
        }
    }
}

/// A ring in words: `node-1 0-3 > node-2 4-7`.
struct Ring<'a>(&'a [Stage]);

impl fmt::Display for Ring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, stage) in self.0.iter().enumerate() {
            let before = if at > 0 { " > " } else { "" };
            let (start, end) = (stage.shard.start, stage.shard.end);
            write!(f, "{before}{} {start}-{end}", printable(&stage.node))?;
        }
        Ok(())
    }
}

/// Why nothing could be planned, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlacementError(pub Rejection);

#[cfg(test)]
mod tests {
    use super::*;
    use exo_protocol::Shard;
    use exo_protocol::node::Part;
    use exo_protocol::topology::{LinkMetrics, ModelCost, StageBytes};

    fn placed() -> (Question, Placement) {
        let stage = |node: &str, range| Stage {
            node: node.into(),
            shard: Shard::new("m".into(), range, 8).unwrap(),
        };
        let quick = |millis| Prediction {
            total: Duration::ZERO,
            first: Duration::from_millis(120),
            token: Duration::from_millis(millis),
        };
        let share = |node: &str, shard: Option<Shard>, part| NodeShare {
            node: node.into(),
            budget: 100 << 20,
            needs: shard.as_ref().map(|_| StageBytes {
                weights: 3 << 20,
                kv: 1,
                activations: 0,
            }),
            decode: shard.as_ref().map(|_| Duration::from_micros(1250)),
            piece: None,
            shard,
            part,
        };
        let ring = vec![stage("a", 0..5), stage("b", 5..8)];
        let mut nodes: Vec<NodeShare> = ring
            .iter()
            .map(|stage| share(&stage.node, Some(stage.shard.clone()), Part::In))
            .collect();
        nodes.push(share("c", None, Part::Slower(quick(50))));
        let question = Question {
            model: "m".into(),
            layers: 8,
            bytes: 9 << 20,
            cost: ModelCost::default(),
            positions: 640,
        };
        let placement = Placement {
            by: By::Auto,
            ring,
            prediction: Some(quick(4)),
            other: Some((vec![stage("a", 0..8)], quick(5))),
            exact: true,
            links: vec![
                LinkShare {
                    nodes: ["a".into(), "b".into()],
                    measured: [
                        LinkMetrics {
                            rtt_us: Some(120),
                            loaded_us: Some(210),
                            goodput: Some(950_000_000),
                        },
                        LinkMetrics::default(),
                    ],
                },
                LinkShare {
                    nodes: ["a".into(), "c".into()],
                    measured: [LinkMetrics::default(); 2],
                },
            ],
            nodes,
        };
        (question, placement)
    }

    #[test]
    fn a_plan_has_a_line_for_every_node() {
        let (question, placement) = placed();
        let told = Shown(&question, &placement, Style::plain()).to_string();
        let expected = "\
m: 8 layers, 9 MiB, room for 640 tokens

node               layers  needs MiB   of MiB  ms/token
a                     0-4          4      100      1.25  in the ring
b                     5-7          4      100      1.25  in the ring
c                       -          -      100         -  left out: with it 20.0 tokens/s after 0.12 s, which is slower

way                            round trip ms    in use ms     MB/s
a - b                                   0.12         0.21    950.0
a - c                                      -            -        -  not measured; taken for 2.00 ms, 60.0 MB/s

the quickest ring of all; predicted: 250.0 tokens/s, the first of them 0.12 s after a prompt of 512
runner-up: a 0-7: 200.0 tokens/s, the first of them 0.12 s after a prompt of 512
";
        assert_eq!(told, expected);
    }

    #[test]
    fn programs_are_told_the_same() {
        let (question, placement) = placed();
        let told = placement_json(&question, &placement);
        assert_eq!(told["by"], "auto");
        assert_eq!(told["ring"][1]["start"], 5);
        assert_eq!(told["prediction"]["tokens_per_s"], 250.0);
        assert_eq!(told["nodes"][0]["needs"]["weights_bytes"], 3 << 20);
        assert_eq!(told["nodes"][2]["start"], Value::Null);
        assert_eq!(told["other"]["ring"][0]["end"], 7);
        assert_eq!(told["links"][0]["nodes"], json!(["a", "b"]));
        assert_eq!(told["links"][0]["rtt_ms"], 0.12);
        assert_eq!(told["links"][0]["loaded_ms"], 0.21);
        assert_eq!(told["links"][0]["goodput"], json!([950_000_000, null]));
        assert_eq!(told["links"][1]["rtt_ms"], Value::Null);
    }
}
