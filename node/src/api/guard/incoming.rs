//! Reading one request, strictly.

use super::GuardOptions;
use crate::api::error::ApiError;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Why there is no request.
#[derive(Debug)]
pub enum Refusal {
    /// The client hung up or never said anything; nobody to answer.
    Gone,
    /// The client did not keep to the rules.
    Because(ApiError),
}

/// A request with everything that could be read in two ways taken out.
#[derive(Debug)]
pub(super) struct Incoming {
    method: String,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Incoming {
    /// The request as tiny_http gets it, with `secret` to show who sends it.
    pub(super) fn to_bytes(&self, secret: (&str, &str)) -> Vec<u8> {
        let Self {
            method,
            target,
            headers,
            body,
        } = self;
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        let secret = [(secret.0, secret.1)];
        let kept = headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in kept.chain(secret) {
            out.extend([name, ": ", value, "\r\n"]);
        }
        out.push_str(&format!(
            "Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        ));
        let mut out = out.into_bytes();
        out.extend_from_slice(body);
        out
    }
}

/// The headers that the API looks at; others never reach it.
const KEPT: [&str; 3] = ["Host", "Origin", "If-None-Match"];

/// Headers that help whoever looks for a request later. One that makes no sense is as good as none.
const HINTS: [&str; 2] = ["X-Request-Id", "X-Exo-Trace"];

/// Longest line between two chunks of a body, extensions included.
const CHUNK_LINE: usize = 256;

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::Because(ApiError::new(400, "bad_request", message))
}

fn too_large(limit: usize) -> Refusal {
    let message = format!("the body is larger than {limit} bytes");
    Refusal::Because(ApiError::new(413, "body_too_large", message))
}

/// Bytes as they come, each piece before its deadline.
struct Source<'a> {
    stream: &'a mut TcpStream,
    bytes: Vec<u8>,
    /// Bytes that have been used already.
    used: usize,
    deadline: Instant,
}

impl Source<'_> {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.used..).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
        // Moving the tail only now and then keeps many small chunks linear.
        if self.used > 64 << 10 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }

    fn fill(&mut self) -> Result<(), Refusal> {
        let late =
            || Refusal::Because(ApiError::new(408, "timeout", "the request came too slowly"));
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        if self.stream.set_read_timeout(Some(left)).is_err() {
            return Err(Refusal::Gone);
        }
        let mut piece = [0; 8192];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Refusal::Gone),
            Ok(count) => {
                self.bytes
                    .extend_from_slice(piece.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => Ok(()),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(late()),
                _ => Err(Refusal::Gone),
            },
        }
    }

    /// The next line without its end; a line feed alone does not end one.
    fn line(&mut self, limit: usize) -> Result<String, Refusal> {
        loop {
            if let Some(end) = self.rest().iter().position(|&byte| byte == b'\n') {
                let line = self
                    .rest()
                    .get(..end)
                    .and_then(|line| line.strip_suffix(b"\r"));
                let line = line.ok_or_else(|| bad("a line must end with CR LF"))?;
                if line.len() > limit {
                    return Err(bad("a line is too long"));
                }
                let line = std::str::from_utf8(line).map_err(|_| bad("a line is not UTF-8"))?;
                let line = line.to_owned();
                self.consume(end + 1);
                return Ok(line);
            }
            if self.rest().len() > limit {
                return Err(bad("a line is too long"));
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut missing = count;
        while missing > 0 {
            if self.rest().is_empty() {
                self.fill()?;
            }
            let have = missing.min(self.rest().len());
            out.extend_from_slice(self.rest().get(..have).unwrap_or_default());
            self.consume(have);
            missing -= have;
        }
        Ok(())
    }
}

/// Reads a whole request from `stream`.
pub(super) fn read_request(
    stream: &mut TcpStream,
    options: &GuardOptions,
) -> Result<Incoming, Refusal> {
    let deadline = Instant::now() + options.head_time;
    let mut source = Source {
        stream,
        bytes: Vec::new(),
        used: 0,
        deadline,
    };
    let head = Head::parse(
        &read_head(&mut source, options.head_bytes)?,
        options.body_bytes,
    )?;
    source.deadline = Instant::now() + options.body_time;
    if head.expects_continue && head.body != Body::None {
        let go = source.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        go.map_err(|_| Refusal::Gone)?;
    }
    let mut body = Vec::new();
    match head.body {
        Body::None => {}
        Body::Length(length) => source.take(length, &mut body)?,
        Body::Chunked => read_chunks(&mut source, options.body_bytes, &mut body)?,
    }
    Ok(Incoming {
        method: head.method,
        target: head.target,
        headers: head.headers,
        body,
    })
}

/// The lines up to the empty one.
fn read_head(source: &mut Source<'_>, limit: usize) -> Result<Vec<String>, Refusal> {
    let too_long = || {
        let message = format!("request line and headers are larger than {limit} bytes");
        Refusal::Because(ApiError::new(431, "headers_too_large", message))
    };
    let mut lines = Vec::new();
    let mut left = limit;
    loop {
        if source.rest().len() > left && !source.rest().iter().take(left).any(|&b| b == b'\n') {
            return Err(too_long());
        }
        let Some(end) = source.rest().iter().position(|&byte| byte == b'\n') else {
            source.fill()?;
            continue;
        };
        left = left.checked_sub(end + 1).ok_or_else(too_long)?;
        let line = source.line(limit)?;
        if !line.is_empty() {
            lines.push(line);
        } else if !lines.is_empty() {
            return Ok(lines);
        }
    }
}

fn read_chunks(source: &mut Source<'_>, limit: usize, body: &mut Vec<u8>) -> Result<(), Refusal> {
    loop {
        let line = source.line(CHUNK_LINE)?;
        let digits = line.split(';').next().unwrap_or_default().trim_end();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(bad("a chunk's length is no hexadecimal number"));
        }
        let length = usize::from_str_radix(digits, 16).map_err(|_| too_large(limit))?;
        if length > limit - body.len() {
            return Err(too_large(limit));
        }
        if length == 0 {
            break;
        }
        source.take(length, body)?;
        if !source.line(0)?.is_empty() {
            return Err(bad("a chunk is longer than its length"));
        }
    }
    // Trailers mean nothing here; they may not be endless either.
    for _ in 0..16 {
        if source.line(CHUNK_LINE)?.is_empty() {
            return Ok(());
        }
    }
    Err(bad("too many trailers"))
}

