//! Announcements over TCP: saying this node's to others, and taking those of visitors.

use crate::connection::STOPPING;
use crate::listen;
use crate::node::{Shared, lock};
use bytes::Bytes;
use exo_protocol::discovery::tcp::{MOST_VISITORS, Reader};
use exo_protocol::{AskId, Input, VisitId};
use exo_runtime_common::StartError;
use socket2::Socket;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long accepting rests when the system refuses.
const PAUSE: Duration = Duration::from_millis(50);

/// Those with whom announcements are exchanged right now.
#[derive(Debug, Default)]
pub(crate) struct Talks {
    table: Mutex<Table>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    /// Sockets that somebody waits for, to end that with the runtime.
    sockets: BTreeMap<u64, Socket>,
    /// Visitors that wait for the node's answer.
    answers: BTreeMap<VisitId, TcpStream>,
    visitors: usize,
    stopping: bool,
}

impl Talks {
    /// Lends a socket to [`Talks::stop`]; its number, unless the runtime is stopping.
    fn begin(&self, socket: Socket) -> Option<u64> {
        let mut table = lock(&self.table);
        if table.stopping {
            return None;
        }
        table.last += 1;
        let number = table.last;
        table.sockets.insert(number, socket);
        Some(number)
    }

    fn end(&self, number: u64) {
        lock(&self.table).sockets.remove(&number);
    }

    /// Waits until another visitor may come.
    fn room(&self) {
        let table = lock(&self.table);
        let full = |table: &mut Table| table.visitors >= MOST_VISITORS && !table.stopping;
        let room = self.left.wait_while(table, full);
        room.unwrap_or_else(PoisonError::into_inner).visitors += 1;
    }

    fn leave(&self) {
        lock(&self.table).visitors -= 1;
        self.left.notify_one();
    }

    /// Says what the node answers to a visitor, and hangs up.
    pub(crate) fn answer(&self, visit: VisitId, payload: Option<Bytes>) {
        let stream = lock(&self.table).answers.remove(&visit);
        if let (Some(mut stream), Some(payload)) = (stream, payload) {
            // There is room for it in a buffer that nothing was written to.
            let written = stream.set_nonblocking(true);
            if let Err(error) = written.and_then(|()| stream.write_all(&payload)) {
                debug!(%error, "a visitor is not answered");
            }
        }
    }

    /// Ends what is under way.
    pub(crate) fn stop(&self) {
        let mut table = lock(&self.table);
        table.stopping = true;
        table.answers.clear();
        for socket in table.sockets.values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(table);
        self.left.notify_all();
    }
}

/// Opens the port for visitors.
pub(crate) fn bind(port: u16) -> Result<TcpListener, StartError> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|source| StartError::Visitors { port, source })
}

/// Lets visitors in until the runtime stops.
pub(crate) fn accept_loop(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        shared.talks.room();
        let accepted = listener.accept();
        if shared.connections.is_stopping() {
            return;
        }
        let let_in = |(stream, from): (TcpStream, std::net::SocketAddr)| {
            shared.spawn("exo-visit", move |shared| {
                if let Err(error) = visit(shared, stream, from.ip()) {
                    debug!(%from, %error, "no announcement");
                }
                shared.talks.leave();
            })
        };
        if let Err(error) = accepted.and_then(let_in) {
            shared.talks.leave();
            debug!(%error, "cannot take announcements");
            thread::sleep(PAUSE);
        }
    }
}

/// Hands in what a visitor says.
fn visit(shared: &Arc<Shared>, stream: TcpStream, from: IpAddr) -> io::Result<()> {
    let talks = &shared.talks;
    let until = Instant::now() + shared.config.timing.ask_timeout;
    let number = talks.begin(stream.try_clone()?.into());
    let number = number.ok_or_else(|| io::Error::other(STOPPING))?;
    let payload = read(&stream, until);
    talks.end(number);
    let (visit, payload) = (VisitId(number), payload?);
    lock(&talks.table).answers.insert(visit, stream);
    shared.offer(Input::Asked {
        visit,
        from,
        payload,
    });
    Ok(())
}

/// Announces this node on a thread of its own.
pub(crate) fn ask(shared: &Arc<Shared>, ask: AskId, address: String, payload: Bytes) {
    // As in `listen::dial`, the runtime's end does not wait for a name.
    let waiting = Arc::downgrade(shared);
    let until = Instant::now() + shared.config.timing.ask_timeout;
    let body = move || {
        let addresses = listen::resolve(&address);
        let Some(shared) = waiting.upgrade() else {
            return;
        };
        let (shared, Ok(alive)) = (&shared, shared.alive()) else {
            return;
        };
        let answer = addresses
            .and_then(|addresses| talk(shared, &addresses, until, &payload))
            .map_err(|error| error.to_string());
        shared.queue(Input::Answered { ask, answer });
        shared.run();
        drop(alive);
    };
    if let Err(error) = thread::Builder::new().name("exo-ask".into()).spawn(body) {
        let answer = Err(error.to_string());
        shared.queue(Input::Answered { ask, answer });
    }
}

fn talk(
    shared: &Shared,
    addresses: &[std::net::SocketAddr],
    until: Instant,
    payload: &[u8],
) -> io::Result<(IpAddr, Bytes)> {
    let mut numbers = Vec::new();
    let talked = listen::connect(addresses, until, |socket| {
        let number = shared.talks.begin(socket);
        numbers.extend(number);
        number.is_some()
    })
    .and_then(|socket| {
        let mut stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(left(until)?))?;
        stream.write_all(payload)?;
        Ok((stream.peer_addr()?.ip(), read(&stream, until)?))
    });
    numbers.iter().for_each(|&number| shared.talks.end(number));
    talked
}

/// One announcement, as far as it comes until the other end has said all.
fn read(mut stream: &TcpStream, until: Instant) -> io::Result<Bytes> {
    let (mut reader, mut buffer) = (Reader::default(), [0; 4096]);
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(reader.finish()),
            Ok(length) if reader.push(buffer.get(..length).unwrap_or_default()) => {
                return Ok(reader.finish());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => left(until).map(drop)?,
            Err(error) => return Err(error),
        }
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    // Zero would not be a time to wait.
    (!left.is_zero())
        .then_some(left)
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}
