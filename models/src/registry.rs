//! Short names for well-known models.

mod table;

use std::sync::LazyLock;

/// A well-known model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its short name.
    pub id: &'static str,
    /// How many layers it is said to have; its own configuration is what counts.
    pub layers: u32,
    /// Its repository on the Hugging Face hub, with weights packed by MLX where there are such.
    pub repo: Option<&'static str>,
    /// A repository with plain weights.
    pub tinygrad_repo: Option<&'static str>,
    /// Its name for people.
    pub pretty: Option<&'static str>,
}

impl Entry {
    /// Its repositories, the most suitable one first: on Apple Silicon the one packed by MLX,
    /// elsewhere the one with plain weights, which every engine reads.
    pub fn repos(&self) -> impl Iterator<Item = &'static str> {
        let mut repos = [self.repo, self.tinygrad_repo];
        if !cfg!(all(target_vendor = "apple", target_arch = "aarch64")) {
            repos.reverse();
        }
        repos.into_iter().flatten()
    }
}

/// An entry as the table has it; an empty text stands for none.
type Row = (&'static str, u32, &'static str, &'static str, &'static str);

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let some = |text: &'static str| Some(text).filter(|text| !text.is_empty());
    table::TABLE
        .iter()
        .map(|&(id, layers, repo, tinygrad_repo, pretty)| Entry {
            id,
            layers,
            repo: some(repo),
            tinygrad_repo: some(tinygrad_repo),
            pretty: some(pretty),
        })
        .collect()
});

/// All well-known models, in the order in which lists show them.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The well-known model of that id.
pub fn find(id: &str) -> Option<&'static Entry> {
    entries().iter().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests;
