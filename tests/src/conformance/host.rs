//! A node under one of the two runtimes.

use super::PATIENCE;
use exo_protocol::engine::Engine;
use exo_protocol::topology::{Capabilities, Flops};
use exo_protocol::{Command, Config, Event, Status};
use exo_runtime_common::Options;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// A runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `exo-runtime-std`.
    Std,
    /// `exo-runtime-smol`.
    Smol,
}

/// What a host needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The node.
    pub config: Config,
    /// The peers' file.
    pub discovery_file: Option<PathBuf>,
    /// Where announcements come.
    pub announcements: Option<u16>,
    /// Where announcements over TCP come.
    pub visitors: Option<u16>,
    /// Inputs that may wait.
    pub inbox: usize,
}

impl Setup {
    /// A node that finds nobody, with as much memory as is said.
    #[must_use]
    pub fn new(node: &str, memory: i64) -> Self {
        let flops = Flops {
            fp32: 1.0,
            fp16: 1.0,
            int8: 1.0,
        };
        let capabilities = Capabilities {
            model: "test".into(),
            chip: "test".into(),
            memory,
            flops,
            engine: None,
            speed: None,
        };
        Self {
            config: Config::new(node.into(), capabilities),
            discovery_file: None,
            announcements: None,
            visitors: None,
            inbox: 1024,
        }
    }
}

enum Runtime {
    Std(exo_runtime_std::Runtime),
    Smol(exo_runtime_smol::Runtime),
}

/// What is left of a host when it was shut down.
#[derive(Clone, Debug)]
pub enum Handle {
    /// Of a [`Kind::Std`].
    Std(exo_runtime_std::Handle),
    /// Of a [`Kind::Smol`].
    Smol(exo_runtime_smol::Handle),
}

impl Handle {
    /// Gives a command; the reason if it was not taken.
    ///
    /// # Errors
    /// The runtime's words.
    pub fn command(&self, command: Command) -> Result<(), String> {
        match self {
            Self::Std(handle) => handle.command(command).map_err(|error| error.to_string()),
            Self::Smol(handle) => handle.command(command).map_err(|error| error.to_string()),
        }
    }

    /// The node's own words.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Std(handle) => handle.status(),
            Self::Smol(handle) => handle.status(),
        }
    }
}

/// A running node.
pub struct Host {
    runtime: Runtime,
    events: Receiver<Event>,
    /// Commands and status.
    pub handle: Handle,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Host {
    /// Starts a node on a free port of this machine.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start<E>(kind: Kind, setup: Setup, engine: E) -> Self
    where
        E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
    {
        let (tell, events) = mpsc::channel();
        let mut host = Self::start_with(kind, setup, engine, move |event| {
            let _ = tell.send(event);
        });
        host.events = events;
        host
    }

    /// As [`Host::start`], with an event handler of the caller's; [`Host::event`] hears nothing.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with<E, V>(kind: Kind, setup: Setup, engine: E, on_event: V) -> Self
    where
        E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
        V: FnMut(Event) + Send + 'static,
    {
        let listen = Some("127.0.0.1:0".into());
        let Setup {
            config,
            discovery_file,
            announcements,
            visitors,
            inbox,
        } = setup;
        let options = Options {
            listen,
            discovery_file,
            announcements,
            visitors,
            inbox,
            ..Default::default()
        };
        let runtime = match kind {
            Kind::Std => {
                let runtime = exo_runtime_std::start(config, 7, options, engine, on_event);
                Runtime::Std(runtime.expect("the runtime starts"))
            }
            Kind::Smol => {
                let runtime = exo_runtime_smol::start(config, 7, options, engine, on_event);
                Runtime::Smol(runtime.expect("the runtime starts"))
            }
        };
        let (handle, address) = match &runtime {
            Runtime::Std(runtime) => (Handle::Std(runtime.handle()), runtime.local_addr()),
            Runtime::Smol(runtime) => (Handle::Smol(runtime.handle()), runtime.local_addr()),
        };
        let address = address.expect("it listens");
        Self {
            runtime,
            events: mpsc::channel().1,
            handle,
            address,
        }
    }

    /// Gives a command.
    ///
    /// # Panics
    /// If it is not taken.
    pub fn command(&self, command: Command) {
        self.handle
            .command(command)
            .expect("the node takes the command");
    }

    /// The node's own words.
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// Waits for an event that `wanted` makes something of.
    ///
    /// # Panics
    /// If none comes.
    pub fn event<T>(&self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self
                .events
                .recv_timeout(left)
                .expect("the event comes in time");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    /// Waits until the node's status is as wanted.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(
                Instant::now() < until,
                "{what} did not come about: {status:?}"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it, and waits for that.
    pub fn shutdown(self) {
        match self.runtime {
            Runtime::Std(runtime) => runtime.shutdown(),
            Runtime::Smol(runtime) => runtime.shutdown(),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Lets nodes find each other, once all of them listen: each gets the file that it was set up with.
///
/// # Panics
/// If a file cannot be written.
pub fn introduce(hosts: &[(&str, SocketAddr)], file: &std::path::Path) {
    let entries: Vec<String> = hosts
        .iter()
        .map(|(name, address)| {
            let (ip, port) = (address.ip(), address.port());
            format!(r#""{name}": {{"address": "{ip}", "port": {port}}}"#)
        })
        .collect();
    let text = format!(r#"{{"peers": {{{}}}}}"#, entries.join(", "));
    // Never half a file for who reads it.
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the file can be written");
    std::fs::rename(&new, file).expect("the file can be put in place");
}
