//! A connection that only asks: frames of the protocol over a blocking socket, against the clock.

use exo_protocol::Json;
use exo_protocol::wire::{DecodeError, DecodeLimits, Decoder, Encoder, Hello, Message};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a strange answer that are kept to tell what it is.
const FIRST: usize = 256;

/// Somebody who was connected to.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    /// The first bytes that came.
    first: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nothing came, or not enough.
    #[error("no answer in {0:?}")]
    Late(Duration),
    /// The other end has closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// It does not speak this protocol; [`Client::first`] tells how it begins.
    #[error("{0}")]
    Strange(DecodeError),
    /// The system's word.
    #[error("{0}")]
    Io(io::Error),
}

impl Client {
    /// Connects; no longer than `patience`.
    pub(super) fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::new(DecodeLimits::default()),
            first: Vec::new(),
        })
    }

    /// The first bytes that came.
    pub(super) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Asks whether the other end is well, and who it is if it is a node of ours. Gives what stands
    /// under `exo` in the answer.
    pub(super) fn identify(&mut self, patience: Duration) -> Result<Option<Json>, AskError> {
        let payload = Hello::question();
        let message = Message::HealthCheckRequest { payload };
        self.ask(&message, patience, |message| match message {
            Message::HealthCheckResponse { exo, .. } => Some(exo),
            _ => None,
        })
    }

    /// Sends a message and waits until one comes that `wanted` takes; others are for nobody here.
    pub(super) fn ask<T>(
        &mut self,
        message: &Message,
        patience: Duration,
        wanted: impl Fn(Message) -> Option<T>,
    ) -> Result<T, AskError> {
        let until = Instant::now() + patience;
        self.send(message, until)
            .map_err(|error| failed(error, patience))?;
        loop {
            while let Some(message) = self.decoder.poll().map_err(AskError::Strange)? {
                if let Some(answer) = wanted(message) {
                    return Ok(answer);
                }
            }
            self.read(until).map_err(|error| failed(error, patience))?;
        }
    }

    fn send(&mut self, message: &Message, until: Instant) -> io::Result<()> {
        let mut encoder = Encoder::new(message).map_err(io::Error::other)?;
        while encoder.remaining() > 0 {
            self.stream.set_write_timeout(Some(left(until)?))?;
            let [head, body] = encoder.slices();
            let sent = self
                .stream
                .write_vectored(&[IoSlice::new(head), IoSlice::new(body)])?;
            if sent == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            encoder.advance(sent);
        }
        Ok(())
    }

    fn read(&mut self, until: Instant) -> io::Result<()> {
        self.stream.set_read_timeout(Some(left(until)?))?;
        let space = self.decoder.space();
        let count = self.stream.read(space)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let room = FIRST.saturating_sub(self.first.len()).min(count);
        self.first
            .extend_from_slice(space.get(..room).unwrap_or_default());
        self.decoder.advance(count);
        Ok(())
    }
}

/// The time that is left; none is no time to wait.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

fn failed(error: io::Error, patience: Duration) -> AskError {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => AskError::Late(patience),
        ErrorKind::UnexpectedEof
        | ErrorKind::WriteZero
        | ErrorKind::BrokenPipe
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionReset => AskError::Closed,
        _ => AskError::Io(error),
    }
}
