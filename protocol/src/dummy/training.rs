//! The dummy learns, too: one number for each layer, with a gradient that is easy to check.
//!
//! A token `t` is the value `x = (t mod 16) / 16`, in a hidden state of width one. Layer `l` makes
//! `x (1 + w) + (l + 1) / 64` of it, and what is learned is `w`. The loss is the mean of the squared
//! distances to the targets, taken as values alike. All sums go position by position, so that a ring
//! finds the same numbers, bit for bit, however the layers are cut.
//!
//! Checkpoints are kept in the engine, there being no disk here; another engine has none of them.

use crate::engine::{
    EngineFailure, ExampleInput, FailureKind, Optimizer, Sampling, Targets, TrainCommand,
    TrainEvent, TrainSetup, Trainable,
};
use crate::id::RequestId;
use crate::shard::Shard;
use crate::tensor::{DType, Tensor};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Checkpoints that are kept, the newest ones.
const MOST_SAVED: usize = 64;

/// Values that tokens stand for.
const VALUES: u32 = 16;

/// The jobs of an engine.
#[derive(Debug, Default)]
pub(super) struct Trainer {
    jobs: BTreeMap<RequestId, Job>,
    saved: VecDeque<Checkpoint>,
}

#[derive(Debug)]
struct Job {
    shard: Shard,
    setup: Arc<TrainSetup>,
    /// `w` of each of the shard's layers.
    weights: Vec<f32>,
    kept: Option<Kept>,
}

/// What the way back needs of an example.
#[derive(Debug)]
struct Kept {
    step: u32,
    shape: [usize; 2],
    /// What entered each layer.
    inputs: Vec<Vec<f32>>,
}

#[derive(Debug)]
struct Checkpoint {
    file: String,
    weights: Vec<f32>,
}

fn bad(message: String) -> EngineFailure {
    EngineFailure::new(FailureKind::BadInput, message)
}

impl Trainer {
    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn execute(
        &mut self,
        command: TrainCommand,
        loaded: &BTreeSet<Shard>,
    ) -> Result<TrainEvent, EngineFailure> {
        match command {
            TrainCommand::Begin {
                call,
                shard,
                job,
                setup,
            } => {
                if !loaded.contains(&shard) {
                    return Err(bad(format!("{shard} is not loaded")));
                }
                let begun = self.begin(shard, setup)?;
                let trainable = begun.learning().count();
                let iteration = begun.setup.resume.unwrap_or(0);
                self.jobs.insert(job, begun);
                Ok(TrainEvent::Begun {
                    call,
                    trainable: u64::try_from(trainable).unwrap_or(u64::MAX),
                    iteration,
                })
            }
            TrainCommand::Forward {
                call,
                job,
                step,
                input,
                targets,
                learn,
            } => {
                let job = self.job(&job)?;
                let shape = shape_of(&input);
                let values = values_of(&input)?;
                let output = job.forward(step, shape, values, learn);
                let Some(targets) = targets else {
                    return Ok(TrainEvent::Forwarded {
                        call,
                        hidden: tensor(shape, &output)?,
                    });
                };
                let (loss, positions, gradient) = compare(shape, &output, &targets)?;
                let gradient = match learn {
                    true => Some(job.backward(step, gradient)?),
                    false => None,
                };
                let gradient = gradient.filter(|_| !job.shard.is_first());
                let gradient = gradient.map(|gradient| tensor(shape, &gradient));
                Ok(TrainEvent::Compared {
                    call,
                    loss,
                    positions,
                    gradient: gradient.transpose()?,
                })
            }
            TrainCommand::Backward {
                call,
                job,
                step,
                gradient,
            } => {
                let job = self.job(&job)?;
                let input = ExampleInput::Hidden(gradient);
                let (shape, gradient) = (shape_of(&input), values_of(&input)?);
                let gradient = job.backward(step, gradient)?;
                let gradient = (!job.shard.is_first()).then(|| tensor(shape, &gradient));
                let gradient = gradient.transpose()?;
                Ok(TrainEvent::Learned { call, gradient })
            }
            TrainCommand::Save {
                call,
                job,
                iteration,
            } => {
                let job = self.job(&job)?;
                let file = file(&job.setup, &job.shard, iteration);
                let weights = job.weights.clone();
                self.saved.retain(|saved| saved.file != file);
                if self.saved.len() == MOST_SAVED {
                    self.saved.pop_front();
                }
                let name = file.clone();
                self.saved.push_back(Checkpoint { file, weights });
                Ok(TrainEvent::Saved { call, file: name })
            }
            TrainCommand::End { call, job } => {
                self.jobs.remove(&job);
                Ok(TrainEvent::Ended { call })
            }
        }
    }

    fn job(&mut self, id: &RequestId) -> Result<&mut Job, EngineFailure> {
        self.jobs
            .get_mut(id)
            .ok_or_else(|| bad(format!("job {id} was not begun")))
    }

    fn begin(&self, shard: Shard, setup: Arc<TrainSetup>) -> Result<Job, EngineFailure> {
        if let Optimizer::AdamW { .. } = setup.optimizer {
            let message = "the dummy engine only learns with SGD";
            return Err(EngineFailure::new(FailureKind::Unsupported, message));
        }
        let weights = match setup.resume {
            None => shard.range().map(untrained).collect(),
            Some(iteration) => {
                let file = file(&setup, &shard, iteration);
                let saved = self.saved.iter().find(|saved| saved.file == file);
                let none = || bad(format!("there is no checkpoint {file}"));
                saved.ok_or_else(none)?.weights.clone()
            }
        };
        Ok(Job {
            shard,
            setup,
            weights,
            kept: None,
        })
    }
}

