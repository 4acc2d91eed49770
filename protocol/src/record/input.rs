//! What a driver tells the node. Messages are kept as their frames.

use super::codec::{
    Damage, Item, Sink, Source, fields, put_pieces, take_bytes, variants, wrappers,
};
use crate::discovery::interface::Interface;
use crate::engine::{
    EngineEvent, EngineFailure, EngineOutput, FailureKind, Sampling, Scores, Shaping, TrainEvent,
};
use crate::id::{AskId, CallId, ConnectionId, DialId, VisitId};
use crate::node::{
    Command, Discovered, Example, FilesNews, Input, LinkFault, Origin, Submit, Train,
};
use crate::tensor::{DTypeFamily, Tensor, TensorError};
use crate::topology::ModelCost;
use crate::wire::{
    DecodeError, DecodeLimits, Download, DownloadState, Encoder, HEADER_LEN, Header, Message,
    MessageType, decode_payload,
};
use alloc::sync::Arc;
use bytes::Bytes;

/// What was taken once is taken again: the bytes were judged when they came.
const ANY: DecodeLimits = DecodeLimits {
    frame: u32::MAX,
    metadata: u32::MAX,
    json_depth: u32::MAX,
    json: u32::MAX,
};

wrappers! { ConnectionId DialId CallId AskId VisitId }

variants! {
    Input {
        0 = Opened { connection, origin, remote },
        1 = DialFailed { dial, reason },
        2 = Received { connection, message, bytes },
        3 = Progress { connection },
        4 = Sent { connection, bytes },
        5 = Lost { connection, fault },
        6 = DiscoveryFile(content),
        7 = Engine(event),
        8 = Command(command),
        9 = Interfaces(interfaces),
        10 = Datagram { from, payload },
        11 = Answered { ask, answer },
        12 = Asked { visit, from, payload },
    }
    Origin { 0 = Dialed(dial), 1 = Accepted }
    LinkFault { 0 = Closed, 1 = Truncated, 2 = Malformed(error), 3 = Io(reason), 4 = Local }
    Command {
        0 = Submit(submit),
        1 = Cancel { request },
        2 = Drain,
        3 = Stop,
        4 = Train(train),
        5 = Example(example),
        6 = Save { job },
        7 = EndJob { job },
        8 = Discovered { source, peers },
        9 = Files { call, news },
        10 = Unload { model },
        11 = Want { want, name, from, length, prefer },
        12 = Unwant { want },
        13 = Blame { name, node },
        14 = Part { read, size, code, content },
        15 = Downloading(download),
    }
    EngineEvent {
        0 = Progress { call, done, total },
        1 = Loaded { call, bytes, fingerprint },
        2 = Unloaded { call },
        3 = Forwarded { call, output, positions },
        4 = Freed { call },
        5 = Failed { call, failure },
        6 = Trained(event),
    }
    TrainEvent {
        0 = Begun { call, trainable, iteration },
        1 = Forwarded { call, hidden },
        2 = Compared { call, loss, positions, gradient },
        3 = Learned { call, gradient },
        4 = Saved { call, file },
        5 = Ended { call },
    }
    DownloadState { 0 = Coming, 1 = Here, 2 = Stopped, 3 = Failed(reason) }
    FilesNews { 0 = Coming { done, total }, 1 = Here, 2 = Missing(failure) }
    EngineOutput { 0 = Hidden(tensor), 1 = Token { token, end }, 2 = Nothing, 3 = Scored { token, end, scores } }
    FailureKind {
        0 = ModelNotFound, 1 = BadModel, 2 = OutOfMemory, 3 = ContextFull, 4 = BadInput,
        5 = Internal, 6 = Unsupported,
    }
    DecodeError {
        0 = Magic(bytes),
        1 = UnknownType(number),
        2 = PayloadTooLarge { kind, length, limit },
        3 = JsonTooLarge { kind, length, limit },
        4 = Truncated { kind, expected, got },
        5 = Json { kind, reason },
        6 = Tensor { kind, reason },
        7 = Length { kind, expected, got },
        8 = TooShort { kind, least, got },
        9 = Flags { kind, known, got },
        10 = Utf8 { kind, what, valid },
        11 = ElementCode { kind, code },
        12 = Tokens { got },
        13 = Rows { dtype, width, got },
        14 = Piece { total, offset, length },
        15 = Sizes { kind, batch, positions, width },
        16 = Counted { from, to, positions },
    }
    TensorError {
        0 = UnknownDType(name),
        1 = Size { dtype, shape, expected, got },
        2 = Shape(shape),
    }
}

