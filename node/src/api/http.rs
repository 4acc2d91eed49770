//! Requests and replies as the routes see them.

use super::mark::{Account, Mark};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One whole request; the guard has checked it.
#[derive(Debug)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The target's path, as it came, without the query.
    pub path: String,
    /// The `Host` header.
    pub host: Option<String>,
    /// The `Origin` header: who made a browser send this.
    pub origin: Option<String>,
    /// The `If-None-Match` header: what the client has already.
    pub known: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// Who sent it.
    pub client: Arc<Client>,
    /// What it is called in logs.
    pub mark: Mark,
}

/// The other end of a connection.
#[derive(Debug, Default)]
pub struct Client {
    /// Its address, for logs.
    pub address: String,
    gone: AtomicBool,
}

impl Client {
    /// The client at `address`.
    #[must_use]
    pub fn new(address: String) -> Self {
        Self {
            address,
            gone: AtomicBool::new(false),
        }
    }

    /// Whether it hung up; nobody waits for the answer any more.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
    }
}

/// A whole reply.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// `value` as JSON.
    #[must_use]
    pub fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8",
            headers: Vec::new(),
            body: value.to_string().into_bytes(),
        }
    }

    /// A text of this type.
    #[must_use]
    pub fn text(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    /// A page.
    #[must_use]
    pub fn html(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/html; charset=utf-8",
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The reply as bytes; without its body for a `HEAD` request, or if the client has it.
    #[must_use]
    pub fn to_bytes(&self, head_only: bool) -> Vec<u8> {
        self.marked_bytes(head_only, None)
    }

    fn marked_bytes(&self, head_only: bool, id: Option<&str>) -> Vec<u8> {
        let mut headers = self.headers.clone();
        headers.extend(id.map(|id| (REQUEST_ID, id.to_owned())));
        let mut out = head(
            self.status,
            self.content_type,
            &headers,
            Some(self.body.len()),
        );
        if !head_only && self.status != 304 {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// Writes the answer to one request.
pub struct Responder {
    writer: Box<dyn Write + Send>,
    head_only: bool,
    id: Option<String>,
    account: Option<Account>,
}

/// The header that tells clients what their request is called in logs.
const REQUEST_ID: &str = "X-Request-Id";

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder")
            .field("head_only", &self.head_only)
            .finish_non_exhaustive()
    }
}

impl Responder {
    /// Answers on `writer`.
    #[must_use]
    pub fn new(writer: Box<dyn Write + Send>, head_only: bool) -> Self {
        Self {
            writer,
            head_only,
            id: None,
            account: None,
        }
    }

    /// Tells the client what its request is called.
    #[must_use]
    pub fn marked(mut self, mark: &Mark) -> Self {
        self.id = Some(mark.id().to_owned());
        self
    }

    /// Counts the reply.
    pub(super) fn count(&mut self, account: Account) {
        self.account = Some(account);
    }

    /// The reply is of this model, which is one of ours.
    pub(super) fn of_model(&mut self, model: &str) {
        if let Some(account) = &mut self.account {
            account.of_model(model);
        }
    }

    /// Sends a whole reply.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn send(mut self, reply: &Reply) -> io::Result<()> {
        if let Some(account) = self.account.take() {
            account.replied(reply.status);
        }
        let bytes = reply.marked_bytes(self.head_only, self.id.as_deref());
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// Sends the head of a reply that ends with the connection, and hands out its body.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn stream(mut self, content_type: &'static str) -> io::Result<Box<dyn Write + Send>> {
        if let Some(account) = self.account.take() {
            account.replied(200);
        }
        let mut headers = vec![("Cache-Control", "no-cache".to_owned())];
        headers.extend(self.id.take().map(|id| (REQUEST_ID, id)));
        self.writer
            .write_all(&head(200, content_type, &headers, None))?;
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// One request for each connection: the guard's limits are per connection, and so is its end.
fn head(
    status: u16,
    content_type: &str,
    headers: &[(&'static str, String)],
    length: Option<usize>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing into memory cannot fail.
        let _ = write!(out, "{name}{value}\r\n");
    };
    line("HTTP/1.1 ", &format_args!("{status} {}", reason(status)));
    line("Server: ", &concat!("exo-node/", env!("CARGO_PKG_VERSION")));
    line("Content-Type: ", &content_type);
    if let Some(length) = length {
        line("Content-Length: ", &length);
    }
    for (name, value) in headers {
        line("", &format_args!("{name}: {value}"));
    }
    line("X-Content-Type-Options: ", &"nosniff");
    line("Connection: ", &"close");
    line("", &"");
    out
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reply_tells_its_length_and_its_end() {
        let reply = Reply::json(404, &json!({"a": 1})).with_header("Allow", "GET");
        let text = String::from_utf8(reply.to_bytes(false)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 404 Not Found\r\nServer: exo-node/"),
            "{text}"
        );
        assert!(
            text.contains("\r\nContent-Length: 7\r\nAllow: GET\r\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\r\nConnection: close\r\n\r\n{\"a\":1}"),
            "{text}"
        );
        let head = String::from_utf8(reply.to_bytes(true)).unwrap();
        assert!(
            head.contains("Content-Length: 7") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}
