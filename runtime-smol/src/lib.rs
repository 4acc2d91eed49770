//! Drives the EXO protocol with smol.
//!
//! [`start`] opens a port, builds an engine on a thread of its own and runs a
//! [`Node`](exo_protocol::Node) between the two, as the contract in the documentation of
//! [`exo_protocol`] asks. Bytes are moved here and deadlines kept; nothing is decided.
//!
//! ```text
//! a task per connection     read ──► inbox ──► node ──► write, by the same thread
//! a thread for the engine complete ► inbox ──► node ──► write, by the same thread
//! a task for the deadlines   wake ──► inbox ──► node ──► …
//! the application         command ──► inbox ──► node ──► …
//! ```
//!
//! Whoever puts something into the inbox runs the node, unless somebody does so already. A task for
//! writing starts when a peer does not keep up, and one for each dial and each reading of the
//! discovery file. All tasks run on one thread, which waits for sockets and deadlines as well: what
//! it is woken for, it does itself. `exo-runtime-std` is the same with threads: the files of the two
//! can be read side by side.

mod ask;
mod broadcast;
mod connection;
mod listen;
mod node;

pub use exo_runtime_common::{CommandError, Options, StartError};

use async_io::Async;
use broadcast::Listener;
use exo_protocol::engine::{Engine, EngineEvent};
use exo_protocol::node::{Placement, Question};
use exo_protocol::{Command, Config, Event, Input, Rejection, Status};
use exo_runtime_common::engine;
use futures_lite::future;
use node::Shared;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    let visitors = options.visitors.map(ask::bind).transpose()?;
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
        engine: None,
        thread: None,
        ended,
    };

    let shared = Arc::clone(&runtime.shared);
    let tell = move |event| match event {
        EngineEvent::Progress { .. } => future::block_on(shared.offer(Input::Engine(event))),
        completion => {
            shared.queue(Input::Engine(completion));
            shared.run();
        }
    };
    runtime.engine = Some(engine.start(tell));

    let shared = Arc::clone(&runtime.shared);
    let thread = thread::Builder::new().name("exo-smol".into());
    runtime.thread = Some(thread.spawn(move || run(&shared))?);

    if let Some(listener) = runtime.listener.clone() {
        let shared = Arc::clone(&runtime.shared);
        runtime
            .shared
            .spawn(async move { listen::accept_loop(&shared, &listener).await });
    }
    if let Some(accepted) = accepted {
        let shared = Arc::clone(&runtime.shared);
        runtime.shared.spawn(async move {
            if let Err(error) = listen::accept(&shared, accepted).await {
                tracing::warn!(%error, "cannot serve the connection that was there");
            }
        });
    }
    if let Some(listener) = visitors {
        let shared = Arc::clone(&runtime.shared);
        runtime
            .shared
            .spawn(async move { ask::accept_loop(&shared, &listener).await });
    }
    let shared = Arc::clone(&runtime.shared);
    if shared.announcements.is_some() {
        runtime.shared.spawn(async move {
            if let Some(listener) = &shared.announcements {
                listener.serve(&shared).await;
            }
        });
    }
    Ok(runtime)
}

/// Runs all tasks until the runtime has stopped.
fn run(shared: &Arc<Shared>) {
    let tasks = || async_io::block_on(shared.executor.run(shared.keep_time()));
    // What panicked has stopped the runtime: the tasks are only to come to their end.
    while catch_unwind(AssertUnwindSafe(tasks)).is_err() {}
}

/// A running node. Dropping it is as [`Runtime::shutdown`].
#[derive(Debug)]
pub struct Runtime {
    shared: Arc<Shared>,
    listener: Option<Arc<Async<TcpListener>>>,
    engine: Option<JoinHandle<()>>,
    thread: Option<JoinHandle<()>>,
    /// Closed when no task is left but the timer's.
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
        self.listener.as_ref()?.get_ref().local_addr().ok()
    }

    /// Closes the port and every connection and waits until all tasks have ended. A call that the
    /// engine is at is not interrupted.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.run();
        self.listener = None;
        let _ = self.engine.take().map(JoinHandle::join);
        let _ = self.ended.recv();
        self.shared.stop_time();
        let _ = self.thread.take().map(JoinHandle::join);
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
