//! What names mean on this machine.

pub(crate) mod near;
mod places;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

pub(crate) use self::places::in_snapshot;
use self::places::{Found, Places};
use crate::{
    Family, Model, ModelError, UnknownModel, embedded,
    hub::HubName,
    registry::{self, Entry},
};

/// Finds models by name, on this machine only: nothing is downloaded.
#[derive(Debug, Clone)]
pub struct Catalog {
    places: Places,
}

/// A model that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// A name that [`Catalog::resolve`] knows it by.
    pub id: String,
    /// Its folder or file; nothing for the model that is compiled in.
    pub path: Option<PathBuf>,
    /// What it is built like.
    pub family: Family,
    /// Its layers.
    pub layers: u32,
    /// Bytes of all its weights, those included that are not downloaded.
    pub bytes: u64,
}

impl Catalog {
    /// Looks in `models_dirs`, in exo's downloads (`EXO_HOME`), and in the Hugging Face cache
    /// (`HF_HUB_CACHE`, `HF_HOME`).
    pub fn new(models_dirs: Vec<PathBuf>) -> Self {
        Self {
            places: Places::from_environment(models_dirs),
        }
    }

    /// The same with another Hugging Face cache.
    pub fn in_cache(models_dirs: Vec<PathBuf>, hub: PathBuf) -> Self {
        let mut places = Places::from_environment(models_dirs);
        places.hub = Some(hub);
        Self { places }
    }

    /// Looks in these places whatever the environment says. `downloads` has folders named
    /// `<organisation>--<name>`; `hub` is laid out as the Hugging Face cache.
    pub fn with_places(
        models_dirs: Vec<PathBuf>,
        downloads: Option<PathBuf>,
        hub: Option<PathBuf>,
    ) -> Self {
        Self {
            places: Places {
                models_dirs,
                downloads,
                hub,
            },
        }
    }

    /// The model of a name. In this order, a name is: the one that is compiled in; the stem of a
    /// file or the name of a folder in one of the models folders; a path; a short name of the
    /// [registry]; a repository on the hub that is already here, or one GGUF file of it, as
    /// [`HubName`] says.
    pub fn resolve(&self, name: &str) -> Result<Model, ModelError> {
        if name == embedded::ID {
            return Model::embedded();
        }
        if let Some(found) = self
            .places
            .in_models_dirs()
            .into_iter()
            .find(|f| f.id == name)
        {
            return open(&found.path, name);
        }
        let file = HubName::parse(name).ok().filter(|name| name.file.is_some());
        if let Some(wanted) = file {
            return self.resolve_file(name, &wanted);
        }
        let path = Path::new(name);
        if looks_like_path(name) || places::is_model(path) {
            return Model::open(path);
        }
        let mut looked_for = vec!["a file or folder of that name".to_owned()];
        for folder in &self.places.models_dirs {
            looked_for.push(format!("it in {}", folder.display()));
        }
        let entry = registry::find(name);
        let repos = match entry {
            Some(entry) => entry.repos().collect(),
            None => Vec::from_iter(is_repo(name).then_some(name)),
        };
        if entry.is_some() && repos.is_empty() {
            looked_for.push("its repository: it has none".to_owned());
        }
        for repo in repos {
            for place in self.places.of_repo(repo) {
                if places::is_model(&place) {
                    let model = open(&place, name)?;
                    entry.inspect(|entry| compare_layers(entry, &model));
                    return Ok(model);
                }
                let incomplete = if place.exists() {
                    " (there, but incomplete)"
                } else {
                    ""
                };
                looked_for.push(format!("{repo} at {}{incomplete}", place.display()));
            }
        }
        Err(self.unknown(name, looked_for))
    }

    /// One GGUF file of a repository.
    fn resolve_file(&self, name: &str, wanted: &HubName) -> Result<Model, ModelError> {
        let places = self.places.of_repo(&wanted.repo);
        let found = places.iter().find_map(|place| in_snapshot(place, wanted));
        match found {
            Some(path) => open(&path, name),
            None => {
                let looked_for = places
                    .iter()
                    .map(|place| format!("it in {}", place.display()));
                Err(self.unknown(name, looked_for.collect()))
            }
        }
    }

    /// What is here, the built-in model first. What cannot be opened is left out, with a warning.
    pub fn list(&self) -> Vec<CatalogEntry> {
        let built_in = Model::embedded();
        let built_in = built_in.map(|model| describe(embedded::ID.to_owned(), None, &model));
        let here = self.here().into_iter().map(|found| {
            let model = open(&found.path, &found.id)?;
            Ok(describe(found.id, Some(found.path), &model))
        });
        [built_in]
            .into_iter()
            .chain(here)
            .filter_map(|entry| match entry {
                Ok(entry) => Some(entry),
                Err(error) => {
                    tracing::warn!("not listed: {error}");
                    None
                }
            })
            .collect()
    }

    /// Everything on disk that has a name, under the shortest name that means it.
    fn here(&self) -> Vec<Found> {
        let mut here = self.places.in_models_dirs();
        for Found { id: repo, path } in self.places.repos() {
            let short = registry::entries().iter().find(|entry| {
                let mut places = entry.repos().flat_map(|repo| self.places.of_repo(repo));
                places
                    .find(|place| places::is_model(place))
                    .is_some_and(|first| first == path)
            });
            let id = short.map_or(repo, |entry| entry.id.to_owned());
            here.push(Found { id, path });
        }
        let mut seen = BTreeSet::new();
        here.retain(|found| seen.insert(found.id.clone()));
        here
    }

    fn unknown(&self, name: &str, looked_for: Vec<String>) -> ModelError {
        let mut available = vec![embedded::ID.to_owned()];
        available.extend(self.here().into_iter().map(|found| found.id));
        let known = registry::entries().iter().map(|entry| entry.id);
        let near = near::near(name, available.iter().map(String::as_str).chain(known));
        ModelError::Unknown(Box::new(UnknownModel {
            name: name.to_owned(),
            looked_for,
            available,
            near,
        }))
    }
}

fn open(path: &Path, name: &str) -> Result<Model, ModelError> {
    Model::open_as(path, name.to_owned())
}

fn describe(id: String, path: Option<PathBuf>, model: &Model) -> CatalogEntry {
    let config = model.config();
    CatalogEntry {
        id,
        path,
        family: config.family,
        layers: config.layers,
        bytes: config.weight_bytes,
    }
}

/// The registry is typed by hand, and a wrong count would give some node layers that do not exist.
fn compare_layers(entry: &Entry, model: &Model) {
    let layers = model.config().layers;
    if layers != entry.layers {
        tracing::warn!(
            "the registry says that {} has {} layers, but it has {layers}: using {layers}",
            entry.id,
            entry.layers,
        );
    }
}

/// Names that can be nothing but paths: an error about the path helps more than a search.
fn looks_like_path(name: &str) -> bool {
    let path = Path::new(name);
    path.is_absolute()
        || path.starts_with(".")
        || path.starts_with("..")
        || path
            .extension()
            .is_some_and(|extension| extension == "gguf")
}

/// `organisation/name`, and nothing that would lead out of a folder.
pub(crate) fn is_repo(name: &str) -> bool {
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
    };
    name.split_once('/')
        .is_some_and(|(organisation, name)| plain(organisation) && plain(name))
}

#[cfg(test)]
mod tests;
