//! The ring that answers soonest: which nodes take part, in which order, with which layers.
//!
//! A ring is judged by the time that a typical request takes ([`Workload`]). Its prompt goes
//! through the stages in pieces, so that they work at the same time: the first piece takes all
//! stages and hops, each further one only as long as the slowest of them. Then every token takes all
//! stages, all hops, and the way back to the first stage. What a stage takes follows from the bytes
//! of its layers and from its node's [`Speed`]; all layers count as large as the average, and where
//! memory is concerned as large as the largest.
//!
//! Times are whole nanoseconds: sums of them do not depend on their order.

mod search;

pub use search::{Choice, Found, search};

use super::{LinkMetrics, ModelCost, Speed};
use crate::id::NodeId;
use alloc::vec::Vec;
use core::time::Duration;

/// A node that may take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Bytes of memory that it gives to the model.
    pub budget: u64,
    /// How quick its engine is.
    pub speed: Speed,
}

/// The request by which rings are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Positions of the prompt.
    pub prompt: u32,
    /// Positions that a stage computes at once, at most.
    pub piece: u32,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Positions for which there must be room in KV caches.
    pub positions: u32,
}

impl Default for Workload {
    /// A prompt of 512 tokens in pieces of 256, an answer of 128 tokens, and room for both.
    fn default() -> Self {
        Self {
            prompt: 512,
            piece: 256,
            tokens: 128,
            positions: 640,
        }
    }
}

/// How long a request is predicted to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prediction {
    /// From the question to the last token.
    pub total: Duration,
    /// From the question to the first token.
    pub first: Duration,
    /// From each token to the next.
    pub token: Duration,
}

impl Prediction {
    /// Tokens per second after the first one.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.token.as_secs_f64();
        if seconds > 0.0 { 1.0 / seconds } else { 0.0 }
    }
}

/// A model to place over some nodes, with all that is known of them.
#[derive(Clone, Debug)]
pub struct Problem {
    members: Vec<Member>,
    times: Vec<Times>,
    /// By source and target; the last index is the origin.
    hops: Vec<Vec<Hop>>,
    layers: u32,
    pieces: u64,
    tokens: u64,
    cost: ModelCost,
    workload: Workload,
}

/// How long a member takes, in nanoseconds, and what it holds.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// A layer for one position.
    decode: u64,
    /// A layer for a piece of the prompt.
    piece: u64,
    /// The head for one position.
    head: u64,
    /// The most layers: with no end of the model, with the first, with the last, with both.
    most: [u32; 4],
}

/// How long a hop takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    /// The way alone, with waking up whoever waits: what a token takes.
    way: u64,
    /// The hidden state of one position, the way included.
    step: u64,
    /// The hidden state of a piece, without the way: the link is busy with it for so long.
    piece: u64,
    /// The prompt's tokens, the way included.
    prompt: u64,
}

/// A round trip that nobody measured, in microseconds: a wireless network.
pub const USUAL_RTT_US: u64 = 2_000;

/// A goodput that nobody measured, in bytes per second: half of a network of 1 Gbit/s.
pub const USUAL_GOODPUT: u64 = 60_000_000;

/// `amount / rate` seconds as nanoseconds, rounded up.
fn nanos(amount: u128, rate: u64) -> u64 {
    let nanos = amount
        .saturating_mul(1_000_000_000)
        .div_ceil(u128::from(rate.max(1)));
    // A thousand years are for ever, and leave room to add many of them up.
    u64::try_from(nanos).unwrap_or(u64::MAX).min(1 << 54)
}

/// What is known of a way by either end, first of all by the one that sends.
fn between(
    link: &impl Fn(&NodeId, &NodeId) -> LinkMetrics,
    from: &NodeId,
    to: &NodeId,
) -> LinkMetrics {
    link(from, to).or(link(to, from))
}

/// How much longer a round trip takes behind steps of requests, in microseconds: the middle one of
/// what the ways between these showed that steps took, for those on which none went yet. Else rings
/// over new ways would seem quicker than the same over known ones.
fn waking(members: &[Member], link: &impl Fn(&NodeId, &NodeId) -> LinkMetrics) -> u64 {
    let pairs = members.iter().enumerate().flat_map(|(at, from)| {
        let others = members.iter().skip(at + 1);
        others.map(move |to| (&from.node, &to.node))
    });
    let longer = |(from, to)| {
        let between = between(link, from, to);
        Some(between.loaded_us?.saturating_sub(between.rtt_us?))
    };
    let mut longer: Vec<u64> = pairs.filter_map(longer).collect();
    longer.sort_unstable();
    longer.get(longer.len() / 2).copied().unwrap_or(0)
}

