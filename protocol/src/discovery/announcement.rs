//! What nodes broadcast of themselves: one datagram of JSON for each interface.
//!
//! ```json
//! {"type": "discovery", "node_id": "mac2", "grpc_port": 50051,
//!  "device_capabilities": {"model": "Mac Studio", "chip": "Apple M3 Ultra", "memory": 262144,
//!      "flops": {"fp32": 54.26, "fp16": 108.52, "int8": 217.04}},
//!  "priority": 4, "interface_name": "eth0", "interface_type": "Ethernet"}
//! ```
//!
//! `grpc_port` is the port for other nodes; its name is the reference's, as is all the rest.

use super::interface;
use crate::id::{NodeId, is_printable};
use crate::json::{Json, JsonError};
use crate::topology::{Capabilities, CapabilitiesError, integer};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// The most bytes a datagram is looked into; a real one has some hundred.
pub const MAX_LEN: usize = 8192;

/// The most bytes of the name or the type of an interface.
pub const MAX_NAME: usize = 256;

/// A node, as it announces itself over one interface.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Its id.
    pub node: NodeId,
    /// Where it takes connections.
    pub port: u16,
    /// Its machine.
    pub capabilities: Capabilities,
    /// How good the way over this interface is; see [`interface::kind`].
    pub priority: i64,
    /// The interface's name there.
    pub interface: String,
    /// The interface's type, such as `Ethernet`.
    pub kind: String,
}

/// Why a datagram is no announcement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    /// It is longer than [`MAX_LEN`].
    #[error("it has {0} bytes, at most {MAX_LEN} are read")]
    TooLong(usize),
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Json(#[from] JsonError),
    /// It is of another type.
    #[error("its type is not {0:?}")]
    OtherType(&'static str),
    /// A key is missing or not what it must be.
    #[error("its {key:?} is missing or is not {expected}")]
    Field {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The capabilities are none.
    #[error("its device_capabilities: {0}")]
    Capabilities(#[from] CapabilitiesError),
}

impl Announcement {
    /// The announcement of a node over the interface of this name.
    #[must_use]
    pub fn over(name: &str, node: NodeId, port: u16, capabilities: Capabilities) -> Self {
        let (priority, kind) = interface::kind(name);
        Self {
            node,
            port,
            capabilities,
            priority,
            interface: name.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// The datagram, byte for byte as the reference writes it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let json = Json::object([
            ("type", Json::from("discovery")),
            ("node_id", Json::from(self.node.as_str())),
            ("grpc_port", Json::from(u32::from(self.port))),
            ("device_capabilities", self.capabilities.to_json()),
            ("priority", Json::from(self.priority)),
            ("interface_name", Json::from(self.interface.as_str())),
            ("interface_type", Json::from(self.kind.as_str())),
        ]);
        let mut bytes = Vec::new();
        json.write(&mut bytes);
        Bytes::from(bytes)
    }

    /// Reads a datagram. Unknown keys are ignored; numbers may be decimal texts, as for the
    /// reference.
    ///
    /// # Errors
    /// When it is no announcement; nothing of it counts then.
    pub fn decode(datagram: &[u8]) -> Result<Self, AnnouncementError> {
        if datagram.len() > MAX_LEN {
            return Err(AnnouncementError::TooLong(datagram.len()));
        }
        let json = Json::parse(datagram, 8)?;
        if json.get("type").and_then(Json::as_str) != Some("discovery") {
            return Err(AnnouncementError::OtherType("discovery"));
        }
        let text = |key| {
            let text = json.get(key).and_then(Json::as_str);
            text.filter(|text| text.len() <= MAX_NAME && is_printable(text))
                .map(ToOwned::to_owned)
                .ok_or(AnnouncementError::Field {
                    key,
                    expected: "a text of at most 256 bytes that can be printed",
                })
        };
        let priority = json.get("priority").and_then(integer);
        Ok(Self {
            node: node(&json)?,
            port: port(&json)?,
            capabilities: capabilities(&json)?,
            priority: priority.ok_or(AnnouncementError::Field {
                key: "priority",
                expected: "an integer",
            })?,
            interface: text("interface_name")?,
            kind: text("interface_type")?,
        })
    }

    /// The label of the edge to it: `Ethernet (eth0)`.
    #[must_use]
    pub fn description(&self) -> String {
        alloc::format!("{} ({})", self.kind, self.interface)
    }
}

/// Who announces itself.
pub(super) fn node(json: &Json) -> Result<NodeId, AnnouncementError> {
    let node = json.get("node_id").and_then(Json::as_str);
    node.filter(|node| NodeId::is_fit(node))
        .map(NodeId::from)
        .ok_or(AnnouncementError::Field {
            key: "node_id",
            expected: "a text of 1 to 256 bytes that can be printed",
        })
}

/// Where it takes connections.
pub(super) fn port(json: &Json) -> Result<u16, AnnouncementError> {
    let port = json.get("grpc_port").and_then(integer);
    port.and_then(|port| u16::try_from(port).ok())
        .filter(|&port| port > 0)
        .ok_or(AnnouncementError::Field {
            key: "grpc_port",
            expected: "a port from 1 to 65535",
        })
}

/// Its machine.
pub(super) fn capabilities(json: &Json) -> Result<Capabilities, AnnouncementError> {
    let machine = json.get("device_capabilities").unwrap_or(&Json::Null);
    Ok(Capabilities::from_json(machine)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn announcement() -> Announcement {
        Announcement::over("eth0", "a".into(), 50_051, Capabilities::unknown())
    }

    #[test]
    fn it_reads_back() {
        let written = announcement();
        assert_eq!(Announcement::decode(&written.encode()), Ok(written.clone()));
        assert_eq!((written.priority, written.kind.as_str()), (4, "Ethernet"));
        assert_eq!(written.description(), "Ethernet (eth0)");
    }

    #[test]
    fn what_is_none_says_why() {
        let text = announcement().encode();
        let text = core::str::from_utf8(&text).expect("it is JSON");
        for (from, to, reason) in [
            ("50051", "0", "\"grpc_port\""),
            ("50051", "65536", "\"grpc_port\""),
            ("50051", "-1", "\"grpc_port\""),
            ("\"a\"", "\"\"", "\"node_id\""),
            ("\"a\"", "7", "\"node_id\""),
            ("\"a\"", "\"\\u001b[2J\"", "\"node_id\""),
            ("\"a\"", "\"\\u202ea\"", "\"node_id\""),
            ("\"eth0\"", "\"eth\\n0\"", "\"interface_name\""),
            ("\"discovery\"", "\"announce\"", "type"),
            ("\"chip\"", "\"chop\"", "chip"),
            ("\"priority\": 4", "\"priority\": []", "\"priority\""),
            ("}", "", "JSON"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text, "{from}");
            let error = Announcement::decode(bad.as_bytes()).expect_err(&bad);
            assert!(error.to_string().contains(reason), "{bad}: {error}");
        }
        let long = vec![b' '; MAX_LEN + 1];
        let error = Announcement::decode(&long);
        assert_eq!(error, Err(AnnouncementError::TooLong(MAX_LEN + 1)));
        let name = "x".repeat(MAX_NAME + 1);
        let bad = text.replace("\"a\"", &alloc::format!("{name:?}"));
        assert!(Announcement::decode(bad.as_bytes()).is_err());
    }
}
