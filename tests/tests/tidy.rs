//! Rules of the house that no lint checks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOP: [&str; 9] = [
    "engine-cpu",
    "engine-mlx",
    "fuzz",
    "models",
    "node",
    "protocol",
    "runtime-smol",
    "runtime-std",
    "tests",
];

/// Files are read in one sitting.
const MOST_LINES: usize = 500;

/// A runtime that needs more code than this decides something. Comments and blank lines are free.
const MOST_RUNTIME_LINES: usize = 1900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What tools make, cargo and `engine-mlx/setup-linux` among them, is nobody's source.
fn is_made(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name == "target" || name.starts_with('.')
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            if !is_made(&path) {
                rust_files(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn sources(crates: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for name in crates {
        rust_files(&root().join(name), &mut files);
    }
    assert!(
        files.len() >= crates.len(),
        "the sources are where they should be"
    );
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a readable source");
        (path, text)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn files_are_read_in_one_sitting() {
    let long: Vec<String> = sources(&TOP)
        .iter()
        .filter(|(_, text)| text.lines().count() > MOST_LINES)
        .map(|(path, text)| format!("{} has {} lines", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn runtimes_stay_thin_and_alike() {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let count = |(_, text): &(PathBuf, String)| text.lines().filter(code).count();
    let shape = |source: &str| {
        let own = sources(&[source]);
        let all = own
            .iter()
            .chain(&sources(&["runtime-std/common/src"]))
            .map(count)
            .sum::<usize>();
        assert!(
            all <= MOST_RUNTIME_LINES,
            "{source} and what it shares have {all} lines"
        );
        own.iter()
            .filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect::<BTreeSet<String>>()
    };
    assert_eq!(
        shape("runtime-std/src"),
        shape("runtime-smol/src"),
        "they can be read side by side"
    );
}

#[test]
fn the_core_has_no_way_out() {
    for (path, text) in sources(&["protocol/src"]) {
        for word in ["extern crate std", "use std::", "unsafe {"] {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
    let lib = std::fs::read_to_string(root().join("protocol/src/lib.rs")).expect("readable");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
}

fn core_tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--package", "exo-protocol", "--prefix", "none"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_core_depends_on_four_crates_and_none_of_them_on_std() {
    let tree = core_tree(&["--edges", "normal", "--depth", "1"]);
    let direct: BTreeSet<&str> = tree
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        direct,
        BTreeSet::from(["bytes", "serde", "serde_json", "thiserror"]),
        "{tree}"
    );
    let tree = core_tree(&["--edges", "normal,features"]);
    let with_std: Vec<&str> = tree
        .lines()
        .filter(|line| line.contains("feature \"std\""))
        // What a procedural macro uses while compiling is not in the program.
        .filter(|line| {
            !["syn", "quote", "proc-macro2"]
                .iter()
                .any(|name| line.contains(name))
        })
        .collect();
    assert!(with_std.is_empty(), "{with_std:#?}");
}

#[test]
fn nothing_is_left_open() {
    let open: Vec<String> = sources(&TOP)
        .iter()
        .flat_map(|(path, text)| text.lines().map(move |line| (path, line)))
        .filter(|(path, _)| !path.ends_with("tidy.rs"))
        .filter(|(_, line)| {
            ["TODO", "FIXME", "todo!(", "unimplemented!("]
                .iter()
                .any(|w| line.contains(w))
        })
        .map(|(path, line)| format!("{}: {line}", path.display()))
        .collect();
    assert!(open.is_empty(), "{open:#?}");
}
