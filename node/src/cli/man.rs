//! The manual page, from the same definition as the help.

use super::Args;
use super::help::{ENVIRONMENT, built_in, commands_with_usage, groups, without_effect};
use argh::{ArgsInfo, FlagInfoKind};
use std::fmt::Write as _;

/// The page in the language of man(7).
#[must_use]
pub fn man() -> String {
    let info = Args::get_args_info();
    let mut out = format!(
        ".TH EXO\\-NODE 1 \"\" \"exo\\-node {}\" \"User Commands\"\n.SH NAME\nexo\\-node \\- run one language model across the machines you already have\n",
        escaped(env!("CARGO_PKG_VERSION"))
    );
    out.push_str(
        ".SH SYNOPSIS\n.B exo\\-node\n.RI [ COMMAND ]\n.RI [ WORDS ]\n.RI [ FLAGS ]\n.SH DESCRIPTION\n",
    );
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{}", escaped(info.description));
    out.push_str(
        "Nodes find each other, cut a model into ranges of layers by what each of them can hold, and \
         answer over an HTTP API that programs for OpenAI's understand.\n.SH COMMANDS\n",
    );
    for (usage, what) in commands_with_usage() {
        let _ = writeln!(out, ".TP\n.B {}\n{}", escaped(usage), escaped(what));
    }
    for (title, names) in groups() {
        let _ = writeln!(out, ".SH \"{}\"", escaped(&title.to_uppercase()));
        for name in *names {
            let flag = info.flags.iter().find(|flag| flag.long == *name);
            let (value, what) = match flag.map(|flag| (&flag.kind, flag.description)) {
                Some((FlagInfoKind::Option { arg_name }, what)) => (Some(*arg_name), what),
                Some((FlagInfoKind::Switch, what)) => (None, what),
                None => (None, built_in(name)),
            };
            let _ = match value {
                Some(value) => writeln!(out, ".TP\n.BI {} \" {}\"", escaped(name), escaped(value)),
                None => writeln!(out, ".TP\n.B {}", escaped(name)),
            };
            let _ = writeln!(out, "{}", escaped(what));
        }
    }
    out.push_str(".SH \"FLAGS WITHOUT EFFECT\"\n");
    for name in without_effect() {
        let _ = writeln!(
            out,
            ".TP\n.B {}\ntaken from exo, without effect in this version",
            escaped(name)
        );
    }
    out.push_str(".SH ENVIRONMENT\n");
    for (name, what) in ENVIRONMENT {
        let _ = writeln!(out, ".TP\n.B {}\n{}", escaped(name), escaped(what));
    }
    out.push_str(
        ".SH \"EXIT STATUS\"\n0 if it was done, 1 if it failed, 2 if the command line makes no sense, 130 if \
         it was interrupted.\n",
    );
    out
}

/// Letters that troff would take for its own.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '…' => out.push_str("\\&..."),
            _ => out.push(letter),
        }
    }
    if out.starts_with(['.', '\'']) {
        out.insert_str(0, "\\&");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::help;
    use crate::terminal::Style;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_page_can_be_read_and_has_every_flag() {
        let typeset = Command::new("groff")
            .args(["-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut typeset) = typeset else {
            eprintln!("SKIPPED: there is no groff, so that nobody has read the manual page");
            return;
        };
        let mut input = typeset.stdin.take().unwrap();
        let page = man();
        let writer = std::thread::spawn(move || input.write_all(page.as_bytes()));
        let output = typeset.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{warnings}");
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        for word in help(Style::plain()).split_whitespace() {
            if let Some(flag) = word.strip_prefix("--") {
                let flag = flag.trim_end_matches([',', ';', ':', '"']);
                let flag = format!("--{flag}");
                assert!(words.contains(&flag.as_str()), "{flag} is not in\n{text}");
            }
        }
        for word in ["SYNOPSIS", "HF_HOME", "doctor", "0.0.0.0"] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
    }

    #[test]
    fn text_is_no_command_of_troff() {
        assert_eq!(escaped(".x 'a' \\n --b"), "\\&.x 'a' \\en \\-\\-b");
        assert_eq!(escaped("'x"), "\\&'x");
    }
}
