//! Wakes whoever looks at the node when there is something to see.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A bell that keeps on ringing until it is heard; however often it is rung before, it is heard once.
#[derive(Debug, Default)]
pub struct Wake {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Wake {
    /// Rings. Never waits.
    pub fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            *rung = true;
            self.heard.notify_all();
        }
    }

    /// Waits until it rings, or until `most` has passed.
    pub fn wait(&self, most: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = match most {
            None => self.heard.wait_while(rung, |rung| !*rung),
            Some(most) => {
                let waited = self.heard.wait_timeout_while(rung, most, |rung| !*rung);
                waited
                    .map(|(rung, _)| rung)
                    .map_err(|error| PoisonError::new(error.into_inner().0))
            }
        }
        .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rang_before_is_heard_once() {
        let wake = Wake::default();
        wake.ring();
        wake.ring();
        wake.wait(None);
        assert!(!*wake.rung.lock().expect("nobody panicked"));
        wake.wait(Some(Duration::ZERO));
        std::thread::scope(|scope| {
            scope.spawn(|| wake.ring());
            wake.wait(None);
        });
    }
}
