//! What the invariants want to know of what happened so far.

use super::client::Client;
use super::faults::Fault;
use super::host::Host;
use super::world::{LAYERS, MODEL, World};
use crate::invariants::nothing_left::{self, Orphan, Parting};
use crate::invariants::{everything_ends, peers_stay, placement_covers};
use exo_protocol::{Event, Instant, NodeId, RequestId, Stage};
use std::collections::BTreeSet;

/// What is known of a request beside its answer.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// Under which id its host runs.
    pub(crate) node: NodeId,
    /// In which run of it.
    pub(crate) incarnation: u64,
    /// The ring that it was told last.
    pub(crate) ring: Vec<Stage>,
    /// Since when.
    pub(crate) placed: Instant,
    /// Every node that was in one of its rings and was not left behind.
    pub(crate) touched: BTreeSet<NodeId>,
    /// Rings in a row in which no token came.
    pub(crate) setbacks: u32,
    /// Of these, how many broke because a stage had lost its cache.
    pub(crate) cold: u32,
    /// Failures of engines that it was told of, those among them that took too long.
    pub(crate) injected: u32,
    /// Nodes whose engine failed it.
    pub(crate) blamed: BTreeSet<NodeId>,
    /// Nodes that had no room for it.
    pub(crate) busy: BTreeSet<NodeId>,
    /// Since when its host knows that a node of its ring is gone, by its host's clock.
    pub(crate) broken: Option<Instant>,
    /// It was so often placed in vain by then that its host makes pauses.
    pub(crate) pauses: bool,
    /// When its first and its last token came.
    pub(crate) told: Option<[Instant; 2]>,
    /// When anything was last done for it.
    pub(crate) moved: Instant,
}

impl Course {
    pub(crate) fn new(node: NodeId, incarnation: u64, now: Instant) -> Self {
        Self {
            node,
            incarnation,
            ring: Vec::new(),
            placed: now,
            touched: BTreeSet::new(),
            setbacks: 0,
            cold: 0,
            injected: 0,
            blamed: BTreeSet::new(),
            busy: BTreeSet::new(),
            broken: None,
            pauses: false,
            told: None,
            moved: now,
        }
    }

    pub(crate) fn involves(&self, node: &NodeId) -> bool {
        self.ring.iter().any(|stage| stage.node == *node)
    }
}

impl World {
    /// A host tells something.
    pub(super) fn watch(&mut self, index: usize, event: &Event) {
        let lost = peers_stay::undisturbed(self, index, event);
        self.check("peers_stay", index, lost);
        match event {
            Event::PeerMoved { .. } => self.moved += 1,
            Event::Token { request, .. } => {
                let now = self.now;
                if let Some(course) = self.course(index, request) {
                    course.told.get_or_insert([now; 2])[1] = now;
                    course.setbacks = 0;
                    course.cold = 0;
                }
            }
            Event::Accepted { request, ring } => self.placed(index, request, ring),
            Event::Recovering {
                request,
                ring,
                epoch,
                reason,
            } => {
                self.recovered += 1;
                self.setback(index, request, reason);
                let placed = placement_covers::again(self, index, request, ring, reason);
                self.check("placement_covers", index, placed);
                self.placed(index, request, ring);
                self.leaves_behind(index, request, *epoch);
            }
            Event::PeerUp { node, .. } => {
                self.hosts[index].orphans.retain(|o| o.origin != *node);
                let forgotten = nothing_left::of_a_past_life(self, index, node);
                self.check("nothing_left", index, forgotten);
            }
            Event::PeerRestarted { node } => {
                let forgotten = nothing_left::of_a_past_life(self, index, node);
                self.check("nothing_left", index, forgotten);
            }
            Event::PeerDown { node, .. } => self.goes_down(index, node),
            // What was placed before that was placed by what was known then: a connection may be
            // given up for the very messages with which a ring begins.
            Event::TopologyChanged => self.hosts[index].placed.clear(),
            _ => {}
        }
    }

