//! A small HTTP client.

use super::PATIENCE;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// `GET`: status and body.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    whole(send(address, &text)?)
}

/// `DELETE`: status and body.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn delete(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let text = format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    whole(send(address, &text)?)
}

/// `POST` of a JSON document: status and body.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn post(address: SocketAddr, path: &str, document: &Value) -> io::Result<(u16, String)> {
    whole(open(address, path, document)?)
}

/// `POST`, leaving the body to be read as it comes.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn open(address: SocketAddr, path: &str, document: &Value) -> io::Result<Response> {
    let body = document.to_string();
    let length = body.len();
    send(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    )
}

/// A response whose body is still coming; chunks are joined.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Box<dyn BufRead>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

fn whole(mut response: Response) -> io::Result<(u16, String)> {
    let mut body = String::new();
    response.body.read_to_string(&mut body)?;
    Ok((response.status, body))
}

fn send(address: SocketAddr, text: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let bad = || io::Error::other("not an HTTP response");
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(bad)?;
    let mut chunked = false;
    let mut length = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(bad());
        }
        if line == "\r\n" {
            break;
        }
        let header = line.to_ascii_lowercase();
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        let value = header.strip_prefix("content-length:");
        length = value.and_then(|value| value.trim().parse().ok()).or(length);
    }
    let body: Box<dyn BufRead> = if chunked {
        Box::new(BufReader::new(Chunks {
            inner: reader,
            left: 0,
            done: false,
        }))
    } else if let Some(length) = length {
        // Not every server hangs up when it is asked to.
        Box::new(reader.take(length))
    } else {
        Box::new(reader)
    };
    Ok(Response { status, body })
}

/// Joins the chunks of a chunked body.
struct Chunks<R> {
    inner: R,
    left: usize,
    done: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.done {
            let mut line = String::new();
            self.inner.read_line(&mut line)?;
            if line == "\r\n" {
                line.clear();
                self.inner.read_line(&mut line)?;
            }
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("{line:?} is no chunk size")))?;
            self.done = self.left == 0;
        }
        if self.done {
            return Ok(0);
        }
        let most = buffer.len().min(self.left);
        let read = self
            .inner
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}
