//! The weights of some layers, where files hold more than those.

use std::{collections::BTreeMap, ops::Range, path::Path, sync::PoisonError};

use super::{HubError, Part, each::each, hash::Etag, http::FileInfo, pull::Pull, ranges::Watch};
use crate::{Model, parts};

/// A file that lacks no more than this share of its bytes is fetched whole: then its hash can be
/// compared, and Python's tools have it too.
const LITTLE: u64 = 16;

impl Pull<'_> {
    /// Brings what a part of the model needs of its weight files; `path` opens the model then.
    /// Returns how many bytes of them are here.
    pub(super) fn fetch_part(
        &self,
        files: &[String],
        part: &Part,
        path: &Path,
    ) -> Result<u64, HubError> {
        let missing = files.iter().filter(|file| self.there(file).is_none());
        let mut files = self.plan(missing)?;
        self.each_of(&mut files, |_| Some(Wanted::Front))?;
        if let Part::Layers(layers) = part {
            let mut lacking = Model::open(path)?.outline(layers.clone())?.lacking()?;
            self.each_of(&mut files, |file| {
                let wanted = lacking.remove(&file.name)?;
                let bytes: u64 = wanted.iter().map(|range| range.end - range.start).sum();
                let here = file.here.saturating_add(bytes);
                let rest = file.info.size.saturating_sub(here);
                match rest <= file.info.size / LITTLE {
                    true => Some(Wanted::Whole),
                    false => Some(Wanted::Ranges(wanted)),
                }
            })?;
        }
        Ok(files.iter().map(|file| file.here).sum())
    }

    /// Brings files again that are damaged, each as much of it as was here.
    pub(super) fn mend(&self, damaged: &[String]) -> Result<(), HubError> {
        let mut files = self.plan(damaged)?;
        self.each_of(&mut files, |_| Some(Wanted::Mended))
    }

    /// What the files are.
    fn plan<'a>(
        &self,
        files: impl IntoIterator<Item = &'a String>,
    ) -> Result<Vec<Planned>, HubError> {
        let files: Vec<&str> = files.into_iter().map(String::as_str).collect();
        let snapshot = self.folder.snapshot(&self.info.commit);
        let infos = each(self.parallel, &files, self.cancel, |file, cancel| {
            let known = parts::find(&snapshot.join(file));
            let known = known.and_then(|part| Some((Etag::parse(&part.hash)?, part.record.size)));
            match known {
                Some((tag, size)) => Ok(FileInfo { tag, size }),
                None => self.file_info(file, cancel),
            }
        })?;
        let named = files.into_iter().zip(infos);
        let planned = named.map(|(name, info)| Planned {
            number: self.tracker.add(name, 0),
            name: name.to_owned(),
            info,
            here: 0,
        });
        Ok(planned.collect())
    }

    /// Brings what is wanted of each file, and gives it its name in this version.
    fn each_of(
        &self,
        files: &mut [Planned],
        mut wanted: impl FnMut(&Planned) -> Option<Wanted>,
    ) -> Result<(), HubError> {
        let todo: Vec<(&Planned, Wanted)> = files
            .iter()
            .filter_map(|file| Some((file, wanted(file)?)))
            .collect();
        let done = each(
            self.parallel,
            &todo,
            self.cancel,
            |(file, wanted), cancel| {
                let number = file.number;
                self.tracker.active(number, true);
                let here = std::cell::Cell::new(0);
                let at = |done, fetched| {
                    here.set(done);
                    *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) += fetched;
                    self.tracker.at(number, done, fetched);
                };
                let watch = Watch {
                    total: &|total| self.tracker.total(number, total),
                    at: &at,
                    trouble: &|trouble| self.tracker.trouble(trouble),
                };
                let fetch = self.fetch_of(&file.name, &file.info, cancel);
                let result = match wanted {
                    Wanted::Front => fetch.front(&watch),
                    Wanted::Ranges(ranges) => fetch.ranges(ranges, &watch),
                    Wanted::Whole => fetch.whole(&watch),
                    Wanted::Mended => fetch.mend(&watch),
                };
                self.tracker.active(number, false);
                let (commit, tag) = (&self.info.commit, &file.info.tag);
                match result? {
                    true => drop(self.folder.link(commit, &file.name, tag)?),
                    false => self.folder.point(commit, &file.name, tag)?,
                }
                Ok((number, here.get()))
            },
        )?;
        let done: BTreeMap<usize, u64> = done.into_iter().collect();
        for file in files {
            file.here = done.get(&file.number).copied().unwrap_or(file.here);
        }
        Ok(())
    }
}

/// A file that is not whole.
struct Planned {
    /// That of the tracker.
    number: usize,
    name: String,
    info: FileInfo,
    /// Bytes of it that are here.
    here: u64,
}

enum Wanted {
    Front,
    Ranges(Vec<Range<u64>>),
    Whole,
    /// What is damaged of it.
    Mended,
}
