//! Announcements: sending this node's, and listening to those of others.

use crate::node::{Shared, lock};
use async_io::{Async, Timer};
use exo_protocol::Input;
use exo_protocol::discovery::announcement::MAX_LEN;
use exo_runtime_common::StartError;
use exo_runtime_common::socket::for_announcements;
use futures_lite::future::{or, poll_fn};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;
use tracing::{debug, trace};

/// How long listening rests when the system refuses.
const PAUSE: Duration = Duration::from_millis(50);

/// Where others' announcements come.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Async<UdpSocket>,
    wanted: Mutex<Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    /// Datagrams that the node still takes.
    datagrams: u32,
    /// The task that waits for it to want some.
    waiting: Option<Waker>,
}

impl Listener {
    pub(crate) fn new(port: u16) -> Result<Self, StartError> {
        let socket = for_announcements(port).and_then(Async::new);
        Ok(Self {
            socket: socket.map_err(|source| StartError::Announcements { port, source })?,
            wanted: Mutex::default(),
        })
    }

    /// Hands in this many datagrams from now on.
    pub(crate) fn want(&self, datagrams: u32) {
        let mut wanted = lock(&self.wanted);
        wanted.datagrams = datagrams;
        if let Some(waiting) = wanted.waiting.take() {
            waiting.wake();
        }
    }

    /// Listens until the runtime stops.
    pub(crate) async fn serve(&self, shared: &Arc<Shared>) {
        // One byte more than an announcement may have, so that too much is noticed.
        let mut buffer = vec![0; MAX_LEN + 1];
        loop {
            let stopped = async {
                shared.connections.stopped().await;
                None
            };
            let received = async {
                self.wanted().await;
                Some(self.socket.recv_from(&mut buffer).await)
            };
            match or(stopped, received).await {
                None => return,
                Some(Ok((length, from))) => {
                    self.took_one();
                    let payload = buffer.get(..length).unwrap_or_default().to_vec();
                    let datagram = Input::Datagram {
                        from: from.ip(),
                        payload: payload.into(),
                    };
                    shared.offer(datagram).await;
                }
                Some(Err(error)) => {
                    debug!(%error, "cannot hear announcements");
                    Timer::after(PAUSE).await;
                }
            }
        }
    }

    fn took_one(&self) {
        let mut wanted = lock(&self.wanted);
        wanted.datagrams = wanted.datagrams.saturating_sub(1);
    }

    /// Waits until the node takes datagrams.
    async fn wanted(&self) {
        poll_fn(|cx| {
            let mut wanted = lock(&self.wanted);
            if wanted.datagrams > 0 {
                return Poll::Ready(());
            }
            wanted.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
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
