//! The only door for clients: accepts connections and reads requests under limits.
//!
//! tiny_http trusts its clients: one announced length aborts the process, one endless header fills
//! the memory, one failed `accept` ends the service. Clients therefore talk to this guard. It reads
//! one whole request after the other from each connection, strictly and against the clock, hands
//! only well-formed ones to tiny_http over a private channel ([`Backend`]), as many at a time as
//! there are workers, and copies the answers back. It also notices when a client hangs up, and says
//! so to whoever works on the answer.

mod incoming;
mod places;
mod relay;
mod source;
mod talk;

pub use incoming::{Head, Refusal, read_body, read_head};
pub use source::{Input, Source};

use super::backend::Backend;
use super::error::ApiError;
use super::line::{Line, LineOptions};
use crate::metrics::Crowd;
use places::Places;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use talk::{Budget, Shared};

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct GuardOptions {
    /// Bytes of request line and headers, and of further requests that a client may send before it
    /// has its answer.
    pub head_bytes: usize,
    /// Time for request line and headers to arrive.
    pub head_time: Duration,
    /// Bytes of a body: a long chat fits, a memory does not fill.
    pub body_bytes: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Bytes of all bodies that are here at a time; who brings more hears 503.
    pub bodies_bytes: usize,
    /// Connections at a time. When there are so many, idle ones give way, then slow ones; if there
    /// are none, further ones hear 503. Each takes a thread and up to four descriptors, of which
    /// processes have 1024 by default.
    pub connections: usize,
    /// Requests of one connection, so that long-lived ones do not stay with one of several nodes
    /// behind the same name for ever.
    pub requests: usize,
    /// Time that a connection may be kept between two requests.
    pub idle_time: Duration,
    /// Time in which a client must take each piece of the answer.
    pub write_time: Duration,
    /// Time that a client gets to read the last answer.
    pub linger: Duration,
    /// Requests that look something up.
    pub quick: LineOptions,
    /// Requests that let the ring compute.
    pub answers: LineOptions,
    /// Requests that look on until they go.
    pub watch: LineOptions,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            head_bytes: 16 << 10,
            head_time: Duration::from_secs(5),
            body_bytes: 8 << 20,
            body_time: Duration::from_secs(20),
            bodies_bytes: 128 << 20,
            connections: 256,
            requests: 1000,
            idle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            // As many may wait as can be connected: what is quick is never refused.
            quick: LineOptions {
                slots: 16,
                waiting: 256,
            },
            // Half of the requests that a node takes by default: the rest is for other nodes'.
            answers: LineOptions {
                slots: 32,
                waiting: 128,
            },
            // Nobody waits for somebody else to close a browser.
            watch: LineOptions {
                slots: 64,
                waiting: 0,
            },
        }
    }
}

/// A running guard. Dropping it closes the door; connections that are open end by themselves.
#[derive(Debug)]
pub struct Guard {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    places: Arc<Places>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Accepts clients on `listener` for `backend`.
    ///
    /// # Errors
    /// When the system gives no thread or the listener has no address.
    pub fn start(
        listener: TcpListener,
        options: GuardOptions,
        backend: Arc<Backend>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let places = Places::new(options.connections);
        let shared = Arc::new(Shared {
            options,
            backend,
            bodies: Budget::new(options.bodies_bytes),
            quick: Line::new(options.quick),
            answers: Line::new(options.answers),
            watch: Line::new(options.watch),
            places: Arc::clone(&places),
            turned_away: AtomicU64::new(0),
        });
        let looked = Arc::downgrade(&shared);
        let look = move || {
            looked
                .upgrade()
                .map_or_else(Crowd::default, |all| all.crowd())
        };
        shared.backend.service().opened(Box::new(look));
        let door = Door {
            shared,
            leaving: VecDeque::new(),
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("api-accept".to_owned())
            .spawn(move || door.run(&listener, &stopped))?;
        Ok(Self {
            address,
            stop,
            places,
            thread: Some(thread),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Guard {
    /// Closes the door; connections that are open end with their answers.
    pub fn close(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.places.close();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // `accept` has no timeout: a connection of our own ends the wait.
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            wake.set_ip(match wake.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let woken = TcpStream::connect_timeout(&wake, Duration::from_millis(200)).is_ok();
        if woken {
            let _ = thread.join();
        }
    }

    /// Whether nobody waits for an answer, or for the end of one.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.places.idle()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.close();
    }
}

/// The accepting side.
struct Door {
    shared: Arc<Shared>,
    /// Clients that were told 503 and may still be reading it: closing a socket with unread input
    /// would tear the answer away.
    leaving: VecDeque<(Instant, TcpStream)>,
}

/// More are not kept waiting; they are refused already.
const LEAVING: usize = 16;

impl Door {
    fn run(mut self, listener: &TcpListener, stop: &AtomicBool) {
        let mut failing = false;
        loop {
            let accepted = listener.accept();
            if stop.load(Ordering::Acquire) {
                return;
            }
            let linger = self.shared.options.linger;
            self.leaving.retain(|(since, _)| since.elapsed() < linger);
            match accepted {
                Ok((stream, address)) => {
                    failing = false;
                    self.admit(stream, address);
                }
                Err(error) => {
                    // Out of descriptors, or the client is gone already: neither may end the
                    // service, and neither is worth a log line each time.
                    if !failing {
                        tracing::warn!("cannot accept API clients: {error}");
                    }
                    failing = true;
                    self.leaving.clear();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, address: SocketAddr) {
        let stream = Arc::new(stream);
        let Some(place) = self.shared.places.take(&stream) else {
            self.shared.turned_away.fetch_add(1, Ordering::Relaxed);
            let busy = "too many connections; try again";
            let busy = ApiError::new(503, "too_many_connections", busy);
            if let Some(stream) = Arc::into_inner(stream) {
                self.turn_away(stream, &busy);
            }
            return;
        };
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new()
            .name("api-client".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                if let Err(error) = talk::talk(stream, place, address, &shared) {
                    tracing::trace!("API client {address}: {error}");
                }
            });
        if let Err(error) = spawned {
            tracing::warn!("no thread for an API client: {error}");
        }
    }

    fn turn_away(&mut self, mut stream: TcpStream, error: &ApiError) {
        // Fits into any socket's empty buffer, so it does not hold up the next client.
        let written = stream
            .set_nonblocking(true)
            .and_then(|()| stream.write_all(&relay::last_words(error)))
            .and_then(|()| stream.shutdown(Shutdown::Write));
        if written.is_ok() {
            if self.leaving.len() >= LEAVING {
                self.leaving.pop_front();
            }
            self.leaving.push_back((Instant::now(), stream));
        }
    }
}
