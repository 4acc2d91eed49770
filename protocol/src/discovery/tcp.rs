//! What nodes tell each other of themselves over TCP: one object of JSON each way, no framing.
//!
//! ```json
//! {"type": "announce", "node_id": "mac2", "grpc_port": 50051,
//!  "device_capabilities": {"model": "Mac Studio", "chip": "Apple M3 Ultra", "memory": 262144,
//!      "flops": {"fp32": 54.26, "fp16": 108.52, "int8": 217.04}}}
//! ```
//!
//! Who connects speaks first and is answered with the same of the other node. A reference node takes
//! it only if it comes in one read of 4096 bytes; here it may come in pieces.

use super::announcement::{self, AnnouncementError};
use super::interface::Interface;
use crate::id::NodeId;
use crate::json::Json;
use crate::topology::Capabilities;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::Ipv4Addr;

/// The most bytes of an announcement; a real one has some hundred.
pub const MAX_LEN: usize = 16 << 10;

/// The most visitors that a driver reads at the same time. Those that come beyond them wait in the
/// system's queue.
pub const MOST_VISITORS: usize = 16;

/// The machines of a subnet that are tried when it is probed, as the reference does.
pub const PROBED: [u8; 5] = [1, 2, 10, 100, 187];

/// A node, as it announces itself over TCP.
#[derive(Clone, Debug, PartialEq)]
pub struct Announce {
    /// Its id.
    pub node: NodeId,
    /// Where it takes connections.
    pub port: u16,
    /// Its machine.
    pub capabilities: Capabilities,
}

impl Announce {
    /// Its bytes, as the reference writes them.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let json = Json::object([
            ("type", Json::from("announce")),
            ("node_id", Json::from(self.node.as_str())),
            ("grpc_port", Json::from(u32::from(self.port))),
            ("device_capabilities", self.capabilities.to_json()),
        ]);
        let mut bytes = Vec::new();
        json.write(&mut bytes);
        Bytes::from(bytes)
    }

    /// Reads what a visitor says. Unknown keys are ignored; numbers may be decimal texts.
    ///
    /// # Errors
    /// When it is no announcement; nothing of it counts then.
    pub fn decode(bytes: &[u8]) -> Result<Self, AnnouncementError> {
        let json = parse(bytes)?;
        if json.get("type").and_then(Json::as_str) != Some("announce") {
            return Err(AnnouncementError::OtherType("announce"));
        }
        Self::from_json(&json)
    }

    /// Reads what a visited node answers, whose type the reference does not look at.
    ///
    /// # Errors
    /// As [`Announce::decode`].
    pub fn decode_answer(bytes: &[u8]) -> Result<Self, AnnouncementError> {
        Self::from_json(&parse(bytes)?)
    }

    fn from_json(json: &Json) -> Result<Self, AnnouncementError> {
        Ok(Self {
            node: announcement::node(json)?,
            port: announcement::port(json)?,
            capabilities: announcement::capabilities(json)?,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Json, AnnouncementError> {
    if bytes.len() > MAX_LEN {
        return Err(AnnouncementError::TooLong(bytes.len()));
    }
    Ok(Json::parse(bytes, 8)?)
}

/// Takes an announcement in any pieces and knows when it is whole.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Objects and arrays that are open.
    depth: usize,
    in_text: bool,
    /// The next byte of a text means nothing by itself.
    escaped: bool,
    done: bool,
}

impl Reader {
    /// Takes what came; what follows the object is left out.
    ///
    /// Returns whether no more is needed: the object is closed, there is none, or it is too long.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if self.done {
                break;
            }
            self.take(byte);
        }
        self.done
    }

    fn take(&mut self, byte: u8) {
        if self.depth == 0 && byte.is_ascii_whitespace() {
            return;
        }
        self.bytes.push(byte);
        if self.escaped {
            self.escaped = false;
        } else if self.in_text {
            self.escaped = byte == b'\\';
            self.in_text = byte != b'"';
        } else {
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        // One byte more than there may be, so that too much is noticed.
        self.done = self.depth == 0 || self.bytes.len() > MAX_LEN;
    }

    /// What came, as far as it came.
    #[must_use]
    pub fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

/// Whom a probe of this machine's subnets tries.
pub fn probed(interfaces: &[Interface]) -> impl Iterator<Item = Ipv4Addr> {
    let own: Vec<Ipv4Addr> = interfaces.iter().map(|i| i.address).collect();
    let mut subnets: Vec<[u8; 3]> = Vec::new();
    for address in own.iter().filter(|address| !address.is_loopback()) {
        let [a, b, c, _] = address.octets();
        if !subnets.contains(&[a, b, c]) {
            subnets.push([a, b, c]);
        }
    }
    let hosts = subnets
        .into_iter()
        .flat_map(|[a, b, c]| PROBED.map(|host| Ipv4Addr::new(a, b, c, host)));
    hosts.filter(move |host| !own.contains(host))
}

#[cfg(test)]
mod tests;
