//! One connection: a thread that reads, and writes by whoever runs the node.

use crate::node::{Shared, lock};
use exo_protocol::id::{ConnectionId, DialId};
use exo_protocol::wire::{Decoder, Encoder, Message};
use exo_protocol::{Input, LinkFault, Origin};
use exo_runtime_common::program::Program;
use exo_runtime_common::socket::hurry;
use socket2::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tracing::debug;

/// What a dial is told that the runtime's end overtook.
pub(crate) const STOPPING: &str = "the runtime is stopping";

/// Pieces of messages that go into one call.
const PIECES: usize = 16;

/// A connection between its `Opened` and its `Lost`.
#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    stream: Socket,
    outgoing: Mutex<Outgoing>,
    more: Condvar,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Outgoing {
    queue: Queue,
    writer: Writer,
    /// There is a thread for writing: a connection whose peer keeps up never gets one.
    thread: bool,
    /// The node wants it closed when the queue is empty.
    closing: bool,
    /// Why the connection is over: nothing is written, and nothing written is told, any more.
    end: Option<LinkFault>,
}

/// Messages with the length of each.
type Queue = VecDeque<(Encoder, usize)>;

/// Who is at the queue, until it is empty; nobody else writes meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Nobody,
    /// Whoever ran the node, who does not wait.
    Visitor,
    /// The connection's own thread, which does.
    Thread,
}

impl Connection {
    /// Ends the connection; the first reason counts. The reading thread will tell.
    fn end(&self, fault: LinkFault) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.queue.clear();
        outgoing.end.get_or_insert(fault);
        drop(outgoing);
        self.more.notify_all();
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// What its program says of the end counts more than what was seen of it, unless this side
    /// wanted the end or the bytes were bad.
    fn explain(&self, fault: &LinkFault, words: String) {
        if let LinkFault::Closed | LinkFault::Truncated | LinkFault::Io(_) = fault {
            let mut outgoing = lock(&self.outgoing);
            if outgoing.end != Some(LinkFault::Local) {
                outgoing.end = Some(LinkFault::Io(words));
            }
        }
    }

    fn fail(&self, error: impl fmt::Display) {
        self.end(LinkFault::Io(error.to_string()));
    }

    /// Why it has ended, if it has.
    fn ended(&self) -> Option<LinkFault> {
        lock(&self.outgoing).end.clone()
    }
}

/// Every connection and every dial that is under way.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    opened: u64,
    open: BTreeMap<ConnectionId, Arc<Connection>>,
    /// With its socket, once there is one. Who removes a dial answers it.
    dials: BTreeMap<DialId, Option<Socket>>,
    stopping: bool,
}

impl Connections {
    pub(crate) fn is_stopping(&self) -> bool {
        lock(&self.0).stopping
    }

    /// Notes a dial; says whether it may begin.
    pub(crate) fn dialing(&self, dial: DialId) -> bool {
        let mut table = lock(&self.0);
        table.dials.insert(dial, None);
        !table.stopping
    }

    /// Lends the socket of a dial to [`stop`]; says whether the dial may go on.
    pub(crate) fn connecting(&self, dial: DialId, socket: Socket) -> bool {
        match lock(&self.0).dials.get_mut(&dial) {
            Some(slot) => *slot = Some(socket),
            None => return false,
        }
        true
    }

    /// Says whether the caller is the one to answer the dial.
    pub(crate) fn dialed(&self, dial: DialId) -> bool {
        lock(&self.0).dials.remove(&dial).is_some()
    }

    fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        lock(&self.0).open.get(&id).cloned()
    }

    fn add(&self, stream: Socket, origin: Origin) -> Option<Arc<Connection>> {
        let mut table = lock(&self.0);
        let wanted = match origin {
            Origin::Accepted => !table.stopping,
            Origin::Dialed(dial) => table.dials.remove(&dial).is_some(),
        };
        if !wanted {
            return None;
        }
        table.opened += 1;
        let id = ConnectionId(table.opened);
        let (outgoing, more) = (Mutex::default(), Condvar::new());
        let connection = Arc::new(Connection {
            id,
            stream,
            outgoing,
            more,
        });
        table.open.insert(id, Arc::clone(&connection));
        Some(connection)
    }
}

