//! How our own nodes recognise each other: an object under the key `exo` in both halves of a health
//! check, where the reference neither writes nor reads anything.

use super::StepBody;
use crate::json::Json;
use crate::tensor::DType;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// `{"version": 2, "node_id": "…", "incarnation": 5, "features": ["…"], "dtypes": ["float32"],
/// "window": 67108864, "stream_window": 8388608}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The extension's version; one that is higher than ours may be spoken to in ours.
    pub version: u32,
    /// Who speaks.
    pub node_id: String,
    /// Another one each time the node starts: what a node held before is gone. Below
    /// [`Hello::INCARNATIONS`].
    pub incarnation: u64,
    /// What it can do beyond the version's minimum; unknown names are ignored.
    pub features: Vec<String>,
    /// Types in which hidden states may come to it, preferred first, none twice; `float32` is among
    /// them.
    pub dtypes: Vec<DType>,
    /// Payload bytes of [`Step`](super::Step)s that it takes on one connection before it returns
    /// credit; not zero.
    pub window: u32,
    /// The same for one stream; not zero.
    pub stream_window: u32,
}

impl Hello {
    /// The version of the extension that this crate speaks. Version 1 was never released.
    pub const VERSION: u32 = 2;

    /// The feature of a node whose engine trains: it understands the messages of training jobs.
    pub const TRAIN: &str = "train";

    /// The feature of a node that gives out files of models: it understands their messages.
    pub const FILES: &str = "files";

    /// The feature of a node that heeds everything in a plan's `sampling`: penalties, biases,
    /// grammars, and scores, for which it sends SCORED.
    pub const SAMPLING: &str = "sampling";

    /// Incarnations are below this: every reader of JSON keeps such integers exact.
    pub const INCARNATIONS: u64 = 1 << 53;

    /// The most bytes a health request's payload may have to be looked into.
    pub const MAX_LEN: usize = 1 << 16;

    /// The hello of `node_id` in our version: incarnation zero, no features beyond the minimum,
    /// hidden states in `float32`, windows of 64 and 8 MiB.
    #[must_use]
    pub fn new(node_id: &str) -> Self {
        Self {
            version: Self::VERSION,
            node_id: node_id.to_owned(),
            incarnation: 0,
            features: Vec::new(),
            dtypes: vec![DType::F32],
            window: 64 << 20,
            stream_window: 8 << 20,
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
        let dtypes = self
            .dtypes
            .iter()
            .map(|dtype| Json::from(dtype.name()))
            .collect();
        Json::object([
            ("version", Json::from(self.version)),
            ("node_id", Json::from(self.node_id.as_str())),
            ("incarnation", Json::from(self.incarnation)),
            ("features", Json::Array(features)),
            ("dtypes", Json::Array(dtypes)),
            ("window", Json::from(self.window)),
            ("stream_window", Json::from(self.stream_window)),
        ])
    }

    /// Reads the object under the key `exo`; more keys than these are fine. Anything malformed is
    /// no hello, nor is one of a version below ours: who sends it speaks the base protocol alone.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        let number = |key| json.get(key)?.as_u64();
        let small = |key| u32::try_from(number(key)?).ok();
        let version = small("version").filter(|&version| version >= Self::VERSION)?;
        let features = texts(json, "features")?.map(|name| name.map(str::to_owned));
        let mut dtypes = Vec::new();
        for name in texts(json, "dtypes")? {
            let name = name?;
            let dtype = DType::ALL.into_iter().find(|dtype| dtype.name() == name);
            // Types that no step carries are as good as unknown, and a list that a peer can make
            // long is kept short.
            dtypes
                .extend(dtype.filter(|&dtype| StepBody::takes(dtype) && !dtypes.contains(&dtype)));
        }
        if !dtypes.contains(&DType::F32) {
            return None;
        }
        Some(Self {
            version,
            node_id: json.get("node_id")?.as_str()?.to_owned(),
            incarnation: number("incarnation").filter(|&n| n < Self::INCARNATIONS)?,
            features: features.collect::<Option<_>>()?,
            dtypes,
            window: small("window").filter(|&window| window > 0)?,
            stream_window: small("stream_window").filter(|&window| window > 0)?,
        })
    }

    /// The payload of a health request: `{"exo": {…}}`.
    #[must_use]
    pub fn to_request_payload(&self) -> Bytes {
        let mut out = Vec::new();
        Json::object([("exo", self.to_json())]).write(&mut out);
        Bytes::from(out)
    }

