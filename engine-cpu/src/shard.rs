//! A range of layers that is ready to compute.

use crate::attention::{Queries, attend};
use crate::error::CpuError;
use crate::kernels::Kernels;
use crate::kv::{Kv, KvShape};
use crate::layer::{Head, Layer};
use crate::machine::{Inputs, Machine, Part, grown};
use crate::matrix::{Kind, Matrix};
use crate::rope::Rope;
use exo_models::{Model, ModelConfig, WeightName};
use std::ops::Range;

/// Positions that go through the layers together: enough to share the work of unpacking weights,
/// few enough for the activations to stay in cache.
pub(crate) const BATCH: usize = 128;

/// A range of a model's layers with the weights mapped.
#[derive(Debug)]
pub(crate) struct ShardModel {
    pub(crate) config: ModelConfig,
    layers: Vec<Layer>,
    embedding: Option<Matrix>,
    head: Option<Head>,
    rope: Rope,
}

/// What enters the first layer of a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input<'a> {
    /// Ids below the model's vocabulary.
    Tokens(&'a [u32]),
    /// `[token][hidden]`.
    Hidden(&'a [f32]),
}

/// Buffers of a forward pass, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    inputs: Inputs,
    angles: Vec<f32>,
    qkv: Vec<f32>,
    attention: Vec<f32>,
    ffn: Vec<f32>,
    /// Of the last position of the last forward that wanted them.
    pub(crate) logits: Vec<f32>,
}

impl ShardModel {
    /// Maps what `range` of `model` needs, and checks its shapes.
    pub(crate) fn load(model: &Model, range: Range<u32>) -> Result<Self, CpuError> {
        let config = model.config().clone();
        let weights = model.weights(range.clone())?;
        let rope = Rope::new(&config);
        let layers = range
            .clone()
            .map(|n| Layer::load(&weights, &config, n))
            .collect::<Result<_, _>>()?;
        let table = (config.vocab, config.hidden);
        let load = |name| Matrix::load(&weights, name, table);
        let embedding = (range.start == 0)
            .then(|| load(WeightName::TokenEmbedding))
            .transpose()?;
        let head = if range.end == config.layers {
            let output = match (config.tied_embeddings, &embedding) {
                (false, _) => load(WeightName::Output)?,
                (true, Some(embedding)) => embedding.clone(),
                (true, None) => load(WeightName::TokenEmbedding)?,
            };
            let norm = Matrix::load_vector(&weights, WeightName::OutputNorm, config.hidden)?;
            Some(Head { norm, output })
        } else {
            None
        };
        Ok(Self {
            config,
            layers,
            embedding,
            head,
            rope,
        })
    }

