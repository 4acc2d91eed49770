//! One job on one shard.

use super::loss::{Counted, cross_entropy};
use super::optimizer::{Moments, follow};
use super::parameters::Parameters;
use super::room::{Room, of_example};
use super::{Base, store};
use crate::model::Step;
use crate::shard::ShardModel;
use crate::tensor::{from_bytes, to_bytes};
use crate::{MlxError, TrainError};
use bytes::Bytes;
use exo_protocol::engine::{ExampleInput, Optimizer, Targets, TrainEvent, TrainSetup, Trainable};
use exo_protocol::id::CallId;
use exo_protocol::{DType, Shard, Tensor};
use mlx_rs::error::{Exception, Result};
use mlx_rs::transforms::{eval, fallible_vjp};
use mlx_rs::{Array, Dtype};
use std::path::Path;
use std::sync::Arc;

/// What a shard learns.
#[derive(Debug)]
pub(crate) struct Job {
    shard: Shard,
    setup: Arc<TrainSetup>,
    parameters: Parameters,
    /// One for each parameter with AdamW, else none.
    moments: Vec<Moments>,
    /// Steps done.
    done: u32,
    kept: Option<Kept>,
}

/// The input of an example, until its gradient comes.
#[derive(Debug)]
struct Kept {
    step: u32,
    entered: Array,
}

/// What comes of going back through a shard.
struct Gradients {
    /// One for each parameter.
    parameters: Vec<Array>,
    /// Of what entered, unless that were tokens.
    entered: Option<Array>,
}

