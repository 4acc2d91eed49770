//! What waits to be written on one connection.

use crate::wire::{Chunk, HEADER_LEN, Message, MessageType, Step, StepBody, encode_parts};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// Messages wait in the order of their class: a health check never waits for a tensor. What is
/// large waits in pieces, so that whatever is more urgent goes between them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Most urgent first: control, news, decode steps, all that is bulky, and pieces of files.
    classes: [VecDeque<Entry>; 5],
    /// The newest transfer; zero before the first.
    newest: u32,
}

/// The outbox is full: the peer takes less than this node must tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutboxFull;

#[derive(Debug)]
enum Entry {
    Whole(Message),
    Pieces(Transfer),
}

/// A large message, written already but for its frame headers.
#[derive(Debug)]
struct Transfer {
    /// Chosen when the first piece goes: numbers rise in the order in which transfers begin.
    number: u32,
    kind: u8,
    /// Of a step.
    stream: Option<u32>,
    /// Of a tensor, or of what a training job sends.
    request: Option<String>,
    head: Bytes,
    body: Bytes,
    sent: usize,
}

const CONTROL: usize = 0;
const NEWS: usize = 1;
const DECODE: usize = 2;
const BULK: usize = 3;
const FILES: usize = 4;

impl Outbox {
    /// Queues a message, at most `limit` of them; in pieces if it is large and `chunked`.
    pub(super) fn push(
        &mut self,
        message: Message,
        chunked: bool,
        limit: usize,
    ) -> Result<(), OutboxFull> {
        let before = self.superseded(&message);
        if self.len() >= limit && before.is_none() {
            return Err(OutboxFull);
        }
        let class = self.class(&message);
        let entry = if chunked && may_be_large(&message) {
            let Ok((head, body)) = encode_parts(&message) else {
                debug_assert!(false, "the node made a message that cannot be written");
                return Ok(());
            };
            let transfer = Transfer {
                number: 0,
                kind: message.message_type() as u8,
                stream: step(&message).map(|step| step.stream),
                request: request(&message).map(Into::into),
                head,
                body,
                sent: 0,
            };
            if transfer.total() > Chunk::MAX {
                Entry::Pieces(transfer)
            } else {
                Entry::Whole(message)
            }
        } else {
            Entry::Whole(message)
        };
        if let Some(class) = self.classes.get_mut(class) {
            match before.and_then(|at| class.get_mut(at)) {
                Some(before) => *before = entry,
                None => class.push_back(entry),
            }
        }
        Ok(())
    }

    /// Where something waits that is not worth sending any more: of all that a node says of itself only the
    /// last word counts, and over a slow link there may be many.
    fn superseded(&self, message: &Message) -> Option<usize> {
        let topology = |message: &Message| matches!(message, Message::Topology(_));
        let waits = |entry: &Entry| matches!(entry, Entry::Whole(before) if topology(before));
        let class = self.classes.get(self.class(message))?;
        let before = topology(message).then(|| class.iter().position(waits));
        before.flatten()
    }

    /// Queues so many bytes that mean nothing, in pieces behind all else that is bulky.
    pub(super) fn pad(&mut self, bytes: usize) {
        let transfer = Transfer {
            number: 0,
            kind: Chunk::PADDING,
            stream: None,
            request: None,
            head: Bytes::new(),
            body: Bytes::from(alloc::vec![0; bytes]),
            sent: 0,
        };
        if let Some(class) = self.classes.get_mut(BULK) {
            class.push_back(Entry::Pieces(transfer));
        }
    }

    /// The next frame, and the stream of the step or token that is complete with it.
    pub(super) fn pop_with_stream(&mut self) -> Option<(Message, Option<u32>)> {
        let front = self.classes.iter().find_map(VecDeque::front)?;
        let in_pieces = match front {
            Entry::Pieces(transfer) => transfer.stream,
            Entry::Whole(_) => None,
        };
        let message = self.pop()?;
        let stream = match &message {
            Message::Step(step) => Some(step.stream),
            Message::Token(token) => Some(token.stream),
            Message::Scored(scored) => Some(scored.token.stream),
            Message::Chunk(chunk) if chunk.is_last() => in_pieces,
            _ => None,
        };
        Some((message, stream))
    }

