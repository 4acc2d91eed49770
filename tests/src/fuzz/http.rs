//! What clients send to the HTTP API.

use exo_node::api::guard::{GuardOptions, Head, Input, Refusal, Source, read_body, read_head};
use std::time::Instant;

/// Small limits, so that small inputs reach them.
fn options() -> GuardOptions {
    GuardOptions {
        head_bytes: 512,
        body_bytes: 256,
        ..GuardOptions::default()
    }
}

/// Bytes that are there, so many at a time; then the client is gone.
struct Pieces<'a> {
    rest: &'a [u8],
    size: usize,
}

impl Input for Pieces<'_> {
    fn fill(&mut self, buffer: &mut Vec<u8>, _: Instant) -> Result<(), Refusal> {
        let (piece, rest) = self.rest.split_at(self.size.min(self.rest.len()));
        if piece.is_empty() {
            return Err(Refusal::Gone);
        }
        buffer.extend_from_slice(piece);
        self.rest = rest;
        Ok(())
    }

    fn say(&mut self, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What one connection asked, and how it ended: with the client's leaving, or a status.
fn read(data: &[u8], size: usize) -> (Vec<(Head, Vec<u8>)>, Option<u16>) {
    let options = options();
    let mut source = Source::new(Pieces { rest: data, size });
    let mut requests = Vec::new();
    let refusal = loop {
        let head = match read_head(&mut source, &options) {
            Ok(head) => head,
            Err(refusal) => break refusal,
        };
        let mut held = 0;
        let mut grow = |bytes| {
            held += bytes;
            Ok(())
        };
        match read_body(&mut source, &head, &options, &mut grow) {
            Ok(body) => {
                assert_eq!(held, body.len(), "every byte of a body is counted");
                requests.push((head, body));
            }
            Err(refusal) => break refusal,
        }
    };
    let status = match refusal {
        Refusal::Gone => None,
        Refusal::Because(error) => Some(error.status),
    };
    (requests, status)
}

/// Any bytes as a client's requests: no panic; the same requests however the bytes are cut; limits
/// hold; and what is handed on behind the guard reads as that one request, whoever reads it.
pub fn http(data: &[u8]) {
    let (requests, status) = read(data, usize::MAX);
    for size in [1, 7] {
        let cut = read(data, size);
        assert_eq!(cut.1, status, "the end does not hang on cuts of {size}");
        assert!(cut.0 == requests, "requests do not hang on cuts of {size}");
    }
    assert!(
        matches!(status, None | Some(400 | 413 | 431 | 505)),
        "{status:?}"
    );
    for (head, body) in requests {
        assert!(body.len() <= options().body_bytes);
        let mut handed = head.to_bytes(("X-Exo-Guard", "secret"), body.len());
        assert!(handed.is_ascii() && handed.len() <= 1024, "{head:?}");
        handed.extend_from_slice(&body);
        let again = read_with_room(&handed);
        let [(other, rest)] = &again[..] else {
            panic!("{head:?} is handed on as {} requests", again.len())
        };
        let (one, other) = (head.request(), other.request());
        assert_eq!(one.method, other.method);
        assert_eq!((one.path, one.query), (other.path, other.query));
        assert_eq!(one.headers, other.headers);
        assert_eq!(&body, rest);
    }
}

/// The guard's own lines come on top of a head that is as long as may be.
fn read_with_room(data: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut options = options();
    options.head_bytes = 1024;
    let mut source = Source::new(Pieces {
        rest: data,
        size: usize::MAX,
    });
    let mut requests = Vec::new();
    while let Ok(head) = read_head(&mut source, &options) {
        match read_body(&mut source, &head, &options, &mut |_| Ok(())) {
            Ok(body) => requests.push((head, body)),
            Err(_) => break,
        }
    }
    requests
}
