//! Discovery in a tailnet: what the `tailscale` program and Tailscale's API say of its devices.
//!
//! A device carries what its node says of itself as attributes, whose names and values are the
//! reference's. A value holds letters, digits, `_` and `.` alone, so an id is written in them.

mod watch;

pub use watch::{Ask, MOST_DEVICES, News, Step, Watch};

use super::address::in_range;
use crate::id::NodeId;
use crate::json::{Json, JsonError};
use crate::topology::{Capabilities, Flops, integer};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

/// The most bytes of an answer: some hundred devices with all that is told of them.
pub const MAX_LEN: usize = 4 << 20;

/// A device counts as there when it was seen within this many seconds, as for the reference.
pub const ACTIVE_SECONDS: i64 = 30;

/// How long the reference lets model and chip be.
const MOST_NAME: usize = 50;

const NODE: &str = "custom:exo_node_id";
const PORT: &str = "custom:exo_node_port";
const CHIP: &str = "custom:exo_device_capability_chip";
const MODEL: &str = "custom:exo_device_capability_model";
const MEMORY: &str = "custom:exo_device_capability_memory";
const FP16: &str = "custom:exo_device_capability_flops_fp16";
const FP32: &str = "custom:exo_device_capability_flops_fp32";
const INT8: &str = "custom:exo_device_capability_flops_int8";

/// Why an answer says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailscaleError {
    /// It is longer than [`MAX_LEN`].
    #[error("it has {0} bytes, at most {MAX_LEN} are read")]
    TooLong(usize),
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    Json(#[from] JsonError),
    /// A key is missing or not what it must be.
    #[error("its {key:?} is missing or is not {expected}")]
    Field {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// This machine is in no tailnet right now.
    #[error("this machine is not connected to a tailnet ({0}); run `tailscale up`")]
    NotConnected(String),
}

/// A device of the tailnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// The other id that the API has for it.
    pub stable: Option<String>,
    /// Its first address.
    pub address: IpAddr,
    /// It is connected, as far as is known.
    pub active: bool,
}

/// What `tailscale status --json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This machine's id.
    pub own: String,
    /// All the others.
    pub peers: Vec<Device>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes {
    /// Its id.
    pub node: NodeId,
    /// Where it takes connections.
    pub port: u16,
    /// Its machine.
    pub capabilities: Capabilities,
}

fn parse(bytes: &[u8]) -> Result<Json, TailscaleError> {
    if bytes.len() > MAX_LEN {
        return Err(TailscaleError::TooLong(bytes.len()));
    }
    Ok(Json::parse(bytes, 32)?)
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    let text = json.get(key).and_then(Json::as_str);
    text.filter(|text| NodeId::is_fit(text))
}

fn address(json: &Json, key: &str) -> Option<IpAddr> {
    let first = json.get(key)?.as_array()?.first()?;
    first.as_str()?.parse().ok()
}

/// Reads what `tailscale status --json` prints. Peers without an address are left out.
///
/// # Errors
/// When it says nothing of this machine, or that it is not connected.
pub fn status(bytes: &[u8]) -> Result<Status, TailscaleError> {
    let json = parse(bytes)?;
    if let Some(state) = text(&json, "BackendState").filter(|state| *state != "Running") {
        return Err(TailscaleError::NotConnected(state.to_owned()));
    }
    let own = json.get("Self").and_then(|own| text(own, "ID"));
    let own = own.ok_or(TailscaleError::Field {
        key: "Self.ID",
        expected: "a device's id",
    })?;
    let peers = json.get("Peer").and_then(Json::as_object).unwrap_or(&[]);
    let peer = |(_, peer): &(String, Json)| {
        Some(Device {
            id: text(peer, "ID")?.to_owned(),
            stable: None,
            address: address(peer, "TailscaleIPs")?,
            active: peer.get("Online").and_then(Json::as_bool) == Some(true),
        })
    };
    Ok(Status {
        own: own.to_owned(),
        peers: peers.iter().filter_map(peer).collect(),
    })
}

/// Reads the API's list of devices. Those without an address are left out.
///
/// `now` is the time in seconds since 1970.
///
/// # Errors
/// When there is no list.
pub fn devices(bytes: &[u8], now: i64) -> Result<Vec<Device>, TailscaleError> {
    let json = parse(bytes)?;
    let devices = json.get("devices").and_then(Json::as_array);
    let devices = devices.ok_or(TailscaleError::Field {
        key: "devices",
        expected: "a list",
    })?;
    let device = |device: &Json| {
        let seen = device.get("lastSeen").and_then(Json::as_str);
        let seen = seen.and_then(seconds);
        Some(Device {
            id: text(device, "id")?.to_owned(),
            stable: text(device, "nodeId").map(ToOwned::to_owned),
            address: address(device, "addresses")?,
            active: seen.is_some_and(|seen| now.saturating_sub(seen) < ACTIVE_SECONDS),
        })
    };
    Ok(devices.iter().filter_map(device).collect())
}

