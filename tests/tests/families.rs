//! Every family on every engine against golden values: see `tests/families/README.md`.
//!
//! With `--nocapture` each test prints the largest deviation of each checkpoint. `EXO_FAMILY` names
//! the only checkpoint to look at.

use exo_tests::families::table::{FAMILIES, Row, Support};
use exo_tests::families::{BF16, Deviation, Golden, Kind, checks, deviation, folder};
use std::collections::BTreeSet;

/// Runs a check on every engine and checkpoint; all that is wrong is told together.
fn everywhere(what: &str, check: fn(Kind, &str) -> checks::Outcome) {
    let mut wrong = Vec::new();
    let only = std::env::var("EXO_FAMILY").ok();
    for kind in Kind::all() {
        for row in &FAMILIES {
            let (name, engine) = (row.name, kind.name());
            if !kind.looks_at(name) {
                continue;
            }
            let wanted = only.as_ref().map(|only| only == name);
            if !wanted.unwrap_or(row.support(kind) != Support::Awaited) {
                continue;
            }
            match judged(row.support(kind), check(kind, name)) {
                Ok(Some(Deviation { relative, at })) => {
                    println!("{what} {engine:10} {name:24} {relative:.1e} {at}");
                }
                Ok(None) => println!("{what} {engine:10} {name:24} refused"),
                Err(why) => {
                    println!("{what} {engine:10} {name:24} WRONG {why}");
                    wrong.push(format!("{engine}, {name}: {why}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// The deviation, nothing for a refusal that was meant, or what is wrong.
fn judged(support: Support, outcome: checks::Outcome) -> Result<Option<Deviation>, String> {
    match (support, outcome) {
        (Support::Runs | Support::Awaited, Ok(deviation)) => Ok(Some(deviation)),
        (Support::Refuses(words), Err(why)) if why.contains(words) => Ok(None),
        (Support::Refuses(words), Ok(_)) => Err(format!("it should refuse with {words:?}")),
        (_, Err(why)) => Err(why),
    }
}

#[test]
fn whole() {
    everywhere("whole", checks::whole);
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
    let listed: BTreeSet<String> = FAMILIES
        .iter()
        .map(|Row { name, .. }| (*name).to_owned())
        .collect();
    assert_eq!(there, listed);
}

/// What is allowed in half precision, and for activations of eight bits, is what the oracle needs as
/// well, and no multiple of it.
#[test]
fn the_oracle_is_off_by_as_much_in_half_precision() {
    let packed = |moe: bool| {
        let names = FAMILIES.iter().map(|row| row.name);
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
