//! New positions of requests through a shard: a long input in chunks, several short ones together.

use crate::MlxError;
use crate::cache::KvCache;
use crate::input::Checked;
use crate::model::Step;
use crate::sampling::{choose, on_host, shaped};
use crate::shard::ShardModel;
use crate::tensor::{to_bytes, to_tensor};
use exo_models::guide::Allowed;
use exo_protocol::Shard;
use exo_protocol::engine::{EngineCommand, EngineInput, EngineOutput, Sampling, Scores};
use exo_protocol::id::{CallId, RequestId};
use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::concatenate;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::transforms::eval;
use mlx_rs::{Array, Dtype};

/// A checked [`EngineCommand::Forward`], and the cache that it extends.
pub(crate) struct Job {
    pub(crate) call: CallId,
    pub(crate) request: RequestId,
    pub(crate) input: Checked,
    pub(crate) sampling: Option<Sampling>,
    /// The tokens that may be chosen, if not all.
    pub(crate) allowed: Option<Allowed>,
    pub(crate) cache: KvCache,
}

/// What came of a job.
pub(crate) struct Done {
    pub(crate) output: EngineOutput,
    /// Positions that were added.
    pub(crate) positions: u32,
    /// `[vocab]`, if a token was chosen.
    pub(crate) logits: Option<Array>,
}

/// Puts commands together that one step can do: forwards of one position of different requests on
/// the same shard that follow each other. Others stay alone; the order stays.
pub(crate) fn groups(commands: Vec<EngineCommand>) -> Vec<Vec<EngineCommand>> {
    let mut groups: Vec<Vec<EngineCommand>> = Vec::new();
    for command in commands {
        let joins = groups.last().is_some_and(|group| joins(group, &command));
        match groups.last_mut() {
            Some(group) if joins => group.push(command),
            _ => groups.push(vec![command]),
        }
    }
    groups
}

fn joins(group: &[EngineCommand], command: &EngineCommand) -> bool {
    let Some((shard, request)) = single(command) else {
        return false;
    };
    group
        .iter()
        .all(|member| single(member).is_some_and(|(other, of)| other == shard && of != request))
}

/// The shard and request of a forward of one position.
fn single(command: &EngineCommand) -> Option<(&Shard, &RequestId)> {
    let EngineCommand::Forward {
        shard,
        request,
        input,
        ..
    } = command
    else {
        return None;
    };
    let positions = match input {
        EngineInput::Tokens(tokens) => tokens.len(),
        EngineInput::Hidden(tensor) => match *tensor.shape() {
            [1, positions, _] | [positions, _] => positions,
            _ => 0,
        },
        EngineInput::Text(_) => 0,
    };
    (positions == 1).then_some((shard, request))
}

impl ShardModel {
    /// Runs jobs of one position each in one step, or one job of any length in chunks.
    ///
    /// # Errors
    /// When MLX fails; what is in the jobs' caches is then unknown.
    pub(crate) fn run(
        &self,
        jobs: &mut [Job],
        chunk: usize,
    ) -> std::result::Result<Vec<Done>, MlxError> {
        let doing = || {
            let layers = &self.range;
            format!("computing layers {}..{}", layers.start, layers.end)
        };
        let done = match jobs {
            [job] => self.run_one(job, chunk).map(|done| vec![done]),
            jobs => self.run_together(jobs),
        };
        done.map_err(|error| MlxError::mlx(doing(), error))
    }

