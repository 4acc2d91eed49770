//! What `--help` and `--version` print.

use super::Args;
use crate::terminal::Style;
use argh::{ArgsInfo, FlagInfo, FlagInfoKind};
use std::fmt::Write as _;

const COMMANDS: [(&str, &str); 17] = [
    (
        "exo-node",
        "join the ring and serve the API (the same as serve)",
    ),
    ("exo-node run MODEL --prompt TEXT", "print one answer"),
    (
        "exo-node demo",
        "start a ring of three nodes on this machine and let it talk",
    ),
    (
        "exo-node bench MODEL",
        "print how many tokens a second this node, or its ring, makes",
    ),
    (
        "exo-node plan MODEL",
        "print which node would have which layers, and how quick that would be",
    ),
    ("exo-node serve", "join the ring and serve the API"),
    (
        "exo-node models WHAT MODEL",
        "list, pull, info, verify or rm: models of this machine, and of the Hugging Face hub",
    ),
    (
        "exo-node doctor [HOST[:PORT]…]",
        "say why nodes do not find each other, and measure the ways between them",
    ),
    (
        "exo-node train MODEL --data DIR",
        "train adapters, or layers, over the whole ring",
    ),
    (
        "exo-node eval MODEL --data DIR",
        "print how well the model predicts test.jsonl",
    ),
    (
        "exo-node dissector",
        "print a Wireshark dissector of what nodes say to each other (Lua)",
    ),
    (
        "exo-node tunnel USER@HOST",
        "print the SSH tunnel to a node there, or keep it open; after -- words for ssh",
    ),
    (
        "exo-node connect --stdio",
        "be a node without ports, for who started this by ssh",
    ),
    (
        "exo-node trace REQUEST-ID",
        "print what a token's way through the ring costs, or with --prompt TEXT that of a new answer's",
    ),
    (
        "exo-node health",
        "say whether the node of this machine is ready, and be 1 if not",
    ),
    (
        "exo-node completions SHELL",
        "print what makes bash, zsh or fish complete all of this",
    ),
    ("exo-node man", "print the manual page"),
];

/// What is looked for in the environment.
pub(super) const ENVIRONMENT: [(&str, &str); 9] = [
    ("EXO_HOME", "the home folder; default ~/.cache/exo"),
    ("DEBUG", "1 or 2 logs more"),
    ("DEBUG_DISCOVERY", "1 or 2 logs more about peers"),
    ("RUST_LOG", "what is logged, in place of all else"),
    ("NO_COLOR", "no colours"),
    ("HF_HOME", "the folder of the Hugging Face hub's models"),
    ("HF_TOKEN", "who asks the hub"),
    ("HF_ENDPOINT", "another hub"),
    ("HF_HUB_OFFLINE", "1 downloads nothing"),
];

/// Flags in the order in which they are read; those of no group have no effect.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "run, demo and bench",
        &[
            "--prompt",
            "--max-tokens",
            "--model",
            "--run-model",
            "--nodes",
            "--engines",
            "--unplug",
            "--prompt-tokens",
            "--repeat",
        ],
    ),
    (
        "train and eval",
        &[
            "--data",
            "--iters",
            "--batch-size",
            "--max-seq-length",
            "--mask-prompt",
            "--learning-rate",
            "--optimizer",
            "--weight-decay",
            "--lora-rank",
            "--lora-scale",
            "--lora-layers",
            "--full-layers",
            "--seed",
            "--steps-per-report",
            "--steps-per-eval",
            "--val-batches",
            "--save-every",
            "--save-checkpoint-dir",
            "--resume-checkpoint",
            "--job-name",
        ],
    ),
    (
        "models",
        &[
            "--models-dir",
            "--models-seed-dir",
            "--adapter",
            "--default-model",
            "--max-parallel-downloads",
            "--keep-alive",
            "--no-download",
            "--no-share",
            "--offline",
            "--repair",
            "--inference-engine",
            "--threads",
        ],
    ),
    (
        "peers",
        &[
            "--discovery-module",
            "--discovery-config-path",
            "--listen-port",
            "--broadcast-port",
            "--discovery-timeout",
            "--node-id-filter",
            "--interface-type-filter",
            "--tcp-seeds",
            "--tcp-probe",
            "--peer-host",
            "--peer-port",
            "--peer-id",
            "--peer-command",
            "--tailscale-api-key",
            "--tailnet-name",
            "--wait-for-peers",
            "--json",
        ],
    ),
    (
        "tunnel and connect",
        &[
            "--run",
            "--remote-node-port",
            "--remote-api-port",
            "--local-node-port",
            "--local-api-port",
            "--stdio",
            "--to",
        ],
    ),
    (
        "this node",
        &[
            "--node-id",
            "--node-host",
            "--node-port",
            "--node-memory",
            "--runtime",
            "--placement",
            "--layers",
            "--activation-dtype",
            "--drain",
            "--record",
            "--record-prompts",
            "--record-limit",
            "--stop-with-stdin",
            "--disable-tui",
            "--no-disable-tui",
        ],
    ),
    (
        "API",
        &[
            "--chatgpt-api-host",
            "--chatgpt-api-port",
            "--api-key",
            "--api-key-file",
            "--api-host-name",
            "--cors-origin",
            "--max-parallel-requests",
            "--chatgpt-api-response-timeout",
            "--max-generate-tokens",
            "--default-temp",
            "--system-prompt",
        ],
    ),
    ("other", &["--help", "--version"]),
];

