//! Choosing a token from logits.

use crate::kernels::Kernels;
use exo_protocol::engine::Sampling;
use std::cmp::Ordering;

/// The token that `sampling` chooses from `logits` for `position` (of the token that is chosen,
/// the first of the prompt being zero). The same arguments always choose the same token.
///
/// Temperature zero takes the likeliest, the lowest id among equals. Otherwise the candidates are
/// ordered by falling logit, then by rising id; the first `top_k` are kept; of those the fewest
/// first ones whose probability reaches `top_p` (at least one); and the first whose cumulative
/// probability exceeds `u` is chosen, with `u` drawn from `seed` and `position` alone. Logits that
/// are not numbers never win. Empty logits choose zero.
#[must_use]
pub fn choose(logits: &[f32], sampling: &Sampling, position: u32) -> u32 {
    let temperature = sampling.temperature;
    if temperature.is_nan() || temperature <= 0.0 || sampling.top_k == 1 {
        return greedy(logits);
    }
    let best = logits
        .get(greedy(logits) as usize)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    if !best.is_finite() {
        return greedy(logits);
    }
    // Relative to the best one, so that nothing overflows however small the temperature is; the
    // best one becomes zero, and so the largest.
    let mut weights: Vec<f32> = logits
        .iter()
        .map(|logit| (logit - best) / temperature)
        .map(|x| if x.is_nan() { f32::NEG_INFINITY } else { x })
        .collect();
    (Kernels::detect().softmax)(&mut weights);
    // Exponentials end there: what is left is zero for all purposes, or no number.
    for weight in weights.iter_mut().filter(|weight| **weight < 2e-38) {
        *weight = 0.0;
    }
    let weight = |id: u32| weights.get(id as usize).copied().map_or(0.0, f64::from);
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let limit = match sampling.top_k as usize {
        0 => order.len(),
        k => k.min(order.len()),
    };
    let logit = |id: u32| {
        logits
            .get(id as usize)
            .copied()
            .unwrap_or(f32::NEG_INFINITY)
    };
    let by_logit = |a: &u32, b: &u32| fall(logit(*a), logit(*b)).then(a.cmp(b));
    let all: f64 = if limit == order.len() {
        weights.iter().copied().map(f64::from).sum()
    } else {
        sort_first(&mut order, limit, by_logit);
        order.iter().take(limit).map(|id| weight(*id)).sum()
    };
    let top_p = if sampling.top_p > 0.0 {
        f64::from(sampling.top_p.min(1.0))
    } else {
        0.0
    };
    let u = sampling.uniform(position);
    // The likeliest few nearly always reach far enough; the whole vocabulary is sorted only when
    // they do not.
    let mut sorted = if limit == order.len() { 0 } else { limit };
    let mut candidate = |at: usize, order: &mut [u32]| {
        if at == sorted {
            sorted = (sorted * 8).clamp(64, limit.max(64)).min(limit);
            sort_first(order, sorted, by_logit);
        }
        order.get(at).map_or((0, 0.0), |id| (*id, weight(*id)))
    };
    let (mut count, mut kept) = (limit, all);
    if top_p < 1.0 {
        (count, kept) = (0, 0.0);
        while count < limit && (count == 0 || kept < top_p * all) {
            kept += candidate(count, &mut order).1;
            count += 1;
        }
    }
    let mut left = u * kept;
    for at in 0..count {
        let (id, weight) = candidate(at, &mut order);
        left -= weight;
        if left < 0.0 {
            return id;
        }
    }
    // Rounding may leave a crumb: it belongs to the likeliest.
    order.first().copied().unwrap_or(0)
}

fn greedy(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in logits.iter().enumerate() {
        if *logit > best.1 {
            best = (id as u32, *logit);
        }
    }
    best.0
}

/// Larger first, what is not a number last.
fn fall(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Puts the first `count` in order; the rest come after them in any order.
fn sort_first(ids: &mut [u32], count: usize, by: impl Fn(&u32, &u32) -> Ordering) {
    if count < ids.len() {
        ids.select_nth_unstable_by(count, &by);
    }
    if let Some(first) = ids.get_mut(..count) {
        first.sort_unstable_by(by);
    }
}
