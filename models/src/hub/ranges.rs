//! Some bytes of a file of the hub.
//!
//! No hash is known of them. What they are held to is what can be: they are asked of the file that
//! the commit and the hash name, come with exactly the range and the length of the whole that were
//! asked for, and as many as that; and the beginning has to be one, of a file that is so long. Once
//! the last byte is here, the hash of the whole is compared, and only then it goes into the cache.

use std::{
    collections::BTreeSet,
    fs,
    io::{ErrorKind, Read},
    ops::Range,
};

use super::{
    HubError,
    blob::{Fetch, MOST_DAMAGED_PEERS, PIECE, broken},
    holes::{self, Holes},
    http::text,
    layout::room_for,
    news::News,
    select::{self, Front},
    share::{Coming, PIECE as PEER_PIECE},
    transport::{transport, words},
};

/// The beginnings of most files are shorter.
const FIRST: u64 = 64 << 10;

/// Bytes of one request. Peers are asked before each: they may have some of a range.
const BLOCK: u64 = 64 << 20;

/// Who wants to know how it goes.
pub(super) struct Watch<'a> {
    /// Bytes of the file that will be here.
    pub(super) total: &'a dyn Fn(u64),
    /// Bytes that are, and how many just came.
    pub(super) at: &'a dyn Fn(u64, u64),
    pub(super) trouble: &'a dyn Fn(&str),
}

/// A file of which a part is fetched.
struct Taking<'a> {
    fetch: &'a Fetch<'a>,
    watch: &'a Watch<'a>,
    holes: Holes,
    coming: Coming,
    news: News,
    /// Peers that sent some of it.
    senders: BTreeSet<String>,
    /// The server sends whole files only.
    only_whole: bool,
}

impl Fetch<'_> {
    /// Brings what says where in the file which tensor is. Whether all of the file is here.
    pub(super) fn front(&self, watch: &Watch<'_>) -> Result<bool, HubError> {
        self.take(watch, |taking| taking.front())
    }

    /// Brings ranges of bytes, and small gaps between them. Whether all of the file is here.
    pub(super) fn ranges(
        &self,
        wanted: &[Range<u64>],
        watch: &Watch<'_>,
    ) -> Result<bool, HubError> {
        self.take(watch, |taking| taking.bring(wanted))
    }

    /// Brings again what is damaged. Whether all of the file is here.
    pub(super) fn mend(&self, watch: &Watch<'_>) -> Result<bool, HubError> {
        let blob = self.folder.blob(&self.info.tag);
        if !blob.exists() && Holes::is_there(self.folder, &self.info.tag) {
            return self.take(watch, |taking| {
                let damaged = taking.holes.forget_damaged(self.cancel)?;
                taking.told_again();
                taking.bring(&damaged)
            });
        }
        let anew = Fetch {
            anew: true,
            ..*self
        };
        anew.whole(watch)
    }

    fn take(
        &self,
        watch: &Watch<'_>,
        work: impl FnOnce(&mut Taking<'_>) -> Result<(), HubError>,
    ) -> Result<bool, HubError> {
        let waiting = || (watch.trouble)(&format!("{}: waiting for another process", self.file));
        let lock = self.folder.lock(&self.info.tag, self.cancel, waiting)?;
        let blob = fs::metadata(self.folder.blob(&self.info.tag));
        if blob.is_ok_and(|there| there.len() == self.info.size) {
            (watch.total)(self.info.size);
            (watch.at)(self.info.size, 0);
            holes::forget(self.folder, &self.info.tag)?;
            return Ok(true);
        }
        let mut taking = self.taking(watch)?;
        let result = work(&mut taking);
        // What has come is kept.
        let saved = taking.holes.save();
        if taking.only_whole {
            // It comes as a whole, from its beginning.
            holes::forget(self.folder, &self.info.tag)?;
            drop((taking, lock));
            return self.whole(watch);
        }
        result?;
        saved?;
        if !taking.holes.is_whole() {
            return Ok(false);
        }
        if taking.finish()? {
            return Ok(true);
        }
        drop(lock);
        self.whole(watch)
    }

    fn taking<'a>(&'a self, watch: &'a Watch<'a>) -> Result<Taking<'a>, HubError> {
        let holes = Holes::open(self.folder, self.info)?;
        (watch.total)(holes.have.total());
        (watch.at)(holes.have.total(), 0);
        let coming = self
            .comings
            .some(&self.info.tag, self.info.size, &holes.have);
        Ok(Taking {
            fetch: self,
            watch,
            holes,
            coming,
            news: News::new(self),
            senders: BTreeSet::new(),
            only_whole: false,
        })
    }

    /// Brings all of it.
    pub(super) fn whole(&self, watch: &Watch<'_>) -> Result<bool, HubError> {
        (watch.total)(self.info.size);
        self.run(watch.at, watch.trouble)?;
        Ok(true)
    }

    /// All of the file is wanted, of which a part is here: brings the rest. `false` when it has to
    /// be fetched as if there were none.
    pub(super) fn complete(
        &self,
        at: &dyn Fn(u64, u64),
        trouble: &dyn Fn(&str),
    ) -> Result<bool, HubError> {
        if !Holes::is_there(self.folder, &self.info.tag) {
            return Ok(false);
        }
        let total = &|_| {};
        let watch = Watch { total, at, trouble };
        let mut taking = self.taking(&watch)?;
        if taking.holes.only_beginning().is_some() {
            taking.holes.become_incomplete(self.folder)?;
            return Ok(false);
        }
        let whole = 0..self.info.size;
        let result = taking.bring(std::slice::from_ref(&whole));
        let saved = taking.holes.save();
        if taking.only_whole {
            holes::forget(self.folder, &self.info.tag)?;
            return Ok(false);
        }
        result?;
        saved?;
        taking.finish()
    }
}

