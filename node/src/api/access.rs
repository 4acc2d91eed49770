//! Who may ask what.
//!
//! Three kinds of strangers reach a port: other programs of the network, which a key keeps out; web
//! sites that let the user's browser send requests, which their `Origin` gives away; and web sites
//! that make their own name lead to this machine (DNS rebinding), so that the browser takes the API
//! for theirs: it then says their name as `Host`.

use super::error::ApiError;
use super::http::{REQUEST_ID, Reply, Request};
use std::net::IpAddr;

/// Who may use an API.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Any of them lets in; without one, everybody who can connect is.
    pub keys: Vec<String>,
    /// Names of this machine, in lower case, besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Web sites that may use it from a browser, such as `https://chat.example`.
    pub origins: Vec<String>,
}

/// Keys are secret, also in logs.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("keys", &self.keys.len())
            .field("hosts", &self.hosts)
            .field("origins", &self.origins)
            .finish()
    }
}

/// What may be asked without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Whether the node lives: anybody, by any name.
    Open,
    /// What holds no secret: without a key.
    Public,
    /// Everything else.
    Locked,
}

/// Which web site a browser was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// None, or no browser.
    None,
    /// The API's own.
    Own,
    /// One that was named.
    Named,
    /// Any other.
    Foreign,
}

/// Headers that clients are allowed to send from named origins, in letters that header names have.
const ASKED_HEADERS: usize = 1024;

impl Access {
    /// Whether `request` may come in; `changes` says whether it makes anything happen.
    pub(super) fn check(
        &self,
        request: &Request,
        door: Door,
        changes: bool,
    ) -> Result<(), ApiError> {
        if door == Door::Open {
            return Ok(());
        }
        self.check_host(request)?;
        let has_key = self.has_key(request);
        if changes && self.origin(request) == Origin::Foreign && !has_key {
            let origin = request.header("Origin").unwrap_or_default();
            let message = format!(
                "requests of other web sites are refused; start the node with --cors-origin \
                 {origin} to trust this one"
            );
            return Err(ApiError::new(403, "foreign_origin", message));
        }
        if door == Door::Public || has_key || self.keys.is_empty() {
            return Ok(());
        }
        let message = match given_key(request) {
            Some(_) => "this is not a key of this node",
            None => "this node wants a key: send it as Authorization: Bearer KEY",
        };
        Err(ApiError::new(401, "invalid_api_key", message))
    }

    fn check_host(&self, request: &Request) -> Result<(), ApiError> {
        // Browsers always send one.
        let Some(host) = request.header("Host") else {
            return Ok(());
        };
        let name = host_name(host).to_ascii_lowercase();
        let is_address = name.parse::<IpAddr>().is_ok();
        let is_local = name == "localhost" || name.ends_with(".localhost");
        if is_address || is_local || self.hosts.contains(&name) {
            return Ok(());
        }
        let message = format!(
            "this node does not answer to the name {name:?}: use its address, or start it with \
             --api-host-name {name}"
        );
        Err(ApiError::new(421, "unknown_host", message))
    }

    fn has_key(&self, request: &Request) -> bool {
        let Some(given) = given_key(request) else {
            return false;
        };
        // All of them, so that the time does not tell which one is nearly right.
        let found = |found, key: &String| found | is_same(given.as_bytes(), key.as_bytes());
        self.keys.iter().fold(false, found)
    }

    fn origin(&self, request: &Request) -> Origin {
        let Some(origin) = request.header("Origin") else {
            return Origin::None;
        };
        if self.origins.iter().any(|named| named == "*") || self.names(origin) {
            return Origin::Named;
        }
        let site = ["http://", "https://"].iter();
        let site = site.filter_map(|scheme| origin.strip_prefix(scheme)).next();
        match (site, request.header("Host")) {
            (Some(site), Some(host)) if site.eq_ignore_ascii_case(host) => Origin::Own,
            _ => Origin::Foreign,
        }
    }

    fn names(&self, origin: &str) -> bool {
        let mut named = self.origins.iter();
        named.any(|named| named.eq_ignore_ascii_case(origin))
    }

