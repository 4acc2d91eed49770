//! Which files a repository has, as other machines of the ring tell it when the hub does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::{
    BRANCH, Hub,
    hash::Etag,
    http::{FileInfo, RepoInfo},
    layout::{RepoFolder, is_commit, is_file_name},
    local::children,
    progress::Cancel,
    share::{PIECE, plain_len},
};
use crate::parts;

/// A list of files that is longer is none.
const MOST_LIST: usize = PIECE as usize;

/// No more peers are asked for one.
const MOST_LISTS: usize = 16;

/// What a machine has of a repository, for another one.
#[derive(Serialize, Deserialize)]
struct List {
    commit: String,
    files: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    name: String,
    hash: String,
    size: u64,
}

/// What is known of one version.
struct Version {
    commit: String,
    /// How many peers have some of it.
    peers: usize,
    files: BTreeMap<String, FileInfo>,
}

impl Hub {
    /// The files of a repository that are here, whole or in part, as JSON.
    pub(super) fn list_for_peers(&self, repo: &str) -> Option<Vec<u8>> {
        let list = serde_json::to_vec(&self.list(repo)?).ok()?;
        (list.len() <= MOST_LIST).then_some(list)
    }

    fn list(&self, repo: &str) -> Option<List> {
        let folder = RepoFolder::new(&self.options.cache, repo);
        let commit = folder.commit(BRANCH)?;
        let listed = |(name, path): (String, PathBuf)| {
            let blob = fs::read_link(&path).ok()?;
            let tag = Etag::parse(blob.file_name()?.to_str()?)?;
            let size = plain_len(&folder.blob(&tag))?;
            let hash = tag.as_str().to_owned();
            Some(Listed { name, hash, size })
        };
        let files = children(&folder.snapshot(&commit));
        let parts = parts::of(&folder.snapshot(&commit)).into_iter();
        let parts = parts.map(|part| Listed {
            name: part.name,
            hash: part.hash,
            size: part.record.size,
        });
        let files = files.into_iter().filter_map(listed).chain(parts).collect();
        Some(List { commit, files })
    }

    /// What peers have of a repository, together with what is here: each may have other files of it.
    /// Of several versions the one that most of them have.
    pub(super) fn ask_list(
        &self,
        repo: &str,
        cancel: &Cancel,
    ) -> Option<(RepoInfo, BTreeMap<String, FileInfo>)> {
        let peers = self.options.peers.as_deref()?;
        let mut versions = Vec::new();
        if let Some(list) = self.list(repo) {
            add(&mut versions, list, 0);
        }
        let mut answered = BTreeSet::new();
        for node in peers.nodes().into_iter().take(MOST_LISTS) {
            if answered.contains(&node) {
                continue;
            }
            // Where this one has nothing, somebody else answers for it.
            let Some(part) = peers.part(repo, 0, PIECE, Some(&node), cancel) else {
                break;
            };
            if !answered.insert(part.node) || part.bytes.len() > MOST_LIST {
                continue;
            }
            let list = serde_json::from_slice(&part.bytes).ok();
            if let Some(list) = list.filter(|list: &List| is_commit(&list.commit)) {
                add(&mut versions, list, 1);
            }
        }
        // The first of those that as many have: it may be the one of which something is here.
        let versions = versions.into_iter().rev();
        let version = versions.max_by_key(|version| version.peers)?;
        if version.peers == 0 {
            return None;
        }
        let files = version.files.iter();
        let files = files.map(|(name, info)| (name.clone(), Some(info.size)));
        let info = RepoInfo {
            commit: version.commit,
            files: files.collect(),
        };
        Some((info, version.files))
    }
}

/// Where two say different things of a file, the first one counts: nothing tells who is right.
fn add(versions: &mut Vec<Version>, list: List, peers: usize) {
    let known = versions
        .iter()
        .position(|version| version.commit == list.commit);
    let index = known.unwrap_or(versions.len());
    if known.is_none() {
        versions.push(Version {
            commit: list.commit,
            peers: 0,
            files: BTreeMap::new(),
        });
    }
    let Some(version) = versions.get_mut(index) else {
        return;
    };
    version.peers += peers;
    for file in list.files {
        let tag = Etag::parse(&file.hash).filter(|_| is_file_name(&file.name));
        if let Some(tag) = tag {
            let info = FileInfo {
                tag,
                size: file.size,
            };
            version.files.entry(file.name).or_insert(info);
        }
    }
}
