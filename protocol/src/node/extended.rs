//! What a connection is between two of our own nodes: streams in both directions, credit for each,
//! messages in pieces, keepalive.

use super::credit::{Credit, Window};
use super::pulse::Pulse;
use super::reassembly::Reassembly;
use super::violation::Violation;
use crate::config::Config;
use crate::id::{ConnectionId, NodeId, RequestId};
use crate::tensor::DType;
use crate::time::Instant;
use crate::wire::{Hello, MessageType, Step, TopologyReply};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

/// The extension's state of one connection.
#[derive(Debug)]
pub(super) struct Extended {
    /// Who is there.
    pub(super) node: NodeId,
    /// Which run of it.
    pub(super) incarnation: u64,
    /// How hidden states go there.
    pub(super) activation: DType,
    /// Its engine trains.
    pub(super) trains: bool,
    /// It gives out files.
    pub(super) files: bool,
    /// It heeds all of [`Sampling`](crate::engine::Sampling), and tells scores.
    pub(super) samples: bool,
    pub(super) pulse: Pulse,
    pub(super) reassembly: Reassembly,
    /// What it told of itself last over this connection, and when it came.
    pub(super) view: Option<(Instant, TopologyReply)>,
    /// What may be sent, over all streams.
    credit: Credit,
    /// What may come, over all streams.
    window: Window,
    their_stream_window: u32,
    our_stream_window: u32,
    opened: u32,
    /// The stream whose step went last of those that had waited for credit.
    unblocked: u32,
    outgoing: BTreeMap<u32, Outgoing>,
    came: u32,
    incoming: BTreeMap<u32, Incoming>,
    /// The run and the address of a node that came with the same id, while it is not known yet
    /// whether this one is still there, and the newest probe before that.
    pub(super) challenger: Option<(u64, String, u64)>,
}

/// A stream that this node opened.
#[derive(Debug)]
struct Outgoing {
    request: RequestId,
    epoch: u32,
    credit: Credit,
    /// Steps that wait for credit.
    waiting: VecDeque<Step>,
}

/// A stream that the peer opened.
#[derive(Debug)]
struct Incoming {
    bound: Bound,
    window: Window,
}

/// What a stream of the peer is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) request: RequestId,
    pub(super) epoch: u32,
    pub(super) origin: Option<NodeId>,
}

/// Where the next stage of a request, or its origin, is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) connection: ConnectionId,
    pub(super) stream: u32,
}

/// What a step took of the windows of the connection on which it came, until the engine is done
/// with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    pub(super) route: Route,
    pub(super) bytes: usize,
}

impl Charge {
    /// Takes a part off.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            route: self.route,
            bytes,
        }
    }
}

impl Extended {
    pub(super) fn new(hello: &Hello, config: &Config, now: Instant) -> Self {
        let mutual = |dtype: &&DType| hello.dtypes.contains(dtype);
        Self {
            node: hello.node_id.as_str().into(),
            incarnation: hello.incarnation,
            activation: config
                .activations
                .iter()
                .find(mutual)
                .copied()
                .unwrap_or(DType::F32),
            samples: hello.features.iter().any(|name| name == Hello::SAMPLING),
            trains: hello.features.iter().any(|name| name == Hello::TRAIN),
            files: hello.features.iter().any(|name| name == Hello::FILES),
            pulse: Pulse::new(now),
            reassembly: Reassembly::default(),
            view: None,
            credit: Credit::new(hello.window),
            window: Window::new(config.limits.window_bytes),
            their_stream_window: hello.stream_window,
            our_stream_window: config.limits.stream_window_bytes,
            opened: 0,
            unblocked: 0,
            outgoing: BTreeMap::new(),
            came: 0,
            incoming: BTreeMap::new(),
            challenger: None,
        }
    }

    // --- streams that this node opened ----------------------------------------------------------

    /// The number of a new stream.
    pub(super) fn open(&mut self, request: RequestId, epoch: u32) -> u32 {
        self.opened = self.opened.wrapping_add(1);
        let stream = Outgoing {
            request,
            epoch,
            credit: Credit::new(self.their_stream_window),
            waiting: VecDeque::new(),
        };
        self.outgoing.insert(self.opened, stream);
        self.opened
    }

    /// Spends the credit of a step, or keeps it until there is some.
    pub(super) fn admit(&mut self, step: Step) -> Option<Step> {
        let stream = self.outgoing.get_mut(&step.stream)?;
        if !stream.waiting.is_empty() || !self.credit.may_send() || !stream.credit.may_send() {
            stream.waiting.push_back(step);
            return None;
        }
        let bytes = step.payload_len();
        self.credit.spend(bytes);
        stream.credit.spend(bytes);
        Some(step)
    }

    /// Whether a step waits for credit: the stage before it must not compute on meanwhile.
    pub(super) fn is_blocked(&self, stream: u32) -> bool {
        self.outgoing
            .get(&stream)
            .is_some_and(|stream| !stream.waiting.is_empty())
    }

    /// The peer allows more.
    pub(super) fn grant(&mut self, stream: u32, bytes: u32) -> Result<(), Violation> {
        if stream == 0 {
            self.credit.grant(bytes)?;
        } else if let Some(stream) = self.outgoing.get_mut(&stream) {
            stream.credit.grant(bytes)?;
        } else if stream > self.opened {
            return Err(Violation::UnknownStream {
                kind: MessageType::Credit,
                stream,
            });
        }
        Ok(())
    }

