//! Damage, and its end.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use super::*;
use crate::{
    Model,
    hub::{Checked, State, part_bytes},
    parts,
};

const FILE: &str = "model-1.safetensors";

fn name() -> HubName {
    HubName::parse(REPO).unwrap()
}

fn verify(hub: &Hub) -> Vec<Checked> {
    let verified = hub.verify(&name(), &mut |_| {}, &Cancel::default());
    verified.unwrap()
}

/// What is neither whole nor a part that is as it came.
fn damaged(hub: &Hub) -> Vec<String> {
    let checked = verify(hub).into_iter();
    let wrong = checked.filter(|one| !matches!(one.state, State::Whole | State::Part));
    wrong.map(|one| one.file).collect()
}

fn repair(hub: &Hub) -> Result<u64, HubError> {
    let checked = verify(hub);
    hub.repair(&name(), &checked, &(), &Cancel::default())
}

/// Changes a byte where it lies.
fn flip(path: &Path, at: u64) {
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

fn snapshot(setup: &Setup) -> PathBuf {
    RepoFolder::new(setup.cache.path(), REPO).snapshot(server::COMMIT)
}

/// A whole model, one of whose files is damaged: what that was.
fn spoiled() -> (Setup, Vec<u8>) {
    let setup = Setup::sharded();
    setup.pull().unwrap();
    let whole = setup.cached(FILE).unwrap();
    flip(&snapshot(&setup).join(FILE), 100);
    setup.server.asked();
    (setup, whole)
}

#[test]
fn only_what_is_damaged_comes_again() {
    let (setup, whole) = spoiled();
    let hub = setup.hub();
    assert_eq!(damaged(&hub), [FILE]);
    // Whoever reads the old one goes on with it.
    let mut old = fs::File::open(snapshot(&setup).join(FILE)).unwrap();
    assert_eq!(repair(&hub).unwrap(), whole.len() as u64);
    assert_eq!(setup.ranges(), [None]);
    assert!(damaged(&hub).is_empty());
    assert_eq!(setup.cached(FILE).unwrap(), whole);
    let mut bytes = Vec::new();
    old.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() == whole.len() && bytes != whole);
    assert!(setup.blobs().iter().all(|blob| !blob.contains('.')));
    // One that is too short, too.
    let path = snapshot(&setup).join(FILE);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(damaged(&hub), [FILE]);
    assert_eq!(repair(&hub).unwrap(), whole.len() as u64);
    assert_eq!(setup.cached(FILE).unwrap(), whole);
    // Nothing is asked for what is right.
    setup.server.asked();
    assert_eq!(repair(&hub).unwrap(), 0);
    assert!(setup.server.asked().is_empty());
}

#[test]
fn what_does_not_come_leaves_things_as_they_are() {
    let (setup, whole) = spoiled();
    let there = setup.cached(FILE).unwrap();
    let options = |offline| HubOptions {
        attempts: 1,
        offline,
        ..setup.options()
    };
    let refused = repair(&Hub::new(options(true)));
    assert!(
        matches!(refused, Err(HubError::Offline { .. })),
        "{refused:?}"
    );
    setup.server.fault(On::Body, Fault::Cut(300), usize::MAX);
    let hub = Hub::new(options(false));
    let cut = repair(&hub);
    assert!(matches!(cut, Err(HubError::Cut { .. })), "{cut:?}");
    assert_eq!(setup.cached(FILE).unwrap(), there);
    setup.server.heal();
    setup.ranges();
    assert_eq!(repair(&hub).unwrap(), whole.len() as u64 - 300);
    assert_eq!(setup.ranges(), [Some("bytes=300-".to_owned())]);
    assert_eq!(setup.cached(FILE).unwrap(), whole);
}

#[test]
fn of_a_part_the_damaged_bytes_come_again() {
    let setup = Setup::empty();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("stories");
    setup.publish(&folder);
    let hub = setup.hub();
    for layers in [1..2, 4..5] {
        hub.pull(&name(), Some(layers), &(), &Cancel::default())
            .unwrap();
    }
    let find = || parts::find(&snapshot(&setup).join("model.safetensors")).unwrap();
    let (before, here) = (find(), part_bytes(&snapshot(&setup)));
    let piece = before.record.pieces.last().unwrap().clone();
    let was = fs::read(&before.data).unwrap();
    flip(&before.data, piece.from + 1000);
    assert_eq!(damaged(&hub), ["model.safetensors"]);
    setup.server.asked();
    assert_eq!(repair(&hub).unwrap(), piece.to - piece.from);
    let range = format!("bytes={}-{}", piece.from, piece.to - 1);
    assert_eq!(setup.ranges(), [Some(range)]);
    assert!(damaged(&hub).is_empty());
    assert_eq!(fs::read(&before.data).unwrap(), was);
    assert_eq!(part_bytes(&snapshot(&setup)), here);
    // What does not come is missed, and comes the next time.
    flip(&before.data, piece.from + 1000);
    let offline = Hub::new(HubOptions {
        offline: true,
        ..setup.options()
    });
    let refused = repair(&offline);
    assert!(
        matches!(refused, Err(HubError::Offline { .. })),
        "{refused:?}"
    );
    assert_eq!(
        part_bytes(&snapshot(&setup)),
        here - (piece.to - piece.from)
    );
    let model = Model::open(&snapshot(&setup)).unwrap();
    assert!(model.weights(4..5).is_err() && model.weights(1..2).is_ok());
    hub.pull(&name(), Some(4..5), &(), &Cancel::default())
        .unwrap();
    assert_eq!(fs::read(&before.data).unwrap(), was);
    let states: BTreeMap<_, _> = verify(&hub)
        .into_iter()
        .map(|one| (one.file, one.state))
        .collect();
    assert_eq!(states["model.safetensors"], State::Part);
}
