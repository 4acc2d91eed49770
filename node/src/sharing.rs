//! Pieces of files between this node and its peers: what the node decides, done.

use crate::downloads::Downloads;
use crate::events::Events;
use crate::fetcher::Fetcher;
use crate::library::Library;
use crate::runtime::{CommandError, Handle};
use crate::settings::Settings;
use exo_models::hub::{Cancel, Hub, PeerPart, Peers, Shared};
use exo_protocol::id::CallId;
use exo_protocol::node::Found;
use exo_protocol::wire::extension::part;
use exo_protocol::{Command, Event, NodeId, Shard};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// A node that is busy is told again after this.
const AGAIN: Duration = Duration::from_millis(10);

/// How often a wait looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// A piece that a peer wants.
#[derive(Debug)]
struct Reading {
    /// The node's number of it.
    read: u64,
    /// The file's hash.
    name: String,
    /// Where it begins.
    from: u64,
    /// Most bytes of it.
    length: u32,
}

/// The peers, for downloads.
#[derive(Debug, Default)]
struct Ring {
    /// There once the node runs.
    handle: OnceLock<Handle>,
    last: AtomicU64,
    /// Who waits for which piece.
    waiting: Mutex<BTreeMap<u64, Sender<Found>>>,
}

impl Ring {
    /// From now on the node can be asked.
    fn connect(&self, handle: Handle) {
        let _ = self.handle.set(handle);
    }

    /// What the node found.
    fn found(&self, want: u64, found: Found) {
        let waiting = self.waiting.lock();
        let waiting = waiting
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&want);
        if let Some(waiting) = waiting {
            let _ = waiting.send(found);
        }
    }

    fn tell(&self, command: Command) -> bool {
        let Some(handle) = self.handle.get() else {
            return false;
        };
        tell(handle, command)
    }
}

/// Whether the node heard it; it may be over.
pub(crate) fn tell(handle: &Handle, command: Command) -> bool {
    loop {
        match handle.command(command.clone()) {
            Ok(()) => return true,
            Err(CommandError::Busy) => thread::sleep(AGAIN),
            Err(CommandError::Leaving | CommandError::Stopped) => return false,
        }
    }
}

impl Peers for Ring {
    fn part(
        &self,
        name: &str,
        from: u64,
        length: u32,
        prefer: Option<&str>,
        cancel: &Cancel,
    ) -> Option<PeerPart> {
        let want = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        let waiting = self.waiting.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .insert(want, sender);
        let command = Command::Want {
            want,
            name: name.to_owned(),
            from,
            length,
            prefer: prefer.map(NodeId::from),
        };
        let asked = self.tell(command);
        let found = loop {
            if !asked || cancel.is_cancelled() {
                self.tell(Command::Unwant { want });
                break Found::Nowhere;
            }
            match receiver.recv_timeout(LOOK) {
                Ok(found) => break found,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Found::Nowhere,
            }
        };
        self.found(want, Found::Nowhere);
        match found {
            Found::At {
                node,
                size,
                content,
            } => Some(PeerPart {
                node: node.to_string(),
                size,
                bytes: content.to_vec(),
            }),
            Found::Nowhere => None,
        }
    }

    fn nodes(&self) -> Vec<String> {
        let status = self.handle.get().map(Handle::status);
        let peers = status.into_iter().flat_map(|status| status.peers);
        let own = peers.filter(|peer| peer.up && peer.own);
        own.filter_map(|peer| Some(peer.node?.to_string()))
            .collect()
    }

    fn blame(&self, name: &str, node: &str) {
        tracing::warn!("what {node} sent of {name} was wrong; it is fetched from elsewhere");
        self.tell(Command::Blame {
            name: name.to_owned(),
            node: node.into(),
        });
    }
}

/// Reads what peers want, one piece after the other: a disk gains nothing by more, and an answer
/// that is being computed loses less.
fn serve(hub: Hub, handle: Handle, wanted: Receiver<Reading>) -> io::Result<()> {
    let run = move || {
        for reading in wanted {
            let shared = hub.share(&reading.name, reading.from, reading.length);
            let (code, size, content) = match shared {
                Shared::Here(size, content) => (part::HERE, size, content),
                Shared::Coming(size, content) => (part::COMING, size, content),
                Shared::Absent => (part::ABSENT, 0, Vec::new()),
            };
            let answer = Command::Part {
                read: reading.read,
                size,
                code,
                content: content.into(),
            };
            if !tell(&handle, answer) {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("sharing".to_owned());
    thread.spawn(run).map(drop)
}

/// Where the node's news of files goes.
#[derive(Debug)]
pub(crate) struct Post {
    ring: Arc<Ring>,
    wanted: Sender<Reading>,
    fetcher: Sender<(CallId, Shard)>,
}

impl Post {
    /// Takes one piece of news. Never waits; whoever does not listen any more ends with the node.
    pub(crate) fn take(&self, event: Event) {
        match event {
            Event::FilesWanted { call, shard } => drop(self.fetcher.send((call, shard))),
            Event::Part { want, found } => self.ring.found(want, found),
            Event::PartWanted {
                read,
                name,
                from,
                length,
            } => {
                let reading = Reading {
                    read,
                    name,
                    from,
                    length,
                };
                let _ = self.wanted.send(reading);
            }
            _ => {}
        }
    }
}

/// What moves files, about to begin: news may come as soon as the node runs.
#[derive(Debug)]
pub(crate) struct Exchange {
    ring: Arc<Ring>,
    reading: Receiver<Reading>,
    missing: Receiver<(CallId, Shard)>,
}

impl Exchange {
    /// Hears the news.
    pub(crate) fn new(events: &Events) -> Self {
        let ring = Arc::new(Ring::default());
        let (wanted, reading) = mpsc::channel();
        let (fetcher, missing) = mpsc::channel();
        events.files_with(Post {
            ring: Arc::clone(&ring),
            wanted,
            fetcher,
        });
        Self {
            ring,
            reading,
            missing,
        }
    }

    /// Does what it is told from now on.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(crate) fn start(
        self,
        settings: &Settings,
        handle: Handle,
        library: &Arc<Library>,
    ) -> io::Result<Arc<Downloads>> {
        self.ring.connect(handle.clone());
        let mut hub = settings.hub.clone();
        hub.peers = settings.shares.then_some(self.ring as Arc<dyn Peers>);
        let downloads = Arc::new(Downloads::new(Hub::new(hub)));
        serve(downloads.hub().clone(), handle.clone(), self.reading)?;
        let told = handle.clone();
        downloads.tell_ring(move |download| tell(&told, Command::Downloading(download)))?;
        let fetcher = Fetcher {
            handle,
            library: Arc::clone(library),
            downloads: Arc::clone(&downloads),
        };
        fetcher.start(self.missing)?;
        Ok(downloads)
    }
}
