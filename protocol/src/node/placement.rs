//! Placing a model where a request is done soonest, and telling how a model would be placed.

mod report;

pub use report::{By, LinkShare, NodeShare, Part, Placement, Question};

use super::Node;
use super::failure::Rejection;
use super::output::Stage;
use super::place::{Need, Shortage};
use crate::config::Strategy;
use crate::id::{ModelId, NodeId};
use crate::shard::Shard;
use crate::topology::auto::{Choice, Found, Member, Prediction, Problem, Workload, search};
use crate::topology::{Capabilities, Speed, StageBytes, budget, pin};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Rings that are remembered, one for each model.
const MOST_PLACED: usize = 16;

/// Nodes that an error names.
const MOST_NAMED: usize = 8;

/// Ways of which is told: those between as many nodes as are looked at.
const MOST_LINKS: usize = 120;

/// Members and the problem of placing a model over them.
struct Table {
    members: Vec<(NodeId, i64)>,
    problem: Problem,
}

impl Table {
    /// The stages of a ring in the problem's words, if all of its nodes are there.
    fn indices(&self, ring: &[Stage]) -> Option<Vec<(usize, u32)>> {
        let index = |stage: &Stage| {
            let mut members = self.members.iter();
            let at = members.position(|(node, _)| *node == stage.node)?;
            Some((at, stage.shard.len()))
        };
        ring.iter().map(index).collect()
    }

    /// The other way.
    fn stages(&self, ring: &[(usize, u32)], need: &Need<'_>) -> Vec<Stage> {
        let mut next = 0_u32;
        let stage = |&(at, layers): &(usize, u32)| {
            let range = next..next.saturating_add(layers);
            next = range.end;
            Some(Stage {
                node: self.members.get(at)?.0.clone(),
                shard: Shard::new(need.model.clone(), range, need.layers)?,
            })
        };
        ring.iter().filter_map(stage).collect()
    }

    fn predict(&self, ring: &[Stage]) -> Option<Prediction> {
        self.problem.predict(&self.indices(ring)?)
    }

    /// The ring, if every stage of it fits.
    fn fits(&self, ring: &[Stage]) -> bool {
        let indices = self.indices(ring);
        indices.is_some_and(|ring| self.problem.fits(&ring))
    }
}

impl Node {
    /// The problem of placing a model whose cost is known.
    fn table(&self, need: &Need<'_>, members: &[(NodeId, i64)]) -> Option<Table> {
        let (cost, positions) = need.cost?;
        if !cost.tells(need.layers) {
            return None;
        }
        let member = |(node, memory): &(NodeId, i64)| {
            let machine = self.topology.nodes.get(node);
            let told = machine.and_then(|machine| machine.speed);
            let guess = || Speed::guess(&machine.map(|machine| machine.flops).unwrap_or_default());
            Member {
                node: node.clone(),
                budget: budget(*memory),
                speed: told.unwrap_or_else(guess),
            }
        };
        let workload = Workload {
            piece: self.config.limits.prefill.max(1),
            positions,
            ..Workload::default()
        };
        let of_all = members.iter().map(member).collect();
        let link = |from: &NodeId, to: &NodeId| self.topology.link(from, to);
        let origin = &self.config.node;
        Some(Table {
            members: members.to_vec(),
            problem: Problem::new(cost.clone(), of_all, origin, workload, link),
        })
    }

    /// The ring that the strategy `auto` takes; `None` where it has no say.
    pub(super) fn quickest(
        &self,
        need: &Need<'_>,
        members: &[(NodeId, i64)],
    ) -> Option<Result<Vec<Stage>, Shortage>> {
        let own = || members.iter().all(|(node, _)| self.is_own(node));
        if self.config.placement != Strategy::Auto || !own() {
            return None;
        }
        let table = self.table(need, members)?;
        Some(match search(&table.problem) {
            Some(found) => Ok(self.keep_or_change(need, &table, &found).1),
            None => Err(shortage(need, &table)),
        })
    }

    /// Whether all stages of a ring fit, where the strategy `auto` looks at that.
    pub(super) fn has_room(
        &self,
        need: &Need<'_>,
        members: &[(NodeId, i64)],
        ring: &[Stage],
    ) -> bool {
        let exact = self.config.placement == Strategy::Auto;
        let table = exact.then(|| self.table(need, members)).flatten();
        table.is_none_or(|table| table.fits(ring))
    }

    /// A ring that was good enough for an earlier request stays: nodes would have to load other
    /// layers.
    fn keep_or_change(&self, need: &Need<'_>, table: &Table, found: &Found) -> (By, Vec<Stage>) {
        let best = table.stages(&found.best.ring, need);
        let placed = self.placed.iter().find(|(model, _)| model == need.model);
        let kept = placed.filter(|(_, ring)| {
            let same = ring.first().map(|stage| stage.shard.layers) == Some(need.layers);
            let time = table.predict(ring).map(|now| now.total);
            let enough = found.best.prediction.total * 11 / 10;
            same && table.fits(ring) && time.is_some_and(|time| time <= enough)
        });
        match kept {
            Some((_, ring)) if *ring != best => (By::Kept, ring.clone()),
            _ => (By::Auto, best),
        }
    }

