//! Carrying a request to tiny_http and its answer back.

use super::GuardOptions;
use super::incoming::{Head, Refusal};
use super::places::{Phase, Place};
use super::source::{Source, Wire};
use crate::api::backend::{Backend, Visit};
use crate::api::error::ApiError;
use crate::api::http::{Client, Reply};
use crate::api::line::Permit;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a client that waits for its answer is looked after.
const LOOK: Duration = Duration::from_millis(50);

/// A head of an answer is shorter.
const HEAD: usize = 16 << 10;

/// A whole answer up to here is taken from its worker at once, however slowly the client reads.
const WHOLE: usize = 1 << 20;

/// One client's connection.
pub(super) struct Connection {
    pub(super) source: Source<Wire>,
    pub(super) place: Place,
    pub(super) address: String,
    pub(super) options: GuardOptions,
}

impl Connection {
    fn stream(&self) -> &TcpStream {
        &self.source.input.0
    }

    /// Whether the client left. What it sends meanwhile is kept, up to the size of a head.
    pub(super) fn hung_up(&mut self) -> bool {
        let most = self.options.head_bytes;
        self.source.hung_up(most)
    }

    /// Says something that is not from a worker.
    pub(super) fn reply(&mut self, reply: &Reply, method: &str, keep: bool) -> io::Result<()> {
        let bytes = reply.to_bytes(method == "HEAD");
        let (head, body) = split(&bytes).unwrap_or((&bytes, &[]));
        let mut out = finish_head(head, &self.options, keep, false);
        out.extend_from_slice(body);
        self.write(&out)
    }

