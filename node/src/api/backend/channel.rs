//! The way between the guard and tiny_http.

use crate::folder::PrivateFolder;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

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

/// Where tiny_http listens.
pub(super) enum Door {
    #[cfg(unix)]
    Unix {
        path: PathBuf,
        _folder: PrivateFolder,
    },
    Loopback(SocketAddr),
}

impl Door {
    pub(super) fn connect(&self) -> io::Result<Channel> {
        match self {
            #[cfg(unix)]
            Self::Unix { path, .. } => {
                std::os::unix::net::UnixStream::connect(path).map(Channel::Unix)
            }
            Self::Loopback(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(1))?;
                stream.set_nodelay(true)?;
                Ok(Channel::Loopback(stream))
            }
        }
    }
}

/// The guard's end of the private channel.
pub(in crate::api) enum Channel {
    #[cfg(unix)]
    Unix(std::os::unix::net::UnixStream),
    Loopback(TcpStream),
}

impl Channel {
    pub(super) fn listen(kind: ChannelKind) -> io::Result<(tiny_http::Listener, Door)> {
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

    pub(in crate::api) fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
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
