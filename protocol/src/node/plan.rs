//! What every stage of a request knows of it: its frozen ring and how to sample.

use super::output::Stage;
use super::sampling::{read_sampling, write_sampling};
use crate::engine::Sampling;
use crate::id::{ModelId, NodeId, RequestId};
use crate::json::Json;
use crate::shard::Shard;
use crate::topology::ModelCost;
use alloc::vec;
use alloc::vec::Vec;

/// A request's placement. Its origin computes it and it goes round the ring unchanged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) request: RequestId,
    /// How many rings the request had before this one.
    pub(super) epoch: u32,
    /// Who gets the tokens; need not be a stage. `None` when a reference node asked, which does not
    /// say: such a ring speaks the base protocol.
    pub(super) origin: Option<NodeId>,
    /// What the model is; zero when the origin cannot tell.
    pub(super) fingerprint: u64,
    /// How large the model's ends are, for those that have them.
    pub(super) ends: Ends,
    /// The stages in order.
    pub(super) ring: Vec<Stage>,
    /// For each stage, the positions that it keeps of what it computed in an earlier epoch. Never
    /// falls along the ring: what a stage does not compute anew, those behind it cannot either.
    pub(super) keep: Vec<u32>,
    /// Tokens of the prompt.
    pub(super) prompt: u32,
    /// How the last stage chooses tokens.
    pub(super) sampling: Sampling,
    /// Most tokens to generate.
    pub(super) max_tokens: u32,
    /// The answer so far, if the last stage has to know it to choose.
    pub(super) answer: Vec<u32>,
    /// Stages tell the origin what each step cost.
    pub(super) trace: bool,
}

/// Through what of a model's weights an engine does not go for every position: bytes of its ends, and
/// experts. Zeros where the origin does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ends {
    /// With the first layer, looked up only.
    pub(super) embedding: u64,
    /// With the last layer, gone through for positions at which a token is chosen.
    pub(super) head: u64,
    /// How much of its layers a position goes through, in millionths; zero for all of them.
    pub(super) used: u32,
}

impl Ends {
    /// Those of a model on so many nodes. What both ends share stands once where one node has both.
    pub(super) fn of(cost: &ModelCost, nodes: usize) -> Self {
        let shared = cost.tied && nodes == 1;
        Self {
            embedding: if shared { 0 } else { cost.embedding },
            head: if shared {
                cost.ends(true, true)
            } else {
                cost.head
            },
            used: cost.share(),
        }
    }

    /// Of so many bytes of a shard, those that a step goes through for each of its positions, and
    /// those for the last one.
    pub(super) fn work(self, shard: &Shard, bytes: u64, sample: bool) -> (u64, u64) {
        let embedding = if shard.is_first() { self.embedding } else { 0 };
        let head = if shard.is_last() { self.head } else { 0 };
        let each = bytes.saturating_sub(embedding).saturating_sub(head);
        let part = |of: u64| match self.used {
            0 => of,
            used => {
                let part = u128::from(of) * u128::from(used) / 1_000_000;
                u64::try_from(part).unwrap_or(of).clamp(of.min(1), of)
            }
        };
        match each {
            // They cannot be as large as that, whatever the origin says.
            0 => (part(bytes), 0),
            _ => (part(each), if sample { head } else { 0 }),
        }
    }

    fn read(json: &Json) -> Option<Self> {
        let [embedding, head] = json.get("ends")?.as_array()? else {
            return None;
        };
        Some(Self {
            embedding: embedding.as_u64()?,
            head: head.as_u64()?,
            used: number(json, "used").unwrap_or_default(),
        })
    }
}

/// Why a plan is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error("the plan is not JSON")]
    Json,
    #[error("the plan's {0} is missing or of the wrong type")]
    Field(&'static str),
    #[error("the plan's ring does not cover the layers of the model one after another")]
    Cover,
    #[error("the plan's ring names a node twice")]
    Twice,
    #[error("the plan's ring has more than {0} stages")]
    Stages(usize),
    #[error("the plan keeps fewer positions in a later stage")]
    Keep,
}

