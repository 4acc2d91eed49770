//! Every family on every engine against golden values: see `tests/families/README.md`.
//!
//! With `--nocapture` each test prints the largest deviation of each checkpoint. `EXO_FAMILY` names
//! the only checkpoint to look at.

use exo_tests::families::gguf::{CONVERTIBLE, converted};
use exo_tests::families::table::FAMILIES;
use exo_tests::families::{BF16, Deviation, Golden, Kind, checks, deviation, folder};
use std::collections::BTreeSet;

/// Runs a check on every engine and checkpoint.
fn everywhere(what: &str, check: fn(Kind, &str) -> checks::Outcome) {
    each(what, &FAMILIES, check);
}

/// Runs a check on every engine; all that is wrong is told together.
fn each(what: &str, names: &[&str], check: impl Fn(Kind, &str) -> checks::Outcome) {
    let mut wrong = Vec::new();
    let only = std::env::var("EXO_FAMILY").ok();
    let names = names
        .iter()
        .filter(|name| only.as_ref().is_none_or(|only| only == *name));
    for name in names {
        for kind in Kind::all().into_iter().filter(|kind| kind.looks_at(name)) {
            let engine = kind.name();
            match check(kind, name) {
                Ok(Deviation { relative, at }) => {
                    println!("{what} {name:24} {engine:10} {relative:.1e} {at}");
                }
                Err(why) => {
                    println!("{what} {name:24} {engine:10} WRONG {why}");
                    wrong.push(format!("{name}, {engine}: {why}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn whole() {
    everywhere("whole", checks::whole);
}

#[test]
fn from_gguf() {
    let folder = tempfile::tempdir().expect("a folder");
    each("gguf", &CONVERTIBLE, |kind, name| {
        let file = folder.path().join(format!("{name}.gguf"));
        if !file.exists() {
            std::fs::write(&file, converted(name).bytes()).expect("writes");
        }
        checks::whole_of(kind, name, &file)
    });
}

#[test]
fn split_at_every_layer() {
    everywhere("split", checks::split);
}

#[test]
fn resumed_after_an_interruption() {
    everywhere("resumed", checks::resumed);
}

#[test]
fn several_together() {
    everywhere("together", checks::together);
}

#[test]
fn the_table_has_every_checkpoint() {
    let folders = std::fs::read_dir(folder().join("checkpoints")).expect("checkpoints");
    let there: BTreeSet<String> = folders
        .map(|entry| {
            entry
                .expect("a folder")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let listed: BTreeSet<String> = FAMILIES.map(str::to_owned).into();
    assert_eq!(there, listed);
}

/// What is allowed in half precision, and for activations of eight bits, is what the oracle needs as
/// well, and no multiple of it.
#[test]
fn the_oracle_is_off_by_as_much_in_half_precision() {
    let packed = |moe: bool| {
        let names = FAMILIES.into_iter();
        names.filter(move |name| name.contains("-mlx-") && name.contains("moe") == moe)
    };
    let cases: [(Kind, Vec<&str>); 3] = [
        (Kind::MlxBf16, BF16.to_vec()),
        (Kind::Cpu, packed(false).collect()),
        (Kind::Cpu, packed(true).collect()),
    ];
    for (kind, names) in cases {
        let off = names.iter().filter_map(|name| {
            let golden = Golden::of(name);
            let found = deviation(&golden.native?, &golden.short.logits[0], (*name).to_owned());
            Some(found.expect("as many logits").relative)
        });
        let most = off.fold(0.0, f32::max);
        let allowed = kind.tolerance(names[0]);
        assert!(
            (allowed / 4.0..allowed).contains(&most),
            "{names:?}: {most}"
        );
    }
}
