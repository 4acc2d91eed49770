//! From words to [`Args`].
//!
//! argh alone knows neither `--flag=value` nor what the user may have meant, so the words are put
//! in order before it sees them.

use super::Args;
use argh::{ArgsInfo, FlagInfoKind, FromArgs};

/// What the user asked for.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// To be told how the program is used.
    Help,
    /// To be told which version it is.
    Version,
    /// To do something.
    Args(Box<Args>),
}

/// The command line makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Understands the words after the program's name.
///
/// # Errors
/// When a flag is unknown, lacks its value or has a wrong one.
pub fn parse(words: &[String]) -> Result<Parsed, UsageError> {
    let mut ordered: Vec<&str> = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-h" | "--help" => return Ok(Parsed::Help),
            "-V" | "--version" => return Ok(Parsed::Version),
            "help" => return Ok(Parsed::Help),
            "--" => {
                ordered.push(word);
                ordered.extend(words);
                break;
            }
            _ if !word.starts_with('-') => ordered.push(word),
            _ => flag(word, &mut words, &mut ordered)?,
        }
    }
    Args::from_args(&["exo-node"], &ordered)
        .map(|args| Parsed::Args(Box::new(args)))
        .map_err(|exit| UsageError(told(&exit.output)))
}

fn flag<'a>(
    word: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
    ordered: &mut Vec<&'a str>,
) -> Result<(), UsageError> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let info = Args::get_args_info();
    let Some(info) = info.flags.iter().find(|info| info.long == name) else {
        let known = info.flags.iter().map(|info| info.long);
        return Err(UsageError(match nearest(name, known) {
            Some(near) => format!("unknown flag {name}; did you mean {near}?"),
            None => format!("unknown flag {name}"),
        }));
    };
    ordered.push(info.long);
    match (&info.kind, value) {
        (FlagInfoKind::Switch, None) => {}
        (FlagInfoKind::Switch, Some(_)) => {
            return Err(UsageError(format!("{name} takes no value")));
        }
        (FlagInfoKind::Option { .. }, Some(value)) => ordered.push(value),
        (FlagInfoKind::Option { arg_name }, None) => {
            let value = words.next();
            ordered.push(
                value.ok_or_else(|| {
                    UsageError(format!("{name} needs a value: {name} {arg_name}"))
                })?,
            );
        }
    }
    Ok(())
}

/// argh's message in our words and on one line.
fn told(output: &str) -> String {
    let line = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>();
    let line = line.join(" ");
    match line.strip_prefix("Error parsing option ").and_then(|rest| {
        let (name, rest) = rest.strip_prefix('\'')?.split_once("' with value '")?;
        let (value, why) = rest.split_once("': ")?;
        Some(format!("{name} cannot be {value:?}: {why}"))
    }) {
        Some(message) => message,
        None => line,
    }
}

/// The known name that `word` may have been meant for.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, near) = known.map(|name| (distance(word, name), name)).min()?;
    (distance <= 2.max(1 + word.len() / 4)).then_some(near)
}

/// Letters to insert, remove or replace to make `b` of `a` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (&other, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let cost = diagonal + usize::from(letter != other);
            diagonal = *above;
            left = cost.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{DiscoveryModule, DiscoveryModules, EngineKind, RuntimeKind};

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn args(line: &str) -> Args {
        match parse(&words(line)) {
            Ok(Parsed::Args(args)) => *args,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        parse(&words(line)).unwrap_err().0
    }

    #[test]
    fn defaults_are_the_references() {
        let args = args("");
        assert!(args.words.is_empty());
        assert_eq!((args.node_host.as_str(), args.node_port), ("0.0.0.0", None));
        assert_eq!(
            (args.chatgpt_api_host.as_str(), args.chatgpt_api_port),
            ("0.0.0.0", 52415)
        );
        assert_eq!(args.chatgpt_api_response_timeout, 900);
        assert_eq!((args.max_generate_tokens, args.default_temp), (10_000, 0.0));
        assert_eq!(
            (args.runtime, args.inference_engine),
            (RuntimeKind::Smol, None)
        );
    }

    #[test]
    fn flags_stand_anywhere_with_or_without_equals() {
        let args = args(
            "--node-id=a=b run llama-3.2-1b --prompt -hi --node-port=1 --runtime std \
             --models-dir x --models-dir=y --inference-engine dummy --discovery-module=udp",
        );
        assert_eq!(args.node_id.as_deref(), Some("a=b"));
        assert_eq!(args.words, ["run", "llama-3.2-1b"]);
        assert_eq!(args.prompt.as_deref(), Some("-hi"));
        assert_eq!((args.node_port, args.runtime), (Some(1), RuntimeKind::Std));
        assert_eq!(args.models_dir.len(), 2);
        assert_eq!(args.inference_engine, Some(EngineKind::Dummy));
        let modules = DiscoveryModules(vec![DiscoveryModule::Udp]);
        assert_eq!(args.discovery_module, Some(modules));
    }

    #[test]
    fn every_flag_of_the_reference_is_taken() {
        let line = "run m --default-model a --iters 1 --save-every 1 --data d --batch-size 1 \
            --resume-checkpoint c --save-checkpoint-dir d --node-id i --node-host h --node-port 1 \
            --models-seed-dir d --listen-port 1 --broadcast-port 1 --download-quick-check \
            --max-parallel-downloads 1 --discovery-module manual --discovery-timeout 1 \
            --discovery-config-path f --peer-host h --peer-port 1 --peer-id i --wait-for-peers 0 \
            --chatgpt-api-port 1 --chatgpt-api-host h --chatgpt-api-response-timeout 1 \
            --max-generate-tokens 1 --inference-engine cpu --disable-tui --run-model m --prompt p \
            --default-temp 0.5 --tailscale-api-key k --tailnet-name n --node-id-filter a,b \
            --interface-type-filter a --system-prompt s";
        assert_eq!(args(line).without_effect().len(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(
            error("--promt x"),
            "unknown flag --promt; did you mean --prompt?"
        );
        assert_eq!(
            error("--node-prot=1"),
            "unknown flag --node-prot; did you mean --node-port?"
        );
        assert_eq!(error("--zzzzzzzzzz"), "unknown flag --zzzzzzzzzz");
        assert_eq!(error("-xyz"), "unknown flag -xyz");
        assert_eq!(error("--prompt"), "--prompt needs a value: --prompt TEXT");
        assert_eq!(error("--disable-tui=yes"), "--disable-tui takes no value");
        let runtime = error("--runtime tokio");
        assert_eq!(runtime, r#"--runtime cannot be "tokio": it is smol or std"#);
        let dtype = error("--activation-dtype float8");
        let wanted = r#"--activation-dtype cannot be "float8": it is float32, bfloat16, float16"#;
        assert!(dtype.starts_with(wanted), "{dtype}");
        assert!(error("--node-port 70000").starts_with(r#"--node-port cannot be "70000": "#));
        assert!(!error("--node-id a --node-id b").contains('\n'));
    }

    #[test]
    fn help_and_version_win() {
        assert!(matches!(parse(&words("run x --help")), Ok(Parsed::Help)));
        assert!(matches!(parse(&words("help")), Ok(Parsed::Help)));
        assert!(matches!(parse(&words("-V")), Ok(Parsed::Version)));
        assert_eq!(args("run m --prompt help").prompt.as_deref(), Some("help"));
        assert_eq!(
            args("run m --prompt --help").prompt.as_deref(),
            Some("--help")
        );
    }

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