impl Plan {
    /// Deepest nesting of a plan: an object, the ring, a stage.
    const DEPTH: usize = 4;

    /// This node's place in the ring.
    pub(super) fn stage_of(&self, node: &str) -> Option<usize> {
        self.ring.iter().position(|stage| &*stage.node == node)
    }

    /// Positions that stage `index` keeps.
    pub(super) fn keep(&self, index: usize) -> u32 {
        self.keep.get(index).copied().unwrap_or(0)
    }

    /// The stage before `index`, around the ring.
    pub(super) fn before(&self, index: usize) -> Option<&Stage> {
        match index.checked_sub(1) {
            Some(before) => self.ring.get(before),
            None => self.ring.last(),
        }
    }

    /// The stage after `index`, around the ring.
    pub(super) fn after(&self, index: usize) -> Option<&Stage> {
        self.ring.get(index + 1).or_else(|| self.ring.first())
    }

    /// The text that travels.
    pub(super) fn write(&self) -> Vec<u8> {
        let stage = |(stage, keep): (&Stage, &u32)| {
            Json::Array(vec![
                Json::from(stage.node.as_str()),
                Json::from(stage.shard.start),
                Json::from(stage.shard.end),
                Json::from(*keep),
            ])
        };
        let first = self.ring.first().map(|stage| &stage.shard);
        let mut entries = vec![
            ("request", Json::from(self.request.as_str())),
            ("epoch", Json::from(self.epoch)),
            ("origin", Json::from(self.origin.as_deref())),
            ("model", Json::from(first.map(|shard| &*shard.model))),
            ("layers", Json::from(first.map_or(0, |shard| shard.layers))),
            ("fingerprint", Json::Uint(self.fingerprint)),
            (
                "ring",
                Json::Array(self.ring.iter().zip(&self.keep).map(stage).collect()),
            ),
            ("prompt", Json::from(self.prompt)),
            ("sampling", write_sampling(&self.sampling)),
            ("max_tokens", Json::from(self.max_tokens)),
        ];
        if self.ends != Ends::default() {
            let ends = [self.ends.embedding, self.ends.head].map(Json::Uint);
            entries.push(("ends", Json::Array(ends.into())));
            if self.ends.used > 0 {
                entries.push(("used", Json::from(self.ends.used)));
            }
        }
        if !self.answer.is_empty() {
            let answer = self.answer.iter().map(|token| Json::from(*token));
            entries.push(("answer", Json::Array(answer.collect())));
        }
        if self.trace {
            entries.push(("trace", Json::Bool(true)));
        }
        let mut text = Vec::new();
        Json::object(entries).write(&mut text);
        text
    }

    /// Reads a plan of at most `stages` stages.
    pub(super) fn read(text: &[u8], stages: usize) -> Result<Self, PlanError> {
        let json = Json::parse(text, Self::DEPTH).map_err(|_| PlanError::Json)?;
        let model = ModelId::from(text_of(&json, "model")?);
        let layers = number(&json, "layers")?;
        let (ring, keep) = read_ring(&json, &model, layers, stages, Rings::Requests)?;
        let max_tokens = number(&json, "max_tokens")?;
        let answer = read_answer(&json)?;
        if answer.len() > usize::try_from(max_tokens).unwrap_or(usize::MAX) {
            return Err(PlanError::Field("answer"));
        }
        Ok(Self {
            request: text_of(&json, "request")?.into(),
            epoch: number(&json, "epoch")?,
            origin: Some(text_of(&json, "origin")?.into()),
            fingerprint: wide(&json, "fingerprint")?,
            // Speeds are measured by it, and nothing else: without it a little worse.
            ends: Ends::read(&json).unwrap_or_default(),
            ring,
            keep,
            prompt: number(&json, "prompt")?,
            sampling: read_sampling(&json)?,
            max_tokens,
            answer,
            trace: json.get("trace").and_then(Json::as_bool) == Some(true),
        })
    }
}

