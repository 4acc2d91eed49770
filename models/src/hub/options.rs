//! Where the hub and its cache are: what Python's `huggingface_hub` reads from the environment.
//!
//! <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::Peers;

/// The hub, if nothing else is said.
pub const ENDPOINT: &str = "https://huggingface.co";

/// As many files are fetched at the same time.
pub const PARALLEL: usize = 8;

/// How models are fetched.
#[derive(Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// The folder with `models--ORGANISATION--NAME` (`HF_HUB_CACHE`, else `hub` in `HF_HOME`, else
    /// `huggingface/hub` in the user's cache).
    pub cache: PathBuf,
    /// The hub's address (`HF_ENDPOINT`).
    pub endpoint: String,
    /// Who asks (`HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` in `HF_HOME`).
    pub token: Option<String>,
    /// Nothing is fetched (`HF_HUB_OFFLINE`).
    pub offline: bool,
    /// Files that are fetched at the same time; at least 1.
    pub parallel: usize,
    /// Attempts at the same byte before it is given up; at least 1.
    pub attempts: u32,
    /// The pause after the first attempt that failed; later ones are longer.
    pub pause: Duration,
    /// A server that says nothing for so long is left.
    pub stall: Duration,
    /// Bytes between two ranges of a file that are fetched along with them: less than another request
    /// costs.
    pub gap: u64,
    /// Certificates to trust instead of the built-in ones, in PEM (`SSL_CERT_FILE`, or
    /// `REQUESTS_CA_BUNDLE`, which Python's tools read).
    pub certificates: Option<PathBuf>,
    /// Other machines that may have files: they are asked before the hub.
    pub peers: Option<Arc<dyn Peers>>,
}

impl HubOptions {
    /// A cache, and whatever is usual.
    #[must_use]
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            endpoint: ENDPOINT.to_owned(),
            token: None,
            offline: false,
            parallel: PARALLEL,
            attempts: 6,
            pause: Duration::from_millis(300),
            stall: Duration::from_secs(30),
            gap: 256 << 10,
            certificates: None,
            peers: None,
        }
    }

    /// What the environment says; without a home folder the cache is below the current one.
    #[must_use]
    pub fn from_environment() -> Self {
        let cache = cache().unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint,
            token: token(),
            offline: flag("HF_HUB_OFFLINE") || flag("TRANSFORMERS_OFFLINE"),
            certificates: variable("SSL_CERT_FILE").or_else(|| variable("REQUESTS_CA_BUNDLE")),
            ..Self::new(cache)
        }
    }
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

/// The hub's cache; nothing if there is not even a home folder.
pub(crate) fn cache() -> Option<PathBuf> {
    let older = || variable("HUGGINGFACE_HUB_CACHE");
    variable("HF_HUB_CACHE")
        .or_else(older)
        .or_else(|| Some(home()?.join("hub")))
}

fn home() -> Option<PathBuf> {
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    variable("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
}

fn token() -> Option<String> {
    let given = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
    let file = || variable("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")));
    let token = given.or_else(|| read(&file()?))?;
    let token = token.trim();
    // Anything else would break the header that it stands in.
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !token.is_empty()).then(|| token.to_owned())
}

fn read(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

/// A path in the environment.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    let path = PathBuf::from(value);
    match path.strip_prefix("~") {
        Ok(rest) => Some(env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What Python's tools take for yes.
fn flag(name: &str) -> bool {
    text(name).is_some_and(|value| {
        matches!(
            value.trim().to_uppercase().as_str(),
            "1" | "ON" | "YES" | "TRUE"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_not_shown() {
        let options = HubOptions {
            token: Some("hf_secret".to_owned()),
            ..HubOptions::new(PathBuf::new())
        };
        assert!(!format!("{options:?}").contains("secret"));
    }
}