impl Job {
    /// A job at its beginning, or where its checkpoint was.
    pub(super) fn begin(
        base: Base<'_>,
        shard: Shard,
        setup: Arc<TrainSetup>,
        folder: Option<&Path>,
    ) -> std::result::Result<Self, MlxError> {
        let rate = setup.learning_rate;
        if !(rate.is_finite() && rate > 0.0) {
            let why = format!("a learning rate of {rate}; expected a number above 0");
            return Err(TrainError::Setup(why).into());
        }
        let mut parameters = Parameters::new(base, &setup)?;
        let mut moments = match setup.optimizer {
            Optimizer::Sgd => Vec::new(),
            Optimizer::AdamW { weight_decay } if (0.0..1.0).contains(&weight_decay) => {
                let values = parameters.values.iter();
                let moments = values.map(|value| Moments::zeros(value.shape()));
                let moments: Result<_> = moments.collect();
                moments.map_err(|error| MlxError::mlx("preparing the optimiser", error))?
            }
            Optimizer::AdamW { weight_decay } => {
                let why = format!("a weight decay of {weight_decay}; expected 0 to 1");
                return Err(TrainError::Setup(why).into());
            }
        };
        let done = match setup.resume {
            None => 0,
            Some(_) if setup.trainable == Trainable::Nothing => {
                let why = "a job that learns nothing has nothing to go on with";
                return Err(TrainError::Setup(why.to_owned()).into());
            }
            Some(iteration) => {
                let place = store::place(&setup, iteration, folder)?;
                store::resume(base, &setup, &place, &mut parameters, &mut moments)?;
                iteration
            }
        };
        Ok(Self {
            shard,
            setup,
            parameters,
            moments,
            done,
            kept: None,
        })
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    /// How many numbers change.
    pub(super) fn trainable(&self) -> u64 {
        self.parameters.count()
    }

    /// Steps done.
    pub(super) fn done(&self) -> u32 {
        self.done
    }

    /// Bytes in memory, without those of the shard.
    pub(super) fn bytes(&self) -> u64 {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.entered.nbytes());
        let each = if self.moments.is_empty() { 4 } else { 12 };
        self.parameters.count() * each + kept as u64
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a command, and where it is done"
    )]
    /// Computes an example forwards; the shard with the last layer compares, and learns.
    pub(super) fn forward(
        &mut self,
        base: Base<'_>,
        room: Room,
        call: CallId,
        step: u32,
        input: &ExampleInput,
        targets: Option<&Targets>,
        learn: bool,
    ) -> std::result::Result<TrainEvent, MlxError> {
        if learn && self.setup.trainable == Trainable::Nothing {
            let why = "a job that learns nothing was given an example to learn from";
            return Err(TrainError::Input(why.to_owned()).into());
        }
        let shard = base.model;
        let entered = entered(shard, input)?;
        let &[batch, length, _] = entered.shape() else {
            return Err(MlxError::mlx("computing an example", "it is no batch"));
        };
        let (batch, length) = (batch as usize, length as usize);
        let counted = targets.map_or(0, |targets| {
            let counted = targets.counted.iter();
            counted.fold(0, |sum: u32, (from, to)| {
                sum.saturating_add(to.saturating_sub(*from))
            })
        });
        let needed = of_example(shard, batch, length, counted, learn);
        room.check("the example", needed)?;
        if learn {
            self.kept = None;
        }
        let Some(targets) = targets else {
            if shard.is_last() {
                let why = "an example came to the last layer without targets";
                return Err(TrainError::Input(why.to_owned()).into());
            }
            let left = self.run(shard, &self.parameters.values, &entered);
            let hidden = left.and_then(|left| out(&left));
            let hidden = hidden.map_err(|error| MlxError::mlx("computing an example", error))?;
            self.kept = learn.then_some(Kept { step, entered }).or(self.kept.take());
            return Ok(TrainEvent::Forwarded { call, hidden });
        };
        if !shard.is_last() {
            let why = "targets came to a shard without the last layer";
            return Err(TrainError::Input(why.to_owned()).into());
        }
        let vocab = shard.config.vocab;
        let counted = Counted::new(targets, batch, length, vocab)?;
        let (loss, gradient) = self.compare(shard, &entered, &counted, step, learn)?;
        Ok(TrainEvent::Compared {
            call,
            loss,
            positions: counted.count(),
            gradient,
        })
    }

    /// The loss, and to learn the gradient of what entered.
    fn compare(
        &mut self,
        shard: &ShardModel,
        entered: &Array,
        counted: &Counted,
        step: u32,
        learn: bool,
    ) -> std::result::Result<(f32, Option<Tensor>), MlxError> {
        let mlx = |error| MlxError::mlx("comparing an example", error);
        let nothing = counted.count() == 0;
        if !learn {
            let loss = || {
                let left = self.run(shard, &self.parameters.values, entered)?;
                number(&cross_entropy(shard, &left, counted)?)
            };
            let loss = if nothing { Ok(0.0) } else { loss() };
            return Ok((loss.map_err(mlx)?, None));
        }
        let (loss, gradients) = if nothing {
            // As it would be in a larger batch: a step, but no gradient.
            (0.0, self.no_gradients(shard, entered).map_err(mlx)?)
        } else {
            let one = Array::from_f32(1.0);
            let back = self.back(shard, entered, &one, |left| {
                cross_entropy(shard, left, counted)
            });
            let (loss, gradients) = back.map_err(mlx)?;
            (number(&loss).map_err(mlx)?, gradients)
        };
        if !loss.is_finite() {
            let what = "the loss";
            return Err(TrainError::Diverged { what, step }.into());
        }
        let gradient = self.learn(gradients, step)?;
        Ok((loss, gradient))
    }

    /// Goes back through the shard with the gradient of what left it.
    pub(super) fn backward(
        &mut self,
        base: Base<'_>,
        step: u32,
        gradient: &Tensor,
    ) -> std::result::Result<Option<Tensor>, MlxError> {
        let Some(Kept {
            step: kept,
            entered,
        }) = self.kept.take()
        else {
            let why = format!("the gradient of step {step} came without its example");
            return Err(TrainError::Input(why).into());
        };
        if kept != step {
            let why = format!("the gradient of step {step} came, that of step {kept} was expected");
            return Err(TrainError::Input(why).into());
        }
        let shard = base.model;
        let shape = entered.shape();
        let gradient = tensor(gradient, shard.config.hidden, "gradient", Dtype::Float32)?;
        if gradient.shape() != shape {
            let found = gradient.shape();
            let why = format!("the gradient has shape {found:?}, its example {shape:?}");
            return Err(TrainError::Input(why).into());
        }
        let gradients = gradient
            .as_dtype(shard.dtype)
            .and_then(|gradient| self.back(shard, &entered, &gradient, |left| Ok(left.clone())));
        let gradients = gradients.map_err(|error| MlxError::mlx("learning", error))?;
        self.learn(gradients.1, step)
    }

    /// Computes the shard once more, `then` of what leaves it, and the gradients by `cotangent`.
    fn back(
        &self,
        shard: &ShardModel,
        entered: &Array,
        cotangent: &Array,
        then: impl Fn(&Array) -> Result<Array>,
    ) -> Result<(Array, Gradients)> {
        let count = self.parameters.values.len();
        let by_input = !shard.is_first();
        let mut primals = self.parameters.values.clone();
        if by_input {
            primals.push(entered.clone());
        }
        if primals.is_empty() {
            let left = then(&self.run(shard, &primals, entered)?)?;
            return Ok((left, self.no_gradients(shard, entered)?));
        }
        let through = |arguments: &[Array]| {
            let (values, rest) = arguments
                .split_at_checked(count)
                .unwrap_or((arguments, &[]));
            let left = self.run(shard, values, rest.first().unwrap_or(entered))?;
            Ok(vec![then(&left)?])
        };
        let (left, mut gradients) =
            fallible_vjp(through, &primals, std::slice::from_ref(cotangent))?;
        let entered = if by_input { gradients.pop() } else { None };
        let left = left.into_iter().next();
        let left = left.ok_or_else(|| Exception::custom("nothing left the shard"))?;
        let parameters = gradients;
        Ok((
            left,
            Gradients {
                parameters,
                entered,
            },
        ))
    }

    fn no_gradients(&self, shard: &ShardModel, entered: &Array) -> Result<Gradients> {
        let zeros = |array: &Array| Array::zeros::<f32>(array.shape());
        let parameters = self.parameters.values.iter().map(zeros);
        Ok(Gradients {
            parameters: parameters.collect::<Result<_>>()?,
            entered: (!shard.is_first()).then(|| zeros(entered)).transpose()?,
        })
    }

    /// Changes the parameters; what is returned is for the stage before.
    fn learn(
        &mut self,
        gradients: Gradients,
        step: u32,
    ) -> std::result::Result<Option<Tensor>, MlxError> {
        let mlx = |error| MlxError::mlx("learning", error);
        let norm = || {
            let mut sum = Array::from_f32(0.0);
            for gradient in gradients.parameters.iter().chain(&gradients.entered) {
                let gradient = gradient.as_dtype(Dtype::Float32)?;
                sum = sum.add(gradient.square()?.sum(false)?)?;
            }
            number(&sum)
        };
        if !norm().map_err(mlx)?.is_finite() {
            let what = "a gradient";
            return Err(TrainError::Diverged { what, step }.into());
        }
        // Bias correction counts the job's steps, over all its lives.
        let count = self.done.saturating_add(1);
        let (mut values, mut moments) = (Vec::new(), Vec::new());
        let all = self.parameters.values.iter().zip(&gradients.parameters);
        for (index, (value, gradient)) in all.enumerate() {
            let known = self.moments.get(index);
            let (optimizer, rate) = (self.setup.optimizer, self.setup.learning_rate);
            let next = follow(optimizer, rate, count, value, gradient, known);
            let (value, known) = next.map_err(mlx)?;
            values.push(value);
            moments.extend(known);
        }
        let remembered = moments.iter().flat_map(|m: &Moments| [&m.first, &m.second]);
        eval(values.iter().chain(remembered)).map_err(mlx)?;
        let gradient = gradients.entered.as_ref().map(out).transpose();
        let gradient = gradient.map_err(mlx)?;
        (self.parameters.values, self.moments) = (values, moments);
        self.done = count;
        Ok(gradient)
    }

    /// Writes the checkpoint of the steps done.
    pub(super) fn save(
        &self,
        base: Base<'_>,
        iteration: u32,
        folder: Option<&Path>,
    ) -> std::result::Result<String, MlxError> {
        if iteration != self.done {
            let done = self.done;
            let why = format!("a checkpoint of {iteration} steps was asked for, {done} are done");
            return Err(TrainError::Input(why).into());
        }
        let place = store::place(&self.setup, iteration, folder)?;
        store::save(base, &self.setup, &place, &self.parameters, &self.moments)
    }

    /// What leaves the last layer of the shard, `[B, T, hidden]`, with `values` for what learns.
    fn run(&self, shard: &ShardModel, values: &[Array], entered: &Array) -> Result<Array> {
        let parameters = self.parameters.placed(shard, values)?;
        let length = entered.shape().get(1).copied().unwrap_or(0);
        let mut step = Step::whole(length);
        let mut x = entered.clone();
        for (n, (layer, parameters)) in shard.layers.iter().zip(&parameters).enumerate() {
            x = layer.shape.forward(parameters, n, &x, &mut step)?;
        }
        Ok(x)
    }
}

