//! How our own nodes recognise each other: an object under the key `exo` in both halves of a health
//! check, where the reference neither writes nor reads anything.

use crate::json::Json;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

/// `{"version": 1, "node_id": "…", "features": ["…"]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The extension's version; one that is higher than ours may be spoken to in ours.
    pub version: u32,
    /// Who speaks.
    pub node_id: String,
    /// What it can do beyond the version's minimum; unknown names are ignored.
    pub features: Vec<String>,
}

impl Hello {
    /// The version of the extension that this crate speaks.
    pub const VERSION: u32 = 1;

    /// The most bytes a health request's payload may have to be looked into.
    pub const MAX_LEN: usize = 1 << 16;

    /// The hello of `node_id` in our version, without features beyond its minimum.
    #[must_use]
    pub fn new(node_id: &str) -> Self {
        Self {
            version: Self::VERSION,
            node_id: node_id.to_owned(),
            features: Vec::new(),
        }
    }

    /// The object, to stand under the key `exo`.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let features = self
            .features
            .iter()
            .map(|name| Json::from(name.as_str()))
            .collect();
        Json::object([
            ("version", Json::from(self.version)),
            ("node_id", Json::from(self.node_id.as_str())),
            ("features", Json::Array(features)),
        ])
    }

    /// Reads the object under the key `exo`; more keys than these are fine, anything malformed is
    /// no hello.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        let version = u32::try_from(json.get("version")?.as_u64()?).ok()?;
        let node_id = json.get("node_id")?.as_str()?.to_owned();
        let features = json.get("features")?.as_array()?;
        let features = features
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<_>>()?;
        Some(Self {
            version,
            node_id,
            features,
        })
    }

    /// The payload of a health request: `{"exo": {…}}`.
    #[must_use]
    pub fn to_request_payload(&self) -> Bytes {
        let mut out = Vec::new();
        Json::object([("exo", self.to_json())]).write(&mut out);
        Bytes::from(out)
    }

    /// What a health request's payload says. A reference node sends none and tolerates any, so
    /// whatever is not a hello is nothing, never an error.
    #[must_use]
    pub fn from_request_payload(payload: &Bytes) -> Option<Self> {
        if payload.len() > Self::MAX_LEN {
            return None;
        }
        Self::from_json(Json::parse(payload, 8).ok()?.get("exo")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_hello_reads_back() {
        let hello = Hello {
            version: 1,
            node_id: "a".into(),
            features: vec!["ring".into()],
        };
        let payload = hello.to_request_payload();
        assert_eq!(
            &payload[..],
            br#"{"exo": {"version": 1, "node_id": "a", "features": ["ring"]}}"#
        );
        assert_eq!(Hello::from_request_payload(&payload), Some(hello));
    }

    #[test]
    fn anything_else_is_none() {
        for payload in [
            &b""[..],
            b"junk \xff",
            b"{}",
            br#"{"exo": 1}"#,
            br#"{"exo": {"version": -1, "node_id": "a", "features": []}}"#,
            br#"{"exo": {"version": 1, "node_id": "a", "features": [1]}}"#,
            br#"{"exo": {"version": 1, "features": []}}"#,
        ] {
            assert_eq!(
                Hello::from_request_payload(&Bytes::copy_from_slice(payload)),
                None
            );
        }
        let more = br#"{"exo": {"version": 9, "node_id": "a", "features": [], "x": 1}, "y": 2}"#;
        assert!(Hello::from_request_payload(&Bytes::from_static(more)).is_some());
    }
}
