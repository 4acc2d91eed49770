//! Messages on their way in.

use super::header::{Frame, HEADER_LEN, MAGIC};
use super::payload::{Payload, check_length, decode};
use super::{DecodeError, DecodeLimits, Message, MessageType};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::mem;

/// Bytes that are read ahead of what is asked for: a small frame, or many, come in one read.
const AHEAD: usize = 64 << 10;

/// Most bytes before the first frame of who is allowed to greet.
const GREETING: usize = 64 << 10;

/// Turns one direction of a connection into messages.
///
/// It lends the place where the next bytes belong, so that they are copied once from the kernel:
///
/// ```
/// # use exo_protocol::wire::{Decoder, DecodeLimits};
/// # let mut stream: &[u8] = b"EXO\x01\x01\0\0\0\0";
/// # let mut read = |place: &mut [u8]| {
/// #     let n = place.len().min(stream.len());
/// #     let (now, later) = stream.split_at(n);
/// #     place[..n].copy_from_slice(now);
/// #     stream = later;
/// #     n
/// # };
/// let mut decoder = Decoder::new(DecodeLimits::default());
/// loop {
///     let n = read(decoder.space());
///     if n == 0 {
///         break;
///     }
///     decoder.advance(n);
///     while let Some(message) = decoder.poll()? {
///         println!("{message:?}");
///     }
/// }
/// assert!(!decoder.is_mid_frame());
/// # Ok::<(), exo_protocol::wire::DecodeError>(())
/// ```
///
/// Where the stream is cut into reads makes no difference to the messages or to the error. Memory
/// follows the bytes that have come, not the length that a frame announces: at most twice those
/// and a constant. What is read over ([`MessageType::SKIPPABLE`]) takes none, whatever its length.
#[derive(Debug)]
pub struct Decoder {
    limits: DecodeLimits,
    /// Read-ahead, `start..end` of it filled. Taken at the first read.
    ahead: Vec<u8>,
    start: usize,
    end: usize,
    /// A frame too large for the read-ahead; then that is empty.
    body: Option<Body>,
    /// Bytes of a payload that are still to be read over.
    skip: usize,
    /// How many more bytes may come before the first frame.
    greeting: usize,
    last_frame: usize,
    failure: Option<DecodeError>,
}

/// The payload of a large frame while it comes in.
#[derive(Debug)]
struct Body {
    kind: MessageType,
    /// Bytes announced.
    length: usize,
    /// Never longer than `length`, nor than twice what has come or [`AHEAD`].
    bytes: Vec<u8>,
    filled: usize,
}

impl Body {
    /// Makes room for more, if there is none.
    fn grow(&mut self) {
        if self.filled < self.bytes.len() {
            return;
        }
        let room = self.filled.saturating_mul(2).max(AHEAD).min(self.length);
        // Large allocations grow by remapping their pages, which is cheaper than new pages and a
        // copy. The exact size makes `Bytes` of it later without either.
        self.bytes.reserve_exact(room - self.bytes.len());
        self.bytes.resize(room, 0);
    }
}

impl Decoder {
    /// At the start of a stream.
    #[must_use]
    pub fn new(limits: DecodeLimits) -> Self {
        Self {
            limits,
            ahead: Vec::new(),
            start: 0,
            end: 0,
            body: None,
            skip: 0,
            greeting: 0,
            last_frame: 0,
            failure: None,
        }
    }

    /// The same where something that is not this protocol may come before the first frame, as a
    /// login shell greets whoever comes. Up to 64 KiB of it are read over.
    #[must_use]
    pub fn after_greeting(limits: DecodeLimits) -> Self {
        Self {
            greeting: GREETING,
            ..Self::new(limits)
        }
    }

