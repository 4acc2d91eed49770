//! Taking part in a request: from the plan that comes to a stage that is ready.

use super::Node;
use super::extended::{Bound, Route};
use super::plan::Plan;
use super::session::{Session, Told};
use super::violation::Violation;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::wire::extension::failed;
use crate::wire::{Ending, Message, Open};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// Failures that are remembered, so that they can be told again.
const MOST_TOLD: usize = 64;

/// What this node is to the sender of a plan.
enum Part {
    /// The stage after the sender's.
    Stage(usize),
    /// The origin alone, or a first stage that has the plan already: the ring comes round.
    Return,
    /// The plan is of an epoch that is over.
    Past,
}

impl Node {
    pub(super) fn open_came(&mut self, from: ConnectionId, open: &Open) {
        let stages = self.config.limits.stages;
        let taken = Plan::read(&open.plan, stages)
            .map_err(Violation::from)
            .and_then(|plan| Ok((self.part(from, &plan)?, plan)));
        let (part, plan) = match taken {
            Ok(taken) => taken,
            Err(violation) => {
                self.violated(from, &violation);
                return;
            }
        };
        // As many as requests, for their stages and their results, in two epochs.
        let limit = self.config.limits.requests.saturating_mul(4);
        let Some(extended) = self.extended(from) else {
            return;
        };
        let bound = Bound {
            request: plan.request.clone(),
            epoch: plan.epoch,
            origin: plan.origin.clone(),
        };
        if let Err(violation) = extended.opened(open.stream, bound, limit) {
            self.violated(from, &violation);
            return;
        }
        if let Part::Stage(stage) = part {
            self.open_session(Arc::new(plan), stage);
        }
    }

    /// What a plan makes of this node, if it may come from where it came.
    fn part(&mut self, from: ConnectionId, plan: &Plan) -> Result<Part, Violation> {
        let own = self.config.node.clone();
        let sender = match self.extended(from) {
            Some(extended) => extended.node.clone(),
            None => return Ok(Part::Past),
        };
        let foreign = Violation::Foreign {
            node: sender.clone(),
            request: plan.request.clone(),
        };
        let is = |node: Option<&NodeId>| node == Some(&sender);
        let last = is(plan.ring.last().map(|stage| &stage.node));
        let is_origin = plan.origin.as_ref() == Some(&own);
        if is_origin && let Some(client) = self.clients.get(&plan.request) {
            if client.epoch == plan.epoch && client.ring != plan.ring {
                return Err(foreign);
            }
            if client.epoch != plan.epoch {
                return Ok(Part::Past);
            }
        } else if is_origin {
            return Ok(Part::Past);
        }
        let stage = plan.stage_of(&own);
        let known = self.sessions.get(&plan.request);
        let over = self.ended.covers(&plan.request, plan.epoch)
            || known.is_some_and(|session| session.plan.epoch > plan.epoch);
        let known = known.is_some_and(|session| session.plan.epoch == plan.epoch);
        match stage {
            None if is_origin && last => Ok(Part::Return),
            None => Err(foreign),
            Some(_) if over => Ok(Part::Past),
            Some(0) if last && known => Ok(Part::Return),
            Some(0) if is(plan.origin.as_ref()) && !known => Ok(Part::Stage(0)),
            Some(stage) if is_origin && last && stage > 0 && known => Ok(Part::Return),
            Some(stage) if stage > 0 && is(plan.before(stage).map(|stage| &stage.node)) => {
                Ok(if known {
                    Part::Return
                } else {
                    Part::Stage(stage)
                })
            }
            // The ring came round to a stage that has given the request up.
            Some(stage) if last && (stage == 0 || is_origin) => Ok(Part::Past),
            Some(_) => Err(foreign),
        }
    }