    /// The payload of a health request of somebody who wants to know whom it talks to and is no node
    /// itself: `{"exo": true}`. The answer is as for a hello, and nothing else comes of it.
    #[must_use]
    pub fn question() -> Bytes {
        Bytes::from_static(br#"{"exo": true}"#)
    }

    /// Whether a health request's payload is [`Hello::question`].
    #[must_use]
    pub fn is_question(payload: &Bytes) -> bool {
        // What is longer holds something else.
        payload.len() <= 64
            && Json::parse(payload, 8).is_ok_and(|json| json.get("exo") == Some(&Json::Bool(true)))
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

/// The list under a key; `None` for an item that is no text.
fn texts<'a>(json: &'a Json, key: &str) -> Option<impl Iterator<Item = Option<&'a str>>> {
    Some(json.get(key)?.as_array()?.iter().map(Json::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const WHOLE: [(&str, &str); 7] = [
        ("version", "2"),
        ("node_id", "\"a\""),
        ("incarnation", "9007199254740991"),
        ("features", "[\"x\"]"),
        ("dtypes", "[\"bfloat16\", \"float32\"]"),
        ("window", "4294967295"),
        ("stream_window", "1"),
    ];

    /// What is read of the whole hello with another value, or none, for one key.
    fn with(key: &str, value: Option<&str>) -> Option<Hello> {
        let entries: Vec<String> = WHOLE
            .iter()
            .filter(|(name, _)| *name != key || value.is_some())
            .map(|&(name, usual)| {
                let value = value.filter(|_| name == key).unwrap_or(usual);
                format!("\"{name}\": {value}")
            })
            .collect();
        let payload = format!("{{\"exo\": {{{}}}}}", entries.join(", "));
        Hello::from_request_payload(&Bytes::from(payload))
    }

    #[test]
    fn a_hello_reads_back() {
        let hello = with("", None).expect("whole");
        let expected = Hello {
            version: 2,
            node_id: "a".into(),
            incarnation: (1 << 53) - 1,
            features: vec!["x".into()],
            dtypes: vec![DType::Bf16, DType::F32],
            window: u32::MAX,
            stream_window: 1,
        };
        assert_eq!(hello, expected);
        let payload = hello.to_request_payload();
        assert_eq!(
            &payload[..],
            br#"{"exo": {"version": 2, "node_id": "a", "incarnation": 9007199254740991, "features": ["x"], "dtypes": ["bfloat16", "float32"], "window": 4294967295, "stream_window": 1}}"#
        );
        assert_eq!(Hello::from_request_payload(&payload), Some(hello));
        let usual = Hello::new("b");
        let payload = usual.to_request_payload();
        assert_eq!(Hello::from_request_payload(&payload), Some(usual));
    }

    #[test]
    fn every_key_is_needed_and_judged() {
        for (key, _) in WHOLE {
            assert_eq!(with(key, None), None, "without {key}");
            assert_eq!(with(key, Some("null")), None, "{key}");
            assert_eq!(with(key, Some("{}")), None, "{key}");
        }
        for (key, value) in [
            ("version", "-1"),
            ("version", "0"),
            ("version", "1"),
            ("version", "4294967296"),
            ("node_id", "1"),
            ("incarnation", "9007199254740992"),
            ("incarnation", "-1"),
            ("incarnation", "0.5"),
            ("features", "[1]"),
            ("dtypes", "[]"),
            ("dtypes", "[\"bfloat16\"]"),
            ("dtypes", "[\"mlx.core.float32\"]"),
            ("dtypes", "[\"float32\", 1]"),
            ("window", "0"),
            ("window", "4294967296"),
            ("stream_window", "0"),
        ] {
            assert_eq!(with(key, Some(value)), None, "{key}: {value}");
        }
    }

    #[test]
    fn what_comes_later_does_not_disturb() {
        let later = with("version", Some("9, \"more\": {}")).expect("a later version");
        assert_eq!(later.version, 9);
        let odd = r#"["float8", "float64", "int8", "float16", "float32", "float16"]"#;
        let dtypes = with("dtypes", Some(odd)).expect("float32 is there").dtypes;
        assert_eq!(dtypes, [DType::F16, DType::F32]);
    }

    #[test]
    fn a_question_is_no_hello() {
        let question = Hello::question();
        assert!(Hello::is_question(&question));
        assert_eq!(Hello::from_request_payload(&question), None);
        let other = [
            &b""[..],
            b"{}",
            br#"{"exo": false}"#,
            br#"{"exo": {}}"#,
            b"\xff",
        ];
        for payload in other {
            assert!(!Hello::is_question(&Bytes::from_static(payload)));
        }
        assert!(!Hello::is_question(&Hello::new("a").to_request_payload()));
    }

    #[test]
    fn anything_else_is_none() {
        for payload in [
            &b""[..],
            b"junk \xff",
            b"{}",
            br#"{"exo": 1}"#,
            br#"{"exo": {"version": 1, "node_id": "a", "features": []}}"#,
        ] {
            let payload = Bytes::from_static(payload);
            assert_eq!(Hello::from_request_payload(&payload), None);
        }
        let usual = Hello::new("a").to_request_payload();
        let mut long = usual.to_vec();
        long.resize(Hello::MAX_LEN, b' ');
        assert!(Hello::from_request_payload(&Bytes::from(long.clone())).is_some());
        long.push(b' ');
        assert_eq!(Hello::from_request_payload(&Bytes::from(long)), None);
    }
}
