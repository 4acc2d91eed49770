//! Who is connected, and who gives way.
//!
//! A connection that nobody uses costs a thread and a descriptor, and there are only so many. When
//! they are used up, the newest client is worth more than the one that has been idle the longest;
//! then more than one that has been at its request, or at taking its answer, for long.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a connection is at, those who give way first before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Waiting for a request, or leaving.
    Idle,
    /// Bringing a request.
    Reading,
    /// Taking an answer.
    Writing,
    /// Waiting for an answer.
    Answering,
}

/// A request that comes is not slow before this: on most networks it comes at once.
const SLOW_REQUEST: Duration = Duration::from_millis(250);

/// A piece of an answer that is taken is not slow before this.
const SLOW_ANSWER: Duration = Duration::from_secs(1);

/// Connections that gave way and have not ended yet.
const ENDING: usize = 64;

/// How long one of them may take before the next client is refused instead.
const ENDS: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    next: u64,
    open: BTreeMap<u64, Entry>,
    /// Threads, of those too who gave way.
    alive: usize,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<TcpStream>,
    phase: Phase,
    since: Instant,
}

impl State {
    /// Ends the connection that is worth least; says whether there is one.
    fn give_way(&mut self) -> bool {
        let slow = |entry: &Entry| match entry.phase {
            Phase::Idle => true,
            Phase::Reading => entry.since.elapsed() > SLOW_REQUEST,
            Phase::Writing => entry.since.elapsed() > SLOW_ANSWER,
            Phase::Answering => false,
        };
        let candidates = self.open.iter().filter(|(_, entry)| slow(entry));
        let Some(number) = candidates
            .min_by_key(|(_, entry)| (entry.phase, entry.since))
            .map(|(number, _)| *number)
        else {
            return false;
        };
        if let Some(entry) = self.open.remove(&number) {
            let _ = entry.stream.shutdown(Shutdown::Both);
        }
        true
    }
}

impl Places {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
            ended: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new client; none if everybody here is better.
    pub(super) fn take(self: &Arc<Self>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut state = self.lock();
        if state.open.len() >= self.limit && !state.give_way() {
            return None;
        }
        let most = self.limit.saturating_add(ENDING);
        let waited = self
            .ended
            .wait_timeout_while(state, ENDS, |state| state.alive >= most);
        let (mut state, time) = waited.unwrap_or_else(PoisonError::into_inner);
        if time.timed_out() {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.alive += 1;
        let entry = Entry {
            stream: Arc::clone(stream),
            phase: Phase::Idle,
            since: Instant::now(),
        };
        state.open.insert(number, entry);
        Some(Place {
            number,
            places: Arc::clone(self),
        })
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Ends those who wait for nothing; the others end with their answers.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        for entry in state.open.values() {
            if matches!(entry.phase, Phase::Idle | Phase::Reading) {
                let _ = entry.stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Whether nobody is at an answer.
    pub(super) fn idle(&self) -> bool {
        let state = self.lock();
        let mut open = state.open.values();
        open.all(|entry| matches!(entry.phase, Phase::Idle | Phase::Reading))
    }

    /// Whether nobody is to begin anything.
    pub(super) fn closed(&self) -> bool {
        self.lock().closed
    }
}

/// One of the connections that may be open; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Arc<Places>,
}

impl Place {
    /// The connection is at something else now. One that gave way hears of it from its socket.
    pub(super) fn set(&self, phase: Phase) {
        if let Some(entry) = self.places.lock().open.get_mut(&self.number) {
            entry.phase = phase;
            entry.since = Instant::now();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.places.lock();
        state.open.remove(&self.number);
        state.alive -= 1;
        drop(state);
        self.places.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    struct Visitor {
        place: Place,
        _here: Arc<TcpStream>,
        there: TcpStream,
    }

    impl Visitor {
        fn has_to_go(&mut self) -> bool {
            self.there.set_nonblocking(true).unwrap();
            matches!(self.there.read(&mut [0]), Ok(0))
        }
    }

    fn visitor(places: &Arc<Places>, listener: &TcpListener) -> Option<Visitor> {
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let here = Arc::new(listener.accept().unwrap().0);
        let place = places.take(&here)?;
        Some(Visitor {
            place,
            _here: here,
            there,
        })
    }

    #[test]
    fn the_oldest_idle_connection_gives_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Places::new(3);
        let mut first: Vec<Visitor> = (0..3)
            .map(|_| visitor(&places, &listener).unwrap())
            .collect();
        first[0].place.set(Phase::Answering);
        first[1].place.set(Phase::Answering);
        let fourth = visitor(&places, &listener).unwrap();
        let gone: Vec<bool> = first.iter_mut().map(Visitor::has_to_go).collect();
        assert_eq!(gone, [false, false, true]);
        // Nobody is idle.
        fourth.place.set(Phase::Answering);
        assert!(visitor(&places, &listener).is_none());
        first[1].place.set(Phase::Idle);
        first[0].place.set(Phase::Idle);
        assert!(visitor(&places, &listener).is_some());
        let gone: Vec<bool> = first[..2].iter_mut().map(Visitor::has_to_go).collect();
        assert_eq!(gone, [false, true]);
    }

    #[test]
    fn a_closed_door_ends_who_waits_for_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let places = Places::new(3);
        let mut idle = visitor(&places, &listener).unwrap();
        let mut busy = visitor(&places, &listener).unwrap();
        busy.place.set(Phase::Answering);
        places.close();
        assert!(places.closed() && idle.has_to_go() && !busy.has_to_go());
        drop((idle, busy));
        assert_eq!(places.lock().alive, 0);
    }
}
