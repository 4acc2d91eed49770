//! The attention of a layer.

mod latent;
mod plain;
mod scores;

use crate::layer::{Layer, Projection};
use crate::machine::{Machine, grown};
use crate::matrix::Linear;
use crate::pass::Pass;
use crate::product::Inputs;
use crate::rope::Rope;
use exo_models::ModelConfig;
use scores::{Queries, attend};

pub(crate) use latent::LatentBuffers;

/// What queries, keys and values are made of.
struct Entry<'a> {
    config: &'a ModelConfig,
    /// Weights of the norm of the hidden state.
    norm: &'a [f32],
    /// How heads turn, and the angles of each row.
    rope: Option<(&'a Rope, &'a [f32])>,
    /// `[row][hidden]`.
    x: &'a [f32],
}

impl Entry<'_> {
    fn rows(&self) -> usize {
        self.x.len() / self.config.hidden
    }

    /// Takes the hidden state, normed, for a product with `by`.
    fn fill<'b>(
        &self,
        machine: &mut Machine,
        inputs: &mut Inputs,
        by: impl IntoIterator<Item = &'b Linear>,
    ) {
        let (width, eps, kernels) = (self.config.hidden, self.config.norm_eps, machine.kernels);
        inputs.fill(machine, (self.rows(), width), by, |t, row| {
            (kernels.rms_norm)(&self.x[t * width..][..width], self.norm, eps, row);
        });
    }

    /// Turns a head of row `t` by its position, if it does, and multiplies it by `scale`.
    fn turn(&self, t: usize, head: &mut [f32], scale: f32) {
        if let Some((rope, angles)) = self.rope {
            let dims = rope.dims();
            rope.turn(head, &angles[t * dims..][..dims], scale);
        } else if scale != 1.0 {
            head.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Adds to `x`, `[row][hidden]`, what attention of layer `n` of the shard gives.
///
/// With `kept`, only those rows of `x` are wanted, in rising order: they become its first ones, and
/// what is behind them means nothing. Keys and values are stored of all rows.
pub(crate) fn attention(
    pass: &mut Pass<'_, '_>,
    (n, layer): (usize, &Layer),
    x: &mut [f32],
    kept: Option<&[usize]>,
) {
    let weights = &layer.attention;
    let rope = pass.model.rope(n);
    let rope = rope.map(|(number, rope)| (rope, &*pass.buffers.angles[number]));
    // Of each row the queries of all heads, then what the cache keeps of it: keys, then values.
    let qkv = &mut pass.buffers.qkv;
    let config = &pass.model.config;
    let inputs = &mut pass.buffers.inputs;
    let entry = Entry {
        config,
        norm: &layer.attn_norm,
        rope,
        x,
    };
    match &weights.projection {
        Projection::Plain(weights) => plain::project(pass.machine, inputs, &entry, weights, qkv),
        Projection::Latent(weights) => {
            let latent = &mut pass.buffers.latent;
            latent.project(pass.machine, inputs, &entry, weights, qkv);
        }
    }
    let shape = pass.runs.first().map(|run| run.kv.shape());
    let Some(shape) = shape else { return };
    let (q, k) = (config.heads * shape.key_dim, shape.heads * shape.key_dim);
    let stride = q + k + shape.heads * shape.value_dim;
    for segment in &pass.segments {
        let kv = &mut *pass.runs[segment.run].kv;
        let rows = qkv[segment.rows.start * stride..segment.rows.end * stride].chunks_exact(stride);
        for (position, row) in (segment.position..).zip(rows) {
            let (keys, values) = row[q..].split_at(k);
            kv.write(n, position, keys, values);
        }
    }

    let width = config.hidden;
    let rows = kept.map_or(x.len() / width, <[usize]>::len);
    let cols = config.heads * shape.value_dim;
    let attended = grown(&mut pass.buffers.attention, rows * cols, 0.0);
    let mut left = &mut *attended;
    for segment in &pass.segments {
        let wanted = match kept {
            None => segment.rows.clone(),
            Some(kept) => match kept.iter().find(|row| segment.rows.contains(row)) {
                Some(row) => *row..row + 1,
                None => continue,
            },
        };
        let (out, behind) = left.split_at_mut(wanted.len() * cols);
        left = behind;
        let queries = Queries {
            rows: &qkv[wanted.start * stride..wanted.end * stride],
            stride,
            position: segment.position + (wanted.start - segment.rows.start),
            group: config.heads / shape.heads,
            window: weights.window,
            cap: config.score_cap,
        };
        attend(pass.machine, pass.runs[segment.run].kv, n, queries, out);
    }
    for (to, from) in kept.into_iter().flatten().enumerate() {
        x.copy_within(from * width..(from + 1) * width, to * width);
    }
    let x = &mut x[..rows * width];
    let attended = match &weights.projection {
        Projection::Plain(_) => &*attended,
        Projection::Latent(weights) => {
            let latent = &mut pass.buffers.latent;
            latent.values(pass.machine, config, weights, attended)
        }
    };
    let value_dim = config
        .latent
        .map_or(config.head_dim, |latent| latent.value_dim);
    let cols = config.heads * value_dim;
    inputs.fill(pass.machine, (rows, cols), [&weights.output], |t, row| {
        row.copy_from_slice(&attended[t * cols..][..cols]);
    });
    let post = layer.post_attn_norm.as_deref();
    let branch = &mut pass.buffers.branch;
    let norm = (post, config.norm_eps);
    inputs.add_product(pass.machine, &weights.output, norm, branch, x);
}
