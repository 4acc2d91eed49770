//! Completions for shells, from the same definition as the help.

use super::Args;
use super::help::{built_in, commands};
use argh::{ArgsInfo, FlagInfo, FlagInfoKind};
use std::fmt::Write as _;
use std::str::FromStr;

/// A shell that completes words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU Bash, also an old one without the package bash-completion.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl FromStr for Shell {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "bash" => Ok(Self::Bash),
            "zsh" => Ok(Self::Zsh),
            "fish" => Ok(Self::Fish),
            _ => Err(format!("{name:?} is no shell here; it is {SHELLS}")),
        }
    }
}

/// Their names.
const SHELLS: &str = "bash, zsh or fish";

/// What can stand behind some commands.
const WORDS: [(&str, &str); 2] = [
    ("models", "list pull info verify rm"),
    ("completions", "bash zsh fish"),
];

/// What can stand behind flags that choose among names.
const VALUES: [(&str, &str); 6] = [
    ("--runtime", "smol std"),
    ("--inference-engine", "cpu mlx dummy"),
    ("--placement", "auto memory"),
    ("--activation-dtype", "float32 bfloat16 float16"),
    ("--discovery-module", "udp tcp manual direct tailscale none"),
    ("--optimizer", "adamw sgd"),
];

/// What may stand behind a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// Nothing: it takes none.
    Switch,
    /// One of these.
    Names(&'static str),
    File,
    Folder,
    /// Whatever people like.
    Free,
}

struct Flag {
    name: &'static str,
    what: &'static str,
    value: Value,
    /// What the help calls its value.
    called: &'static str,
}

/// Every flag, those that the program answers itself included.
fn flags() -> Vec<Flag> {
    let own = |name| Flag {
        name,
        what: built_in(name),
        value: Value::Switch,
        called: "",
    };
    let info = Args::get_args_info();
    let mut flags: Vec<Flag> = info.flags.iter().filter_map(flag).collect();
    flags.extend(["--help", "--version"].map(own));
    flags
}

fn flag(info: &FlagInfo<'static>) -> Option<Flag> {
    let values = VALUES.iter().find(|(name, _)| *name == info.long);
    let (value, called) = match (&info.kind, values) {
        (FlagInfoKind::Switch, _) => (Value::Switch, ""),
        (FlagInfoKind::Option { arg_name }, Some((_, names))) => (Value::Names(names), *arg_name),
        (FlagInfoKind::Option { arg_name }, None) => match *arg_name {
            "FILE" => (Value::File, "FILE"),
            "DIR" => (Value::Folder, "DIR"),
            other => (Value::Free, other),
        },
    };
    // argh says --help of its own.
    (info.long != "--help").then_some(Flag {
        name: info.long,
        what: info.description,
        value,
        called,
    })
}

/// The script for a shell.
#[must_use]
pub fn completions(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

fn names<'a>(flags: impl IntoIterator<Item = &'a Flag>, between: &str) -> String {
    let names: Vec<&str> = flags.into_iter().map(|flag| flag.name).collect();
    names.join(between)
}

fn bash() -> String {
    let flags = flags();
    let with = |value: Value| names(flags.iter().filter(|flag| flag.value == value), "|");
    let mut out = String::from(
        "# Completion of exo-node for bash: source it, or put it where bash-completion looks, as exo-node.\n\
         _exo_node() {\n  \
           local word=\"${COMP_WORDS[COMP_CWORD]}\" before=\"${COMP_WORDS[COMP_CWORD-1]}\"\n  \
           COMPREPLY=()\n  \
           case \"$before\" in\n",
    );
    // Writing into a String cannot fail.
    for flag in &flags {
        if let Value::Names(names) = flag.value {
            let _ = writeln!(
                out,
                "    {}) COMPREPLY=($(compgen -W \"{names}\" -- \"$word\")); return ;;",
                flag.name
            );
        }
    }
    for (value, how) in [(Value::File, "-f"), (Value::Folder, "-d")] {
        let _ = writeln!(
            out,
            "    {}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen {how} -- \"$word\")); return ;;",
            with(value)
        );
    }
    let _ = writeln!(out, "    {}) return ;;\n  esac", with(Value::Free));
    let _ = writeln!(
        out,
        "  if [[ \"$word\" == -* ]]; then\n    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n    return\n  fi",
        names(&flags, " ")
    );
    let words: Vec<&str> = commands().map(|(word, _)| word).collect();
    let _ = writeln!(
        out,
        "  if [[ \"$COMP_CWORD\" -eq 1 ]]; then\n    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n    return\n  fi",
        words.join(" ")
    );
    let _ = writeln!(out, "  case \"${{COMP_WORDS[1]}}\" in");
    for (command, words) in WORDS {
        let _ = writeln!(
            out,
            "    {command}) COMPREPLY=($(compgen -W \"{words}\" -- \"$word\")) ;;"
        );
    }
    out.push_str("  esac\n}\ncomplete -F _exo_node exo-node\n");
    out
}

