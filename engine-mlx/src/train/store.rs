//! Parameters to and from checkpoints.

use super::Base;
use super::name::{ParameterName, Part};
use super::optimizer::Moments;
use super::parameters::{Parameters, learns};
use crate::checkpoint::{
    self, Adapter, AdapterIdentity, CheckpointError, CheckpointFile, CheckpointName, Hash,
};
use crate::shard::ShardModel;
use crate::tensor::{from_bytes, to_bytes};
use crate::{MlxError, TrainError};
use exo_protocol::engine::{Optimizer, TrainSetup, Trainable};
use mlx_rs::{Array, Dtype};
use std::collections::BTreeMap;
use std::path::Path;

/// The first line of what a file says about itself.
const FORMAT: &str = "exo-checkpoint 1";

/// A job's checkpoints, where this node keeps them.
///
/// # Errors
/// When it keeps none, or the job's name is no folder's.
pub(super) fn place(
    setup: &TrainSetup,
    iteration: u32,
    folder: Option<&Path>,
) -> Result<Adapter, CheckpointError> {
    if !checkpoint::is_job_name(&setup.name) {
        return Err(CheckpointError::Name(setup.name.clone()));
    }
    let folder = folder.ok_or(CheckpointError::NoFolder)?;
    Ok(Adapter {
        folder: folder.join(&setup.name),
        iteration,
    })
}

/// What a job is: the same on all its stages, in all its checkpoints.
fn identity(base: Base<'_>, setup: &TrainSetup) -> u64 {
    let mut hash = Hash::new();
    hash.text(FORMAT).text(&setup.name).number(base.fingerprint);
    hash.number(setup.seed).text(&said(&setup.trainable));
    hash.value()
}

/// What learns, in words that are kept.
fn said(trainable: &Trainable) -> String {
    match trainable {
        Trainable::Lora {
            rank,
            scale,
            last_layers,
        } => format!("lora rank={rank} scale={scale} last_layers={last_layers}"),
        Trainable::Full { last_layers } => format!("full last_layers={last_layers}"),
        Trainable::Nothing => "nothing".to_owned(),
    }
}

/// Reads what [`said`] wrote.
fn understood(text: &str) -> Option<Trainable> {
    let mut words = text.split(' ');
    let kind = words.next()?;
    let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
    match kind {
        "lora" => Some(Trainable::Lora {
            rank: value("rank")?.parse().ok()?,
            scale: value("scale")?.parse().ok()?,
            last_layers: value("last_layers")?.parse().ok()?,
        }),
        "full" => Some(Trainable::Full {
            last_layers: value("last_layers")?.parse().ok()?,
        }),
        _ => None,
    }
}

/// Writes the parameters of a shard, and what the optimiser remembers; returns the file's name.
pub(super) fn save(
    base: Base<'_>,
    setup: &TrainSetup,
    place: &Adapter,
    parameters: &Parameters,
    moments: &[Moments],
) -> Result<String, MlxError> {
    let range = &base.model.range;
    let name = CheckpointName {
        iteration: place.iteration,
        first: range.start,
        last: range.end.saturating_sub(1),
    };
    let optimizer = match setup.optimizer {
        Optimizer::Sgd => "sgd".to_owned(),
        Optimizer::AdamW { weight_decay } => format!("adamw weight_decay={weight_decay}"),
    };
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("job", setup.name.clone()),
        ("model", base.id.to_owned()),
        ("fingerprint", format!("{:016x}", base.fingerprint)),
        ("identity", format!("{:016x}", identity(base, setup))),
        ("iteration", place.iteration.to_string()),
        ("layers", base.model.config.layers.to_string()),
        ("trainable", said(&setup.trainable)),
        ("optimizer", optimizer),
        ("learning_rate", setup.learning_rate.to_string()),
        ("seed", setup.seed.to_string()),
    ];
    let mut arrays: Vec<(String, &Array)> = Vec::new();
    for (index, name) in parameters.names.iter().enumerate() {
        if let Some(value) = parameters.values.get(index) {
            arrays.push((name.to_string(), value));
        }
        if let Some(Moments { first, second }) = moments.get(index) {
            let [a, b] = of_moments(*name);
            arrays.extend([(a, first), (b, second)]);
        }
    }
    let shapes = arrays.iter();
    let shapes = shapes.map(|(name, array)| (name.clone(), array.shape().to_vec()));
    let shapes: Vec<_> = shapes.collect();
    checkpoint::write(
        &place.path(name),
        &metadata,
        &shapes,
        |index| match arrays.get(index) {
            Some((name, array)) => {
                to_bytes(array).map_err(|error| MlxError::mlx(format!("writing {name}"), error))
            }
            None => Ok(Vec::new()),
        },
    )?;
    Ok(name.to_string())
}