    /// The ring of a request, for the next one of its model.
    pub(super) fn remember_ring(&mut self, model: &ModelId, ring: &[Stage]) {
        if self.config.placement != Strategy::Auto || !self.config.pins.is_empty() {
            return;
        }
        self.placed.retain(|(other, _)| other != model);
        if self.placed.len() >= MOST_PLACED {
            self.placed.pop_front();
        }
        self.placed.push_back((model.clone(), ring.to_vec()));
    }

    /// The ring that whoever runs this node gave to its model; `None` without such a wish.
    ///
    /// # Errors
    /// Which node is not there, which layers are missing, or whose memory does not do.
    pub(super) fn pinned(&self, need: &Need<'_>) -> Option<Result<Vec<Stage>, String>> {
        if self.config.pins.is_empty() {
            return None;
        }
        let ring = match pin::ring(&self.config.pins, need.model, need.layers) {
            Ok(ring) => ring,
            Err(error) => return Some(Err(format!("{error}"))),
        };
        let members = self.members(need);
        let absent = |(node, _): &&(NodeId, Shard)| !members.iter().any(|(at, _)| at == node);
        if let Some((node, _)) = ring.iter().find(absent) {
            let known: Vec<&str> = members.iter().map(|(node, _)| node.as_str()).collect();
            return Some(Err(format!(
                "{node} is not there; the nodes are {}",
                known.join(", ")
            )));
        }
        if let Some((node, _)) = ring.iter().find(|(node, _)| !self.is_own(node)) {
            return Some(Err(format!(
                "{node} speaks the base protocol, whose nodes compute their layers themselves"
            )));
        }
        if let Some(table) = self.table(need, &members) {
            for (node, shard) in &ring {
                let needs = table.problem.stage_bytes(shard.range());
                let mut all = table.problem.members().iter();
                let has = all.find(|member| member.node == *node);
                let has = has.map_or(0, |member| member.budget);
                if needs.sum() > has {
                    return Some(Err(too_small(node, shard, &needs, has)));
                }
            }
        }
        let stage = |(node, shard)| Stage { node, shard };
        Some(Ok(ring.into_iter().map(stage).collect()))
    }

    /// How a model would be placed now, and what is known of every node for that. Nothing is begun.
    ///
    /// # Errors
    /// As for a request: [`Rejection::Memory`], [`Rejection::Layers`] and [`Rejection::Pinned`].
    pub fn placement(&self, question: &Question) -> Result<Placement, Rejection> {
        let none = BTreeSet::new();
        let need = Need {
            model: &question.model,
            layers: question.layers,
            bytes: question.bytes,
            cost: Some((&question.cost, question.positions)),
            avoid: &none,
            own_only: false,
            before: &[],
        };
        let ring = self.ring_for(&need)?;
        let members = self.members(&need);
        let own = members.iter().all(|(node, _)| self.is_own(node));
        let table = self.table(&need, &members);
        let found = table.as_ref().and_then(|table| search(&table.problem));
        let by = match (&table, &found) {
            _ if !self.config.pins.is_empty() => By::Pins,
            (Some(table), Some(found)) if own && self.config.placement == Strategy::Auto => {
                self.keep_or_change(&need, table, found).0
            }
            _ => By::Memory,
        };
        let stages = |choice: &Choice| {
            let ring = table
                .as_ref()
                .map(|table| table.stages(&choice.ring, &need));
            ring.map(|ring| (ring, choice.prediction))
        };
        let best = found.as_ref().and_then(|found| stages(&found.best));
        let other = match best.filter(|(best, _)| *best != ring) {
            Some(best) => Some(best),
            None if by == By::Auto => {
                let second = found.as_ref().and_then(|found| found.runner_up.as_ref());
                second.and_then(stages)
            }
            None => None,
        };
        Ok(Placement {
            by,
            prediction: table.as_ref().and_then(|table| table.predict(&ring)),
            nodes: self.shares(&ring, &members, table.as_ref(), found.as_ref()),
            exact: found.is_none_or(|found| found.exact),
            links: self.ways_between(&members),
            other,
            ring,
        })
    }

    /// What is known of the ways between all of these.
    fn ways_between(&self, members: &[(NodeId, i64)]) -> Vec<LinkShare> {
        let pairs = members.iter().enumerate().flat_map(|(at, (a, _))| {
            let others = members.iter().skip(at + 1);
            others.map(move |(b, _)| (a, b))
        });
        let link = |(a, b): (&NodeId, &NodeId)| LinkShare {
            nodes: [a.clone(), b.clone()],
            measured: [self.topology.link(a, b), self.topology.link(b, a)],
        };
        pairs.take(MOST_LINKS).map(link).collect()
    }

