//! Fetches models from the Hugging Face hub, or from one that speaks its language.
//!
//! ```no_run
//! use exo_models::hub::{Cancel, Hub, HubName, HubOptions};
//!
//! # fn main() -> Result<(), exo_models::hub::HubError> {
//! let hub = Hub::new(HubOptions::from_environment());
//! let name = HubName::parse("llama-3.2-1b")?;
//! let pulled = hub.pull(&name, None, &(), &Cancel::default())?;
//! println!("{} is in {}", pulled.name, pulled.path.display());
//! # Ok(())
//! # }
//! ```
//!
//! Files go into the cache that Python's tools use, laid out as they do it, so whoever has a model
//! there needs no other copy; and a download that either of them began the other one completes.
//!
//! A file gets its name only when it has the length and the hash that the hub announced: a cut
//! connection, a proxy's error page, or a server that ignores `Range` costs time, never a broken
//! model. All calls wait for the network; threads do the rest.

mod blob;
mod each;
mod error;
mod hash;
mod holes;
mod http;
mod layers;
mod layout;
mod list;
mod local;
mod name;
mod news;
mod options;
mod progress;
mod pull;
mod ranges;
mod repair;
mod select;
mod share;
mod transport;

use std::time::Duration;

pub(crate) use self::options::{cache, variable};
use self::share::Comings;
pub use self::{
    error::{HubError, Size},
    local::{Cached, Checked, Removed, State, part_bytes},
    name::HubName,
    options::{ENDPOINT, HubOptions, PARALLEL},
    progress::{Cancel, FileReport, Progress, Report},
    pull::{Part, Pulled},
    share::{PeerPart, Peers, Shared},
};

/// The version of a repository that is meant.
const BRANCH: &str = "main";

/// How often a wait that nobody ends looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// A model hub, and the cache of what came from it.
#[derive(Debug, Clone)]
pub struct Hub {
    options: HubOptions,
    comings: Comings,
}

impl Hub {
    /// Nothing is asked, and nothing made, before something is fetched.
    #[must_use]
    pub fn new(options: HubOptions) -> Self {
        Self {
            options,
            comings: Comings::default(),
        }
    }

    /// How models are fetched.
    #[must_use]
    pub fn options(&self) -> &HubOptions {
        &self.options
    }
}

#[cfg(test)]
mod tests;
