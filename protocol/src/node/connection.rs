//! One transport connection: what waits to be written, what answers are awaited.

use super::extended::Extended;
use super::outbox::{Outbox, OutboxFull};
use super::peer::PeerKey;
use super::timing::Written;
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::extension::Chunk;
use crate::wire::{Message, MessageType};
use alloc::collections::VecDeque;
use alloc::string::String;
use core::time::Duration;

/// A connection from [`Input::Opened`](super::Input::Opened) to
/// [`Input::Lost`](super::Input::Lost).
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) remote: String,
    /// The peer that this node dialled over it.
    pub(super) peer: Option<PeerKey>,
    /// The peer whose frames it carries, once that is known, if the peer opened it.
    pub(super) holder: Option<PeerKey>,
    /// Who the other end says it is.
    pub(super) claims: Option<NodeId>,
    /// The node closed it; only [`Input::Lost`](super::Input::Lost) is still to come.
    pub(super) closing: bool,
    /// When a frame that began must have moved on.
    pub(super) stalls_at: Option<Instant>,
    /// Present between nodes of ours, once they introduced themselves.
    pub(super) extended: Option<Extended>,
    /// Messages of which somebody wants to know when they are written.
    pub(super) timed: VecDeque<Written>,
    outbox: Outbox,
    awaited: VecDeque<Awaited>,
    writing: VecDeque<Writing>,
    written: u64,
    /// Bytes that the driver has written.
    written_bytes: u64,
    /// The transfer in pieces that began last, when, and how many bytes were written by then.
    began: Option<(u32, Instant, u64)>,
    /// A large message whose last byte was handed over, and when its first one was.
    through: Option<(usize, Instant)>,
}

/// A message of so many bytes or more shows how quick the way is.
const MEASURED: usize = 64 << 10;

/// A reply that must come. Replies come in the order of their requests: the base protocol has no
/// other way to match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    pub(super) reply: Reply,
    pub(super) asked: Instant,
    /// Runs only once the request is written: a slow link is no deaf peer.
    until: Option<Instant>,
    number: u64,
}

/// What kind of reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Health,
    Topology,
    Tensor,
}

impl Reply {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Health => "health check",
            Self::Topology => "topology",
            Self::Tensor => "tensor",
        }
    }
}

/// A message in the driver's hands.
#[derive(Clone, Copy, Debug)]
struct Writing {
    reply: Option<Reply>,
    number: u64,
    since: Instant,
    /// About how many bytes it has.
    bytes: usize,
    probe: Option<u64>,
    /// The step or token that is complete with it, by its stream.
    completes: Option<(MessageType, u32)>,
}

impl Connection {
    /// With more bytes than this in the driver's hands it gets no more: less than one chunk.
    const IN_HAND: usize = Chunk::MAX / 2;

    pub(super) fn new(remote: String, peer: Option<PeerKey>) -> Self {
        Self {
            remote,
            peer,
            holder: None,
            claims: None,
            closing: false,
            stalls_at: None,
            extended: None,
            timed: VecDeque::new(),
            outbox: Outbox::default(),
            awaited: VecDeque::new(),
            writing: VecDeque::new(),
            written: 0,
            written_bytes: 0,
            began: None,
            through: None,
        }
    }

    /// Queues a message, at most `limit` of them.
    pub(super) fn push(&mut self, message: Message, limit: usize) -> Result<(), OutboxFull> {
        self.outbox.push(message, self.extended.is_some(), limit)
    }

    /// Closes a stream of this node and forgets its steps that wait to be written; says whether it
    /// was open.
    pub(super) fn withdraw(&mut self, stream: u32) -> bool {
        let unsent = self.outbox.withdraw(stream);
        self.timed.retain(|written| written.stream != stream);
        let extended = self.extended.as_mut();
        extended.is_some_and(|extended| extended.close(stream, &unsent))
    }

    /// Forgets the tensors of a request of the base protocol that wait to be written.
    pub(super) fn forget(&mut self, request: &str) {
        self.outbox.forget(request);
    }

