//! How connections come about: accepting and dialling. Also the other thing that is read on request,
//! the discovery file.

use crate::connection::{self, STOPPING};
use crate::node::Shared;
use async_io::{Async, Timer};
use exo_protocol::id::DialId;
use exo_protocol::{Input, LinkFault, Origin};
use exo_runtime_common::StartError;
use exo_runtime_common::program::Program;
use futures_lite::future::or;
use socket2::Socket;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long accepting rests when the system refuses, as it does while there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the port.
pub(crate) fn bind(address: &str) -> Result<Async<TcpListener>, StartError> {
    TcpListener::bind(address)
        .and_then(Async::new)
        .map_err(|source| StartError::Listen {
            address: address.into(),
            source,
        })
}

/// Accepts until the runtime stops.
pub(crate) async fn accept_loop(shared: &Arc<Shared>, listener: &Async<TcpListener>) {
    loop {
        let stopped = async {
            shared.connections.stopped().await;
            None
        };
        match or(stopped, async { Some(listener.accept().await) }).await {
            None => return,
            Some(accepted) => {
                let socket = accepted.and_then(|(stream, remote)| {
                    Ok((stream.into_inner()?.into(), remote.to_string()))
                });
                let accepted = async { accept(shared, socket?).await };
                if let Err(error) = accepted.await {
                    debug!(%error, "cannot accept");
                    Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Takes a connection that somebody else opened.
pub(crate) async fn accept(
    shared: &Arc<Shared>,
    (stream, remote): (Socket, String),
) -> io::Result<()> {
    let stream = Async::new(stream)?;
    let opened = connection::open(shared, stream, Origin::Accepted, remote).await;
    let Some(connection) = opened else {
        return Ok(());
    };
    let (serving, served) = (Arc::clone(shared), Arc::clone(&connection));
    if !shared.spawn(async move { connection::serve(&serving, &served, None).await }) {
        connection::lose(shared, &connection, LinkFault::Local).await;
    }
    Ok(())
}

/// Connects to `address` in a task that becomes the connection's reader.
pub(crate) fn dial(shared: &Arc<Shared>, dial: DialId, address: String) {
    let dialing = Arc::clone(shared);
    let body = async move {
        let shared = &dialing;
        let stopped = async {
            shared.connections.stopped().await;
            Err(io::Error::other(STOPPING))
        };
        let until = Instant::now() + shared.config.timing.dial_timeout;
        let reached = async {
            match shared.options.commands.get(&address) {
                Some(words) => run(words.clone()).await,
                None => Ok((connect(&resolve(&address).await?, until).await?, None)),
            }
        };
        let reason = match or(stopped, reached).await {
            Ok((stream, program)) => {
                let origin = Origin::Dialed(dial);
                match connection::open(shared, stream, origin, address).await {
                    Some(connection) => {
                        return connection::serve(shared, &connection, program).await;
                    }
                    None => STOPPING.into(),
                }
            }
            Err(error) => error.to_string(),
        };
        shared.queue(Input::DialFailed { dial, reason });
        shared.run();
    };
    if !shared.spawn(body) {
        let reason = STOPPING.into();
        shared.queue(Input::DialFailed { dial, reason });
    }
}

/// Starts the command that leads to a peer.
async fn run(words: Vec<String>) -> io::Result<(Async<Socket>, Option<Program>)> {
    let (stream, program) = smol::unblock(move || Program::start(&words)).await?;
    Ok((Async::new(stream)?, Some(program)))
}

/// Tries one address after the other. All of them share the time that there is.
pub(crate) async fn connect(addresses: &[SocketAddr], until: Instant) -> io::Result<Async<Socket>> {
    let mut result = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "the name has no address",
    ));
    for (tried, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let patience = until.saturating_duration_since(Instant::now()) / left;
        let late = async {
            Timer::after(patience).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        let stream = or(Async::<TcpStream>::connect(address), late).await;
        result = stream.and_then(|stream| Async::new(stream.into_inner()?.into()));
        if result.is_ok() {
            break;
        }
    }
    result
}

pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let address = address.to_owned();
    let addresses = smol::unblock(move || address.to_socket_addrs()).await;
    Ok(addresses.map_err(unknown)?.collect())
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

/// Reads the discovery file on a thread for blocking: a file may be as slow as a network.
pub(crate) fn read_discovery_file(shared: &Arc<Shared>) {
    let reading = Arc::clone(shared);
    let body = async move {
        let content = match reading.discovery_file.clone() {
            Some(file) => smol::unblock(move || file.read()).await,
            None => Err(io::Error::other("no discovery file was named")),
        };
        let content = content.map_err(|error| error.to_string());
        reading.queue(Input::DiscoveryFile(content));
        reading.run();
    };
    if !shared.spawn(body) {
        shared.queue(Input::DiscoveryFile(Err(STOPPING.into())));
    }
}
