//! The feed-forward part of a layer.

mod router;

use crate::kernels::Kernels;
use crate::layer::{FeedForward, Gated, Layer, Mixture};
use crate::machine::{Machine, grown};
use crate::pass::Pass;
use crate::product::{Inputs, add_normed};
use exo_models::{Activation, Experts};
use router::{Route, choose};

/// Buffers of the feed-forward part, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Wide {
    /// Gate and up.
    products: Vec<f32>,
    /// What down multiplies with.
    inputs: Inputs,
    /// One expert's rows of the batch, and what it gives.
    expert_inputs: Inputs,
    given: Vec<f32>,
    /// Logits of the router.
    logits: Vec<f32>,
    order: Vec<usize>,
    routes: Vec<Route>,
}

/// What `gate` becomes: `gate` = activation(`gate`) × `up`.
type Product = fn(&mut [f32], &[f32]);

/// The kernel of an activation; nothing for one that this engine does not know.
pub(crate) fn activation(kernels: &Kernels, activation: Activation) -> Option<Product> {
    match activation {
        Activation::Silu => Some(kernels.silu_product),
        Activation::GeluTanh => Some(kernels.gelu_product),
        _ => None,
    }
}

/// Adds to `x`, `[row][hidden]`, what the layer's feed-forward part gives.
pub(crate) fn feed_forward(pass: &mut Pass<'_, '_>, layer: &Layer, x: &mut [f32]) {
    let config = &pass.model.config;
    let (width, eps) = (config.hidden, config.norm_eps);
    let shape = (x.len() / width, width);
    let (machine, buffers) = (&mut *pass.machine, &mut *pass.buffers);
    let (inputs, wide, branch) = (&mut buffers.inputs, &mut buffers.wide, &mut buffers.branch);
    let kernels = machine.kernels;
    let product = activation(kernels, config.activation).unwrap_or(kernels.silu_product);
    let post = layer.post_ffn_norm.as_deref();
    let norm = |t: usize, row: &mut [f32]| {
        (kernels.rms_norm)(&x[t * width..][..width], &layer.ffn_norm, eps, row);
    };
    match &layer.ffn {
        FeedForward::Dense(gated) => {
            inputs.fill(machine, shape, &gated.wide, norm);
            wide.activate(machine, inputs, gated, product);
            let down = &gated.down;
            wide.inputs
                .add_product(machine, down, (post, eps), branch, x);
        }
        FeedForward::Experts(mixture) => {
            let Some(experts) = &config.experts else {
                return;
            };
            let shared = mixture.shared.iter().flat_map(|shared| &shared.wide);
            inputs.fill(machine, shape, shared.chain([&mixture.router]), norm);
            let given = grown(branch, x.len(), 0.0);
            match &mixture.shared {
                Some(shared) => {
                    wide.activate(machine, inputs, shared, product);
                    wide.inputs.multiply(machine, &[&shared.down], false, given);
                }
                None => given.fill(0.0),
            }
            wide.route(machine, inputs, mixture, experts);
            wide.experts(machine, inputs, mixture, product, given);
            match post {
                Some(post) => add_normed(machine, given, post, eps, x),
                None => (kernels.add)(x, given),
            }
        }
    }
}

impl Wide {
    /// Makes of `inputs` what `gated` multiplies down.
    fn activate(
        &mut self,
        machine: &mut Machine,
        inputs: &Inputs,
        gated: &Gated,
        product: Product,
    ) {
        let [gate, up] = &gated.wide;
        let (rows, wide) = (inputs.rows(), gate.matrix.rows());
        let products = grown(&mut self.products, rows * 2 * wide, 0.0);
        inputs.multiply(machine, &[gate, up], false, products);
        let products = &*products;
        let by = [&gated.down];
        self.inputs.fill(machine, (rows, wide), by, |t, row| {
            let (gate, up) = products[t * 2 * wide..][..2 * wide].split_at(wide);
            row.copy_from_slice(gate);
            product(row, up);
        });
    }

    /// Chooses the experts of each row, in the order of the experts.
    fn route(
        &mut self,
        machine: &mut Machine,
        inputs: &Inputs,
        mixture: &Mixture,
        experts: &Experts,
    ) {
        let (rows, count) = (inputs.rows(), mixture.experts.len());
        let logits = grown(&mut self.logits, rows * count, 0.0);
        inputs.multiply(machine, &[&mixture.router], false, logits);
        self.routes.clear();
        for logits in logits.chunks_exact_mut(count.max(1)).enumerate() {
            choose(
                machine.kernels,
                experts,
                mixture.choice_bias.as_deref(),
                logits,
                &mut self.order,
                &mut self.routes,
            );
        }
        // A row's results are then added in the order of its experts, however it is batched.
        self.routes
            .sort_unstable_by_key(|route| (route.expert, route.row));
    }

    /// Adds to `given` what the experts give: each one's weights are read once for all its rows.
    fn experts(
        &mut self,
        machine: &mut Machine,
        inputs: &Inputs,
        mixture: &Mixture,
        product: Product,
        given: &mut [f32],
    ) {
        let kernels = machine.kernels;
        let routes = std::mem::take(&mut self.routes);
        let mut expert_inputs = std::mem::take(&mut self.expert_inputs);
        for routes in routes.chunk_by(|a, b| a.expert == b.expert) {
            let expert = routes.first().map(|route| &mixture.experts[route.expert]);
            let Some(expert) = expert else { continue };
            let width = inputs.cols();
            let shape = (routes.len(), width);
            expert_inputs.fill(machine, shape, &expert.wide, |t, row| {
                row.copy_from_slice(inputs.row(routes[t].row));
            });
            self.activate(machine, &expert_inputs, expert, product);
            let one = grown(&mut self.given, routes.len() * width, 0.0);
            self.inputs.multiply(machine, &[&expert.down], false, one);
            for (route, one) in routes.iter().zip(one.chunks_exact(width)) {
                let given = &mut given[route.row * width..][..width];
                (kernels.weigh)(&[route.weight], one, given);
            }
        }
        (self.routes, self.expert_inputs) = (routes, expert_inputs);
    }
}
