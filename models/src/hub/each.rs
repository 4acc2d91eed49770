//! A few things at the same time.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Cancel, HubError};

/// Does something with each of several, a few at the same time; when one fails, the others stop.
pub(super) fn each<T: Sync, R: Send>(
    parallel: usize,
    items: &[T],
    cancel: &Cancel,
    work: impl Fn(&T, &Cancel) -> Result<R, HubError> + Sync,
) -> Result<Vec<R>, HubError> {
    let cancel = cancel.inner();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else {
                return done;
            };
            match cancel.check().and_then(|()| work(item, &cancel)) {
                Ok(result) => done.push((number, result)),
                Err(error) => {
                    cancel.cancel();
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                    return done;
                }
            }
        }
    };
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (1..parallel.min(items.len()))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut done = worker();
        for worker in workers {
            match worker.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => {
            done.sort_by_key(|(number, _)| *number);
            Ok(done.into_iter().map(|(_, result)| result).collect())
        }
    }
}
