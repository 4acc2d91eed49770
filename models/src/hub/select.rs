//! Which files of a repository a node needs.

use std::{collections::BTreeSet, ops::Range, path::Path};

use super::{HubError, HubName, Part, http::RepoInfo, layout::is_file_name, name::is_gguf};
use crate::{
    Model, ModelConfig, ModelError,
    folder::Folder,
    gguf::{Gguf, GgufError},
    safetensors,
};

/// Files beside the weights: configuration, tokenizer, chat template. As the reference, without
/// Python code, which nothing here runs, and with templates that are files of their own.
const BESIDE: [&str; 5] = [".json", ".jinja", ".tiktoken", ".txt", "tokenizer.model"];

/// The vocabularies in GGUF headers have some megabytes.
const MAX_FRONT: u64 = 512 << 20;

/// What is fetched first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// One file that has everything.
    Gguf(String),
    /// What says which weights there are; those come next.
    Beside(Vec<String>),
}

/// What has to be here before anything else can be decided.
pub(super) fn first(name: &HubName, info: &RepoInfo) -> Result<First, HubError> {
    let files = root(info);
    let has = |end: &str| files.iter().any(|file| file.ends_with(end));
    if name.file.is_some() || (!has(".safetensors") && has(".gguf")) {
        let file = name.choose(&files)?;
        if in_pieces(file) {
            return Err(HubError::NoWeights {
                repo: name.repo.clone(),
                found: format!("{file}, one of several pieces of a model"),
            });
        }
        return Ok(First::Gguf(file.to_owned()));
    }
    if !has(".safetensors") {
        let mut kinds = BTreeSet::new();
        kinds.extend(files.iter().filter_map(|file| Path::new(file).extension()));
        let kinds: Vec<String> = kinds
            .iter()
            .map(|kind| format!(".{}", kind.display()))
            .collect();
        return Err(HubError::NoWeights {
            repo: name.repo.clone(),
            found: match kinds.as_slice() {
                [] => "no files".to_owned(),
                kinds => format!("{} files", kinds.join(", ")),
            },
        });
    }
    let beside = files
        .iter()
        .filter(|file| BESIDE.iter().any(|end| file.ends_with(end)));
    Ok(First::Beside(
        beside.map(|file| (*file).to_owned()).collect(),
    ))
}

/// The weight files for a range of layers, or for all: with an index only those that it says,
/// without one what a model is opened with. The configuration is in `folder` already.
pub(super) fn weights(
    info: &RepoInfo,
    folder: &Path,
    part: &Part,
) -> Result<Vec<String>, HubError> {
    let front = *part == Part::Front;
    let layers = match part {
        Part::Layers(layers) => Some(layers),
        Part::All | Part::Front => None,
    };
    let model = match Model::open(folder) {
        Ok(model) => Some(model),
        // Not even a download would help.
        Err(error @ ModelError::Unsupported { .. }) => return Err(error.into()),
        Err(error) if layers.is_some() => return Err(error.into()),
        // Whatever it is may be seen better when all is here.
        Err(_) => None,
    };
    let part = layers.zip(model.as_ref().map(Model::config));
    if let Some((layers, config)) = part {
        check(folder, layers, config)?;
    }
    let names = match safetensors::indexed(&Folder::Disk(folder.to_owned()), part)? {
        // The index says it all: each node fetches the weights of its own layers.
        Some(_) if front => Vec::new(),
        Some(indexed) => indexed.into_iter().collect(),
        None => safetensors::without_index(root(info)),
    };
    Ok(names)
}

/// What the beginning of a weight file says.
pub(super) enum Front {
    /// At least so many bytes are needed to know where its tensors are.
    More(u64),
    /// That is known, and these bytes belong to no layer but to what the model is.
    Known(Vec<Range<u64>>),
}

