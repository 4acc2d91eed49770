//! Streams between nodes of ours: opening them, sending steps as credit allows, closing them.

use super::Node;
use super::extended::{Charge, Route};
use super::plan::Plan;
use crate::id::{ConnectionId, NodeId};
use crate::wire::{Message, Open, Step, StepBody};
use bytes::Bytes;

impl Node {
    /// Opens a stream to a node and tells it the plan.
    pub(super) fn open_stream(&mut self, node: &NodeId, plan: &Plan) -> Option<Route> {
        let connection = self.connection_to(node)?;
        let extended = self.extended(connection)?;
        let stream = extended.open(plan.request.clone(), plan.epoch);
        let open = Open {
            stream,
            plan: Bytes::from(plan.write()),
        };
        self.send(connection, Message::Open(open));
        Some(Route { connection, stream })
    }

    /// Sends a step, now or when there is credit for it, in the type that the link has agreed on.
    pub(super) fn send_step(&mut self, route: Route, mut step: Step) {
        let Some(extended) = self.extended(route.connection) else {
            return;
        };
        if let StepBody::Hidden(tensor) = &mut step.body
            && let Some(cast) = tensor.cast(extended.activation)
        {
            *tensor = cast;
        }
        if let Some(step) = extended.admit(step) {
            self.hand_over(route.connection, step);
        }
    }

    fn hand_over(&mut self, id: ConnectionId, step: Step) {
        let bytes = step.payload_len();
        self.send(id, Message::Step(step));
        let now = self.now;
        let Some(extended) = self.extended(id) else {
            return;
        };
        // Where nothing is congested it goes right behind the step: its way there and back is what
        // a hop costs.
        let node = extended.node.clone();
        let mut peers = self.peers.values_mut();
        let peer = peers.find(|peer| peer.node.as_ref() == Some(&node));
        let counts = peer.is_some_and(|peer| {
            peer.hops.handed_over(bytes);
            peer.is_little(bytes)
        });
        let probe = self
            .extended(id)
            .and_then(|it| it.pulse.sample(now, counts));
        if let Some(id_of_probe) = probe {
            self.send(id, Message::Ping { id: id_of_probe });
        }
    }

    /// Whether a step on this way still waits for credit.
    pub(super) fn is_blocked(&self, route: Route) -> bool {
        let connection = self.connections.get(&route.connection);
        connection
            .and_then(|connection| connection.extended.as_ref())
            .is_some_and(|extended| extended.is_blocked(route.stream))
    }

    /// Says that nothing comes on a stream any more.
    pub(super) fn close_stream(&mut self, route: Route) {
        let Some(connection) = self.connections.get_mut(&route.connection) else {
            return;
        };
        if connection.withdraw(route.stream) {
            let stream = route.stream;
            self.send(route.connection, Message::Close { stream });
            // What it had taken and never used is there for the others.
            self.unblock(route.connection);
        }
    }

    pub(super) fn close_came(&mut self, from: ConnectionId, stream: u32) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        if let Err(violation) = extended.closed(stream) {
            self.violated(from, &violation);
        }
    }

    pub(super) fn credit_came(&mut self, from: ConnectionId, stream: u32, bytes: u32) {
        let Some(extended) = self.extended(from) else {
            return;
        };
        if let Err(violation) = extended.grant(stream, bytes) {
            self.violated(from, &violation);
            return;
        }
        self.unblock(from);
    }

    /// Sends what waited for credit, as far as there is some now.
    fn unblock(&mut self, on: ConnectionId) {
        while let Some((step, request)) = self.extended(on).and_then(|e| e.unblock()) {
            self.hand_over(on, step);
            self.advance(&request);
        }
    }

    /// Gives back what a step took of the windows of its connection.
    pub(super) fn release(&mut self, charge: Charge) {
        let Charge { route, bytes } = charge;
        let Some(extended) = self.extended(route.connection) else {
            return;
        };
        for (stream, bytes) in extended.release(route.stream, bytes).into_iter().flatten() {
            self.send(route.connection, Message::Credit { stream, bytes });
        }
    }
}
