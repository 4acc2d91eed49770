//! What a driver is promised, judged after every input.

use super::Harness;
use crate::invariants::placement_covers;
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::discovery::tcp::Announce;
use exo_protocol::wire::{DecodeLimits, HEADER_LEN, Message, decode_payload, encode_payload};
use exo_protocol::{ConnectionId, Event, FinishReason, Output, RequestId, Stage, dummy};

/// More effects than any input can have within these limits.
const MOST_OUTPUTS: usize = 256;

/// What the application was told of a request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    tokens: u32,
    pub(super) ended: bool,
}

impl Harness {
    pub(super) fn settle(&mut self) {
        self.drain();
        // What became due is fired at once, and nothing stays due.
        self.node.handle_timeout(self.now);
        let deadline = self.node.poll_timeout();
        assert!(
            deadline.is_none_or(|deadline| deadline.at > self.now),
            "{deadline:?} was due at {} and is due again",
            self.now
        );
        self.drain();
        self.check();
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.node.poll_output() {
            count += 1;
            if self.prints {
                eprintln!("{} < {output:?}", self.now);
            }
            assert!(
                count <= MOST_OUTPUTS,
                "one input has no end of effects: {output:?}"
            );
            match output {
                Output::Dial { dial, address } => {
                    assert!(dial.0 > self.newest_dial && !address.is_empty());
                    self.newest_dial = dial.0;
                    self.dials.push_back(dial);
                }
                Output::Send {
                    connection,
                    message,
                } => self.sends(connection, &message),
                Output::Close { connection } => {
                    let wire = self.wires.get_mut(&connection);
                    let wire = wire.unwrap_or_else(|| panic!("{connection} is not open"));
                    assert!(!wire.closing, "{connection} is closed twice");
                    wire.closing = true;
                }
                Output::Compute(command) => self.engine.ask(command),
                Output::ReadDiscoveryFile => self.reads_file = true,
                Output::ListInterfaces => {
                    assert!(!self.lists_interfaces, "it has not been answered");
                    self.lists_interfaces = true;
                }
                Output::Broadcast { payload, .. } => {
                    let again = Announcement::decode(&payload);
                    assert!(again.is_ok(), "{payload:?} is not understood: {again:?}");
                }
                Output::Listen { datagrams } => self.datagrams = datagrams,
                Output::Ask { ask, payload, .. } => {
                    let again = Announce::decode(&payload);
                    assert!(again.is_ok(), "{payload:?} is not understood: {again:?}");
                    self.asks.push_back(ask);
                }
                Output::Answer { visit, .. } => assert_eq!(self.visitor.take(), Some(visit)),
                Output::Event(event) => self.told(event),
            }
        }
    }

    fn sends(&mut self, connection: ConnectionId, message: &Message) {
        let wire = self.wires.get_mut(&connection);
        let wire = wire.unwrap_or_else(|| panic!("{connection} is not open: {message:?}"));
        assert!(!wire.closing, "{connection} is closed: {message:?}");
        wire.scene.heard(message);
        let kind = message.message_type();
        assert!(
            wire.introduced || !kind.is_extension(),
            "{message:?} to who may be a reference peer"
        );
        let payload = match encode_payload(message) {
            Ok(payload) => payload,
            Err(error) => panic!("{message:?} cannot be sent: {error}"),
        };
        wire.in_hand.push_back(HEADER_LEN + payload.len());
        assert!(
            wire.in_hand.len() <= self.config.limits.window,
            "{connection} has {} frames in hand",
            wire.in_hand.len()
        );
        let again = decode_payload(kind, payload, &DecodeLimits::default());
        assert!(again.is_ok(), "{message:?} is not taken: {again:?}");
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Accepted { request, ring } => {
                covers(&request, &ring);
                self.engine.renew(&request);
                let before = self.answers.insert(request.clone(), Answer::default());
                assert!(
                    before.is_none_or(|before| before.ended),
                    "{request} began twice"
                );
            }
            Event::Token { request, index, .. } => {
                let answer = self.running(&request, "a token");
                assert_eq!(index, answer.tokens, "{request}: tokens come in order");
                answer.tokens += 1;
            }
            Event::Finished {
                request,
                reason,
                tokens,
            } => {
                let answer = self.running(&request, "an end");
                answer.ended = true;
                // The token with which the model ends its answer is counted and not told.
                let told = answer.tokens + u32::from(reason == FinishReason::Stop);
                assert_eq!(tokens, told, "{request}: {reason:?}");
            }
            Event::Failed { request, .. } => self.running(&request, "a failure").ended = true,
            Event::Recovering { request, ring, .. } => {
                covers(&request, &ring);
                self.running(&request, "another ring");
                self.engine.renew(&request);
            }
            Event::Drained => {
                assert!(!self.drained, "drained twice");
                self.drained = true;
            }
            _ => {}
        }
    }

    fn running(&mut self, request: &RequestId, what: &str) -> &mut Answer {
        match self.answers.get_mut(request) {
            Some(answer) if !answer.ended => answer,
            known => panic!("{request}: {what} for a request that is not running: {known:?}"),
        }
    }

    fn check(&self) {
        let (status, limits) = (self.node.status(), &self.config.limits);
        assert_eq!(status.connections, self.wires.len());
        let open = self.wires.values().filter(|wire| !wire.closing).count();
        assert!(
            open <= limits.connections + 2 * status.peers.len(),
            "{open} are open"
        );
        assert!(status.peers.len() <= limits.peers, "{:?}", status.peers);
        let up = status.peers.iter().filter(|peer| peer.up).count();
        assert!(up <= open, "{up} peers are up, {open} connections are");
        assert!(status.topology.nodes.len() <= up + 1);
        assert!(
            status.requests.len() <= 2 * limits.requests,
            "{:?}",
            status.requests
        );
        let running = self.answers.values().filter(|answer| !answer.ended).count();
        let own = status.requests.iter().filter(|request| request.origin);
        assert_eq!(own.count(), running, "{:?}", status.requests);
        assert!(running <= limits.requests);
        assert!(
            status.queued <= limits.outbox * status.connections,
            "{}",
            status.queued
        );
        assert!(
            self.engine.has_lied() || status.calls == self.engine.queued(),
            "{} calls, {} in the engine",
            status.calls,
            self.engine.queued()
        );
        let extended = status.extended;
        // Two for each stage, one for each submitted request; four times as many from the peer.
        let streams = 7 * limits.requests * extended.connections;
        assert!(extended.streams <= streams, "{} streams", extended.streams);
        let windows = u64::from(limits.window_bytes) + self.largest;
        let most = windows * extended.connections as u64 + 2 * self.pieces;
        assert!(
            extended.held <= most,
            "{} bytes held of {most}",
            extended.held
        );
    }
}

fn covers(request: &RequestId, ring: &[Stage]) {
    let covered = placement_covers::check(ring, dummy::MODEL, dummy::LAYERS);
    assert_eq!(covered, Ok(()), "{request}");
}
