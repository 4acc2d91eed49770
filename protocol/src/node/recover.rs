//! Going on when a stage is lost: the request gets another ring, and its answer goes on where it
//! was.
//!
//! The origin has the prompt and every token told, and each token's choice hangs on the seed and
//! its position alone. So whatever stage is lost at whatever step, the same text comes out when the
//! tokens go round another ring: all of them, or only those that its stages have not computed.

use super::Node;
use super::client::{Client, Waiting};
use super::extended::{Extended, Route};
use super::failure::{Failure, Rejection};
use super::output::Event;
use super::place::{Need, Shortage};
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::wire::Ending;
use crate::wire::extension::{end, failed};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// Rings that may break in a row before there is a pause.
const AT_ONCE: u32 = 4;

/// The first pause; doubles up to [`Timing::regroup`](crate::config::Timing::regroup).
const FIRST_PAUSE: Duration = Duration::from_millis(25);

impl Node {
    /// A stage is lost to a request that was submitted here.
    pub(super) fn recover(&mut self, id: &RequestId, failure: Failure) {
        self.replace(id, failure, true);
    }

    /// `patient`: without a ring, wait a little for peers to come back.
    fn replace(&mut self, id: &RequestId, failure: Failure, patient: bool) {
        let limit = self.config.limits.recoveries;
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.plain {
            // A reference stage chooses tokens as it likes: nobody could go on with its text.
            self.fail(id, failure);
            return;
        }
        if client.setbacks >= limit {
            let recoveries = client.setbacks;
            let reason = failure.to_string();
            self.fail(id, Failure::Unrecoverable { recoveries, reason });
            return;
        }
        let placed = match self.place_again(id) {
            Some(Err(_)) if self.clients.get_mut(id).is_some_and(Client::forgive) => {
                self.place_again(id)
            }
            other => other,
        };
        let ring = match placed {
            Some(Ok(ring)) => ring,
            Some(Err(shortage)) => {
                self.wait_for_peers(id, shortage, failure, patient);
                return;
            }
            None => return,
        };
        if self.must_pause(id, &failure) {
            return;
        }
        let sampling = self.clients.get(id).map(|client| &client.sampling);
        if let Some(node) = sampling.and_then(|sampling| self.cannot_sample(sampling, &ring)) {
            let message = Rejection::Sampling(node.clone()).to_string();
            return self.fail(id, Failure::Stage { node, message });
        }
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        client.waiting = None;
        client.setbacks = client.setbacks.saturating_add(1);
        let keep = client.keep_for(&ring);
        client.cold = false;
        let over = client.epoch;
        client.epoch = over.saturating_add(1);
        client.ring.clone_from(&ring);
        let left: Vec<NodeId> = client
            .touched
            .iter()
            .filter(|node| !ring.iter().any(|stage| stage.node == **node))
            .cloned()
            .collect();
        for node in &left {
            client.touched.remove(node);
        }
        let (feed, epoch) = (client.feed.take(), client.epoch);
        if let Some(route) = feed {
            self.close_stream(route);
        }
        self.tell_end(id, over, end::MOVED, "placed anew", &left);
        if left.contains(&self.config.node) {
            self.end_session(id);
        } else {
            self.retire(id);
        }
        self.tell(Event::Recovering {
            request: id.clone(),
            reason: failure.to_string(),
            epoch,
            ring,
        });
        self.launch(id, Some(keep));
    }

    /// Whether a request could go on over another ring right now.
    pub(super) fn can_be_placed(&self, id: &RequestId) -> bool {
        matches!(self.place_again(id), Some(Ok(_)))
    }

    fn place_again(&self, id: &RequestId) -> Option<Result<Vec<super::Stage>, Shortage>> {
        let client = self.clients.get(id)?;
        let need = Need {
            model: &client.model,
            layers: client.layers,
            bytes: client.bytes,
            cost: Some((&client.cost, client.positions())),
            avoid: &client.avoid,
            own_only: true,
            before: &client.ring,
        };
        Some(self.place(&need))
    }

