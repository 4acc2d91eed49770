//! Announcements: sending this node's, and listening to those of others.

use crate::node::{Shared, lock};
use exo_protocol::Input;
use exo_protocol::discovery::announcement::MAX_LEN;
use exo_runtime_common::StartError;
use exo_runtime_common::socket::for_announcements;
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tracing::{debug, trace};

/// How long listening rests when the system refuses.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a socket that waits cannot be woken by shutting it down, it looks up this often.
#[cfg(not(target_os = "linux"))]
const LOOK_UP: Duration = Duration::from_secs(1);

/// Where others' announcements come.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UdpSocket,
    /// Datagrams that the node still takes.
    wanted: Mutex<u32>,
    changed: Condvar,
}

impl Listener {
    pub(crate) fn new(port: u16) -> Result<Self, StartError> {
        let socket =
            for_announcements(port).map_err(|source| StartError::Announcements { port, source })?;
        #[cfg(not(target_os = "linux"))]
        socket.set_read_timeout(Some(LOOK_UP))?;
        Ok(Self {
            socket,
            wanted: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Hands in this many datagrams from now on.
    pub(crate) fn want(&self, datagrams: u32) {
        *lock(&self.wanted) = datagrams;
        self.changed.notify_one();
    }

    /// Lets [`Listener::serve`] see that the runtime is stopping.
    pub(crate) fn stop(&self) {
        // Who waits is woken by this, though the system calls it an error.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
        drop(lock(&self.wanted));
        self.changed.notify_one();
    }

    /// Listens until the runtime stops.
    pub(crate) fn serve(&self, shared: &Arc<Shared>) {
        // One byte more than an announcement may have, so that too much is noticed.
        let mut buffer = vec![0; MAX_LEN + 1];
        let stopping = || shared.connections.is_stopping();
        while !stopping() {
            let mut wanted = lock(&self.wanted);
            if *wanted == 0 {
                let waited = self.changed.wait_while(wanted, |n| *n == 0 && !stopping());
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            *wanted -= 1;
            drop(wanted);
            match self.socket.recv_from(&mut buffer) {
                _ if stopping() => return,
                Ok((length, from)) => {
                    let payload = buffer.get(..length).unwrap_or_default().to_vec();
                    shared.offer(Input::Datagram {
                        from: from.ip(),
                        payload: payload.into(),
                    });
                }
                Err(error) => {
                    let mut wanted = lock(&self.wanted);
                    *wanted = wanted.saturating_add(1);
                    drop(wanted);
                    let idle = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
                    if !idle.contains(&error.kind()) {
                        debug!(%error, "cannot hear announcements");
                        thread::sleep(PAUSE);
                    }
                }
            }
        }
    }
}

/// Sends a datagram. What cannot be sent is lost, as any datagram may be: an interface may be gone
/// by now, or may not do broadcasts.
pub(crate) fn send(from: Ipv4Addr, to: SocketAddrV4, payload: &[u8]) {
    let sent = UdpSocket::bind((from, 0)).and_then(|socket| {
        socket.set_broadcast(true)?;
        socket.send_to(payload, to)
    });
    if let Err(error) = sent {
        trace!(%from, %to, %error, "not announced");
    }
}
