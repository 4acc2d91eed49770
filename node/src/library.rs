//! The models of this machine, as those who talk to them need them.

use crate::speaker::{Speaker, cost_of};
use exo_engine_mlx::checkpoint::AdapterIdentity;
use exo_models::hub::Hub;
use exo_models::{Catalog, Model, ModelError, registry};
use exo_protocol::dummy;
use exo_protocol::topology::ModelCost;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The model for requests that name none, if it is here.
const USUAL: &str = "llama-3.2-1b";

/// Finds models by name and keeps those that were used.
#[derive(Debug)]
pub struct Library {
    source: Source,
    default_model: Option<String>,
    /// Models that were named on the command line, where a name may be any path.
    named: Mutex<BTreeMap<String, Model>>,
    speakers: Mutex<BTreeMap<String, Speaker>>,
    /// What this node answers with, on the model that it was learned on.
    adapter: Option<AdapterIdentity>,
    /// Bytes of an element of keys and values.
    kept: usize,
}

/// Bytes of a number in half precision.
const HALF: usize = 2;

#[derive(Debug)]
enum Source {
    Disk(Catalog),
    Dummy,
}

/// Why there is no model to talk to.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// Nothing of that name is here.
    #[error("model {name:?} is not here; {}", hint(near.as_deref(), available))]
    NotFound {
        /// The name.
        name: String,
        /// The name that may have been meant.
        near: Option<String>,
        /// What is here.
        available: Vec<String>,
    },
    /// It is here but cannot be used.
    #[error("model {name:?} cannot be used: {source}")]
    Broken {
        /// The name.
        name: String,
        /// Why.
        source: Box<ModelError>,
    },
}

fn hint(near: Option<&str>, available: &[String]) -> String {
    let here = available.join(", ");
    match near {
        Some(near) => format!("did you mean {near}? Here are: {here}"),
        None => format!("here are: {here}"),
    }
}

/// A model that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: String,
    /// Its layers.
    pub layers: u32,
    /// Bytes of its weights; zero when nobody knows.
    pub bytes: u64,
    /// Most positions that it can look back on, where known.
    pub context: Option<u32>,
    /// Where it is.
    pub place: Place,
    /// Its file or folder, where the catalog found it.
    pub path: Option<PathBuf>,
}

/// Where a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this node's engine.
    Loaded,
    /// All its weights are on this machine.
    Local,
    /// Some of it is.
    Partial,
    /// On the hub.
    Remote,
}

impl Place {
    /// The word for it in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Local => "local",
            Self::Partial => "partial",
            Self::Remote => "remote",
        }
    }

    fn of(model: &Model) -> Self {
        match model.weights(0..model.config().layers) {
            Ok(_) => Self::Local,
            Err(_) => Self::Partial,
        }
    }
}

impl Library {
    /// The models that a catalog finds.
    #[must_use]
    pub fn on_disk(catalog: Catalog, default_model: Option<String>) -> Self {
        Self::new(Source::Disk(catalog), default_model)
    }

    /// The one model of the dummy engine.
    #[must_use]
    pub fn dummy() -> Self {
        Self::new(Source::Dummy, None)
    }

    fn new(source: Source, default_model: Option<String>) -> Self {
        Self {
            source,
            default_model,
            named: Mutex::default(),
            speakers: Mutex::default(),
            adapter: None,
            kept: HALF,
        }
    }

    /// Keys and values take so many bytes each in an engine such as this node's.
    pub fn keep(&mut self, element: usize) {
        self.kept = element;
    }

    /// From now on the model that an adapter was learned on is another one: peers without the
    /// adapter take no part in its answers.
    pub fn adapt(&mut self, adapter: AdapterIdentity) {
        self.adapter = Some(adapter);
    }

    /// What a model is, with what this node knows on top of it.
    fn adapted(&self, fingerprint: u64) -> u64 {
        let adapter = self.adapter.as_ref();
        let adapter = adapter.filter(|adapter| adapter.fingerprint == fingerprint);
        adapter.map_or(fingerprint, |adapter| adapter.adapted)
    }