/// Looks at the beginning of a weight file of `size` bytes.
pub(super) fn look(file: &str, beginning: &[u8], size: u64) -> Result<Front, ModelError> {
    let path = Path::new(file);
    if !is_gguf(file) {
        let needed = safetensors::beginning(path, beginning, size)?;
        return Ok(needed.map_or_else(|| Front::Known(Vec::new()), Front::More));
    }
    let length = usize::try_from(size).unwrap_or(usize::MAX);
    match Gguf::parse_beginning(beginning, length) {
        Ok(header) => {
            let constants = header.constants();
            let ranges = constants.map(|(_, range)| range.start as u64..range.end as u64);
            Ok(Front::Known(ranges.collect()))
        }
        // Nothing says how long a header is.
        Err(GgufError::Truncated { .. }) if (beginning.len() as u64) < size.min(MAX_FRONT) => {
            Ok(Front::More(beginning.len() as u64 * 4))
        }
        Err(source) => Err(ModelError::Gguf {
            file: path.to_owned(),
            source,
        }),
    }
}

fn check(folder: &Path, layers: &Range<u32>, config: &ModelConfig) -> Result<(), ModelError> {
    if layers.is_empty() || layers.end > config.layers {
        return Err(ModelError::LayerRange {
            model: folder.display().to_string(),
            range: layers.clone(),
            layers: config.layers,
        });
    }
    Ok(())
}

/// Files that lie in no folder: whatever is deeper down belongs to other programs. Names that would
/// lead elsewhere are no files.
fn root(info: &RepoInfo) -> Vec<&str> {
    let names = info.files.iter().map(|(name, _)| name.as_str());
    names
        .filter(|name| is_file_name(name) && !name.contains('/'))
        .collect()
}

/// `model-00001-of-00003.gguf`.
fn in_pieces(file: &str) -> bool {
    let stem = file.strip_suffix(".gguf").unwrap_or(file);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_gguf(file)
        && stem.rsplit_once("-of-").is_some_and(|(before, count)| {
            digits(count)
                && before
                    .rsplit_once('-')
                    .is_some_and(|(_, number)| digits(number))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(name: &str, files: &[&str]) -> Result<First, HubError> {
        let info = RepoInfo {
            commit: String::new(),
            files: files
                .iter()
                .map(|file| ((*file).to_owned(), None))
                .collect(),
        };
        super::first(&HubName::parse(name).unwrap(), &info)
    }

    #[test]
    fn what_stands_beside_weights_is_fetched_first() {
        let files = [
            ".gitattributes",
            "README.md",
            "chat_template.jinja",
            "config.json",
            "merges.txt",
            "model.safetensors",
            "modeling.py",
            "onnx/config.json",
            "tokenizer.model",
            "../evil.json",
            "tiny.gguf",
        ];
        let wanted = [
            "chat_template.jinja",
            "config.json",
            "merges.txt",
            "tokenizer.model",
        ];
        let wanted = First::Beside(wanted.map(str::to_owned).to_vec());
        assert_eq!(first("me/tiny", &files).unwrap(), wanted);
        let file = First::Gguf("tiny.gguf".to_owned());
        assert_eq!(first("me/tiny:tiny.gguf", &files).unwrap(), file);
    }

    #[test]
    fn of_gguf_files_one_is_fetched() {
        let one = ["config.json", "tiny.Q8_0.gguf"];
        let file = First::Gguf("tiny.Q8_0.gguf".to_owned());
        assert_eq!(first("me/tiny", &one).unwrap(), file);
        let two = ["a.Q4_0.gguf", "a.Q8_0.gguf"];
        assert!(matches!(
            first("me/tiny", &two),
            Err(HubError::Choose { .. })
        ));
        let pieces = ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"];
        let told = first("me/tiny:a-00001-of-00002.gguf", &pieces).unwrap_err();
        assert!(told.to_string().contains("one of several pieces"), "{told}");
    }

    #[test]
    fn weights_that_nobody_reads_are_not_fetched() {
        let told = first("me/tiny", &["config.json", "pytorch_model.bin"]).unwrap_err();
        assert!(
            told.to_string().contains("it has .bin, .json files"),
            "{told}"
        );
        let told = first("me/tiny", &[]).unwrap_err().to_string();
        assert!(told.contains("it has no files"), "{told}");
    }
}
