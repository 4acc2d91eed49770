//! One direction of a connection: bytes that are under way.

use super::ways::Place;
use exo_protocol::rng::Rng;
use exo_protocol::wire::{DecodeLimits, Decoder, Encoder, Message};
use exo_protocol::{DType, Instant, LinkFault};
use std::collections::VecDeque;
use std::time::Duration;

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second: u64,
}

/// One direction, from a writing host to a reading one.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The address that was dialled, of one of the two.
    pub(crate) place: Place,
    /// The writing host has not been told that its end is lost.
    pub(crate) open: bool,
    /// Nothing arrives while this holds.
    pub(crate) stalled: bool,
    /// Nothing comes out any more, not even an end.
    pub(crate) mute: bool,
    /// What arrives where nobody listens is not answered.
    pub(crate) deaf: bool,
    /// An arrival is scheduled.
    pub(crate) scheduled: bool,
    /// The writer said its last word: what is under way, and then the end.
    pub(crate) finished: bool,
    /// One side knows the base protocol only: nobody introduces itself.
    base: bool,
    waiting: VecDeque<(Encoder, usize)>,
    /// What the system took; before `head` it has arrived.
    taken: Vec<u8>,
    head: usize,
    /// Bytes that arrive together, and when.
    segments: VecDeque<(Instant, usize)>,
    line_free: Instant,
    decoder: Decoder,
    received: usize,
}

/// What arrived.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) messages: Vec<(Message, usize)>,
    pub(crate) fault: Option<LinkFault>,
    pub(crate) mid_frame: bool,
}

impl Pipe {
    pub(crate) fn new(
        [from, to]: [usize; 2],
        place: Place,
        base: bool,
        limits: DecodeLimits,
    ) -> Self {
        Self {
            from,
            to,
            place,
            open: true,
            stalled: false,
            mute: false,
            deaf: false,
            scheduled: false,
            finished: false,
            base,
            waiting: VecDeque::new(),
            taken: Vec::new(),
            head: 0,
            segments: VecDeque::new(),
            line_free: Instant::ZERO,
            decoder: Decoder::new(limits),
            received: 0,
        }
    }

    /// Takes a message.
    pub(crate) fn write(&mut self, mut message: Message) -> Result<(), String> {
        if self.base {
            match &mut message {
                Message::HealthCheckRequest { payload } => payload.clear(),
                Message::HealthCheckResponse { exo, .. } => *exo = None,
                _ => {}
            }
            if !is_base(&message) {
                return Err(format!("{message:?} is not of the base protocol"));
            }
        }
        let encoder = Encoder::new(&message)
            .map_err(|error| format!("{message:?} cannot be encoded: {error}"))?;
        let length = encoder.remaining();
        self.waiting.push_back((encoder, length));
        Ok(())
    }

    /// Moves what waits into the system's buffer of `room` bytes, for the link to carry in pieces
    /// that `rng` cuts. Tells `sent` how long each message was that the system took whole.
    pub(crate) fn fill(
        &mut self,
        now: Instant,
        weather: Weather,
        room: usize,
        rng: &mut Rng,
        mut sent: impl FnMut(usize),
    ) {
        if self.head > 0 && self.head == self.taken.len() {
            self.taken.clear();
            self.head = 0;
        }
        let before = self.taken.len();
        // A system wakes a writer when there is room worth the while.
        if before - self.head > room / 2 {
            return;
        }
        while let Some((encoder, length)) = self.waiting.front_mut() {
            let mut space = room.saturating_sub(self.taken.len() - self.head);
            let mut moved = 0;
            for slice in encoder.slices() {
                let slice = &slice[..slice.len().min(space)];
                self.taken.extend_from_slice(slice);
                moved += slice.len();
                space -= slice.len();
            }
            if !encoder.advance(moved) {
                break;
            }
            sent(*length);
            self.waiting.pop_front();
        }
        let added = self.taken.len() - before;
        if added == 0 {
            return;
        }
        // One in four is cut, anywhere.
        let cut = rng.next_u64();
        let first = if cut & 3 == 0 {
            usize::try_from((cut >> 2) % added as u64).unwrap_or(0)
        } else {
            0
        };
        let most = packets(weather.bytes_per_second);
        for mut left in [first, added - first] {
            while left > 0 {
                let piece = left.min(most);
                left -= piece;
                let nanos = (piece as u64).saturating_mul(1_000_000_000) / weather.bytes_per_second;
                self.line_free = self.line_free.max(now) + Duration::from_nanos(nanos);
                self.segments
                    .push_back((self.line_free + weather.latency, piece));
            }
        }
    }

    /// When something arrives next.
    pub(crate) fn arrives_at(&self) -> Option<Instant> {
        self.segments.front().map(|(at, _)| *at)
    }

    /// The writer writes no more: what the system has not taken is lost.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.waiting.clear();
    }

    /// Forgets what is under way: nobody will read it.
    pub(crate) fn swallow(&mut self) {
        self.segments.clear();
        self.head = self.taken.len();
    }

    /// The bytes that arrive now.
    pub(crate) fn arrived(&mut self) -> &[u8] {
        let (_, length) = self.segments.pop_front().unwrap_or_default();
        let start = self.head;
        self.head += length;
        &self.taken[start..self.head]
    }

    /// Reads the bytes that arrive now; `see` looks at them.
    pub(crate) fn read(&mut self, see: impl FnOnce(&[u8])) -> Delivery {
        let mut delivery = Delivery::default();
        let (_, length) = self.segments.pop_front().unwrap_or_default();
        let start = self.head;
        self.head += length;
        let mut rest = &self.taken[start..self.head];
        see(rest);
        while !rest.is_empty() && delivery.fault.is_none() {
            let space = self.decoder.space();
            let count = space.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            space[..count].copy_from_slice(now);
            self.decoder.advance(count);
            self.received += count;
            rest = later;
            loop {
                match self.decoder.poll() {
                    Ok(Some(message)) => {
                        let bytes = std::mem::take(&mut self.received);
                        delivery.messages.push((message, bytes));
                    }
                    Ok(None) => break,
                    Err(error) => {
                        delivery.fault = Some(LinkFault::Malformed(error));
                        break;
                    }
                }
            }
        }
        delivery.mid_frame = self.decoder.is_mid_frame();
        delivery
    }

    /// Whether the stream stopped inside a frame.
    pub(crate) fn is_mid_frame(&self) -> bool {
        self.decoder.is_mid_frame()
    }
}

/// The longest that a line brings nothing while it is busy: what is large comes in packets, and a
/// reader sees on the way that something comes.
const PACKETS: Duration = Duration::from_millis(100);

/// What a line carries in that time, or one packet.
fn packets(bytes_per_second: u64) -> usize {
    let bytes = u128::from(bytes_per_second) * PACKETS.as_millis() / 1000;
    usize::try_from(bytes).unwrap_or(usize::MAX).max(1448)
}

/// Whether a node that knows the base protocol only can read a message.
fn is_base(message: &Message) -> bool {
    match message {
        Message::SendTensorRequest(tensor) => {
            let tensor = &tensor.tensor;
            tensor.to_tokens().is_some() || tensor.dtype() == DType::F32
        }
        other => !other.message_type().is_extension(),
    }
}