#[derive(Debug, PartialEq, Eq)]
enum Body {
    None,
    Length(usize),
    Chunked,
}

#[derive(Debug)]
struct Head {
    method: String,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
    expects_continue: bool,
}

impl Head {
    fn parse(lines: &[String], body_limit: usize) -> Result<Self, Refusal> {
        let (first, headers) = lines.split_first().ok_or_else(|| bad("empty request"))?;
        let (method, target, old) = request_line(first)?;
        let mut head = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Body::None,
            expects_continue: false,
        };
        for line in headers {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| bad("a header has no colon"))?;
            let name_is_token = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
            if name.is_empty() || !name_is_token {
                return Err(bad("a header's name has forbidden characters"));
            }
            let value = value.trim_matches([' ', '\t']);
            if value
                .bytes()
                .any(|byte| byte.is_ascii_control() && byte != b'\t')
            {
                return Err(bad("a header's value has control characters"));
            }
            head.header(name, value, old, body_limit)?;
        }
        Ok(head)
    }

    fn header(
        &mut self,
        name: &str,
        value: &str,
        old: bool,
        body_limit: usize,
    ) -> Result<(), Refusal> {
        if name.eq_ignore_ascii_case("content-length") {
            if self.body != Body::None {
                return Err(bad("the body's length is given twice"));
            }
            if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(bad("Content-Length is no number"));
            }
            let length = value
                .parse()
                .ok()
                .filter(|&length: &usize| length <= body_limit);
            self.body = Body::Length(length.ok_or_else(|| too_large(body_limit))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.body != Body::None {
                return Err(bad("the body's length is given twice"));
            }
            if old || !value.eq_ignore_ascii_case("chunked") {
                return Err(bad("the only Transfer-Encoding is chunked, in HTTP/1.1"));
            }
            self.body = Body::Chunked;
        } else if name.eq_ignore_ascii_case("expect") {
            self.expects_continue = value.eq_ignore_ascii_case("100-continue") && !old;
        } else if let Some(kept) = KEPT.iter().find(|kept| name.eq_ignore_ascii_case(kept)) {
            if self.headers.iter().any(|(name, _)| name == kept) {
                return Err(bad(format!("{kept} is given twice")));
            }
            if !value.is_ascii() {
                return Err(bad(format!("{kept} is not ASCII")));
            }
            self.headers.push((kept, value.to_owned()));
        } else if let Some(hint) = HINTS.iter().find(|hint| name.eq_ignore_ascii_case(hint)) {
            let first = !self.headers.iter().any(|(name, _)| name == hint);
            if first && value.is_ascii() {
                self.headers.push((hint, value.to_owned()));
            }
        }
        Ok(())
    }
}

/// Method, target, and whether the version is 1.0.
fn request_line(line: &str) -> Result<(&str, &str, bool), Refusal> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad("the request line must be: method, path, version"));
    };
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(bad("the method must be upper-case letters"));
    }
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(
            "the path must begin with / and be percent-encoded ASCII",
        ));
    }
    match version {
        "HTTP/1.1" => Ok((method, target, false)),
        "HTTP/1.0" => Ok((method, target, true)),
        _ if version.starts_with("HTTP/") => {
            let message = "only HTTP/1.0 and HTTP/1.1 are spoken here";
            Err(Refusal::Because(ApiError::new(
                505,
                "http_version",
                message,
            )))
        }
        _ => Err(bad("the request line must end with HTTP/1.1")),
    }
}
