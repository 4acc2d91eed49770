//! What a job trains, as JSON and as it may be.

use crate::engine::{Optimizer, TrainSetup, Trainable};
use crate::json::Json;
use crate::node::plan::{PlanError, number, text_of, wide};
use alloc::format;
use alloc::string::String;

/// The longest name of a job.
const LONGEST: usize = 64;

/// What is wrong with a setup, if something is.
pub(super) fn fault(setup: &TrainSetup) -> Option<String> {
    let name = &setup.name;
    let rate = setup.learning_rate;
    if !is_name(name) {
        return Some(format!(
            "the job's name {name:?} names a folder: expected 1 to {LONGEST} letters, digits, '-', \
             '_' and '.', and no dot at its beginning"
        ));
    }
    if !is_amount(rate) {
        return Some(format!(
            "the learning rate {rate} is none: expected zero or more"
        ));
    }
    match setup.trainable {
        Trainable::Lora { rank: 0, .. } => {
            return Some(String::from("adapters of rank 0 learn nothing"));
        }
        Trainable::Lora { scale, .. } if !scale.is_finite() => {
            return Some(format!("the scale {scale} is no number"));
        }
        Trainable::Lora { .. } | Trainable::Full { .. } | Trainable::Nothing => {}
    }
    match setup.optimizer {
        Optimizer::AdamW { weight_decay } if !is_amount(weight_decay) => Some(format!(
            "the weight decay {weight_decay} is none: expected zero or more"
        )),
        Optimizer::AdamW { .. } | Optimizer::Sgd => None,
    }
}

/// It becomes the name of a folder on every stage's machine.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(letter)
}

fn is_amount(value: f32) -> bool {
    value.is_finite() && value >= 0.0
}

pub(super) fn write(setup: &TrainSetup) -> Json {
    let trainable = match setup.trainable {
        Trainable::Lora {
            rank,
            scale,
            last_layers,
        } => Json::object([(
            "lora",
            Json::object([
                ("rank", Json::from(rank)),
                ("scale", Json::Float(scale.into())),
                ("last_layers", Json::from(last_layers)),
            ]),
        )]),
        Trainable::Full { last_layers } => Json::object([(
            "full",
            Json::object([("last_layers", Json::from(last_layers))]),
        )]),
        Trainable::Nothing => Json::object([("nothing", Json::object([]))]),
    };
    let optimizer = match setup.optimizer {
        Optimizer::Sgd => Json::object([("sgd", Json::object([]))]),
        Optimizer::AdamW { weight_decay } => Json::object([(
            "adamw",
            Json::object([("weight_decay", Json::Float(weight_decay.into()))]),
        )]),
    };
    Json::object([
        ("name", Json::from(setup.name.as_str())),
        ("trainable", trainable),
        ("optimizer", optimizer),
        ("learning_rate", Json::Float(setup.learning_rate.into())),
        ("seed", Json::from(setup.seed)),
        ("resume", Json::from(setup.resume)),
    ])
}

pub(super) fn read(json: &Json) -> Result<TrainSetup, PlanError> {
    const TRAINABLE: PlanError = PlanError::Field("setup.trainable");
    const OPTIMIZER: PlanError = PlanError::Field("setup.optimizer");

    let trainable = json.get("trainable").ok_or(TRAINABLE)?;
    let trainable = match (
        trainable.get("lora"),
        trainable.get("full"),
        trainable.get("nothing"),
    ) {
        (Some(lora), None, None) => Trainable::Lora {
            rank: number(lora, "rank")?,
            scale: float(lora, "scale")?,
            last_layers: number(lora, "last_layers")?,
        },
        (None, Some(full), None) => Trainable::Full {
            last_layers: number(full, "last_layers")?,
        },
        (None, None, Some(_)) => Trainable::Nothing,
        _ => return Err(TRAINABLE),
    };
    let optimizer = json.get("optimizer").ok_or(OPTIMIZER)?;
    let optimizer = match (optimizer.get("sgd"), optimizer.get("adamw")) {
        (Some(_), None) => Optimizer::Sgd,
        (None, Some(adamw)) => Optimizer::AdamW {
            weight_decay: float(adamw, "weight_decay")?,
        },
        _ => return Err(OPTIMIZER),
    };
    let resume = match json.get("resume") {
        Some(Json::Null) => None,
        _ => Some(number(json, "resume")?),
    };
    let name = text_of(json, "name")?;
    if !is_name(name) {
        return Err(PlanError::Field("setup.name"));
    }
    let learning_rate = float(json, "learning_rate");
    let setup = TrainSetup {
        name: name.into(),
        trainable,
        optimizer,
        learning_rate: learning_rate.map_err(|_| PlanError::Field("setup.learning_rate"))?,
        seed: wide(json, "seed")?,
        resume,
    };
    match fault(&setup) {
        Some(_) => Err(PlanError::Field("setup")),
        None => Ok(setup),
    }
}

/// Narrowing is exact: the value was an `f32` before it was written.
fn float(json: &Json, key: &'static str) -> Result<f32, PlanError> {
    let value = json.get(key).and_then(Json::as_f64);
    value.map(|value| value as f32).ok_or(PlanError::Field(key))
}