fields! {
    Submit {
        request, model, layers, bytes, cost, fingerprint, prompt, tokens, end_tokens, sampling,
        max_tokens, timeout, trace,
    }
    ModelCost { layers, used, embedding, head, tied, kv, hidden }
    Train { job, model, layers, bytes, fingerprint, setup }
    Example { job, batch, tokens, targets, learn }
    Download { shard, state, done, total, speed }
    Interface { name, address, broadcast }
    Discovered { node, address, description, capabilities }
    Sampling { temperature, top_p, top_k, seed, shaping, scores }
    Shaping { min_p, repetition, frequency, presence, bias, grammar, forced, answer }
    Scores { chosen, likeliest }
    EngineFailure { kind, message }
}

impl Item for Arc<Shaping> {
    fn put<S: Sink>(&self, out: &mut S) {
        (**self).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        Item::take(from).map(Self::new)
    }
}

impl Item for Arc<Scores> {
    fn put<S: Sink>(&self, out: &mut S) {
        (**self).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        Item::take(from).map(Self::new)
    }
}

impl Item for MessageType {
    fn put<S: Sink>(&self, out: &mut S) {
        out.write(&[*self as u8]);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let [number] = from.array()?;
        Self::from_byte(number).ok_or(Damage("an unknown message type"))
    }
}

/// What is wrong with a field, by its name: there are few, and all of them are in the code.
impl Item for &'static str {
    fn put<S: Sink>(&self, out: &mut S) {
        let number = NAMES.iter().position(|name| name == self);
        number.unwrap_or(NAMES.len()).put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let number = usize::take(from)?;
        Ok(NAMES.get(number).copied().unwrap_or("field"))
    }
}

const NAMES: [&str; 4] = ["text", "request id", "job id", "file"];

impl Item for Tensor {
    fn put<S: Sink>(&self, out: &mut S) {
        self.dtype().put(out);
        (self.family() == DTypeFamily::Mlx).put(out);
        self.shape().to_vec().put(out);
        self.data().put(out);
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        let (dtype, mlx) = (Item::take(from)?, bool::take(from)?);
        let (shape, data) = (Item::take(from)?, Bytes::take(from)?);
        let tensor = Self::new(dtype, shape, data);
        let family = if mlx {
            DTypeFamily::Mlx
        } else {
            DTypeFamily::Numpy
        };
        tensor
            .map(|tensor| tensor.spelled(family))
            .map_err(|_| Damage("a tensor that is none"))
    }
}

impl Item for Message {
    fn put<S: Sink>(&self, out: &mut S) {
        // What is too large for a frame cannot have come in one; it reads as no message.
        match Encoder::new(self) {
            Ok(encoder) => put_pieces(out, encoder.slices()),
            Err(_) => put_pieces(out, [&[], &[]]),
        }
    }

    fn take(from: &mut Source<'_>) -> Result<Self, Damage> {
        const NONE: Damage = Damage("a message that is none");

        let frame = Bytes::from(take_bytes(from)?);
        let header = frame.first_chunk::<HEADER_LEN>().ok_or(NONE)?;
        let header = Header::decode(header).map_err(|_| NONE)?;
        let payload = frame.slice(HEADER_LEN..);
        if u32::try_from(payload.len()) != Ok(header.length) {
            return Err(NONE);
        }
        decode_payload(header.kind, payload, &ANY).map_err(|_| NONE)
    }
}
