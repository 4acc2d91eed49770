//! Addresses as people write them: `host`, `host:port`, an IPv6 address with or without brackets.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::net::Ipv6Addr;

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {problem}")]
pub struct AddressError {
    /// Its beginning.
    text: String,
    /// What is wrong with it.
    problem: &'static str,
}

/// Host, in brackets if it is an IPv6 address, and port, if there is one.
///
/// # Errors
/// When there is no host, it holds what no host name has, or the port is none.
pub fn split(address: &str) -> Result<(String, Option<u16>), AddressError> {
    let bad = |problem| AddressError {
        text: shown(address),
        problem,
    };
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        match rest.split_once(']') {
            Some((host, "")) if is_ipv6(host) => (format!("[{host}]"), None),
            Some((host, port)) if is_ipv6(host) && port.starts_with(':') => {
                (format!("[{host}]"), port.strip_prefix(':'))
            }
            _ => return Err(bad("is no IPv6 address in brackets")),
        }
    } else if is_ipv6(address) {
        (format!("[{address}]"), None)
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (address.to_owned(), None),
        }
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '"');
    if host.is_empty() || host.contains(odd) {
        return Err(bad("holds no host name"));
    }
    let Some(text) = port else {
        return Ok((host, None));
    };
    match text.parse().ok().and_then(in_range) {
        Some(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok((host, Some(port))),
        _ => Err(bad("does not end in a port from 1 to 65535")),
    }
}

/// `host:port` with the port that the text names, or else this one.
///
/// # Errors
/// As [`split`].
pub fn with_port(address: &str, port: u16) -> Result<String, AddressError> {
    let (host, own) = split(address)?;
    Ok(format!("{host}:{}", own.unwrap_or(port)))
}

pub(super) fn in_range(port: i64) -> Option<u16> {
    u16::try_from(port).ok().filter(|&port| port > 0)
}

fn is_ipv6(host: &str) -> bool {
    // A link-local address may name its interface: `fe80::1%en0`.
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    address.parse::<Ipv6Addr>().is_ok()
        && !zone.is_empty()
        && zone
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ports_are_added_where_there_are_none() {
        for (text, whole) in [
            ("host", "host:7"),
            ("host:8", "host:8"),
            ("10.0.0.1", "10.0.0.1:7"),
            ("::1", "[::1]:7"),
            ("[::1]", "[::1]:7"),
            ("[fe80::1%en0]:8", "[fe80::1%en0]:8"),
        ] {
            assert_eq!(with_port(text, 7).as_deref(), Ok(whole));
        }
        for (text, problem) in [
            ("", "host"),
            (":8", "host"),
            ("a b", "host"),
            ("user@host", "host"),
            ("host:0", "port"),
            ("host:65536", "port"),
            ("host:+8", "port"),
            ("host:", "port"),
            ("[::1", "brackets"),
            ("[host]:8", "brackets"),
        ] {
            let error = with_port(text, 7).expect_err(text);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
}