    /// What a browser is told with every reply, so that the web site it is on may read it.
    pub(super) fn headers(&self, request: &Request) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if self.origins.is_empty() {
            return headers;
        }
        headers.push(("Vary", "Origin".to_owned()));
        if let Some(origin) = request.header("Origin")
            && self.origin(request) == Origin::Named
        {
            headers.push(("Access-Control-Allow-Origin", origin.to_owned()));
            // Without this their scripts see neither how long to wait nor what to look for in logs.
            let told = format!("{REQUEST_ID}, Retry-After");
            headers.push(("Access-Control-Expose-Headers", told));
        }
        headers
    }

    /// What a browser hears that asks before it sends; nothing if that is not what `request` is.
    pub(super) fn preflight(&self, request: &Request, methods: &str) -> Option<Reply> {
        let asks = request.method == "OPTIONS"
            && request.header("Access-Control-Request-Method").is_some();
        if !asks || self.origin(request) != Origin::Named {
            return None;
        }
        let wanted = request.header("Access-Control-Request-Headers");
        let wanted = wanted.filter(|names| {
            names.len() <= ASKED_HEADERS
                && names
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_, ".contains(&byte))
        });
        let mut reply = Reply::empty(204)
            .with_header("Access-Control-Allow-Methods", methods)
            .with_header("Access-Control-Max-Age", "600");
        if let Some(wanted) = wanted {
            reply = reply.with_header("Access-Control-Allow-Headers", wanted);
        }
        Some(reply)
    }

    /// One line for people: who can reach an API that listens at `address`.
    #[must_use]
    pub fn words(&self, address: IpAddr) -> String {
        let who = if address.is_loopback() {
            "programs of this machine only".to_owned()
        } else if address.is_unspecified() {
            "everybody who can reach this machine".to_owned()
        } else {
            format!("everybody who can reach {address}")
        };
        let how = match (self.keys.len(), address.is_loopback()) {
            (0, true) => "without a key".to_owned(),
            (0, false) => "WITHOUT A KEY; --api-key KEY asks for one, \
                           --chatgpt-api-host 127.0.0.1 keeps the network out"
                .to_owned(),
            (1, _) => "with the key".to_owned(),
            (count, _) => format!("with one of {count} keys"),
        };
        let sites = match self.origins.len() {
            0 => String::new(),
            _ => format!(", and web pages of {}", self.origins.join(", ")),
        };
        format!("{who}{sites}, {how}")
    }
}

/// OpenAI's clients send a bearer token, Anthropic's a header of their own.
fn given_key(request: &Request) -> Option<&str> {
    let bearer = request.header("Authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| key.trim_start_matches(' '))
    });
    bearer.or_else(|| request.header("X-Api-Key"))
}

/// Takes a time that hangs on what was given alone.
fn is_same(given: &[u8], key: &[u8]) -> bool {
    let mut different = given.len() ^ key.len();
    for (at, byte) in given.iter().enumerate() {
        let other = key.get(at % key.len().max(1)).copied().unwrap_or(0);
        different |= usize::from(byte ^ other);
    }
    std::hint::black_box(different) == 0 && !key.is_empty()
}

