//! Models on their way to this machine.
//!
//! One thread for each download, a few at a time, the rest waits its turn. What came before a
//! download failed, was cancelled, or the node ended, is kept: the next one goes on from there.

mod following;
mod item;
mod ring;

pub use self::following::Following;
pub use self::item::{DownloadState, Item, told_far, what};
use exo_models::hub::{Cancel, Hub, HubError, HubName, Part, Progress, Report, Size};
use exo_protocol::Shard;
use exo_protocol::wire::Download;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Models that are fetched at the same time; each fetches several files at once.
const AT_ONCE: usize = 2;

/// Downloads that wait for their turn.
const MOST_WAITING: usize = 16;

/// Downloads that are over and told of.
const REMEMBERED: usize = 32;

/// Between two lines about the same download.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// All downloads of this node.
#[derive(Debug)]
pub struct Downloads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hub: Hub,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The newest last.
    entries: VecDeque<Entry>,
    last: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    name: HubName,
    part: Part,
    item: Item,
    cancel: Cancel,
    told: Option<Instant>,
    /// Those who want it as long as they look.
    followers: u32,
    /// Somebody wants it who does not look.
    kept: bool,
    /// What the ring heard of it.
    heard: Option<Download>,
}

/// Why a download was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// It is no name of a model that could be fetched, or nothing may be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// Too many wait already.
    #[error("{MOST_WAITING} downloads wait for their turn already; try again when some are done")]
    Full,
    /// There is no thread for it.
    #[error("the download cannot be started: {0}")]
    Thread(std::io::Error),
}

impl Downloads {
    /// None yet, from `hub`.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        let shared = Shared {
            hub,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Where models come from, and where they go.
    #[must_use]
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Begins a download, or finds the one that is under way.
    ///
    /// # Errors
    /// When the name means nothing on the hub, downloads are switched off, or too many wait.
    pub fn begin(&self, model: &str, part: Part) -> Result<Item, BeginError> {
        self.enter(item::whole(model), part, false)
    }

    /// The same for the weights of some layers.
    ///
    /// # Errors
    /// As [`Downloads::begin`].
    pub fn begin_layers(&self, shard: &Shard) -> Result<Item, BeginError> {
        self.enter(shard.clone(), Part::Layers(shard.range()), false)
    }

    fn enter(&self, shard: Shard, part: Part, follows: bool) -> Result<Item, BeginError> {
        let name = HubName::parse(&shard.model)?;
        let options = self.hub().options();
        let nobody = options.offline && options.peers.is_none();
        if nobody && self.hub().here(&name, None).is_none() {
            return Err(BeginError::Hub(HubError::Offline {
                what: name.to_string(),
            }));
        }
        let mut state = self.shared.lock();
        let same =
            |entry: &&mut Entry| entry.name == name && entry.part == part && !entry.item.is_over();
        if let Some(entry) = state.entries.iter_mut().find(same) {
            entry.join(follows);
            return Ok(entry.item.clone());
        }
        let under_way = state.entries.iter().filter(|entry| !entry.item.is_over());
        if under_way.count() >= AT_ONCE + MOST_WAITING {
            return Err(BeginError::Full);
        }
        state.last += 1;
        let number = state.last;
        let item = Item {
            number,
            model: shard.model.to_string(),
            shard,
            state: DownloadState::Downloading,
            bytes: 0,
            total: 0,
            speed: None,
            left: None,
            error: None,
        };
        let cancel = Cancel::default();
        state.entries.push_back(Entry {
            number,
            name: name.clone(),
            part: part.clone(),
            item: item.clone(),
            cancel: cancel.clone(),
            told: None,
            followers: u32::from(follows),
            kept: !follows,
            heard: None,
        });
        while state.entries.len() > REMEMBERED {
            let Some(over) = state.entries.iter().position(|entry| entry.item.is_over()) else {
                break;
            };
            state.entries.remove(over);
        }
        // The ring may hear of it.
        self.shared.changed.notify_all();
        let shared = Arc::clone(&self.shared);
        let work = move || shared.work(number, &name, part, &cancel);
        let spawned = thread::Builder::new()
            .name("download".to_owned())
            .spawn(work);
        if let Err(error) = spawned {
            state.entries.retain(|entry| entry.number != number);
            return Err(BeginError::Thread(error));
        }
        Ok(item)
    }

