//! Batches of examples, in an order that the seed decides.

use super::data::{DataError, Dataset};
use super::encoder::{Encoder, Example};
use super::order::shuffled;
use exo_protocol::engine::Targets;
use std::collections::BTreeSet;

/// Sequences that go through the model together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What enters: `sequences * T` token ids, row after row.
    pub tokens: Vec<u32>,
    /// How many rows.
    pub sequences: u32,
    /// What is to come out.
    pub targets: Targets,
}

impl Batch {
    /// How many positions are compared.
    #[must_use]
    pub fn positions(&self) -> u64 {
        let counted = self.targets.counted.iter();
        counted
            .map(|(from, to)| u64::from(to.saturating_sub(*from)))
            .sum()
    }

    /// A sequence of `n` tokens gives `n - 1` positions: at each of them the token that follows is
    /// to come out. Rows are filled up with zeros to the longest one of the batch; what is filled
    /// up does not count.
    ///
    /// The reference (and `mlx_lm.lora`) counts `n` positions: in a row that is filled up one
    /// position too many, at which a zero is to follow the text's last token.
    #[must_use]
    pub fn new(examples: &[Example]) -> Self {
        let steps = |example: &Example| example.tokens.len().saturating_sub(1);
        let width = examples.iter().map(steps).max().unwrap_or(0);
        let mut batch = Self {
            tokens: Vec::with_capacity(width * examples.len()),
            sequences: u32::try_from(examples.len()).unwrap_or(u32::MAX),
            targets: Targets {
                tokens: Vec::with_capacity(width * examples.len()),
                counted: Vec::with_capacity(examples.len()),
            },
        };
        for example in examples {
            let steps = steps(example);
            let padded = |tokens: &[u32]| {
                let tokens = tokens.iter().copied().chain(std::iter::repeat(0));
                tokens.take(width).collect::<Vec<_>>()
            };
            let inputs = example
                .tokens
                .split_last()
                .map_or(&[][..], |(_, rest)| rest);
            let targets = example
                .tokens
                .split_first()
                .map_or(&[][..], |(_, rest)| rest);
            batch.tokens.extend(padded(inputs));
            batch.targets.tokens.extend(padded(targets));
            // Position p predicts token p + 1.
            let from = example.learned_from.saturating_sub(1).min(steps);
            let counted = [from, steps].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
            batch.targets.counted.push(counted.into());
        }
        batch
    }
}

/// The batches of a data set.
///
/// Examples of similar length are put together, by the bytes of their lines, so that little is
/// filled up; the last batch may have fewer. Each epoch has every batch once, in an order of its
/// own.
#[derive(Debug)]
pub struct Batches {
    data: Dataset,
    encoder: Encoder,
    /// All examples, the shortest one first.
    sorted: Vec<u32>,
    batch_size: usize,
    max_seq_length: usize,
    seed: u64,
    /// The order of one epoch, kept.
    epoch: Option<(u64, Vec<u32>)>,
    /// Examples of which it was said that they are too long.
    cut: BTreeSet<u32>,
}

/// As many examples are named when they are too long; it says so once for each.
const TOLD: usize = 10;

impl Batches {
    /// Batches of `batch_size` sequences, each cut to `max_seq_length` tokens.
    #[must_use]
    pub fn new(
        data: Dataset,
        encoder: Encoder,
        batch_size: u32,
        max_seq_length: u32,
        seed: u64,
    ) -> Self {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let mut sorted: Vec<u32> = (0..count).collect();
        sorted.sort_by_key(|index| data.size(*index as usize));
        Self {
            data,
            encoder,
            sorted,
            batch_size: batch_size.max(1) as usize,
            max_seq_length: max_seq_length.max(2) as usize,
            seed,
            epoch: None,
            cut: BTreeSet::new(),
        }
    }

    /// How many examples.
    #[must_use]
    pub fn examples(&self) -> usize {
        self.sorted.len()
    }

    /// How many batches an epoch has; at least one.
    #[must_use]
    pub fn per_epoch(&self) -> usize {
        self.sorted.len().div_ceil(self.batch_size).max(1)
    }

    /// The batch of a step, counted from zero over all epochs.
    ///
    /// # Errors
    /// As [`Dataset::example`].
    pub fn get(&mut self, step: u64) -> Result<Batch, DataError> {
        let count = self.per_epoch();
        let (epoch, at) = (step / count as u64, (step % count as u64) as usize);
        if self.epoch.as_ref().is_none_or(|(kept, _)| *kept != epoch) {
            self.epoch = Some((epoch, shuffled(count, self.seed, epoch)));
        }
        let order = self.epoch.as_ref().map(|(_, order)| order.as_slice());
        let batch = order.and_then(|order| order.get(at)).copied().unwrap_or(0) as usize;
        let members = self.sorted.chunks(self.batch_size).nth(batch);
        let members = members.unwrap_or_default().to_vec();
        let examples = members.into_iter().map(|index| self.example(index));
        Ok(Batch::new(&examples.collect::<Result<Vec<_>, _>>()?))
    }

    fn example(&mut self, index: u32) -> Result<Example, DataError> {
        let mut example = self.data.example(index as usize, &self.encoder)?;
        let (found, limit) = (example.tokens.len(), self.max_seq_length);
        if found > limit {
            example.tokens.truncate(limit);
            if self.cut.len() < TOLD && self.cut.insert(index) {
                let place = self.data.place(index as usize);
                tracing::warn!(
                    "{place}: {found} tokens, of which only the first {limit} are used \
                     (--max-seq-length)"
                );
            }
        }
        if example.learned_from >= example.tokens.len() {
            let place = self.data.place(index as usize);
            tracing::warn!(
                "{place}: the prompt alone has {limit} tokens; nothing is learned of it"
            );
        }
        Ok(example)
    }
}

#[cfg(test)]
mod tests;
