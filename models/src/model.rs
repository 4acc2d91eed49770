//! A model: one thing, whatever files it is made of.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    ChatTemplate, ModelConfig, ModelError, Sizes, Tokenizer, Weights, chat,
    config::{from_folder, from_gguf},
    embedded, fingerprint,
    folder::Folder,
    gguf::{Gguf, GgufError},
    guide::Vocabulary,
    map::FileBytes,
    parts,
    safetensors::SafetensorsFiles,
    tokenizer,
    weights::{Located, Place, StoredKind, TensorFiles, WeightName},
};

/// A model on disk, or the one compiled into the binary. Cheap to clone.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    source: Source,
    config: Arc<ModelConfig>,
    /// Built on first use: it takes a while, and stages in the middle of a ring never need it.
    tokenizer: Mutex<Option<Arc<Tokenizer>>>,
    /// Built on first use, which most requests have none for.
    vocabulary: Mutex<Option<Arc<Vocabulary>>>,
    /// Found on first use: headers and the tokenizer's file are read for it.
    fingerprint: OnceLock<u64>,
}

enum Source {
    HuggingFace(Folder),
    Gguf(Arc<GgufFile>),
}

struct GgufFile {
    path: PathBuf,
    header: Gguf,
    bytes: FileBytes,
}

impl Model {
    /// Opens a folder in Hugging Face layout, or a `.gguf` file (or a folder with one of those).
    /// Reads configuration and metadata, no weights.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let named = if path.is_dir() {
            path.file_name()
        } else {
            path.file_stem()
        };
        let id = match named {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        Self::open_as(path, id)
    }

    /// Opens a path under a name that the path does not show, such as a registry id.
    pub(crate) fn open_as(path: &Path, id: String) -> Result<Self, ModelError> {
        let metadata = fs::metadata(path);
        if metadata.is_err() && parts::find(path).is_some() {
            return Self::open_gguf(path, id);
        }
        let metadata = metadata.map_err(|e| ModelError::io(path, e))?;
        if metadata.is_file() {
            return Self::open_gguf(path, id);
        }
        let folder = Folder::Disk(path.to_owned());
        let mut found = folder.list()?;
        let safetensors = found.iter().any(|(name, _)| name.contains(".safetensors"));
        found.retain(|(name, _)| name.ends_with(".gguf"));
        // Repositories of GGUF files often keep the original's config.json.
        if path.join("config.json").is_file() && (safetensors || found.len() != 1) {
            return Self::from_folder(folder, id);
        }
        match found.as_slice() {
            [(name, _)] => Self::open_gguf(&path.join(name), id),
            [] => Err(ModelError::NotAModel {
                path: path.to_owned(),
                why: "it has neither a config.json nor a .gguf file".to_owned(),
            }),
            several => Err(ModelError::NotAModel {
                path: path.to_owned(),
                why: format!("it has {} .gguf files, give the path of one", several.len()),
            }),
        }
    }

    /// The model compiled into the binary; its id is [`embedded::ID`].
    pub fn embedded() -> Result<Self, ModelError> {
        Self::from_folder(
            Folder::Embedded(embedded::ID, embedded::FILES),
            embedded::ID.to_owned(),
        )
    }

    fn from_folder(folder: Folder, id: String) -> Result<Self, ModelError> {
        let config = from_folder(&folder)?;
        Ok(Self::new(id, Source::HuggingFace(folder), config))
    }

    fn open_gguf(path: &Path, id: String) -> Result<Self, ModelError> {
        let bytes = match parts::map(path)? {
            Some(bytes) => bytes,
            None => FileBytes::map(path)?,
        };
        let header =
            Gguf::parse_beginning(bytes.beginning(), bytes.len()).map_err(
                |source| match source {
                    GgufError::Magic(_) if path.extension().is_none_or(|name| name != "gguf") => {
                        ModelError::NotAModel {
                            path: path.to_owned(),
                            why: "it is no GGUF file; of other formats, give the folder".to_owned(),
                        }
                    }
                    source => ModelError::Gguf {
                        file: path.to_owned(),
                        source,
                    },
                },
            )?;
        for (tensor, range) in header.constants() {
            if bytes.lacks(&range).is_some() {
                return Err(ModelError::not_here(path, tensor));
            }
        }
        let config = from_gguf(path, &header, &bytes)?;
        let file = GgufFile {
            path: path.to_owned(),
            header,
            bytes,
        };
        Ok(Self::new(id, Source::Gguf(Arc::new(file)), config))
    }

    fn new(id: String, source: Source, config: ModelConfig) -> Self {
        let config = Arc::new(config);
        Self {
            inner: Arc::new(Inner {
                id,
                source,
                config,
                tokenizer: Mutex::default(),
                vocabulary: Mutex::default(),
                fingerprint: OnceLock::new(),
            }),
        }
    }

    /// The name it was opened under: a registry id, a repository, a file's stem, a folder's name.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Its shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// What the model is, in one number: a hash of its configuration, the size of its vocabulary,
    /// and the names, shapes and types of its tensors. Never zero; found once.
    ///
    /// It is the same wherever the same model is, under any name and in whatever part: a folder
    /// with an index goes by the index, and needs no weight file at all. It differs for another
    /// quantisation, shape or constant, and for other files of the same model: as GGUF, or in one
    /// file instead of several. The weights' values are not looked at.
    ///
    /// # Errors
    /// When the files do not tell: there is no tokenizer, or no weight file and no index.
    pub fn fingerprint(&self) -> Result<u64, ModelError> {
        if let Some(found) = self.inner.fingerprint.get() {
            return Ok(*found);
        }
        let config = &self.inner.config;
        let found = match &self.inner.source {
            Source::Gguf(file) => fingerprint::of_gguf(config, &file.header),
            Source::HuggingFace(folder) => fingerprint::of_folder(config, folder)?,
        };
        Ok(*self.inner.fingerprint.get_or_init(|| found))
    }

    /// The weights that a node with these layers needs: maps only the files they are in, and checks
    /// that every one is there and has the shape that the configuration implies.
    pub fn weights(&self, layers: Range<u32>) -> Result<Weights, ModelError> {
        let weights = self.outline(layers)?;
        weights.check_here()?;
        Ok(weights)
    }

    /// How many bytes each layer takes, and what comes before and after them: of the whole model,
    /// of which the beginnings of its files have to be here and no more.
    ///
    /// # Errors
    /// As [`Model::weights`].
    pub fn sizes(&self) -> Result<Sizes, ModelError> {
        self.outline(0..self.config().layers)?.sizes()
    }

    /// The same as [`Model::weights`], of which any bytes may be missing.
    pub(crate) fn outline(&self, layers: Range<u32>) -> Result<Weights, ModelError> {
        let config = &self.inner.config;
        if layers.is_empty() || layers.end > config.layers {
            return Err(ModelError::LayerRange {
                model: self.id().to_owned(),
                range: layers,
                layers: config.layers,
            });
        }
        let files: Arc<dyn TensorFiles> = match &self.inner.source {
            Source::Gguf(file) => file.clone(),
            Source::HuggingFace(folder) => {
                Arc::new(SafetensorsFiles::open(folder, &layers, config)?)
            }
        };
        Weights::open(config.clone(), layers, files)
    }

    /// Its tokenizer; loaded once.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>, ModelError> {
        // A panic while it was being built leaves `None`, which is as good as new.
        let mut cached = self
            .inner
            .tokenizer
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(tokenizer) = &*cached {
            return Ok(tokenizer.clone());
        }
        let config = &self.inner.config;
        let built = Arc::new(match &self.inner.source {
            Source::HuggingFace(folder) => tokenizer::from_folder(folder, config)?,
            Source::Gguf(file) => tokenizer::from_gguf(&file.path, &file.header, config)?,
        });
        *cached = Some(built.clone());
        Ok(built)
    }

    /// Its tokens as grammars need them; built once.
    pub fn vocabulary(&self) -> Result<Arc<Vocabulary>, ModelError> {
        let tokenizer = self.tokenizer()?;
        let cached = self.inner.vocabulary.lock();
        let mut cached = cached.unwrap_or_else(PoisonError::into_inner);
        if let Some(vocabulary) = &*cached {
            return Ok(vocabulary.clone());
        }
        let built = Arc::new(Vocabulary::new(&tokenizer, &self.inner.config.eos)?);
        *cached = Some(built.clone());
        Ok(built)
    }

    /// Its chat template, or a default if it has none: see [`ChatTemplate`].
    pub fn chat_template(&self) -> Result<ChatTemplate, ModelError> {
        match &self.inner.source {
            Source::HuggingFace(folder) => chat::from_folder(folder, || self.tokenizer()),
            Source::Gguf(file) => chat::from_gguf(&file.path, &file.header),
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match &self.inner.source {
            Source::HuggingFace(folder) => folder.path(),
            Source::Gguf(file) => file.path.clone(),
        };
        write!(f, "Model({} in {})", self.inner.id, place.display())
    }
}

impl TensorFiles for GgufFile {
    fn places(&self, name: WeightName, config: &ModelConfig) -> Vec<Place> {
        name.gguf(config)
    }

    fn tensor(&self, name: &str) -> Result<Option<Located<'_>>, ModelError> {
        Ok(self.header.tensors.get(name).map(|info| Located {
            kind: StoredKind::Plain(info.kind),
            shape: info.dims.iter().rev().copied().collect(),
            bytes: info.bytes.clone(),
            file: &self.bytes,
            path: &self.path,
        }))
    }

    fn whole(&self) -> PathBuf {
        self.path.clone()
    }
}
