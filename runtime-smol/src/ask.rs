//! Announcements over TCP: saying this node's to others, and taking those of visitors.

use crate::connection::STOPPING;
use crate::listen;
use crate::node::{Shared, lock};
use async_io::{Async, Timer};
use bytes::Bytes;
use exo_protocol::discovery::tcp::{MOST_VISITORS, Reader};
use exo_protocol::{AskId, Input, VisitId};
use exo_runtime_common::StartError;
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Semaphore;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::debug;

/// How long accepting rests when the system refuses.
const PAUSE: Duration = Duration::from_millis(50);

/// Those with whom announcements are exchanged right now.
#[derive(Debug)]
pub(crate) struct Talks {
    table: Mutex<Table>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// Visitors that wait for the node's answer.
    answers: BTreeMap<VisitId, Async<TcpStream>>,
}

impl Default for Talks {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            room: Arc::new(Semaphore::new(MOST_VISITORS)),
        }
    }
}

impl Talks {
    fn await_answer(&self, stream: Async<TcpStream>) -> VisitId {
        let mut table = lock(&self.table);
        table.last += 1;
        let visit = VisitId(table.last);
        table.answers.insert(visit, stream);
        visit
    }

    /// Says what the node answers to a visitor, and hangs up.
    pub(crate) fn answer(&self, visit: VisitId, payload: Option<Bytes>) {
        let stream = lock(&self.table).answers.remove(&visit);
        if let (Some(stream), Some(payload)) = (stream, payload) {
            // There is room for it in a buffer that nothing was written to.
            let mut stream: &TcpStream = stream.get_ref();
            if let Err(error) = stream.write_all(&payload) {
                debug!(%error, "a visitor is not answered");
            }
        }
    }

    /// Ends what is under way.
    pub(crate) fn stop(&self) {
        lock(&self.table).answers.clear();
    }
}

/// Opens the port for visitors.
pub(crate) fn bind(port: u16) -> Result<Async<TcpListener>, StartError> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .and_then(Async::new)
        .map_err(|source| StartError::Visitors { port, source })
}

/// Lets visitors in until the runtime stops.
pub(crate) async fn accept_loop(shared: &Arc<Shared>, listener: &Async<TcpListener>) {
    loop {
        let stopped = async {
            shared.connections.stopped().await;
            None
        };
        let accepted = async {
            let room = shared.talks.room.acquire_arc().await;
            Some((room, listener.accept().await))
        };
        match or(stopped, accepted).await {
            None => return,
            Some((room, Ok((stream, from)))) => {
                let visited = Arc::clone(shared);
                shared.spawn(async move {
                    if let Err(error) = visit(&visited, stream, from.ip()).await {
                        debug!(%from, %error, "no announcement");
                    }
                    drop(room);
                });
            }
            Some((_, Err(error))) => {
                debug!(%error, "cannot take announcements");
                Timer::after(PAUSE).await;
            }
        }
    }
}

/// Hands in what a visitor says.
async fn visit(shared: &Arc<Shared>, mut stream: Async<TcpStream>, from: IpAddr) -> io::Result<()> {
    let until = Instant::now() + shared.config.timing.ask_timeout;
    let payload = in_time(shared, until, read(&mut stream)).await?;
    let asked = Input::Asked {
        visit: shared.talks.await_answer(stream),
        from,
        payload,
    };
    shared.offer(asked).await;
    Ok(())
}

/// Announces this node in a task of its own.
pub(crate) fn ask(shared: &Arc<Shared>, ask: AskId, address: String, payload: Bytes) {
    let asking = Arc::clone(shared);
    let body = async move {
        let until = Instant::now() + asking.config.timing.ask_timeout;
        let talked = talk(&address, until, &payload);
        let answer = in_time(&asking, until, talked).await;
        let answer = answer.map_err(|error| error.to_string());
        asking.queue(Input::Answered { ask, answer });
        asking.run();
    };
    if !shared.spawn(body) {
        let answer = Err(STOPPING.into());
        shared.queue(Input::Answered { ask, answer });
    }
}

async fn talk(address: &str, until: Instant, payload: &[u8]) -> io::Result<(IpAddr, Bytes)> {
    let addresses: Vec<SocketAddr> = listen::resolve(address).await?;
    let socket = listen::connect(&addresses, until).await?.into_inner()?;
    let mut stream = Async::new(TcpStream::from(socket))?;
    stream.write_all(payload).await?;
    let from = stream.get_ref().peer_addr()?.ip();
    Ok((from, read(&mut stream).await?))
}

/// One announcement, as far as it comes until the other end has said all.
async fn read(stream: &mut Async<TcpStream>) -> io::Result<Bytes> {
    let (mut reader, mut buffer) = (Reader::default(), [0; 4096]);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 || reader.push(buffer.get(..length).unwrap_or_default()) {
            return Ok(reader.finish());
        }
    }
}

async fn in_time<T>(
    shared: &Shared,
    until: Instant,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let stopped = async {
        shared.connections.stopped().await;
        Err(io::Error::other(STOPPING))
    };
    let late = async {
        Timer::at(until).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    or(stopped, or(work, late)).await
}
