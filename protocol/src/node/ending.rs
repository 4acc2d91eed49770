//! How this node's stages of requests end: done, failed, forgotten.

use super::Node;
use super::client::Ended;
use super::output::Event;
use super::session::{Session, Told};
use super::violation::Violation;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::time::Instant;
use crate::wire::extension::{end, failed};
use crate::wire::{Ending, Message};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// So many times the patience with a busy stage are had with an idle one.
const MOST_IDLE: u32 = 4;

impl Node {
    /// This node's stage cannot go on; its origin decides what comes of the request. What the
    /// stage computed stays for the next epoch, unless the engine lost track of it.
    pub(super) fn fail_stage(&mut self, id: &RequestId, code: u16, text: String) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let plan = alloc::sync::Arc::clone(&session.plan);
        let Some(origin) = plan.origin.clone() else {
            self.fail_plain(id, &text);
            return;
        };
        if core::mem::replace(&mut session.failed, true) {
            return;
        }
        let lost = matches!(code, failed::ENGINE | failed::HUNG | failed::MEMORY);
        let free = lost && core::mem::replace(&mut session.held, false);
        if lost {
            session.position = 0;
        }
        for charge in session.charges() {
            self.release(charge);
        }
        if free {
            self.free(id);
        }
        if origin == self.config.node {
            self.stage_failed(id, plan.epoch, &origin, code, text);
        } else {
            self.tell_origin(&origin, id, plan.epoch, code, text);
        }
    }

    /// The epoch of this node's stage is over; what it computed stays for the next one.
    pub(super) fn retire(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.failed = true;
        for charge in session.charges() {
            self.release(charge);
        }
    }

    /// The origin needs this stage no more.
    pub(super) fn end_came(&mut self, from: ConnectionId, ending: &Ending) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        let sender = extended.node.clone();
        let id = &ending.request;
        if self.job_end_came(from, ending) {
            return;
        }
        let session = self.sessions.get(id);
        let foreign = self.clients.contains_key(id)
            || self.knows_job(id)
            || session
                .and_then(|session| session.plan.origin.as_ref())
                .is_some_and(|origin| *origin != sender);
        if foreign {
            let (node, request) = (sender, id.clone());
            self.violated(from, &Violation::Foreign { node, request });
            return;
        }
        let ends = session.is_some_and(|session| session.plan.epoch <= ending.epoch);
        self.knows(&ending.request, ending.epoch);
        let until = if ending.code == end::MOVED {
            ending.epoch
        } else {
            Ended::ALL
        };
        self.remember_end(id, until);
        if ends {
            self.end_session(id);
        }
    }

    pub(super) fn remember_end(&mut self, id: &RequestId, epoch: u32) {
        let limit = self.config.limits.ended;
        self.ended.insert(id.clone(), epoch, true, limit);
    }

    /// This node gives a stage up, of which its origin does not know.
    fn give_up(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (plan, limit) = (
            alloc::sync::Arc::clone(&session.plan),
            self.config.limits.ended,
        );
        self.ended.insert(id.clone(), plan.epoch, false, limit);
        self.end_session(id);
        let text = String::from("this stage has given the request up");
        match &plan.origin {
            Some(origin) if *origin == self.config.node => {
                self.stage_failed(id, plan.epoch, origin, failed::POSITION, text);
            }
            Some(origin) => self.tell_origin(origin, id, plan.epoch, failed::POSITION, text),
            None => {}
        }
    }

    /// Leaves the streams of a request's ring and gives back what waits for the engine.
    pub(super) fn leave_rings(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let charges = session.charges();
        let (next, results) = (session.next.take(), session.results.take());
        for charge in charges {
            self.release(charge);
        }
        let results = results.filter(|route| Some(*route) != next);
        for route in [next, results].into_iter().flatten() {
            self.close_stream(route);
        }
    }

    /// Forgets this node's stage of a request and frees what it held.
    pub(super) fn end_session(&mut self, id: &RequestId) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (held, plain) = (session.held, session.is_plain());
        self.leave_rings(id);
        if plain {
            for connection in self.connections.values_mut() {
                connection.forget(id);
            }
        }
        if let Some(shard) = self.sessions.remove(id).and_then(|s| s.shard().cloned()) {
            self.rests(&shard);
        }
        if held {
            self.free(id);
        }
        self.drained();
    }

    fn sessions_where(&self, test: impl Fn(&Session) -> bool) -> Vec<RequestId> {
        let of = |(id, session): (&RequestId, &Session)| test(session).then(|| id.clone());
        self.sessions.iter().filter_map(of).collect()
    }

    /// A node cannot be reached any more. If it does not come back soon, what it wanted computed
    /// is given up.
    pub(super) fn orphan_sessions_of(&mut self, node: &NodeId) {
        let until = self.now + self.config.timing.orphan;
        for session in self.sessions.values_mut() {
            if session.plan.origin.as_ref() == Some(node) {
                session.orphaned = true;
                session.until = session.until.min(until);
            }
        }
        self.fail_plain_with(node, "it is gone");
    }

    /// Gives up the stages of rings of the base protocol that `node` is part of.
    pub(super) fn fail_plain_with(&mut self, node: &NodeId, reason: &str) {
        let plain = |session: &Session| {
            session.is_plain() && session.plan.ring.iter().any(|stage| stage.node == *node)
        };
        for id in self.sessions_where(plain) {
            self.fail_plain(&id, &format!("{node}: {reason}"));
        }
    }

    /// A connection to a node is lost, or there is a new one: what that node was told of failures
    /// may not have come.
    pub(super) fn tell_failures_again(&mut self, node: &NodeId) {
        let Some(connection) = self.connection_to(node) else {
            return;
        };
        let concerned = |told: &&Told| told.origin == *node;
        let again: Vec<Ending> = self
            .told
            .iter()
            .filter(concerned)
            .map(|told| told.ending.clone())
            .collect();
        for ending in again {
            self.send(connection, Message::Failed(ending));
        }
    }

    /// The origin of a request spoke again: it knows.
    pub(super) fn knows(&mut self, id: &RequestId, epoch: u32) {
        self.told
            .retain(|told| told.ending.request != *id || told.ending.epoch > epoch);
    }

    /// A node is back, and is the one it was.
    pub(super) fn adopt_sessions_of(&mut self, node: &NodeId) {
        let until = self.now + self.config.timing.stage_timeout;
        for session in self.sessions.values_mut() {
            if session.orphaned && session.plan.origin.as_ref() == Some(node) {
                session.orphaned = false;
                session.until = until;
            }
        }
    }

    /// A node is back as a new process: it knows nothing of what it wanted.
    pub(super) fn forget_sessions_of(&mut self, node: &NodeId) {
        for id in self.sessions_where(|session| session.plan.origin.as_ref() == Some(node)) {
            self.remember_end(&id, Ended::ALL);
            self.end_session(&id);
        }
        self.told.retain(|told| told.origin != *node);
    }

    pub(super) fn expire_sessions(&mut self) {
        let now = self.now;
        let seconds = self.config.timing.stage_timeout.as_secs();
        for id in self.sessions_where(|session| session.until <= now) {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            let busy = session.awaits_engine(&self.desk);
            session.idle = session.idle.saturating_add(1);
            if !busy && !session.orphaned && !session.failed && session.idle < MOST_IDLE {
                // Another stage may take its time, and tells the origin itself if it hangs.
                session.until = now + self.config.timing.stage_timeout;
                continue;
            }
            if session.orphaned || session.failed || !busy {
                // Nobody asks for it: an origin that does after all is told.
                self.give_up(&id);
                continue;
            }
            // The origin has as long again to say what comes of it.
            session.until = now + self.config.timing.stage_timeout;
            let text = format!("nothing happened for {seconds} s");
            self.fail_stage(&id, failed::HUNG, text);
        }
    }

    /// The engine is at work: whoever waits for its turn waits anew.
    pub(super) fn touch_waiting(&mut self) {
        let desk = &self.desk;
        for id in self.sessions_where(|s| !s.failed && s.awaits_engine(desk)) {
            self.touch(&id);
        }
    }

    /// Something moved: the stage waits anew.
    pub(super) fn touch(&mut self, id: &RequestId) {
        let until = self.now + self.config.timing.stage_timeout;
        if let Some(session) = self.sessions.get_mut(id).filter(|s| !s.orphaned) {
            session.until = until;
            session.idle = 0;
        }
    }

    // --- leaving --------------------------------------------------------------------------------

    /// Leaves in order.
    pub(super) fn drain(&mut self) {
        if self.leaving {
            return;
        }
        self.leaving = true;
        let routes: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.extended.is_some())
            .map(|(&id, _)| id)
            .collect();
        for route in routes {
            self.send(route, super::introduce::goodbye());
        }
        self.leave_all_jobs();
        self.drained();
    }

    /// Tells the application once that nothing depends on this node any more.
    pub(super) fn drained(&mut self) {
        let free = self.clients.is_empty()
            && self.sessions.is_empty()
            && self.jobs.is_empty()
            && self.job_stages.is_empty();
        if self.leaving && free && !core::mem::replace(&mut self.drained, true) {
            self.tell(Event::Drained);
        }
    }

    /// Ends everything at once.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        for id in self.clients.keys().cloned().collect::<Vec<_>>() {
            self.fail(&id, super::Failure::Stopping);
        }
        self.leave_all_jobs();
        for id in self.sessions_where(|_| true) {
            let text = String::from("this node is shutting down");
            self.fail_stage(&id, failed::LEAVING, text);
            self.end_session(&id);
        }
    }

    /// A peer says that it leaves: what it computes for requests of this node goes elsewhere, if
    /// there is an elsewhere; if not, it stays until they are done.
    pub(super) fn peer_leaves(&mut self, from: ConnectionId) {
        let Some(key) = self.peer_of(from) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let Some(node) = peer.node.clone() else {
            return;
        };
        if core::mem::replace(&mut peer.leaving, true) {
            return;
        }
        self.tell(Event::PeerLeaving { node: node.clone() });
        self.leave_jobs_with(&node);
        for id in self.clients_with(&node) {
            if self.can_be_placed(&id) {
                let reason = String::from("it is shutting down");
                let node = node.clone();
                self.recover(&id, super::Failure::PeerLost { node, reason });
            }
        }
    }

    /// When the next stage is to be given up.
    pub(super) fn next_expiry(&self) -> Instant {
        let all = self.sessions.values().map(|session| session.until);
        all.min().unwrap_or(Instant::FAR_FUTURE)
    }
}
