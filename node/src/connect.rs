//! `exo-node connect --stdio`: a node without any port, for the one peer at the other end of standard
//! input and output; or only a way to a node that is there already.

use crate::Failed;
use crate::app::App;
use crate::serve::leave;
use crate::settings::Settings;
use crate::signals::Stop;
use socket2::Socket;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

/// An orderly stop takes no longer.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Most bytes that are carried at a time.
const PIECE: usize = 64 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there to be relayed to.
    #[error("cannot reach a node at {address}: {source} (is exo-node running there?)")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system refuses.
    #[error("cannot use standard input and output: {0}")]
    Stdio(#[from] io::Error),
}

/// Is a node for the peer at the other end, until that hangs up or `stop`.
///
/// # Errors
/// When the node does not start.
pub fn connect(settings: &Settings, stop: &Stop) -> Result<(), Failed> {
    debug_assert!(settings.listen.is_none(), "a port of its own");
    let (near, far) = pair().map_err(ConnectError::Stdio)?;
    let accepted = Some((near, "standard input".to_owned()));
    let started = App::start_with(settings, accepted)?;
    carry(far, stop).map_err(ConnectError::Stdio)?;
    stop.wait();
    if stop.take_signal() {
        leave(&started.app, settings.drain, stop);
    }
    stop.hurry();
    started.shutdown(PATIENCE);
    Ok(())
}

/// Passes everything on to a node that listens at `address`, until either side hangs up or `stop`.
///
/// # Errors
/// When there is none.
pub fn relay(address: &str, stop: &Stop) -> Result<(), Failed> {
    let stream = TcpStream::connect(address).map_err(|source| ConnectError::Unreachable {
        address: address.to_owned(),
        source,
    })?;
    stream.set_nodelay(true)?;
    carry(stream.into(), stop).map_err(ConnectError::Stdio)?;
    stop.wait();
    Ok(())
}

/// Carries standard input into a socket, and what comes out of it to standard output; tells `stop`
/// when either has ended.
fn carry(far: Socket, stop: &Stop) -> io::Result<()> {
    let (input, output) = stdio()?;
    let way = |name: &'static str| -> io::Result<_> {
        let (far, stop) = (far.try_clone()?, stop.clone());
        Ok(move |ended: io::Result<()>| {
            if let Err(error) = ended {
                tracing::debug!(%error, "{name} is over");
            }
            let _ = far.shutdown(Shutdown::Both);
            stop.end();
        })
    };
    let (to, over) = (far.try_clone()?, way("stdin")?);
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    spawn("stdin").spawn(move || over(copy(input, to)))?;
    let (from, over) = (far.try_clone()?, way("stdout")?);
    spawn("stdout").spawn(move || over(copy(from, output)))?;
    Ok(())
}

/// Every piece is written as it was read: who waits for it waits no longer than it needs.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut place = vec![0; PIECE];
    loop {
        match from.read(&mut place) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(place.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Standard input and output without the buffers of this process.
#[cfg(unix)]
fn stdio() -> io::Result<(File, File)> {
    use std::os::fd::AsFd;
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((input.into(), output.into()))
}

/// Standard input and output without the buffers of this process.
#[cfg(windows)]
fn stdio() -> io::Result<(File, File)> {
    use std::os::windows::io::AsHandle;
    let input = io::stdin().as_handle().try_clone_to_owned()?;
    let output = io::stdout().as_handle().try_clone_to_owned()?;
    Ok((input.into(), output.into()))
}

#[cfg(unix)]
fn pair() -> io::Result<(Socket, Socket)> {
    Socket::pair(socket2::Domain::UNIX, socket2::Type::STREAM, None)
}

/// Two sockets of this process that lead to each other.
#[cfg(windows)]
fn pair() -> io::Result<(Socket, Socket)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    loop {
        // Anybody on this machine may have been quicker.
        let (far, from) = listener.accept()?;
        if from == near.local_addr()? {
            far.set_nodelay(true)?;
            return Ok((near.into(), far.into()));
        }
    }
}
