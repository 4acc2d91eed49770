//! Reading one request, strictly.

use super::GuardOptions;
use super::source::{Input, Source};
use crate::api::error::ApiError;
use crate::api::http::{HINTS, KEPT, Request};
use crate::api::mark::Mark;
use std::time::Instant;

/// Why there is no request.
#[derive(Debug)]
pub enum Refusal {
    /// The client hung up or never said anything; nobody to answer.
    Gone,
    /// The client did not keep to the rules.
    Because(ApiError),
}

/// Longest line between two chunks of a body, extensions included.
const CHUNK_LINE: usize = 256;

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    Refusal::Because(ApiError::new(400, "bad_request", message))
}

fn too_large(limit: usize) -> Refusal {
    let message = format!("the body is larger than {limit} bytes");
    Refusal::Because(ApiError::new(413, "body_too_large", message))
}

/// Reads request line and headers; the clock runs from now on.
///
/// # Errors
/// What the client did wrong, or that it left.
pub fn read_head<I: Input>(
    source: &mut Source<I>,
    options: &GuardOptions,
) -> Result<Head, Refusal> {
    source.deadline = Instant::now() + options.head_time;
    let lines = head_lines(source, options.head_bytes)?;
    Head::parse(&lines, options.body_bytes)
}

/// Reads the body that `head` announced, as far as `grow` agrees to so many bytes more.
///
/// # Errors
/// What the client did wrong, or that it left.
pub fn read_body<I: Input>(
    source: &mut Source<I>,
    head: &Head,
    options: &GuardOptions,
    grow: &mut dyn FnMut(usize) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    source.deadline = Instant::now() + options.body_time;
    if head.expects_continue && head.body != Body::None {
        source.input.say(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    match head.body {
        Body::None => {}
        Body::Length(length) => source.take(length, &mut body, grow)?,
        Body::Chunked => read_chunks(source, options.body_bytes, &mut body, grow)?,
    }
    Ok(body)
}

/// The lines up to the empty one.
fn head_lines<I: Input>(source: &mut Source<I>, limit: usize) -> Result<Vec<String>, Refusal> {
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

fn read_chunks<I: Input>(
    source: &mut Source<I>,
    limit: usize,
    body: &mut Vec<u8>,
    grow: &mut dyn FnMut(usize) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
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
        source.take(length, body, grow)?;
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

/// Request line and headers, with everything that could be read in two ways taken out.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    method: String,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Body,
    expects_continue: bool,
    /// HTTP/1.0.
    pub(super) old: bool,
    /// Whether the client wants to go on when it has its answer.
    pub(super) keep: bool,
}

impl Head {
    pub(super) fn method(&self) -> &str {
        &self.method
    }

    /// Whether a body follows.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.body, Body::None | Body::Length(0))
    }

    /// What is asked, without its body.
    #[must_use]
    pub fn request(&self) -> Request {
        let mut request = Request {
            headers: self.headers.clone(),
            ..Request::new(&self.method, &self.target)
        };
        let (id, trace) = (
            request.header("X-Request-Id"),
            request.header("X-Exo-Trace"),
        );
        request.mark = Mark::new(id, trace);
        request
    }

    /// The head as tiny_http gets it, with `secret` to show who sends it, before so many bytes of
    /// a body.
    #[must_use]
    pub fn to_bytes(&self, secret: (&str, &str), body: usize) -> Vec<u8> {
        let Self {
            method,
            target,
            headers,
            ..
        } = self;
        let mut out = format!("{method} {target} HTTP/1.1\r\n");
        let secret = [(secret.0, secret.1)];
        let kept = headers.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in kept.chain(secret) {
            out.extend([name, ": ", value, "\r\n"]);
        }
        out.push_str(&format!(
            "Content-Length: {body}\r\nConnection: close\r\n\r\n"
        ));
        out.into_bytes()
    }

    fn parse(lines: &[String], body_limit: usize) -> Result<Self, Refusal> {
        let (first, headers) = lines.split_first().ok_or_else(|| bad("empty request"))?;
        let (method, target, old) = request_line(first)?;
        let mut head = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Body::None,
            expects_continue: false,
            old,
            keep: !old,
        };
        let mut wishes = (false, false);
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
            if name.eq_ignore_ascii_case("connection") {
                let mut words = value.split(',').map(|word| word.trim_matches([' ', '\t']));
                wishes.0 |= words.clone().any(|word| word.eq_ignore_ascii_case("close"));
                wishes.1 |= words.any(|word| word.eq_ignore_ascii_case("keep-alive"));
            } else {
                head.header(name, value, body_limit)?;
            }
        }
        head.keep = !wishes.0 && (!old || wishes.1);
        Ok(head)
    }

    fn header(&mut self, name: &str, value: &str, body_limit: usize) -> Result<(), Refusal> {
        let old = self.old;
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
