//! tiny_http behind the guard: its private channel, and its replacement when it dies.

use super::http::{Client, Request, Responder};
use super::mark::Mark;
use crate::folder::PrivateFolder;
use crate::random;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Answers requests; called on a thread of its own for each.
pub type Handler = Arc<dyn Fn(Request, Responder) + Send + Sync>;

/// The header by which requests show that the guard sent them: the secret and a visit's number.
const SECRET_HEADER: &str = "X-Exo-Guard";

/// Runs tiny_http on a channel that only this process knows.
pub struct Backend {
    secret: String,
    handler: Handler,
    visits: Arc<Visits>,
    lane: Mutex<Option<Lane>>,
    kind: ChannelKind,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What the private channel is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// A Unix socket in a folder that only this user may enter.
    #[cfg(unix)]
    Unix,
    /// A port of 127.0.0.1; the secret keeps others out.
    Loopback,
}

impl ChannelKind {
    /// The best one that this system has.
    #[must_use]
    pub fn preferred() -> Self {
        #[cfg(unix)]
        return Self::Unix;
        #[cfg(not(unix))]
        return Self::Loopback;
    }
}

impl Backend {
    /// Starts tiny_http for `handler`.
    ///
    /// # Errors
    /// When the private channel cannot be made.
    pub fn start(kind: ChannelKind, handler: Handler) -> io::Result<Arc<Self>> {
        let secret = format!("{:032x}", u128::from_le_bytes(random::bytes()));
        let backend = Self {
            secret,
            handler,
            visits: Arc::default(),
            lane: Mutex::new(None),
            kind,
        };
        let lane = backend.open_lane()?;
        *lock(&backend.lane) = Some(lane);
        Ok(Arc::new(backend))
    }

    /// A channel for one request of the client at `address`.
    ///
    /// tiny_http's accepting thread ends for ever at the first error, such as too many open files.
    /// A channel that refuses is therefore replaced, once for each visit.
    pub(super) fn visit(&self, address: String) -> io::Result<Visit> {
        let mut lane = lock(&self.lane);
        let channel = match lane.as_ref().map(Lane::connect) {
            Some(Ok(channel)) => channel,
            _ => {
                *lane = None;
                let fresh = self.open_lane()?;
                let channel = fresh.connect()?;
                *lane = Some(fresh);
                channel
            }
        };
        drop(lane);
        let client = Arc::new(Client::new(address));
        let number = self.visits.enter(Arc::clone(&client));
        let value = format!("{}-{number}", self.secret);
        Ok(Visit {
            channel,
            client,
            value,
            number,
            visits: Arc::clone(&self.visits),
        })
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn idle(&self) -> bool {
        lock(&self.visits.0).1.is_empty()
    }

    /// Ends tiny_http and removes its private channel. Answers that are under way go on.
    pub fn close(&self) {
        *lock(&self.lane) = None;
    }

    fn open_lane(&self) -> io::Result<Lane> {
        let (listener, door) = Channel::listen(self.kind)?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let (server, door) = (Arc::new(server), Arc::new(door));
        let dispatcher = Dispatcher {
            secret: self.secret.clone(),
            handler: Arc::clone(&self.handler),
            visits: Arc::clone(&self.visits),
        };
        let (receiving, held) = (Arc::clone(&server), Arc::clone(&door));
        let run = move || {
            dispatcher.run(&receiving);
            drop(receiving);
            drop(held);
        };
        let dispatcher = Some(
            thread::Builder::new()
                .name("api-dispatch".to_owned())
                .spawn(run)?,
        );
        Ok(Lane {
            server,
            dispatcher,
            door,
        })
    }
}

/// One tiny_http and the way to it. The door goes after the server, which ends its accepting
/// thread by a last connection to itself.
struct Lane {
    server: Arc<tiny_http::Server>,
    dispatcher: Option<JoinHandle<()>>,
    door: Arc<Door>,
}

impl Lane {
    fn connect(&self) -> io::Result<Channel> {
        match &*self.door {
            #[cfg(unix)]
            Door::Unix { path, .. } => {
                std::os::unix::net::UnixStream::connect(path).map(Channel::Unix)
            }
            Door::Loopback(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(1))?;
                stream.set_nodelay(true)?;
                Ok(Channel::Loopback(stream))
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // The dispatcher holds the server too. Its thread must be over before the process is, or
        // the door would stay behind.
        self.server.unblock();
        if let Some(dispatcher) = self.dispatcher.take() {
            let _ = dispatcher.join();
        }
    }
}

enum Door {
    #[cfg(unix)]
    Unix {
        path: PathBuf,
        _folder: PrivateFolder,
    },
    Loopback(SocketAddr),
}

/// The guard's end of the private channel.
pub(super) enum Channel {
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
    Loopback(TcpStream),
}

impl Channel {
    fn listen(kind: ChannelKind) -> io::Result<(tiny_http::Listener, Door)> {
        match kind {
            #[cfg(unix)]
            ChannelKind::Unix => {
                // Temporary folders may be missing, full, or have longer names than the address of
                // a socket can hold.
                Self::listen_in_folder().or_else(|error| {
                    tracing::debug!("no Unix socket for the API: {error}");
                    Self::listen(ChannelKind::Loopback)
                })
            }
            ChannelKind::Loopback => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let address = listener.local_addr()?;
                Ok((listener.into(), Door::Loopback(address)))
            }
        }
    }

