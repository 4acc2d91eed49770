//! What decides what a job learns, apart from its data: kept with its checkpoints, so that a job
//! goes on as it began.

use crate::cli::{Args, OptimizerKind, UsageError};
use exo_protocol::engine::{Optimizer, Trainable};
use serde_json::{Map, Value, json};

/// What a job learns and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What changes.
    pub trainable: Trainable,
    /// How it changes.
    pub optimizer: Optimizer,
    /// How far in a step.
    pub learning_rate: f32,
    /// Decides the order of the data and the first numbers of adapters.
    pub seed: u64,
    /// Sequences of a step.
    pub batch_size: u32,
    /// Most tokens of a sequence.
    pub max_seq_length: u32,
    /// Learn only the last message of a conversation.
    pub mask_prompt: bool,
}

/// The defaults are those of `mlx_lm.lora`; its Adam is AdamW here.
impl Default for Recipe {
    fn default() -> Self {
        Self {
            trainable: LORA,
            optimizer: Optimizer::AdamW {
                weight_decay: WEIGHT_DECAY,
            },
            learning_rate: 1e-5,
            seed: 0,
            batch_size: 4,
            max_seq_length: 2048,
            mask_prompt: false,
        }
    }
}

const LORA: Trainable = Trainable::Lora {
    rank: 8,
    scale: 20.0,
    last_layers: 16,
};

const WEIGHT_DECAY: f32 = 0.01;

/// Sequences of a step: beyond this nobody has the memory.
const MAX_BATCH: u32 = 4096;

impl Recipe {
    /// This recipe with what the command line changes.
    ///
    /// # Errors
    /// When flags contradict each other or are out of range.
    pub fn with(&self, args: &Args) -> Result<Self, UsageError> {
        let recipe = Self {
            trainable: trainable(&self.trainable, args)?,
            optimizer: optimizer(self.optimizer, args)?,
            learning_rate: args.learning_rate.unwrap_or(self.learning_rate),
            seed: args.seed.unwrap_or(self.seed),
            batch_size: args.batch_size.unwrap_or(self.batch_size),
            max_seq_length: args.max_seq_length.unwrap_or(self.max_seq_length),
            mask_prompt: args.mask_prompt || self.mask_prompt,
        };
        if !(1..=MAX_BATCH).contains(&recipe.batch_size) {
            let message = format!("--batch-size must be from 1 to {MAX_BATCH}");
            return Err(UsageError(message));
        }
        if recipe.max_seq_length < 2 {
            return Err(UsageError("--max-seq-length must be at least 2".into()));
        }
        if !(recipe.learning_rate.is_finite() && recipe.learning_rate > 0.0) {
            return Err(UsageError("--learning-rate must be above 0".into()));
        }
        Ok(recipe)
    }

    /// The recipe of a job that goes on. Only the learning rate may be changed: anything else would
    /// make another job of it.
    ///
    /// # Errors
    /// When a flag says something else than the job's recipe.
    pub fn resumed(&self, args: &Args) -> Result<Self, UsageError> {
        let wanted = self.with(args)?;
        let differs = [
            ("what is trained", wanted.trainable != self.trainable),
            ("--optimizer", wanted.optimizer != self.optimizer),
            ("--seed", wanted.seed != self.seed),
            ("--batch-size", wanted.batch_size != self.batch_size),
            (
                "--max-seq-length",
                wanted.max_seq_length != self.max_seq_length,
            ),
            ("--mask-prompt", wanted.mask_prompt != self.mask_prompt),
        ];
        match differs.into_iter().find(|(_, differs)| *differs) {
            None => Ok(wanted),
            Some((flag, _)) => Err(UsageError(format!(
                "{flag} is another than the resumed job began with: it goes on as it began, only \
                 --learning-rate may change; leave the flag out, or begin a new job"
            ))),
        }
    }

