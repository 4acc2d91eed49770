//! From a name to files on this machine.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    BRANCH, Hub, HubError, HubName,
    blob::{Fetch, Patience},
    each::each,
    http::{FileInfo, Http, RepoInfo},
    layout::{RepoFolder, room_for},
    progress::{Cancel, Progress, Tracker},
    select::{self, First},
};
use crate::{Model, catalog, parts::Record, registry};

/// Servers that want to be left alone for longer than this are given up.
const MOST_WAIT: Duration = Duration::from_secs(300);

/// Pauses between attempts become no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What was fetched, or was here already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// What it is.
    pub name: HubName,
    /// The model's folder, or its GGUF file: [`Model::open`] takes it.
    pub path: PathBuf,
    /// Which version it is.
    pub commit: String,
    /// Bytes of all its files that were asked for.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
}

/// What of a model is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// What tells what it is and turns text into tokens, and of the weights no more than where they
    /// are.
    Front,
    /// The weights of these layers, and what is beside them: of files that hold more only their bytes.
    Layers(Range<u32>),
}

/// One pull.
pub(super) struct Pull<'a> {
    http: Http,
    pub(super) folder: RepoFolder,
    name: &'a HubName,
    pub(super) info: RepoInfo,
    pub(super) parallel: usize,
    patience: Patience,
    pub(super) cancel: &'a Cancel,
    pub(super) tracker: &'a Tracker<'a>,
    pub(super) fetched: Mutex<u64>,
    /// What peers told of files, when the hub could not be asked.
    known: BTreeMap<String, FileInfo>,
    hub: &'a Hub,
}

impl Hub {
    /// Fetches a model, or those files of it that have weights of `layers`, unless they are here.
    /// What came before it fails or is stopped is kept, and the next pull goes on from there.
    ///
    /// # Errors
    /// When there is no such model, it may not be fetched, or the connection or the disk fails.
    pub fn pull(
        &self,
        name: &HubName,
        layers: Option<Range<u32>>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, HubError> {
        let part = layers.map_or(Part::All, Part::Layers);
        self.pull_part(name, part, progress, cancel)
    }

    /// Fetches a part of a model, as [`Hub::pull`].
    ///
    /// # Errors
    /// As [`Hub::pull`].
    pub fn pull_part(
        &self,
        name: &HubName,
        part: Part,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Pulled, HubError> {
        let options = &self.options;
        let offline = || HubError::Offline {
            what: name.to_string(),
        };
        if options.offline {
            let here = self.part_here(name, &part);
            if here.is_some() || options.peers.is_none() {
                return here.ok_or_else(offline);
            }
        }
        let tracker = Tracker::new(&name.repo, progress);
        let http = Http::new(options)?;
        let patience = self.patience();
        // With peers there is somebody else to ask.
        let impatient = Patience {
            attempts: patience.attempts.min(2),
            ..patience
        };
        let asking = options.peers.as_ref().map_or(patience, |_| impatient);
        let info = match options.offline {
            true => Err(offline()),
            false => asking.retry(
                cancel,
                |trouble| tracker.trouble(trouble),
                |_| http.repo(&name.repo, BRANCH),
            ),
        };
        let (info, known) = match info {
            Ok(info) => (info, BTreeMap::new()),
            Err(error) if options.offline || error.passes() => {
                self.ask_list(&name.repo, cancel).ok_or(error)?
            }
            Err(error) => return Err(with_near(error, &name.repo)),
        };
        let pull = self.begin(name, http, info, &tracker, cancel);
        Pull { known, ..pull }.run(&part)
    }

    fn patience(&self) -> Patience {
        let options = &self.options;
        Patience {
            attempts: options.attempts.max(1),
            pause: options.pause,
            longest: LONGEST_PAUSE.max(options.pause),
            most_wait: MOST_WAIT,
        }
    }

    /// Nothing is fetched yet.
    pub(super) fn begin<'a>(
        &'a self,
        name: &'a HubName,
        http: Http,
        info: RepoInfo,
        tracker: &'a Tracker<'a>,
        cancel: &'a Cancel,
    ) -> Pull<'a> {
        Pull {
            http,
            folder: RepoFolder::new(&self.options.cache, &name.repo),
            name,
            info,
            parallel: self.options.parallel.max(1),
            patience: self.patience(),
            cancel,
            tracker,
            fetched: Mutex::default(),
            known: BTreeMap::new(),
            hub: self,
        }
    }

    fn part_here(&self, name: &HubName, part: &Part) -> Option<Pulled> {
        match part {
            Part::All => self.here(name, None),
            Part::Layers(layers) => self.here(name, Some(layers.clone())),
            Part::Front => {
                let folder = RepoFolder::new(&self.options.cache, &name.repo);
                let path = self.path(name)?;
                Model::open(&path).ok()?;
                Some(Pulled {
                    name: name.clone(),
                    path,
                    commit: folder.commit(BRANCH)?,
                    bytes: 0,
                    fetched: 0,
                })
            }
        }
    }

    /// The model, if all that was asked for is on this machine.
    #[must_use]
    pub fn here(&self, name: &HubName, layers: Option<Range<u32>>) -> Option<Pulled> {
        let folder = RepoFolder::new(&self.options.cache, &name.repo);
        let commit = folder.commit(BRANCH)?;
        let path = self.path(name)?;
        let model = Model::open(&path).ok()?;
        let layers = layers.unwrap_or(0..model.config().layers);
        let weights = model.weights(layers).ok()?;
        Some(Pulled {
            name: name.clone(),
            path,
            commit,
            bytes: weights.bytes(),
            fetched: 0,
        })
    }