    #[cfg(unix)]
    fn listen_in_folder() -> io::Result<(tiny_http::Listener, Door)> {
        let folder = PrivateFolder::create()?;
        let path = folder.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        Ok((
            listener.into(),
            Door::Unix {
                path,
                _folder: folder,
            },
        ))
    }

    pub(super) fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(read))?;
                stream.set_write_timeout(Some(write))
            }
            Self::Loopback(stream) => {
                stream.set_read_timeout(Some(read))?;
                stream.set_write_timeout(Some(write))
            }
        }
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
            Self::Loopback(stream) => stream.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
            Self::Loopback(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            #[cfg(unix)]
            Self::Unix(stream) => stream.flush(),
            Self::Loopback(stream) => stream.flush(),
        }
    }
}

/// One request on its way; the client is told apart by the visit's number.
pub(super) struct Visit {
    pub(super) channel: Channel,
    client: Arc<Client>,
    value: String,
    number: u64,
    visits: Arc<Visits>,
}

impl Visit {
    pub(super) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }

    pub(super) fn secret(&self) -> (&str, &str) {
        (SECRET_HEADER, &self.value)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.leave(self.number);
    }
}

#[derive(Debug, Default)]
struct Visits(Mutex<(u64, BTreeMap<u64, Arc<Client>>)>);

impl Visits {
    fn enter(&self, client: Arc<Client>) -> u64 {
        let mut visits = lock(&self.0);
        visits.0 += 1;
        let number = visits.0;
        visits.1.insert(number, client);
        number
    }

    fn leave(&self, number: u64) {
        lock(&self.0).1.remove(&number);
    }

    fn client(&self, number: u64) -> Option<Arc<Client>> {
        lock(&self.0).1.get(&number).cloned()
    }
}

/// Takes requests from one tiny_http until it ends.
struct Dispatcher {
    secret: String,
    handler: Handler,
    visits: Arc<Visits>,
}

impl Dispatcher {
    fn run(self, server: &tiny_http::Server) {
        while let Ok(request) = server.recv() {
            let Some(client) = self.client(&request) else {
                continue; // Somebody else found the channel; tiny_http answers 500.
            };
            let handler = Arc::clone(&self.handler);
            let spawned = thread::Builder::new()
                .name("api-request".to_owned())
                .spawn(move || answer(request, client, &*handler));
            if let Err(error) = spawned {
                tracing::warn!("no thread for an API request: {error}");
            }
        }
    }

    fn client(&self, request: &tiny_http::Request) -> Option<Arc<Client>> {
        let value = header(request, SECRET_HEADER)?;
        let (secret, number) = value.split_once('-')?;
        // Guessing byte by byte would need a clock finer than a thread's start.
        (secret == self.secret)
            .then(|| self.visits.client(number.parse().ok()?))
            .flatten()
    }
}

fn answer(
    mut request: tiny_http::Request,
    client: Arc<Client>,
    handler: &(dyn Fn(Request, Responder) + Send + Sync),
) {
    let mut body = Vec::new();
    if request.as_reader().read_to_end(&mut body).is_err() {
        return;
    }
    let method = request.method().as_str().to_owned();
    let path = request
        .url()
        .split('?')
        .next()
        .unwrap_or_default()
        .to_owned();
    let (host, origin) = (header(&request, "Host"), header(&request, "Origin"));
    let known = header(&request, "If-None-Match");
    let mark = Mark::new(
        header(&request, "X-Request-Id").as_deref(),
        header(&request, "X-Exo-Trace").as_deref(),
    );
    let head_only = method == "HEAD";
    let responder = Responder::new(request.into_writer(), head_only).marked(&mark);
    handler(
        Request {
            method,
            path,
            host,
            origin,
            known,
            body,
            client,
            mark,
        },
        responder,
    );
}

fn header(request: &tiny_http::Request, name: &str) -> Option<String> {
    let headers = request.headers().iter();
    headers
        .filter(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name))
        .map(|header| header.value.as_str().to_owned())
        .next()
}

/// What these locks hold is whole after every line that changes it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