/// Announces a new connection; `None` when the runtime is stopping.
pub(crate) fn open(
    shared: &Arc<Shared>,
    stream: Socket,
    origin: Origin,
    remote: String,
) -> Option<Arc<Connection>> {
    hurry(&stream, &remote);
    let connection = shared.connections.add(stream, origin)?;
    debug!(connection = %connection.id, %remote, ?origin, "opened");
    shared.offer(Input::Opened {
        connection: connection.id,
        origin,
        remote,
    });
    Some(connection)
}

/// Reads until the connection is over, and says so; of one that leads through a `program`, once that
/// has ended, too.
pub(crate) fn serve(shared: &Arc<Shared>, connection: &Connection, program: Option<Program>) {
    let limits = shared.config.decode.clone();
    let decoder = match &program {
        Some(_) => Decoder::after_greeting(limits),
        None => Decoder::new(limits),
    };
    let fault = read_loop(shared, connection, decoder);
    if let Some(program) = program {
        connection.explain(&fault, program.end());
    }
    lose(shared, connection, fault);
}

/// Says that a connection is over: the last word about it.
pub(crate) fn lose(shared: &Arc<Shared>, connection: &Connection, fault: LinkFault) {
    connection.end(fault);
    let Some(fault) = connection.ended() else {
        return;
    };
    debug!(connection = %connection.id, %fault, "lost");
    lock(&shared.connections.0).open.remove(&connection.id);
    shared.offer(Input::Lost {
        connection: connection.id,
        fault,
    });
}

fn read_loop(shared: &Arc<Shared>, connection: &Connection, mut decoder: Decoder) -> LinkFault {
    let id = connection.id;
    loop {
        let count = match (&connection.stream).read(decoder.space()) {
            Ok(0) if decoder.is_mid_frame() => return LinkFault::Truncated,
            Ok(0) => return LinkFault::Closed,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return LinkFault::Io(error.to_string()),
        };
        if let Some(fault) = connection.ended() {
            return fault;
        }
        decoder.advance(count);
        loop {
            match decoder.poll() {
                Ok(Some(message)) => {
                    let (connection, bytes) = (id, decoder.last_frame_len());
                    shared.offer(Input::Received {
                        connection,
                        message,
                        bytes,
                    });
                }
                Ok(None) => break,
                Err(error) => return LinkFault::Malformed(error),
            }
        }
        if decoder.is_mid_frame() {
            shared.offer(Input::Progress { connection: id });
        }
    }
}

/// Queues a message; the connection is to be flushed.
pub(crate) fn send(
    shared: &Shared,
    id: ConnectionId,
    message: &Message,
) -> Option<Arc<Connection>> {
    let connection = shared.connections.get(id)?;
    match Encoder::new(message) {
        Ok(encoder) => {
            let bytes = encoder.remaining();
            lock(&connection.outgoing).queue.push_back((encoder, bytes));
        }
        Err(error) => connection.fail(error),
    }
    Some(connection)
}

/// Closes a connection behind what was sent; it is to be flushed.
pub(crate) fn close(shared: &Shared, id: ConnectionId) -> Option<Arc<Connection>> {
    let connection = shared.connections.get(id)?;
    lock(&connection.outgoing).closing = true;
    Some(connection)
}