    /// Opens a model that this machine's user named, which may be a path, and makes it known under
    /// its own name. Returns that name.
    ///
    /// # Errors
    /// When it is not here, saying where it was looked for.
    pub fn name(&self, name: &str) -> Result<String, ModelError> {
        let Source::Disk(catalog) = &self.source else {
            return match name {
                dummy::MODEL => Ok(name.to_owned()),
                _ => Err(ModelError::NotAModel {
                    path: name.into(),
                    why: format!("the dummy engine has one model, {}", dummy::MODEL),
                }),
            };
        };
        let model = catalog.resolve(name)?;
        let id = model.id().to_owned();
        lock(&self.named).insert(id.clone(), model);
        Ok(id)
    }

    /// Whether somebody said which model is for requests that name none.
    #[must_use]
    pub fn has_default(&self) -> bool {
        self.default_model.is_some()
    }

    /// The model whose layers a peer wants computed.
    ///
    /// # Errors
    /// When it is not here.
    pub fn model(&self, name: &str) -> Result<Model, ModelError> {
        if let Some(model) = lock(&self.named).get(name) {
            return Ok(model.clone());
        }
        match &self.source {
            Source::Disk(catalog) if is_name(name) => catalog.resolve(name),
            _ => Err(ModelError::NotAModel {
                path: name.into(),
                why: "only a model's name was expected".to_owned(),
            }),
        }
    }

    /// The model that a client means; the default one for no name and for OpenAI's names.
    ///
    /// # Errors
    /// When it is not here or cannot be used.
    pub fn speaker(&self, name: Option<&str>) -> Result<Speaker, LibraryError> {
        let name = name.filter(|name| !name.is_empty());
        if let Source::Dummy = self.source {
            return match name {
                None | Some(dummy::MODEL) => Ok(Speaker::Dummy),
                Some(name) if is_openais(name) => Ok(Speaker::Dummy),
                Some(name) => Err(self.not_found(name)),
            };
        }
        match name.map(|name| (name, self.open(name))) {
            // Somebody may have a model of such a name.
            Some((name, Err(LibraryError::NotFound { .. }))) if is_openais(name) => self.default(),
            Some((_, found)) => found,
            None => self.default(),
        }
    }

    fn default(&self) -> Result<Speaker, LibraryError> {
        match &self.default_model {
            Some(name) => self.open(name),
            None => match self.open(USUAL) {
                Err(LibraryError::NotFound { .. }) => self.open(exo_models::embedded::ID),
                found => found,
            },
        }
    }

    fn open(&self, name: &str) -> Result<Speaker, LibraryError> {
        if let Some(speaker) = lock(&self.speakers).get(name) {
            return Ok(speaker.clone());
        }
        let broken = |source| match source {
            ModelError::NotAModel { path, .. } if path.as_os_str() == name => self.not_found(name),
            ModelError::Unknown(unknown) => LibraryError::NotFound {
                name: name.to_owned(),
                near: unknown.near.first().cloned(),
                available: unknown.available,
            },
            source => LibraryError::Broken {
                name: name.to_owned(),
                source: Box::new(source),
            },
        };
        let model = self.model(name).map_err(broken)?;
        let speaker = Speaker::Model {
            tokenizer: model.tokenizer().map_err(broken)?,
            template: Box::new(model.chat_template().map_err(broken)?),
            // Who only asks needs no weights, and may have none.
            fingerprint: self.adapted(model.fingerprint().unwrap_or_else(|error| {
                tracing::warn!("peers cannot be told which {name:?} is meant: {error}");
                0
            })),
            cost: Arc::new(cost_of(&model, self.kept).unwrap_or_else(|error| {
                tracing::warn!("{name:?} is placed by memory alone: {error}");
                ModelCost::default()
            })),
            model,
        };
        lock(&self.speakers).insert(name.to_owned(), speaker.clone());
        Ok(speaker)
    }

    fn not_found(&self, name: &str) -> LibraryError {
        let available = self.list().into_iter().map(|listed| listed.id).collect();
        LibraryError::NotFound {
            name: name.to_owned(),
            near: None,
            available,
        }
    }

