//! One connection: a task that reads, and writes by whoever runs the node.

use crate::node::{Shared, lock};
use async_io::Async;
use exo_protocol::id::ConnectionId;
use exo_protocol::wire::{Decoder, Encoder, Message};
use exo_protocol::{Input, LinkFault, Origin};
use exo_runtime_common::program::Program;
use exo_runtime_common::socket::hurry;
use futures_lite::future::yield_now;
use smol::channel::{self, Receiver, Sender};
use socket2::Socket;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use tracing::debug;

/// What a dial is told that the runtime's end overtook.
pub(crate) const STOPPING: &str = "the runtime is stopping";

/// Pieces of messages that go into one call.
const PIECES: usize = 16;

/// A connection between its `Opened` and its `Lost`.
#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    stream: Async<Socket>,
    outgoing: Mutex<Outgoing>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Outgoing {
    queue: Queue,
    writer: Writer,
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
    /// A task of the connection, which does.
    Task,
}

impl Connection {
    /// Ends the connection; the first reason counts. The reading task will tell.
    fn end(&self, fault: LinkFault) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.queue.clear();
        outgoing.end.get_or_insert(fault);
        drop(outgoing);
        let _ = self.stream.get_ref().shutdown(Shutdown::Both);
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

/// Every connection.
#[derive(Debug)]
pub(crate) struct Connections {
    table: Mutex<Table>,
    /// Nothing is ever sent: what counts is whether it is closed.
    stop: Sender<()>,
    stopped: Receiver<()>,
}

#[derive(Debug, Default)]
struct Table {
    opened: u64,
    open: BTreeMap<ConnectionId, Arc<Connection>>,
}

impl Default for Connections {
    fn default() -> Self {
        let (stop, stopped) = channel::bounded(1);
        Self {
            table: Mutex::default(),
            stop,
            stopped,
        }
    }
}

impl Connections {
    /// Waits until the runtime stops.
    pub(crate) async fn stopped(&self) {
        let _ = self.stopped.recv().await;
    }

    fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        lock(&self.table).open.get(&id).cloned()
    }

    fn add(&self, stream: Async<Socket>) -> Option<Arc<Connection>> {
        let mut table = lock(&self.table);
        if self.stop.is_closed() {
            return None;
        }
        table.opened += 1;
        let id = ConnectionId(table.opened);
        let outgoing = Mutex::default();
        let connection = Arc::new(Connection {
            id,
            stream,
            outgoing,
        });
        table.open.insert(id, Arc::clone(&connection));
        Some(connection)
    }
}

/// Announces a new connection; `None` when the runtime is stopping.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    stream: Async<Socket>,
    origin: Origin,
    remote: String,
) -> Option<Arc<Connection>> {
    hurry(stream.get_ref(), &remote);
    let connection = shared.connections.add(stream)?;
    debug!(connection = %connection.id, %remote, ?origin, "opened");
    let opened = shared.offer(Input::Opened {
        connection: connection.id,
        origin,
        remote,
    });
    opened.await;
    Some(connection)
}

/// Reads until the connection is over, and says so; of one that leads through a `program`, once that
/// has ended, too.
pub(crate) async fn serve(shared: &Arc<Shared>, connection: &Connection, program: Option<Program>) {
    let limits = shared.config.decode.clone();
    let decoder = match &program {
        Some(_) => Decoder::after_greeting(limits),
        None => Decoder::new(limits),
    };
    let fault = read_loop(shared, connection, decoder).await;
    if let Some(program) = program {
        let words = smol::unblock(move || program.end()).await;
        connection.explain(&fault, words);
    }
    lose(shared, connection, fault).await;
}

/// Says that a connection is over: the last word about it.
pub(crate) async fn lose(shared: &Arc<Shared>, connection: &Connection, fault: LinkFault) {
    connection.end(fault);
    let Some(fault) = connection.ended() else {
        return;
    };
    debug!(connection = %connection.id, %fault, "lost");
    lock(&shared.connections.table).open.remove(&connection.id);
    let connection = connection.id;
    shared.offer(Input::Lost { connection, fault }).await;
}

async fn read_loop(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut decoder: Decoder,
) -> LinkFault {
    let id = connection.id;
    let mut more = false;
    loop {
        // After a read that left nothing behind, another one would only be told to wait.
        if more {
            yield_now().await;
        } else if let Err(error) = connection.stream.readable().await {
            return LinkFault::Io(error.to_string());
        }
        let space = decoder.space();
        let room = space.len();
        let count = match connection.stream.get_ref().read(space) {
            Ok(0) if decoder.is_mid_frame() => return LinkFault::Truncated,
            Ok(0) => return LinkFault::Closed,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                more = false;
                continue;
            }
            Err(error) => return LinkFault::Io(error.to_string()),
        };
        if let Some(fault) = connection.ended() {
            return fault;
        }
        more = count == room;
        decoder.advance(count);
        loop {
            match decoder.poll() {
                Ok(Some(message)) => {
                    let bytes = decoder.last_frame_len();
                    shared
                        .offer(Input::Received {
                            connection: id,
                            message,
                            bytes,
                        })
                        .await;
                }
                Ok(None) => break,
                Err(error) => return LinkFault::Malformed(error),
            }
        }
        if decoder.is_mid_frame() {
            shared.offer(Input::Progress { connection: id }).await;
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

/// Writes what is queued, as much as goes without waiting; a task of the connection writes the rest.
pub(crate) fn flush(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let mut outgoing = lock(&connection.outgoing);
    if outgoing.writer == Writer::Nobody {
        outgoing.writer = Writer::Visitor;
        drop(outgoing);
        loop {
            match write(shared, connection) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return connection.fail(error),
            }
        }
        outgoing = lock(&connection.outgoing);
        outgoing.writer = Writer::Task;
        let (runtime, writer) = (Arc::clone(shared), Arc::clone(connection));
        shared.spawn(async move { write_loop(&runtime, &writer).await });
    }
    if outgoing.writer == Writer::Task && outgoing.closing {
        drop(outgoing);
        connection.end(LinkFault::Local);
    }
}

/// Writes what others would have to wait for, until nothing is queued.
async fn write_loop(shared: &Arc<Shared>, connection: &Connection) {
    loop {
        let written = match write(shared, connection) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.stream.writable().await.map(|()| true)
            }
            written => written,
        };
        match written {
            Ok(true) => shared.run(),
            Ok(false) => return,
            Err(error) => return connection.fail(error),
        }
    }
}

/// Writes what is queued with one call, and tells what is sent. False: there is nothing more, or
/// nothing is to be written any more.
fn write(shared: &Shared, connection: &Connection) -> io::Result<bool> {
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
    let written = match connection.stream.get_ref().write_vectored(&pieces) {
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

/// Closes every connection and ends every dial.
pub(crate) fn stop(shared: &Shared) {
    let table = lock(&shared.connections.table);
    shared.connections.stop.close();
    let open: Vec<_> = table.open.values().cloned().collect();
    drop(table);
    for connection in open {
        connection.end(LinkFault::Local);
    }
}
