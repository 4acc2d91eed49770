//! What steps of a traced request cost, told to its origin.
//!
//! Everybody measures durations by their own clock: how long a step waited, was computed, and was
//! written; half a round trip is what it was on its way.

use super::Node;
use super::client::Client;
use super::extended::Route;
use super::output::Event;
use super::session::{Computing, Session};
use super::violation::Violation;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::time::Instant;
use crate::wire::{Message, MessageType, Timing};
use alloc::vec::Vec;
use core::time::Duration;

/// Messages on one connection of which somebody wants to know when they are written.
const MOST_WRITING: usize = 1024;

/// Traced requests that are over and of which stages may still tell.
const MOST_TRACED: usize = 16;

/// A traced request that is over.
#[derive(Debug)]
pub(super) struct Traced {
    request: RequestId,
    epoch: u32,
    /// Of its stages.
    nodes: Vec<NodeId>,
}

/// A message that waits to be written, and what is told of its step then.
#[derive(Debug)]
pub(super) struct Written {
    /// What kind of message on which stream: those of one stream keep their order.
    pub(super) kind: MessageType,
    pub(super) stream: u32,
    since: Instant,
    origin: NodeId,
    timing: Timing,
}

impl Session {
    /// What a step cost, if anybody wants to know. The engine could begin with it at `turn`, when
    /// it was done with what was before.
    pub(super) fn timed(
        &self,
        id: &RequestId,
        computing: &Computing,
        turn: Instant,
        now: Instant,
        positions: u32,
    ) -> Option<Timing> {
        if !self.plan.trace {
            return None;
        }
        let begun = computing.given.max(turn);
        Some(Timing {
            request: id.clone(),
            epoch: self.plan.epoch,
            stage: u16::try_from(self.stage).unwrap_or(u16::MAX),
            position: self.position.saturating_sub(positions),
            positions,
            wait: begun.saturating_since(computing.came),
            compute: now.saturating_since(begun),
            write: Duration::ZERO,
            rtt: Duration::ZERO,
        })
    }
}

impl Node {
    /// What comes of the step that is done now goes on `route`, as this kind of message.
    pub(super) fn time_writing(&mut self, id: &RequestId, route: Route, kind: MessageType) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (Some(timing), Some(origin)) = (session.timing.take(), session.plan.origin.clone())
        else {
            return;
        };
        let since = self.now;
        let Some(connection) = self.connections.get_mut(&route.connection) else {
            return;
        };
        if connection.timed.len() < MOST_WRITING {
            connection.timed.push_back(Written {
                kind,
                stream: route.stream,
                since,
                origin,
                timing,
            });
        }
    }

    /// Tells of a step of which nothing goes on.
    pub(super) fn tell_timing(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let (Some(timing), Some(origin)) = (session.timing.take(), session.plan.origin.clone()) {
            self.report(&origin, timing);
        }
    }

    /// A message was written; tells of its step, if somebody waits for that.
    pub(super) fn written(&mut self, on: ConnectionId, kind: MessageType, stream: u32) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&on) else {
            return;
        };
        let is = |written: &Written| written.kind == kind && written.stream == stream;
        let Some(at) = connection.timed.iter().position(is) else {
            return;
        };
        let extended = connection.extended.as_ref();
        let rtt = extended.and_then(|extended| extended.pulse.rtt());
        if let Some(written) = connection.timed.remove(at) {
            let timing = Timing {
                write: now.saturating_since(written.since),
                rtt: rtt.unwrap_or_default(),
                ..written.timing
            };
            self.report(&written.origin, timing);
        }
    }

    fn report(&mut self, origin: &NodeId, timing: Timing) {
        let own = self.config.node.clone();
        if *origin == own {
            self.timed(own, timing);
        } else if let Some(connection) = self.connection_to(origin) {
            self.send(connection, Message::Timing(timing));
        }
    }

    /// A traced request of this node is over: what its stages have still to tell of it may be on its way.
    pub(super) fn remember_traced(&mut self, id: &RequestId, client: &Client) {
        if !client.trace {
            return;
        }
        if self.traced.len() >= MOST_TRACED {
            self.traced.pop_front();
        }
        let nodes = client.ring.iter().map(|stage| stage.node.clone());
        self.traced.push_back(Traced {
            request: id.clone(),
            epoch: client.epoch,
            nodes: nodes.collect(),
        });
    }

    /// Whose stage it is that a step of a traced request was at.
    fn traced_stage(&self, timing: &Timing) -> Option<Option<&NodeId>> {
        let at = usize::from(timing.stage);
        if let Some(client) = self.clients.get(&timing.request) {
            let traced = client.trace && client.epoch == timing.epoch;
            return traced.then(|| client.ring.get(at).map(|stage| &stage.node));
        }
        let is =
            |traced: &&Traced| traced.request == timing.request && traced.epoch == timing.epoch;
        let traced = self.traced.iter().find(is)?;
        Some(traced.nodes.get(at))
    }

    /// A stage tells what a step cost. What is much too late is nobody's.
    pub(super) fn timing_came(&mut self, from: ConnectionId, timing: Timing) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let sender = extended.node.clone();
        let Some(stage) = self.traced_stage(&timing) else {
            return;
        };
        if stage != Some(&sender) {
            let request = timing.request;
            let node = sender;
            self.violated(from, &Violation::Foreign { node, request });
            return;
        }
        self.timed(sender, timing);
    }

    fn timed(&mut self, node: NodeId, timing: Timing) {
        self.tell(Event::StepTimed {
            request: timing.request,
            stage: timing.stage.into(),
            node,
            position: timing.position,
            positions: timing.positions,
            wait: timing.wait,
            compute: timing.compute,
            write: timing.write,
            rtt: timing.rtt,
        });
    }
}
