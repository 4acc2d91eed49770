//! Finding the quickest ring: exactly over few nodes, from good beginnings over many.

use super::{Prediction, Problem};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Over so many nodes every ring is looked at: all their subsets in all orders, 1956 of them.
const EXACT: usize = 6;

/// Beyond [`EXACT`], this many nodes are looked at, those with the largest budgets of the quickest
/// half and those with the largest budgets at all.
const MOST: usize = 16;

/// Improvements of one beginning, beyond [`EXACT`].
const ROUNDS: usize = 64;

/// Where many rings are looked at, so many limits to the slowest stage are tried for each.
const COARSE: usize = 24;

/// A ring and how long it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Members in order, each with its number of layers.
    pub ring: Vec<(usize, u32)>,
    /// How long it takes.
    pub prediction: Prediction,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The quickest ring.
    pub best: Choice,
    /// The quickest of those over other nodes.
    pub runner_up: Option<Choice>,
    /// For each member the quickest ring in which it takes part, where there is one.
    pub with: Vec<Option<Prediction>>,
    /// Whether no ring is quicker; else there were too many nodes to look at all.
    pub exact: bool,
}

/// The quickest ring; among equals the one that was looked at first, which has fewer nodes. `None`
/// if no ring holds the model.
#[must_use]
pub fn search(problem: &Problem) -> Option<Found> {
    let count = problem.members.len();
    let exact = count <= EXACT;
    let mut seen = Seen {
        problem,
        best: BTreeMap::new(),
        coarse: !exact,
    };
    if exact {
        let all: Vec<usize> = (0..count).collect();
        for length in 1..=count {
            orders(&all, length, &mut Vec::new(), &mut |order| {
                seen.look(order);
            });
        }
    } else {
        approach(&mut seen);
    }
    let with = (0..count)
        .map(|member| {
            let of = seen.best.iter().filter(|(set, _)| set.contains(&member));
            of.map(|(_, choice)| choice.prediction).min()
        })
        .collect();
    let mut all: Vec<(Vec<usize>, Choice)> = seen.best.into_iter().collect();
    all.sort_by_key(|(set, choice)| (choice.prediction.total, set.len()));
    let mut all = all.into_iter().map(|(_, choice)| choice);
    Some(Found {
        best: all.next()?,
        runner_up: all.next(),
        with,
        exact,
    })
}

/// All orders of `length` of the given members.
fn orders(all: &[usize], length: usize, begun: &mut Vec<usize>, see: &mut impl FnMut(&[usize])) {
    if begun.len() == length {
        see(begun);
        return;
    }
    for &member in all {
        if !begun.contains(&member) {
            begun.push(member);
            orders(all, length, begun, see);
            begun.pop();
        }
    }
}

/// The quickest ring of each set of nodes that was looked at.
struct Seen<'a> {
    problem: &'a Problem,
    best: BTreeMap<Vec<usize>, Choice>,
    coarse: bool,
}

impl Seen<'_> {
    /// The quickest cut of an order of members, if they hold the model.
    fn look(&mut self, order: &[usize]) -> Option<Choice> {
        let ring = self.problem.cut(order, self.coarse)?;
        let prediction = self.problem.predict(&ring)?;
        let choice = Choice { ring, prediction };
        let mut set = order.to_vec();
        set.sort_unstable();
        let known = self.best.entry(set).or_insert_with(|| choice.clone());
        if choice.prediction.total < known.prediction.total {
            known.clone_from(&choice);
        }
        Some(choice)
    }
}

/// The beginnings that hold the model, with how long they take.
fn begin(seen: &mut Seen<'_>, orders: Vec<Vec<usize>>) -> Vec<(Prediction, Vec<usize>)> {
    let looked = orders.into_iter().filter_map(|order| {
        let choice = seen.look(&order)?;
        Some((choice.prediction, order))
    });
    looked.collect()
}