    /// A ring that breaks again and again before a token comes is tried less and less often: what
    /// one node knows of another may need a moment to reach the origin.
    fn must_pause(&mut self, id: &RequestId, failure: &Failure) -> bool {
        let now = self.now;
        let longest = self.config.timing.regroup;
        let Some(client) = self.clients.get_mut(id) else {
            return true;
        };
        let Some(doublings) = client.setbacks.checked_sub(AT_ONCE) else {
            return false;
        };
        match &client.waiting {
            // It has paused.
            Some(waiting) if waiting.again && waiting.until <= now => false,
            Some(waiting) if waiting.again => true,
            _ => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << doublings.min(10))
                    .min(longest);
                client.waiting = Some(Waiting {
                    failure: failure.clone(),
                    until: now + pause,
                    again: true,
                });
                true
            }
        }
    }

    /// Without more nodes there is no ring: those whose connection was cut may be back at once.
    fn wait_for_peers(
        &mut self,
        id: &RequestId,
        shortage: Shortage,
        failure: Failure,
        patient: bool,
    ) {
        let failure = if shortage.left == 0 {
            failure
        } else {
            Failure::Memory {
                reason: failure.to_string(),
                needed: shortage.needed,
                left: shortage.left,
                nodes: shortage.nodes,
            }
        };
        if !patient {
            return self.fail(id, failure);
        }
        let until = self.now + self.config.timing.regroup;
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.waiting.as_ref().is_none_or(|waiting| waiting.again) {
            client.waiting = Some(Waiting {
                failure,
                until,
                again: false,
            });
        }
    }

    /// The topology changed: requests without a ring may get one.
    pub(super) fn retry_waiting(&mut self) {
        let waiting = |(_, client): &(&RequestId, &Client)| {
            client
                .waiting
                .as_ref()
                .is_some_and(|waiting| !waiting.again)
        };
        let all: Vec<RequestId> = self
            .clients
            .iter()
            .filter(waiting)
            .map(|(id, _)| id.clone())
            .collect();
        for id in all {
            let placed = self.place_again(&id);
            let failure = self
                .clients
                .get(&id)
                .and_then(|client| Some(client.waiting.as_ref()?.failure.clone()));
            if let (Some(Ok(_)), Some(failure)) = (placed, failure) {
                self.recover(&id, failure);
            }
        }
    }

    /// A node is gone: so are its stages, and what it wanted computed.
    pub(super) fn node_down(&mut self, node: &NodeId, reason: &str) {
        for id in self.clients_with(node) {
            let (node, reason) = (node.clone(), String::from(reason));
            self.recover(&id, Failure::PeerLost { node, reason });
        }
        self.orphan_sessions_of(node);
    }

    pub(super) fn clients_with(&self, node: &NodeId) -> Vec<RequestId> {
        self.clients
            .iter()
            .filter(|(_, client)| client.waiting.is_none() && client.involves(node))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// A connection is gone with whatever was under way on its streams.
    pub(super) fn streams_lost(&mut self, id: ConnectionId, lost: &Extended, reason: &str) {
        let node = &lost.node;
        for (stream, request, epoch) in lost.outgoing() {
            let route = Route {
                connection: id,
                stream,
            };
            let feeds = |client: &Client| client.feed == Some(route);
            if self.clients.get(&request).is_some_and(feeds) {
                self.lost_by_origin(&request, epoch, node, reason);
            }
            let used = self.sessions.get(&request).is_some_and(|session| {
                session.plan.epoch == epoch
                    && (session.next == Some(route) || session.results == Some(route))
            });
            if used {
                let text = format!("{node}: {reason}");
                self.fail_stage(&request, failed::PEER, text);
            }
        }
        for (request, epoch) in lost.incoming() {
            self.lost_by_origin(&request, epoch, node, reason);
        }
        self.tell_failures_again(node);
        // The base protocol has no streams: anything may have been lost.
        let plain = |(id, client): (&RequestId, &Client)| {
            (client.plain && client.involves(node)).then(|| id.clone())
        };
        for id in self.clients.iter().filter_map(plain).collect::<Vec<_>>() {
            self.lost_by_origin(&id, 0, node, reason);
        }
        self.fail_plain_with(node, reason);
    }

    fn lost_by_origin(&mut self, id: &RequestId, epoch: u32, node: &NodeId, reason: &str) {
        let current = |client: &Client| client.epoch == epoch && client.waiting.is_none();
        if self.clients.get(id).is_some_and(current) {
            let (node, reason) = (node.clone(), String::from(reason));
            self.recover(id, Failure::PeerLost { node, reason });
        }
    }

    /// A node of the ring cannot be reached from here.
    pub(super) fn unreachable(&mut self, id: &RequestId, epoch: u32, node: &NodeId) {
        let reason = format!("{} has no connection to it", self.config.node);
        self.lost_by_origin(id, epoch, node, &reason);
    }

    /// A stage says that it cannot go on.
    pub(super) fn failure_came(&mut self, from: ConnectionId, ending: Ending) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let node = extended.node.clone();
        if self.job_failure_came(from, &node, &ending) {
            return;
        }
        self.stage_failed(
            &ending.request,
            ending.epoch,
            &node,
            ending.code,
            ending.text,
        );
    }

    pub(super) fn stage_failed(
        &mut self,
        id: &RequestId,
        epoch: u32,
        node: &NodeId,
        code: u16,
        message: String,
    ) {
        let Some(client) = self.clients.get_mut(id) else {
            return;
        };
        if client.epoch != epoch || client.waiting.is_some() || !client.involves(node) {
            return;
        }
        if code == failed::INPUT {
            // Whatever the ring, the model would not take it.
            let node = node.clone();
            return self.fail(id, Failure::Refused { node, message });
        }
        let failure = Failure::Stage {
            node: node.clone(),
            message,
        };
        match code {
            // It may be well connected and still not be the one: what it has is not needed.
            failed::POSITION => client.cold = true,
            failed::PEER => {}
            // It is well, and will have room again.
            failed::BUSY => {
                client.avoid.insert(node.clone());
            }
            failed::MODEL => client.blame(node, false),
            _ => client.blame(node, true),
        }
        self.replace(id, failure, code == failed::PEER);
    }
}
