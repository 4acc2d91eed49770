//! One question over HTTP: whether it is spoken at all, and what a node's API says.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A status of ours is shorter.
const LONGEST: usize = 1 << 20;

/// Who speaks HTTP.
#[derive(Debug, PartialEq)]
pub(super) enum Web {
    /// A node of ours, with its status.
    Node(Value),
    /// A node of ours that wants another key.
    Locked,
    /// Somebody else.
    Other,
}

/// Asks for the status of the node whose API may be at `address`, with a key if there is one. `None`
/// is somebody who speaks no HTTP, or nobody.
pub(super) fn status(address: SocketAddr, key: Option<&str>, patience: Duration) -> Option<Web> {
    let bytes = get(address, key, patience).ok()?;
    bytes.starts_with(b"HTTP/").then(|| read(&bytes))
}

fn read(bytes: &[u8]) -> Web {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.and_then(|end| bytes.get(end + 4..)).unwrap_or_default();
    match serde_json::from_slice::<Value>(body) {
        Ok(status) if status["node_id"].is_string() => Web::Node(status),
        Ok(refusal) if refusal["error"]["code"] == "invalid_api_key" => Web::Locked,
        _ => Web::Other,
    }
}

fn get(address: SocketAddr, key: Option<&str>, patience: Duration) -> io::Result<Vec<u8>> {
    let until = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    let key = key.map_or(String::new(), |key| {
        format!("Authorization: Bearer {key}\r\n")
    });
    let request = format!(
        "GET /v1/status HTTP/1.1\r\nHost: {address}\r\nUser-Agent: exo-node doctor\r\n{key}\
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
    use serde_json::json;

    #[test]
    fn only_a_nodes_status_is_one() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"node_id\": \"a\"}";
        let node = json!({"node_id": "a"});
        assert_eq!(read(answer), Web::Node(node));
        let locked = b"HTTP/1.1 401 x\r\n\r\n{\"error\": {\"code\": \"invalid_api_key\"}}";
        assert_eq!(read(locked), Web::Locked);
        for other in [
            &b"HTTP/1.1 200 OK\r\n\r\n{\"node_id\": 1}"[..],
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"HTTP/1.1 401 x\r\n\r\n{\"error\": \"x\"}",
            b"HTTP/1.1 200 OK\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(read(other), Web::Other);
        }
    }
}
