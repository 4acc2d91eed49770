//! What is done with what was fetched.

use super::*;
use crate::{
    Catalog,
    hub::{Checked, State},
};

fn verify(setup: &Setup, name: &str) -> Vec<Checked> {
    let name = HubName::parse(name).unwrap();
    let mut told = Vec::new();
    let mut tell = |one: &Checked| told.push(one.clone());
    let checked = setup
        .hub()
        .verify(&name, &mut tell, &Cancel::default())
        .unwrap();
    assert_eq!(told, checked);
    checked
}

#[test]
fn damage_is_found_and_mended() {
    let setup = Setup::sharded();
    setup.pull().unwrap();
    assert!(
        verify(&setup, REPO)
            .iter()
            .all(|file| file.state == State::Whole)
    );
    let cached = RepoFolder::new(setup.cache.path(), REPO).snapshot(server::COMMIT);
    let damaged = cached.join("model-1.safetensors");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    fs::write(fs::canonicalize(&damaged).unwrap(), bytes).unwrap();
    fs::remove_file(cached.join("model-2.safetensors")).unwrap();
    let states: Vec<_> = verify(&setup, REPO)
        .into_iter()
        .filter(|file| file.state != State::Whole)
        .map(|file| (file.file, file.state))
        .collect();
    let wanted = [
        ("model-1.safetensors".to_owned(), State::Damaged),
        ("model-2.safetensors".to_owned(), State::Absent),
    ];
    assert_eq!(states, wanted);
    setup.hub().remove(&HubName::parse(REPO).unwrap()).unwrap();
    setup.pull().unwrap();
    assert!(
        verify(&setup, REPO)
            .iter()
            .all(|file| file.state == State::Whole)
    );
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    let setup = Setup::new();
    let name = HubName::parse(REPO).unwrap();
    let hub = setup.hub();
    assert!(matches!(hub.remove(&name), Err(HubError::NotCached { .. })));
    let pulled = setup.pull().unwrap();
    setup
        .server
        .put("me/other", "other.gguf", GgufFile::tiny().bytes().0);
    let other = setup.pull_as("me/other").unwrap();
    let names: Vec<_> = hub
        .cached()
        .into_iter()
        .map(|cached| (cached.repo, cached.bytes))
        .collect();
    assert_eq!(
        names,
        [
            ("me/other".to_owned(), other.bytes),
            (REPO.to_owned(), pulled.bytes)
        ]
    );
    let removed = hub.remove(&name).unwrap();
    assert_eq!(removed.bytes, pulled.bytes);
    assert_eq!(removed.paths, [setup.cache.path().join("models--me--tiny")]);
    assert!(!pulled.path.exists() && other.path.exists());
    assert_eq!(hub.cached().len(), 1);
}

#[test]
fn one_file_of_several_is_removed() {
    let setup = Setup::empty();
    let file = GgufFile::tiny().bytes().0;
    setup.server.put(REPO, "tiny-Q8_0.gguf", file.clone());
    setup
        .server
        .put(REPO, "tiny-Q4_0.gguf", [file, vec![0]].concat());
    setup.pull_as("me/tiny:Q8_0").unwrap();
    setup.pull_as("me/tiny:Q4_0").unwrap();
    // Both are known by name, and listed under one.
    let catalog = Catalog::with_places(Vec::new(), None, Some(setup.cache.path().to_owned()));
    assert_eq!(
        catalog.resolve("me/tiny:q8_0").unwrap().id(),
        "me/tiny:q8_0"
    );
    let listed: Vec<_> = catalog.list().into_iter().map(|entry| entry.id).collect();
    assert_eq!(
        listed,
        [
            "stories",
            "me/tiny:tiny-Q4_0.gguf",
            "me/tiny:tiny-Q8_0.gguf"
        ]
    );
    let name = HubName::parse("me/tiny:Q8_0").unwrap();
    let removed = setup.hub().remove(&name).unwrap();
    assert!(removed.paths[0].ends_with("tiny-Q8_0.gguf"));
    assert_eq!(setup.cached("tiny-Q8_0.gguf"), None);
    assert!(setup.cached("tiny-Q4_0.gguf").is_some());
    assert_eq!(setup.blobs().len(), 1);
    assert!(matches!(
        setup.hub().remove(&name),
        Err(HubError::NotCached { .. })
    ));
    assert_eq!(catalog.list().len(), 2);
}

#[test]
fn what_is_being_fetched_stays() {
    let setup = Setup::new();
    setup.pull().unwrap();
    let folder = RepoFolder::new(setup.cache.path(), REPO);
    let tag = Etag::parse(setup.blobs().first().unwrap()).unwrap();
    let lock = folder.lock(&tag, &Cancel::default(), || {}).unwrap();
    let name = HubName::parse(REPO).unwrap();
    assert!(matches!(
        setup.hub().remove(&name),
        Err(HubError::Busy { .. })
    ));
    drop(lock);
    setup.hub().remove(&name).unwrap();
}

#[cfg(unix)]
#[test]
fn links_out_of_the_cache_are_not_followed() {
    let setup = Setup::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "x").unwrap();
    let link = setup.cache.path().join("models--me--tiny");
    std::os::unix::fs::symlink(elsewhere.path(), link).unwrap();
    let name = HubName::parse(REPO).unwrap();
    let told = setup.hub().remove(&name).unwrap_err().to_string();
    assert!(told.contains("outside the hub's cache"), "{told}");
    assert!(elsewhere.path().join("precious").exists());
}