    /// Where the next bytes belong. Not empty as long as [`Decoder::poll`] has returned `None`
    /// after the last [`Decoder::advance`]; empty after an error.
    pub fn space(&mut self) -> &mut [u8] {
        if self.failure.is_some() {
            return &mut [];
        }
        if let Some(body) = &mut self.body {
            body.grow();
            return body.bytes.get_mut(body.filled..).unwrap_or_default();
        }
        if self.ahead.is_empty() {
            self.ahead = vec![0; AHEAD];
        }
        // What is left is part of one frame, and moved once in its life.
        if self.start > 0 {
            self.ahead.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.ahead.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts the first `n` bytes of [`Decoder::space`] as filled.
    pub fn advance(&mut self, n: usize) {
        let (filled, room) = match &mut self.body {
            Some(body) => (&mut body.filled, body.bytes.len()),
            None => (&mut self.end, self.ahead.len()),
        };
        debug_assert!(
            n <= room - *filled,
            "the transport read more than there was room for"
        );
        *filled = filled.saturating_add(n).min(room);
    }

    /// The next message that is complete; `None` asks for more bytes.
    ///
    /// # Errors
    /// When the bytes are not this protocol or exceed a limit. The messages before them have come
    /// out before; after it the same error comes for ever.
    pub fn poll(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let polled = self.step();
        if let Err(failure) = &polled {
            self.failure = Some(failure.clone());
            self.ahead = Vec::new();
            self.start = 0;
            self.end = 0;
            self.body = None;
            self.skip = 0;
        }
        polled
    }

    fn step(&mut self) -> Result<Option<Message>, DecodeError> {
        if let Some(body) = &mut self.body {
            if body.filled < body.length {
                return Ok(None);
            }
            let bytes = Bytes::from(mem::take(&mut body.bytes));
            let kind = body.kind;
            self.body = None;
            self.last_frame = HEADER_LEN + bytes.len();
            return decode(kind, &Payload::Kept(&bytes), &self.limits).map(Some);
        }
        if self.greeting > 0 && !self.greeted() {
            return Ok(None);
        }
        let (header, came) = loop {
            self.read_over();
            let came = self.ahead.get(self.start..self.end).unwrap_or_default();
            let Some((header, came)) = came.split_first_chunk::<HEADER_LEN>() else {
                return Ok(None);
            };
            match Frame::decode(header)? {
                Frame::Message(header) => break (header, came),
                Frame::Skip(length) => {
                    self.start += HEADER_LEN;
                    self.skip = usize::try_from(length).unwrap_or(usize::MAX);
                }
            }
        };
        check_length(header, &self.limits)?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if let Some(payload) = came.get(..length) {
            let message = decode(header.kind, &Payload::Lent(payload), &self.limits)?;
            self.last_frame = HEADER_LEN + length;
            self.start += self.last_frame;
            return Ok(Some(message));
        }
        if length > AHEAD - HEADER_LEN {
            let mut body = Body {
                kind: header.kind,
                length,
                bytes: Vec::new(),
                filled: 0,
            };
            body.bytes.extend_from_slice(came);
            body.filled = came.len();
            self.body = Some(body);
            self.start = 0;
            self.end = 0;
        }
        Ok(None)
    }

    /// Drops what came before the first frame; says whether that has come, or must come now.
    fn greeted(&mut self) -> bool {
        let came = self.ahead.get(self.start..self.end).unwrap_or_default();
        let found = came.windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
        // The magic may be about to come.
        let over = found.unwrap_or_else(|| came.len().saturating_sub(MAGIC.len() - 1));
        let over = over.min(self.greeting);
        self.start += over;
        self.greeting -= over;
        if found.is_some() {
            self.greeting = 0;
        }
        self.greeting == 0
    }

    /// Drops what came of a payload that is to be read over.
    fn read_over(&mut self) {
        let dropped = self.skip.min(self.end - self.start);
        self.skip -= dropped;
        self.start += dropped;
        // All of the read-ahead is lent again, so that a long payload takes few reads.
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether a frame has begun and not ended: the end of the stream, or a long pause, is then the
    /// peer's fault. Meaningful when [`Decoder::poll`] has returned `None`.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        self.body.is_some() || self.skip > 0 || (self.start < self.end && self.greeting == 0)
    }

    /// How many bytes the frame of the last message took, its header included; zero before the
    /// first.
    #[must_use]
    pub fn last_frame_len(&self) -> usize {
        self.last_frame
    }

    /// Bytes of memory held for bytes that are no message yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.ahead.len() + self.body.as_ref().map_or(0, |body| body.bytes.len())
    }
}

#[cfg(test)]
mod tests;
