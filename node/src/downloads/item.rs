//! How far one download is, and how that is said.

use exo_models::hub::{HubError, Size};
use exo_protocol::Shard;
use exo_protocol::wire::{self, Download};
use std::sync::Arc;
use std::time::Duration;

/// How far a download is.
#[derive(Clone, Debug)]
pub struct Item {
    /// What tells it from others.
    pub number: u64,
    /// The model, as it was asked for.
    pub model: String,
    /// Which of its layers; none in all (`layers` is zero) when it is all of the model, or only what
    /// tells what the model is.
    pub shard: Shard,
    /// What it is at.
    pub state: DownloadState,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes in all, as far as known.
    pub total: u64,
    /// Bytes in a second.
    pub speed: Option<f64>,
    /// The time that is left at this speed.
    pub left: Option<Duration>,
    /// Why it failed.
    pub error: Option<Arc<HubError>>,
}

/// What a download is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadState {
    /// It waits for its turn, or files come.
    Downloading,
    /// All is here.
    Done,
    /// It cannot go on.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl DownloadState {
    /// The word for it in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What a node of the ring said that its download is at.
    #[must_use]
    pub fn of(state: &wire::DownloadState) -> Self {
        match state {
            wire::DownloadState::Coming => Self::Downloading,
            wire::DownloadState::Here => Self::Done,
            wire::DownloadState::Stopped => Self::Cancelled,
            wire::DownloadState::Failed(_) => Self::Failed,
        }
    }
}

/// All layers of a model of which nobody has to know how many it has.
pub(super) fn whole(model: &str) -> Shard {
    Shard {
        model: model.into(),
        start: 0,
        end: 0,
        layers: 0,
    }
}

impl Item {
    /// Whether nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state != DownloadState::Downloading
    }

    /// How far it is, for people: `1.2 GB of 4.9 GB, 2 min left`.
    #[must_use]
    pub fn words(&self) -> String {
        let speed = self.speed.map(|speed| speed as u64);
        how_far((self.bytes, self.total), speed, self.left)
    }

    /// The same for the ring.
    #[must_use]
    pub fn to_ring(&self) -> Download {
        let why = || self.error.as_ref().map(|error| error.to_string());
        Download {
            shard: self.shard.clone(),
            state: match self.state {
                DownloadState::Downloading => wire::DownloadState::Coming,
                DownloadState::Done => wire::DownloadState::Here,
                DownloadState::Cancelled => wire::DownloadState::Stopped,
                DownloadState::Failed => wire::DownloadState::Failed(why().unwrap_or_default()),
            },
            done: self.bytes,
            total: self.total,
            speed: self.speed.map_or(0, |speed| speed as u64),
        }
    }
}

/// The same of what a node of the ring told.
#[must_use]
pub fn told_far(download: &Download) -> String {
    let left = download.seconds_left().map(Duration::from_secs);
    let speed = Some(download.speed).filter(|&speed| speed > 0);
    how_far((download.done, download.total), speed, left)
}

/// What of which model a node fetches, for people: `me/tiny layers 0-7 of 16`.
#[must_use]
pub fn what(shard: &Shard) -> String {
    match shard.layers {
        0 => shard.model.to_string(),
        _ => shard.to_string(),
    }
}

/// How far a download is that has so many of its bytes, for people.
fn how_far((done, total): (u64, u64), speed: Option<u64>, left: Option<Duration>) -> String {
    if total == 0 {
        return "about to begin".to_owned();
    }
    let mut words = format!("{} of {}", Size(done), Size(total));
    if let Some(speed) = speed {
        words += &format!(", {}/s", Size(speed));
    }
    if let Some(left) = left.filter(|_| done < total) {
        words += &match left.as_secs() {
            seconds @ ..60 => format!(", {} s left", seconds.max(1)),
            seconds => format!(", {} min left", seconds.div_ceil(60)),
        };
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_as_people_say_it() {
        let second = Duration::from_secs(1);
        for (far, speed, left, words) in [
            ((0, 0), None, None, "about to begin"),
            ((5, 4_900_000_000), None, None, "5 B of 4.9 GB"),
            (
                (1_200_000_000, 4_900_000_000),
                Some(30_000_000),
                Some(121 * second),
                "1.2 GB of 4.9 GB, 30.0 MB/s, 3 min left",
            ),
            (
                (1000, 1000),
                Some(0),
                Some(second),
                "1.0 kB of 1.0 kB, 0 B/s",
            ),
        ] {
            assert_eq!(how_far(far, speed, left), words);
        }
    }
}
