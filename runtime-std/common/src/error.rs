//! Why a runtime does not start, or does not take a command.

use std::io;

/// Why a runtime did not start. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address to listen on cannot be had.
    #[error("cannot listen on {address}: {}", describe(source))]
    Listen {
        /// The address as it was asked for.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The port for announcements cannot be had.
    #[error(
        "cannot listen for announcements on UDP port {port}: {source} (another program may have it; \
         choose --listen-port, and the same --broadcast-port on the other nodes)"
    )]
    Announcements {
        /// The port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// The port for announcements over TCP cannot be had.
    #[error(
        "cannot take announcements on TCP port {port}: {source} (another node of this machine may \
         have it; choose --listen-port, and name it in --tcp-seeds of the other nodes)"
    )]
    Visitors {
        /// The port.
        port: u16,
        /// The system's reason.
        source: io::Error,
    },
    /// The engine could not be built.
    #[error("the engine does not start: {0}")]
    Engine(String),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Says what to do about the one error that everybody meets.
fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "Address already in use (is another node running? choose --node-port)".into()
        }
        _ => error.to_string(),
    }
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// As many inputs as [`Options::inbox`](crate::Options::inbox) wait for the node.
    #[error("the node is busy; try again")]
    Busy,
    /// The runtime was shut down.
    #[error("the node has stopped")]
    Stopped,
}