    /// Every matrix once.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let layers = self.layers.iter().flat_map(|layer| {
            layer
                .qkv
                .iter()
                .chain([&layer.attn_output, &layer.gate, &layer.up, &layer.down])
        });
        let tied = self.config.tied_embeddings && self.embedding.is_some();
        let head = self
            .head
            .iter()
            .filter(move |_| !tied)
            .map(|head| &head.output);
        self.embedding.iter().chain(layers).chain(head)
    }

    /// Bytes of weights.
    pub(crate) fn bytes(&self) -> u64 {
        self.matrices()
            .map(|matrix| matrix.bytes().len() as u64)
            .sum()
    }

    pub(crate) fn is_first(&self) -> bool {
        self.embedding.is_some()
    }

    pub(crate) fn is_last(&self) -> bool {
        self.head.is_some()
    }

    pub(crate) fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: self.layers.len(),
            heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
        }
    }

    /// Runs the layers over new positions, for which `kv` has room, and appends what leaves the
    /// last one to `hidden`: `[token][hidden]`, or nothing on the last stage, which leaves the
    /// logits of the last position in `buffers` if they are wanted.
    pub(crate) fn forward(
        &self,
        machine: &mut Machine,
        buffers: &mut Buffers,
        kv: &mut Kv,
        input: Input<'_>,
        logits: bool,
        hidden: &mut Vec<f32>,
    ) {
        let width = self.config.hidden;
        let tokens = match input {
            Input::Tokens(tokens) => tokens.len(),
            Input::Hidden(states) => states.len() / width,
        };
        let mut x = Vec::new();
        for start in (0..tokens).step_by(BATCH) {
            let end = (start + BATCH).min(tokens);
            let x = grown(&mut x, (end - start) * width, 0.0);
            let x = &mut x[..(end - start) * width];
            match (input, &self.embedding) {
                (Input::Tokens(tokens), Some(embedding)) => {
                    for (token, x) in tokens[start..end].iter().zip(x.chunks_exact_mut(width)) {
                        embedding.read_row(*token as usize, machine.kernels, x);
                    }
                }
                (Input::Tokens(_), None) => x.fill(0.0),
                (Input::Hidden(states), _) => {
                    x.copy_from_slice(&states[start * width..end * width]);
                }
            }
            let x = self.batch(machine, buffers, kv, x);
            match &self.head {
                Some(head) if logits && end == tokens => self.logits(machine, buffers, head, x),
                Some(_) => {}
                None => hidden.extend_from_slice(x),
            }
        }
    }

    /// All layers over one batch. On the last stage only the last token comes out.
    fn batch<'x>(
        &self,
        machine: &mut Machine,
        buffers: &mut Buffers,
        kv: &mut Kv,
        x: &'x mut [f32],
    ) -> &'x [f32] {
        let (width, head_dim) = (self.config.hidden, self.config.head_dim);
        let (tokens, position) = (x.len() / width, kv.len());
        let angles = grown(&mut buffers.angles, tokens * head_dim, 0.0);
        for (t, angles) in angles.chunks_exact_mut(head_dim).take(tokens).enumerate() {
            self.rope.angles(position + t, angles);
        }
        let mut x = x;
        for (n, layer) in self.layers.iter().enumerate() {
            // Of the very last layer, only the last position is ever looked at.
            let keep = self.is_last() && n + 1 == self.layers.len();
            x = self.attention(machine, buffers, kv, (n, layer), x, keep);
            self.feed_forward(machine, buffers, layer, x);
        }
        kv.set_len(position + tokens);
        x
    }

    fn attention<'x>(
        &self,
        machine: &mut Machine,
        buffers: &mut Buffers,
        kv: &mut Kv,
        (n, layer): (usize, &Layer),
        x: &'x mut [f32],
        keep_last: bool,
    ) -> &'x mut [f32] {
        let config = &self.config;
        let (width, head_dim) = (config.hidden, config.head_dim);
        let (q, k) = (config.heads * head_dim, config.kv_heads * head_dim);
        let stride = q + 2 * k;
        let (tokens, position) = (x.len() / width, kv.len());
        let inputs = &mut buffers.inputs;
        norm(
            machine,
            inputs,
            x,
            &layer.attn_norm,
            config.norm_eps,
            quantised(&layer.qkv),
        );
        let qkv = &mut grown(&mut buffers.qkv, tokens * stride, 0.0)[..tokens * stride];
        inputs.multiply(machine, &layer.qkv_parts(), false, qkv);

        let angles = &*buffers.angles;
        let scale = 1.0 / (head_dim as f32).sqrt();
        machine
            .pool
            .run_tiles(qkv, stride, (16, stride), |mut tile, _| {
                for t in tile.rows() {
                    let angles = &angles[t * head_dim..][..head_dim];
                    let (queries, rest) = tile.row(t).split_at_mut(q);
                    self.rope.turn(queries, angles, scale);
                    self.rope.turn(&mut rest[..k], angles, 1.0);
                }
            });
        for (t, row) in qkv.chunks_exact(stride).enumerate() {
            let (keys, values) = row[q..].split_at(k);
            kv.write(n, position + t, keys, values);
        }
        let skip = if keep_last { tokens - 1 } else { 0 };
        let (x, tokens) = (&mut x[skip * width..], tokens - skip);
        let queries = Queries {
            rows: &qkv[skip * stride..],
            stride,
            position: position + skip,
            group: config.heads / config.kv_heads,
            head_dim,
        };
        let attended = &mut grown(&mut buffers.attention, tokens * q, 0.0)[..tokens * q];
        attend(machine, kv, n, queries, attended);
        let quantise = quantised([&layer.attn_output]);
        inputs.fill(machine, tokens, q, quantise, |t, row| {
            row.copy_from_slice(&attended[t * q..][..q]);
        });
        inputs.multiply(machine, &[(&layer.attn_output).into()], true, x);
        x
    }

    fn feed_forward(
        &self,
        machine: &mut Machine,
        buffers: &mut Buffers,
        layer: &Layer,
        x: &mut [f32],
    ) {
        let config = &self.config;
        let (tokens, wide) = (x.len() / config.hidden, config.intermediate);
        let inputs = &mut buffers.inputs;
        let quantise = quantised([&layer.gate, &layer.up]);
        norm(
            machine,
            inputs,
            x,
            &layer.ffn_norm,
            config.norm_eps,
            quantise,
        );
        let ffn = &mut grown(&mut buffers.ffn, tokens * 2 * wide, 0.0)[..tokens * 2 * wide];
        let parts = [Part::from(&layer.gate), Part::from(&layer.up)];
        inputs.multiply(machine, &parts, false, ffn);
        let (ffn, kernels) = (&*ffn, machine.kernels);
        inputs.fill(machine, tokens, wide, quantised([&layer.down]), |t, row| {
            let (gate, up) = ffn[t * 2 * wide..][..2 * wide].split_at(wide);
            row.copy_from_slice(gate);
            (kernels.silu_product)(row, up);
        });
        inputs.multiply(machine, &[(&layer.down).into()], true, x);
    }

    /// The logits of the one position in `x`.
    fn logits(&self, machine: &mut Machine, buffers: &mut Buffers, head: &Head, x: &[f32]) {
        let inputs = &mut buffers.inputs;
        norm(
            machine,
            inputs,
            x,
            &head.norm,
            self.config.norm_eps,
            quantised([&head.output]),
        );
        buffers.logits.resize(self.config.vocab, 0.0);
        inputs.multiply(
            machine,
            &[(&head.output).into()],
            false,
            &mut buffers.logits,
        );
    }
}

/// Whether any of them multiplies with quantised activations.
fn quantised<'a>(matrices: impl IntoIterator<Item = &'a Matrix>) -> bool {
    matrices
        .into_iter()
        .any(|matrix| matches!(matrix.kind(), Kind::Quantised(_)))
}

/// Takes the rows of `x`, normalised, as inputs of the next product.
fn norm(
    machine: &mut Machine,
    inputs: &mut Inputs,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    quantise: bool,
) {
    let width = weight.len();
    let kernels: &Kernels = machine.kernels;
    inputs.fill(machine, x.len() / width, width, quantise, |t, row| {
        (kernels.rms_norm)(&x[t * width..][..width], weight, eps, row);
    });
}