fn read_answer(json: &Json) -> Result<Vec<u32>, PlanError> {
    const WRONG: PlanError = PlanError::Field("answer");
    let Some(answer) = json.get("answer") else {
        return Ok(Vec::new());
    };
    let token = |json: &Json| json.as_u64().and_then(|n| u32::try_from(n).ok());
    let tokens = answer.as_array().ok_or(WRONG)?.iter().map(token);
    tokens.collect::<Option<_>>().ok_or(WRONG)
}

/// What stands in a ring's list for each stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rings {
    /// Node, layers, positions kept.
    Requests,
    /// Node and layers.
    Jobs,
}

/// The stages, and what each keeps.
pub(super) fn read_ring(
    json: &Json,
    model: &ModelId,
    layers: u32,
    most: usize,
    rings: Rings,
) -> Result<(Vec<Stage>, Vec<u32>), PlanError> {
    const WRONG: PlanError = PlanError::Field("ring");
    let stages = json.get("ring").and_then(Json::as_array).ok_or(WRONG)?;
    if stages.len() > most {
        return Err(PlanError::Stages(most));
    }
    let mut ring: Vec<Stage> = Vec::with_capacity(stages.len());
    let mut keeps = Vec::with_capacity(stages.len());
    let mut next = 0;
    for stage in stages {
        let (node, start, end, keep) = match (rings, stage.as_array().ok_or(WRONG)?) {
            (Rings::Requests, [node, start, end, keep]) => (node, start, end, keep),
            (Rings::Jobs, [node, start, end]) => (node, start, end, &Json::Int(0)),
            _ => return Err(WRONG),
        };
        let node = NodeId::from(node.as_str().ok_or(WRONG)?);
        let int = |json: &Json| json.as_u64().and_then(|n| u32::try_from(n).ok());
        let (start, end) = (int(start).ok_or(WRONG)?, int(end).ok_or(WRONG)?);
        let keep = int(keep).ok_or(WRONG)?;
        if start != next || end < start || end >= layers {
            return Err(PlanError::Cover);
        }
        if ring.iter().any(|stage| stage.node == node) {
            return Err(PlanError::Twice);
        }
        if keeps.last().is_some_and(|before| *before > keep) {
            return Err(PlanError::Keep);
        }
        next = end + 1;
        let shard = Shard {
            model: model.clone(),
            start,
            end,
            layers,
        };
        ring.push(Stage { node, shard });
        keeps.push(keep);
    }
    if next != layers || ring.is_empty() {
        return Err(PlanError::Cover);
    }
    Ok((ring, keeps))
}

pub(super) fn text_of<'a>(object: &'a Json, key: &'static str) -> Result<&'a str, PlanError> {
    object
        .get(key)
        .and_then(Json::as_str)
        .ok_or(PlanError::Field(key))
}

pub(super) fn wide(object: &Json, key: &'static str) -> Result<u64, PlanError> {
    object
        .get(key)
        .and_then(Json::as_u64)
        .ok_or(PlanError::Field(key))
}

