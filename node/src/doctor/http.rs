//! One question over HTTP: whether it is spoken at all, and what a node's API says.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A status of ours is shorter.
const LONGEST: usize = 1 << 20;

/// Asks for the status of the node whose API may be at `address`. `None` is somebody who speaks no
/// HTTP, or nobody; `Some(None)` somebody who does and is no node of ours.
pub(super) fn status(address: SocketAddr, patience: Duration) -> Option<Option<Value>> {
    let bytes = get(address, patience).ok()?;
    if !bytes.starts_with(b"HTTP/") {
        return None;
    }
    Some(body(&bytes))
}

fn body(bytes: &[u8]) -> Option<Value> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status: Value = serde_json::from_slice(bytes.get(end + 4..)?).ok()?;
    status
        .get("node_id")
        .is_some_and(Value::is_string)
        .then_some(status)
}

fn get(address: SocketAddr, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    let request = format!(
        "GET /v1/status HTTP/1.1\r\nHost: {address}\r\nUser-Agent: exo-node doctor\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.len() < LONGEST {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            // What came until then may be enough.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_nodes_status_is_one() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"node_id\": \"a\"}";
        assert_eq!(body(answer).unwrap()["node_id"], "a");
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n{\"node_id\": 1}"[..],
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(body(other), None);
        }
    }
}
