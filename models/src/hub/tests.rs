//! Downloads from a hub on this machine that does everything wrong that hubs did.

mod here;
mod layers;
mod lists;
mod neighbours;
mod refused;
mod repair;
pub(super) mod seen;
mod server;
mod whole;

use std::{fs, path::Path, time::Duration};

use self::server::{Fault, HubServer, On};
use super::{Cancel, Hub, HubError, HubName, HubOptions, Pulled, hash::Etag, layout::RepoFolder};
use crate::{
    model_tests::write_sharded,
    test_files::{GgufFile, LAYERS, write_folder},
};

const REPO: &str = "me/tiny";

/// A hub with the tiny model, and an empty cache.
struct Setup {
    server: HubServer,
    cache: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let setup = Self::empty();
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), true);
        setup.publish(folder.path());
        setup
    }

    /// Its weights in one file for each layer, and one for what comes before and after.
    fn sharded() -> Self {
        let setup = Self::empty();
        let folder = tempfile::tempdir().unwrap();
        write_sharded(folder.path());
        setup.publish(folder.path());
        setup
    }

    fn empty() -> Self {
        Self {
            server: HubServer::start(),
            cache: tempfile::tempdir().unwrap(),
        }
    }

    fn publish(&self, folder: &Path) {
        self.server.put_folder(REPO, folder);
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            endpoint: self.server.endpoint(),
            parallel: 1,
            pause: Duration::from_millis(1),
            stall: Duration::from_millis(200),
            ..HubOptions::new(self.cache.path().to_owned())
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.options())
    }

    fn pull(&self) -> Result<Pulled, HubError> {
        self.pull_as(REPO)
    }

    fn pull_as(&self, name: &str) -> Result<Pulled, HubError> {
        let name = HubName::parse(name)?;
        self.hub().pull(&name, None, &(), &Cancel::default())
    }

    /// The ranges of the bodies that were asked for since the last time, of the weights.
    fn ranges(&self) -> Vec<Option<String>> {
        let asked = self.server.asked();
        let bodies = asked
            .into_iter()
            .filter(|asked| asked.line.starts_with("GET /cdn/"));
        bodies.map(|asked| asked.range).collect()
    }

    /// What the cache has of a file; nothing if it has no name there.
    fn cached(&self, file: &str) -> Option<Vec<u8>> {
        let folder = RepoFolder::new(self.cache.path(), REPO);
        fs::read(folder.snapshot(server::COMMIT).join(file)).ok()
    }

    /// The names of the blobs, and of what is to become one.
    fn blobs(&self) -> Vec<String> {
        let folder = RepoFolder::new(self.cache.path(), REPO).blobs();
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