    /// Everything that can be served.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        match &self.source {
            Source::Disk(catalog) => {
                let mut list: Vec<Listed> = catalog
                    .list()
                    .into_iter()
                    .map(|entry| {
                        let model = entry.path.as_deref().map(Model::open);
                        let model = model.unwrap_or_else(Model::embedded).ok();
                        Listed {
                            id: entry.id,
                            layers: entry.layers,
                            bytes: entry.bytes,
                            context: model.as_ref().map(|model| model.config().context),
                            place: model.as_ref().map_or(Place::Partial, Place::of),
                            path: entry.path,
                        }
                    })
                    .collect();
                for (id, model) in lock(&self.named).iter() {
                    if !list.iter().any(|listed| listed.id == *id) {
                        let config = model.config();
                        list.push(Listed {
                            id: id.clone(),
                            layers: config.layers,
                            bytes: config.weight_bytes,
                            context: Some(config.context),
                            place: Place::of(model),
                            path: None,
                        });
                    }
                }
                list
            }
            Source::Dummy => {
                vec![Listed {
                    id: dummy::MODEL.to_owned(),
                    layers: dummy::LAYERS,
                    bytes: 0,
                    context: None,
                    place: Place::Local,
                    path: None,
                }]
            }
        }
    }

    /// Well-known models that the hub has and that are not in `here`.
    #[must_use]
    pub fn remote(&self, here: &[Listed]) -> Vec<Listed> {
        let entries = registry::entries().iter();
        let missing = entries.filter(|entry| {
            entry.repos().next().is_some() && !here.iter().any(|listed| listed.id == entry.id)
        });
        let remote = |entry: &registry::Entry| Listed {
            id: entry.id.to_owned(),
            layers: entry.layers,
            bytes: 0,
            context: None,
            place: Place::Remote,
            path: None,
        };
        missing.map(remote).collect()
    }

    /// Where a model lies that is no business of the hub's cache.
    #[must_use]
    pub fn elsewhere(&self, id: &str, hub: &Hub) -> Option<PathBuf> {
        let Source::Disk(catalog) = &self.source else {
            return None;
        };
        let found = catalog.list().into_iter().find(|entry| entry.id == id)?;
        found
            .path
            .filter(|path| !path.starts_with(&hub.options().cache))
    }

    /// Whether the weights of these layers are on this machine.
    #[must_use]
    pub fn has(&self, name: &str, layers: Range<u32>) -> bool {
        self.model(name)
            .is_ok_and(|model| model.weights(layers).is_ok())
    }

    /// A model was removed, or has more files than before.
    pub fn forget(&self, id: &str) {
        lock(&self.speakers).remove(id);
        lock(&self.named).remove(id);
    }
}

/// Names that programs written for OpenAI's service have built in.
fn is_openais(name: &str) -> bool {
    name.starts_with("gpt-")
}

/// Whether a name from the network is a name and no path: strangers do not choose files.
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
    };
    // A file of a repository, as the hub's names have it.
    let (name, file) = name.split_once(':').unwrap_or((name, "x"));
    name.len() <= 200
        && file.len() <= 200
        && part(file)
        && name.matches('/').count() <= 1
        && name.split('/').all(part)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_choose_files() {
        for name in [
            "llama-3.2-1b",
            "mlx-community/Llama-3.2-1B-Instruct-4bit",
            "a_b+c",
            "me/tiny:Q4_K_M",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/b/c",
            ".hidden",
            "a/.b",
            "C:\\x",
            "a b",
            "a:../b",
            "a/b:/etc/x",
        ] {
            assert!(!is_name(name), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let library = Library::on_disk(Catalog::new(vec![folder.path().to_owned()]), None);
        let path = folder.path().to_string_lossy();
        assert!(matches!(
            library.speaker(Some(&path)),
            Err(LibraryError::NotFound { .. })
        ));
    }

    #[test]
    fn a_model_says_what_it_is() {
        let library = Library::on_disk(Catalog::new(Vec::new()), None);
        let speaker = library.speaker(Some(exo_models::embedded::ID)).unwrap();
        let model = Model::embedded().unwrap();
        assert_eq!(speaker.bytes(), model.config().weight_bytes);
        assert_eq!(speaker.fingerprint(), model.fingerprint().unwrap());
        assert_ne!(speaker.fingerprint(), 0);
    }

    #[test]
    fn the_dummy_has_one_model() {
        let library = Library::dummy();
        for name in [None, Some("dummy"), Some("gpt-4o"), Some("")] {
            let speaker = library.speaker(name).unwrap();
            assert_eq!((speaker.id().as_str(), speaker.layers()), ("dummy", 8));
            assert_eq!((speaker.bytes(), speaker.fingerprint()), (0, 0));
        }
        let error = library.speaker(Some("llama")).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"model "llama" is not here; here are: dummy"#
        );
        assert_eq!(library.list().len(), 1);
    }
}
