//! Requests and replies as the routes see them.

use super::line::Permit;
use super::mark::{Account, Mark};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The headers that the API looks at; others never reach it.
pub(super) const KEPT: [&str; 7] = [
    "Host",
    "Origin",
    "If-None-Match",
    "Authorization",
    "X-Api-Key",
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
];

/// Headers that help whoever looks for a request later. One that makes no sense is as good as none.
pub(super) const HINTS: [&str; 2] = ["X-Request-Id", "X-Exo-Trace"];

/// One whole request; the guard has checked it.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The target's path, as it came, without the query.
    pub path: String,
    /// What stood behind the `?`, as it came.
    pub query: String,
    /// The headers that the API looks at, each at most once.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Who sent it.
    pub client: Arc<Client>,
    /// What it is called in logs.
    pub mark: Mark,
}

impl Request {
    /// A request of `method` for `target`, with its query.
    pub(super) fn new(method: &str, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            ..Self::default()
        }
    }

    /// The value of a header that the API looks at.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(kept, _)| kept.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// The other end of a connection, for as long as one request of it takes.
#[derive(Debug, Default)]
pub struct Client {
    /// Its address, for logs.
    pub address: String,
    gone: AtomicBool,
    told: AtomicBool,
    /// The worker's place that this request takes, until nobody is at it any more.
    _permit: Option<Permit>,
}

impl Client {
    /// The client at `address`, whose request may be worked on.
    pub(super) fn new(address: String, permit: Permit) -> Self {
        Self {
            address,
            _permit: Some(permit),
            ..Self::default()
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

    /// Whether a stream came to its end, and was not torn off.
    pub(super) fn told(&self) -> bool {
        self.told.load(Ordering::Acquire)
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

    /// Without a body.
    #[must_use]
    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: "",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The reply as the guard gets it; without its body for a `HEAD` request, or if the client has it.
    #[must_use]
    pub(super) fn to_bytes(&self, head_only: bool) -> Vec<u8> {
        let length = Some(self.body.len());
        let mut out = head(self.status, self.content_type, &self.headers, length);
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
    headers: Vec<(&'static str, String)>,
    client: Arc<Client>,
    account: Option<Account>,
}

/// The header that tells clients what their request is called in logs.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder")
            .field("head_only", &self.head_only)
            .finish_non_exhaustive()
    }
}

impl Responder {
    /// Answers `request` on `writer`.
    #[must_use]
    pub(super) fn new(writer: Box<dyn Write + Send>, request: &Request) -> Self {
        Self {
            writer,
            head_only: request.method == "HEAD",
            headers: vec![(REQUEST_ID, request.mark.id().to_owned())],
            client: Arc::clone(&request.client),
            account: None,
        }
    }

    /// With one more header, whatever the answer.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
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
        let headers = [&reply.headers[..], &self.headers].concat();
        let length = Some(reply.body.len());
        let mut bytes = head(reply.status, reply.content_type, &headers, length);
        if !self.head_only && reply.status != 304 {
            bytes.extend_from_slice(&reply.body);
        }
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// Sends the head of a reply of unknown length, and hands out its body. Dropping that is its
    /// end; a client whose worker panics sees a torn reply instead.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn stream(mut self, content_type: &'static str) -> io::Result<Box<dyn Write + Send>> {
        if let Some(account) = self.account.take() {
            account.replied(200);
        }
        let cache = [("Cache-Control", "no-cache".to_owned())];
        let headers = [&cache[..], &self.headers].concat();
        self.writer
            .write_all(&head(200, content_type, &headers, None))?;
        self.writer.flush()?;
        Ok(Box::new(Body {
            writer: self.writer,
            client: self.client,
        }))
    }
}

/// The body of a streamed reply.
struct Body {
    writer: Box<dyn Write + Send>,
    client: Arc<Client>,
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Before the writer goes, whose end the guard sees.
        if !std::thread::panicking() {
            self.client.told.store(true, Ordering::Release);
        }
    }
}

/// Everything but what concerns the connection, which is the guard's.
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
    if !content_type.is_empty() {
        line("Content-Type: ", &content_type);
    }
    // 204 says that there is none.
    if let Some(length) = length.filter(|_| status != 204) {
        line("Content-Length: ", &length);
    }
    for (name, value) in headers {
        line("", &format_args!("{name}: {value}"));
    }
    line("X-Content-Type-Options: ", &"nosniff");
    line("", &"");
    out
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        408 => "Request Timeout",
        413 => "Content Too Large",
        421 => "Misdirected Request",
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
    fn a_reply_tells_its_length() {
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
        assert!(text.ends_with("nosniff\r\n\r\n{\"a\":1}"), "{text}");
        let head = String::from_utf8(reply.to_bytes(true)).unwrap();
        assert!(
            head.contains("Content-Length: 7") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}