    fn check(&mut self, property: &'static str, index: usize, found: Result<(), String>) {
        if let Err(what) = found {
            self.broken(property, format!("n{index}: {what}"));
        }
    }

    fn course(&mut self, index: usize, request: &RequestId) -> Option<&mut Course> {
        let client = self.hosts[index].clients.get_mut(request);
        client.map(|client| &mut client.course)
    }

    fn setback(&mut self, index: usize, request: &RequestId, reason: &str) {
        let Some(course) = self.course(index, request) else {
            return;
        };
        course.setbacks += 1;
        course.cold += u32::from(reason.contains("positions expected in the KV cache"));
        course.busy.extend(placement_covers::who_is_busy(reason));
        if let Some(node) = placement_covers::who_failed(reason) {
            course.injected += 1;
            course.blamed.insert(node);
        }
    }

    fn placed(&mut self, index: usize, request: &RequestId, ring: &[Stage]) {
        let placed = placement_covers::check(ring, MODEL, LAYERS)
            .and_then(|()| placement_covers::fits(self, ring))
            .and_then(|()| placement_covers::on_who_stays(self, index, ring))
            .map_err(|what| format!("{request}: {what}"));
        self.check("placement_covers", index, placed);
        self.hosts[index].placed.push(request.clone());
        let now = self.now;
        let mixed = self.speaks_base(index, ring);
        let Some(client) = self.hosts[index].clients.get_mut(request) else {
            return;
        };
        let nodes = ring.iter().map(|stage| stage.node.clone());
        client.course.touched.extend(nodes);
        client.course.ring = ring.to_vec();
        client.course.placed = now;
        client.course.broken = None;
        client.course.moved = now;
        if mixed {
            client.answer.unseeded = true;
            self.mixed.insert(request.clone());
        }
    }

    /// A host has told all that it had to tell at once.
    pub(super) fn told(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let mut placed = std::mem::take(&mut host.placed).into_iter();
        let host = &self.hosts[index];
        let found = placed.try_for_each(|request| {
            let client = host.clients.get(&request);
            let running = client.filter(|client| client.end.is_none());
            // It may have broken again at once.
            let whole = running.filter(|client| client.course.broken.is_none());
            let ring = whole.map_or(&[][..], |client| &client.course.ring);
            placement_covers::hangs_together(host, ring)
                .map_err(|what| format!("{request}: {what}"))
        });
        self.check("placement_covers", index, found);
    }

    /// Whether a ring of a request of this host speaks the base protocol.
    pub(crate) fn speaks_base(&self, index: usize, ring: &[Stage]) -> bool {
        let base = |host: usize| self.hosts.get(host).is_some_and(|host| host.base);
        let of = |stage: &Stage| self.host_of(&stage.node);
        base(index) || ring.iter().filter_map(of).any(base)
    }

    /// A request goes on without some who took part in it.
    fn leaves_behind(&mut self, index: usize, request: &RequestId, epoch: u32) {
        let limit = self.hosts[index].config.limits.recoveries;
        let Some(course) = self.course(index, request) else {
            return;
        };
        let (setbacks, cold) = (course.setbacks, course.cold);
        let ring = &course.ring;
        let stays = |node: &NodeId| ring.iter().any(|stage| stage.node == *node);
        let left: Vec<NodeId> = course.touched.extract_if(.., |node| !stays(node)).collect();
        self.part(request, Some(epoch), &left);
        if setbacks > limit {
            let what = format!("{request} has its {setbacks}th ring in a row");
            self.check("everything_ends", index, Err(what));
        }
        if cold > 1 {
            let what = format!("{request} was {cold} times in a row sent on caches that were lost");
            self.check("everything_ends", index, Err(what));
        }
    }

    /// A request has ended, perhaps.
    pub(super) fn is_over(&mut self, index: usize, request: &RequestId) {
        let client = self.hosts[index].clients.get(request);
        if let Some(client) = client.filter(|client| client.end.is_some()) {
            let touched: Vec<NodeId> = client.course.touched.iter().cloned().collect();
            self.part(request, None, &touched);
        }
    }

