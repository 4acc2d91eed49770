//! How far a node is with a download: the document `download_progress` in a SEND_OPAQUE_STATUS.
//!
//! The keys are the reference's, so that its nodes show our downloads and ours show theirs. It has
//! no word for a download that came to nothing, and refuses keys that it does not know inside
//! `progress`; such a word of ours stands beside it, under the key `exo`.

use crate::id::NodeId;
use crate::json::Json;
use crate::shard::Shard;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// The value of `type`.
const KIND: &str = "download_progress";

/// A document that is longer is not looked into: the reference's name every file of a model, some
/// 300 bytes for each.
const MOST_TEXT: usize = 1 << 18;

/// Containers around the innermost value: the reference has four.
const DEPTH: usize = 8;

/// Bytes of a model's name.
const MOST_NAME: usize = 200;

/// Bytes of a reason.
const MOST_REASON: usize = 400;

/// How far a node is with the files of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// What of which model. Without layers (`layers` is zero) when the node does not know yet how
    /// many the model has: it fetches all of it.
    pub shard: Shard,
    /// What it is at.
    pub state: DownloadState,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all; zero while nobody knows.
    pub total: u64,
    /// Bytes per second right now; zero while nothing comes.
    pub speed: u64,
}

/// What a [`Download`] is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownloadState {
    /// It waits for its turn, or files come.
    Coming,
    /// All is there.
    Here,
    /// Somebody stopped it.
    Stopped,
    /// It cannot go on, and why, for people.
    Failed(String),
}

impl Download {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state != DownloadState::Coming
    }

    /// Seconds that are left at this speed; `None` while nobody can know.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        let left = self.total.checked_sub(self.done)?;
        left.checked_div(self.speed)
    }

    /// The reference's progress event, without the single files: `{"shard", "repo_id", …}`.
    #[must_use]
    pub fn to_progress(&self) -> Json {
        let number = Json::from;
        let Shard {
            model,
            start,
            end,
            layers,
        } = &self.shard;
        let name = || Json::from(model.as_str());
        let shard = Json::object([
            ("model_id", name()),
            ("start_layer", Json::from(*start)),
            ("end_layer", Json::from(*end)),
            ("n_layers", Json::from(*layers)),
        ]);
        let status = match self.state {
            DownloadState::Coming => "in_progress",
            DownloadState::Here => "complete",
            DownloadState::Stopped | DownloadState::Failed(_) => "not_started",
        };
        let eta = self.seconds_left().unwrap_or(0);
        Json::object([
            ("shard", shard),
            ("repo_id", name()),
            ("repo_revision", Json::from("main")),
            ("completed_files", Json::from(0_u32)),
            ("total_files", Json::from(0_u32)),
            ("downloaded_bytes", number(self.done)),
            ("downloaded_bytes_this_session", number(self.done)),
            ("total_bytes", number(self.total)),
            ("overall_speed", Json::Float(self.speed as f64)),
            ("overall_eta", Json::Float(eta as f64)),
            ("file_progress", Json::Object(Vec::new())),
            ("status", Json::from(status)),
        ])
    }

    /// The whole document of `node`, as the text that stands in a SEND_OPAQUE_STATUS.
    #[must_use]
    pub fn to_status(&self, node: &NodeId) -> String {
        let mut document = alloc::vec![
            ("type", Json::from(KIND)),
            ("node_id", Json::from(node.as_str())),
            ("progress", self.to_progress()),
        ];
        let word = match &self.state {
            DownloadState::Coming | DownloadState::Here => None,
            DownloadState::Stopped => Some(Json::object([("stopped", Json::Bool(true))])),
            DownloadState::Failed(why) => {
                let why = Json::from(short(why, MOST_REASON));
                Some(Json::object([("failed", why)]))
            }
        };
        document.extend(word.map(|word| ("exo", word)));
        let mut text = Vec::new();
        Json::object(document).write(&mut text);
        // All that is not printable ASCII was escaped.
        String::from_utf8(text).unwrap_or_default()
    }

    /// Reads such a text: whose it is, as it says, and how far that node is. Anything else that is
    /// told in the same way, and anything malformed, is none.
    #[must_use]
    pub fn from_status(text: &str) -> Option<(NodeId, Self)> {
        // Most of what is told so is about prompts, with all of their text.
        if text.len() > MOST_TEXT || !text.contains(KIND) {
            return None;
        }
        let document = Json::parse(text.as_bytes(), DEPTH).ok()?;
        if document.get("type")?.as_str()? != KIND {
            return None;
        }
        let node = document.get("node_id")?.as_str()?;
        let progress = document.get("progress")?;
        let bytes = |key| progress.get(key).and_then(whole).unwrap_or(0);
        let shard = progress.get("shard")?;
        let layer = |key| u32::try_from(shard.get(key)?.as_u64()?).ok();
        let model = shard.get("model_id").and_then(Json::as_str);
        let model = model.or_else(|| progress.get("repo_id")?.as_str())?;
        if model.len() > MOST_NAME || !NodeId::is_fit(node) {
            return None;
        }
        let word = document.get("exo");
        let failed = word.and_then(|word| word.get("failed")?.as_str());
        let stopped = word.and_then(|word| word.get("stopped")?.as_bool());
        let state = match (failed, stopped, progress.get("status")?.as_str()?) {
            (Some(why), ..) => DownloadState::Failed(short(why, MOST_REASON).to_owned()),
            (None, Some(true), _) => DownloadState::Stopped,
            (.., "in_progress") => DownloadState::Coming,
            (.., "complete") => DownloadState::Here,
            // No file is active just now: the reference says so between two of them, and of what
            // it has not begun.
            (.., "not_started") if bytes("downloaded_bytes") > 0 => DownloadState::Coming,
            _ => return None,
        };
        let download = Self {
            shard: Shard {
                model: model.into(),
                start: layer("start_layer").unwrap_or(0),
                end: layer("end_layer").unwrap_or(0),
                layers: layer("n_layers").unwrap_or(0),
            },
            state,
            done: bytes("downloaded_bytes"),
            total: bytes("total_bytes"),
            speed: bytes("overall_speed"),
        };
        Some((node.into(), download))
    }
}

