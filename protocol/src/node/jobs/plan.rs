//! What every stage of a training job knows of it: its frozen ring, and what is trained.

use super::setup;
use crate::id::{ModelId, NodeId, RequestId};
use crate::json::Json;
use crate::node::Stage;
use crate::node::plan::{PlanError, Rings, number, read_ring, text_of, wide};
use crate::shard::Shard;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// A job's placement. Its origin computes it and tells every stage; it never changes.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::node) struct JobPlan {
    pub(in crate::node) job: RequestId,
    /// Who sends the examples and gets the losses; need not be a stage.
    pub(in crate::node) origin: NodeId,
    /// What the model is; zero when the origin cannot tell.
    pub(in crate::node) fingerprint: u64,
    /// The stages in order.
    pub(in crate::node) ring: Vec<Stage>,
    /// What is trained, and how.
    pub(in crate::node) setup: Arc<crate::engine::TrainSetup>,
}

impl JobPlan {
    /// Deepest nesting: an object, the setup, what is trained, its numbers.
    const DEPTH: usize = 5;

    /// A node's place in the ring.
    pub(in crate::node) fn stage_of(&self, node: &str) -> Option<usize> {
        self.ring.iter().position(|stage| &*stage.node == node)
    }

    /// The layers of a stage.
    pub(in crate::node) fn shard(&self, stage: usize) -> Option<&Shard> {
        self.ring.get(stage).map(|stage| &stage.shard)
    }

    /// Who has the layers before a stage's.
    pub(in crate::node) fn before(&self, stage: usize) -> Option<&NodeId> {
        let before = self.ring.get(stage.checked_sub(1)?)?;
        Some(&before.node)
    }

    /// Who has the layers after a stage's.
    pub(in crate::node) fn after(&self, stage: usize) -> Option<&NodeId> {
        self.ring.get(stage + 1).map(|stage| &stage.node)
    }

    /// The text that travels.
    pub(in crate::node) fn write(&self) -> Vec<u8> {
        let stage = |stage: &Stage| {
            Json::Array(vec![
                Json::from(stage.node.as_str()),
                Json::from(stage.shard.start),
                Json::from(stage.shard.end),
            ])
        };
        let first = self.ring.first().map(|stage| &stage.shard);
        let json = Json::object([
            ("job", Json::from(self.job.as_str())),
            ("origin", Json::from(self.origin.as_str())),
            ("model", Json::from(first.map(|shard| &*shard.model))),
            ("layers", Json::from(first.map_or(0, |shard| shard.layers))),
            ("fingerprint", Json::from(self.fingerprint)),
            ("ring", Json::Array(self.ring.iter().map(stage).collect())),
            ("setup", setup::write(&self.setup)),
        ]);
        let mut text = Vec::new();
        json.write(&mut text);
        text
    }

    /// Reads a plan of at most `stages` stages.
    pub(in crate::node) fn read(text: &[u8], stages: usize) -> Result<Self, PlanError> {
        let json = Json::parse(text, Self::DEPTH).map_err(|_| PlanError::Json)?;
        let model = ModelId::from(text_of(&json, "model")?);
        let layers = number(&json, "layers")?;
        let (ring, _) = read_ring(&json, &model, layers, stages, Rings::Jobs)?;
        let setup = json.get("setup").ok_or(PlanError::Field("setup"))?;
        Ok(Self {
            job: text_of(&json, "job")?.into(),
            origin: text_of(&json, "origin")?.into(),
            fingerprint: wide(&json, "fingerprint")?,
            ring,
            setup: Arc::new(setup::read(setup)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Optimizer, TrainSetup, Trainable};
    use alloc::string::String;

    fn plan() -> JobPlan {
        let stage = |node: &str, range| Stage {
            node: node.into(),
            shard: Shard::new("m".into(), range, 8).expect("a range of layers"),
        };
        JobPlan {
            job: "j".into(),
            origin: "o".into(),
            fingerprint: u64::MAX,
            ring: vec![stage("b", 0..5), stage("a", 5..8)],
            setup: Arc::new(TrainSetup {
                name: "story.1".into(),
                trainable: Trainable::Lora {
                    rank: 8,
                    scale: 0.1,
                    last_layers: 3,
                },
                optimizer: Optimizer::AdamW { weight_decay: 0.3 },
                learning_rate: 1e-5,
                seed: u64::MAX,
                resume: Some(7),
            }),
        }
    }

    #[test]
    fn a_plan_survives_the_wire() {
        assert_eq!(JobPlan::read(&plan().write(), 4), Ok(plan()));
        let mut other = plan();
        let setup = Arc::make_mut(&mut other.setup);
        setup.trainable = Trainable::Full { last_layers: 0 };
        setup.optimizer = Optimizer::Sgd;
        setup.resume = None;
        assert_eq!(JobPlan::read(&other.write(), 4), Ok(other));
    }

    #[test]
    fn what_is_no_plan_is_refused_by_name() {
        let read = |change: fn(&mut JobPlan)| {
            let mut plan = plan();
            change(&mut plan);
            JobPlan::read(&plan.write(), 2)
        };
        let gap = read(|plan| drop(plan.ring.remove(0)));
        assert_eq!(gap, Err(PlanError::Cover));
        let twice = read(|plan| plan.ring[0].node = "a".into());
        assert_eq!(twice, Err(PlanError::Twice));
        assert_eq!(JobPlan::read(&plan().write(), 1), Err(PlanError::Stages(1)));
        let name = read(|plan| Arc::make_mut(&mut plan.setup).name = "../x".into());
        assert_eq!(name, Err(PlanError::Field("setup.name")));
        let rate = read(|plan| Arc::make_mut(&mut plan.setup).learning_rate = f32::NAN);
        assert_eq!(rate, Err(PlanError::Field("setup.learning_rate")));
        for (there, instead) in [
            (r#""lora""#, r#""qlora""#),
            (r#""adamw""#, r#""adam""#),
            (r#""rank": 8"#, r#""rank": 0"#),
            (r#""rank": 8"#, r#""rank": 8.0"#),
            (r#""resume": 7"#, r#""resume": -7"#),
            (r#""seed": 18446744073709551615"#, r#""seed": null"#),
        ] {
            let text = String::from_utf8(plan().write()).expect("JSON is text");
            let text = text.replace(there, instead);
            let read = JobPlan::read(text.as_bytes(), 4);
            assert!(matches!(read, Err(PlanError::Field(_))), "{text}: {read:?}");
        }
        assert_eq!(JobPlan::read(b"[", 4), Err(PlanError::Json));
    }
}