    /// Takes a stage of a request: loads its layers and passes the plan on, so that all stages
    /// load at the same time. What an earlier epoch computed stays as far as the plan says.
    pub(super) fn open_session(&mut self, plan: Arc<Plan>, stage: usize) -> bool {
        let id = plan.request.clone();
        let until = self.now + self.config.timing.stage_timeout;
        let mut session = Session::new(Arc::clone(&plan), stage, until);
        let before = self.sessions.get(&id);
        let cached = before
            .filter(|before| before.shard() == session.shard())
            .map_or(0, |before| before.position);
        let busy = self.is_busy(before.is_some());
        let refusal =
            if self.stopping || self.leaving && plan.origin.as_ref() != Some(&self.config.node) {
                Some((failed::LEAVING, String::from("this node is shutting down")))
            } else if let Some(text) = busy {
                Some((failed::BUSY, text))
            } else if plan.keep(stage) > cached {
                let keep = plan.keep(stage);
                let text = format!("{keep} positions expected in the KV cache, {cached} are there");
                Some((failed::POSITION, text))
            } else {
                None
            };
        if let Some((code, text)) = refusal {
            self.refuse_stage(&plan, code, text);
            return false;
        }
        session.held = before.is_some_and(|before| before.held);
        if let Some(before) = plan.epoch.checked_sub(1) {
            self.knows(&id, before);
        }
        self.leave_rings(&id);
        if cached == 0 && core::mem::take(&mut session.held) {
            self.free(&id);
        }
        self.sessions.insert(id.clone(), session);
        self.prepare(&id);
        // With another model it has failed already, and its origin may have placed it anew.
        let current = |session: &Session| session.plan.epoch == plan.epoch && !session.failed;
        self.sessions.get(&id).is_some_and(current) && self.open_next(&id)
    }

    /// Why no more can be taken, if so.
    pub(super) fn is_busy(&self, known: bool) -> Option<String> {
        let (requests, calls) = (self.sessions.len(), self.desk.calls());
        if !known && requests >= self.config.limits.requests {
            Some(format!("{requests} requests are under way already"))
        } else if calls >= self.config.limits.calls {
            Some(format!("the engine has not come to {calls} commands yet"))
        } else {
            None
        }
    }

    /// Tells the stage after this one, and from the last one the origin.
    fn open_next(&mut self, id: &RequestId) -> bool {
        let Some(session) = self.sessions.get(id) else {
            return false;
        };
        let (plan, stage) = (Arc::clone(&session.plan), session.stage);
        if session.is_plain() {
            return true;
        }
        let own = self.config.node.clone();
        let (last, epoch) = (session.is_last(), plan.epoch);
        let next = plan.after(stage).map(|stage| stage.node.clone());
        let origin = plan.origin.clone();
        let next = next.filter(|next| *next != own);
        // The origin may be the first stage: then there is one way to both.
        let results = origin.filter(|origin| last && *origin != own);
        let shared = next == results;
        if let Some(node) = &next {
            let route = self.open_stream(node, &plan);
            if !self.take_route(id, epoch, node, route, |session| &mut session.next) {
                return false;
            }
        }
        let Some(node) = &results else { return true };
        let route = if shared {
            self.sessions.get(id).and_then(|session| session.next)
        } else {
            self.open_stream(node, &plan)
        };
        self.take_route(id, epoch, node, route, |session| &mut session.results)
    }

    /// Remembers a way to another node; without one the stage fails.
    fn take_route(
        &mut self,
        id: &RequestId,
        epoch: u32,
        node: &NodeId,
        route: Option<Route>,
        place: impl Fn(&mut Session) -> &mut Option<Route>,
    ) -> bool {
        let current = self.sessions.get_mut(id);
        let current = current.filter(|session| session.plan.epoch == epoch && !session.failed);
        match (current, route) {
            (Some(session), Some(_)) => {
                *place(session) = route;
                true
            }
            (Some(_), None) => {
                let text = format!("{} has no connection to {node}", self.config.node);
                self.fail_stage(id, failed::PEER, text);
                false
            }
            (None, _) => false,
        }
    }

    /// This node cannot take a stage that was planned for it.
    fn refuse_stage(&mut self, plan: &Plan, code: u16, text: String) {
        let own = self.config.node.clone();
        match &plan.origin {
            Some(origin) if *origin == own => {
                self.stage_failed(&plan.request, plan.epoch, &own, code, text);
            }
            Some(origin) => {
                self.remember_end(&plan.request, plan.epoch);
                self.tell_origin(origin, &plan.request, plan.epoch, code, text);
            }
            None => self.fail_plain(&plan.request, &text),
        }
    }

    /// Tells an origin on another node that this stage cannot go on.
    pub(super) fn tell_origin(
        &mut self,
        origin: &NodeId,
        id: &RequestId,
        epoch: u32,
        code: u16,
        text: String,
    ) {
        let ending = Ending {
            epoch,
            code,
            request: id.clone(),
            text,
        };
        // A new connection is told all of it again, which must not fill it at once.
        let most = MOST_TOLD.min(self.config.limits.outbox / 2);
        while self.told.len() >= most.max(1) {
            self.told.pop_front();
        }
        self.knows(id, epoch);
        self.told.push_back(Told {
            origin: origin.clone(),
            ending: ending.clone(),
        });
        if let Some(connection) = self.connection_to(origin) {
            self.send(connection, Message::Failed(ending));
        }
    }
}
