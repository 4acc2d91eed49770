//! Safetensors files, and the index that says which of them has which tensor.
//!
//! The format is a JSON header and raw bytes. We read the header ourselves rather than with the
//! `safetensors` crate: it judges a file as a whole, and we want to name the tensor that is wrong or
//! the one that a broken download has cut off.

mod header;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::header::Header;
use crate::{
    ModelConfig, ModelError,
    folder::Folder,
    map::FileBytes,
    weights::{Located, Place, TensorFiles, WeightName, first_name},
};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// What goes before the names of the text part's tensors in models that see images too.
const NESTED: &str = "language_model.";

/// The weights in a folder, as far as can be told without mapping them.
pub(crate) struct Survey {
    pub(crate) bytes: u64,
    pub(crate) has_output_head: bool,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    metadata: IndexMetadata,
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct IndexMetadata {
    total_size: Option<serde_json::Number>,
}

impl IndexMetadata {
    fn announced(&self) -> Option<u64> {
        let size = self.total_size.as_ref()?.as_f64()?;
        Some(size as u64)
    }
}

impl Index {
    /// The files that have weights of these layers, or the name of a tensor that none has.
    fn files(&self, range: &Range<u32>, config: &ModelConfig) -> Result<BTreeSet<String>, String> {
        let prefix = prefix(self.weight_map.keys());
        let mut files = BTreeSet::new();
        for name in WeightName::of_range(range, config) {
            let places = name.hugging_face(config, prefix);
            let tensor = places
                .iter()
                .map(|place| &place.tensor)
                .find(|tensor| self.weight_map.contains_key(*tensor))
                .ok_or_else(|| first_name(&places))?;
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            let packed = ["scales", "biases"].map(|part| format!("{module}.{part}"));
            let tensors = [tensor].into_iter().chain(&packed);
            files.extend(tensors.filter_map(|tensor| self.weight_map.get(tensor).cloned()));
        }
        Ok(files)
    }
}

/// Whether a file of `size` bytes that begins so is one: if that cannot be told yet, how many bytes
/// of it are needed.
pub(crate) fn beginning(file: &Path, bytes: &[u8], size: u64) -> Result<Option<u64>, ModelError> {
    let needed = Header::length(file, bytes)?.min(size);
    if (bytes.len() as u64) < needed {
        return Ok(Some(needed));
    }
    Header::parse(file, bytes)?.check_end(file, size)?;
    Ok(None)
}

/// What all names of the text part's tensors begin with.
fn prefix<'a>(mut names: impl Iterator<Item = &'a String>) -> &'static str {
    match names.any(|name| name.starts_with(NESTED)) {
        true => NESTED,
        false => "",
    }
}

/// Every tensor of the model, as far as every node can tell, whatever part of the files it has.
#[derive(Debug)]
pub(crate) enum Table {
    /// Without an index all files are there: data type and shape by name, from their headers.
    Headers(BTreeMap<String, (String, Vec<u64>)>),
    /// With an index some files may be elsewhere: its names, and the bytes that it announces.
    Index {
        bytes: Option<u64>,
        tensors: BTreeSet<String>,
    },
}

/// The tensors of the whole model.
pub(crate) fn table(folder: &Folder) -> Result<Table, ModelError> {
    if let Some(index) = folder.json::<Index>(INDEX)? {
        return Ok(Table::Index {
            bytes: index.metadata.announced(),
            tensors: index.weight_map.into_keys().collect(),
        });
    }
    let names = file_names(folder)?;
    if names.is_empty() {
        return Err(ModelError::MissingFile {
            file: folder.file(SINGLE),
            why: "it says what tensors the model has, download it".to_owned(),
        });
    }
    let mut tensors = BTreeMap::new();
    for name in names {
        if let Some(bytes) = folder.map(&name)? {
            let header = Header::parse(&folder.file(&name), bytes.beginning())?;
            let entries = header.tensors.into_iter();
            tensors.extend(entries.map(|(tensor, entry)| (tensor, (entry.dtype, entry.shape))));
        }
    }
    Ok(Table::Headers(tensors))
}

/// Looks at the index and the sizes of the files.
pub(crate) fn survey(folder: &Folder) -> Result<Survey, ModelError> {
    let is_head = |name: &str| {
        let rest = name.strip_prefix(NESTED).unwrap_or(name);
        rest == "lm_head.weight"
    };
    if let Some(index) = folder.json::<Index>(INDEX)? {
        return Ok(Survey {
            bytes: index
                .metadata
                .announced()
                .map_or_else(|| sizes(folder), Ok)?,
            has_output_head: index.weight_map.keys().any(|name| is_head(name)),
        });
    }
    let mut has_output_head = false;
    for name in file_names(folder)? {
        if let Some(bytes) = folder.map(&name)? {
            let header = Header::parse(&folder.file(&name), bytes.beginning())?;
            has_output_head |= header.tensors.keys().any(|name| is_head(name));
        }
    }
    Ok(Survey {
        bytes: sizes(folder)?,
        has_output_head,
    })
}

/// The weight files, when there is no index.
fn file_names(folder: &Folder) -> Result<Vec<String>, ModelError> {
    let files = folder.list()?;
    let names = files.iter().map(|(name, _)| name.as_str()).collect();
    Ok(without_index(names))
}