/// Checks what came, and makes what enters the first layer of it, `[B, T, hidden]`.
fn entered(shard: &ShardModel, input: &ExampleInput) -> std::result::Result<Array, MlxError> {
    let fail = |why: String| Err(MlxError::from(TrainError::Input(why)));
    let config = &shard.config;
    let (array, length) = match input {
        ExampleInput::Tokens { tokens, batch } if shard.is_first() => {
            let count = tokens.len();
            let rows = usize::try_from(*batch).unwrap_or(0);
            if count == 0 || rows == 0 || !count.is_multiple_of(rows) {
                return fail(format!("{count} tokens came in {batch} rows"));
            }
            let vocab = config.vocab;
            if let Some(token) = tokens.iter().find(|token| **token as usize >= vocab) {
                return fail(format!("token {token} is not in the vocabulary of {vocab}"));
            }
            let length = count / rows;
            let (Ok(rows), Ok(columns)) = (i32::try_from(rows), i32::try_from(length)) else {
                return fail(format!("{count} tokens are too many"));
            };
            let embed = || {
                let x = shard.embed(&Array::from_slice(tokens, &[rows, columns]))?;
                x.eval()?;
                Ok(x)
            };
            let x = embed().map_err(|error: Exception| MlxError::mlx("embedding", error))?;
            (x, length)
        }
        ExampleInput::Hidden(hidden) if !shard.is_first() => {
            let x = tensor(hidden, config.hidden, "hidden state", shard.dtype)?;
            let length = x.shape().get(1).copied().unwrap_or(0);
            (x, length as usize)
        }
        ExampleInput::Tokens { .. } => {
            return fail("tokens came to a shard without the first layer".to_owned());
        }
        ExampleInput::Hidden(_) => {
            return fail("a hidden state came to the shard with the first layer".to_owned());
        }
    };
    if length > config.context as usize {
        return Err(MlxError::Context {
            positions: length as u64,
            context: config.context,
        });
    }
    Ok(array)
}