    /// A step that waited and may go now.
    pub(super) fn unblock(&mut self) -> Option<(Step, RequestId)> {
        if !self.credit.may_send() {
            return None;
        }
        let ready = |(_, stream): &(&u32, &Outgoing)| {
            !stream.waiting.is_empty() && stream.credit.may_send()
        };
        // In turns, or the oldest streams would keep the newest waiting for ever.
        let behind = (Excluded(self.unblocked), Unbounded);
        let later = self.outgoing.range(behind).find(ready);
        let next = later.or_else(|| self.outgoing.iter().find(ready));
        let number = next.map(|(&number, _)| number)?;
        self.unblocked = number;
        let stream = self.outgoing.get_mut(&number)?;
        let step = stream.waiting.pop_front()?;
        let bytes = step.payload_len();
        self.credit.spend(bytes);
        stream.credit.spend(bytes);
        Some((step, stream.request.clone()))
    }

    /// Forgets a stream; `unsent` are the steps that were paid for and never went.
    pub(super) fn close(&mut self, stream: u32, unsent: &[usize]) -> bool {
        for &bytes in unsent {
            // It was spent here and nobody else will ever give it back.
            self.credit.undo(bytes);
        }
        self.outgoing.remove(&stream).is_some()
    }

    /// Requests that use the streams of this node, with their epochs.
    pub(super) fn outgoing(&self) -> Vec<(u32, RequestId, u32)> {
        let stream =
            |(number, stream): (&u32, &Outgoing)| (*number, stream.request.clone(), stream.epoch);
        self.outgoing.iter().map(stream).collect()
    }

    // --- streams that the peer opened -----------------------------------------------------------

    /// Takes a new stream of the peer.
    pub(super) fn opened(
        &mut self,
        stream: u32,
        bound: Bound,
        limit: usize,
    ) -> Result<(), Violation> {
        let expected = self.came.wrapping_add(1);
        if stream != expected {
            return Err(Violation::StreamOrder {
                expected,
                got: stream,
            });
        }
        if self.incoming.len() >= limit {
            return Err(Violation::Streams(limit));
        }
        self.came = stream;
        let window = Window::new(self.our_stream_window);
        self.incoming.insert(stream, Incoming { bound, window });
        Ok(())
    }

    /// What a stream of the peer is bound to; `None` if it is closed.
    pub(super) fn bound(&self, kind: MessageType, stream: u32) -> Result<Option<Bound>, Violation> {
        match self.incoming.get(&stream) {
            Some(incoming) => Ok(Some(incoming.bound.clone())),
            None if stream == 0 || stream > self.came => {
                Err(Violation::UnknownStream { kind, stream })
            }
            None => Ok(None),
        }
    }

    /// A step came: it takes its bytes of both windows.
    pub(super) fn charge(&mut self, stream: u32, bytes: usize) -> Result<(), Violation> {
        self.window.charge(bytes)?;
        if let Some(stream) = self.incoming.get_mut(&stream) {
            stream.window.charge(bytes)?;
        }
        Ok(())
    }

    /// The engine is done with bytes of a stream; says what the peer is to be told: more on the
    /// connection, more on the stream.
    pub(super) fn release(&mut self, stream: u32, bytes: usize) -> [Option<(u32, u32)>; 2] {
        let whole = self.window.release(bytes).map(|more| (0, more));
        let one = self
            .incoming
            .get_mut(&stream)
            .and_then(|incoming| incoming.window.release(bytes))
            .map(|more| (stream, more));
        [whole, one]
    }

    /// The peer closed a stream.
    pub(super) fn closed(&mut self, stream: u32) -> Result<(), Violation> {
        self.bound(MessageType::Close, stream)?;
        self.incoming.remove(&stream);
        Ok(())
    }

    /// Requests that the streams of the peer are bound to, with their epochs.
    pub(super) fn incoming(&self) -> Vec<(RequestId, u32)> {
        let bound = |stream: &Incoming| (stream.bound.request.clone(), stream.bound.epoch);
        self.incoming.values().map(bound).collect()
    }

    /// Open streams, both directions.
    pub(super) fn streams(&self) -> usize {
        self.outgoing.len() + self.incoming.len()
    }

    /// Bytes of steps that the engine is not done with, or that come in pieces.
    pub(super) fn held(&self) -> u64 {
        self.window
            .outstanding()
            .saturating_add(self.reassembly.held() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Capabilities;
    use crate::wire::StepBody;
    use alloc::vec;

    #[test]
    fn streams_that_wait_for_credit_take_turns() {
        let config = Config::new("a".into(), Capabilities::unknown());
        let hello = Hello {
            version: Hello::VERSION,
            node_id: "b".into(),
            incarnation: 1,
            features: vec![],
            dtypes: vec![DType::F32],
            window: 14,
            stream_window: 1000,
        };
        let mut extended = Extended::new(&hello, &config, Instant::ZERO);
        let step = |stream| Step {
            stream,
            position: 0,
            sample: true,
            body: StepBody::Tokens(vec![7]),
        };
        let bytes = u32::try_from(step(1).payload_len()).expect("small");
        assert_eq!(bytes, 14);
        for stream in 1..=3 {
            assert_eq!(extended.open("r".into(), 0), stream);
        }
        assert!(extended.admit(step(1)).is_some());
        for stream in [1, 2, 3, 1, 2, 3] {
            assert!(extended.admit(step(stream)).is_none());
        }
        let mut order = vec![];
        for _ in 0..6 {
            assert_eq!(extended.grant(0, bytes), Ok(()));
            order.extend(extended.unblock().map(|(step, _)| step.stream));
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
        assert_eq!(extended.unblock(), None);
    }
}
