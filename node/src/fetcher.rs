//! Brings the files of the layers that this node is to compute, before the engine loads them.

use crate::downloads::{DownloadState, Downloads};
use crate::library::Library;
use crate::runtime::Handle;
use crate::sharing::tell;
use exo_protocol::engine::{EngineFailure, FailureKind};
use exo_protocol::id::CallId;
use exo_protocol::node::FilesNews;
use exo_protocol::{Command, Shard};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

/// The node hears this often that files come: it gives up what makes no progress.
const NEWS_EVERY: Duration = Duration::from_secs(1);

/// What it works with.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    pub(crate) handle: Handle,
    pub(crate) library: Arc<Library>,
    pub(crate) downloads: Arc<Downloads>,
}

impl Fetcher {
    /// Answers what is wanted until nobody can want anything more.
    pub(crate) fn start(self, wanted: Receiver<(CallId, Shard)>) -> io::Result<()> {
        let run = move || {
            for (call, shard) in wanted {
                let fetcher = self.clone();
                // As many as stages that begin at the same time.
                let spawned = thread::Builder::new()
                    .name("files".to_owned())
                    .spawn(move || {
                        let news = fetcher.fetch(call, &shard);
                        fetcher.tell(call, news);
                    });
                if let Err(error) = spawned {
                    self.tell(call, missing(format!("no thread to fetch files: {error}")));
                }
            }
        };
        let thread = thread::Builder::new().name("fetcher".to_owned());
        thread.spawn(run).map(drop)
    }

    fn fetch(&self, call: CallId, shard: &Shard) -> FilesNews {
        if self.library.has(&shard.model, shard.range()) {
            return FilesNews::Here;
        }
        let begun = self.downloads.begin_layers(shard);
        let Ok(item) = begun else {
            // No name of a model on the hub: the engine says what is wrong with what is here.
            return FilesNews::Here;
        };
        loop {
            let Some(now) = self.downloads.wait(item.number, NEWS_EVERY) else {
                return FilesNews::Here;
            };
            match now.state {
                DownloadState::Done => {
                    self.library.forget(&shard.model);
                    return FilesNews::Here;
                }
                DownloadState::Downloading => self.tell(
                    call,
                    FilesNews::Coming {
                        done: now.bytes,
                        total: now.total,
                    },
                ),
                DownloadState::Cancelled => return missing("the download was stopped".to_owned()),
                DownloadState::Failed => {
                    let error = now.error.as_ref().map(|error| error.to_string());
                    return missing(error.unwrap_or_default());
                }
            }
        }
    }

    fn tell(&self, call: CallId, news: FilesNews) {
        // It may be over.
        let _ = tell(&self.handle, Command::Files { call, news });
    }
}

fn missing(why: String) -> FilesNews {
    FilesNews::Missing(EngineFailure::new(FailureKind::ModelNotFound, why))
}