impl Taking<'_> {
    fn front(&mut self) -> Result<(), HubError> {
        let size = self.fetch.info.size;
        let mut end = FIRST.min(size);
        let mut damaged = 0;
        loop {
            self.bring(std::slice::from_ref(&(0..end)))?;
            let beginning = self.holes.read(0..end)?;
            let error = match select::look(self.fetch.file, &beginning, size) {
                Ok(Front::Known(constants)) => return self.bring(&constants),
                Ok(Front::More(more)) => {
                    end = more.max(end + 1).min(size);
                    continue;
                }
                Err(error) => error,
            };
            // Nothing that is here says anything about this file.
            self.holes.restart(self.fetch.folder)?;
            self.told_again();
            damaged += 1;
            if !self.blame() || damaged >= MOST_DAMAGED_PEERS {
                return Err(error.into());
            }
        }
    }

    /// Whoever sent something of it is not asked any more. Whether there was anybody.
    fn blame(&mut self) -> bool {
        let senders = std::mem::take(&mut self.senders);
        if let Some(peers) = self.fetch.peers {
            let name = self.fetch.info.tag.as_str();
            senders.iter().for_each(|sender| peers.blame(name, sender));
        }
        !senders.is_empty()
    }

    fn bring(&mut self, wanted: &[Range<u64>]) -> Result<(), HubError> {
        let Fetch { gap, info, .. } = *self.fetch;
        let missing = self.holes.have.to_fetch(wanted, gap, info.size);
        let bytes: u64 = missing.iter().map(|range| range.end - range.start).sum();
        (self.watch.total)(self.holes.have.total().saturating_add(bytes));
        room_for(bytes, self.fetch.folder.parts())?;
        for range in missing {
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at.saturating_add(BLOCK));
                self.block(at, end)?;
                at = end;
            }
        }
        Ok(())
    }

    fn block(&mut self, from: u64, end: u64) -> Result<(), HubError> {
        let fetch = self.fetch;
        let mut at = self.ask_peers(from, end)?;
        if at < end && fetch.offline {
            return Err(HubError::Offline { what: fetch.name() });
        }
        while at < end {
            self.coming.plan(at..end);
            let trouble = self.watch.trouble;
            let fetched = fetch.patience.retry(fetch.cancel, trouble, |progress| {
                let before = at;
                let result = self.receive(&mut at, end);
                *progress = at > before;
                result
            });
            self.coming.plan(0..0);
            match fetched {
                // Somebody may have it by now.
                Err(error) if error.passes() => {
                    if self.ask_peers(at, end)? < end {
                        return Err(error);
                    }
                    return Ok(());
                }
                fetched => fetched?,
            }
            if at < end {
                at = self.ask_peers(at, end)?;
            }
        }
        Ok(())
    }

    /// Brings what peers have of it, up to where nobody has anything.
    fn ask_peers(&mut self, from: u64, end: u64) -> Result<u64, HubError> {
        let Fetch { info, cancel, .. } = *self.fetch;
        let Some(peers) = self.fetch.peers else {
            return Ok(from);
        };
        let mut at = from;
        let mut damaged = 0;
        let mut prefer: Option<String> = None;
        while at < end && damaged < MOST_DAMAGED_PEERS {
            cancel.check()?;
            let length = u32::try_from(end - at).unwrap_or(u32::MAX).min(PEER_PIECE);
            let name = info.tag.as_str();
            let Some(piece) = peers.part(name, at, length, prefer.as_deref(), cancel) else {
                break;
            };
            let count = piece.bytes.len() as u64;
            if piece.size != info.size || count == 0 || count > length.into() {
                peers.blame(name, &piece.node);
                prefer = None;
                damaged += 1;
                continue;
            }
            self.came(at, &piece.bytes)?;
            at += count;
            self.senders.insert(piece.node.clone());
            prefer = Some(piece.node);
        }
        cancel.check()?;
        Ok(at)
    }

    /// Less is here than there was: who asks for it hears so.
    fn told_again(&self) {
        self.coming.have(&self.holes.have);
        (self.watch.at)(self.holes.have.total(), 0);
    }

    fn came(&mut self, at: u64, bytes: &[u8]) -> Result<(), HubError> {
        self.holes.write(at, bytes)?;
        let count = bytes.len() as u64;
        self.coming.came(at..at + count);
        (self.watch.at)(self.holes.have.total(), count);
        Ok(())
    }

    /// One answer of the hub. Ends before `end` when somebody came up who has the rest.
    fn receive(&mut self, at: &mut u64, end: u64) -> Result<(), HubError> {
        let Fetch {
            http, info, cancel, ..
        } = *self.fetch;
        let (repo, commit, file) = (self.fetch.repo, self.fetch.commit, self.fetch.file);
        let from = *at;
        let mut answer = http.body(repo, commit, file, from, Some(end))?;
        let unexpected = |expected, found: &str| HubError::Answer {
            url: self.fetch.name(),
            expected,
            found: words(found),
        };
        if let Some(packed) = text(&answer, "content-encoding").filter(|name| *name != "identity") {
            return Err(unexpected("bytes as they are", packed));
        }
        if answer.status().as_u16() != 206 {
            self.only_whole = true;
            return Err(unexpected("a range of bytes", "all of the file"));
        }
        let range = text(&answer, "content-range").unwrap_or_default();
        if range != format!("bytes {from}-{}/{}", end - 1, info.size) {
            return Err(unexpected("the range that was asked for", range));
        }
        let length = |found| HubError::Length {
            file: self.fetch.name(),
            expected: end - from,
            found,
        };
        let announced = text(&answer, "content-length").and_then(|length| length.parse().ok());
        if let Some(found) = announced.filter(|found| *found != end - from) {
            return Err(length(found));
        }
        let pieces = self.holes.count();
        let mut body = answer.body_mut().as_reader();
        let mut buffer = vec![0; PIECE];
        loop {
            cancel.check()?;
            let count = match body.read(&mut buffer) {
                Ok(0) if *at == end => return Ok(()),
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(transport(http.endpoint(), broken(error))),
            };
            let found = at.saturating_add(count as u64);
            if found > end {
                // Nothing of it can be trusted.
                self.holes.take_back(pieces);
                self.told_again();
                *at = from;
                return Err(length(found - from));
            }
            self.came(*at, buffer.get(..count).unwrap_or_default())?;
            *at = found;
            if found < end && self.news.somebody_has(self.fetch, found, count as u64) {
                return Ok(());
            }
        }
        Err(HubError::Cut {
            file: self.fetch.name(),
            expected: end - from,
            found: *at - from,
        })
    }

    /// All is here. Whether it has its hash; if not, it is gone.
    fn finish(mut self) -> Result<bool, HubError> {
        let Fetch { folder, cancel, .. } = *self.fetch;
        // Whose fault it would be cannot be told.
        let senders = std::mem::take(&mut self.senders);
        let right = self.holes.become_blob(folder, cancel)?;
        if let (false, Some(peers)) = (right, self.fetch.peers) {
            let name = self.fetch.info.tag.as_str();
            senders.iter().for_each(|sender| peers.blame(name, sender));
        }
        if !right {
            (self.watch.at)(0, 0);
            (self.watch.trouble)(&format!(
                "{} is damaged, it is fetched anew",
                self.fetch.name()
            ));
        }
        Ok(right)
    }
}
