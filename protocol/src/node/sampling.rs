//! How to choose tokens, as it stands in a plan.

use super::plan::{PlanError, number, wide};
use crate::engine::{Sampling, Scores, Shaping};
use crate::json::Json;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// The object under `sampling`. What changes nothing is left out, as it was before there was any.
pub(super) fn write_sampling(sampling: &Sampling) -> Json {
    let mut entries = vec![
        ("temperature", Json::Float(sampling.temperature.into())),
        ("top_p", Json::Float(sampling.top_p.into())),
        ("top_k", Json::from(sampling.top_k)),
        ("seed", Json::Uint(sampling.seed)),
    ];
    let shaping = sampling.shaping.as_deref().cloned().unwrap_or_default();
    let usual = Shaping::default();
    for (key, value, usual) in [
        ("min_p", shaping.min_p, usual.min_p),
        ("repetition_penalty", shaping.repetition, usual.repetition),
        ("frequency_penalty", shaping.frequency, usual.frequency),
        ("presence_penalty", shaping.presence, usual.presence),
    ] {
        if value != usual {
            entries.push((key, Json::Float(value.into())));
        }
    }
    if !shaping.bias.is_empty() {
        let pair = |(token, bias): &(u32, f32)| {
            Json::Array(vec![Json::from(*token), Json::Float((*bias).into())])
        };
        let pairs = shaping.bias.iter().map(pair).collect();
        entries.push(("logit_bias", Json::Array(pairs)));
    }
    if let Some(grammar) = &shaping.grammar {
        entries.push(("grammar", Json::from(&**grammar)));
    }
    if !shaping.forced.is_empty() {
        let tokens = shaping.forced.iter().map(|&token| Json::from(token));
        entries.push(("forced", Json::Array(tokens.collect())));
    }
    if let Some(scores) = sampling.scores {
        entries.push(("scores", Json::from(u32::from(scores))));
    }
    Json::object(entries)
}

/// Reads the object under `sampling` of a plan.
pub(super) fn read_sampling(plan: &Json) -> Result<Sampling, PlanError> {
    let sampling = plan.get("sampling").ok_or(PlanError::Field("sampling"))?;
    // Narrowing is exact: the values were `f32` before they were written.
    let float = |key, field| {
        let value = sampling.get(key).and_then(Json::as_f64);
        value
            .map(|value| value as f32)
            .ok_or(PlanError::Field(field))
    };
    let optional = |key, field, usual| match sampling.get(key) {
        Some(_) => float(key, field),
        None => Ok(usual),
    };
    let usual = Shaping::default();
    let shaping = Shaping {
        min_p: optional("min_p", "sampling.min_p", usual.min_p)?,
        repetition: optional(
            "repetition_penalty",
            "sampling.repetition_penalty",
            usual.repetition,
        )?,
        frequency: optional(
            "frequency_penalty",
            "sampling.frequency_penalty",
            usual.frequency,
        )?,
        presence: optional(
            "presence_penalty",
            "sampling.presence_penalty",
            usual.presence,
        )?,
        bias: read_bias(sampling)?,
        grammar: read_grammar(sampling)?,
        forced: read_forced(sampling)?,
        answer: Vec::new(),
    };
    Ok(Sampling {
        temperature: float("temperature", "sampling.temperature")?,
        top_p: float("top_p", "sampling.top_p")?,
        top_k: number(sampling, "top_k")?,
        seed: wide(sampling, "seed")?,
        shaping: (!shaping.is_nothing()).then(|| Arc::new(shaping)),
        scores: read_scores(sampling)?,
    })
}

fn read_grammar(sampling: &Json) -> Result<Option<Arc<str>>, PlanError> {
    let Some(grammar) = sampling.get("grammar") else {
        return Ok(None);
    };
    let text = grammar
        .as_str()
        .filter(|text| text.len() <= Shaping::GRAMMAR);
    text.map(|text| Some(text.into()))
        .ok_or(PlanError::Field("sampling.grammar"))
}