    /// The last download of each model, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Item> {
        let state = self.shared.lock();
        let mut list: Vec<Item> = Vec::new();
        // One that is under way says more of a model than one that is over.
        let (over, under_way): (Vec<&Entry>, Vec<&Entry>) =
            state.entries.iter().partition(|entry| entry.item.is_over());
        for entry in over.into_iter().chain(under_way) {
            list.retain(|item| item.model != entry.item.model);
            list.push(entry.item.clone());
        }
        list.sort_by_key(|item| item.number);
        list
    }

    /// The downloads that are under way, of any part of a model.
    #[must_use]
    pub fn under_way(&self) -> Vec<Item> {
        let state = self.shared.lock();
        let items = state.entries.iter().map(|entry| &entry.item);
        items.filter(|item| !item.is_over()).cloned().collect()
    }

    /// Stops every download of a model; what has come is kept. Nothing if there was none.
    #[must_use]
    pub fn cancel(&self, model: &str) -> Option<Item> {
        let name = HubName::parse(model).ok();
        let mut state = self.shared.lock();
        let mut found = None;
        for entry in &mut state.entries {
            let meant = entry.item.model == model || Some(&entry.name) == name.as_ref();
            if meant {
                entry.stop();
                found = Some(entry.item.clone());
            }
        }
        drop(state);
        self.shared.changed.notify_all();
        found
    }

    /// Waits until a download is over, but no longer than `patience`; nothing if it is forgotten.
    #[must_use]
    pub fn wait(&self, number: u64, patience: Duration) -> Option<Item> {
        let until = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            let entry = state.entries.iter().find(|entry| entry.number == number)?;
            let left = until.saturating_duration_since(Instant::now());
            if entry.item.is_over() || left.is_zero() {
                return Some(entry.item.clone());
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        for entry in &state.entries {
            entry.cancel.cancel();
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, number: u64, name: &HubName, part: Part, cancel: &Cancel) {
        if !self.wait_for_turn(number) {
            return;
        }
        tracing::info!("downloading {name}");
        let told = Told {
            shared: self,
            number,
        };
        let result = self.hub.pull_part(name, part, &told, cancel);
        let mut state = self.lock();
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.number == number);
        if let Some(entry) = entry.filter(|entry| !entry.item.is_over()) {
            entry.item.speed = None;
            entry.item.left = None;
            match result {
                Ok(pulled) => {
                    tracing::info!(
                        "{name} is here: {} downloaded, every file has its hash",
                        Size(pulled.fetched)
                    );
                    entry.item.state = DownloadState::Done;
                    entry.item.total = entry.item.total.max(pulled.bytes);
                    entry.item.bytes = entry.item.total;
                }
                Err(HubError::Cancelled) => entry.item.state = DownloadState::Cancelled,
                Err(error) => {
                    tracing::warn!("{name} was not downloaded: {error}");
                    entry.item.state = DownloadState::Failed;
                    entry.item.error = Some(Arc::new(error));
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Whether its turn came; else it was cancelled before.
    fn wait_for_turn(&self, number: u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            let mut under_way = state.entries.iter().filter(|entry| !entry.item.is_over());
            match under_way.position(|entry| entry.number == number) {
                None => return false,
                Some(before) if before < AT_ONCE => return true,
                Some(_) => {}
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where a download tells how far it is.
struct Told<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Progress for Told<'_> {
    fn report(&self, report: &Report) {
        let mut state = self.shared.lock();
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.number == self.number);
        let Some(entry) = entry.filter(|entry| !entry.item.is_over()) else {
            return;
        };
        entry.item.bytes = report.done;
        entry.item.total = report.total;
        entry.item.speed = report.speed;
        entry.item.left = report.left;
        let recent = entry.told.is_some_and(|told| told.elapsed() < LINE_EVERY);
        if !recent && report.done < report.total {
            entry.told = Some(Instant::now());
            tracing::info!("downloading {}: {}", entry.item.model, entry.item.words());
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn trouble(&self, trouble: &str) {
        tracing::warn!("{trouble}");
    }
}