/// Those of these files that have the weights, when there is no index: what the reference takes.
pub(crate) fn without_index(mut names: Vec<&str>) -> Vec<String> {
    names.retain(|name| name.ends_with(".safetensors"));
    if names.contains(&SINGLE) {
        return vec![SINGLE.to_owned()];
    }
    for prefix in ["model", "weight"] {
        let matching = names.iter().filter(|name| name.starts_with(prefix));
        let matching: Vec<String> = matching.map(|name| (*name).to_owned()).collect();
        if !matching.is_empty() {
            return matching;
        }
    }
    Vec::new()
}

/// The files that the index names, all of them or those with weights of some layers; nothing if
/// there is no index.
pub(crate) fn indexed(
    folder: &Folder,
    part: Option<(&Range<u32>, &ModelConfig)>,
) -> Result<Option<BTreeSet<String>>, ModelError> {
    let Some(index) = folder.json::<Index>(INDEX)? else {
        return Ok(None);
    };
    let file = folder.file(INDEX);
    let names = match part {
        Some((range, config)) => {
            let missing = |tensor| ModelError::MissingTensor {
                file: file.clone(),
                tensor,
            };
            index.files(range, config).map_err(missing)?
        }
        None => index.weight_map.into_values().collect(),
    };
    match names.iter().find(|name| !is_plain_name(name)) {
        Some(name) => {
            let expected = "names of files in the same folder";
            Err(ModelError::field(&file, "weight_map", expected, name))
        }
        None => Ok(Some(names)),
    }
}

fn sizes(folder: &Folder) -> Result<u64, ModelError> {
    let files = folder.list()?;
    Ok(files
        .iter()
        .filter(|(name, _)| name.ends_with(".safetensors"))
        .map(|(_, size)| size)
        .sum())
}

/// The files that a range of layers needs.
pub(crate) struct SafetensorsFiles {
    folder: PathBuf,
    files: Vec<(PathBuf, FileBytes, Header)>,
    /// In which of them a tensor is: models with experts have tens of thousands in hundreds of files.
    places: HashMap<String, usize>,
    /// Before the names of all tensors of the text part.
    prefix: &'static str,
}

impl SafetensorsFiles {
    /// Maps the files that have tensors of these layers, and no others: with an index, the files of
    /// other nodes' layers need not even be there.
    pub(crate) fn open(
        folder: &Folder,
        range: &Range<u32>,
        config: &ModelConfig,
    ) -> Result<Self, ModelError> {
        let index = folder.json::<Index>(INDEX)?;
        if let (Some(_), Some(index)) = (config.latent, &index) {
            refuse_absorbed(folder, index.weight_map.keys())?;
        }
        let names = match &index {
            None => file_names(folder)?.into_iter().collect(),
            Some(index) => index.files(range, config).map_err(|tensor| {
                let file = folder.file(INDEX);
                ModelError::MissingTensor { file, tensor }
            })?,
        };
        let missing = |file: PathBuf| ModelError::MissingFile {
            file,
            why: format!(
                "it has weights of layers {}..{}, download it",
                range.start, range.end
            ),
        };
        if names.is_empty() {
            return Err(missing(folder.file(SINGLE)));
        }
        let mut files = Vec::new();
        for name in names {
            let path = folder.file(&name);
            if !is_plain_name(&name) {
                let expected = "names of files in the same folder";
                return Err(ModelError::field(
                    &folder.file(INDEX),
                    "weight_map",
                    expected,
                    name,
                ));
            }
            let bytes = folder.map(&name)?.ok_or_else(|| missing(path.clone()))?;
            let header = Header::parse(&path, bytes.beginning())?;
            files.push((path, bytes, header));
        }
        if config.latent.is_some() && index.is_none() {
            let tensors = files
                .iter()
                .flat_map(|(_, _, header)| header.tensors.keys());
            refuse_absorbed(folder, tensors)?;
        }
        let prefix = match &index {
            Some(index) => prefix(index.weight_map.keys()),
            None => prefix(
                files
                    .iter()
                    .flat_map(|(_, _, header)| header.tensors.keys()),
            ),
        };
        let mut places = HashMap::new();
        for (number, (_, _, header)) in files.iter().enumerate() {
            for tensor in header.tensors.keys() {
                places.entry(tensor.clone()).or_insert(number);
            }
        }
        Ok(Self {
            folder: folder.path(),
            files,
            places,
            prefix,
        })
    }
}

/// Newer conversions for MLX keep what makes keys and values of the compressed vector in two tensors,
/// one of them the other way round.
fn refuse_absorbed<'a>(
    folder: &Folder,
    mut tensors: impl Iterator<Item = &'a String>,
) -> Result<(), ModelError> {
    let name = "self_attn.embed_q.weight";
    if !tensors.any(|tensor| tensor.ends_with(name)) {
        return Ok(());
    }
    let what = format!("latent attention with its weights rearranged (`{name}`, `unembed_out`)");
    let supported = "files with `self_attn.kv_b_proj`, as the model's authors published it";
    Err(ModelError::unsupported(&folder.path(), what, supported))
}

/// An index from the net must not lead out of its folder.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(std::path::Component::Normal(_)), None)
    )
}

impl TensorFiles for SafetensorsFiles {
    fn places(&self, name: WeightName, config: &ModelConfig) -> Vec<Place> {
        name.hugging_face(config, self.prefix)
    }

    fn tensor(&self, name: &str) -> Result<Option<Located<'_>>, ModelError> {
        let file = self.places.get(name).and_then(|&file| self.files.get(file));
        match file {
            Some((path, bytes, header)) => header.locate(path, bytes, name),
            None => Ok(None),
        }
    }

    fn whole(&self) -> PathBuf {
        match self.files.as_slice() {
            [(path, _, _)] => path.clone(),
            _ => self.folder.clone(),
        }
    }
}
