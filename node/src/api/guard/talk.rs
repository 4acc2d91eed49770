//! One connection, from its first request to its last.

use super::GuardOptions;
use super::incoming::{Refusal, read_body, read_head};
use super::places::{Phase, Place, Places};
use super::relay::Connection;
use super::source::{Source, Wire};
use crate::api::backend::Backend;
use crate::api::error::ApiError;
use crate::api::line::{Line, NoPlace};
use crate::api::service::Lane;
use crate::metrics::Crowd;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What all connections share.
pub(super) struct Shared {
    pub(super) options: GuardOptions,
    pub(super) backend: Arc<Backend>,
    pub(super) bodies: Budget,
    pub(super) quick: Arc<Line>,
    pub(super) answers: Arc<Line>,
    pub(super) watch: Arc<Line>,
    pub(super) places: Arc<Places>,
    /// Connections for which there was no place.
    pub(super) turned_away: AtomicU64,
}

impl Shared {
    /// Who is here right now.
    pub(super) fn crowd(&self) -> Crowd {
        let lines = [
            ("quick", &self.quick),
            ("answers", &self.answers),
            ("watch", &self.watch),
        ];
        Crowd {
            lines: lines.map(|(name, line)| line.state(name)).into(),
            connections: self.places.count(),
            most_connections: self.options.connections,
            turned_away: self.turned_away.load(Ordering::Relaxed),
        }
    }
}

/// Bytes that bodies may still take.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(AtomicUsize::new(bytes))
    }

    fn take(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.is_ok()
    }
}

/// Bytes of one body; given back when dropped.
struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Held<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.budget.take(bytes) {
            self.bytes += bytes;
            return Ok(());
        }
        let message = "too many large requests at a time; try again";
        Err(Refusal::Because(ApiError::new(503, "busy", message)))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Serves one connection to its end.
pub(super) fn talk(
    stream: Arc<TcpStream>,
    place: Place,
    address: SocketAddr,
    shared: &Shared,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = Connection {
        source: Source::new(Wire(stream)),
        place,
        address: address.to_string(),
        options: shared.options,
    };
    for number in 1..=shared.options.requests {
        if shared.places.closed() {
            break;
        }
        if !connection.wait(number == 1) {
            return Ok(());
        }
        let last = number == shared.options.requests;
        match connection.one(shared, last) {
            Ok(true) => {}
            Ok(false) => break,
            Err(Stop::Refused(refusal)) => return connection.refuse(&refusal),
            Err(Stop::Lost(error)) => return Err(error),
        }
    }
    connection.farewell()
}

/// Why a connection ends before its time.
enum Stop {
    Refused(Refusal),
    Lost(io::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Connection {
    /// Waits for the first byte of a request. Who sends none is not told that it is late.
    fn wait(&mut self, first: bool) -> bool {
        self.place.set(Phase::Idle);
        let time = if first {
            self.options.head_time
        } else {
            self.options.idle_time
        };
        self.source.deadline = Instant::now() + time;
        let came = !self.source.rest().is_empty() || self.source.fill().is_ok();
        self.place.set(Phase::Reading);
        came
    }

    /// Reads one request and answers it; says whether another one may come.
    fn one(&mut self, shared: &Shared, last: bool) -> Result<bool, Stop> {
        let options = self.options;
        let head = read_head(&mut self.source, &options)?;
        let keep = head.keep && !last && !shared.places.closed();
        let request = head.request();
        let (service, method) = (shared.backend.service(), head.method());
        // What is refused is refused before its body is read: then the connection ends, since
        // where the next request begins is not known.
        let lane = match service.admit(&request) {
            Ok(lane) => lane,
            Err(reply) => {
                let keep = keep && !head.has_body();
                self.reply(&reply, method, keep)?;
                return Ok(keep);
            }
        };
        let line = match lane {
            Lane::Quick => &shared.quick,
            Lane::Answer => &shared.answers,
            Lane::Watch => &shared.watch,
        };
        let full = || {
            let message = "as many requests wait already as may; try again";
            service.refuse(&request, &ApiError::new(429, "queue_full", message))
        };
        if line.refuses() {
            let keep = keep && !head.has_body();
            self.reply(&full(), method, keep)?;
            return Ok(keep);
        }
        let mut held = Held {
            budget: &shared.bodies,
            bytes: 0,
        };
        let body = read_body(&mut self.source, &head, &options, &mut |bytes| {
            held.grow(bytes)
        })?;
        self.place.set(Phase::Answering);
        match line.enter(|| self.hung_up()) {
            Ok(permit) => Ok(self.relay(&head, body, permit, &shared.backend, keep)?),
            Err(NoPlace::Full) => {
                self.reply(&full(), method, keep)?;
                Ok(keep)
            }
            Err(NoPlace::Gone) => Err(Refusal::Gone.into()),
        }
    }
}
