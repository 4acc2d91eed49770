use std::{fs, path::Path};

use super::{Catalog, is_repo, looks_like_path};
use crate::{
    ModelError,
    test_files::{GgufFile, write_folder},
};

/// A machine with all kinds of places.
struct Machine {
    root: tempfile::TempDir,
    catalog: Catalog,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let catalog = Catalog::with_places(vec![at("models")], Some(at("exo")), Some(at("hub")));
        Self { root, catalog }
    }

    fn folder(&self, path: &str) {
        write_folder(&self.root.path().join(path), true);
    }

    fn id_and_place(&self, name: &str) -> (String, String) {
        let model = self.catalog.resolve(name).unwrap();
        let place = format!("{model:?}");
        let root = format!("{}/", self.root.path().display());
        let place = place
            .split_once(" in ")
            .unwrap()
            .1
            .trim_end_matches(')')
            .replace(&root, "");
        (model.id().to_owned(), place)
    }

    fn listed(&self) -> Vec<String> {
        self.catalog
            .list()
            .into_iter()
            .map(|entry| entry.id)
            .collect()
    }
}

fn pair(id: &str, place: &str) -> (String, String) {
    (id.to_owned(), place.to_owned())
}

#[test]
fn names_in_a_models_folder() {
    let machine = Machine::new();
    machine.folder("models/folder");
    machine.folder("models/organisation/deeper");
    GgufFile::tiny().write(&machine.root.path().join("models/stem.Q8_0.gguf"));
    assert_eq!(
        machine.id_and_place("folder"),
        pair("folder", "models/folder")
    );
    assert_eq!(
        machine.id_and_place("deeper"),
        pair("deeper", "models/organisation/deeper")
    );
    assert_eq!(
        machine.id_and_place("stem.Q8_0"),
        pair("stem.Q8_0", "models/stem.Q8_0.gguf")
    );
    let repo = "organisation/deeper";
    assert_eq!(
        machine.id_and_place(repo),
        pair(repo, "models/organisation/deeper")
    );
    assert_eq!(
        machine.listed(),
        ["stories", "folder", "stem.Q8_0", "deeper"]
    );
}

#[test]
fn a_models_own_folder_may_be_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mine");
    write_folder(&path, true);
    let catalog = Catalog::with_places(vec![path], None, None);
    assert_eq!(catalog.resolve("mine").unwrap().id(), "mine");
}

#[test]
fn paths_are_opened_as_they_are() {
    let machine = Machine::new();
    machine.folder("elsewhere/my-model");
    let path = machine.root.path().join("elsewhere/my-model");
    let expected = pair("my-model", "elsewhere/my-model");
    assert_eq!(machine.id_and_place(path.to_str().unwrap()), expected);
    for gone in ["./gone", "/no/such/folder", "gone.gguf"] {
        let error = machine.catalog.resolve(gone).unwrap_err();
        assert!(matches!(error, ModelError::Io { .. }), "{error}");
    }
}

#[test]
fn registry_ids_and_repositories_in_the_caches() {
    let machine = Machine::new();
    machine.folder("exo/unsloth--Llama-3.2-1B-Instruct");
    machine.folder("exo/someone--Own-Model");
    let expected = pair("llama-3.2-1b", "exo/unsloth--Llama-3.2-1B-Instruct");
    assert_eq!(machine.id_and_place("llama-3.2-1b"), expected);
    let expected = pair("someone/Own-Model", "exo/someone--Own-Model");
    assert_eq!(machine.id_and_place("someone/Own-Model"), expected);
    assert_eq!(
        machine.listed(),
        ["stories", "someone/Own-Model", "llama-3.2-1b"]
    );
}

