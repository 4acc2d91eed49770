//! The only door for clients: accepts connections and reads requests under limits.
//!
//! tiny_http trusts its clients: one announced length aborts the process, one endless header fills
//! the memory, one failed `accept` ends the service. Clients therefore talk to this guard. It reads
//! one whole request for each connection, strictly and against the clock, hands only well-formed
//! ones to tiny_http over a private channel ([`Backend`]), and copies the answer back. It also
//! notices when a client hangs up, and says so to whoever works on the answer.

mod incoming;
mod relay;

pub use incoming::Refusal;

use super::backend::Backend;
use super::error::ApiError;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What one client may cost.
#[derive(Clone, Copy, Debug)]
pub struct GuardOptions {
    /// Bytes of request line and headers.
    pub head_bytes: usize,
    /// Time for request line and headers to arrive.
    pub head_time: Duration,
    /// Bytes of a body: a long chat fits, a memory does not fill.
    pub body_bytes: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Connections at a time; further ones hear 503.
    pub connections: usize,
    /// Time in which a client must take each piece of the answer.
    pub write_time: Duration,
    /// Time that a refused client gets to read why.
    pub linger: Duration,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            head_bytes: 16 << 10,
            head_time: Duration::from_secs(5),
            body_bytes: 8 << 20,
            body_time: Duration::from_secs(20),
            connections: 64,
            write_time: Duration::from_secs(10),
            linger: Duration::from_secs(1),
        }
    }
}

/// A running guard. Dropping it closes the door; connections that are open end by themselves.
#[derive(Debug)]
pub struct Guard {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
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
        let door = Door {
            options,
            backend,
            open: Arc::new(AtomicUsize::new(0)),
            leaving: VecDeque::new(),
        };
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("api-accept".to_owned())
            .spawn(move || door.run(&listener, &stopped))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // `accept` has no timeout: a connection of our own ends the wait.
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            wake.set_ip(match wake.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let woken = TcpStream::connect_timeout(&wake, Duration::from_millis(200)).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// The accepting side.
struct Door {
    options: GuardOptions,
    backend: Arc<Backend>,
    open: Arc<AtomicUsize>,
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
            let linger = self.options.linger;
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
        let busy = || {
            ApiError::new(
                503,
                "too_many_connections",
                "too many connections; try again",
            )
        };
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.options.connections {
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.turn_away(stream, &busy());
            return;
        }
        let place = Place(Arc::clone(&self.open));
        let (options, backend) = (self.options, Arc::clone(&self.backend));
        let spawned = thread::Builder::new()
            .name("api-client".to_owned())
            .stack_size(256 << 10)
            .spawn(move || {
                let _place = place;
                if let Err(error) = serve(stream, address, &options, &backend) {
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
            .and_then(|()| stream.write_all(&error.to_reply().to_bytes(false)))
            .and_then(|()| stream.shutdown(Shutdown::Write));
        if written.is_ok() {
            if self.leaving.len() >= LEAVING {
                self.leaving.pop_front();
            }
            self.leaving.push_back((Instant::now(), stream));
        }
    }
}

/// One of the connections that may be open; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    options: &GuardOptions,
    backend: &Backend,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match incoming::read_request(&mut stream, options) {
        Ok(request) => relay::relay(stream, address, &request, options, backend),
        Err(Refusal::Gone) => Ok(()),
        Err(Refusal::Because(error)) => {
            tracing::debug!("API client {address} refused: {error}");
            refuse(&mut stream, &error, options)
        }
    }
}

/// Says why, and gives the client the time to read it.
fn refuse(stream: &mut TcpStream, error: &ApiError, options: &GuardOptions) -> io::Result<()> {
    let reply = error.to_reply().to_bytes(false);
    relay::write_before(stream, &reply, Instant::now() + options.write_time)?;
    stream.shutdown(Shutdown::Write)?;
    let end = Instant::now() + options.linger;
    let mut scratch = [0; 4096];
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        stream.set_read_timeout(Some(left))?;
        if io::Read::read(stream, &mut scratch)? == 0 {
            break;
        }
    }
    Ok(())
}