/// A grammar says what comes from the beginning on, so that both together would mean nothing.
fn read_forced(sampling: &Json) -> Result<Vec<u32>, PlanError> {
    const WRONG: PlanError = PlanError::Field("sampling.forced");
    let Some(forced) = sampling.get("forced") else {
        return Ok(Vec::new());
    };
    let tokens = forced.as_array().ok_or(WRONG)?;
    if tokens.len() > Shaping::FORCED || sampling.get("grammar").is_some() {
        return Err(WRONG);
    }
    let token = |json: &Json| u32::try_from(json.as_u64()?).ok();
    tokens.iter().map(token).collect::<Option<_>>().ok_or(WRONG)
}

fn read_scores(sampling: &Json) -> Result<Option<u8>, PlanError> {
    let Some(scores) = sampling.get("scores") else {
        return Ok(None);
    };
    let count = scores.as_u64().and_then(|count| u8::try_from(count).ok());
    count
        .filter(|&count| usize::from(count) <= Scores::MOST)
        .map(Some)
        .ok_or(PlanError::Field("sampling.scores"))
}

fn read_bias(sampling: &Json) -> Result<Vec<(u32, f32)>, PlanError> {
    const WRONG: PlanError = PlanError::Field("sampling.logit_bias");
    let Some(bias) = sampling.get("logit_bias") else {
        return Ok(Vec::new());
    };
    let pairs = bias.as_array().ok_or(WRONG)?;
    if pairs.len() > Shaping::BIASES {
        return Err(WRONG);
    }
    let pair = |json: &Json| {
        let [token, bias] = json.as_array()? else {
            return None;
        };
        let token = u32::try_from(token.as_u64()?).ok()?;
        Some((token, bias.as_f64()? as f32))
    };
    pairs.iter().map(pair).collect::<Option<_>>().ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sampling: Json) -> Result<Sampling, PlanError> {
        read_sampling(&Json::object([("sampling", sampling)]))
    }

    #[test]
    fn what_changes_nothing_is_not_written() {
        let text = |sampling: &Sampling| {
            let mut text = Vec::new();
            write_sampling(sampling).write(&mut text);
            text
        };
        let plain = Sampling::default();
        assert_eq!(
            text(&plain),
            br#"{"temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": 0}"#
        );
        let idle = Sampling {
            shaping: Some(Arc::default()),
            ..plain
        };
        assert_eq!(text(&idle), text(&plain));
        assert_eq!(read(write_sampling(&idle)), Ok(plain));
    }

    #[test]
    fn shaping_survives_the_wire() {
        let sampling = Sampling {
            temperature: 0.7,
            shaping: Some(Arc::new(Shaping {
                min_p: 0.1,
                repetition: 1.1,
                frequency: -0.5,
                presence: 2.0,
                bias: vec![(7, -100.0), (u32::MAX, 0.3)],
                grammar: Some("{\"any\": []}".into()),
                ..Shaping::default()
            })),
            scores: Some(20),
            ..Sampling::default()
        };
        assert_eq!(read(write_sampling(&sampling)), Ok(sampling));
        let forced = Sampling {
            shaping: Some(Arc::new(Shaping {
                forced: vec![0, u32::MAX],
                ..Shaping::default()
            })),
            ..Sampling::default()
        };
        assert_eq!(read(write_sampling(&forced)), Ok(forced));
    }

    #[test]
    fn mistakes_are_named() {
        for (key, value) in [
            ("min_p", Json::from("x")),
            ("frequency_penalty", Json::Null),
            ("logit_bias", Json::from(5_u32)),
            ("grammar", Json::from(5_u32)),
            (
                "grammar",
                Json::from("x".repeat(Shaping::GRAMMAR + 1).as_str()),
            ),
            ("forced", Json::from(5_u32)),
            ("forced", Json::Array(vec![Json::Int(-1)])),
            (
                "forced",
                Json::Array(vec![Json::Int(1); Shaping::FORCED + 1]),
            ),
            ("scores", Json::from(21_u32)),
            ("scores", Json::from("x")),
            ("logit_bias", Json::Array(vec![Json::from(5_u32)])),
            (
                "logit_bias",
                Json::Array(vec![Json::Array(vec![]); Shaping::BIASES + 1]),
            ),
        ] {
            let mut json = write_sampling(&Sampling::default());
            if let Json::Object(entries) = &mut json {
                entries.push((key.into(), value));
            }
            let Err(PlanError::Field(field)) = read(json) else {
                panic!("{key} was read");
            };
            assert!(field.ends_with(key), "{field}");
        }
    }
}
