//! Carrying a request to tiny_http and its answer back.

use super::incoming::Incoming;
use super::{GuardOptions, refuse};
use crate::api::backend::Backend;
use crate::api::error::ApiError;
use crate::api::http::Client;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How often a client that waits for its answer is looked after.
const LOOK: Duration = Duration::from_millis(50);

/// A client that sends this much behind its request is not worth listening to.
const EXTRA: usize = 1 << 20;

pub(super) fn relay(
    mut stream: TcpStream,
    address: SocketAddr,
    request: &Incoming,
    options: &GuardOptions,
    backend: &Backend,
) -> io::Result<()> {
    let (visit, sent) = match backend.visit(address.to_string()).and_then(|mut visit| {
        let bytes = request.to_bytes(visit.secret());
        visit.channel.set_timeouts(LOOK, options.write_time)?;
        visit.channel.write_all(&bytes)?;
        Ok((visit, bytes.len()))
    }) {
        Ok(visit) => visit,
        Err(error) => {
            tracing::warn!("the API cannot take a request: {error}");
            let error = ApiError::new(503, "unavailable", "the API is out of resources; try again");
            return refuse(&mut stream, &error, options);
        }
    };
    tracing::trace!("API client {address}: request of {sent} bytes");
    let mut visit = visit;
    let client = visit.client();
    let result = copy(&mut stream, &mut visit.channel, &client, options);
    // Whatever happened, nobody reads an answer from here on.
    client.leave();
    result
}

fn copy(
    stream: &mut TcpStream,
    channel: &mut impl Read,
    client: &Client,
    options: &GuardOptions,
) -> io::Result<()> {
    let mut piece = [0; 16 << 10];
    let mut extra = 0;
    loop {
        match channel.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let piece = piece.get(..count).unwrap_or_default();
                write_before(stream, piece, Instant::now() + options.write_time)?;
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut if client.gone() => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    if hung_up(stream, &mut extra)? || extra > EXTRA {
                        client.leave();
                    }
                }
                ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
}

/// Whether the client closed its side. What it sends behind its request is thrown away: one
/// request for each connection.
fn hung_up(stream: &mut TcpStream, extra: &mut usize) -> io::Result<bool> {
    let mut scratch = [0; 4096];
    stream.set_nonblocking(true)?;
    let gone = loop {
        match stream.read(&mut scratch) {
            Ok(0) => break true,
            Ok(count) => {
                *extra += count;
                if *extra > EXTRA {
                    break true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break true,
        }
    };
    stream.set_nonblocking(false)?;
    Ok(gone)
}

/// Writes all of `bytes` before `deadline`, however slowly the client takes them.
pub(super) fn write_before(
    stream: &mut TcpStream,
    mut bytes: &[u8],
    deadline: Instant,
) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
