//! The API of one node, from its port to its routes.

use super::access::Access;
use super::backend::{Backend, ChannelKind};
use super::guard::{Guard, GuardOptions};
use super::routes::Routes;
use crate::app::App;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error("cannot serve the API on {address}: {}", describe(source))]
    Listen {
        /// As it was asked for.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// tiny_http cannot be started.
    #[error("cannot start the API: {0}")]
    Start(io::Error),
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Address already in use (is another node running? choose --chatgpt-api-port)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A port that was had, before anything else is started.
///
/// # Errors
/// When it is taken or not this machine's.
pub fn bind(host: &str, port: u16) -> Result<TcpListener, ServeError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let bind = || {
        TcpListener::bind(
            (host, port)
                .to_socket_addrs()?
                .collect::<Vec<_>>()
                .as_slice(),
        )
    };
    bind().map_err(|source| ServeError::Listen {
        address: format!("{host}:{port}"),
        source,
    })
}

/// A served API. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    url: String,
    guard: Guard,
    backend: Arc<Backend>,
}

impl Server {
    /// Serves `app` on `listener` to those whom `access` lets in.
    ///
    /// # Errors
    /// When the system gives no threads or no private channel.
    pub fn start(
        listener: TcpListener,
        app: Arc<App>,
        access: Access,
        options: GuardOptions,
    ) -> Result<Self, ServeError> {
        let routes = Arc::new(Routes { app, access });
        let backend =
            Backend::start(ChannelKind::preferred(), routes).map_err(ServeError::Start)?;
        let guard = Guard::start(listener, options, Arc::clone(&backend));
        let guard = guard.map_err(ServeError::Start)?;
        Ok(Self {
            url: url(guard.address()),
            guard,
            backend,
        })
    }

    /// Takes no new clients; those that are here hear the end of their answers.
    pub fn refuse(&mut self) {
        self.guard.close();
    }

    /// Gives the clients that are left `patience` to take the end of their answers.
    pub fn drain(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.guard.idle() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where clients on this machine reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.refuse();
        self.backend.close();
    }
}

fn url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        let local = if address.is_ipv4() {
            "127.0.0.1"
        } else {
            "::1"
        };
        address = local
            .parse()
            .map_or(address, |ip| SocketAddr::new(ip, address.port()));
    }
    format!("http://{address}")
}
