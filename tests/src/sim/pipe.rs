//! One direction of a connection: bytes that are under way.

use exo_protocol::wire::{DecodeLimits, Decoder, Encoder, Message};
use exo_protocol::{ConnectionId, LinkFault};
use std::collections::VecDeque;
use std::time::Duration;

/// What a system takes before a writer must wait.
const BUFFER: usize = 4096;

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) latency: Duration,
    pub(crate) bytes_per_second: u64,
}

/// One direction, from a writing host to a reading one.
#[derive(Debug)]
pub(crate) struct Pipe {
    /// The reading end.
    pub(crate) to: usize,
    pub(crate) to_connection: ConnectionId,
    pub(crate) weather: Weather,
    /// Nothing arrives while this holds.
    pub(crate) stalled: bool,
    /// The reading host is gone and the writer does not know.
    pub(crate) swallows: bool,
    /// A delivery is scheduled.
    pub(crate) scheduled: bool,
    waiting: VecDeque<(Encoder, usize)>,
    under_way: VecDeque<u8>,
    decoder: Decoder,
    received: usize,
}

/// What a delivery brought.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) messages: Vec<(Message, usize)>,
    pub(crate) fault: Option<LinkFault>,
    pub(crate) mid_frame: bool,
}

impl Pipe {
    pub(crate) fn new(
        to: usize,
        to_connection: ConnectionId,
        weather: Weather,
        limits: DecodeLimits,
    ) -> Self {
        Self {
            to,
            to_connection,
            weather,
            stalled: false,
            swallows: false,
            scheduled: false,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            decoder: Decoder::new(limits),
            received: 0,
        }
    }

    /// Takes a message; says how many bytes each message has that the system took whole.
    pub(crate) fn write(&mut self, message: &Message) -> Vec<usize> {
        let encoder = Encoder::new(message).expect("nodes send what can be encoded");
        let length = encoder.remaining();
        self.waiting.push_back((encoder, length));
        self.fill()
    }

    fn fill(&mut self) -> Vec<usize> {
        let mut taken = Vec::new();
        while let Some((encoder, length)) = self.waiting.front_mut() {
            let room = BUFFER.saturating_sub(self.under_way.len());
            let mut moved = 0;
            for slice in encoder.slices() {
                let most = slice.len().min(room - moved);
                self.under_way.extend(slice.iter().take(most));
                moved += most;
            }
            encoder.advance(moved);
            if encoder.remaining() > 0 {
                break;
            }
            taken.push(*length);
            self.waiting.pop_front();
        }
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How long the next `count` bytes take.
    pub(crate) fn delay(&self, count: usize) -> Duration {
        let nanos = (count as u64).saturating_mul(1_000_000_000) / self.weather.bytes_per_second;
        self.weather.latency + Duration::from_nanos(nanos)
    }

    /// Moves up to `most` bytes to the reader; says what they bring, and what room it made.
    pub(crate) fn deliver(&mut self, most: usize) -> (Delivery, Vec<usize>) {
        let mut delivery = Delivery::default();
        let mut rest: Vec<u8> = self
            .under_way
            .drain(..most.min(self.under_way.len()))
            .collect();
        if self.swallows {
            rest.clear();
        }
        let mut rest = rest.as_slice();
        while !rest.is_empty() && delivery.fault.is_none() {
            let space = self.decoder.space();
            let count = space.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            if let Some(place) = space.get_mut(..count) {
                place.copy_from_slice(now);
            }
            self.decoder.advance(count);
            self.received += count;
            rest = later;
            loop {
                match self.decoder.poll() {
                    Ok(Some(message)) => {
                        delivery
                            .messages
                            .push((message, std::mem::take(&mut self.received)));
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
        (delivery, self.fill())
    }
}