    /// Nodes have nothing to do with a request any more, or with its epochs before this one.
    pub(super) fn part(&mut self, request: &RequestId, epoch: Option<u32>, nodes: &[NodeId]) {
        let cuts = self.may(&Fault::CUTS) || self.may(&[Fault::Leave]);
        if self.mixed.contains(request) || cuts || !self.is_fast() {
            return;
        }
        let hosts = nodes.iter().filter_map(|node| self.host_of(node)).collect();
        self.partings.push_back(Parting {
            at: self.now,
            request: request.clone(),
            epoch,
            hosts,
        });
    }

    /// A host sees that a node is gone.
    fn goes_down(&mut self, index: usize, node: &NodeId) {
        let due = {
            let host = &self.hosts[index];
            host.clock.at(self.now) + host.config.timing.orphan
        };
        let status = self.hosts[index].node.status();
        let others = status.requests.iter().filter(|kept| !kept.origin);
        let orphans = others.filter(|kept| self.origin_of(&kept.request) == Some(node));
        let orphans: Vec<Orphan> = orphans
            .map(|kept| Orphan {
                origin: node.clone(),
                request: kept.request.clone(),
                epoch: kept.epoch,
                due,
            })
            .collect();
        let host = &mut self.hosts[index];
        host.orphans.extend(orphans);
        let now = host.clock.at(self.now);
        let concerned = |client: &&mut Client| client.end.is_none() && client.course.involves(node);
        for client in host.clients.values_mut().filter(concerned) {
            let course = &mut client.course;
            if course.broken.is_none() {
                course.broken = Some(now);
                course.pauses = course.setbacks >= everything_ends::NO_PAUSE;
            }
        }
    }

    /// The id of the node that was asked; none for requests of the base protocol, which do not say.
    fn origin_of(&self, request: &RequestId) -> Option<&NodeId> {
        let client = self.hosts.iter().find_map(|host| host.clients.get(request));
        let known = client.filter(|_| !self.mixed.contains(request));
        known.map(|client| &client.course.node)
    }

    /// The model that was asked for; unknown in the base protocol.
    pub(super) fn model_of(&self, request: &RequestId) -> Option<u64> {
        let mut hosts = self.hosts.iter();
        let host = hosts.find(|host| host.clients.contains_key(request))?;
        (!self.mixed.contains(request)).then_some(host.fingerprint)
    }

    /// The first token of what was asked.
    pub(super) fn first_token_of(&self, request: &RequestId) -> Option<u32> {
        let mut clients = self.hosts.iter().filter_map(|h| h.clients.get(request));
        clients.next().map(|client| client.answer.first)
    }

    /// Something was done for a request, or, without one, for all of them.
    pub(super) fn moves(&mut self, request: Option<&RequestId>) {
        let now = self.now;
        for host in &mut self.hosts {
            match request {
                Some(request) => {
                    if let Some(client) = host.clients.get_mut(request) {
                        client.course.moved = now;
                    }
                }
                None => {
                    for client in host.clients.values_mut() {
                        client.course.moved = now;
                    }
                }
            }
        }
    }

    /// The host whose own id this is.
    pub(crate) fn host_of(&self, node: &NodeId) -> Option<usize> {
        let index = node.strip_prefix('n')?.parse().ok()?;
        (index < self.real_hosts()).then_some(index)
    }

    /// Whether any of these may strike in this run.
    pub(crate) fn may(&self, faults: &[Fault]) -> bool {
        faults.iter().any(|fault| self.faults.weight(*fault) > 0)
    }

    /// Whether systems take enough at once that nothing small waits long behind something large, and
    /// nodes keep enough that no connection is given up for what waits for it.
    pub(crate) fn is_fast(&self) -> bool {
        let roomy = |host: &Host| host.config.limits.outbox >= 256;
        self.net.buffer >= 8192 && self.hosts.iter().all(roomy)
    }
}
