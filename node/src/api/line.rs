//! Lines of requests: so many are worked on, so many wait, and no more.

use crate::metrics::LineState;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often one who waits looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(50);

/// How long a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineOptions {
    /// Requests that are worked on at a time.
    pub slots: usize,
    /// Requests that wait for one of them to end; further ones hear 429.
    pub waiting: usize,
}

/// Why there is no place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// As many wait as may.
    Full,
    /// The client left while it waited.
    Gone,
}

/// First come, first served.
#[derive(Debug)]
pub(crate) struct Line {
    options: LineOptions,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    waiting: VecDeque<u64>,
    tickets: u64,
    refused: u64,
}

impl Line {
    pub(crate) fn new(options: LineOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            state: Mutex::default(),
            moved: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is whole after every line that changes it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `slots` more are free, for who is next.
    fn has(&self, state: &State, slots: usize) -> bool {
        state.taken.saturating_add(slots) <= self.options.slots
    }

    fn is_free(&self, state: &State, slots: usize) -> bool {
        self.has(state, slots) && state.waiting.is_empty()
    }

    /// Who stands in it, under this name.
    pub(super) fn state(&self, name: &'static str) -> LineState {
        let state = self.lock();
        LineState {
            name,
            working: state.taken,
            slots: self.options.slots,
            waiting: state.waiting.len(),
            capacity: self.options.waiting,
            refused: state.refused,
        }
    }

    /// Whether whoever comes now is sent away.
    pub(super) fn refuses(&self) -> bool {
        let mut state = self.lock();
        let full = !self.is_free(&state, 1) && state.waiting.len() >= self.options.waiting;
        state.refused += u64::from(full);
        full
    }

    /// Waits for a slot for as long as the client is there, which `gone` is asked now and then.
    pub(super) fn enter(self: &Arc<Self>, gone: impl FnMut() -> bool) -> Result<Permit, NoPlace> {
        self.enter_with(1, gone)
    }

    /// [`enter`](Self::enter) for so many slots, or all if there are fewer.
    pub(super) fn enter_with(
        self: &Arc<Self>,
        slots: usize,
        mut gone: impl FnMut() -> bool,
    ) -> Result<Permit, NoPlace> {
        let slots = slots.min(self.options.slots);
        let mut state = self.lock();
        if !self.is_free(&state, slots) {
            if state.waiting.len() >= self.options.waiting {
                state.refused += 1;
                return Err(NoPlace::Full);
            }
            state.tickets += 1;
            let ticket = state.tickets;
            state.waiting.push_back(ticket);
            while !self.has(&state, slots) || state.waiting.front() != Some(&ticket) {
                let waited = self.moved.wait_timeout(state, LOOK);
                let (back, time) = waited.unwrap_or_else(PoisonError::into_inner);
                state = back;
                if time.timed_out() {
                    // Looking takes a system call: not while others wait for this lock.
                    drop(state);
                    let left = gone();
                    state = self.lock();
                    if left {
                        state.waiting.retain(|other| *other != ticket);
                        self.moved.notify_all();
                        return Err(NoPlace::Gone);
                    }
                }
            }
            state.waiting.pop_front();
        }
        state.taken += slots;
        drop(state);
        // There may be a slot for the next one too.
        self.moved.notify_all();
        Ok(Permit {
            line: Arc::clone(self),
            slots,
        })
    }
}

/// A slot, or several; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    line: Arc<Line>,
    slots: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.line.lock().taken -= self.slots;
        self.line.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn line(slots: usize, waiting: usize) -> Arc<Line> {
        Line::new(LineOptions { slots, waiting })
    }

    #[test]
    fn who_finds_the_line_full_is_sent_away() {
        let line = line(1, 0);
        let first = line.enter(|| false).unwrap();
        assert!(line.refuses());
        assert_eq!(line.enter(|| false).unwrap_err(), NoPlace::Full);
        let told = LineState {
            name: "x",
            working: 1,
            slots: 1,
            waiting: 0,
            capacity: 0,
            refused: 2,
        };
        assert_eq!(line.state("x"), told);
        drop(first);
        assert!(!line.refuses());
        assert!(line.enter(|| false).is_ok());
    }

    #[test]
    fn who_wants_several_slots_waits_for_all_of_them_and_is_not_overtaken() {
        let line = line(3, 2);
        let first = line.enter_with(2, || false).unwrap();
        let (served, order) = mpsc::channel();
        let mut waiting = Vec::new();
        for (number, slots) in [(0, 9), (1, 1)] {
            let (enters, served) = (Arc::clone(&line), served.clone());
            waiting.push(thread::spawn(move || {
                let permit = enters.enter_with(slots, || false).unwrap();
                let _ = served.send((number, permit.slots));
                permit
            }));
            while line.lock().waiting.len() <= number {
                thread::yield_now();
            }
        }
        // One slot is free, but not for who came later.
        assert_eq!(line.lock().taken, 2);
        drop(first);
        // All there are.
        assert_eq!(order.recv().unwrap(), (0, 3));
        drop(waiting.remove(0).join().unwrap());
        assert_eq!(order.recv().unwrap(), (1, 1));
        drop(waiting.remove(0).join().unwrap());
        assert_eq!(line.lock().taken, 0);
    }

    #[test]
    fn those_who_wait_are_served_in_turn_and_may_leave() {
        let line = line(1, 3);
        let first = line.enter(|| false).unwrap();
        let (served, order) = mpsc::channel();
        let mut waiting = Vec::new();
        for number in 0..3 {
            let (line, served) = (Arc::clone(&line), served.clone());
            let waits = number + 1;
            let queue = Arc::clone(&line);
            waiting.push(thread::spawn(move || {
                // The second one loses patience at its first look.
                let permit = line.enter(|| number == 1);
                let _ = served.send((number, permit.is_ok()));
            }));
            let came = |state: &State| state.tickets >= waits;
            while !came(&queue.lock()) {
                thread::yield_now();
            }
        }
        assert_eq!(order.recv().unwrap(), (1, false));
        drop(first);
        assert_eq!(order.recv().unwrap(), (0, true));
        assert_eq!(order.recv().unwrap(), (2, true));
        for thread in waiting {
            thread.join().unwrap();
        }
        assert_eq!(line.lock().taken, 0);
    }
}