impl Problem {
    /// The model's costs must be known for its number of layers. `link` tells what is known of the
    /// way from one member to another; the origin is the node that asks, a member or not.
    #[must_use]
    pub fn new(
        cost: ModelCost,
        members: Vec<Member>,
        origin: &NodeId,
        workload: Workload,
        link: impl Fn(&NodeId, &NodeId) -> LinkMetrics,
    ) -> Self {
        let layers = u32::try_from(cost.layers.len()).unwrap_or(u32::MAX);
        let pieces = workload.prompt.div_ceil(workload.piece.max(1)).max(1);
        let piece = workload.prompt.div_ceil(pieces).max(1);
        let hidden = u128::from(cost.hidden_bytes());
        let waking = waking(&members, &link);
        let hop = |from: &NodeId, to: &NodeId| {
            if from == to {
                return Hop::default();
            }
            let between = between(&link, from, to);
            let rtt = between.rtt_us.unwrap_or(USUAL_RTT_US);
            let goodput = between.goodput.unwrap_or(USUAL_GOODPUT);
            let loaded = between.loaded_us.unwrap_or(rtt.saturating_add(waking));
            let way = rtt.max(loaded).saturating_mul(500);
            let over = |bytes: u128| nanos(bytes, goodput);
            Hop {
                way,
                step: way.saturating_add(over(hidden)),
                piece: over(hidden.saturating_mul(piece.into())),
                prompt: way.saturating_add(over(u128::from(workload.prompt) * 4)),
            }
        };
        let ends: Vec<&NodeId> = members
            .iter()
            .map(|member| &member.node)
            .chain([origin])
            .collect();
        let hops = ends
            .iter()
            .map(|from| ends.iter().map(|to| hop(from, to)).collect())
            .collect();
        let times = members
            .iter()
            .map(|member| Times::new(&cost, member, piece, &workload, layers))
            .collect();
        Self {
            members,
            times,
            hops,
            layers,
            pieces: pieces.into(),
            tokens: workload.tokens.max(1).into(),
            cost,
            workload,
        }
    }

    /// Who may take part.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The most layers that a member can hold when it has these ends of the model.
    #[must_use]
    pub fn most_layers(&self, member: usize, first: bool, last: bool) -> u32 {
        let end = usize::from(first) + 2 * usize::from(last);
        let times = self.times.get(member);
        times
            .and_then(|times| times.most.get(end))
            .copied()
            .unwrap_or(0)
    }

    /// What a stage needs, for messages.
    #[must_use]
    pub fn stage_bytes(&self, range: core::ops::Range<u32>) -> super::StageBytes {
        let workload = &self.workload;
        self.cost.stage(range, workload.positions, workload.piece)
    }

    /// How long one position takes a stage, and a piece of the prompt.
    #[must_use]
    pub fn stage_times(&self, member: usize, layers: u32, last: bool) -> (Duration, Duration) {
        let Some(times) = self.times.get(member) else {
            return Default::default();
        };
        let head = if last { times.head } else { 0 };
        let decode = times
            .decode
            .saturating_mul(layers.into())
            .saturating_add(head);
        let piece = times.piece.saturating_mul(layers.into());
        (Duration::from_nanos(decode), Duration::from_nanos(piece))
    }

    /// How long the workload takes over a ring: members in order, each with its number of layers.
    /// `None` if the ring is empty or names nobody.
    #[must_use]
    pub fn predict(&self, ring: &[(usize, u32)]) -> Option<Prediction> {
        let origin = self.members.len();
        let (first, last) = (ring.first()?.0, ring.last()?.0);
        let hop = |from: usize, to: usize| self.hops.get(from)?.get(to).copied();
        let (mut piece, mut decode, mut slowest) = (0_u64, 0_u64, 0_u64);
        let mut before = None;
        for &(member, layers) in ring {
            let times = self.times.get(member)?;
            let own = times.piece.saturating_mul(layers.into());
            piece = piece.saturating_add(own);
            decode = decode.saturating_add(times.decode.saturating_mul(layers.into()));
            slowest = slowest.max(own);
            if let Some(before) = before {
                let hop = hop(before, member)?;
                piece = piece.saturating_add(hop.piece).saturating_add(hop.way);
                decode = decode.saturating_add(hop.step);
                slowest = slowest.max(hop.piece);
            }
            before = Some(member);
        }
        let head = self.times.get(last)?.head;
        let token = decode
            .saturating_add(head)
            .saturating_add(hop(last, first)?.way);
        let more = slowest.saturating_mul(self.pieces.saturating_sub(1));
        let told = hop(last, origin)?.way;
        let sum = [hop(origin, first)?.prompt, piece, more, head, told];
        let first = sum.into_iter().fold(0, u64::saturating_add);
        let rest = token.saturating_mul(self.tokens.saturating_sub(1));
        Some(Prediction {
            total: Duration::from_nanos(first.saturating_add(rest)),
            first: Duration::from_nanos(first),
            token: Duration::from_nanos(token),
        })
    }

    /// Whether every stage of a ring fits into its node's memory, by the exact bytes of its layers.
    #[must_use]
    pub fn fits(&self, ring: &[(usize, u32)]) -> bool {
        let mut start = 0_u32;
        ring.iter().all(|&(member, layers)| {
            let end = start.saturating_add(layers);
            let needed = self.stage_bytes(start..end).sum();
            start = end;
            let member = self.members.get(member);
            member.is_some_and(|member| needed <= member.budget)
        })
    }
}

impl Times {
    fn new(cost: &ModelCost, member: &Member, piece: u32, work: &Workload, layers: u32) -> Self {
        let (average, speed) = (u128::from(cost.average()), member.speed);
        let one = cost.kv.saturating_mul(work.positions.into());
        let one = one.saturating_add(cost.largest()).max(1);
        let most = |first, last| {
            let rest = member.budget.checked_sub(cost.ends(first, last));
            let rest = rest.and_then(|rest| rest.checked_sub(cost.activations(work.piece)));
            let most = rest.map_or(0, |rest| rest / one);
            u32::try_from(most).unwrap_or(u32::MAX).min(layers)
        };
        Self {
            decode: nanos(average, speed.decode),
            piece: nanos(average.saturating_mul(piece.into()), speed.prefill),
            head: nanos(cost.head.into(), speed.decode),
            most: [
                most(false, false),
                most(true, false),
                most(false, true),
                most(true, true),
            ],
        }
    }
}

#[cfg(test)]
mod tests;
