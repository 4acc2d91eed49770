//! What the hub is asked, and what its answers mean.

use std::time::Duration;

use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use ureq::{
    Agent, Body,
    http::{Response, Uri, header::AsHeaderName},
    tls::TlsConfig,
};

use super::{
    HubError, HubOptions,
    hash::Etag,
    layout::is_commit,
    transport::{certificates, transport, words},
};

/// To look up a name.
const RESOLVE: Duration = Duration::from_secs(15);
/// To connect, the handshake included.
const CONNECT: Duration = Duration::from_secs(15);
/// The hub answers requests within a second, but who lists a large repository thinks longer.
const ANSWER: Duration = Duration::from_secs(60);
/// The list of a repository's files: that of one with thousands has some megabytes.
const MAX_LIST: u64 = 64 << 20;
/// What an error says is quoted, but it may be a whole page.
const MAX_WORDS: u64 = 4 << 10;
/// Redirects from one page of the hub to another: a repository that was renamed twice is rare.
const MOST_REDIRECTS: usize = 5;

/// Asks one hub.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// What a repository is at one commit.
#[derive(Debug, Clone)]
pub(super) struct RepoInfo {
    pub(super) commit: String,
    /// Paths and sizes, those whose size the hub tells.
    pub(super) files: Vec<(String, Option<u64>)>,
}

/// What is known of a file before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileInfo {
    pub(super) tag: Etag,
    pub(super) size: u64,
}

#[derive(Deserialize)]
struct Listing {
    sha: Option<String>,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
}