#[test]
fn the_version_that_main_is_in_the_hubs_cache() {
    let machine = Machine::new();
    let repo = "hub/models--HuggingFaceTB--SmolLM2-135M-Instruct";
    machine.folder(&format!("{repo}/snapshots/aaaa"));
    machine.folder(&format!("{repo}/snapshots/bbbb"));
    let refs = machine.root.path().join(repo).join("refs");
    fs::create_dir(&refs).unwrap();
    for version in ["aaaa", "bbbb"] {
        fs::write(refs.join("main"), version).unwrap();
        let expected = pair("smollm2-135m", &format!("{repo}/snapshots/{version}"));
        assert_eq!(machine.id_and_place("smollm2-135m"), expected);
    }
    // Fetched by version only, or a file that leads elsewhere: any version will do.
    for main in ["cccc", "../..", ""] {
        fs::write(refs.join("main"), main).unwrap();
        let expected = pair("smollm2-135m", &format!("{repo}/snapshots/bbbb"));
        assert_eq!(machine.id_and_place("smollm2-135m"), expected);
    }
    assert_eq!(machine.listed(), ["stories", "smollm2-135m"]);
}

#[cfg(unix)]
#[test]
fn the_hubs_links_are_followed() {
    let machine = Machine::new();
    let repo = machine.root.path().join("hub/models--a--b");
    write_folder(&repo.join("blobs"), true);
    let snapshot = repo.join("snapshots/aaaa");
    fs::create_dir_all(&snapshot).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let blob = Path::new("../../blobs").join(name);
        std::os::unix::fs::symlink(blob, snapshot.join(name)).unwrap();
    }
    let model = machine.catalog.resolve("a/b").unwrap();
    assert!(model.config().weight_bytes > 0);
    model.weights(0..2).unwrap();
}

#[test]
fn unknown_names_say_what_was_done() {
    let machine = Machine::new();
    machine.folder("models/my-model");
    fs::create_dir_all(
        machine
            .root
            .path()
            .join("exo/unsloth--Llama-3.2-3B-Instruct"),
    )
    .unwrap();
    let unknown = |name: &str| match machine.catalog.resolve(name) {
        Err(ModelError::Unknown(unknown)) => *unknown,
        other => panic!("{other:?}"),
    };
    let error = unknown("my-mode");
    assert_eq!(error.available, ["stories", "my-model"]);
    assert_eq!(error.near, ["my-model"]);
    let text = error.to_string();
    assert!(
        text.contains("`my-mode`") && text.contains("did you mean my-model?"),
        "{text}"
    );

    // A known model that is not here, and one that is only half here.
    let text = unknown("qwen-2.5-7b").to_string();
    assert!(
        text.contains("mlx-community/Qwen2.5-7B-Instruct-4bit at "),
        "{text}"
    );
    assert!(
        text.contains("hub/models--mlx-community--Qwen2.5-7B-Instruct-4bit"),
        "{text}"
    );
    let text = unknown("llama-3.2-3b").to_string();
    assert!(
        text.contains("Llama-3.2-3B-Instruct (there, but incomplete)"),
        "{text}"
    );
    assert!(unknown("dummy").to_string().contains("it has none"));
    assert!(unknown("some/repo").to_string().contains("exo/some--repo"));
    unknown("");
    unknown("a/../../b");
}

#[test]
fn what_cannot_be_opened_is_not_listed() {
    let machine = Machine::new();
    machine.folder("models/good");
    machine.folder("models/bad");
    fs::write(machine.root.path().join("models/bad/config.json"), "{").unwrap();
    let listed = machine.catalog.list();
    assert_eq!(machine.listed(), ["stories", "good"]);
    assert_eq!(listed[0].path, None);
    assert_eq!(
        listed[1].path,
        Some(machine.root.path().join("models/good"))
    );
    assert_eq!(listed[1].layers, 2);
    assert!(listed[1].bytes > 20_000);
}

#[test]
fn the_built_in_model_needs_no_place() {
    let catalog = Catalog::with_places(Vec::new(), None, None);
    assert_eq!(catalog.resolve("stories").unwrap().id(), "stories");
}

#[test]
fn kinds_of_names() {
    for repo in ["org/name", "mlx-community/Qwen2.5-7B-Instruct-4bit"] {
        assert!(is_repo(repo) && !looks_like_path(repo), "{repo}");
    }
    for other in ["", "name", "a/b/c", "../x", "a/..", "a b/c", "/x", "x/"] {
        assert!(!is_repo(other), "{other}");
    }
    for path in ["/x", "./x", "../x", "x.gguf", "a/b.gguf"] {
        assert!(looks_like_path(path), "{path}");
    }
}
