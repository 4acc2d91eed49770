//! Which experts a position uses.

use crate::kernels::Kernels;
use exo_models::{Experts, Scoring};
use std::cmp::Ordering;

/// An expert that a row of the batch uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) expert: usize,
    pub(crate) row: usize,
    /// What its result is multiplied by.
    pub(crate) weight: f32,
}

/// Chooses experts by the `logits` of `row`, one for each expert, which become scores; appends them
/// to `routes`. `order` is for its own use.
///
/// Among equals the expert with the lower number is taken.
pub(crate) fn choose(
    kernels: &Kernels,
    experts: &Experts,
    choice_bias: Option<&[f32]>,
    (row, logits): (usize, &mut [f32]),
    order: &mut Vec<usize>,
    routes: &mut Vec<Route>,
) {
    match experts.scoring {
        Scoring::Softmax => {
            let inverse = (kernels.softmax)(logits);
            logits.iter_mut().for_each(|score| *score *= inverse);
        }
        Scoring::Sigmoid => (kernels.sigmoid)(logits),
    }
    let scores = &*logits;
    let rank = |expert: usize| scores[expert] + choice_bias.map_or(0.0, |bias| bias[expert]);
    order.clear();
    if experts.active_groups < experts.groups {
        let size = scores.len() / experts.groups;
        let mut groups: Vec<(usize, f32)> = (0..experts.groups)
            .map(|group| {
                let ranks = (group * size..(group + 1) * size).map(rank);
                (group, best(ranks, experts.group_by_two))
            })
            .collect();
        groups.sort_by(|a, b| fall(a.1, b.1));
        for (group, _) in groups.iter().take(experts.active_groups) {
            order.extend(group * size..(group + 1) * size);
        }
    } else {
        order.extend(0..scores.len());
    }
    order.sort_by(|a, b| fall(rank(*a), rank(*b)).then(a.cmp(b)));
    order.truncate(experts.active);
    let sum: f32 = order.iter().map(|expert| scores[*expert]).sum();
    let scale = if experts.normalise {
        experts.scale / sum
    } else {
        experts.scale
    };
    routes.extend(order.iter().map(|expert| Route {
        expert: *expert,
        row,
        weight: scores[*expert] * scale,
    }));
}

/// How good a group is: as its best expert, or as its best two together.
fn best(ranks: impl Iterator<Item = f32>, two: bool) -> f32 {
    let none = f32::NEG_INFINITY;
    let (first, second) = ranks.fold((none, none), |(first, second), rank| {
        if rank > first {
            (rank, first)
        } else {
            (first, second.max(rank))
        }
    });
    if two && second > none {
        first + second
    } else {
        first
    }
}

/// Larger first, what is not a number last.
fn fall(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests;