/// A tensor from a peer, `[B, T, hidden]`, as an array of `dtype`.
fn tensor(
    tensor: &Tensor,
    hidden: usize,
    what: &str,
    dtype: Dtype,
) -> std::result::Result<Array, MlxError> {
    let fail = |why: String| Err(MlxError::from(TrainError::Input(why)));
    let found = match tensor.dtype() {
        DType::F32 => Dtype::Float32,
        DType::F16 => Dtype::Float16,
        DType::Bf16 => Dtype::Bfloat16,
        other => return fail(format!("the {what} is {other}, expected float32")),
    };
    let shape: Option<Vec<i32>> = match *tensor.shape() {
        [batch, length, width] if batch > 0 && length > 0 && width == hidden => {
            [batch, length, width]
                .map(|n| i32::try_from(n).ok())
                .into_iter()
                .collect()
        }
        _ => None,
    };
    let Some(shape) = shape else {
        let found = tensor.shape();
        return fail(format!(
            "the {what} has shape {found:?}, expected [B, T, {hidden}]"
        ));
    };
    from_bytes(tensor.data(), &shape, found)
        .and_then(|array| array.as_dtype(dtype))
        .map_err(|error| MlxError::mlx(format!("taking in a {what}"), error))
}

/// The one number of an array.
fn number(array: &Array) -> Result<f32> {
    let number = array.try_item_exact::<f32>();
    number.map_err(|error| Exception::custom(error.to_string()))
}

/// An array for a peer, in single precision.
fn out(array: &Array) -> Result<Tensor> {
    let shape = array
        .shape()
        .iter()
        .map(|&n| n as usize)
        .collect::<Vec<_>>();
    let data = to_bytes(&array.as_dtype(Dtype::Float32)?)?;
    Tensor::new(DType::F32, shape, Bytes::from(data))
        .map_err(|error| Exception::custom(error.to_string()))
}
