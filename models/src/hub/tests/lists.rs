//! Which files there are, when only peers can say it.

use super::{neighbours::Neighbours, *};
use crate::Model;

const OTHER: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// Layers of the model whose weights are in several files.
fn with(layers: std::ops::Range<u32>) -> Setup {
    let setup = Setup::sharded();
    let name = HubName::parse(REPO).unwrap();
    setup
        .hub()
        .pull(&name, Some(layers), &(), &Cancel::default())
        .unwrap();
    setup
}

/// Pulls all of it from these alone; the version.
fn pull_from(setup: &Setup, neighbours: &[&Setup]) -> Result<String, HubError> {
    let hub = setup.hub_beside(&Neighbours::new(neighbours), true);
    setup.server.asked();
    let name = HubName::parse(REPO).unwrap();
    let pulled = hub.pull(&name, None, &(), &Cancel::default())?;
    assert!(setup.server.asked().is_empty());
    let model = Model::open(&pulled.path).unwrap();
    model.weights(0..LAYERS).unwrap();
    Ok(pulled.commit)
}

/// From now on it is another version that is here.
fn rename_commit(setup: &Setup) {
    let folder = RepoFolder::new(setup.cache.path(), REPO);
    fs::rename(folder.snapshot(server::COMMIT), folder.snapshot(OTHER)).unwrap();
    folder.remember("main", OTHER).unwrap();
}

#[test]
fn each_has_other_files_of_a_model() {
    let (first, second) = (with(0..1), with(1..LAYERS));
    for one in [&first, &second] {
        let refused = pull_from(&Setup::sharded(), &[one]);
        assert!(
            matches!(refused, Err(HubError::Offline { .. })),
            "{refused:?}"
        );
    }
    pull_from(&Setup::sharded(), &[&first, &second]).unwrap();
    // Who has nothing at all is in nobody's way.
    let nothing = Setup::empty();
    pull_from(&Setup::sharded(), &[&nothing, &first, &nothing, &second]).unwrap();
    // What is here needs no peer.
    pull_from(&first, &[&second]).unwrap();
}

#[test]
fn of_several_versions_the_one_that_most_have_is_meant() {
    let (other, first, second) = (with(0..LAYERS), with(0..1), with(1..LAYERS));
    rename_commit(&other);
    let version = |neighbours: &[&Setup]| pull_from(&Setup::sharded(), neighbours).unwrap();
    assert_eq!(version(&[&other, &first, &second]), server::COMMIT);
    let all = with(0..LAYERS);
    assert_eq!(version(&[&all, &other]), server::COMMIT);
    assert_eq!(version(&[&other, &all]), OTHER);
    // What is here decides between as many, but is no peer.
    let here = with(0..1);
    assert_eq!(
        pull_from(&here, &[&other, &second]).unwrap(),
        server::COMMIT
    );
    let here = with(0..1);
    assert_eq!(pull_from(&here, &[&other]).unwrap(), OTHER);
}

#[test]
fn what_two_say_differently_the_first_one_is_believed() {
    let (honest, liar) = (with(0..LAYERS), with(0..LAYERS));
    let folder = RepoFolder::new(liar.cache.path(), REPO).snapshot(server::COMMIT);
    let tokenizer = fs::read_link(folder.join("tokenizer.json")).unwrap();
    let tag = Etag::parse(tokenizer.file_name().unwrap().to_str().unwrap()).unwrap();
    let liars = RepoFolder::new(liar.cache.path(), REPO);
    liars.link(server::COMMIT, "config.json", &tag).unwrap();
    pull_from(&Setup::sharded(), &[&honest, &liar]).unwrap();
}

#[test]
fn no_more_than_some_are_asked_and_nobody_twice() {
    let all = with(0..LAYERS);
    let nothing = Setup::empty();
    let asked = |setups: &[&Setup]| {
        let neighbours = Neighbours::new(setups);
        let setup = Setup::sharded();
        let name = HubName::parse(REPO).unwrap();
        let hub = setup.hub_beside(&neighbours, true);
        let pulled = hub.pull(&name, None, &(), &Cancel::default());
        (pulled.is_ok(), neighbours.preferred(REPO).len())
    };
    assert_eq!(asked(&[&all; 20]), (true, 16));
    assert_eq!(asked(&[&nothing, &all, &all]), (true, 2));
    assert_eq!(asked(&[&nothing; 3]), (false, 1));
}
