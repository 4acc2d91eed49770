//! The peer list that an operator writes by hand.
//!
//! ```json
//! {"peers": {"mac2": {"address": "192.168.1.5", "port": 50051,
//!     "device_capabilities": {"model": "Mac Studio", "chip": "Apple M3 Ultra", "memory": 262144,
//!         "flops": {"fp32": 54.26, "fp16": 108.52, "int8": 217.04}}}}}
//! ```
//!
//! The reference implementation wants all of these keys, and the reading node's own entry among the
//! peers. Its own documents and scripts write shorter files that it refuses; all of them are read
//! here: `address` may hold the port, capabilities may be missing or partial (the peer tells its
//! own once it is connected), the own entry may be missing or present.

use super::address;
use crate::id::NodeId;
use crate::json::{Json, JsonError};
use crate::topology::{Capabilities, integer};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The most bytes a file may have: room for every peer with all its capabilities.
pub const MAX_LEN: usize = 1 << 20;

/// The most peers a file may list.
pub const MAX_PEERS: usize = 4096;

const EXAMPLE: &str = r#"{"peers": {"mac2": {"address": "192.168.1.5", "port": 50051}}}"#;

/// One entry of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ManualPeer {
    /// The peer's node id: the entry's key.
    pub id: NodeId,
    /// `host:port`; an IPv6 address stands in brackets.
    pub address: String,
    /// What the file says of the machine, if it says anything; what it leaves out is unknown.
    pub capabilities: Option<Capabilities>,
}

/// Why a file is no peer list. One line that names the peer, the field, what was expected and an
/// example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManualError {
    /// More bytes than [`MAX_LEN`].
    #[error("the file has {0} bytes, the limit is {MAX_LEN}")]
    TooLarge(usize),
    /// More peers than [`MAX_PEERS`].
    #[error("the file lists {0} peers, the limit is {MAX_PEERS}")]
    TooManyPeers(usize),
    /// Not JSON.
    #[error("not JSON: {0}; expected a file such as {EXAMPLE}")]
    Json(JsonError),
    /// JSON, but no peer list.
    #[error("{0}; expected a file such as {EXAMPLE}")]
    List(String),
    /// An entry that is no peer.
    #[error(
        "peer {peer:?}: {problem}; expected an entry such as \"address\": \"192.168.1.5\", \"port\": 50051"
    )]
    Peer {
        /// Its id.
        peer: String,
        /// The field and what is wrong with it.
        problem: String,
    },
}

/// Reads a peer list. Unknown keys are ignored at every level, a byte-order mark is skipped.
///
/// # Errors
/// The first problem; a file with one bad entry is bad as a whole, so that a typing error does not
/// silently shrink the ring.
pub fn parse(bytes: &[u8]) -> Result<Vec<ManualPeer>, ManualError> {
    if bytes.len() > MAX_LEN {
        return Err(ManualError::TooLarge(bytes.len()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let json = Json::parse_keeping_twins(bytes, 32).map_err(ManualError::Json)?;
    let Some(file) = json.as_object() else {
        return Err(ManualError::List(format!(
            "expected an object, got {}",
            json.kind()
        )));
    };
    let peers = match only(file, "peers").map_err(ManualError::List)? {
        Some(Json::Object(peers)) => peers,
        Some(other) => {
            let got = other.kind();
            return Err(ManualError::List(format!(
                "\"peers\" must be an object, got {got}"
            )));
        }
        None => return Err(ManualError::List("key \"peers\" is missing".to_owned())),
    };
    if peers.len() > MAX_PEERS {
        return Err(ManualError::TooManyPeers(peers.len()));
    }
    let mut seen = BTreeSet::new();
    peers
        .iter()
        .map(|(id, entry)| {
            let peer = if seen.insert(id) {
                peer(id, entry)
            } else {
                Err("listed twice".to_owned())
            };
            peer.map_err(|problem| ManualError::Peer {
                peer: id.chars().take(64).collect(),
                problem,
            })
        })
        .collect()
}

fn peer(id: &str, entry: &Json) -> Result<ManualPeer, String> {
    if !NodeId::is_fit(id) {
        let most = NodeId::MOST;
        return Err(format!(
            "its id, the key of its entry, must have 1 to {most} bytes that can be printed"
        ));
    }
    let Some(fields) = entry.as_object() else {
        return Err(format!("expected an object, got {}", entry.kind()));
    };
    let address = match only(fields, "address")? {
        Some(Json::String(text)) => text.trim(),
        Some(other) => return Err(format!("\"address\" must be a text, got {}", other.kind())),
        None => return Err("\"address\" is missing".to_owned()),
    };
    let explicit = match only(fields, "port")? {
        None | Some(Json::Null) => None,
        Some(value) => Some(port(value)?),
    };
    let (host, embedded) =
        address::split(address).map_err(|error| format!("\"address\" {error}"))?;
    let port = match (explicit, embedded) {
        (Some(explicit), Some(embedded)) if explicit != embedded => {
            return Err(format!(
                "\"address\" says port {embedded} and \"port\" says {explicit}; keep one"
            ));
        }
        (Some(port), _) | (None, Some(port)) => port,
        (None, None) => return Err("\"port\" is missing and \"address\" holds none".to_owned()),
    };
    let capabilities = match only(fields, "device_capabilities")? {
        None | Some(Json::Null) => None,
        Some(json) => Some(
            Capabilities::from_partial_json(json)
                .map_err(|error| format!("\"device_capabilities\": {error}"))?,
        ),
    };
    Ok(ManualPeer {
        id: NodeId::from(id),
        address: format!("{host}:{port}"),
        capabilities,
    })
}

/// The value of a key that may stand once.
fn only<'a>(fields: &'a [(String, Json)], key: &str) -> Result<Option<&'a Json>, String> {
    let mut found = fields.iter().filter(|(name, _)| name == key);
    let value = found.next().map(|(_, value)| value);
    if found.next().is_some() {
        return Err(format!("{key:?} stands there twice"));
    }
    Ok(value)
}

fn port(json: &Json) -> Result<u16, String> {
    integer(json).and_then(address::in_range).ok_or_else(|| {
        let got = match json {
            Json::Int(value) => value.to_string(),
            Json::String(text) => format!("{:?}", address::shown(text)),
            other => other.kind().to_owned(),
        };
        format!("\"port\" must be a number from 1 to 65535, got {got}")
    })
}

#[cfg(test)]
mod tests;
