//! What a request carries from stage to stage besides its tensor: its frozen ring and how to sample.
//!
//! Between our own nodes it travels in the `inference_state` of prompts and tensors, under the key
//! `exo`. A reference peer never gets one: its engine takes every key for an argument.

use super::output::Stage;
use crate::engine::Sampling;
use crate::id::{ModelId, NodeId};
use crate::json::Json;
use crate::shard::Shard;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// The key of [`Step`] in an inference state.
const KEY: &str = "exo";

/// The version of this form of inference state.
const VERSION: u64 = 1;

/// Where a request stands when it enters a stage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// Positions that the receiving stage has in its KV cache already.
    pub(super) position: u32,
    /// The whole plan, with the first step of a request only.
    pub(super) plan: Option<Plan>,
}

/// What every stage must know of a request, once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Who gets the tokens.
    pub(super) origin: NodeId,
    /// The stages in order.
    pub(super) ring: Vec<Stage>,
    /// How the last stage chooses tokens.
    pub(super) sampling: Sampling,
    /// Most tokens to generate.
    pub(super) max_tokens: u32,
}

/// Why an inference state is not one of ours although it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StateError {
    #[error("inference_state.exo.v is not {VERSION}")]
    Version,
    #[error("inference_state.exo.{0} is missing or of the wrong type")]
    Field(&'static str),
    #[error("inference_state.exo.ring does not cover the layers of the model one after another")]
    Cover,
    #[error("inference_state.exo.ring has more than {0} stages")]
    Stages(usize),
}

impl Step {
    /// The inference state that carries it.
    pub(super) fn to_json(&self) -> Json {
        let mut fields = vec![
            (String::from("v"), Json::Uint(VERSION)),
            (String::from("position"), Json::Uint(self.position.into())),
        ];
        if let Some(plan) = &self.plan {
            fields.extend(plan.fields());
        }
        Json::Object(vec![(String::from(KEY), Json::Object(fields))])
    }

    /// Reads an inference state; `None` if it is not one of ours.
    pub(super) fn from_json(
        state: Option<&Json>,
        model: &ModelId,
        layers: u32,
        max_stages: usize,
    ) -> Result<Option<Self>, StateError> {
        let Some(exo) = state.and_then(|state| state.get(KEY)) else {
            return Ok(None);
        };
        if exo.get("v").and_then(Json::as_u64) != Some(VERSION) {
            return Err(StateError::Version);
        }
        let position = number(exo, "position")?;
        let plan = match exo.get("ring") {
            Some(_) => Some(Plan::from_json(exo, model, layers, max_stages)?),
            None => None,
        };
        Ok(Some(Self { position, plan }))
    }
}

impl Plan {
    fn fields(&self) -> Vec<(String, Json)> {
        let stage = |stage: &Stage| {
            Json::Array(vec![
                Json::String(stage.node.as_str().into()),
                Json::Uint(stage.shard.start.into()),
                Json::Uint(stage.shard.end.into()),
            ])
        };
        let sampling = Json::Object(vec![
            (
                String::from("temperature"),
                Json::Float(self.sampling.temperature.into()),
            ),
            (
                String::from("top_p"),
                Json::Float(self.sampling.top_p.into()),
            ),
            (
                String::from("top_k"),
                Json::Uint(self.sampling.top_k.into()),
            ),
            (String::from("seed"), Json::Uint(self.sampling.seed)),
        ]);
        vec![
            (
                String::from("origin"),
                Json::String(self.origin.as_str().into()),
            ),
            (
                String::from("ring"),
                Json::Array(self.ring.iter().map(stage).collect()),
            ),
            (String::from("sampling"), sampling),
            (
                String::from("max_tokens"),
                Json::Uint(self.max_tokens.into()),
            ),
        ]
    }