    fn run_one(&self, job: &mut Job, chunk: usize) -> Result<Done> {
        let total = job.input.len();
        let mut hidden = Vec::new();
        let mut answer = None;
        for start in (0..total).step_by(chunk) {
            let end = (start + chunk).min(total);
            let x = job.input.embedded(self, start..end)?;
            let mut requests = [&mut job.cache];
            let mut step = Step::of_requests(&mut requests, dimension(end - start)?)?;
            let x = self.forward(x, &mut step, self.is_last())?;
            job.cache.advance(end - start);
            if !self.is_last() {
                hidden.extend(to_bytes(&x)?);
            } else if let (Some(sampling), true) = (&job.sampling, end == total) {
                let logits = self.logits(&x)?.reshape(&[-1])?;
                let logits = logits.as_dtype(Dtype::Float32)?;
                let shaped = shaped(&logits, sampling, job.allowed.as_ref())?;
                let token = choose(&shaped, sampling, position(&job.cache))?;
                eval([&token, &logits])?;
                answer = Some((token, logits, sampling.scores));
            } else {
                // Of the last layer nothing but keys and values is computed.
                eval(job.cache.arrays())?;
            }
        }
        let (output, logits) = match answer {
            Some((token, logits, scores)) => (self.token(&token, &logits, scores)?, Some(logits)),
            None if self.is_last() => (EngineOutput::Nothing, None),
            None => (self.hidden(hidden, total)?, None),
        };
        Ok(Done {
            output,
            positions: u32::try_from(total).unwrap_or(u32::MAX),
            logits,
        })
    }

    fn run_together(&self, jobs: &mut [Job]) -> Result<Vec<Done>> {
        let inputs = jobs.iter().map(|job| job.input.embedded(self, 0..1));
        let x = concatenate(&inputs.collect::<Result<Vec<_>>>()?, 0)?;
        let mut requests: Vec<&mut KvCache> = jobs.iter_mut().map(|job| &mut job.cache).collect();
        let mut step = Step::of_requests(&mut requests, 1)?;
        let x = self.forward(x, &mut step, false)?;
        let logits = self.is_last().then(|| self.logits(&x)).transpose()?;
        let mut outputs = Vec::with_capacity(jobs.len());
        for (row, job) in (0..).zip(jobs.iter_mut()) {
            job.cache.advance(1);
            let asked = logits.as_ref().zip(job.sampling.as_ref());
            let answer = asked.map(|(logits, sampling)| {
                let logits = logits.try_index((row, 0, ..))?.as_dtype(Dtype::Float32)?;
                let shaped = shaped(&logits, sampling, job.allowed.as_ref())?;
                let token = choose(&shaped, sampling, position(&job.cache))?;
                Ok::<_, Exception>((token, logits, sampling.scores))
            });
            outputs.push(answer.transpose()?);
        }
        let chosen = outputs.iter().flatten().map(|(token, ..)| token);
        let caches = jobs.iter().flat_map(|job| job.cache.arrays());
        let states = (!self.is_last()).then_some(&x);
        eval(chosen.chain(caches).chain(states))?;
        let mut done = Vec::with_capacity(jobs.len());
        for (row, answer) in (0..).zip(outputs) {
            let (output, logits) = match answer {
                Some((token, logits, scores)) => {
                    (self.token(&token, &logits, scores)?, Some(logits))
                }
                None if self.is_last() => (EngineOutput::Nothing, None),
                None => {
                    let row = to_bytes(&x.try_index((row..row + 1, ..))?)?;
                    (self.hidden(row, 1)?, None)
                }
            };
            done.push(Done {
                output,
                positions: 1,
                logits,
            });
        }
        Ok(done)
    }

    /// The token that was chosen from `logits`; with `scores`, how likely it was.
    fn token(&self, token: &Array, logits: &Array, scores: Option<u8>) -> Result<EngineOutput> {
        let token = token.try_item_cast::<u32>();
        let token = token.map_err(|error| Exception::custom(error.to_string()))?;
        let end = self.config.eos.contains(&token);
        let Some(most) = scores else {
            return Ok(EngineOutput::Token { token, end });
        };
        let logits = on_host(logits)?;
        let scores = Scores::of(&logits, token, most);
        Ok(EngineOutput::Scored { token, end, scores })
    }

    fn hidden(&self, data: Vec<u8>, positions: usize) -> Result<EngineOutput> {
        let tensor = to_tensor(data, positions, self.config.hidden, self.dtype);
        let tensor = tensor.map_err(|error| Exception::custom(error.to_string()))?;
        Ok(EngineOutput::Hidden(tensor))
    }
}

/// Of the token that comes next.
fn position(cache: &KvCache) -> u32 {
    u32::try_from(cache.len()).unwrap_or(u32::MAX)
}

fn dimension(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| Exception::custom(format!("{size} positions are too many")))
}

#[cfg(test)]
mod tests;
