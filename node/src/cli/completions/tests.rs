use super::*;
use crate::cli::{Parsed, help, parse};
use crate::terminal::Style;
use std::path::Path;
use std::process::{Command, Output};

/// A file with the script, and the folder that holds it.
fn file(shell: Shell) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script");
    std::fs::write(&path, completions(shell)).unwrap();
    (folder, path)
}

/// Runs a shell; `None` if it is not here, which is said aloud.
fn run(shell: &str, arguments: &[&str], script: &Path) -> Option<Output> {
    match Command::new(shell).args(arguments).arg(script).output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("SKIPPED: there is no {shell}, so that nobody has read its completions");
            None
        }
    }
}

/// Every flag that the help names.
fn helped() -> Vec<String> {
    let help = help(Style::plain());
    let words = help.split_whitespace();
    let flags = words.filter(|word| word.starts_with("--") && word.len() > 2);
    let flags = flags.map(|word| word.trim_end_matches([',', ';', ':', '"']).to_owned());
    flags.collect()
}

fn said(output: &Output) -> Vec<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    // fish tells what each is, behind a tab.
    let words = text.lines().filter_map(|line| line.split('\t').next());
    words.map(str::to_owned).collect()
}

#[test]
fn bash_completes_every_flag_of_the_help() {
    let (_folder, script) = file(Shell::Bash);
    let Some(output) = run("bash", &["-n"], &script) else {
        return;
    };
    said(&output);
    let complete = |words: &str, at: usize| {
        let ask = format!(
            "source \"$0\"; COMP_WORDS=({words}); COMP_CWORD={at}; _exo_node; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        said(&run("bash", &["--norc", "-c", &ask], &script).unwrap())
    };
    let known = complete("exo-node --", 1);
    for flag in helped() {
        assert!(known.contains(&flag), "{flag}");
    }
    assert_eq!(complete("exo-node do", 1), ["doctor"]);
    assert_eq!(complete("exo-node serve --runtime s", 3), ["smol", "std"]);
    assert_eq!(complete("exo-node models v", 2), ["verify"]);
    assert_eq!(complete("exo-node --node-id x", 2), [""]);
}

#[test]
fn fish_completes_every_flag_of_the_help() {
    let (_folder, script) = file(Shell::Fish);
    let Some(output) = run("fish", &["--no-execute"], &script) else {
        return;
    };
    said(&output);
    let complete = |line: &str| {
        let ask = format!("source $argv[1]; complete -C '{line}'");
        said(&run("fish", &["--no-config", "-c", &ask], &script).unwrap())
    };
    let known = complete("exo-node --");
    for flag in helped() {
        assert!(known.contains(&flag), "{flag}");
    }
    assert_eq!(complete("exo-node doct"), ["doctor"]);
    assert_eq!(complete("exo-node serve --runtime st"), ["std"]);
}

#[test]
fn zsh_takes_the_script_and_knows_every_flag() {
    let (_folder, script) = file(Shell::Zsh);
    let Some(output) = run("zsh", &["-n"], &script) else {
        return;
    };
    said(&output);
    // What the script hands to the function that knows how to complete.
    let ask = "compdef() { :; }; _arguments() { print -rl -- \"$@\"; }; source $1; _exo_node";
    let output = run("zsh", &["-f", "-c", ask, "zsh"], &script).unwrap();
    let known = said(&output);
    for flag in helped() {
        let spec = |spec: &String| {
            let rest = spec
                .strip_prefix('*')
                .and_then(|spec| spec.strip_prefix(&flag));
            rest.is_some_and(|rest| rest.starts_with(['[', '=']))
        };
        assert!(known.iter().any(spec), "{flag}");
    }
}

#[test]
fn what_is_offered_behind_a_flag_is_taken() {
    for (flag, values) in VALUES {
        for value in values.split(' ') {
            let words = [flag.to_owned(), value.to_owned()];
            let parsed = parse(&words);
            assert!(
                matches!(parsed, Ok(Parsed::Args(_))),
                "{flag} {value}: {parsed:?}"
            );
        }
    }
    let known: Vec<&str> = commands().map(|(word, _)| word).collect();
    for (command, _) in WORDS {
        assert!(known.contains(&command), "{command}");
    }
}