fn of_moments(name: ParameterName) -> [String; 2] {
    ["first", "second"].map(|moment| format!("adamw.{moment}.{name}"))
}

/// The layers of a shard that learn.
fn learning(shard: &ShardModel, trainable: &Trainable) -> Vec<u32> {
    let (Trainable::Lora { last_layers, .. } | Trainable::Full { last_layers }) = *trainable else {
        return Vec::new();
    };
    let layers = shard.range.clone();
    let depth = shard.config.layers;
    layers.filter(|n| learns(depth, last_layers, *n)).collect()
}

/// Which file of a checkpoint has which of `layers`.
fn files(
    place: &Adapter,
    layers: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, CheckpointName>, CheckpointError> {
    let names = place.names()?;
    let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
    for layer in layers {
        let has = |name: &&CheckpointName| {
            name.iteration == place.iteration && (name.first..=name.last).contains(&layer)
        };
        match names.iter().find(has) {
            Some(name) => drop(found.insert(layer, *name)),
            None => missing.push(layer),
        }
    }
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(place.missing(missing, &names))
    }
}

/// Reads the values that a checkpoint has for `parameters`, and for AdamW its moments.
pub(super) fn resume(
    base: Base<'_>,
    setup: &TrainSetup,
    place: &Adapter,
    parameters: &mut Parameters,
    moments: &mut [Moments],
) -> Result<(), MlxError> {
    let expected = identity(base, setup);
    let check = |file: &CheckpointFile| {
        let other = |field, expected, found| CheckpointError::Other {
            file: file.path().to_owned(),
            field,
            expected,
            found,
        };
        if file.hex("identity")? == expected {
            return Ok(());
        }
        // What differs, so that somebody can do something about it.
        let here = [
            ("trainable", said(&setup.trainable)),
            ("seed", setup.seed.to_string()),
            ("fingerprint", format!("{:016x}", base.fingerprint)),
        ];
        for (field, expected) in here {
            let found = file.text(field)?;
            if found != expected {
                return Err(other(field, expected, found.to_owned()));
            }
        }
        let found = file.text("job")?.to_owned();
        Err(other("name", setup.name.clone(), found))
    };
    let shard = base.model;
    let mut store = Store::open(place, learning(shard, &setup.trainable), check)?;
    for (index, name) in parameters.names.iter().enumerate() {
        if let Some(value) = parameters.values.get_mut(index) {
            *value = store.read(*name, &name.to_string(), value.shape())?;
        }
        if let Some(Moments { first, second }) = moments.get_mut(index) {
            let [a, b] = of_moments(*name);
            *first = store.read(*name, &a, first.shape())?;
            *second = store.read(*name, &b, second.shape())?;
        }
    }
    Ok(())
}

/// The files of a checkpoint, open.
struct Store {
    of_layer: BTreeMap<u32, CheckpointName>,
    open: BTreeMap<CheckpointName, CheckpointFile>,
}

impl Store {
    fn open(
        place: &Adapter,
        layers: impl IntoIterator<Item = u32>,
        check: impl Fn(&CheckpointFile) -> Result<(), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let of_layer = files(place, layers)?;
        let mut open = BTreeMap::new();
        for name in of_layer.values() {
            if !open.contains_key(name) {
                let file = CheckpointFile::open(&place.path(*name))?;
                let format = file.text("format")?;
                if format != FORMAT {
                    let why = format!("its format is {format:?}, expected {FORMAT:?}");
                    return Err(file.damaged(why));
                }
                check(&file)?;
                open.insert(*name, file);
            }
        }
        Ok(Self { of_layer, open })
    }