/// Seconds since 1970 of a time such as `2025-03-01T12:00:00Z`.
fn seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let numbers = |text: &str, separator| -> Option<[i64; 3]> {
        let number = |part: &str| part.parse::<u16>().ok().map(i64::from);
        let parts: Option<Vec<i64>> = text.split(separator).map(number).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads the API's attributes of a device; nothing if no node is there.
///
/// # Errors
/// When there are none, or what stands there of a node cannot be.
pub fn attributes(bytes: &[u8]) -> Result<Option<Attributes>, TailscaleError> {
    let json = parse(bytes)?;
    let wrong = |key, expected| TailscaleError::Field { key, expected };
    let all = json.get("attributes");
    let all = all.ok_or(wrong("attributes", "an object"))?;
    let Some(node) = all.get(NODE).and_then(Json::as_str) else {
        return Ok(None);
    };
    if node.is_empty() {
        return Ok(None);
    }
    let node = decode(node).filter(|node| NodeId::is_fit(node));
    let port = all.get(PORT).and_then(integer).and_then(in_range);
    let name = |key, unknown: String| {
        let name = all.get(key).and_then(Json::as_str);
        name.filter(|name| NodeId::is_fit(name))
            .map_or(unknown, |name| name.replace('_', " "))
    };
    let rate = |key| {
        let rate = match all.get(key) {
            Some(Json::String(text)) => text.parse().ok(),
            other => other.and_then(Json::as_f64),
        };
        rate.filter(|rate: &f64| rate.is_finite()).unwrap_or(0.0)
    };
    let unknown = Capabilities::unknown();
    Ok(Some(Attributes {
        node: node
            .ok_or(wrong(NODE, "an id that can be printed"))?
            .as_str()
            .into(),
        port: port.ok_or(wrong(PORT, "a port from 1 to 65535"))?,
        capabilities: Capabilities {
            model: name(MODEL, unknown.model),
            chip: name(CHIP, unknown.chip),
            memory: all.get(MEMORY).and_then(integer).unwrap_or(0),
            flops: Flops {
                fp32: rate(FP32),
                fp16: rate(FP16),
                int8: rate(INT8),
            },
            engine: None,
            speed: None,
        },
    }))
}

impl Attributes {
    /// Their names and values, as the reference writes them.
    #[must_use]
    pub fn encode(&self) -> Vec<(&'static str, String)> {
        let machine = &self.capabilities;
        Vec::from([
            (NODE, encode(&self.node)),
            (PORT, self.port.to_string()),
            (CHIP, clean(&machine.chip)),
            (MODEL, clean(&machine.model)),
            (MEMORY, machine.memory.to_string()),
            (FP16, machine.flops.fp16.to_string()),
            (FP32, machine.flops.fp32.to_string()),
            (INT8, machine.flops.int8.to_string()),
        ])
    }
}

/// A name with what a value may hold alone.
fn clean(name: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => letter,
        _ => '_',
    };
    name.chars().map(letter).take(MOST_NAME).collect()
}

/// An id with what a value may hold alone. The reference writes `-` as `_` and leaves everything
/// else; what it could not read back, an underscore first of all, is `..` and two digits here.
fn encode(id: &str) -> String {
    let bytes = id.as_bytes();
    let mut out = String::new();
    for (index, &byte) in bytes.iter().enumerate() {
        let dot = |index: Option<usize>| index.and_then(|i| bytes.get(i)) == Some(&b'.');
        let lonely = !dot(index.checked_sub(1)) && !dot(Some(index + 1));
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            b'-' => out.push('_'),
            b'.' if lonely => out.push('.'),
            _ => out.push_str(&format!("..{byte:02x}")),
        }
    }
    out
}

/// The id that was written so.
fn decode(value: &str) -> Option<String> {
    let (mut out, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        if let [b'.', b'.', high, low, behind @ ..] = rest
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push(u8::try_from(high << 4 | low).ok()?);
            rest = behind;
            continue;
        }
        out.push(if byte == b'_' { b'-' } else { byte });
        rest = tail;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests;
