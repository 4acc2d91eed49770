//! Bytes of one client, in the order in which they come.

use super::incoming::{Refusal, bad};
use crate::api::error::ApiError;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

/// Where a client's bytes come from.
pub trait Input {
    /// Appends what comes next to `buffer`, at least one byte.
    ///
    /// # Errors
    /// When nothing came before `deadline`, or nothing will.
    fn fill(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> Result<(), Refusal>;

    /// Says something in between.
    ///
    /// # Errors
    /// When nobody listens.
    fn say(&mut self, bytes: &[u8]) -> Result<(), Refusal>;
}

/// A client's socket.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Arc<TcpStream>);

impl Input for Wire {
    fn fill(&mut self, buffer: &mut Vec<u8>, deadline: Instant) -> Result<(), Refusal> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        if self.0.set_read_timeout(Some(left)).is_err() {
            return Err(Refusal::Gone);
        }
        let mut piece = [0; 8192];
        loop {
            match (&*self.0).read(&mut piece) {
                Ok(0) => return Err(Refusal::Gone),
                Ok(count) => {
                    buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(late()),
                    _ => return Err(Refusal::Gone),
                },
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        (&*self.0).write_all(bytes).map_err(|_| Refusal::Gone)
    }
}

fn late() -> Refusal {
    let error = ApiError::new(408, "timeout", "the request came too slowly");
    Refusal::Because(error)
}

/// Bytes that came and were not used yet. What comes behind a request is the beginning of the next.
#[derive(Debug)]
pub struct Source<I> {
    pub(super) input: I,
    bytes: Vec<u8>,
    /// Bytes that have been used already.
    used: usize,
    pub(super) deadline: Instant,
}

impl<I: Input> Source<I> {
    /// Nothing came yet.
    pub fn new(input: I) -> Self {
        Self {
            input,
            bytes: Vec::new(),
            used: 0,
            deadline: Instant::now(),
        }
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.used += count;
        // Moving the tail only now and then keeps many small chunks linear; keeping nothing for
        // nothing makes idle connections cheap.
        if self.rest().is_empty() {
            self.bytes = Vec::new();
            self.used = 0;
        } else if self.used > 64 << 10 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }

    pub(super) fn fill(&mut self) -> Result<(), Refusal> {
        self.input.fill(&mut self.bytes, self.deadline)
    }

    /// The next line without its end; a line feed alone does not end one.
    pub(super) fn line(&mut self, limit: usize) -> Result<String, Refusal> {
        loop {
            if let Some(end) = self.rest().iter().position(|&byte| byte == b'\n') {
                let line = self.rest().get(..end);
                let line = line.and_then(|line| line.strip_suffix(b"\r"));
                let line = line.ok_or_else(|| bad("a line must end with CR LF"))?;
                if line.len() > limit {
                    return Err(bad("a line is too long"));
                }
                let line = std::str::from_utf8(line).map_err(|_| bad("a line is not UTF-8"))?;
                let line = line.to_owned();
                self.consume(end + 1);
                return Ok(line);
            }
            // One more may be the CR.
            if self.rest().len() > limit + 1 {
                return Err(bad("a line is too long"));
            }
            self.fill()?;
        }
    }

    /// Moves the next `count` bytes to `out`, as far as `grow` agrees.
    pub(super) fn take(
        &mut self,
        count: usize,
        out: &mut Vec<u8>,
        grow: &mut dyn FnMut(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut missing = count;
        while missing > 0 {
            if self.rest().is_empty() {
                self.fill()?;
            }
            let have = missing.min(self.rest().len());
            grow(have)?;
            out.extend_from_slice(self.rest().get(..have).unwrap_or_default());
            self.consume(have);
            missing -= have;
        }
        Ok(())
    }
}

impl Source<Wire> {
    /// Whether the client closed its side, as far as can be seen without waiting. Up to `most`
    /// bytes of its next requests are kept; behind them its end is not seen before they are used.
    pub(super) fn hung_up(&mut self, most: usize) -> bool {
        let stream = &*self.input.0;
        if stream.set_nonblocking(true).is_err() {
            return true;
        }
        let mut piece = [0; 4096];
        let gone = loop {
            if self.bytes.len() - self.used >= most {
                break false;
            }
            match (&*stream).read(&mut piece) {
                Ok(0) => break true,
                Ok(count) => {
                    let piece = piece.get(..count).unwrap_or_default();
                    self.bytes.extend_from_slice(piece);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        stream.set_nonblocking(false).is_err() || gone
    }
}
