//! What hubs do wrong with ranges of bytes, and what becomes of damage.

use std::io::Read as _;

use super::{super::seen::Seen, *};
use crate::hub::Checked;

#[test]
fn a_cut_range_goes_on_where_it_was() {
    for fault in [
        Fault::Cut(300_000),
        Fault::CutUnannounced(300_000),
        Fault::Stall(300_000),
    ] {
        let setup = stories();
        setup
            .hub()
            .pull_part(&name(), Part::Front, &(), &Cancel::default())
            .unwrap();
        assert_eq!(asked(&setup).len(), 1);
        setup.server.fault(On::Body, fault.clone(), 1);
        let pulled = layers(&setup, 5..7).unwrap();
        let ranges = asked(&setup);
        let [first, second] = ranges.as_slice() else {
            panic!("{fault:?}: {ranges:?}");
        };
        assert_eq!(*second, first.start + 300_000..first.end, "{fault:?}");
        same(
            &Model::open(&pulled.path).unwrap().weights(5..7).unwrap(),
            5..7,
        );
    }
}

#[test]
fn a_range_that_was_stopped_goes_on_in_another_process() {
    let setup = stories();
    setup
        .hub()
        .pull_part(&name(), Part::Front, &(), &Cancel::default())
        .unwrap();
    setup
        .server
        .fault(On::Body, Fault::Cut(200_000), usize::MAX);
    let options = HubOptions {
        attempts: 1,
        ..setup.options()
    };
    let cut = Hub::new(options).pull(&name(), Some(5..7), &(), &Cancel::default());
    assert!(matches!(cut, Err(HubError::Cut { .. })), "{cut:?}");
    let before = asked(&setup);
    setup.server.heal();
    let seen = Seen::default();
    let pulled = setup
        .hub()
        .pull(&name(), Some(5..7), &seen, &Cancel::default())
        .unwrap();
    let after = asked(&setup);
    assert_eq!(after.len(), 1);
    assert!(before.iter().all(|range| range.start < after[0].start));
    assert_eq!(after[0].start, before.last().unwrap().start + 200_000);
    same(
        &Model::open(&pulled.path).unwrap().weights(5..7).unwrap(),
        5..7,
    );
    let report = seen.last();
    assert_eq!(report.done, report.total);
}

#[test]
fn a_server_is_held_to_the_range_that_was_asked_for() {
    let setup = stories();
    setup
        .hub()
        .pull_part(&name(), Part::Front, &(), &Cancel::default())
        .unwrap();
    asked(&setup);
    let here = fs::read(data(&setup)).unwrap();
    setup.server.fault(On::Body, Fault::WrongRange, usize::MAX);
    let refused = layers(&setup, 5..6).unwrap_err().to_string();
    assert!(
        refused.contains("expected the range that was asked for"),
        "{refused}"
    );
    assert_eq!(fs::read(data(&setup)).unwrap(), here);
    // More or less than was asked for counts as never come.
    for fault in [Fault::Longer, Fault::Shorter(100)] {
        setup.server.heal();
        setup.server.fault(On::Body, fault.clone(), 1);
        asked(&setup);
        let pulled = layers(&setup, 5..6).unwrap();
        let ranges = asked(&setup);
        assert!(
            ranges.len() == 2 && ranges[0] == ranges[1],
            "{fault:?}: {ranges:?}"
        );
        same(
            &Model::open(&pulled.path).unwrap().weights(5..6).unwrap(),
            5..6,
        );
        setup.hub().remove(&name()).unwrap();
        setup
            .hub()
            .pull_part(&name(), Part::Front, &(), &Cancel::default())
            .unwrap();
    }
    // Whoever knows no ranges gives all.
    setup.server.heal();
    layers(&setup, 5..6).unwrap();
    setup.server.fault(On::Body, Fault::IgnoreRange, usize::MAX);
    layers(&setup, 2..3).unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    // Nothing else of it takes room.
    assert_eq!(files(&RepoFolder::new(setup.cache.path(), REPO).parts()), 0);
}

/// How many files are in a folder, and in those in it.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => files(&path),
            _ => 1,
        })
        .sum()
}

/// An engine has the weights mapped: what a file's bytes were, they stay, whatever comes of it.
#[test]
fn what_is_read_of_a_beginning_stays_when_the_file_comes_anew() {
    let setup = stories();
    let front = setup
        .hub()
        .pull_part(&name(), Part::Front, &(), &Cancel::default());
    front.unwrap();
    let mut open = fs::File::open(data(&setup)).unwrap();
    let here = parts::find(&snapshot(&setup).join(WEIGHTS)).unwrap();
    let here = here.record.have().total() as usize;
    setup.server.fault(On::Body, Fault::Damage, 1);
    setup.pull().unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[..here], published()[..here]);
    assert_ne!(bytes, published());
}

#[test]
fn a_file_that_turns_out_to_be_damaged_comes_anew() {
    let setup = stories();
    layers(&setup, 2..3).unwrap();
    let part = parts::find(&snapshot(&setup).join(WEIGHTS)).unwrap();
    let mut bytes = fs::read(&part.data).unwrap();
    let at = part.record.pieces.last().unwrap().from as usize;
    bytes[at] ^= 1;
    fs::write(&part.data, bytes).unwrap();
    let verify = || -> Vec<Checked> {
        let checked = setup.hub().verify(&name(), &mut |_| {}, &Cancel::default());
        checked
            .unwrap()
            .into_iter()
            .filter(|file| file.file == WEIGHTS)
            .collect()
    };
    assert_eq!(verify()[0].state, State::Damaged);
    assert_eq!(verify().len(), 1);
    setup.pull().unwrap();
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
    assert_eq!(verify()[0].state, State::Whole);
}

#[test]
fn what_begins_as_no_file_of_weights_is_refused() {
    let setup = stories();
    let mut bytes = published();
    bytes.push(0);
    setup.server.put(REPO, WEIGHTS, bytes);
    let refused = layers(&setup, 2..3).unwrap_err().to_string();
    assert!(
        refused.contains("its tensors end at byte 7092288"),
        "{refused}"
    );
    setup.server.put(REPO, WEIGHTS, vec![b'<'; 1 << 20]);
    let refused = layers(&setup, 2..3).unwrap_err().to_string();
    assert!(refused.contains("its header would have"), "{refused}");
    assert!(parts::of(&snapshot(&setup)).is_empty());
}
