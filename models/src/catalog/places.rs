//! Where models lie.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    hub::{self, HubName},
    parts,
};

/// A model by its own name, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) path: PathBuf,
}

#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) models_dirs: Vec<PathBuf>,
    pub(super) downloads: Option<PathBuf>,
    pub(super) hub: Option<PathBuf>,
}

/// Folders in a models folder may be grouped: `models/<organisation>/<name>/…`.
const DEPTH: u32 = 3;

impl Places {
    pub(super) fn from_environment(models_dirs: Vec<PathBuf>) -> Self {
        // The reference looks in `~/.cache` whatever XDG says; the hub's own library asks XDG.
        let exo = hub::variable("EXO_HOME");
        let exo = exo.or_else(|| Some(env::home_dir()?.join(".cache/exo")));
        Self {
            models_dirs,
            downloads: exo.map(|exo| exo.join("downloads")),
            hub: hub::cache(),
        }
    }

    /// The models in the folders that the user named, by file stem or folder name.
    pub(super) fn in_models_dirs(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for folder in &self.models_dirs {
            // Somebody may name the model's own folder.
            if let (true, Some(name)) = (folder.join("config.json").is_file(), folder.file_name()) {
                let id = name.to_string_lossy().into_owned();
                found.push(Found {
                    id,
                    path: folder.clone(),
                });
            }
            scan(folder, DEPTH, &mut found);
        }
        found
    }

    /// The repositories that are in the caches and can be opened.
    pub(super) fn repos(&self) -> Vec<Found> {
        let named = |folder: &Option<PathBuf>, prefix: &str| {
            let mut repos = Vec::new();
            for (name, _) in folder.iter().flat_map(|folder| children(folder)) {
                let parts = name
                    .strip_prefix(prefix)
                    .and_then(|name| name.split_once("--"));
                if let Some((organisation, name)) = parts {
                    repos.push(format!("{organisation}/{name}"));
                }
            }
            repos
        };
        let mut repos = named(&self.downloads, "");
        repos.extend(named(&self.hub, "models--"));
        repos
            .into_iter()
            .flat_map(|id| {
                let places = self.of_repo(&id);
                let whole = places.iter().find(|place| is_model(place)).cloned();
                let whole = whole.map(|path| Found {
                    id: id.clone(),
                    path,
                });
                // Several models in one repository go by the names of their files.
                let files = match whole {
                    Some(_) => Vec::new(),
                    None => places.iter().flat_map(|place| children(place)).collect(),
                };
                let files = files.into_iter().filter(|(_, path)| is_gguf(path));
                let files = files.map(move |(name, path)| Found {
                    id: format!("{id}:{name}"),
                    path,
                });
                whole.into_iter().chain(files).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The places where a repository would be, whether it is there or not.
    pub(super) fn of_repo(&self, repo: &str) -> Vec<PathBuf> {
        let folded = repo.replace('/', "--");
        let mut places = Vec::new();
        for folder in &self.models_dirs {
            places.push(folder.join(&folded));
            places.push(folder.join(repo));
            places.extend(repo.split_once('/').map(|(_, name)| folder.join(name)));
        }
        places.extend(
            self.downloads
                .iter()
                .map(|downloads| downloads.join(&folded)),
        );
        if let Some(hub) = &self.hub {
            places.push(snapshot(&hub.join(format!("models--{folded}"))));
        }
        places
    }
}

/// A model can be opened there: a GGUF file, or a folder that has what [`Model::open`] wants.
///
/// [`Model::open`]: crate::Model::open
pub(super) fn is_model(path: &Path) -> bool {
    if is_gguf(path) {
        return true;
    }
    path.join("config.json").is_file()
        || children(path)
            .iter()
            .filter(|(_, path)| is_gguf(path))
            .count()
            == 1
}

/// The model of that name in one version of its repository: the folder, or the one file that the name
/// says.
pub(crate) fn in_snapshot(snapshot: &Path, name: &HubName) -> Option<PathBuf> {
    if name.file.is_none() {
        return is_model(snapshot).then(|| snapshot.to_owned());
    }
    let files = children(snapshot);
    let files: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let path = snapshot.join(name.choose(&files).ok()?);
    is_gguf(&path).then_some(path)
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "gguf")
        && (path.is_file() || parts::find(path).is_some())
}

/// The version of a repository in the hub's cache that `main` was when it was last fetched; or any,
/// if it was fetched by version. The repository's folder itself, if there is none.
fn snapshot(repo: &Path) -> PathBuf {
    let snapshots = repo.join("snapshots");
    let main = fs::read_to_string(repo.join("refs/main")).unwrap_or_default();
    let main = main.trim();
    if !main.is_empty() && main.chars().all(|c| c.is_ascii_alphanumeric()) {
        let path = snapshots.join(main);
        if path.is_dir() {
            return path;
        }
    }
    let others = children(&snapshots).into_iter().map(|(_, path)| path);
    others
        .filter(|path| is_model(path))
        .max()
        .unwrap_or_else(|| repo.to_owned())
}

/// Adds the models under a folder: those right in it before those deeper down.
fn scan(folder: &Path, depth: u32, found: &mut Vec<Found>) {
    let mut deeper = Vec::new();
    for (name, path) in children(folder) {
        if is_gguf(&path) {
            let id = name.strip_suffix(".gguf").unwrap_or(&name).to_owned();
            found.push(Found { id, path });
        } else if path.join("config.json").is_file() {
            found.push(Found { id: name, path });
        } else if depth > 1 && path.is_dir() {
            deeper.push(path);
        }
    }
    for path in deeper {
        scan(&path, depth - 1, found);
    }
}

/// Names and paths in a folder, sorted, without hidden ones; none if it cannot be read. Also of files
/// of which only a part is here.
fn children(folder: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut children: Vec<_> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, entry.path()))
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    let parts = parts::of(folder).into_iter();
    children.extend(parts.map(|part| (part.name.clone(), folder.join(part.name))));
    children.sort();
    children
}
