//! Threads that answer requests.
//!
//! How many there are is decided at the door: a request comes here with a [`Permit`] of its line,
//! which it keeps to its end. So there are never more threads than permits, and whoever has one
//! need not wait here.
//!
//! [`Permit`]: super::line::Permit

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread without work ends after this.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// A pool that grows with what is to be done, and shrinks when there is nothing.
#[derive(Default)]
pub(super) struct Workers {
    state: Mutex<State>,
    came: Condvar,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `job` on a thread of the pool.
    ///
    /// # Errors
    /// When there is no thread, and none is to be had.
    pub(super) fn run(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            self.came.notify_one();
            return Ok(());
        }
        let workers = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("api-request".to_owned())
            .spawn(move || workers.work());
        match spawned {
            Ok(_) => state.threads += 1,
            // Those who are busy come to it.
            Err(_) if state.threads > 0 => {}
            Err(error) => {
                state.jobs.pop_back();
                return Err(error);
            }
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // The panic has been told on standard error; the client hears of a failure.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.came.wait_timeout(state, IDLE);
            let (back, time) = waited.unwrap_or_else(PoisonError::into_inner);
            state = back;
            state.idle -= 1;
            if time.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn everything_is_done_also_after_a_panic() {
        let workers = Arc::new(Workers::default());
        let (done, was_done) = mpsc::channel();
        for number in 0..100 {
            let done = done.clone();
            let job = move || {
                // Unwinds like a panic, without its words in the test's output.
                if number % 10 == 0 {
                    std::panic::resume_unwind(Box::new(number));
                }
                let _ = done.send(number);
            };
            workers.run(Box::new(job)).unwrap();
        }
        drop(done);
        let mut numbers: Vec<i32> = was_done.iter().collect();
        numbers.sort_unstable();
        let wanted: Vec<i32> = (0..100).filter(|number| number % 10 != 0).collect();
        assert_eq!(numbers, wanted);
    }
}