    fn from_json(
        exo: &Json,
        model: &ModelId,
        layers: u32,
        max_stages: usize,
    ) -> Result<Self, StateError> {
        let origin = exo
            .get("origin")
            .and_then(Json::as_str)
            .ok_or(StateError::Field("origin"))?;
        let stages = exo
            .get("ring")
            .and_then(Json::as_array)
            .ok_or(StateError::Field("ring"))?;
        if stages.len() > max_stages {
            return Err(StateError::Stages(max_stages));
        }
        let mut ring = Vec::with_capacity(stages.len());
        let mut next = 0;
        for stage in stages {
            let [node, start, end] = stage.as_array().ok_or(StateError::Field("ring"))? else {
                return Err(StateError::Field("ring"));
            };
            let node = node.as_str().ok_or(StateError::Field("ring"))?;
            let layer = |json: &Json| json.as_u64().and_then(|layer| u32::try_from(layer).ok());
            let start = layer(start).ok_or(StateError::Field("ring"))?;
            let end = layer(end).ok_or(StateError::Field("ring"))?;
            if start != next || end < start || end >= layers {
                return Err(StateError::Cover);
            }
            next = end + 1;
            let shard = Shard {
                model: model.clone(),
                start,
                end,
                layers,
            };
            ring.push(Stage {
                node: node.into(),
                shard,
            });
        }
        if next != layers {
            return Err(StateError::Cover);
        }
        let sampling = exo.get("sampling").ok_or(StateError::Field("sampling"))?;
        let float = |key, field| {
            let value = sampling.get(key).and_then(Json::as_f64);
            // Narrowing is exact: the value was an `f32` before it was written.
            value
                .map(|value| value as f32)
                .ok_or(StateError::Field(field))
        };
        Ok(Self {
            origin: origin.into(),
            ring,
            sampling: Sampling {
                temperature: float("temperature", "sampling.temperature")?,
                top_p: float("top_p", "sampling.top_p")?,
                top_k: number(sampling, "top_k")?,
                seed: sampling
                    .get("seed")
                    .and_then(Json::as_u64)
                    .ok_or(StateError::Field("sampling.seed"))?,
            },
            max_tokens: number(exo, "max_tokens")?,
        })
    }
}

fn number(object: &Json, key: &'static str) -> Result<u32, StateError> {
    let value = object.get(key).and_then(Json::as_u64);
    value
        .and_then(|value| u32::try_from(value).ok())
        .ok_or(StateError::Field(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        let model = ModelId::from("m");
        let stage = |node: &str, range| Stage {
            node: node.into(),
            shard: Shard::new(model.clone(), range, 8).expect("a range of layers"),
        };
        Step {
            position: 0,
            plan: Some(Plan {
                origin: "a".into(),
                ring: vec![stage("b", 0..5), stage("a", 5..8)],
                sampling: Sampling {
                    temperature: 0.7,
                    top_p: 0.9,
                    top_k: 40,
                    seed: u64::MAX,
                },
                max_tokens: 12,
            }),
        }
    }

    #[test]
    fn a_step_survives_the_wire() {
        for step in [
            step(),
            Step {
                position: 77,
                plan: None,
            },
        ] {
            let mut text = Vec::new();
            step.to_json().write(&mut text);
            let json = Json::parse(&text, 16).expect("what was written is JSON");
            assert_eq!(
                Step::from_json(Some(&json), &"m".into(), 8, 4),
                Ok(Some(step))
            );
        }
    }

    #[test]
    fn other_states_are_not_ours_and_broken_ones_are_refused() {
        let read = |json: Json| Step::from_json(Some(&json), &"m".into(), 8, 4);
        assert_eq!(Step::from_json(None, &"m".into(), 8, 4), Ok(None));
        assert_eq!(read(Json::Object(vec![])), Ok(None));
        assert_eq!(read(Json::Array(vec![])), Ok(None));
        assert_eq!(
            Step::from_json(Some(&step().to_json()), &"m".into(), 9, 4),
            Err(StateError::Cover)
        );
        assert_eq!(
            Step::from_json(Some(&step().to_json()), &"m".into(), 8, 1),
            Err(StateError::Stages(1))
        );
        let mut gap = step();
        if let Some(plan) = &mut gap.plan {
            plan.ring.remove(0);
        }
        assert_eq!(read(gap.to_json()), Err(StateError::Cover));
    }
}
