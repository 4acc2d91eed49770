//! How connections come about: accepting and dialling. Also the other thing that is read on request,
//! the discovery file.

use crate::connection::{self, STOPPING};
use crate::node::Shared;
use exo_protocol::id::DialId;
use exo_protocol::{Input, LinkFault, Origin};
use exo_runtime_common::StartError;
use exo_runtime_common::program::Program;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long accepting rests when the system refuses, as it does while there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the port.
pub(crate) fn bind(address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|source| StartError::Listen {
        address: address.into(),
        source,
    })
}

/// Accepts until the runtime stops.
pub(crate) fn accept_loop(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.connections.is_stopping() {
            return;
        }
        if let Err(error) =
            accepted.and_then(|(stream, remote)| accept(shared, stream.into(), remote.to_string()))
        {
            debug!(%error, "cannot accept");
            thread::sleep(ACCEPT_PAUSE);
        }
    }
}

/// Takes a connection that somebody else opened.
pub(crate) fn accept(shared: &Arc<Shared>, stream: Socket, remote: String) -> io::Result<()> {
    let Some(connection) = connection::open(shared, stream, Origin::Accepted, remote) else {
        return Ok(());
    };
    let served = Arc::clone(&connection);
    let spawned = shared.spawn("exo-read", move |shared| {
        connection::serve(shared, &served, None);
    });
    if let Err(error) = &spawned {
        connection::lose(shared, &connection, LinkFault::Io(error.to_string()));
    }
    spawned
}

/// Ends [`accept_loop`] of a runtime that is stopping.
pub(crate) fn stop_accepting(listener: &TcpListener) {
    let socket = socket2::SockRef::from(listener);
    if socket.shutdown(Shutdown::Both).is_ok() {
        return;
    }
    // Not every system lets a listener be shut down: a last visitor wakes it.
    if let Ok(mut address) = listener.local_addr() {
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
    }
}

/// Connects to `address` on a thread that becomes the connection's reader.
pub(crate) fn dial(shared: &Arc<Shared>, dial: DialId, address: String) {
    if !shared.connections.dialing(dial) {
        return fail(shared, dial, STOPPING);
    }
    if shared.options.commands.contains_key(&address) {
        return run(shared, dial, address);
    }
    // A name may take the system as long as it likes, and nothing can hurry it: until there are
    // addresses, the runtime's end does not wait for this thread.
    let waiting = Arc::downgrade(shared);
    let body = move || {
        let addresses = resolve(&address);
        let Some(shared) = waiting.upgrade() else {
            return;
        };
        // Who stopped the runtime has answered the dial.
        let (shared, Ok(alive)) = (&shared, shared.alive()) else {
            return;
        };
        let until = Instant::now() + shared.config.timing.dial_timeout;
        let lend = |socket| shared.connections.connecting(dial, socket);
        match addresses.and_then(|addresses| connect(&addresses, until, lend)) {
            Ok(stream) => {
                let opened = connection::open(shared, stream, Origin::Dialed(dial), address);
                if let Some(connection) = opened {
                    connection::serve(shared, &connection, None);
                }
            }
            Err(error) => fail(shared, dial, &error.to_string()),
        }
        shared.run();
        drop(alive);
    };
    if let Err(error) = thread::Builder::new().name("exo-read".into()).spawn(body) {
        fail(shared, dial, &error.to_string());
    }
}

/// Starts the command that leads to a peer, on a thread that becomes the connection's reader.
fn run(shared: &Arc<Shared>, dial: DialId, address: String) {
    let spawned = shared.spawn("exo-read", move |shared| {
        let words = shared.options.commands.get(&address);
        match Program::start(words.map(Vec::as_slice).unwrap_or_default()) {
            Ok((stream, program)) => {
                let opened = connection::open(shared, stream, Origin::Dialed(dial), address);
                if let Some(connection) = opened {
                    connection::serve(shared, &connection, Some(program));
                }
            }
            Err(error) => fail(shared, dial, &error.to_string()),
        }
        shared.run();
    });
    if let Err(error) = spawned {
        fail(shared, dial, &error.to_string());
    }
}

/// Answers a dial, unless who stopped the runtime did.
fn fail(shared: &Shared, dial: DialId, reason: &str) {
    if shared.connections.dialed(dial) {
        let reason = reason.into();
        shared.queue(Input::DialFailed { dial, reason });
    }
}

pub(crate) fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses = address.to_socket_addrs().map_err(unknown)?;
    Ok(addresses.collect())
}

/// What to do about a name of which the system knows no address.
fn unknown(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidInput {
        return error;
    }
    io::Error::other(format!(
        "no address is known of that name; check it, or give an IP address ({error})"
    ))
}

/// Tries one address after the other. All of them share the time that there is. Each socket is lent
/// to whoever may have to end it, who says whether to go on.
pub(crate) fn connect(
    addresses: &[SocketAddr],
    until: Instant,
    mut lend: impl FnMut(Socket) -> bool,
) -> io::Result<Socket> {
    let mut result = Err(io::Error::other("the name has no address"));
    for (tried, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let patience = until.saturating_duration_since(Instant::now()) / left;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if !lend(socket.try_clone()?) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // Zero would not be a time to wait.
        let patience = patience.max(Duration::from_millis(1));
        match socket.connect_timeout(&SockAddr::from(address), patience) {
            Ok(()) => return Ok(socket),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Reads the discovery file on a thread of its own: a file may be as slow as a network.
pub(crate) fn read_discovery_file(shared: &Arc<Shared>) {
    let spawned = shared.spawn("exo-file", |shared| {
        let content = match &shared.discovery_file {
            Some(file) => file.read().map_err(|error| error.to_string()),
            None => Err("no discovery file was named".into()),
        };
        shared.queue(Input::DiscoveryFile(content));
        shared.run();
    });
    if let Err(error) = spawned {
        shared.queue(Input::DiscoveryFile(Err(error.to_string())));
    }
}