    /// Writes all of `bytes` in the time for a piece, however slowly the client takes them.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.options.write_time;
        self.place.set(Phase::Writing);
        while !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream().set_write_timeout(Some(left))?;
            match self.stream().write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.place.set(Phase::Answering);
        Ok(())
    }

    /// Hands a request to a worker, and its answer to the client. Says whether the connection can
    /// go on.
    pub(super) fn relay(
        &mut self,
        head: &Head,
        body: Vec<u8>,
        permit: Permit,
        backend: &Backend,
        keep: bool,
    ) -> io::Result<bool> {
        let visit = backend.visit(self.address.clone(), permit);
        let visit = visit.and_then(|mut visit| {
            let bytes = head.to_bytes(visit.secret(), body.len());
            let channel = &mut visit.channel;
            channel.set_timeouts(LOOK, self.options.write_time)?;
            channel.write_all(&bytes)?;
            channel.write_all(&body)?;
            Ok(visit)
        });
        // The worker has it now.
        drop(body);
        let visit = match visit {
            Ok(visit) => visit,
            Err(error) => {
                tracing::warn!("the API cannot take a request: {error}");
                let error = "the API is out of resources; try again";
                let error = ApiError::new(503, "unavailable", error);
                self.reply(&error.to_reply(), head.method(), false)?;
                return Ok(false);
            }
        };
        let client = visit.client();
        let result = self.answer(head, visit, keep);
        // Whatever happened, nobody reads an answer from here on.
        client.leave();
        result
    }

    fn answer(&mut self, asked: &Head, mut visit: Visit, keep: bool) -> io::Result<bool> {
        let client = visit.client();
        let mut bytes = Vec::new();
        let found = loop {
            if let Some(found) = find_head(&bytes) {
                break Some(found);
            }
            if bytes.len() > HEAD || !self.more(&mut visit, &client, &mut bytes)? {
                break None;
            }
        };
        if client.gone() {
            return Ok(false);
        }
        let Some((framing, start)) = found.and_then(|end| {
            let framing = Framing::of(bytes.get(..end)?, asked)?;
            Some((framing, end))
        }) else {
            // The worker panicked, and said so in the log.
            let error = "something went wrong here; the node's log says what";
            let error = ApiError::new(500, "internal_error", error);
            self.reply(&error.to_reply(), asked.method(), false)?;
            return Ok(false);
        };
        let keep = keep && framing != Framing::ToEnd;
        let chunked = framing == Framing::Chunked;
        let body = bytes.split_off(start);
        let mut out = finish_head(&bytes, &self.options, keep, chunked);
        match framing {
            Framing::Nothing => {
                self.write(&out)?;
                Ok(keep)
            }
            Framing::Exactly(length) => {
                out.extend_from_slice(&body);
                self.exactly(out, length.saturating_sub(body.len()), client, visit)?;
                Ok(keep)
            }
            Framing::Chunked | Framing::ToEnd => {
                piece(&mut out, &body, chunked);
                self.stream_on(out, chunked, &client, visit)?;
                Ok(keep && client.told())
            }
        }
    }

    /// Passes on `out` and so many bytes that are still to come.
    fn exactly(
        &mut self,
        mut out: Vec<u8>,
        mut missing: usize,
        client: Arc<Client>,
        mut visit: Visit,
    ) -> io::Result<()> {
        while missing > 0 {
            let before = out.len();
            if !self.more(&mut visit, &client, &mut out)? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            missing = missing.saturating_sub(out.len() - before);
            if missing > 0 && out.len() >= WHOLE {
                self.write(&out)?;
                out.clear();
            }
        }
        // The next request may have the worker while this client reads.
        drop(visit);
        drop(client);
        self.write(&out)
    }

    /// Passes on `out` and whatever is still to come, as it comes.
    fn stream_on(
        &mut self,
        mut out: Vec<u8>,
        chunked: bool,
        client: &Arc<Client>,
        mut visit: Visit,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            self.write(&out)?;
            out.clear();
            bytes.clear();
            if !self.more(&mut visit, client, &mut bytes)? {
                break;
            }
            piece(&mut out, &bytes, chunked);
        }
        // A torn stream has no end.
        if chunked && client.told() {
            self.write(b"0\r\n\r\n")?;
        }
        Ok(())
    }

    /// Appends what the worker says next to `bytes`; false at its end, or when the client left.
    fn more(
        &mut self,
        visit: &mut Visit,
        client: &Client,
        bytes: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut piece = [0; 16 << 10];
        loop {
            match visit.channel.read(&mut piece) {
                Ok(count) => {
                    bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
                    return Ok(count > 0);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        if self.hung_up() {
                            client.leave();
                            return Ok(false);
                        }
                    }
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Says why, and gives the client the time to read it.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> io::Result<()> {
        if let Refusal::Because(error) = refusal {
            tracing::debug!("API client {} refused: {error}", self.address);
            self.reply(&error.to_reply(), "", false)?;
            self.farewell()?;
        }
        Ok(())
    }

    /// Closes this side, and waits a moment for the other: to close a socket with unread input
    /// would tear the answer away.
    pub(super) fn farewell(&mut self) -> io::Result<()> {
        self.place.set(Phase::Idle);
        self.stream().shutdown(std::net::Shutdown::Write)?;
        let end = Instant::now() + self.options.linger;
        let mut scratch = [0; 4096];
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            self.stream().set_read_timeout(Some(left))?;
            if self.stream().read(&mut scratch)? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// A reply to a client that is not served.
pub(super) fn last_words(error: &ApiError) -> Vec<u8> {
    let bytes = error.to_reply().to_bytes(false);
    let (head, body) = split(&bytes).unwrap_or((&bytes, &[]));
    let mut out = finish_head(head, &GuardOptions::default(), false, false);
    out.extend_from_slice(body);
    out
}

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Nothing,
    Exactly(usize),
    Chunked,
    /// HTTP/1.0 has only the connection's end.
    ToEnd,
}

impl Framing {
    fn of(head: &[u8], asked: &Head) -> Option<Self> {
        let head = std::str::from_utf8(head).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
        if asked.method() == "HEAD" || matches!(status, "204" | "304") {
            return Some(Self::Nothing);
        }
        let lengths = head.lines().filter_map(|line| line.split_once(": "));
        let mut lengths = lengths.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        match lengths.next() {
            Some((_, length)) => length.parse().ok().map(Self::Exactly),
            None if asked.old => Some(Self::ToEnd),
            None => Some(Self::Chunked),
        }
    }
}

/// Where the body begins.
fn find_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    find_head(bytes).and_then(|at| bytes.split_at_checked(at))
}

/// A worker's head with what it does not know: what becomes of the connection.
fn finish_head(head: &[u8], options: &GuardOptions, keep: bool, chunked: bool) -> Vec<u8> {
    let mut out = head.strip_suffix(b"\r\n").unwrap_or(head).to_vec();
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if keep {
        let seconds = options.idle_time.as_secs();
        let words = format!("Connection: keep-alive\r\nKeep-Alive: timeout={seconds}\r\n\r\n");
        out.extend_from_slice(words.as_bytes());
    } else {
        out.extend_from_slice(b"Connection: close\r\n\r\n");
    }
    out
}

/// One write for what came at once, so that it travels in one packet.
fn piece(out: &mut Vec<u8>, bytes: &[u8], chunked: bool) {
    if bytes.is_empty() {
        return;
    }
    if chunked {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    }
    out.extend_from_slice(bytes);
    if chunked {
        out.extend_from_slice(b"\r\n");
    }
}