    fn read(
        &mut self,
        name: ParameterName,
        tensor: &str,
        shape: &[i32],
    ) -> Result<Array, MlxError> {
        let file = self.of_layer.get(&name.layer);
        let file = file.and_then(|file| self.open.get_mut(file));
        let missing = || TrainError::Input(format!("{name} is of another shard"));
        let bytes = file.ok_or_else(missing)?.read(tensor, shape)?;
        from_bytes(&bytes, shape, Dtype::Float32)
            .map_err(|error| MlxError::mlx(format!("reading {tensor}"), error))
    }
}

/// Gives a loaded shard what a job learned, if it learned it on this model. Returns what the model
/// is then.
///
/// # Errors
/// When the adapter was learned on another version of the model, some layers of it are not here,
/// or its files are damaged.
pub(crate) fn adapt(
    shard: &mut ShardModel,
    id: &str,
    fingerprint: u64,
    adapter: &Adapter,
) -> Result<Option<u64>, MlxError> {
    let AdapterIdentity {
        model,
        fingerprint: learned_on,
        adapted,
    } = adapter.identity()?;
    if learned_on != fingerprint {
        if model != id {
            return Ok(None);
        }
        return Err(CheckpointError::Other {
            file: adapter.folder.clone(),
            field: "model",
            expected: format!("{id} ({fingerprint:016x})"),
            found: format!("{model} ({learned_on:016x})"),
        }
        .into());
    }
    let check = |file: &CheckpointFile| {
        let found = AdapterIdentity::of(file)?.adapted;
        if found == adapted {
            return Ok(());
        }
        Err(CheckpointError::Other {
            file: file.path().to_owned(),
            field: "identity",
            expected: format!("{adapted:016x}"),
            found: format!("{found:016x}"),
        })
    };
    let names = adapter.names()?;
    let any = names
        .iter()
        .find(|name| name.iteration == adapter.iteration);
    let any = any.ok_or_else(|| adapter.missing(Vec::new(), &names))?;
    let file = CheckpointFile::open(&adapter.path(*any))?;
    let text = file.text("trainable")?;
    let trainable = understood(text)
        .ok_or_else(|| file.damaged(format!("it does not say what learned, but {text:?}")))?;
    let mut store = Store::open(adapter, learning(shard, &trainable), check)?;
    let setup = TrainSetup {
        name: String::new(),
        trainable,
        optimizer: Optimizer::Sgd,
        learning_rate: 0.0,
        seed: 0,
        resume: None,
    };
    let base = Base {
        model: shard,
        id,
        fingerprint,
    };
    let mut parameters = Parameters::new(base, &setup)?;
    for (name, value) in parameters.names.iter().zip(&mut parameters.values) {
        *value = store.read(*name, &name.to_string(), value.shape())?;
        if name.part != Part::Whole {
            // Adapters are computed in what the shard computes with.
            *value = value
                .as_dtype(shard.dtype)
                .map_err(|error| MlxError::mlx(format!("reading {name}"), error))?;
        }
    }
    let placed = parameters.placed(shard, &parameters.values);
    let placed = placed.map_err(|error| MlxError::mlx("putting an adapter in place", error))?;
    for (layer, parameters) in shard.layers.iter_mut().zip(placed) {
        layer.parameters = parameters;
    }
    Ok(Some(adapted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_learns_is_read_as_it_is_written() {
        for trainable in [
            Trainable::Lora {
                rank: 8,
                scale: 0.1,
                last_layers: 16,
            },
            Trainable::Full { last_layers: 0 },
        ] {
            assert_eq!(understood(&said(&trainable)), Some(trainable));
        }
        for text in [
            "",
            "nothing",
            "lora",
            "lora rank=8",
            "full last_layers=-1",
            "full x=1",
        ] {
            assert_eq!(understood(text), None, "{text}");
        }
    }
}