/// The version, and the engines that were built in.
#[must_use]
pub fn version() -> String {
    let engines = crate::engines::available();
    format!("exo-node {}\nengines: {engines}", env!("CARGO_PKG_VERSION"))
}

/// The help text.
#[must_use]
pub fn help(style: Style) -> String {
    let info = Args::get_args_info();
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{}\n", info.description);
    for (command, what) in COMMANDS {
        let _ = writeln!(out, "  {:<34} {what}", style.bold(command));
    }
    for (title, names) in GROUPS {
        let _ = writeln!(out, "\n{}", style.bold(title));
        for name in names {
            let (usage, what) = match info.flags.iter().find(|flag| flag.long == *name) {
                Some(flag) => (usage(flag), flag.description),
                None => ((*name).to_owned(), built_in(name)),
            };
            if usage.len() > 34 {
                let _ = writeln!(out, "  {usage}\n  {:34} {what}", "");
            } else {
                let _ = writeln!(out, "  {usage:<34} {what}");
            }
        }
    }
    let _ = writeln!(
        out,
        "\n{}",
        style.bold("taken from exo, without effect in this version")
    );
    let mut line = String::from(" ");
    for flag in info.flags.iter().filter(|flag| !grouped(flag.long)) {
        if line.len() + flag.long.len() > 78 {
            let _ = writeln!(out, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {}", flag.long);
    }
    let _ = writeln!(out, "{line}");
    let _ = writeln!(
        out,
        "\nDEBUG=1 or 2 logs more, DEBUG_DISCOVERY=1 or 2 more about peers, RUST_LOG is heeded; EXO_HOME is the home folder."
    );
    out
}

fn usage(flag: &FlagInfo<'_>) -> String {
    match flag.kind {
        FlagInfoKind::Switch => flag.long.to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} {arg_name}", flag.long),
    }
}

/// The commands that have a word of their own, and what they do.
pub(crate) fn commands() -> impl Iterator<Item = (&'static str, &'static str)> {
    let word = |usage: &'static str| usage.split(' ').nth(1);
    COMMANDS
        .into_iter()
        .filter_map(move |(usage, what)| Some((word(usage)?, what)))
}

/// All commands as they are typed, and what they do.
pub(super) fn commands_with_usage() -> &'static [(&'static str, &'static str)] {
    &COMMANDS
}

/// Flags, by what they are for.
pub(super) fn groups() -> &'static [(&'static str, &'static [&'static str])] {
    &GROUPS
}

/// Flags that change nothing.
pub(super) fn without_effect() -> Vec<&'static str> {
    let info = Args::get_args_info();
    let flags = info.flags.iter().map(|flag| flag.long);
    flags.filter(|name| !grouped(name)).collect()
}

pub(super) fn built_in(name: &str) -> &'static str {
    match name {
        "--version" => "print the version",
        _ => "print this",
    }
}

fn grouped(name: &str) -> bool {
    name == "--help" || GROUPS.iter().any(|(_, names)| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_stands_in_the_help_once() {
        let help = help(Style::plain());
        let info = Args::get_args_info();
        for flag in info.flags {
            let times = help
                .split_whitespace()
                .filter(|word| *word == flag.long)
                .count();
            // Some stand in the description of another one, or of a command, too.
            let wanted = match flag.long {
                "--models-dir" | "--stdio" => 2,
                "--prompt" => 3,
                "--data" => 3,
                _ => 1,
            };
            assert_eq!(times, wanted, "{}", flag.long);
            let no_effect = flag.description == "no effect";
            assert_eq!(grouped(flag.long), !no_effect, "{}", flag.long);
        }
        assert!(help.lines().all(|line| line.len() <= 132), "{help}");
    }
}
