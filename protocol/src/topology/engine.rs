//! What computes on a machine, as our own nodes tell each other.

use crate::json::Json;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// An engine, as it stands on the wire: `{"name", "version", "dtype", "formats"}`. It is for people;
/// nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Such as `mlx`.
    pub name: String,
    /// Of the engine, and of what it is built on.
    pub version: String,
    /// What hidden states are while it computes, such as `float32`.
    pub dtype: String,
    /// In which formats it takes weights, such as `Q4_0`.
    pub formats: Vec<String>,
}

impl EngineInfo {
    /// The most bytes that a text of it may have, all of them printable ASCII.
    pub const MOST_TEXT: usize = 64;

    /// The most formats.
    pub const MOST_FORMATS: usize = 64;

    /// The object as peers get it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let formats = self.formats.iter().map(|name| Json::from(name.as_str()));
        Json::object([
            ("name", Json::from(self.name.as_str())),
            ("version", Json::from(self.version.as_str())),
            ("dtype", Json::from(self.dtype.as_str())),
            ("formats", Json::Array(formats.collect())),
        ])
    }

    /// Reads the object; more keys than these are fine. What is malformed or beyond a limit is as
    /// good as not told: a peer is worth more than its engine's name.
    #[must_use]
    pub fn from_json(json: &Json) -> Option<Self> {
        let short = |json: &Json| {
            let shown = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
            let fits = |text: &&str| text.len() <= Self::MOST_TEXT && text.bytes().all(shown);
            json.as_str().filter(fits).map(str::to_owned)
        };
        let text = |key| json.get(key).and_then(short);
        let formats = json.get("formats")?.as_array()?;
        if formats.len() > Self::MOST_FORMATS {
            return None;
        }
        Some(Self {
            name: text("name")?,
            version: text("version")?,
            dtype: text("dtype")?,
            formats: formats.iter().map(short).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    const WHOLE: &str = r#"{"name": "mlx", "version": "1 (MLX 2)", "dtype": "float32", "formats": ["F16", "Q4_0"]}"#;

    fn read(text: &str) -> Option<EngineInfo> {
        EngineInfo::from_json(&Json::parse(text.as_bytes(), 4).expect("JSON"))
    }

    #[test]
    fn an_engine_reads_back() {
        let info = EngineInfo {
            name: "mlx".into(),
            version: "1 (MLX 2)".into(),
            dtype: "float32".into(),
            formats: vec!["F16".into(), "Q4_0".into()],
        };
        assert_eq!(read(WHOLE).as_ref(), Some(&info));
        assert_eq!(EngineInfo::from_json(&info.to_json()), Some(info));
        assert!(read(&WHOLE.replacen('{', "{\"more\": [1], ", 1)).is_some());
    }

    #[test]
    fn what_is_malformed_or_long_is_not_read() {
        let most = "x".repeat(EngineInfo::MOST_TEXT);
        assert!(read(&WHOLE.replace("mlx", &most)).is_some());
        assert_eq!(read(&WHOLE.replace("mlx", &format!("{most}x"))), None);
        assert_eq!(read(&WHOLE.replace("F16", &format!("{most}x"))), None);
        let formats = |count| WHOLE.replace("\"F16\"", &vec!["\"F16\""; count].join(", "));
        assert!(read(&formats(EngineInfo::MOST_FORMATS - 1)).is_some());
        assert_eq!(read(&formats(EngineInfo::MOST_FORMATS)), None);
        for (from, to) in [
            ("\"mlx\"", "5"),
            ("mlx", "mlx\\u001b[2J"),
            ("\"dtype\"", "\"type\""),
            ("\"Q4_0\"", "4"),
            ("[\"F16\", \"Q4_0\"]", "\"F16\""),
        ] {
            assert_eq!(read(&WHOLE.replace(from, to)), None, "{to}");
        }
        assert_eq!(read("[]"), None);
    }
}
