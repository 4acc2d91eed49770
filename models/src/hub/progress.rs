//! How far a download is, for whoever wants to see it, and how it is told to stop.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{HubError, LOOK};

/// Says to a download that it shall stop. Clones say it to the same one.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    asked: Arc<AtomicBool>,
    /// That of whoever wants this as a part of something.
    outer: Option<Arc<AtomicBool>>,
    /// It stops by itself.
    until: Option<Instant>,
}

impl Cancel {
    /// Stop soon: what has come is kept.
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether it shall stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let asked = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        let over = self.until.is_some_and(|until| Instant::now() >= until);
        over || asked(&self.asked) || self.outer.as_ref().is_some_and(asked)
    }

    /// For a part: it stops with the whole, but the whole does not stop with it.
    pub(super) fn inner(&self) -> Self {
        Self {
            asked: Arc::default(),
            outer: Some(Arc::clone(&self.asked)),
            until: self.until,
        }
    }

    /// The same for something that shall not take longer than this.
    pub(super) fn within(&self, time: Duration) -> Self {
        let until = Instant::now().checked_add(time);
        Self {
            until,
            ..self.clone()
        }
    }

    pub(super) fn check(&self) -> Result<(), HubError> {
        match self.is_cancelled() {
            true => Err(HubError::Cancelled),
            false => Ok(()),
        }
    }

    /// Waits for so long, unless it shall stop.
    pub(super) fn wait(&self, time: Duration) -> Result<(), HubError> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

/// Hears how a download goes.
pub trait Progress: Sync {
    /// Called a few times a second, from one thread at a time; should not take long.
    fn report(&self, report: &Report);

    /// Something did not go well and is tried again, or another process is waited for.
    fn trouble(&self, trouble: &str);
}

/// For those who do not want to know.
impl Progress for () {
    fn report(&self, _: &Report) {}

    fn trouble(&self, _: &str) {}
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The repository.
    pub repo: String,
    /// Its files that are fetched, in the order in which they are begun.
    pub files: Vec<FileReport>,
    /// Bytes of all of them that are here.
    pub done: u64,
    /// Bytes of all of them.
    pub total: u64,
    /// Bytes in a second, over the last seconds; nothing before there is something to measure.
    pub speed: Option<f64>,
    /// The time that is left at this speed.
    pub left: Option<Duration>,
}

/// How far a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// Its path in the repository.
    pub name: String,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// It is being fetched right now.
    pub active: bool,
}

/// Between two reports.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Speed is what was made in this time.
const WINDOW: Duration = Duration::from_secs(5);

/// Adds up what several threads fetch.
pub(super) struct Tracker<'a> {
    progress: &'a dyn Progress,
    state: Mutex<State>,
}

struct State {
    report: Report,
    /// Bytes that came over the network, and when they were counted.
    fetched: u64,
    samples: VecDeque<(Instant, u64)>,
    told: Option<Instant>,
}

impl<'a> Tracker<'a> {
    pub(super) fn new(repo: &str, progress: &'a dyn Progress) -> Self {
        let report = Report {
            repo: repo.to_owned(),
            files: Vec::new(),
            done: 0,
            total: 0,
            speed: None,
            left: None,
        };
        Self {
            progress,
            state: Mutex::new(State {
                report,
                fetched: 0,
                samples: VecDeque::new(),
                told: None,
            }),
        }
    }

    /// One more file, and its number.
    pub(super) fn add(&self, name: &str, total: u64) -> usize {
        let mut state = self.lock();
        state.report.total = state.report.total.saturating_add(total);
        state.report.files.push(FileReport {
            name: name.to_owned(),
            done: 0,
            total,
            active: false,
        });
        state.report.files.len() - 1
    }

    /// A file has so many bytes that are wanted.
    pub(super) fn total(&self, file: usize, total: u64) {
        let report = &mut self.lock().report;
        if let Some(file) = report.files.get_mut(file) {
            change(&mut report.total, &mut file.total, total);
        }
    }

    /// A file is begun, or over.
    pub(super) fn active(&self, file: usize, active: bool) {
        let mut state = self.lock();
        if let Some(file) = state.report.files.get_mut(file) {
            file.active = active;
        }
        self.tell(&mut state, true);
    }

    /// So many bytes of a file are here, `fetched` of them just came.
    pub(super) fn at(&self, file: usize, done: u64, fetched: u64) {
        let mut state = self.lock();
        let report = &mut state.report;
        let Some(file) = report.files.get_mut(file) else {
            return;
        };
        change(&mut report.done, &mut file.done, done);
        state.fetched = state.fetched.saturating_add(fetched);
        self.tell(&mut state, false);
    }

    pub(super) fn trouble(&self, trouble: &str) {
        self.progress.trouble(trouble);
    }

    /// The last word.
    pub(super) fn end(&self) {
        self.tell(&mut self.lock(), true);
    }

    fn tell(&self, state: &mut State, at_once: bool) {
        let now = Instant::now();
        let recent = state.told.is_some_and(|told| now - told < REPORT_EVERY);
        if recent && !at_once {
            return;
        }
        state.told = Some(now);
        state.samples.push_back((now, state.fetched));
        while state.samples.len() > 2
            && state
                .samples
                .front()
                .is_some_and(|(at, _)| now - *at > WINDOW)
        {
            state.samples.pop_front();
        }
        state.report.speed = state.samples.front().and_then(|(at, fetched)| {
            let seconds = (now - *at).as_secs_f64();
            let bytes = state.fetched - fetched;
            (bytes > 0 && seconds > 0.05).then(|| bytes as f64 / seconds)
        });
        let missing = state.report.total.saturating_sub(state.report.done);
        let left = state.report.speed.map(|speed| missing as f64 / speed);
        state.report.left = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
        self.progress.report(&state.report);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another number in a sum.
fn change(sum: &mut u64, number: &mut u64, to: u64) {
    let others = sum.saturating_sub(std::mem::replace(number, to));
    *sum = others.saturating_add(to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::tests::seen::Seen;

    #[test]
    fn bytes_are_added_up_and_taken_back() {
        let seen = Seen::default();
        let tracker = Tracker::new("me/tiny", &seen);
        let (a, b) = (tracker.add("a", 10), tracker.add("b", 20));
        tracker.active(a, true);
        tracker.at(a, 7, 7);
        tracker.at(b, 20, 0);
        // A damaged file begins anew.
        tracker.at(a, 0, 0);
        tracker.at(a, 3, 3);
        tracker.active(a, false);
        tracker.end();
        drop(tracker);
        let report = seen.last();
        assert_eq!((report.done, report.total), (23, 30));
        let files: Vec<_> = report
            .files
            .iter()
            .map(|file| (file.done, file.active))
            .collect();
        assert_eq!(files, [(3, false), (20, false)]);
    }
}
