//! One pass of new positions through the layers of a shard.

use crate::attention::{LatentBuffers, attention};
use crate::feed_forward::{Wide, feed_forward};
use crate::kv::Kv;
use crate::layer::Head;
use crate::machine::{Machine, grown};
use crate::product::Inputs;
use crate::shard::ShardModel;
use std::ops::Range;

/// Positions that go through the layers together: enough to share the work of unpacking weights,
/// few enough for the activations to stay in cache.
const BATCH: usize = 128;
/// The same where experts share them out among each other.
const BATCH_OF_EXPERTS: usize = 512;

/// What enters the first layer of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// Ids below the model's vocabulary.
    Tokens(&'a [u32]),
    /// `[token][hidden]`.
    Hidden(&'a [f32]),
}

/// New positions of one request.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// Its cache, with room for them.
    pub(crate) kv: &'a mut Kv,
    pub(crate) input: Input<'a>,
    /// Whether the last stage computes the logits of the last position.
    pub(crate) logits: bool,
    /// What comes out: the logits if they are wanted, or from other stages than the last `[token]
    /// [hidden]`.
    pub(crate) out: Vec<f32>,
}

/// Buffers of a pass, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    x: Vec<f32>,
    pub(crate) inputs: Inputs,
    /// Of each rope of the shard, `[row][dims]`.
    pub(crate) angles: Vec<Vec<f32>>,
    pub(crate) qkv: Vec<f32>,
    pub(crate) latent: LatentBuffers,
    pub(crate) attention: Vec<f32>,
    pub(crate) wide: Wide,
    /// What a part of a layer gives, where it is not added at once.
    pub(crate) branch: Vec<f32>,
    logits: Vec<f32>,
}

/// Consecutive positions of one run in a batch.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) run: usize,
    /// Its rows in the batch.
    pub(crate) rows: Range<usize>,
    /// Position of the first.
    pub(crate) position: usize,
    /// The first in the run's input.
    start: usize,
    /// The run ends with it.
    last: bool,
}

/// A batch of positions on its way through a shard.
#[derive(Debug)]
pub(crate) struct Pass<'p, 'r> {
    pub(crate) model: &'p ShardModel,
    pub(crate) machine: &'p mut Machine,
    pub(crate) buffers: &'p mut Buffers,
    pub(crate) runs: &'p mut [Run<'r>],
    pub(crate) segments: Vec<Segment>,
}

impl Run<'_> {
    fn positions(&self, width: usize) -> usize {
        match self.input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Hidden(states) => states.len() / width,
        }
    }
}