/// Begins with each node alone and with the largest ones together, and takes a node in, leaves one
/// out, or lets two change places for as long as that makes the ring quicker.
fn approach(seen: &mut Seen<'_>) {
    let members = &seen.problem.members;
    let mut large: Vec<usize> = (0..members.len()).collect();
    large.sort_by_key(|&at| Reverse(members.get(at).map_or(0, |member| member.budget)));
    let mut quick = large.clone();
    quick.sort_by_key(|&at| Reverse(members.get(at).map_or(0, |member| member.speed.decode)));
    quick.truncate(MOST / 2);
    let mut all = quick.clone();
    for &at in &large {
        if all.len() < MOST && !all.contains(&at) {
            all.push(at);
        }
    }
    let alone = quick.iter().map(|&at| vec![at]);
    let together = (2..=all.len()).map(|count| large.iter().copied().take(count).collect());
    let beginnings: Vec<Vec<usize>> = alone.chain(together).collect();
    let mut begun = begin(seen, beginnings);
    if begun.is_empty() {
        begun = begin(seen, seen.problem.whatever_holds());
    }
    begun.sort();
    for (mut prediction, mut order) in begun.into_iter().take(3) {
        for _ in 0..ROUNDS {
            let better = neighbours(&order, &all).into_iter().filter_map(|order| {
                let choice = seen.look(&order)?;
                Some((choice.prediction, order))
            });
            match better.min().filter(|(better, _)| *better < prediction) {
                Some(better) => (prediction, order) = better,
                None => break,
            }
        }
    }
}

/// Orders that differ in one node, or in the places of two.
fn neighbours(order: &[usize], all: &[usize]) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    for at in 0..order.len() {
        let mut fewer = order.to_vec();
        fewer.remove(at);
        found.push(fewer);
        for other in at + 1..order.len() {
            let mut swapped = order.to_vec();
            swapped.swap(at, other);
            found.push(swapped);
        }
    }
    for &member in all.iter().filter(|member| !order.contains(member)) {
        for at in 0..=order.len() {
            let mut more = order.to_vec();
            more.insert(at, member);
            found.push(more);
        }
        for at in 0..order.len() {
            let mut other = order.to_vec();
            if let Some(place) = other.get_mut(at) {
                *place = member;
            }
            found.push(other);
        }
    }
    found
}

/// A stage whose number of layers is sought.
struct Open {
    member: usize,
    /// Nanoseconds of one more layer, over the whole workload but for the slowest stage's part.
    price: u64,
    /// Nanoseconds of one more layer for a piece.
    piece: u64,
    most: u32,
}

impl Problem {
    /// Each node that holds the model alone, and for each two that can have the ends of it an order that
    /// holds it, if there is one: where the ends are large, the small nodes can only be in the middle.
    /// Only the first few, with the largest nodes at the ends.
    fn whatever_holds(&self) -> Vec<Vec<usize>> {
        let inner = |at: usize| self.most_layers(at, false, false);
        let all = (0..self.members.len()).map(|at| u64::from(inner(at)));
        if all.sum::<u64>() < self.layers.into() {
            return Vec::new();
        }
        let mut large: Vec<usize> = (0..self.members.len()).collect();
        large.sort_by_key(|&at| Reverse(self.members.get(at).map_or(0, |member| member.budget)));
        let pairs = large
            .iter()
            .flat_map(|&first| large.iter().map(move |&last| (first, last)));
        let order = |(first, last): (usize, usize)| {
            let ends = [
                self.most_layers(first, true, false),
                self.most_layers(last, false, true),
            ];
            if first == last || ends.contains(&0) {
                return None;
            }
            let mut left = ends
                .iter()
                .fold(self.layers, |left, most| left.saturating_sub(*most));
            let mut order = vec![first];
            for &at in large.iter().filter(|at| ![first, last].contains(at)) {
                if left == 0 || inner(at) == 0 {
                    break;
                }
                left = left.saturating_sub(inner(at));
                order.push(at);
            }
            order.push(last);
            (left == 0).then_some(order)
        };
        let alone = large
            .iter()
            .filter(|&&at| self.most_layers(at, true, true) >= self.layers)
            .map(|&at| vec![at]);
        alone.chain(pairs.filter_map(order)).take(MOST).collect()
    }