    /// Where the model is, whole or not: a folder, or a GGUF file.
    #[must_use]
    pub fn path(&self, name: &HubName) -> Option<PathBuf> {
        let folder = RepoFolder::new(&self.options.cache, &name.repo);
        let snapshot = folder.snapshot(&folder.commit(BRANCH)?);
        catalog::in_snapshot(&snapshot, name)
    }
}

impl Pull<'_> {
    fn run(&self, part: &Part) -> Result<Pulled, HubError> {
        let snapshot = self.folder.snapshot(&self.info.commit);
        let (path, bytes) = match select::first(self.name, &self.info)? {
            First::Gguf(file) => {
                let path = snapshot.join(&file);
                let bytes = self.weights(std::slice::from_ref(&file), part, &path)?;
                (path, bytes)
            }
            First::Beside(beside) => {
                let mut bytes = self.fetch(&beside)?;
                let weights = select::weights(&self.info, &snapshot, part)?;
                bytes += self.weights(&weights, part, &snapshot)?;
                (snapshot, bytes)
            }
        };
        // Not before: whoever looks for the model meanwhile finds the version that was here.
        self.folder.remember(BRANCH, &self.info.commit)?;
        self.tracker.end();
        Ok(Pulled {
            name: self.name.clone(),
            path,
            commit: self.info.commit.clone(),
            bytes,
            fetched: *self.fetched.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn weights(&self, files: &[String], part: &Part, path: &Path) -> Result<u64, HubError> {
        match part {
            Part::All => self.fetch(files),
            Part::Front | Part::Layers(_) => self.fetch_part(files, part, path),
        }
    }

    /// What a file is.
    pub(super) fn file_info(&self, file: &str, cancel: &Cancel) -> Result<FileInfo, HubError> {
        if let Some(known) = self.known.get(file) {
            return Ok(known.clone());
        }
        if self.hub.options.offline {
            return Err(HubError::Offline {
                what: format!("{}/{file}", self.name.repo),
            });
        }
        self.patience.retry(
            cancel,
            |trouble| self.tracker.trouble(trouble),
            |_| self.http.file(&self.name.repo, &self.info.commit, file),
        )
    }

    pub(super) fn fetch_of<'a>(
        &'a self,
        file: &'a str,
        info: &'a FileInfo,
        cancel: &'a Cancel,
    ) -> Fetch<'a> {
        Fetch {
            http: &self.http,
            folder: &self.folder,
            repo: &self.name.repo,
            commit: &self.info.commit,
            file,
            info,
            patience: self.patience,
            cancel,
            offline: self.hub.options.offline,
            peers: self.hub.options.peers.as_deref(),
            comings: &self.hub.comings,
            gap: self.hub.options.gap,
            anew: false,
        }
    }

    /// Brings files that are not here; the bytes of all of them.
    fn fetch(&self, files: &[String]) -> Result<u64, HubError> {
        let mut bytes = 0;
        let mut missing = Vec::new();
        for file in files {
            match self.there(file) {
                Some(size) => bytes += size,
                None => missing.push(file.as_str()),
            }
        }
        // What all of them are, first: so it is known how much is to come, and whether it fits.
        let infos = each(self.parallel, &missing, self.cancel, |file, cancel| {
            self.file_info(file, cancel)
        })?;
        self.check_room(&infos)?;
        let planned: Vec<_> = missing
            .iter()
            .zip(&infos)
            .map(|(file, info)| (self.tracker.add(file, info.size), *file, info))
            .collect();
        each(
            self.parallel,
            &planned,
            self.cancel,
            |(number, file, info), cancel| {
                self.tracker.active(*number, true);
                let fetch = self.fetch_of(file, info, cancel);
                let at = |done, fetched| {
                    *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) += fetched;
                    self.tracker.at(*number, done, fetched);
                };
                let done = fetch.run(&at, &|trouble| self.tracker.trouble(trouble));
                self.tracker.active(*number, false);
                done?;
                self.folder.link(&self.info.commit, file, &info.tag)
            },
        )?;
        Ok(infos
            .iter()
            .fold(bytes, |sum, info| sum.saturating_add(info.size)))
    }

    /// The size of a file that is in the snapshot, unless the hub says that it has another one.
    pub(super) fn there(&self, file: &str) -> Option<u64> {
        let path = self.folder.snapshot(&self.info.commit).join(file);
        let size = fs::metadata(path).ok()?.len();
        let known = self.info.files.iter().find(|(name, _)| name == file);
        let known = known.and_then(|(_, size)| *size);
        known.is_none_or(|known| known == size).then_some(size)
    }

    fn check_room(&self, infos: &[FileInfo]) -> Result<(), HubError> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |there| there.len());
        let needed = infos.iter().fold(0_u64, |sum, info| {
            let here = length(&self.folder.blob(&info.tag));
            let here = here.max(length(&self.folder.incomplete(&info.tag)));
            let part = Record::read(&self.folder.parts(), info.tag.as_str());
            let here = here.max(part.map_or(0, |part| part.have().total()));
            sum.saturating_add(info.size.saturating_sub(here))
        });
        room_for(needed, self.folder.blobs())
    }
}

/// Repositories of the registry that somebody may have meant.
fn with_near(error: HubError, repo: &str) -> HubError {
    match error {
        HubError::NoRepository {
            repo: name,
            endpoint,
            token,
            ..
        } => {
            let known = registry::entries().iter().flat_map(registry::Entry::repos);
            let mut near = catalog::near::near(repo, known);
            near.retain(|near| near != repo);
            HubError::NoRepository {
                repo: name,
                endpoint,
                token,
                near,
            }
        }
        error => error,
    }
}
