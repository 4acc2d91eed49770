//! Either runtime behind one name; nothing else in this crate knows which one runs.

use crate::cli::RuntimeKind;
use exo_protocol::engine::Engine;
use exo_protocol::node::{Placement, Question};
use exo_protocol::{Command, Config, Event, Rejection, Status};
pub use exo_runtime_common::{Options, StartError};
use std::net::SocketAddr;

/// A running node.
#[derive(Debug)]
pub enum Runtime {
    /// On smol.
    Smol(exo_runtime_smol::Runtime),
    /// On threads.
    Std(exo_runtime_std::Runtime),
}

/// Talks to a running node.
#[derive(Clone, Debug)]
pub enum Handle {
    /// On smol.
    Smol(exo_runtime_smol::Handle),
    /// On threads.
    Std(exo_runtime_std::Handle),
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Too much waits for the node already.
    #[error("this node is busy; try again")]
    Busy,
    /// The node takes nothing new before it ends.
    #[error("this node is leaving; ask another one")]
    Leaving,
    /// The node has ended.
    #[error("this node is shutting down")]
    Stopped,
}

impl From<exo_runtime_common::CommandError> for CommandError {
    fn from(error: exo_runtime_common::CommandError) -> Self {
        match error {
            exo_runtime_common::CommandError::Busy => Self::Busy,
            _ => Self::Stopped,
        }
    }
}

impl Runtime {
    /// Starts a node on the runtime `kind`.
    ///
    /// # Errors
    /// When the port is taken or the engine does not start.
    pub fn start<E, V>(
        kind: RuntimeKind,
        config: Config,
        seed: u64,
        options: Options,
        engine: E,
        on_event: V,
    ) -> Result<Self, StartError>
    where
        E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
        V: FnMut(Event) + Send + 'static,
    {
        match kind {
            RuntimeKind::Smol => {
                exo_runtime_smol::start(config, seed, options, engine, on_event).map(Self::Smol)
            }
            RuntimeKind::Std => {
                exo_runtime_std::start(config, seed, options, engine, on_event).map(Self::Std)
            }
        }
    }

    /// A way to talk to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        match self {
            Self::Smol(runtime) => Handle::Smol(runtime.handle()),
            Self::Std(runtime) => Handle::Std(runtime.handle()),
        }
    }

    /// Where peers connect.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Smol(runtime) => runtime.local_addr(),
            Self::Std(runtime) => runtime.local_addr(),
        }
    }

    /// Closes everything and waits for its threads.
    pub fn shutdown(self) {
        match self {
            Self::Smol(runtime) => runtime.shutdown(),
            Self::Std(runtime) => runtime.shutdown(),
        }
    }
}

impl Handle {
    /// Gives the node a command; never waits.
    ///
    /// # Errors
    /// When the node is too busy or has ended.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        let taken = match self {
            Self::Smol(handle) => handle.command(command),
            Self::Std(handle) => handle.command(command),
        };
        taken.map_err(CommandError::from)
    }

    /// What the node knows right now.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Smol(handle) => handle.status(),
            Self::Std(handle) => handle.status(),
        }
    }

    /// How the node would place a model right now.
    ///
    /// # Errors
    /// Why it could not be placed.
    pub fn placement(&self, question: &Question) -> Result<Placement, Rejection> {
        match self {
            Self::Smol(handle) => handle.placement(question),
            Self::Std(handle) => handle.placement(question),
        }
    }
}