/// Writes what is queued, as much as goes without waiting; the connection's thread writes the rest.
pub(crate) fn flush(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let mut outgoing = lock(&connection.outgoing);
    if outgoing.writer == Writer::Nobody {
        outgoing.writer = Writer::Visitor;
        drop(outgoing);
        let now = |pieces: &[IoSlice<'_>]| write_now(&connection.stream, pieces);
        loop {
            match write(shared, connection, now) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return connection.fail(error),
            }
        }
        outgoing = lock(&connection.outgoing);
        outgoing.writer = Writer::Thread;
        if mem::replace(&mut outgoing.thread, true) {
            connection.more.notify_all();
        } else {
            let writer = Arc::clone(connection);
            let body = move |shared: &Arc<Shared>| write_loop(shared, &writer);
            if let Err(error) = shared.spawn("exo-write", body) {
                drop(outgoing);
                return connection.fail(error);
            }
        }
    }
    if outgoing.writer == Writer::Thread && outgoing.closing {
        drop(outgoing);
        connection.end(LinkFault::Local);
    }
}

/// Writes what others would have to wait for, for as long as the connection lives.
fn write_loop(shared: &Arc<Shared>, connection: &Connection) {
    loop {
        let patiently = |pieces: &[IoSlice<'_>]| (&connection.stream).write_vectored(pieces);
        match write(shared, connection, patiently) {
            Ok(true) => shared.run(),
            Ok(false) => {
                let mut outgoing = lock(&connection.outgoing);
                while outgoing.writer != Writer::Thread && outgoing.end.is_none() {
                    let woken = connection.more.wait(outgoing);
                    outgoing = woken.unwrap_or_else(PoisonError::into_inner);
                }
                if outgoing.end.is_some() {
                    return;
                }
            }
            Err(error) => return connection.fail(error),
        }
    }
}

/// Writes what is queued with one call, and tells what is sent. False: there is nothing more, or
/// nothing is to be written any more.
fn write(
    shared: &Shared,
    connection: &Connection,
    write_vectored: impl Fn(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<bool> {
    let mut outgoing = lock(&connection.outgoing);
    let mut queue = mem::take(&mut outgoing.queue);
    if queue.is_empty() {
        outgoing.writer = Writer::Nobody;
        let closing = outgoing.closing;
        drop(outgoing);
        if closing {
            connection.end(LinkFault::Local);
        }
        return Ok(false);
    }
    drop(outgoing);
    let pieces = queue.iter().flat_map(|(encoder, _)| encoder.slices());
    let pieces: Vec<_> = pieces.take(PIECES).map(IoSlice::new).collect();
    let written = match write_vectored(&pieces) {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        written => written,
    };
    // Under the lock, so that no `Sent` follows `Lost` and none overtakes another.
    let mut outgoing = lock(&connection.outgoing);
    if outgoing.end.is_some() {
        return Ok(false);
    }
    let mut count = *written.as_ref().unwrap_or(&0);
    while let Some((encoder, bytes)) = queue.front_mut() {
        let part = count.min(encoder.remaining());
        count -= part;
        if !encoder.advance(part) {
            break;
        }
        shared.queue(Input::Sent {
            connection: connection.id,
            bytes: *bytes,
        });
        queue.pop_front();
    }
    queue.append(&mut outgoing.queue);
    outgoing.queue = queue;
    written.map(|_| true)
}

/// Writes without waiting, though the socket is a blocking one.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn write_now(stream: &Socket, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    stream.send_vectored_with_flags(pieces, flags)
}

/// Elsewhere the writer thread writes everything. Darwin, for one, has the flag and ignores it.
#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn write_now(_stream: &Socket, _pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    Err(ErrorKind::WouldBlock.into())
}

/// Closes every connection and ends every dial.
pub(crate) fn stop(shared: &Shared) {
    let mut table = lock(&shared.connections.0);
    table.stopping = true;
    let open: Vec<_> = table.open.values().cloned().collect();
    let dials = mem::take(&mut table.dials);
    drop(table);
    for connection in open {
        connection.end(LinkFault::Local);
    }
    for (dial, socket) in dials {
        let _ = socket.map(|socket| socket.shutdown(Shutdown::Both));
        let reason = STOPPING.into();
        shared.queue(Input::DialFailed { dial, reason });
    }
}