    /// The quickest cut over an order of members: exact, unless `coarse`.
    ///
    /// If no stage may take longer over a piece than some limit, layers are best given to whom they
    /// cost least, up to that limit and to what fits. So each limit has its best cut, and the best
    /// limit is the time that one of the stages takes for some number of layers.
    fn cut(&self, order: &[usize], coarse: bool) -> Option<Vec<(usize, u32)>> {
        let mut stages = Vec::with_capacity(order.len());
        for (at, &member) in order.iter().enumerate() {
            let times = self.times.get(member)?;
            let most = self.most_layers(member, at == 0, at + 1 == order.len());
            let more = self.tokens.saturating_sub(1);
            stages.push(Open {
                member,
                price: times
                    .piece
                    .saturating_add(times.decode.saturating_mul(more)),
                piece: times.piece,
                most,
            });
        }
        let room: u64 = stages.iter().map(|stage| u64::from(stage.most)).sum();
        if stages.iter().any(|stage| stage.most == 0) || room < self.layers.into() {
            return None;
        }
        let mut cheapest: Vec<usize> = (0..stages.len()).collect();
        cheapest.sort_by_key(|&at| stages.get(at).map(|stage| stage.price));
        let mut best = fill(&stages, &cheapest, self.layers, u64::MAX)?;
        if self.pieces > 1 && stages.len() > 1 {
            let mut cost = self.price(&stages, &best);
            for limit in self.limits(&stages, coarse) {
                let Some(cut) = fill(&stages, &cheapest, self.layers, limit) else {
                    continue;
                };
                let price = self.price(&stages, &cut);
                if price < cost {
                    (best, cost) = (cut, price);
                }
            }
        }
        let members = stages.iter().map(|stage| stage.member);
        Some(members.zip(best).collect())
    }

    /// What the slowest stage of the best cut may take.
    fn limits(&self, stages: &[Open], coarse: bool) -> Vec<u64> {
        let each = |stage: &Open| {
            let piece = stage.piece;
            (1..=stage.most).map(move |layers| piece.saturating_mul(layers.into()))
        };
        let mut limits: Vec<u64> = stages.iter().flat_map(each).collect();
        limits.sort_unstable();
        limits.dedup();
        // Below this, one of them would have no layer.
        let least = stages.iter().map(|stage| stage.piece).max().unwrap_or(0);
        limits.retain(|&limit| limit >= least);
        if coarse {
            let step = limits.len().div_ceil(COARSE).max(1);
            limits = limits.into_iter().step_by(step).collect();
        }
        limits
    }

    /// What a cut costs beyond what is the same for all cuts of its order.
    fn price(&self, stages: &[Open], cut: &[u32]) -> u64 {
        let hops = stages.iter().zip(stages.iter().skip(1));
        let hop = |(from, to): (&Open, &Open)| {
            let hop = self.hops.get(from.member)?.get(to.member)?;
            Some(hop.piece)
        };
        let mut slowest = hops.filter_map(hop).max().unwrap_or(0);
        let mut sum = 0_u64;
        for (stage, &layers) in stages.iter().zip(cut) {
            slowest = slowest.max(stage.piece.saturating_mul(layers.into()));
            sum = sum.saturating_add(stage.price.saturating_mul(layers.into()));
        }
        sum.saturating_add(slowest.saturating_mul(self.pieces.saturating_sub(1)))
    }
}

/// Gives each stage a layer, and the others to the cheapest ones that may have more.
fn fill(stages: &[Open], cheapest: &[usize], layers: u32, limit: u64) -> Option<Vec<u32>> {
    let mut cut = vec![1; stages.len()];
    let mut left = layers.checked_sub(u32::try_from(stages.len()).ok()?)?;
    for &at in cheapest {
        let (stage, own) = (stages.get(at)?, cut.get_mut(at)?);
        let may = limit.checked_div(stage.piece).unwrap_or(u64::MAX);
        let may = u32::try_from(may).unwrap_or(u32::MAX).min(stage.most);
        let more = may.saturating_sub(1).min(left);
        *own += more;
        left -= more;
    }
    (left == 0).then_some(cut)
}
