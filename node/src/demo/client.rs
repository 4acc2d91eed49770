//! As much of an HTTP client as it takes to talk to our own API: of HTTP/1.0, whose replies come as
//! they are and end with their connection.

use super::DemoError;
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Talks to one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    api: SocketAddr,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Error {
    /// What was checked while waiting is not well.
    Checked(DemoError),
    /// The node's fault.
    Problem(String),
}

/// Called while waiting; its error ends the wait.
type Check<'a> = &'a mut dyn FnMut() -> Result<(), DemoError>;

/// How often a wait is interrupted to check.
const LOOK: Duration = Duration::from_millis(50);

/// No line or reply of ours is longer.
const LONGEST: usize = 16 << 20;

impl Client {
    pub(super) fn new(api: SocketAddr) -> Self {
        Self { api }
    }

    /// A JSON reply; it is there at once.
    pub(super) fn get(self, path: &str) -> Result<Value, String> {
        let get = || -> io::Result<Vec<u8>> {
            let mut stream = self.connect()?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(
                format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.api).as_bytes(),
            )?;
            let mut bytes = Vec::new();
            stream.take(LONGEST as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = get().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("it does not answer")?;
        match status(head) {
            Some(200) => serde_json::from_str(body).map_err(|error| error.to_string()),
            _ => Err(message(body)),
        }
    }

    /// A reply that comes line by line.
    pub(super) fn post(self, path: &str, body: &Value, check: Check<'_>) -> Result<Reply, Error> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.api,
            body.len()
        );
        let send = || {
            let mut stream = self.connect()?;
            stream.set_read_timeout(Some(LOOK))?;
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        };
        let stream = send().map_err(|error: io::Error| Error::Problem(error.to_string()))?;
        let mut reply = Reply {
            stream,
            bytes: Vec::new(),
            ended: false,
        };
        let mut first = None;
        loop {
            let line = reply
                .line(check)?
                .ok_or_else(|| Error::Problem("no answer".to_owned()))?;
            if line.is_empty() {
                break;
            }
            first.get_or_insert(line);
        }
        if first.as_deref().and_then(status) == Some(200) {
            return Ok(reply);
        }
        let mut body = String::new();
        while let Some(line) = reply.line(check)? {
            body.push_str(&line);
        }
        Err(Error::Problem(message(&body)))
    }

    fn connect(self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.api, Duration::from_secs(1))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }
}

/// A reply that is coming.
#[derive(Debug)]
pub(super) struct Reply {
    stream: TcpStream,
    bytes: Vec<u8>,
    ended: bool,
}

impl Reply {
    /// The next line without its end; `None` after the last one.
    pub(super) fn line(&mut self, check: Check<'_>) -> Result<Option<String>, Error> {
        loop {
            if let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.bytes);
                let rest = String::from_utf8_lossy(&rest).into_owned();
                return Ok(Some(rest).filter(|rest| !rest.is_empty()));
            }
            if self.bytes.len() > LONGEST {
                return Err(Error::Problem("an endless line".to_owned()));
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self
                    .bytes
                    .extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        check().map_err(Error::Checked)?;
                    }
                    ErrorKind::Interrupted => {}
                    _ => return Err(Error::Problem(error.to_string())),
                },
            }
        }
    }
}

fn status(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}

/// What an error reply says.
fn message(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    value["error"]["message"]
        .as_str()
        .unwrap_or("it answers with an error")
        .to_owned()
}
