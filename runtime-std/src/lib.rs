//! Drives the EXO protocol with blocking sockets and threads.
//!
//! [`start`] opens a port, builds an engine on a thread of its own and runs a
//! [`Node`](exo_protocol::Node) between the two, as the contract in the documentation of
//! [`exo_protocol`] asks. Bytes are moved here and deadlines kept; nothing is decided.
//!
//! ```text
//! a thread per connection   read ──► inbox ──► node ──► write, by the same thread
//! one for the engine     complete ──► inbox ──► node ──► write, by the same thread
//! one for the deadlines      wake ──► inbox ──► node ──► …
//! the application         command ──► inbox ──► node ──► …
//! ```
//!
//! Whoever puts something into the inbox runs the node, unless somebody does so already. A thread
//! for writing starts when a peer does not keep up, and one for each dial and each reading of the
//! discovery file. `exo-runtime-smol` is the same with tasks: the files of the two can be read side
//! by side.

mod ask;
mod broadcast;
mod connection;
mod listen;
mod node;

pub use exo_runtime_common::{CommandError, Options, StartError};

use broadcast::Listener;
use exo_protocol::engine::{Engine, EngineEvent};
use exo_protocol::node::{Placement, Question};
use exo_protocol::{Command, Config, Event, Input, Rejection, Status};
use exo_runtime_common::engine;
use node::Shared;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

/// Starts a node.
///
/// `seed` is all the randomness that it gets. `engine` runs on the thread that will own what it
/// returns; what that [measures](Engine::measure) of itself is the speed that peers are told.
/// `on_event` is called by whoever runs the node: it must not block, and neither ask for the
/// [status](Handle::status) nor end the runtime; commands it may give.
///
/// # Errors
/// When the port cannot be had, the engine does not start, or the system gives no thread.
pub fn start<E, V>(
    mut config: Config,
    seed: u64,
    mut options: Options,
    engine: E,
    on_event: V,
) -> Result<Runtime, StartError>
where
    E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
    V: FnMut(Event) + Send + 'static,
{
    let listener = options
        .listen
        .as_deref()
        .map(listen::bind)
        .transpose()?
        .map(Arc::new);
    let accepted = options.accepted.take();
    let visitors = options.visitors.map(ask::bind).transpose()?.map(Arc::new);
    let announcements = options.announcements.map(Listener::new).transpose()?;
    let engine = engine::build(engine)?;
    config.capabilities.speed = engine.speed.or(config.capabilities.speed);
    let (alive, ended) = mpsc::channel();
    let shared = Arc::new(Shared::new(
        config,
        seed,
        options,
        Arc::clone(&engine.calls),
        announcements,
        Box::new(on_event),
        alive,
    ));
    let mut runtime = Runtime {
        shared,
        listener,
        visitors,
        engine: None,
        timer: None,
        ended,
    };

    let shared = Arc::clone(&runtime.shared);
    let tell = move |event| match event {
        EngineEvent::Progress { .. } => shared.offer(Input::Engine(event)),
        completion => {
            shared.queue(Input::Engine(completion));
            shared.run();
        }
    };
    runtime.engine = Some(engine.start(tell));

    let shared = Arc::clone(&runtime.shared);
    let timer = thread::Builder::new().name("exo-timer".into());
    runtime.timer = Some(timer.spawn(move || shared.keep_time())?);

    if let Some(listener) = runtime.listener.clone() {
        let accept = move |shared: &Arc<Shared>| listen::accept_loop(shared, &listener);
        runtime.shared.spawn("exo-accept", accept)?;
    }
    if let Some((stream, remote)) = accepted {
        listen::accept(&runtime.shared, stream, remote)?;
    }
    if let Some(listener) = runtime.visitors.clone() {
        let accept = move |shared: &Arc<Shared>| ask::accept_loop(shared, &listener);
        runtime.shared.spawn("exo-visitors", accept)?;
    }
    if runtime.shared.announcements.is_some() {
        runtime.shared.spawn("exo-announced", |shared| {
            if let Some(listener) = &shared.announcements {
                listener.serve(shared);
            }
        })?;
    }
    Ok(runtime)
}

/// A running node. Dropping it is as [`Runtime::shutdown`].
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    listener: Option<Arc<TcpListener>>,
    visitors: Option<Arc<TcpListener>>,
    engine: Option<JoinHandle<()>>,
    timer: Option<JoinHandle<()>>,
    /// Closed when no thread is left but those two.
    ended: Receiver<Infallible>,
}

impl Runtime {
    /// The application's end of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Where connections are accepted.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Closes the port and every connection and waits until all threads have ended. A call that the
    /// engine is at is not interrupted.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.run();
        for listener in [self.listener.take(), self.visitors.take()] {
            listener.iter().for_each(|it| listen::stop_accepting(it));
        }
        let _ = self.engine.take().map(JoinHandle::join);
        let _ = self.ended.recv();
        self.shared.stop_time();
        let _ = self.timer.take().map(JoinHandle::join);
    }
}

/// Talks to a node. As good as the runtime it came from: afterwards it refuses commands, and its
/// status stands still.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Gives the node a command; never waits. What comes of it is told as events.
    ///
    /// # Errors
    /// When too much waits for the node already, or the runtime was shut down.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        self.shared.command(command)
    }

    /// What the node knows and holds right now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// How the node would place a model right now. Nothing is begun.
    ///
    /// # Errors
    /// Why it could not be placed.
    pub fn placement(&self, question: &Question) -> Result<Placement, Rejection> {
        self.shared.placement(question)
    }
}
