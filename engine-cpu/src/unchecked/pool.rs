//! Threads that share out the pieces of one job at a time.
//!
//! Who is awake takes the next piece, the caller too: a thread that the system runs late, or not
//! at all, holds nobody up. Waiting is a short spin, for the next job comes within microseconds
//! while a token is computed, and then sleep, so that two nodes on one machine do not burn each
//! other's cores.

use super::tiles::{Tile, Tiles};
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps. Longer than the gaps between the jobs of one token,
/// much shorter than a scheduler's slice.
const SPIN: Duration = Duration::from_micros(20);

/// `task(piece, worker)`.
type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A fixed number of threads, the caller of [`Pool::run`] being one of them.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The job's number in the upper half, pieces that nobody has claimed in the lower.
    ticket: AtomicU64,
    /// Pieces that are not finished.
    unfinished: AtomicUsize,
    /// The job, valid while pieces are unfinished; written only when none are.
    task: UnsafeCell<Option<&'static Task<'static>>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: Vec<Sleeper>,
    caller: Mutex<Option<Thread>>,
    caller_sleeps: AtomicBool,
}

#[derive(Default)]
struct Sleeper {
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
}

// SAFETY: promise 4: `task` is the only field that is not `Sync`. It is written by the one caller
// while no piece is unfinished, and read only by a thread that has claimed a piece, with the
// ticket's release and acquire between the two.
unsafe impl Sync for Shared {}
// SAFETY: as above; the reference in `task` is to something `Sync`.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("unfinished", &self.unfinished)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `width` threads, at least one.
    ///
    /// # Errors
    /// The system's, when it gives no more threads.
    pub(crate) fn new(width: usize) -> std::io::Result<Self> {
        let workers = width.max(1) - 1;
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            unfinished: AtomicUsize::new(0),
            task: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: (0..workers).map(|_| Sleeper::default()).collect(),
            caller: Mutex::new(None),
            caller_sleeps: AtomicBool::new(false),
        });
        let mut pool = Self {
            shared,
            threads: Vec::with_capacity(workers),
        };
        for index in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name(format!("cpu-engine-{}", index + 1))
                .spawn(move || shared.work(index))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// How many threads take part, the caller counted.
    pub(crate) fn width(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `task(piece, worker)` once for each of the `pieces`, on any thread, and returns when
    /// all have returned. `worker` is below [`Pool::width`] and different on each thread.
    ///
    /// # Panics
    /// When a piece panicked.
    pub(crate) fn run(&mut self, pieces: usize, task: &Task<'_>) {
        if self.threads.is_empty() || pieces <= 1 {
            (0..pieces).for_each(|piece| task(piece, 0));
            return;
        }
        let shared = &*self.shared;
        let pieces = u32::try_from(pieces).expect("a job has fewer than 2^32 pieces");
        // SAFETY: promise 4: only the lifetime changes. The reference is used by threads that hold
        // a claimed piece; `wait` below returns when none do and none can be claimed.
        let task: &'static Task<'static> = unsafe { std::mem::transmute(task) };
        // SAFETY: promise 4: `&mut self`: no other caller; and the last job is finished.
        unsafe { *shared.task.get() = Some(task) };
        shared.unfinished.store(pieces as usize, Ordering::Relaxed);
        let job = (shared.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Sequentially consistent, as is a sleeper's announcement: one of the two sees the other.
        shared
            .ticket
            .store(job << 32 | u64::from(pieces), Ordering::SeqCst);
        for sleeper in shared.sleepers.iter().take(pieces as usize - 1) {
            if sleeper.asleep.swap(false, Ordering::SeqCst)
                && let Some(thread) = sleeper.thread.get()
            {
                thread.unpark();
            }
        }
        shared.take_part(0);
        shared.wait();
        assert!(
            !shared.panicked.swap(false, Ordering::Relaxed),
            "a piece of a job panicked"
        );
    }

    /// Cuts `matrix` (rows of `cols` elements) into rectangles of `tile_rows` by `tile_cols` and
    /// calls `task(tile, worker)` once for each.
    pub(crate) fn run_tiles<T: Send>(
        &mut self,
        matrix: &mut [T],
        cols: usize,
        (tile_rows, tile_cols): (usize, usize),
        task: impl Fn(Tile<'_, T>, usize) + Sync,
    ) {
        let tiles = Tiles::new(matrix, cols, tile_rows, tile_cols);
        self.run(tiles.count(), &|piece, worker| {
            // SAFETY: promise 3: `run` passes each piece exactly once.
            task(unsafe { tiles.claim(piece) }, worker);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // A worker catches the panics of its pieces and has none of its own.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, index: usize) {
        let Some(sleeper) = self.sleepers.get(index) else {
            return;
        };
        let _ = sleeper.thread.set(thread::current());
        loop {
            self.take_part(index + 1);
            if spin(|| self.has_pieces() || self.stop.load(Ordering::Relaxed)) {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                continue;
            }
            sleeper.asleep.store(true, Ordering::SeqCst);
            while sleeper.asleep.load(Ordering::SeqCst) {
                if self.stop.load(Ordering::SeqCst) {
                    return;
                }
                if self.ticket.load(Ordering::SeqCst) & u64::from(u32::MAX) != 0 {
                    sleeper.asleep.store(false, Ordering::SeqCst);
                    break;
                }
                thread::park();
            }
        }
    }

    fn has_pieces(&self) -> bool {
        self.ticket.load(Ordering::Acquire) & u64::from(u32::MAX) != 0
    }

    /// Claims pieces and runs them until none are left to claim.
    fn take_part(&self, worker: usize) {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        while ticket & u64::from(u32::MAX) != 0 {
            // The job's number is part of the ticket: a claim on a job that has ended fails.
            if let Err(now) = self.ticket.compare_exchange_weak(
                ticket,
                ticket - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                ticket = now;
                continue;
            }
            let piece = (ticket - 1) & u64::from(u32::MAX);
            // SAFETY: promise 4: this thread holds a claimed piece, so the job is not over.
            let task = unsafe { *self.task.get() };
            if let Some(task) = task
                && catch_unwind(AssertUnwindSafe(|| task(piece as usize, worker))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            if self.unfinished.fetch_sub(1, Ordering::SeqCst) == 1
                && self.caller_sleeps.load(Ordering::SeqCst)
                && let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner)
            {
                caller.unpark();
            }
            ticket = self.ticket.load(Ordering::Acquire);
        }
    }

    /// Returns when no piece is unfinished.
    fn wait(&self) {
        let finished = || self.unfinished.load(Ordering::SeqCst) == 0;
        if spin(finished) {
            return;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while !finished() {
            thread::park();
        }
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }
}

/// Spins until `done`, but not longer than [`SPIN`]; says whether it was.
fn spin(done: impl Fn() -> bool) -> bool {
    let mut since = None;
    loop {
        for _ in 0..64 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() > SPIN {
            return false;
        }
    }
}

#[cfg(test)]
mod tests;
