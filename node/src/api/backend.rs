//! tiny_http behind the guard: its private channel, and its replacement when it dies.

mod channel;

pub use channel::ChannelKind;

use super::http::{Client, HINTS, KEPT, Request, Responder};
use super::line::Permit;
use super::mark::Mark;
use super::service::Service;
use super::workers::Workers;
use crate::random;
use channel::{Channel, Door};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// The header by which requests show that the guard sent them: the secret and a visit's number.
const SECRET_HEADER: &str = "X-Exo-Guard";

/// Runs tiny_http on a channel that only this process knows.
pub struct Backend {
    secret: String,
    service: Arc<dyn Service>,
    workers: Arc<Workers>,
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

impl Backend {
    /// Starts tiny_http for `service`.
    ///
    /// # Errors
    /// When the private channel cannot be made.
    pub fn start(kind: ChannelKind, service: Arc<dyn Service>) -> io::Result<Arc<Self>> {
        let secret = format!("{:032x}", u128::from_le_bytes(random::bytes()));
        let backend = Self {
            secret,
            service,
            workers: Arc::default(),
            visits: Arc::default(),
            lane: Mutex::new(None),
            kind,
        };
        let lane = backend.open_lane()?;
        *lock(&backend.lane) = Some(lane);
        Ok(Arc::new(backend))
    }

    /// What stands behind it.
    pub(super) fn service(&self) -> &dyn Service {
        &*self.service
    }

    /// A channel for one request of the client at `address`, which may be worked on.
    ///
    /// tiny_http's accepting thread ends for ever at the first error, such as too many open files.
    /// A channel that refuses is therefore replaced, once for each visit.
    pub(super) fn visit(&self, address: String, permit: Permit) -> io::Result<Visit> {
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
        let client = Arc::new(Client::new(address, permit));
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
            service: Arc::clone(&self.service),
            workers: Arc::clone(&self.workers),
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
        self.door.connect()
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
    service: Arc<dyn Service>,
    workers: Arc<Workers>,
    visits: Arc<Visits>,
}

impl Dispatcher {
    fn run(self, server: &tiny_http::Server) {
        while let Ok(request) = server.recv() {
            let Some(client) = self.client(&request) else {
                continue; // Somebody else found the channel; tiny_http answers 500.
            };
            let service = Arc::clone(&self.service);
            let job = Box::new(move || answer(request, client, &*service));
            if let Err(error) = self.workers.run(job) {
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

fn answer(mut request: tiny_http::Request, client: Arc<Client>, service: &dyn Service) {
    let method = request.method().as_str().to_owned();
    let mut asked = Request::new(&method, request.url());
    if request.as_reader().read_to_end(&mut asked.body).is_err() {
        return;
    }
    let headers = KEPT.iter().chain(&HINTS).filter_map(|name| {
        let value = header(&request, name)?;
        Some((*name, value))
    });
    asked.headers = headers.collect();
    asked.mark = Mark::new(asked.header("X-Request-Id"), asked.header("X-Exo-Trace"));
    asked.client = client;
    let responder = Responder::new(request.into_writer(), &asked);
    service.answer(asked, responder);
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