/// Without its port, brackets and last dot.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> Request {
        let headers = headers.iter();
        Request {
            headers: headers
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
            ..Request::new("POST", "/v1/chat/completions")
        }
    }

    fn status(access: &Access, headers: &[(&'static str, &str)]) -> u16 {
        let checked = access.check(&request(headers), Door::Locked, true);
        checked.map_or_else(|error| error.status, |()| 200)
    }

    fn with(keys: &[&str], origins: &[&str]) -> Access {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Access {
            keys: owned(keys),
            hosts: owned(&["fox", "fox.local"]),
            origins: owned(origins),
        }
    }

    #[test]
    fn names_that_a_web_site_chose_are_refused() {
        let access = with(&[], &[]);
        for host in [
            "localhost:52415",
            "LOCALHOST",
            "chat.localhost",
            "127.0.0.1",
            "10.0.0.7:1",
            "[::1]:52415",
            "[fe80::1]",
            "fox:52415",
            "Fox.local.",
        ] {
            assert_eq!(status(&access, &[("Host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:52415",
            "fox.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "[evil]",
            "",
            "1.2.3",
            "localhost:x",
        ] {
            assert_eq!(status(&access, &[("Host", host)]), 421, "{host}");
        }
        assert_eq!(status(&access, &[]), 200);
        let anywhere = [("Host", "evil.example")];
        let health = access.check(&request(&anywhere), Door::Open, false);
        assert_eq!(health, Ok(()));
        let told = access.check(&request(&anywhere), Door::Locked, false);
        assert!(
            told.unwrap_err()
                .message
                .contains("--api-host-name evil.example")
        );
    }

    #[test]
    fn a_key_is_asked_for_and_compared() {
        let access = with(&["sesame", "open"], &[]);
        for (name, value, wanted) in [
            ("Authorization", "Bearer sesame", 200),
            ("Authorization", "bearer  open", 200),
            ("X-Api-Key", "open", 200),
            ("X-Api-Key", "sesam", 401),
            ("X-Api-Key", "sesamesesame", 401),
            ("X-Api-Key", "", 401),
            ("Authorization", "Bearer ", 401),
            ("Authorization", "Basic sesame", 401),
            ("Authorization", "sesame", 401),
        ] {
            assert_eq!(status(&access, &[(name, value)]), wanted, "{value}");
        }
        assert_eq!(status(&access, &[]), 401);
        let page = access.check(&request(&[]), Door::Public, false);
        assert_eq!(page, Ok(()));
        assert!(!format!("{access:?}").contains("sesame"));
    }

    #[test]
    fn other_sites_do_not_use_the_users_node() {
        let own = ("Host", "localhost:52415");
        let (open, locked) = (with(&[], &["app://chat"]), with(&["sesame"], &[]));
        for (origin, wanted) in [
            ("http://evil.example", 403),
            ("https://localhost:1", 403),
            ("null", 403),
            ("app://other", 403),
            ("http://localhost:52415", 200),
            ("app://chat", 200),
        ] {
            assert_eq!(
                status(&open, &[own, ("Origin", origin)]),
                wanted,
                "{origin}"
            );
            let look = open.check(&request(&[own, ("Origin", origin)]), Door::Locked, false);
            assert_eq!(look, Ok(()));
        }
        let key = ("X-Api-Key", "sesame");
        let evil = ("Origin", "http://evil.example");
        assert_eq!(status(&locked, &[own, evil, key]), 200);
        assert_eq!(status(&locked, &[own, evil]), 403);
    }

    #[test]
    fn only_named_origins_are_told_that_they_may() {
        let mut asked = request(&[
            ("Origin", "https://chat.example"),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization, content-type",
            ),
        ]);
        asked.method = "OPTIONS".to_owned();
        let named = with(&[], &["https://chat.example"]);
        let reply = named.preflight(&asked, "GET, POST").unwrap();
        assert_eq!(reply.status, 204);
        let told = |name: &str| {
            reply
                .headers
                .iter()
                .any(|(other, value)| *other == name && !value.is_empty())
        };
        assert!(told("Access-Control-Allow-Methods") && told("Access-Control-Allow-Headers"));
        let origin = ("Access-Control-Allow-Origin", "https://chat.example".into());
        assert!(named.headers(&asked).contains(&origin));
        let read = (
            "Access-Control-Expose-Headers",
            "X-Request-Id, Retry-After".into(),
        );
        assert!(named.headers(&asked).contains(&read));
        let other = with(&[], &["https://other.example"]);
        assert!(other.preflight(&asked, "GET, POST").is_none());
        assert_eq!(other.headers(&asked), [("Vary", "Origin".to_owned())]);
        assert_eq!(with(&[], &[]).headers(&asked), []);
        asked.method = "POST".to_owned();
        assert!(named.preflight(&asked, "GET, POST").is_none());
    }

    #[test]
    fn it_is_said_who_can_reach_it() {
        let words = |keys: &[&str], address: &str| {
            let address = address.parse().unwrap();
            with(keys, &[]).words(address)
        };
        assert_eq!(
            words(&[], "127.0.0.1"),
            "programs of this machine only, without a key"
        );
        assert!(
            words(&[], "0.0.0.0")
                .starts_with("everybody who can reach this machine, WITHOUT A KEY;")
        );
        assert_eq!(
            words(&["a"], "::"),
            "everybody who can reach this machine, with the key"
        );
        assert_eq!(
            words(&["a", "b"], "10.0.0.1"),
            "everybody who can reach 10.0.0.1, with one of 2 keys"
        );
    }
}
