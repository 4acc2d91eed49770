//! What is beside the program: units, containers, completions and the manual page.

use exo_node::cli::{self, Parsed};
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_exo-node");
const UNIT: &str = include_str!("../packaging/exo-node.service");
const PLIST: &str = include_str!("../packaging/exo-node.plist");
const DOCKERFILE: &str = include_str!("../packaging/Dockerfile");

/// Runs a program of the system; `None` if it is not here, which is said aloud.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("SKIPPED: there is no {program} here");
            None
        }
    }
}

fn words(output: &Output) -> String {
    let of = |bytes| String::from_utf8_lossy(bytes).into_owned();
    of(&output.stdout) + &of(&output.stderr)
}

fn is_understood(words: &[&str]) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let parsed = cli::parse(&words);
    assert!(
        matches!(parsed, Ok(Parsed::Args(_))),
        "{words:?}: {parsed:?}"
    );
}

#[test]
fn systemd_takes_the_unit_and_finds_it_safe() {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let line: Vec<&str> = line.unwrap().split_whitespace().collect();
    is_understood(&line[1..]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("exo-node.service");
    // The program and its manual page are where this machine has them.
    let unit = UNIT.replace("/usr/local/bin/exo-node", PROGRAM);
    let unit = unit.replace("Documentation=man:exo-node(1)\n", "");
    std::fs::write(&file, unit).unwrap();
    let file = file.to_str().unwrap();
    let Some(verified) = run(
        "systemd-analyze",
        &["verify", "--recursive-errors=no", file],
    ) else {
        return;
    };
    assert!(verified.status.success(), "{}", words(&verified));
    let own = words(&verified);
    let own: Vec<&str> = own
        .lines()
        .filter(|line| line.contains("exo-node.service"))
        .collect();
    assert!(own.is_empty(), "{own:?}");
    // Of 100, of which a service without any of it has 96.
    let safe = ["security", "--offline=yes", "--threshold=25", file];
    let safe = run("systemd-analyze", &safe).unwrap();
    assert!(safe.status.success(), "{}", words(&safe));
}

#[test]
fn launchds_file_is_a_property_list() {
    let text = PLIST.lines().filter_map(|line| {
        let line = line.trim().strip_prefix("<string>")?;
        line.strip_suffix("</string>")
    });
    let text: Vec<&str> = text.collect();
    let start = text.iter().position(|word| *word == "serve").unwrap();
    let end = text.iter().position(|word| *word == "Interactive").unwrap();
    is_understood(&text[start..end]);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/exo-node.plist");
    let read = "import plistlib, sys; f = plistlib.load(open(sys.argv[1], 'rb')); \
                print(f['Label'], f['ProgramArguments'][1], f['KeepAlive']['SuccessfulExit'])";
    let Some(output) = run("python3", &["-c", read, path]) else {
        return;
    };
    assert_eq!(words(&output).trim(), "exo-node serve False");
}

#[test]
fn the_container_runs_words_that_the_program_knows() {
    let list = |start: &str| -> Vec<String> {
        let line = DOCKERFILE.lines().find_map(|line| line.split_once(start));
        serde_json::from_str(line.unwrap().1).unwrap()
    };
    let command = list("\nCMD ".trim_start());
    assert_eq!(command[0], "exo-node", "the first one is the health check");
    is_understood(&command.iter().map(String::as_str).collect::<Vec<_>>()[1..]);
    assert_eq!(list("ENTRYPOINT "), ["exo-node"]);
    assert!(DOCKERFILE.contains("\nUSER exo\n"));
}

#[test]
fn completions_and_the_page_are_printed() {
    for (arguments, wanted) in [
        (["completions", "bash"], "complete -F _exo_node exo-node"),
        (["completions", "zsh"], "#compdef exo-node"),
        (["completions", "fish"], "complete -c exo-node"),
    ] {
        let output = run(PROGRAM, &arguments).unwrap();
        assert!(output.status.success() && words(&output).contains(wanted));
    }
    assert!(words(&run(PROGRAM, &["man"]).unwrap()).starts_with(".TH EXO"));
    let wrong = run(PROGRAM, &["completions", "tcsh"]).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", words(&wrong));
    assert!(
        words(&wrong).contains("bash, zsh or fish"),
        "{}",
        words(&wrong)
    );
}

#[test]
fn a_node_that_is_not_there_is_not_ready() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let output = run(PROGRAM, &["health", "--chatgpt-api-port", &port]).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(
        words(&output).contains("no node answers"),
        "{}",
        words(&output)
    );
}