    /// What is to be told of each node.
    fn shares(
        &self,
        ring: &[Stage],
        members: &[(NodeId, i64)],
        table: Option<&Table>,
        found: Option<&Found>,
    ) -> Vec<NodeShare> {
        let share = |(node, machine): (&NodeId, &Capabilities)| {
            let stage = ring.iter().position(|stage| stage.node == *node);
            let shard = stage.and_then(|at| ring.get(at)).map(|stage| &stage.shard);
            let at = members.iter().position(|(member, _)| member == node);
            let last = stage.is_some_and(|stage| stage + 1 == ring.len());
            let problem = table.map(|table| &table.problem);
            let times = at
                .zip(shard)
                .zip(problem)
                .map(|((at, shard), problem)| problem.stage_times(at, shard.len(), last));
            let with = at.and_then(|at| *found?.with.get(at)?);
            let small = at
                .zip(problem)
                .is_some_and(|(at, problem)| problem.most_layers(at, false, false) == 0);
            let part = match (shard, at) {
                (Some(_), _) => Part::In,
                (None, None) => Part::Apart(self.why_apart(node)),
                (None, Some(_)) if small => {
                    Part::Small(problem.map_or(0, |problem| problem.stage_bytes(1..2).sum()))
                }
                (None, Some(_)) => with.map_or(Part::Unneeded, Part::Slower),
            };
            let needs = shard.zip(problem);
            NodeShare {
                node: node.clone(),
                shard: shard.cloned(),
                budget: budget(machine.memory),
                needs: needs.map(|(shard, problem)| problem.stage_bytes(shard.range())),
                decode: times.map(|times| times.0),
                piece: times.map(|times| times.1),
                part,
            }
        };
        let mut shares: Vec<NodeShare> = self.topology.nodes.iter().map(share).collect();
        let place = |share: &NodeShare| share.shard.as_ref().map(|shard| shard.start);
        shares.sort_by_key(|share| place(share).unwrap_or(u32::MAX));
        shares
    }

    fn why_apart(&self, node: &NodeId) -> &'static str {
        let of = |peer: &&super::Peer| peer.node.as_ref() == Some(node);
        match self.peers.values().find(of) {
            Some(peer) if peer.leaving => "it is leaving",
            Some(peer) if peer.capabilities().is_none() => "it has not told its memory yet",
            _ => "it is not connected with every other node",
        }
    }
}

/// Why a stage cannot be where it was put.
fn too_small(node: &NodeId, shard: &Shard, needs: &StageBytes, has: u64) -> String {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "layers {}-{} need {} MiB ({} of weights, {} of KV caches, {} of activations), {node} has {} \
         MiB for them",
        shard.start,
        shard.end,
        mib(needs.sum()),
        mib(needs.weights),
        mib(needs.kv),
        mib(needs.activations),
        has >> 20,
    )
}

/// What is missing, and what each node could hold.
fn shortage(need: &Need<'_>, table: &Table) -> Shortage {
    let whole = table.problem.stage_bytes(0..need.layers);
    let budgets = table.problem.members().iter();
    let left = budgets.fold(0, |sum: u64, member| sum.saturating_add(member.budget));
    let could = |(at, member): (usize, &Member)| {
        let layers = table.problem.most_layers(at, false, false);
        let (node, has) = (&member.node, member.budget >> 20);
        format!(
            "{node} has {has} MiB, which is {layers} of {} layers",
            need.layers
        )
    };
    let members = table.problem.members().iter().enumerate();
    let nodes: Vec<String> = members.take(MOST_NAMED).map(could).collect();
    // All together may have more than the whole needs, and nobody enough for one of its ends.
    let too_large = |first: bool, last: bool| {
        let mut members = 0..table.problem.members().len();
        !members.any(|at| table.problem.most_layers(at, first, last) > 0)
    };
    let end = need.layers.saturating_sub(1);
    let ends = [
        (
            0..1,
            too_large(true, end == 0),
            "the first layer, with the embeddings,",
        ),
        (
            end..need.layers,
            too_large(end == 0, true),
            "the last layer, with the head,",
        ),
    ];
    let ends = ends.into_iter().filter(|(_, too_large, _)| *too_large);
    let ends: String = ends
        .map(|(range, _, what)| {
            let needs = table.problem.stage_bytes(range).sum().div_ceil(1 << 20);
            format!("; {what} needs {needs} MiB, which no node has")
        })
        .collect();
    Shortage {
        needed: whole.sum().div_ceil(1 << 20),
        left: left >> 20,
        nodes: format!(
            ": a reserve apart, and with {} MiB of KV caches, {}{ends}",
            whole.kv.div_ceil(1 << 20),
            nodes.join(", "),
        ),
    }
}