    /// The next message for the driver, while it has fewer than `window` and no more bytes than
    /// keep a link busy: whatever is in its hands, nothing can overtake any more.
    pub(super) fn next(&mut self, now: Instant, window: usize) -> Option<Message> {
        let in_hand: usize = self.writing.iter().map(|writing| writing.bytes).sum();
        if self.closing || self.writing.len() >= window || in_hand > Self::IN_HAND {
            return None;
        }
        let bytes = self.outbox.next_len()?;
        let (message, stream) = self.outbox.pop_with_stream()?;
        let kind = match &message {
            // What comes in pieces is asked with the last one.
            Message::Chunk(chunk) if chunk.is_last() => MessageType::from_byte(chunk.kind),
            Message::Chunk(_) => None,
            other => Some(other.message_type()),
        };
        let reply = match kind {
            Some(MessageType::HealthCheckRequest) => Some(Reply::Health),
            Some(MessageType::CollectTopologyRequest) => Some(Reply::Topology),
            Some(MessageType::SendTensorRequest) => Some(Reply::Tensor),
            _ => None,
        };
        self.follow(&message, now);
        let number = self.written;
        self.written = self.written.wrapping_add(1);
        self.writing.push_back(Writing {
            reply,
            number,
            since: now,
            bytes,
            probe: match message {
                Message::Ping { id } => Some(id),
                _ => None,
            },
            completes: kind.zip(stream),
        });
        if let Some(reply) = reply {
            self.awaited.push_back(Awaited {
                reply,
                asked: now,
                until: None,
                number,
            });
        }
        Some(message)
    }

    /// Looks for messages that show how quick the way is.
    fn follow(&mut self, message: &Message, now: Instant) {
        let Message::Chunk(chunk) = message else {
            return;
        };
        if chunk.offset == 0 {
            self.began = Some((chunk.transfer, now, self.written_bytes));
        }
        let total = usize::try_from(chunk.total).unwrap_or(usize::MAX);
        let began = self.began.filter(|&(transfer, ..)| {
            transfer == chunk.transfer && chunk.is_last() && total >= MEASURED
        });
        if let Some((_, began, before)) = began {
            // Whatever else went meanwhile, or was about to go, took its part of the time.
            let in_hand: usize = self.writing.iter().map(|writing| writing.bytes).sum();
            let since = self.written_bytes.saturating_sub(before);
            let all = usize::try_from(since).unwrap_or(usize::MAX);
            let all = all.saturating_add(in_hand).saturating_add(chunk.data.len());
            self.through = Some((all.max(total), began));
        }
    }

    /// A large message went to its end just now: how many bytes went from its beginning on, and when
    /// that was.
    pub(super) fn take_through(&mut self) -> Option<(usize, Instant)> {
        self.through.take()
    }

    /// Queues bytes that only show how quick the way is, if nothing else waits.
    pub(super) fn pad(&mut self, bytes: usize) -> bool {
        let idle = self.outbox.len() == 0 && !self.closing && self.extended.is_some();
        if idle {
            self.outbox.pad(bytes);
        }
        idle
    }

    /// The driver wrote the oldest message. Its reply, if it has one and has not come already, is
    /// due after `patience`. Says whether it was a tensor, and which step or token is complete.
    pub(super) fn sent(
        &mut self,
        now: Instant,
        bytes: usize,
        patience: impl FnOnce(Reply) -> Duration,
    ) -> (Option<Reply>, Option<(MessageType, u32)>) {
        self.written_bytes = self.written_bytes.saturating_add(bytes as u64);
        let Some(writing) = self.writing.pop_front() else {
            return (None, None);
        };
        // What waits behind it begins now.
        if let Some(next) = self.writing.front_mut() {
            next.since = now;
        }
        if let (Some(probe), Some(extended)) = (writing.probe, &mut self.extended) {
            extended.pulse.written(probe, now);
        }
        let Some(reply) = writing.reply else {
            return (None, writing.completes);
        };
        let awaited = self
            .awaited
            .iter_mut()
            .find(|awaited| awaited.number == writing.number);
        if let Some(awaited) = awaited {
            awaited.until = Some(now + patience(reply));
        }
        (Some(reply), writing.completes)
    }

