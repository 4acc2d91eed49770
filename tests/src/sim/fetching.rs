//! Downloads of hosts among the traffic, in every third run: what their applications tell the nodes.

use super::world::World;
use exo_protocol::rng::Rng;
use exo_protocol::wire::{Download, DownloadState};
use exo_protocol::{Command, Input, Shard};

/// Downloads of one host at the same time; fewer than a node tells of.
const MOST: u64 = 4;

/// What a download has when it is done.
const WHOLE: u64 = 1000;

/// Whether hosts fetch, and how it goes on.
#[derive(Debug)]
pub(super) struct Fetching {
    on: bool,
    /// Of its own, so that the other runs stay what they are.
    rng: Rng,
}

impl Fetching {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            on: seed % 3 == 1,
            rng: Rng::new(seed ^ 0x0066_6574_6368),
        }
    }
}

impl World {
    /// A download of some host begins, goes on or ends.
    pub(super) fn fetch_some(&mut self) {
        let rng = &mut self.fetching.rng;
        let [host, number, what] =
            [self.hosts.len() as u64 - 1, MOST, 8].map(|most| rng.below(most));
        let more = 1 + rng.below(WHOLE / 4);
        let Some(host) = usize::try_from(host).ok().filter(|_| self.fetching.on) else {
            return;
        };
        if !self.hosts[host].is_on() {
            return;
        }
        let first = u32::try_from(number).unwrap_or(0);
        let layers = first..first + 1;
        let Some(shard) = Shard::new("fetched".into(), layers, 4) else {
            return;
        };
        let fetches = &mut self.hosts[host].fetches;
        let before = fetches.get(&first).map_or(0, |download| download.done);
        let mut download = Download {
            shard,
            state: DownloadState::Coming,
            done: (before + more).min(WHOLE),
            total: WHOLE,
            speed: more,
        };
        download.state = match what {
            0 => DownloadState::Failed(String::from("the hub is gone")),
            1 => DownloadState::Stopped,
            _ if download.done == WHOLE => DownloadState::Here,
            _ => DownloadState::Coming,
        };
        match download.is_over() {
            true => drop(fetches.remove(&first)),
            false => drop(fetches.insert(first, download.clone())),
        }
        self.input(host, Input::Command(Command::Downloading(download)));
    }
}
