//! Bytes on their way: what is queued for a connection, what its driver has written, what comes.

use super::Node;
use super::connection::Reply;
use super::output::Output;
use super::pulse::Trip;
use crate::id::ConnectionId;
use crate::wire::Message;
use alloc::format;
use core::time::Duration;

/// Bytes that a way of 1 Mbit/s takes half a second for.
const FEW: usize = 64 << 10;

/// Bytes that a way of 1 Gbit/s takes 4 ms for: more than what is only latency.
const MANY: usize = 512 << 10;

/// The few of them do not show how quick a way is on which they take less.
const AT_ONCE: Duration = Duration::from_millis(10);

impl Node {
    pub(super) fn progress(&mut self, id: ConnectionId) {
        let stalls_at = self.now + self.config.timing.frame_stall;
        let now = self.now;
        if let Some(connection) = self.connections.get_mut(&id) {
            match &mut connection.extended {
                Some(extended) => extended.pulse.heard(now),
                None => connection.stalls_at = Some(stalls_at),
            }
        }
    }

    /// Queues a message and hands the driver what its window takes.
    pub(super) fn send(&mut self, id: ConnectionId, message: Message) {
        let limit = self.config.limits.outbox;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        // What a peer does not understand stays unsaid, except why it is refused.
        let foreign = message.message_type().is_extension() && connection.extended.is_none();
        let unsaid = foreign && !matches!(message, Message::Error(_));
        if connection.closing || unsaid || self.full.contains(&id) {
            return;
        }
        if connection.push(message, limit).is_err() {
            self.full.push_back(id);
            return;
        }
        self.flush(id);
    }

    /// Gives up connections that cannot keep what is to be sent. Not at once: what goes on over
    /// them is placed anew, and that must not happen while something else is half done.
    pub(super) fn refuse_full(&mut self) {
        let limit = self.config.limits.outbox;
        while let Some(id) = self.full.pop_front() {
            self.refuse(id, format!("{limit} messages wait for it already"));
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        while let Some(message) = connection.next(self.now, self.config.limits.window) {
            self.outputs.push_back(Output::Send {
                connection: id,
                message,
            });
            // Right behind a large message goes a probe: its answer says when all of it was there.
            if let (Some((bytes, began)), Some(extended)) =
                (connection.take_through(), &mut connection.extended)
                && let Some(probe) = extended.pulse.behind(self.now, bytes, began)
            {
                // What went has made room for it.
                let _ = connection.push(Message::Ping { id: probe }, self.config.limits.outbox);
            }
        }
    }

    /// Where a connection is the way to a peer: goes on to find out how far away that is, if it is not
    /// known or has changed. Then sends bytes that mean nothing where nothing else waits, to see how
    /// quick the way is: a few first, and more of them where they were there at once.
    pub(super) fn go_on_measuring(&mut self, id: ConnectionId, trip: Option<Trip>) {
        let now = self.now;
        // Over two connections to one peer, one measurement would be in the way of the other.
        let Some(key) = self.used_for(id) else {
            return;
        };
        let Some(extended) = self.extended(id) else {
            return;
        };
        if let Some(probe) = extended.pulse.next_of_series(now) {
            return self.send(id, Message::Ping { id: probe });
        }
        let measuring = extended.pulse.is_measuring();
        let gone = |on: &ConnectionId| !self.connections.contains_key(on);
        let Some(peer) = self.peers.get(&key).filter(|_| !measuring) else {
            return;
        };
        let lost = peer.padded.is_some_and(|(on, _)| gone(&on)) && peer.goodput.best().is_none();
        let padded = peer.padded.filter(|_| !lost).map(|(_, bytes)| bytes);
        // Bytes of both ends at the same time would be in the way of each other's answers: one end
        // begins, the other one after a silence.
        let begins = peer.node.as_ref() > Some(&self.config.node);
        let more = match (padded, trip) {
            (None, Some(Trip::Alone(_))) => FEW,
            (None, Some(Trip::OfSeries(_))) if begins => FEW,
            (Some(FEW), Some(Trip::Behind { took, .. })) if took < AT_ONCE => MANY,
            _ => return,
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.pad(more) {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.padded = Some((id, more));
            }
            self.flush(id);
        }
    }

    pub(super) fn sent(&mut self, id: ConnectionId, bytes: usize) {
        let timing = self.config.timing;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let peer = connection.peer.and_then(|key| self.peers.get(&key));
        let starting = peer.is_some_and(|peer| peer.is_behind_command() && !peer.dialed_up);
        let patience = |reply| match reply {
            Reply::Health if starting => timing.command_timeout,
            Reply::Health | Reply::Topology => timing.health_timeout,
            Reply::Tensor => timing.acknowledge,
        };
        let (reply, completed) = connection.sent(self.now, bytes, patience);
        let tensor = reply == Some(Reply::Tensor);
        if let Some(peer) = connection.peer.and_then(|key| self.peers.get_mut(&key))
            && tensor
        {
            peer.hops.handed_over(bytes);
        }
        if let Some((kind, stream)) = completed {
            self.written(id, kind, stream);
        }
        self.flush(id);
    }
}
