//! Answering what comes over a connection.

use super::connection::Reply;
use super::extended::Extended;
use super::peer::{Link, Peer, PeerKey};
use super::pulse::Trip;
use super::violation::Violation;
use super::{Instant, Node};
use crate::id::{ConnectionId, NodeId};
use crate::wire::extension::error;
use crate::wire::{Chunk, Hello, Message, Notice, decode_payload};
use alloc::format;
use core::time::Duration;

/// A period of zero would keep [`Node::handle_timeout`] busy for ever.
pub(super) const NOT_NEVER: Duration = Duration::from_millis(1);

impl Node {
    pub(super) fn received(&mut self, id: ConnectionId, message: Message) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.closing {
            return;
        }
        connection.stalls_at = None;
        let kind = message.message_type();
        match &mut connection.extended {
            Some(extended) => extended.pulse.heard(self.now),
            None if kind.is_extension() => {
                self.violated(id, &Violation::NotNegotiated(kind));
                return;
            }
            None => {}
        }
        self.dispatch(id, message);
    }

    /// A message, whether it came whole or in pieces.
    fn dispatch(&mut self, id: ConnectionId, message: Message) {
        match message {
            Message::HealthCheckRequest { payload } => self.health_asked(id, &payload),
            Message::HealthCheckResponse { is_healthy, exo } => {
                let hello = exo.as_ref().and_then(Hello::from_json);
                self.health_told(id, is_healthy, hello.as_ref());
            }
            Message::CollectTopologyRequest { .. } => {
                // `visited` and `max_depth` are parsed and ignored, as the reference does: a view
                // is one hop deep.
                let reply = self.topology_reply();
                self.send(id, Message::CollectTopologyResponse(reply));
            }
            Message::CollectTopologyResponse(reply) => self.topology_told(id, reply),
            Message::SendPromptRequest(prompt) => self.prompt_came(prompt),
            Message::SendTensorRequest(tensor) => {
                // At once, before anything is computed: a reference peer waits for it with its
                // whole connection. Empty, since it cannot read any other form.
                self.send(id, Message::SendTensorResponse(None));
                self.remember_family(id, tensor.tensor.family());
                self.tensor_came(id, tensor);
            }
            Message::SendTensorResponse(_) => {
                if let Some(asked) = self.reply_came(id, Reply::Tensor) {
                    self.hop_done(id, asked);
                }
            }
            Message::SendResult(result) => self.result_came(&result),
            Message::SendOpaqueStatus { status, .. } => self.opaque_came(id, &status),
            // Numbered but never used by the reference; its server reads and forgets them. So do we:
            // an example says neither what is trained nor how, and nobody would end it.
            Message::SendPromptResponse(_)
            | Message::SendExampleRequest(_)
            | Message::SendExampleResponse(_) => {}
            Message::Ping { id: ping } => self.send(id, Message::Pong { id: ping }),
            Message::Pong { id: ping } => self.pong(id, ping),
            Message::Error(notice) => self.refused(id, &notice),
            Message::Goodbye(_) => self.peer_leaves(id),
            Message::Topology(reply) => self.take_view(id, reply),
            Message::Open(open) => self.open_came(id, &open),
            Message::Step(step) => self.step_came(id, step),
            Message::Token(token) => self.token_came(id, token, None),
            Message::Scored(scored) => self.token_came(id, scored.token, Some(scored.scores)),
            Message::Timing(timing) => self.timing_came(id, timing),
            Message::Close { stream } => self.close_came(id, stream),
            Message::Credit { stream, bytes } => self.credit_came(id, stream, bytes),
            Message::End(ending) => self.end_came(id, &ending),
            Message::Failed(ending) => self.failure_came(id, ending),
            Message::Chunk(chunk) => self.chunk_came(id, chunk),
            Message::Abort { transfer } => self.abort_came(id, transfer),
            Message::Begin(begin) => self.begin_came(id, &begin),
            Message::Example(example) => self.example_came(id, example),
            Message::Gradient(gradient) => self.gradient_came(id, gradient),
            Message::Save(save) => self.save_came(id, &save),
            Message::Want(want) => self.want_came(id, want),
            Message::Part(part) => self.part_came(id, part),
            Message::Begun(_) | Message::Loss(_) | Message::Saved(_) => {
                self.job_word_came(id, message);
            }
        }
    }

    fn chunk_came(&mut self, id: ConnectionId, chunk: Chunk) {
        let limits = self.config.decode.clone();
        let Some(extended) = self.extended(id) else {
            return;
        };
        let whole = match extended.reassembly.chunk(chunk, &limits) {
            Ok(Some((kind, payload))) => decode_payload(kind, payload, &limits),
            Ok(None) => return,
            Err(error) => {
                self.violated(id, &error.into());
                return;
            }
        };
        match whole {
            Ok(message) => self.dispatch(id, message),
            Err(error) => self.violated(id, &error.into()),
        }
    }

    /// The peer closes a connection for what this node did.
    fn refused(&mut self, id: ConnectionId, notice: &Notice) {
        let reason = format!("it says: {}", notice.text);
        if notice.code == error::DUPLICATE {
            // Again and again, until somebody gives one of the two another id.
            self.is_cloned(id);
            if !self.is_first(&reason) {
                return self.dropped(id, reason);
            }
        }
        self.refuse(id, reason);
    }

    fn abort_came(&mut self, id: ConnectionId, transfer: u32) {
        let Some(extended) = self.extended(id) else {
            return;
        };
        if let Err(error) = extended.reassembly.abort(transfer) {
            self.violated(id, &error.into());
        }
    }

    fn pong(&mut self, id: ConnectionId, ping: u64) {
        let now = self.now;
        let Some(extended) = self.extended(id) else {
            return;
        };
        match extended.pulse.pong(ping, now) {
            Ok(trip) => {
                let (rtt, node) = (extended.pulse.rtt(), extended.node.clone());
                let loaded = extended.pulse.loaded();
                let quiet = extended.streams() == 0;
                let measuring = extended.pulse.is_measuring();
                let used = self.used_for(id);
                let known = |peer: &&mut Peer| peer.node.as_ref() == Some(&node);
                if let Some(peer) = self.peers.values_mut().find(known) {
                    // What a series does not show yet, nobody places models by.
                    if used.is_some() && !measuring {
                        peer.rtt = rtt;
                        peer.loaded = loaded;
                    }
                    match trip {
                        Some(Trip::Alone(took) | Trip::OfSeries(took)) => peer.hops.record(took),
                        Some(Trip::Behind { rate, .. }) => peer.goodput.record(rate),
                        None => {}
                    }
                    let ended = matches!(trip, Some(Trip::OfSeries(_))) && !measuring;
                    if peer.measured(ended) {
                        self.rebuild_topology();
                    }
                }
                if let Some(Trip::Alone(took)) = trip.filter(|_| quiet) {
                    self.pace_of(id, took);
                }
                self.passed(id, ping);
                let dialed = self.peers.values_mut();
                let mut dialed = dialed.filter(|peer| peer.data == Link::Open(id));
                if let Some(entry) = dialed.next().and_then(Peer::current) {
                    entry.stayed();
                }
                self.go_on_measuring(id, trip);
                self.answered_challenge(id, ping);
            }
            Err(error) => self.violated(id, &error.into()),
        }
    }

    /// The extension's state of a connection.
    pub(super) fn extended(&mut self, id: ConnectionId) -> Option<&mut Extended> {
        self.connections.get_mut(&id)?.extended.as_mut()
    }

    /// The peer that a connection belongs to.
    pub(super) fn peer_of(&self, id: ConnectionId) -> Option<PeerKey> {
        let dialed = self.connections.get(&id)?.peer;
        let inbound = |(key, peer): (&PeerKey, &Peer)| peer.inbound.contains(&id).then_some(*key);
        dialed.or_else(|| self.peers.iter().find_map(inbound))
    }

    fn health_asked(&mut self, id: ConnectionId, payload: &bytes::Bytes) {
        let hello = Hello::from_request_payload(payload);
        // Only who introduced itself gets an introduction: a reference peer gets its own bytes.
        let exo = match &hello {
            Some(_) => Some(self.hello().to_json()),
            None => Hello::is_question(payload).then(|| self.described()),
        };
        self.send(
            id,
            Message::HealthCheckResponse {
                is_healthy: true,
                exo,
            },
        );
        if let Some(hello) = hello {
            self.introduced(id, &hello);
        }
    }

    fn health_told(&mut self, id: ConnectionId, is_healthy: bool, hello: Option<&Hello>) {
        let Some(asked) = self.reply_came(id, Reply::Health) else {
            return;
        };
        let Some(key) = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer)
        else {
            return;
        };
        let trial = self.is_trial(Some(key), id);
        match hello {
            _ if trial && !is_healthy => self.trial_failed(key),
            Some(hello) if trial && !NodeId::is_fit(&hello.node_id) => self.trial_failed(key),
            _ if trial => self.trial_answered(key, id, asked, hello),
            _ if !is_healthy => self.unhealthy(key),
            Some(hello) => self.introduced(id, hello),
            None => self.healthy(key, asked),
        }
    }

    /// Matches a reply with the request it answers. A reply that nobody waits for on a connection
    /// that this node opened means that the two sides no longer agree on what is said: it is closed.
    /// On a connection that the peer opened it is ignored, as the reference does.
    pub(super) fn reply_came(&mut self, id: ConnectionId, reply: Reply) -> Option<Instant> {
        let connection = self.connections.get_mut(&id)?;
        let awaited = connection.replied(reply);
        if awaited.is_none() && connection.peer.is_some() {
            self.violated(id, &Violation::UnaskedReply(reply.name()));
        }
        Some(awaited?.asked)
    }

    fn hop_done(&mut self, id: ConnectionId, asked: Instant) {
        let key = self
            .connections
            .get(&id)
            .and_then(|connection| connection.peer);
        if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
            peer.hops.record(self.now.saturating_since(asked));
        }
    }

    fn remember_family(&mut self, id: ConnectionId, family: crate::tensor::DTypeFamily) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let Some(claims) = connection.claims.clone() else {
            return;
        };
        let known = |peer: &&mut Peer| peer.node.as_ref() == Some(&claims);
        if let Some(peer) = self.peers.values_mut().find(known) {
            peer.family = Some(family);
        }
    }
}