/// A number of bytes, which the reference may write with a fraction.
fn whole(json: &Json) -> Option<u64> {
    let rounded = || json.as_f64().map(|number| number as u64);
    json.as_u64().or_else(rounded)
}

/// The beginning of a text, of so many bytes at most.
fn short(text: &str, most: usize) -> &str {
    let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn download(state: DownloadState) -> Download {
        Download {
            shard: Shard {
                model: "me/tiny".into(),
                start: 4,
                end: 7,
                layers: 8,
            },
            state,
            done: 1_500,
            total: 4_500,
            speed: 100,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let node = NodeId::from("node-1");
        for state in [
            DownloadState::Coming,
            DownloadState::Here,
            DownloadState::Stopped,
            DownloadState::Failed("no \"space\"\n".into()),
        ] {
            let download = download(state);
            let text = download.to_status(&node);
            assert_eq!(Download::from_status(&text), Some((node.clone(), download)));
        }
    }

    #[test]
    fn the_words_are_the_references() {
        let text = download(DownloadState::Coming).to_status(&"a".into());
        let wanted = concat!(
            r#"{"type": "download_progress", "node_id": "a", "progress": {"shard": {"model_id": "#,
            r#""me/tiny", "start_layer": 4, "end_layer": 7, "n_layers": 8}, "repo_id": "me/tiny", "#,
            r#""repo_revision": "main", "completed_files": 0, "total_files": 0, "#,
            r#""downloaded_bytes": 1500, "downloaded_bytes_this_session": 1500, "#,
            r#""total_bytes": 4500, "overall_speed": 100.0, "overall_eta": 30.0, "#,
            r#""file_progress": {}, "status": "in_progress"}}"#,
        );
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_it_is_not_is_not_read() {
        let good = download(DownloadState::Coming).to_status(&"a".into());
        assert!(Download::from_status(&good).is_some());
        for (what, other) in [
            ("download_progress\"", "node_status\""),
            ("\"in_progress\"", "\"download_progress\""),
            ("\"in_progress\"", "7"),
            ("\"node_id\": \"a\"", "\"node_id\": \"a\\u0007\""),
            ("\"node_id\": \"a\"", "\"node_id\": null"),
            ("\"progress\": {", "\"progress\": ["),
        ] {
            let text = good.replace(what, other);
            assert_ne!(text, good);
            assert_eq!(Download::from_status(&text), None, "{text}");
        }
        let long = good.replace("me/tiny", &"x".repeat(MOST_NAME + 1));
        assert_eq!(Download::from_status(&long), None);
        let padded = format!("{good}{}", " ".repeat(MOST_TEXT));
        assert_eq!(Download::from_status(&padded), None);
        // Whatever the numbers are, they are no reason to fail.
        let odd = good.replace("4500", "-1.5").replace("100.0", "1e300");
        let (_, read) = Download::from_status(&odd).expect("still one");
        assert_eq!((read.total, read.speed), (0, u64::MAX));
        assert_eq!(read.seconds_left(), None);
    }

    #[test]
    fn reasons_end_at_a_letter() {
        let why = "ü".repeat(MOST_REASON);
        let text = download(DownloadState::Failed(why)).to_status(&"a".into());
        let (_, read) = Download::from_status(&text).expect("it is one");
        let DownloadState::Failed(why) = read.state else {
            panic!("{read:?}")
        };
        assert_eq!(why, "ü".repeat(MOST_REASON / 2));
    }
}
