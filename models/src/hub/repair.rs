//! What turned out to be damaged, fetched again.

use std::sync::PoisonError;

use super::{
    BRANCH, Cancel, Checked, Hub, HubError, HubName, Progress, State,
    http::{Http, RepoInfo},
    layout::RepoFolder,
    progress::Tracker,
};

impl Hub {
    /// Fetches again what is damaged of files that [`Hub::verify`] looked at, in the version that is
    /// here. A whole file stays what it is until the right one has come, with its hash, and takes its
    /// place; of a file of which only a part is here, what is damaged counts as never come. Returns
    /// how many bytes came over the network.
    ///
    /// # Errors
    /// When the model is not in the cache, or as [`Hub::pull`].
    pub fn repair(
        &self,
        name: &HubName,
        checked: &[Checked],
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<u64, HubError> {
        let folder = RepoFolder::new(&self.options.cache, &name.repo);
        let commit = folder.commit(BRANCH);
        let info = RepoInfo {
            commit: commit.ok_or_else(|| self.not_cached(name))?,
            files: Vec::new(),
        };
        let damaged = checked.iter().filter(|one| one.state == State::Damaged);
        let damaged: Vec<String> = damaged.map(|one| one.file.clone()).collect();
        let tracker = Tracker::new(&name.repo, progress);
        let pull = self.begin(name, Http::new(&self.options)?, info, &tracker, cancel);
        pull.mend(&damaged)?;
        tracker.end();
        let fetched = pull.fetched.into_inner();
        Ok(fetched.unwrap_or_else(PoisonError::into_inner))
    }
}