pub(super) fn number(object: &Json, key: &'static str) -> Result<u32, PlanError> {
    u32::try_from(wide(object, key)?).map_err(|_| PlanError::Field(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let model = ModelId::from("m");
        let stage = |node: &str, range| Stage {
            node: node.into(),
            shard: Shard::new(model.clone(), range, 8).expect("a range of layers"),
        };
        Plan {
            request: "r".into(),
            epoch: 2,
            origin: Some("a".into()),
            fingerprint: u64::MAX,
            ends: Ends {
                embedding: 9,
                head: u64::MAX,
                used: 250_000,
            },
            ring: vec![stage("b", 0..5), stage("a", 5..8)],
            keep: vec![0, 7],
            prompt: 5,
            sampling: Sampling {
                temperature: 0.7,
                top_p: 0.9,
                top_k: 40,
                seed: u64::MAX,
                shaping: None,
                scores: None,
            },
            max_tokens: 12,
            answer: vec![3, 4],
            trace: true,
        }
    }

    #[test]
    fn a_plan_survives_the_wire() {
        assert_eq!(Plan::read(&plan().write(), 4), Ok(plan()));
    }

    #[test]
    fn a_step_goes_through_the_ends_once_if_at_all() {
        let mut cost = ModelCost {
            embedding: 300,
            head: 200,
            ..ModelCost::uniform(8, 800)
        };
        let shard = |range| Shard::new("m".into(), range, 8).expect("a range of layers");
        let work = |cost: &ModelCost, range, bytes, sample| {
            let shard = shard(range);
            let nodes = if shard.len() == 8 { 1 } else { 2 };
            Ends::of(cost, nodes).work(&shard, bytes, sample)
        };
        assert_eq!(work(&cost, 0..4, 700, true), (400, 0));
        assert_eq!(work(&cost, 4..8, 600, true), (400, 200));
        assert_eq!(work(&cost, 4..8, 600, false), (400, 0));
        assert_eq!(work(&cost, 2..4, 200, true), (200, 0));
        assert_eq!(work(&cost, 0..8, 1300, true), (800, 200));
        cost.tied = true;
        assert_eq!(work(&cost, 0..8, 1100, true), (800, 300));
        assert_eq!(work(&cost, 0..4, 700, true), (400, 0));
        assert_eq!(work(&cost, 0..4, 200, true), (200, 0), "no such model");
        // A position goes through a quarter of each layer: the rest is experts of others.
        cost.used = 200;
        assert_eq!(work(&cost, 0..8, 1100, true), (200, 300));
        assert_eq!(work(&cost, 0..4, 700, true), (100, 0));
        assert_eq!(work(&cost, 0..4, 301, true), (1, 0), "but some of it");
    }

    #[test]
    fn without_ends_or_with_others_a_plan_is_one() {
        let text = plan().write();
        let text = core::str::from_utf8(&text).expect("JSON");
        let ends = alloc::format!("\"ends\": [9, {}], ", u64::MAX);
        assert!(text.contains(&ends), "{text}");
        for other in [
            "",
            "\"ends\": [1], ",
            "\"ends\": 5, ",
            "\"ends\": [-1, 2], ",
        ] {
            let read = Plan::read(text.replace(&ends, other).as_bytes(), 4);
            let read = read.map(|plan| plan.ends);
            assert_eq!(read, Ok(Ends::default()), "{other}");
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_by_name() {
        let read = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            Plan::read(&plan.write(), 2)
        };
        let gap = read(|plan| {
            plan.ring.remove(0);
            plan.keep.remove(0);
        });
        assert_eq!(gap, Err(PlanError::Cover));
        let short = read(|plan| {
            plan.ring.pop();
        });
        assert_eq!(short, Err(PlanError::Cover));
        let twice = read(|plan| {
            for stage in &mut plan.ring {
                stage.node = "a".into();
            }
        });
        assert_eq!(twice, Err(PlanError::Twice));
        assert_eq!(read(|plan| plan.keep = vec![7, 0]), Err(PlanError::Keep));
        assert_eq!(
            read(|plan| plan.origin = None),
            Err(PlanError::Field("origin"))
        );
        assert_eq!(
            read(|plan| plan.answer = vec![0; 13]),
            Err(PlanError::Field("answer"))
        );
        assert_eq!(Plan::read(&plan().write(), 1), Err(PlanError::Stages(1)));
        assert_eq!(Plan::read(b"{\"ring\"", 1), Err(PlanError::Json));
    }
}
