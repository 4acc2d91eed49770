//! What goes wrong below HTTP, in words.

use std::{fs, io, path::Path};

use ureq::{
    http::Uri,
    tls::{PemItem, RootCerts, parse_pem},
};

use super::HubError;

/// Somebody else's words, short enough for a message and without what a terminal would obey.
pub(super) fn words(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut short: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    if short.len() < text.trim_end().len() {
        short.push('…');
    }
    short
}

/// What a failure below HTTP means.
pub(super) fn transport(url: &str, error: ureq::Error) -> HubError {
    let host = url.parse::<Uri>().ok();
    let host = host.and_then(|uri| uri.authority().map(|host| host.to_string()));
    let host = host.unwrap_or_else(|| url.to_owned());
    let connection = |why: String, hint| HubError::Connection {
        host: host.clone(),
        why,
        hint,
    };
    match error {
        ureq::Error::HostNotFound => connection(
            "no such host".to_owned(),
            "is this machine online? Behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT",
        ),
        ureq::Error::Timeout(what) => connection(
            format!("no answer in time ({what})"),
            "what has come is kept; behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT",
        ),
        ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => {
            connection(error.to_string(), "look at HTTPS_PROXY and NO_PROXY")
        }
        ureq::Error::Tls(why) => HubError::Tls {
            host,
            why: why.to_owned(),
        },
        ureq::Error::Rustls(why) => HubError::Tls {
            host,
            why: why.to_string(),
        },
        // The handshake reports its errors as those of its reads.
        ureq::Error::Io(why) if why.kind() == io::ErrorKind::InvalidData => HubError::Tls {
            host,
            why: why.to_string(),
        },
        ureq::Error::Io(why) => connection(
            why.to_string(),
            "what has come is kept; behind a proxy set HTTPS_PROXY, for a mirror HF_ENDPOINT",
        ),
        error => connection(error.to_string(), "what has come is kept"),
    }
}

/// Certificates to trust, from a file in PEM.
pub(super) fn certificates(file: &Path) -> Result<RootCerts, HubError> {
    let unusable = |why: String| HubError::Setting {
        setting: "SSL_CERT_FILE",
        why: format!("{}: {why}", file.display()),
    };
    let pem = fs::read(file).map_err(|error| unusable(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(unusable(error.to_string())),
        }
    }
    if found.is_empty() {
        return Err(unusable("no certificate in it".to_owned()));
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_do_not_drive_the_terminal() {
        assert_eq!(words("a\x1b[2J\nb"), "a[2Jb…");
        assert!(words(&"x".repeat(1000)).chars().count() < 200);
    }
}