impl Job {
    /// The layers that learn.
    fn learning(&self) -> impl Iterator<Item = u32> {
        let layers = self.shard.layers;
        let first = match self.setup.trainable {
            Trainable::Lora { last_layers: 0, .. } | Trainable::Full { last_layers: 0 } => 0,
            Trainable::Lora { last_layers, .. } | Trainable::Full { last_layers } => {
                layers.saturating_sub(last_layers)
            }
            Trainable::Nothing => layers,
        };
        self.shard.range().filter(move |layer| *layer >= first)
    }

    fn forward(
        &mut self,
        step: u32,
        shape: [usize; 2],
        mut values: Vec<f32>,
        learn: bool,
    ) -> Vec<f32> {
        let mut inputs = Vec::new();
        for (layer, weight) in self.shard.range().zip(&self.weights) {
            let shift = (layer + 1) as f32 / 64.0;
            let output = values.iter().map(|x| x * (1.0 + weight) + shift).collect();
            inputs.push(core::mem::replace(&mut values, output));
        }
        self.kept = learn.then_some(Kept {
            step,
            shape,
            inputs,
        });
        values
    }

    fn backward(&mut self, step: u32, mut gradient: Vec<f32>) -> Result<Vec<f32>, EngineFailure> {
        if self.setup.trainable == Trainable::Nothing {
            return Err(bad(String::from("the job only compares")));
        }
        let kept = self.kept.take();
        let same = |kept: &Kept| {
            kept.step == step && kept.shape.iter().product::<usize>() == gradient.len()
        };
        let Some(kept) = kept.filter(same) else {
            return Err(bad(format!("no example of step {step} was kept")));
        };
        let learning: BTreeSet<u32> = self.learning().collect();
        let rate = self.setup.learning_rate;
        let layers = self.shard.range().zip(&mut self.weights);
        let layers: Vec<(u32, &mut f32)> = layers.collect();
        for ((layer, weight), input) in layers.into_iter().zip(kept.inputs).rev() {
            let before = *weight;
            let pairs = gradient.iter().zip(&input);
            let by_weight = pairs.fold(0.0, |sum, (g, x)| sum + g * x);
            if learning.contains(&layer) {
                *weight -= rate * by_weight;
            }
            for g in &mut gradient {
                *g *= 1.0 + before;
            }
        }
        Ok(gradient)
    }
}

/// `w` of a layer before anything was learned: within an eighth of zero.
fn untrained(layer: u32) -> f32 {
    let sampling = Sampling::default();
    (sampling.uniform(layer) as f32 - 0.5) / 4.0
}

fn file(setup: &TrainSetup, shard: &Shard, iteration: u32) -> String {
    format!(
        "{}/{}-{}-{iteration}.dummy",
        setup.name, shard.start, shard.end
    )
}

fn value(token: u32) -> f32 {
    (token % VALUES) as f32 / VALUES as f32
}

/// Sequences and positions of what enters.
fn shape_of(input: &ExampleInput) -> [usize; 2] {
    match input {
        ExampleInput::Tokens { tokens, batch } => {
            let batch = usize::try_from(*batch).unwrap_or(usize::MAX);
            [batch, tokens.len().checked_div(batch).unwrap_or(0)]
        }
        ExampleInput::Hidden(tensor) => match tensor.shape() {
            &[batch, positions, 1] => [batch, positions],
            _ => [0, 0],
        },
    }
}

fn values_of(input: &ExampleInput) -> Result<Vec<f32>, EngineFailure> {
    let values: Vec<f32> = match input {
        ExampleInput::Tokens { tokens, .. } => tokens.iter().map(|&token| value(token)).collect(),
        ExampleInput::Hidden(tensor) if tensor.dtype() == DType::F32 => {
            let (elements, _) = tensor.data().as_chunks::<4>();
            let elements = elements.iter();
            elements.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        ExampleInput::Hidden(_) => Vec::new(),
    };
    if values.is_empty() || shape_of(input).iter().product::<usize>() != values.len() {
        return Err(bad(String::from(
            "expected rows of tokens, or float32 of shape [B, T, 1]",
        )));
    }
    Ok(values)
}

fn tensor([batch, positions]: [usize; 2], values: &[f32]) -> Result<Tensor, EngineFailure> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let tensor = Tensor::new(DType::F32, vec![batch, positions, 1], bytes.into());
    tensor.map_err(|error| bad(format!("{error}")))
}

/// The loss, how many positions counted, and the gradient of the loss by each value.
fn compare(
    [batch, positions]: [usize; 2],
    values: &[f32],
    targets: &Targets,
) -> Result<(f32, u32, Vec<f32>), EngineFailure> {
    if targets.tokens.len() != values.len() || targets.counted.len() != batch {
        return Err(bad(format!(
            "expected {} targets in {batch} sequences, got {} in {}",
            values.len(),
            targets.tokens.len(),
            targets.counted.len()
        )));
    }
    let counts = |index: usize| {
        let row = index.checked_div(positions).unwrap_or(0);
        let at = u32::try_from(index.checked_rem(positions).unwrap_or(0)).unwrap_or(u32::MAX);
        let counted = targets.counted.get(row);
        counted.is_some_and(|&(from, to)| (from..to).contains(&at))
    };
    let all: Vec<bool> = (0..values.len()).map(counts).collect();
    let counted = all.iter().filter(|counts| **counts).count();
    let share = 1.0 / counted.max(1) as f32;
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(values.len()));
    for ((value, &target), counts) in values.iter().zip(&targets.tokens).zip(all) {
        let distance = match counts {
            true => value - self::value(target),
            false => 0.0,
        };
        loss += distance * distance * share;
        gradient.push(2.0 * distance * share);
    }
    Ok((loss, u32::try_from(counted).unwrap_or(u32::MAX), gradient))
}

#[cfg(test)]
mod tests;