    /// The next frame.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let class = self.classes.iter_mut().find(|class| !class.is_empty())?;
        if let Some(Entry::Pieces(transfer)) = class.front_mut() {
            if transfer.sent == 0 {
                self.newest = self.newest.wrapping_add(1);
                transfer.number = self.newest;
            }
            let piece = transfer.piece();
            transfer.sent += piece.data.len();
            if transfer.sent == transfer.total() {
                class.pop_front();
            }
            return Some(Message::Chunk(piece));
        }
        match class.pop_front()? {
            Entry::Whole(message) => Some(message),
            Entry::Pieces(_) => None,
        }
    }

    /// Bytes of the frame that [`Outbox::pop`] would give, header included: exact for a piece and
    /// for what has no JSON.
    pub(super) fn next_len(&self) -> Option<usize> {
        let payload = match self.classes.iter().find_map(VecDeque::front)? {
            Entry::Whole(message) => message.payload_hint(),
            Entry::Pieces(transfer) => Message::Chunk(transfer.piece()).payload_hint(),
        };
        Some(HEADER_LEN + payload)
    }

    /// Messages that wait, one that began included.
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    /// Forgets the steps of `stream`; one that has begun is aborted. Gives the payload bytes of each:
    /// the peer charges a step when it is complete, so it will never give these back.
    pub(super) fn withdraw(&mut self, stream: u32) -> Vec<usize> {
        self.drop_where(|entry| entry.stream() == Some(stream))
    }

    /// Forgets the tensors of a request in the base protocol, or of a training job; one that has begun in pieces is
    /// aborted.
    pub(super) fn forget(&mut self, request: &str) {
        self.drop_where(|entry| entry.request() == Some(request));
    }

    fn drop_where(&mut self, goes: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let mut unsent = Vec::new();
        for class in &mut self.classes {
            class.retain_mut(|entry| {
                if !goes(entry) {
                    return true;
                }
                unsent.push(entry.payload_len());
                if let Entry::Pieces(transfer) = entry
                    && transfer.sent > 0
                {
                    let transfer = transfer.number;
                    *entry = Entry::Whole(Message::Abort { transfer });
                    return true;
                }
                false
            });
        }
        unsent
    }

    fn class(&self, message: &Message) -> usize {
        match message.message_type() {
            // Replies share one class, so that they keep the order of their requests.
            MessageType::HealthCheckRequest
            | MessageType::HealthCheckResponse
            | MessageType::SendTensorResponse
            | MessageType::SendPromptResponse
            | MessageType::SendExampleResponse
            | MessageType::CollectTopologyRequest
            | MessageType::CollectTopologyResponse
            | MessageType::Ping
            | MessageType::Pong
            | MessageType::Error
            | MessageType::Goodbye
            | MessageType::Topology => CONTROL,
            MessageType::SendResult
            | MessageType::SendOpaqueStatus
            | MessageType::Open
            | MessageType::Token
            | MessageType::Scored
            | MessageType::Close
            | MessageType::Credit
            | MessageType::End
            | MessageType::Failed
            | MessageType::Begin
            | MessageType::Begun
            | MessageType::Loss
            | MessageType::Save
            | MessageType::Saved
            | MessageType::Want
            | MessageType::Timing => NEWS,
            MessageType::Step => self.class_of_step(message),
            MessageType::SendPromptRequest
            | MessageType::SendTensorRequest
            | MessageType::SendExampleRequest
            | MessageType::Example
            | MessageType::Gradient
            | MessageType::Chunk
            | MessageType::Abort => BULK,
            MessageType::Part => FILES,
        }
    }

    fn class_of_step(&self, message: &Message) -> usize {
        let Some(step) = step(message).filter(|step| positions(step) == 1) else {
            return BULK;
        };
        // The last piece of a prompt can be a single position. It must not overtake the others.
        let behind = |entry: &Entry| entry.stream() == Some(step.stream);
        match self.classes.get(BULK) {
            Some(bulk) if bulk.iter().any(behind) => BULK,
            _ => DECODE,
        }
    }
}

impl Entry {
    /// The stream of a step.
    fn stream(&self) -> Option<u32> {
        match self {
            Self::Whole(message) => step(message).map(|step| step.stream),
            Self::Pieces(transfer) => transfer.stream,
        }
    }

    /// The request of a tensor.
    fn request(&self) -> Option<&str> {
        match self {
            Self::Whole(message) => request(message),
            Self::Pieces(transfer) => transfer.request.as_deref(),
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Self::Whole(message) => message.payload_hint(),
            Self::Pieces(transfer) => transfer.total(),
        }
    }
}

impl Transfer {
    fn total(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The next piece. None has bytes of both parts: they would have to be copied together.
    fn piece(&self) -> Chunk {
        let (part, from) = match self.sent.checked_sub(self.head.len()) {
            None => (&self.head, self.sent),
            Some(from) => (&self.body, from),
        };
        let end = part.len().min(from + Chunk::MAX);
        // What can be written has a length of 32 bits.
        let short = |length| u32::try_from(length).unwrap_or(u32::MAX);
        Chunk {
            transfer: self.number,
            kind: self.kind,
            total: short(self.total()),
            offset: short(self.sent),
            data: part.slice(from.min(end)..end),
        }
    }
}

/// Whether a message may exceed one piece: certain, unless it is JSON, whose length only shows when
/// it is written.
fn may_be_large(message: &Message) -> bool {
    let kind = message.message_type();
    let json = !kind.is_extension() || kind == MessageType::Topology;
    json || message.payload_hint() > Chunk::MAX
}

fn step(message: &Message) -> Option<&Step> {
    match message {
        Message::Step(step) => Some(step),
        _ => None,
    }
}

fn request(message: &Message) -> Option<&str> {
    match message {
        Message::SendTensorRequest(tensor) => tensor.request_id.as_deref(),
        Message::Example(example) => Some(&*example.job),
        Message::Gradient(gradient) => Some(&*gradient.job),
        _ => None,
    }
}

/// Positions that a step brings.
fn positions(step: &Step) -> usize {
    match &step.body {
        StepBody::Tokens(tokens) => tokens.len(),
        StepBody::Hidden(tensor) => tensor.shape().get(1).copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