/// Runs the layers over the new positions of all `runs`.
///
/// What comes out of a run is the same, bit for bit, whatever runs beside it.
pub(crate) fn forward(
    model: &ShardModel,
    machine: &mut Machine,
    buffers: &mut Buffers,
    runs: &mut [Run<'_>],
) {
    let batch = match model.config.experts {
        Some(_) => BATCH_OF_EXPERTS,
        None => BATCH,
    };
    let (mut run, mut start) = (0, 0);
    while run < runs.len() {
        let mut segments = Vec::new();
        let mut rows = 0;
        while let Some(next) = runs.get(run)
            && rows < batch
        {
            let left = next.positions(model.config.hidden) - start;
            let count = left.min(batch - rows);
            let last = count == left;
            segments.push(Segment {
                run,
                rows: rows..rows + count,
                position: next.kv.len(),
                start,
                last,
            });
            rows += count;
            (run, start) = if last {
                (run + 1, 0)
            } else {
                (run, start + count)
            };
        }
        let mut pass = Pass {
            model,
            machine: &mut *machine,
            buffers: &mut *buffers,
            runs: &mut *runs,
            segments,
        };
        pass.run(rows);
    }
}

impl Pass<'_, '_> {
    fn run(&mut self, rows: usize) {
        let width = self.model.config.hidden;
        let mut x = std::mem::take(&mut self.buffers.x);
        let all = grown(&mut x, rows * width, 0.0);
        self.enter(all);
        self.turn(rows);
        // Of the very last layer, only positions with logits are ever looked at.
        let kept: Vec<usize> = self
            .segments
            .iter()
            .filter(|segment| segment.last && self.runs[segment.run].logits)
            .map(|segment| segment.rows.end - 1)
            .collect();
        let layers = &self.model.layers;
        let mut rows = rows;
        for (n, layer) in layers.iter().enumerate() {
            let kept = (self.model.head.is_some() && n + 1 == layers.len()).then_some(&*kept);
            attention(self, (n, layer), &mut all[..rows * width], kept);
            rows = kept.map_or(rows, <[usize]>::len);
            feed_forward(self, layer, &mut all[..rows * width]);
        }
        for segment in &self.segments {
            let run = &mut self.runs[segment.run];
            run.kv.set_len(segment.position + segment.rows.len());
            if self.model.head.is_none() {
                let rows = segment.rows.start * width..segment.rows.end * width;
                run.out.extend_from_slice(&all[rows]);
            }
        }
        if let (Some(head), false) = (&self.model.head, kept.is_empty()) {
            self.logits(head, &all[..rows * width]);
        }
        self.buffers.x = x;
    }

    /// Takes what enters the first layer.
    fn enter(&mut self, x: &mut [f32]) {
        let config = &self.model.config;
        let width = config.hidden;
        for segment in &self.segments {
            let x = &mut x[segment.rows.start * width..segment.rows.end * width];
            let positions = segment.start..segment.start + segment.rows.len();
            match (self.runs[segment.run].input, &self.model.embedding) {
                (Input::Tokens(tokens), Some(embedding)) => {
                    for (token, x) in tokens[positions].iter().zip(x.chunks_exact_mut(width)) {
                        embedding.read_row(*token as usize, self.machine.kernels, x);
                        if config.embedding_scale != 1.0 {
                            x.iter_mut().for_each(|x| *x *= config.embedding_scale);
                        }
                    }
                }
                (Input::Tokens(_), None) => x.fill(0.0),
                (Input::Hidden(states), _) => {
                    x.copy_from_slice(&states[positions.start * width..positions.end * width]);
                }
            }
        }
    }

    /// Computes the angles of all positions.
    fn turn(&mut self, rows: usize) {
        let ropes = &self.model.ropes;
        self.buffers.angles.resize_with(ropes.len(), Vec::new);
        for (rope, angles) in ropes.iter().zip(&mut self.buffers.angles) {
            let dims = rope.dims();
            let angles = grown(angles, rows * dims, 0.0);
            for segment in &self.segments {
                let angles = &mut angles[segment.rows.start * dims..segment.rows.end * dims];
                let rows = angles.chunks_exact_mut(dims.max(1));
                for (position, angles) in (segment.position..).zip(rows) {
                    rope.angles(position, angles);
                }
            }
        }
    }

    /// The logits of the rows of `x`, for the runs that end in this batch and want them.
    fn logits(&mut self, head: &Head, x: &[f32]) {
        let config = &self.model.config;
        let (width, vocab) = (config.hidden, config.vocab);
        let rows = x.len() / width;
        let kernels = self.machine.kernels;
        let inputs = &mut self.buffers.inputs;
        inputs.fill(self.machine, (rows, width), [&head.output], |t, row| {
            (kernels.rms_norm)(&x[t * width..][..width], &head.norm, config.norm_eps, row);
        });
        let wanted = self.segments.iter().filter(|segment| segment.last);
        let wanted = wanted
            .map(|segment| segment.run)
            .filter(|run| self.runs[*run].logits);
        let wanted: Vec<usize> = wanted.collect();
        let logits = grown(&mut self.buffers.logits, rows * vocab, 0.0);
        inputs.multiply(self.machine, &[&head.output], false, logits);
        for (run, logits) in wanted.into_iter().zip(logits.chunks_exact_mut(vocab)) {
            if let Some(cap) = config.logit_cap {
                (kernels.soft_cap)(logits, cap);
            }
            let out = &mut self.runs[run].out;
            out.clear();
            out.extend_from_slice(logits);
        }
    }
}