impl Http {
    pub(super) fn new(options: &HubOptions) -> Result<Self, HubError> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let usable = endpoint.parse::<Uri>().is_ok_and(|uri| {
            uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        if !usable {
            return Err(HubError::Setting {
                setting: "HF_ENDPOINT",
                why: format!("{endpoint:?} is no address such as https://huggingface.co"),
            });
        }
        let mut tls = TlsConfig::builder();
        if let Some(file) = &options.certificates {
            tls = tls.root_certs(certificates(file)?);
        }
        let mut agent = Agent::config_builder();
        // A hub on this machine is behind no proxy.
        let origin = origin(&endpoint);
        if ["127.0.0.1", "localhost", "[::1]"]
            .iter()
            .any(|host| origin.contains(host))
        {
            agent = agent.proxy(None);
        }
        let agent = agent
            .tls_config(tls.build())
            .user_agent(concat!("exo-node/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .timeout_resolve(Some(RESOLVE))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER.max(options.stall)))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall))
            .build();
        Ok(Self {
            agent: agent.into(),
            endpoint,
            token: options.token.clone(),
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Which commit a branch is, and the files there.
    pub(super) fn repo(&self, repo: &str, revision: &str) -> Result<RepoInfo, HubError> {
        let meant = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let url = format!("{}/api/{}?blobs=true", self.endpoint, meant.api_url());
        let (url, mut answer) = self.on_the_hub(url, |agent, url| agent.get(url))?;
        self.check(&url, repo, "main", &mut answer)?;
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_LIST)
            .read_to_vec();
        let body = body.map_err(|error| transport(&url, error))?;
        let unexpected = |found: String| HubError::Answer {
            url: url.clone(),
            expected: "a commit and the files of a repository",
            found,
        };
        let list: Listing = serde_json::from_slice(&body).map_err(|error| {
            unexpected(match body.trim_ascii_start().first() {
                Some(b'<') => "a page for people".to_owned(),
                _ => format!("{} ({error})", words(&String::from_utf8_lossy(&body))),
            })
        })?;
        let commit = list.sha.filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| unexpected("no commit".to_owned()))?;
        let files = list
            .siblings
            .ok_or_else(|| unexpected("no files".to_owned()))?;
        let files = files.into_iter().map(|file| (file.rfilename, file.size));
        Ok(RepoInfo {
            commit,
            files: files.collect(),
        })
    }

    /// What a file is, and that it may be fetched.
    pub(super) fn file(&self, repo: &str, commit: &str, file: &str) -> Result<FileInfo, HubError> {
        let url = self.url(repo, commit, file);
        let (last, mut answer) = self.on_the_hub(url.clone(), |agent, url| agent.head(url))?;
        if !answer.status().is_redirection() {
            self.check(&last, repo, file, &mut answer)?;
        }
        let unexpected = |expected, found: Option<&str>| HubError::Answer {
            url: url.clone(),
            expected,
            found: words(found.unwrap_or("none")),
        };
        let tag = text(&answer, "x-linked-etag").or_else(|| text(&answer, "etag"));
        let known = tag.and_then(Etag::parse);
        let known = known.ok_or_else(|| unexpected("the hash of the file (etag)", tag))?;
        let size = text(&answer, "x-linked-size").or_else(|| text(&answer, "content-length"));
        let bytes = size.and_then(|size| size.parse().ok());
        let size = bytes.ok_or_else(|| unexpected("the size of the file", size))?;
        Ok(FileInfo { tag: known, size })
    }

    /// Begins to fetch a file, from byte `from` up to `to` if it is not all.
    pub(super) fn body(
        &self,
        repo: &str,
        commit: &str,
        file: &str,
        from: u64,
        to: Option<u64>,
    ) -> Result<Response<Body>, HubError> {
        let url = self.url(repo, commit, file);
        let mut request = self.agent.get(&url).header("Accept-Encoding", "identity");
        if let Some(to) = to {
            request = request.header("Range", format!("bytes={from}-{}", to.saturating_sub(1)));
        } else if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        // Not sent on to where the hub redirects.
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().map_err(|error| transport(&url, error))?;
        self.check(&url, repo, file, &mut answer)?;
        Ok(answer)
    }

    fn url(&self, repo: &str, commit: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{commit}/{}", self.endpoint, escape(file))
    }

    /// Asks and follows redirects as long as they stay on the hub; one that leads away is the answer.
    fn on_the_hub(
        &self,
        mut url: String,
        ask: impl Fn(&Agent, &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    ) -> Result<(String, Response<Body>), HubError> {
        let mut redirects = 0;
        loop {
            let mut request = ask(&self.agent, &url).header("Accept-Encoding", "identity");
            if let Some(token) = &self.token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let answer = request.config().max_redirects(0).build().call();
            let answer = answer.map_err(|error| transport(&url, error))?;
            let target = text(&answer, "location").filter(|_| answer.status().is_redirection());
            let next = match target {
                Some(target) if target.starts_with('/') && !target.starts_with("//") => {
                    Some(format!("{}{target}", origin(&self.endpoint)))
                }
                // What says already which file it is leads to its bytes.
                Some(target)
                    if text(&answer, "x-linked-etag").is_none()
                        && origin(target) == origin(&self.endpoint) =>
                {
                    Some(target.to_owned())
                }
                _ => None,
            };
            let Some(next) = next else {
                return Ok((url, answer));
            };
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                return Err(HubError::Answer {
                    url,
                    expected: "a page",
                    found: "one redirect after the other".to_owned(),
                });
            }
            url = next;
        }
    }

    /// What an answer that is none means.
    fn check(
        &self,
        url: &str,
        repo: &str,
        file: &str,
        answer: &mut Response<Body>,
    ) -> Result<(), HubError> {
        let status = answer.status().as_u16();
        if matches!(status, 200 | 206) {
            return Ok(());
        }
        let code = text(answer, "x-error-code").unwrap_or_default().to_owned();
        let message = text(answer, "x-error-message").map(words);
        let wait = text(answer, "retry-after").and_then(|wait| wait.trim().parse().ok());
        let token = self.has_token();
        let no_repository = || HubError::NoRepository {
            repo: repo.to_owned(),
            endpoint: self.endpoint.clone(),
            token,
            near: Vec::new(),
        };
        let no_file = |what: String| HubError::NoFile {
            repo: repo.to_owned(),
            what,
            near: Vec::new(),
        };
        Err(match (status, code.as_str()) {
            (_, "GatedRepo") => HubError::Gated {
                repo: repo.to_owned(),
                url: format!("{}/{repo}", self.endpoint),
                token,
            },
            (_, "EntryNotFound") => no_file(format!("file {file}")),
            (_, "RevisionNotFound") => no_file("such version".to_owned()),
            (_, "RepoNotFound") => no_repository(),
            // Of repositories that are not there the hub says no more to strangers than of private
            // ones.
            (401, _) if !token || message.is_none() => no_repository(),
            (404, _) if url.contains("/api/models/") => no_repository(),
            (404, _) => no_file(format!("file {file}")),
            (401 | 403, _) => HubError::Forbidden {
                url: url.to_owned(),
                status,
                why: message.unwrap_or_else(|| said(answer)),
                token,
            },
            _ => HubError::Status {
                url: url.to_owned(),
                status,
                why: message.unwrap_or_else(|| said(answer)),
                wait: wait.map(Duration::from_secs),
            },
        })
    }
}

/// A header's value.
pub(super) fn text(answer: &Response<Body>, name: impl AsHeaderName) -> Option<&str> {
    answer.headers().get(name)?.to_str().ok()
}

/// The beginning of a body that says what went wrong.
fn said(answer: &mut Response<Body>) -> String {
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_WORDS)
        .lossy_utf8(true);
    let body = body.read_to_string().unwrap_or_default();
    let reason = answer
        .status()
        .canonical_reason()
        .unwrap_or("no reason given");
    match body.trim() {
        "" => reason.to_owned(),
        page if page.starts_with('<') => reason.to_owned(),
        body => words(body),
    }
}

/// `https://host:port` of an address.
fn origin(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(after..).unwrap_or_default();
    let end = rest
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| after + at);
    url.get(..end).unwrap_or(url)
}

/// A path as it stands in an address.
fn escape(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(byte.into());
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (url, wanted) in [
            ("https://huggingface.co/a/b?c", "https://huggingface.co"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://h?x", "http://h"),
        ] {
            assert_eq!(origin(url), wanted);
        }
        assert_eq!(escape("a b/ü#.json"), "a%20b/%C3%BC%23.json");
    }

    #[test]
    fn an_endpoint_is_an_address() {
        for endpoint in ["huggingface.co", "ftp://x", "", "https://"] {
            let options = HubOptions {
                endpoint: endpoint.to_owned(),
                ..HubOptions::new(PathBuf::new())
            };
            let told = Http::new(&options).unwrap_err().to_string();
            assert!(told.starts_with("HF_ENDPOINT cannot be used"), "{told}");
        }
    }
}