    /// A reply came; it must answer the oldest request.
    pub(super) fn replied(&mut self, reply: Reply) -> Option<Awaited> {
        if self.awaited.front()?.reply != reply {
            return None;
        }
        self.awaited.pop_front()
    }

    /// What this connection still owes at `now`, in words.
    pub(super) fn overdue(&self, now: Instant, stall: Duration) -> Option<&'static str> {
        if self.closing {
            return None;
        }
        if self.stalls_at.is_some_and(|at| at <= now) {
            return Some("stopped in the middle of a frame");
        }
        if self
            .writing
            .front()
            .is_some_and(|writing| writing.since + stall <= now)
        {
            return Some("takes no more bytes");
        }
        let late = |awaited: &&Awaited| awaited.until.is_some_and(|until| until <= now);
        self.awaited
            .iter()
            .find(late)
            .map(|awaited| match awaited.reply {
                Reply::Health => "does not answer health checks",
                Reply::Topology => "does not answer topology requests",
                Reply::Tensor => "does not acknowledge tensors",
            })
    }

    /// Messages that the driver does not have yet.
    pub(super) fn queued(&self) -> usize {
        self.outbox.len()
    }

    /// Whether a reply of this kind is awaited or its request still waits to be written.
    pub(super) fn awaits(&self, reply: Reply) -> bool {
        self.awaited.iter().any(|awaited| awaited.reply == reply)
    }

    /// Whether nothing is to be written and no reply is to come.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited.is_empty() && self.writing.is_empty() && self.outbox.len() == 0
    }

    /// When this connection needs attention.
    pub(super) fn deadline(&self, stall: Duration) -> Option<Instant> {
        if self.closing {
            return None;
        }
        let reply = self
            .awaited
            .iter()
            .filter_map(|awaited| awaited.until)
            .min();
        let write = self.writing.front().map(|writing| writing.since + stall);
        [reply, write, self.stalls_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SendResult;
    use bytes::Bytes;

    fn result(id: &str) -> Message {
        Message::SendResult(SendResult {
            request_id: Some(id.into()),
            result: alloc::vec![1],
            is_finished: false,
            tensor: None,
        })
    }

    fn connection() -> Connection {
        Connection::new("test:1".into(), None)
    }

    #[test]
    fn window_and_outbox_have_limits() {
        let mut connection = connection();
        connection.push(result("a"), 2).expect("there is room");
        connection.push(result("b"), 2).expect("there is room");
        assert_eq!(connection.push(result("c"), 2), Err(OutboxFull));
        assert!(connection.next(Instant::ZERO, 1).is_some());
        assert!(
            connection.next(Instant::ZERO, 1).is_none(),
            "one is in the driver's hands"
        );
        connection.sent(Instant::ZERO, 9, |_| Duration::ZERO);
        assert!(connection.next(Instant::ZERO, 1).is_some());
    }

    #[test]
    fn patience_starts_when_the_request_is_written() {
        let (second, stall) = (Duration::from_secs(1), Duration::from_secs(30));
        let at = |seconds| Instant::after_origin(Duration::from_secs(seconds));
        let mut connection = connection();
        let health = Message::HealthCheckRequest {
            payload: Bytes::new(),
        };
        connection.push(health, 8).expect("there is room");
        assert!(connection.next(at(0), 8).is_some());
        assert_eq!(connection.overdue(at(10), stall), None);
        let sent = connection.sent(at(10), 9, |_| second);
        assert_eq!(sent.0, Some(Reply::Health));
        assert_eq!(connection.deadline(stall), Some(at(11)));
        assert_eq!(
            connection.overdue(at(11), stall),
            Some("does not answer health checks")
        );
        assert_eq!(
            connection.replied(Reply::Tensor),
            None,
            "nobody asked for it"
        );
        assert!(connection.replied(Reply::Health).is_some());
        assert_eq!(connection.deadline(stall), None);
    }
}