    /// As it is kept in a job's file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let trainable = match self.trainable {
            Trainable::Lora {
                rank,
                scale,
                last_layers,
            } => {
                json!({"lora": {"rank": rank, "scale": number(scale), "last_layers": last_layers}})
            }
            Trainable::Full { last_layers } => json!({"full": {"last_layers": last_layers}}),
            Trainable::Nothing => json!("nothing"),
        };
        let optimizer = match self.optimizer {
            Optimizer::Sgd => json!("sgd"),
            Optimizer::AdamW { weight_decay } => {
                json!({"adamw": {"weight_decay": number(weight_decay)}})
            }
        };
        json!({
            "trainable": trainable,
            "optimizer": optimizer,
            "learning_rate": number(self.learning_rate),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "max_seq_length": self.max_seq_length,
            "mask_prompt": self.mask_prompt,
        })
    }

    /// Reads what [`Recipe::to_json`] wrote.
    ///
    /// # Errors
    /// The name of the field that is missing or wrong.
    pub fn from_json(value: &Value) -> Result<Self, &'static str> {
        let field = |name: &'static str| value.get(name).ok_or(name);
        let float = |value: Option<&Value>| value.and_then(Value::as_f64).map(|x| x as f32);
        let count = |value: Option<&Value>| {
            value
                .and_then(Value::as_u64)
                .and_then(|n| u32::try_from(n).ok())
        };
        let inner = |value: &Value, name: &str| value.get(name).cloned();
        let trainable = field("trainable")?;
        let trainable = if let Some(lora) = inner(trainable, "lora") {
            Trainable::Lora {
                rank: count(lora.get("rank")).ok_or("rank")?,
                scale: float(lora.get("scale")).ok_or("scale")?,
                last_layers: count(lora.get("last_layers")).ok_or("last_layers")?,
            }
        } else if let Some(full) = inner(trainable, "full") {
            Trainable::Full {
                last_layers: count(full.get("last_layers")).ok_or("last_layers")?,
            }
        } else {
            return Err("trainable");
        };
        let optimizer = match field("optimizer")? {
            Value::String(name) if name == "sgd" => Optimizer::Sgd,
            other => Optimizer::AdamW {
                weight_decay: inner(other, "adamw")
                    .and_then(|adamw| float(adamw.get("weight_decay")))
                    .ok_or("optimizer")?,
            },
        };
        Ok(Self {
            trainable,
            optimizer,
            learning_rate: float(value.get("learning_rate")).ok_or("learning_rate")?,
            seed: field("seed")?.as_u64().ok_or("seed")?,
            batch_size: count(value.get("batch_size")).ok_or("batch_size")?,
            max_seq_length: count(value.get("max_seq_length")).ok_or("max_seq_length")?,
            mask_prompt: field("mask_prompt")?.as_bool().ok_or("mask_prompt")?,
        })
    }
}

/// A number whose nearest single-precision float is `value`, with few digits for people.
fn number(value: f32) -> Value {
    let short = value.to_string().parse::<f64>();
    short.map_or_else(|_| Map::new().into(), |value| json!(value))
}

fn trainable(usual: &Trainable, args: &Args) -> Result<Trainable, UsageError> {
    let lora = [
        ("--lora-rank", args.lora_rank.is_some()),
        ("--lora-scale", args.lora_scale.is_some()),
        ("--lora-layers", args.lora_layers.is_some()),
    ];
    let lora = lora.into_iter().find(|(_, given)| *given);
    if let Some(last_layers) = args.full_layers {
        return match lora {
            None => Ok(Trainable::Full { last_layers }),
            Some((flag, _)) => Err(UsageError(format!(
                "{flag} is about adapters; --full-layers trains the weights themselves"
            ))),
        };
    }
    let usual = match (usual, lora) {
        (Trainable::Lora { .. }, _) => usual,
        (_, None) => return Ok(usual.clone()),
        (_, Some(_)) => &LORA,
    };
    let Trainable::Lora {
        rank,
        scale,
        last_layers,
    } = *usual
    else {
        return Ok(usual.clone());
    };
    let (rank, scale) = (
        args.lora_rank.unwrap_or(rank),
        args.lora_scale.unwrap_or(scale),
    );
    if rank == 0 {
        return Err(UsageError("--lora-rank must be at least 1".into()));
    }
    if !(scale.is_finite() && scale != 0.0) {
        return Err(UsageError(
            "--lora-scale must be a number other than 0".into(),
        ));
    }
    Ok(Trainable::Lora {
        rank,
        scale,
        last_layers: args.lora_layers.unwrap_or(last_layers),
    })
}

fn optimizer(usual: Optimizer, args: &Args) -> Result<Optimizer, UsageError> {
    let usual_decay = match usual {
        Optimizer::AdamW { weight_decay } => weight_decay,
        Optimizer::Sgd => WEIGHT_DECAY,
    };
    let kind = args.optimizer.unwrap_or(match usual {
        Optimizer::AdamW { .. } => OptimizerKind::AdamW,
        Optimizer::Sgd => OptimizerKind::Sgd,
    });
    match (kind, args.weight_decay) {
        (OptimizerKind::Sgd, None) => Ok(Optimizer::Sgd),
        (OptimizerKind::Sgd, Some(_)) => Err(UsageError("--weight-decay goes with adamw".into())),
        (OptimizerKind::AdamW, decay) => {
            let weight_decay = decay.unwrap_or(usual_decay);
            if (0.0..1.0).contains(&weight_decay) {
                Ok(Optimizer::AdamW { weight_decay })
            } else {
                Err(UsageError("--weight-decay must be from 0 to 1".into()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
