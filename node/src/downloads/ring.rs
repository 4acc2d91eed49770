//! The ring hears how far downloads are.

use super::{Downloads, Entry, Shared};
use exo_models::hub::Part;
use exo_protocol::wire::Download;
use std::io;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two words: the node tells its peers less often still.
const EVERY: Duration = Duration::from_millis(500);

impl Downloads {
    /// Tells `tell` of every download that brings weights, whenever it went on, until that says that
    /// nobody listens any more or the downloads are gone.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn tell_ring(&self, tell: impl Fn(Download) -> bool + Send + 'static) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            while let Some(news) = shared.wait_for_news() {
                if !news.into_iter().all(&tell) {
                    return;
                }
                // What comes meanwhile is told together.
                thread::sleep(EVERY);
            }
        };
        let thread = thread::Builder::new().name("progress".to_owned());
        thread.spawn(run).map(drop)
    }
}

impl Shared {
    /// What went on since the last time; nothing when there will be no more.
    fn wait_for_news(&self) -> Option<Vec<Download>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let news = state.entries.iter_mut().filter_map(Entry::news);
            let news: Vec<Download> = news.collect();
            if !news.is_empty() {
                return Some(news);
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Entry {
    /// What the ring has not heard of it.
    fn news(&mut self) -> Option<Download> {
        // A few small files that are no news to anybody.
        if self.part == Part::Front {
            return None;
        }
        let now = self.item.to_ring();
        if self.heard.as_ref() == Some(&now) {
            return None;
        }
        self.heard = Some(now.clone());
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::super::following::tests::{MODEL, downloads};
    use super::*;
    use exo_protocol::Shard;
    use exo_protocol::wire::DownloadState;
    use std::sync::mpsc;

    #[test]
    fn the_ring_hears_of_what_begins_and_of_its_end() {
        let (_silent, _cache, downloads) = downloads();
        let (sender, heard) = mpsc::channel();
        let tell = move |download| sender.send(download).is_ok();
        downloads.tell_ring(tell).unwrap();
        let shard = Shard::new(MODEL.into(), 2..5, 8).unwrap();
        drop(downloads.begin(MODEL, Part::Front).unwrap());
        downloads.begin_layers(&shard).unwrap();
        let begun = heard.recv().unwrap();
        assert_eq!(
            (&begun.shard, &begun.state),
            (&shard, &DownloadState::Coming)
        );
        downloads.cancel(MODEL).unwrap();
        let over = heard.recv().unwrap();
        assert_eq!(
            (&over.shard, &over.state),
            (&shard, &DownloadState::Stopped)
        );
        // The thread ends with the downloads, and said nothing of the other one.
        drop(downloads);
        assert!(heard.recv().is_err());
    }
}
