//! Who may use the API.

use super::{SettingsError, usage};
use crate::api::access::Access;
use crate::cli::Args;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};

/// Keys, each with so many bytes, are told apart by nobody.
const KEY_BYTES: usize = 4096;

/// The variable that holds keys where command lines can be read by everybody.
const KEYS: &str = "EXO_API_KEY";

pub(super) fn access(args: &Args) -> Result<Access, SettingsError> {
    from(args, std::env::var(KEYS).ok().as_deref())
}

/// The key with which commands ask a running node: the first of those with which these flags would
/// start one.
///
/// # Errors
/// When one of them is no key.
pub(crate) fn own_key(args: &Args) -> Result<Option<String>, SettingsError> {
    let keys = keys(args, std::env::var(KEYS).ok().as_deref())?;
    Ok(keys.into_iter().next())
}

fn keys(args: &Args, variable: Option<&str>) -> Result<Vec<String>, SettingsError> {
    let mut keys = Vec::new();
    for key in &args.api_key {
        keys.push(checked(key, "--api-key")?);
    }
    if let Some(file) = &args.api_key_file {
        let flag = format!("--api-key-file {}", file.display());
        let text = fs::read_to_string(file)
            .map_err(|error| SettingsError::Unavailable(format!("{flag}: {error}")))?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let before = keys.len();
        for line in lines {
            keys.push(checked(line, &flag)?);
        }
        if keys.len() == before {
            return Err(usage(format!(
                "{flag} holds no key; write one on each line"
            )));
        }
    }
    // Empty is how a variable is taken back.
    if let Some(words) = variable.filter(|words| !words.trim().is_empty()) {
        for word in words.split(',') {
            keys.push(checked(word.trim(), KEYS)?);
        }
    }
    Ok(keys)
}

fn from(args: &Args, variable: Option<&str>) -> Result<Access, SettingsError> {
    let keys = keys(args, variable)?;
    let mut origins = Vec::new();
    for origin in &args.cors_origin {
        origins.push(origin_of(origin, !keys.is_empty())?);
    }
    let mut hosts = Vec::new();
    for name in &args.api_host_name {
        hosts.push(host_of(name)?);
    }
    hosts.extend(own_names());
    if args.chatgpt_api_host.parse::<IpAddr>().is_err() {
        hosts.push(args.chatgpt_api_host.to_ascii_lowercase());
    }
    Ok(Access {
        keys,
        hosts,
        origins,
    })
}

fn checked(key: &str, flag: &str) -> Result<String, SettingsError> {
    let fits = !key.is_empty()
        && key.len() <= KEY_BYTES
        && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(key.to_owned())
    } else {
        Err(usage(format!(
            "{flag}: a key must have 1 to {KEY_BYTES} ASCII letters, digits and signs, without \
             spaces"
        )))
    }
}

fn origin_of(origin: &str, with_key: bool) -> Result<String, SettingsError> {
    if origin == "*" {
        return if with_key {
            Ok(origin.to_owned())
        } else {
            Err(usage(
                "--cors-origin * lets every web site use this node; it goes with --api-key only",
            ))
        };
    }
    let origin = origin.strip_suffix('/').unwrap_or(origin);
    let site = origin.split_once("://").map(|(_, site)| site);
    let fits = site.is_some_and(|site| !site.is_empty() && !site.contains('/'))
        && origin.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(origin.to_ascii_lowercase())
    } else {
        Err(usage(format!(
            "--cors-origin {origin:?} is no origin; write SCHEME://HOST or SCHEME://HOST:PORT"
        )))
    }
}

fn host_of(name: &str) -> Result<String, SettingsError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if fits {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(usage(format!(
            "--api-host-name {name:?} is no name of a host; write it without scheme and port"
        )))
    }
}

fn own_name() -> Option<String> {
    if cfg!(windows) {
        return std::env::var("COMPUTERNAME").ok();
    }
    let read = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    read.or_else(|| {
        let output = Command::new("hostname")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        String::from_utf8(output.stdout).ok()
    })
}

/// As this machine calls itself, and as its network does by multicast DNS.
fn own_names() -> Vec<String> {
    let name = own_name().and_then(|name| host_of(name.trim()).ok());
    name.into_iter()
        .flat_map(|name| {
            let first = name.split('.').next().unwrap_or_default();
            [format!("{first}.local"), first.to_owned(), name.clone()]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parsed, parse};

    fn access(line: &str, variable: Option<&str>) -> Result<Access, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Ok(Parsed::Args(args)) = parse(&words) else {
            panic!("{line}")
        };
        from(&args, variable).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_come_from_flags_files_and_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        fs::write(&file, "# of the house\nc\n\n d \n").unwrap();
        let line = format!("--api-key a --api-key=b --api-key-file {}", file.display());
        let keys = access(&line, Some("e, f")).unwrap().keys;
        assert_eq!(keys, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(access("", Some(" ")).unwrap().keys, Vec::<String>::new());
        assert!(
            access("", Some("a,,b"))
                .unwrap_err()
                .starts_with("EXO_API_KEY: a key")
        );
        fs::write(&file, "# none\n").unwrap();
        let line = format!("--api-key-file {}", file.display());
        assert!(access(&line, None).unwrap_err().contains("holds no key"));
        let missing = access("--api-key-file /nowhere/keys", None).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn origins_and_names_are_checked() {
        let line = "--cors-origin https://Chat.example/ --api-host-name Fox.example. \
                    --chatgpt-api-host Hill.example";
        let found = access(line, None).unwrap();
        assert_eq!(found.origins, ["https://chat.example"]);
        assert_eq!(found.hosts.first().map(String::as_str), Some("fox.example"));
        assert!(found.hosts.contains(&"hill.example".to_owned()));
        assert!(found.hosts.iter().any(|name| name.ends_with(".local")));
        for (line, wanted) in [
            ("--cors-origin *", "goes with --api-key only"),
            ("--cors-origin chat.example", "is no origin"),
            ("--cors-origin https://a/b", "is no origin"),
            ("--api-host-name http://a", "is no name of a host"),
            ("--api-key é", "--api-key: a key must have"),
        ] {
            let told = access(line, None).unwrap_err();
            assert!(told.contains(wanted), "{line}: {told}");
        }
        assert!(access("--cors-origin * --api-key a", None).is_ok());
    }
}
