//! Who wants a download only as long as somebody watches it.

use super::{BeginError, Downloads, Entry, Item, Shared};
use exo_models::hub::Part;
use std::sync::Arc;

/// A download that stops when the last of those who follow it is gone, unless somebody else wants it.
#[derive(Debug)]
pub struct Following {
    shared: Arc<Shared>,
    item: Item,
}

impl Following {
    /// The download, as it was when this began.
    #[must_use]
    pub fn item(&self) -> &Item {
        &self.item
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let mut entries = state.entries.iter_mut();
        if let Some(entry) = entries.find(|entry| entry.number == self.item.number) {
            entry.followers = entry.followers.saturating_sub(1);
            if entry.followers == 0 && !entry.kept {
                entry.stop();
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Downloads {
    /// As [`Downloads::begin`], for as long as somebody follows it.
    ///
    /// # Errors
    /// As [`Downloads::begin`].
    pub fn follow(&self, model: &str, part: Part) -> Result<Following, BeginError> {
        let item = self.enter(super::item::whole(model), part, true)?;
        let shared = Arc::clone(&self.shared);
        Ok(Following { shared, item })
    }
}

impl Entry {
    /// One more wants it: as long as it looks, or in any case.
    pub(super) fn join(&mut self, follows: bool) {
        match follows {
            true => self.followers += 1,
            false => self.kept = true,
        }
    }

    /// Stops it; what has come is kept.
    pub(super) fn stop(&mut self) {
        if !self.item.is_over() {
            self.cancel.cancel();
            self.item.state = super::DownloadState::Cancelled;
            self.item.speed = None;
            self.item.left = None;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::downloads::DownloadState;
    use exo_models::hub::{Hub, HubOptions};
    use std::net::TcpListener;

    pub(in crate::downloads) const MODEL: &str = "me/model";

    /// Downloads from a hub that says nothing.
    pub(in crate::downloads) fn downloads() -> (TcpListener, tempfile::TempDir, Downloads) {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let cache = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(cache.path().to_owned());
        options.endpoint = format!("http://{}", silent.local_addr().unwrap());
        (silent, cache, Downloads::new(Hub::new(options)))
    }

    fn state(downloads: &Downloads) -> DownloadState {
        downloads.list()[0].state
    }

    #[test]
    fn the_last_who_follows_takes_it_along() {
        let (_silent, _cache, downloads) = downloads();
        let first = downloads.follow(MODEL, Part::All).unwrap();
        let second = downloads.follow(MODEL, Part::All).unwrap();
        assert_eq!(first.item().number, second.item().number);
        drop(first);
        assert_eq!(state(&downloads), DownloadState::Downloading);
        drop(second);
        assert_eq!(state(&downloads), DownloadState::Cancelled);
        // The next one begins anew.
        let third = downloads.follow(MODEL, Part::All).unwrap();
        assert_eq!(state(&downloads), DownloadState::Downloading);
        drop(third);
        assert!(downloads.under_way().is_empty());
    }

    #[test]
    fn what_somebody_wants_in_any_case_goes_on() {
        for begun_first in [true, false] {
            let (_silent, _cache, downloads) = downloads();
            let begin = || drop(downloads.begin(MODEL, Part::All).unwrap());
            if begun_first {
                begin();
            }
            let following = downloads.follow(MODEL, Part::All).unwrap();
            if !begun_first {
                begin();
            }
            drop(following);
            assert_eq!(state(&downloads), DownloadState::Downloading);
        }
    }
}
