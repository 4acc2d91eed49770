//! Peers that come up while a file comes from the hub.

use std::{collections::BTreeSet, time::Duration};

use super::blob::Fetch;

/// Bytes of the hub between two looks at who is there.
const LOOK_EVERY: u64 = 1 << 20;

/// Whoever comes after so many is asked where all are, before the next range.
const MOST_KNOWN: usize = 64;

/// Bytes that show whether somebody has those that come next.
const SAMPLE: u32 = 4 << 10;

/// Who has bytes says so at once. Who is only getting them may be waiting for this machine, and the hub
/// waits meanwhile.
const SOON: Duration = Duration::from_millis(500);

/// Who is there, to notice who comes.
pub(super) struct News {
    known: BTreeSet<String>,
    /// Bytes since the last look.
    unseen: u64,
}

impl News {
    pub(super) fn new(fetch: &Fetch<'_>) -> Self {
        let nodes = fetch.peers.map(|peers| peers.nodes());
        Self {
            known: nodes.unwrap_or_default().into_iter().collect(),
            unseen: 0,
        }
    }

    /// So many bytes more came from the hub; whether somebody came up who has those at `at`. Each one
    /// is asked once for each file.
    pub(super) fn somebody_has(&mut self, fetch: &Fetch<'_>, at: u64, count: u64) -> bool {
        let Some(peers) = fetch.peers else {
            return false;
        };
        self.unseen = self.unseen.saturating_add(count);
        if self.unseen < LOOK_EVERY || self.known.len() >= MOST_KNOWN {
            return false;
        }
        self.unseen = 0;
        let nodes = peers.nodes().into_iter();
        let come: Vec<String> = nodes.filter(|node| !self.known.contains(node)).collect();
        let Some(first) = come.first() else {
            return false;
        };
        let (name, soon) = (fetch.info.tag.as_str(), fetch.cancel.within(SOON));
        let found = peers.part(name, at, SAMPLE, Some(first), &soon);
        self.known.extend(come);
        found.is_some()
    }
}
