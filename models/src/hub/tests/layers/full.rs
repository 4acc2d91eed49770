//! Disks that become full while files come. They are small ones of memory, in a namespace of mounts of
//! their own: `unshare` makes it, where it may.

use std::{env, io::Write as _, process::Command};

use super::*;
use crate::hub::{Progress, Report};

/// Set where the temporary folder is on such a disk.
const INSIDE: &str = "EXO_TEST_SMALL_DISK";

/// `mount` was not allowed to.
const NO_MOUNT: i32 = 77;

/// Runs a test of this module again, on a disk of 16 MiB. `true` in there.
fn on_a_small_disk(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=16m none \"$1\" || exit {NO_MOUNT}; TMPDIR=\"$1\" exec \"$0\" --exact \
         --nocapture hub::tests::layers::full::{test}"
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(env::current_exe().unwrap())
        .arg(folder.path())
        .env(INSIDE, "1")
        .output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: {test}: there is no unshare");
        return false;
    };
    let [told, wrong] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    match output.status.code() {
        Some(0) => assert!(told.contains("1 passed"), "{told}"),
        // What a test that fails ends with is another number.
        Some(1 | NO_MOUNT) => eprintln!("SKIPPED: {test}: {wrong}"),
        code => panic!("{code:?}: {told}{wrong}"),
    }
    false
}

/// What takes all the room that is left, as soon as something goes wrong.
struct Ballast(PathBuf);

impl Ballast {
    fn new(setup: &Setup) -> Self {
        Self(setup.cache.path().join("ballast"))
    }

    fn fill(&self) {
        let mut file = fs::File::create(&self.0).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn shrink(&self, by: u64) {
        let file = fs::File::options().write(true).open(&self.0).unwrap();
        file.set_len(file.metadata().unwrap().len() - by).unwrap();
    }
}

impl Progress for Ballast {
    fn report(&self, _: &Report) {}

    fn trouble(&self, _: &str) {
        self.fill();
    }
}

/// Pulls with a cut on the way, after which there is no room any more.
fn pull_until_full(setup: &Setup, layers: Option<Range<u32>>) {
    setup.server.fault(On::Body, Fault::Cut(300_000), 1);
    let ballast = Ballast::new(setup);
    let full = setup
        .hub()
        .pull(&name(), layers, &ballast, &Cancel::default());
    let told = full.as_ref().err().map(ToString::to_string);
    assert!(matches!(full, Err(HubError::DiskFull { .. })), "{full:?}");
    let told = told.unwrap();
    assert!(
        told.contains("is full: ") && told.contains("make room"),
        "{told}"
    );
    fs::remove_file(&ballast.0).unwrap();
    setup.ranges();
}

#[test]
fn a_part_goes_on_when_there_is_room_again() {
    if !on_a_small_disk("a_part_goes_on_when_there_is_room_again") {
        return;
    }
    let setup = stories();
    layers(&setup, 1..2).unwrap();
    let before = part_bytes(&snapshot(&setup));
    asked(&setup);
    pull_until_full(&setup, Some(4..6));
    // What was here is here, and nothing else is taken for weights.
    let model = Model::open(&snapshot(&setup)).unwrap();
    same(&model.weights(1..2).unwrap(), 1..2);
    assert!(model.weights(4..6).is_err());
    assert!(part_bytes(&snapshot(&setup)) >= before);
    let hub = setup.hub();
    let checked = hub.verify(&name(), &mut |_| {}, &Cancel::default());
    let checked = checked.unwrap();
    assert!(checked.iter().all(|one| one.state != State::Damaged));
    // It is not even begun while the rest does not fit.
    let ballast = Ballast::new(&setup);
    ballast.fill();
    ballast.shrink(200_000);
    let full = layers(&setup, 4..6).unwrap_err().to_string();
    assert!(full.contains(" MB more are needed, "), "{full}");
    assert_eq!(asked(&setup), []);
    fs::remove_file(&ballast.0).unwrap();
    let lacking = model.outline(4..6).unwrap().lacking().unwrap();
    layers(&setup, 4..6).unwrap();
    let wanted: Vec<_> = lacking.into_values().flatten().collect();
    assert!(bytes(&asked(&setup)) <= bytes(&wanted));
    same(
        &Model::open(&snapshot(&setup))
            .unwrap()
            .weights(4..6)
            .unwrap(),
        4..6,
    );
}

#[test]
fn a_whole_file_goes_on_when_there_is_room_again() {
    if !on_a_small_disk("a_whole_file_goes_on_when_there_is_room_again") {
        return;
    }
    let setup = stories();
    let front = Part::Front;
    let hub = setup.hub();
    hub.pull_part(&name(), front, &(), &Cancel::default())
        .unwrap();
    pull_until_full(&setup, None);
    let blobs = RepoFolder::new(setup.cache.path(), REPO).blobs();
    let incomplete = setup.blobs();
    let incomplete = incomplete
        .iter()
        .find(|it| it.ends_with(".incomplete"))
        .unwrap();
    let here = fs::metadata(blobs.join(incomplete)).unwrap().len();
    assert!(here > 300_000, "{here}");
    setup.pull().unwrap();
    assert_eq!(setup.ranges(), [Some(format!("bytes={here}-"))]);
    assert_eq!(setup.cached(WEIGHTS).unwrap(), published());
}