fn zsh() -> String {
    let mut out = String::from(
        "#compdef exo-node\n\
         # Completion of exo-node for zsh: put it into a folder of $fpath, as _exo-node.\n\
         _exo_node_words() {\n  local -a known\n  if (( CURRENT == 2 )); then\n    known=(\n",
    );
    for (word, what) in commands() {
        let _ = writeln!(out, "      {}", quoted(&format!("{word}:{what}")));
    }
    out.push_str("    )\n    _describe command known\n  else\n    case \"$words[2]\" in\n");
    for (command, words) in WORDS {
        let _ = writeln!(
            out,
            "      {command}) known=({words}); _describe word known ;;"
        );
    }
    out.push_str("    esac\n  fi\n}\n_exo_node() {\n  _arguments -S \\\n");
    for flag in flags() {
        let what = escaped(flag.what, &['[', ']', ':', '\\']);
        // The same flag may come again.
        let name = flag.name;
        let spec = match flag.value {
            Value::Switch => format!("*{name}[{what}]"),
            Value::Names(names) => format!("*{name}=[{what}]:{}:({names})", flag.called),
            Value::File => format!("*{name}=[{what}]:file:_files"),
            Value::Folder => format!("*{name}=[{what}]:folder:_files -/"),
            Value::Free => {
                let called = escaped(flag.called, &[':', '\\']);
                format!("*{name}=[{what}]:{called}: ")
            }
        };
        let _ = writeln!(out, "    {} \\", quoted(&spec));
    }
    out.push_str(
        "    '*:word:_exo_node_words'\n}\n\
         if [[ \"$funcstack[1]\" == _exo-node ]]; then\n  _exo_node \"$@\"\nelse\n  compdef _exo_node exo-node\nfi\n",
    );
    out
}

fn fish() -> String {
    let mut out = String::from(
        "# Completion of exo-node for fish: put it into ~/.config/fish/completions, as exo-node.fish.\n\
         complete -c exo-node -f\n",
    );
    for (word, what) in commands() {
        let what = quoted_for_fish(what);
        let _ = writeln!(
            out,
            "complete -c exo-node -n __fish_use_subcommand -a {word} -d {what}"
        );
    }
    for (command, words) in WORDS {
        let _ = writeln!(
            out,
            "complete -c exo-node -n '__fish_seen_subcommand_from {command}' -a '{words}'"
        );
    }
    for flag in flags() {
        let name = flag.name.trim_start_matches('-');
        let value = match flag.value {
            Value::Switch => String::new(),
            Value::Names(names) => format!(" -x -a '{names}'"),
            Value::File => " -r -F".to_owned(),
            Value::Folder => " -x -a '(__fish_complete_directories)'".to_owned(),
            Value::Free => " -x".to_owned(),
        };
        let what = quoted_for_fish(flag.what);
        let _ = writeln!(out, "complete -c exo-node -l {name}{value} -d {what}");
    }
    out
}

/// For shells with the Bourne shell's quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn quoted_for_fish(text: &str) -> String {
    format!("'{}'", escaped(text, &['\\', '\'']))
}

fn escaped(text: &str, letters: &[char]) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if letters.contains(&letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests;
