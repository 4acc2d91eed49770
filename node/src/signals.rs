//! When to stop.

mod bell;

use bell::Bell;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of a program that was interrupted.
pub const INTERRUPTED: u8 = 130;

/// Knows whether somebody asked this process to stop.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    signalled: Arc<AtomicBool>,
    /// The next signal ends the process.
    last: Arc<AtomicBool>,
    /// Kept apart, so that a signal after it is not taken for the second one.
    input_ended: Arc<AtomicBool>,
    /// Rings after any of them was set.
    bell: Option<Arc<Bell>>,
}

impl Stop {
    /// Listens for SIGINT and SIGTERM. The second one ends the process at once, wherever it is,
    /// unless this is a `patient` program: there it is the first one after [`Stop::hurry`].
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn on_signals(patient: bool) -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        let stop = Self {
            bell: Some(Arc::clone(&bell)),
            ..Self::default()
        };
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal must find the flag down.
            let last = Arc::clone(&stop.last);
            flag::register_conditional_shutdown(signal, INTERRUPTED.into(), last)?;
            flag::register(signal, Arc::clone(&stop.signalled))?;
            if !patient {
                flag::register(signal, Arc::clone(&stop.last))?;
            }
            bell.on_signal(signal)?;
        }
        Ok(stop)
    }

    /// Whether there was a signal; from now on [`Stop::asked`] tells of another one.
    pub fn take_signal(&self) -> bool {
        self.signalled.swap(false, Ordering::SeqCst)
    }

    /// The next signal ends the process at once, wherever it is.
    pub fn hurry(&self) {
        self.last.store(true, Ordering::SeqCst);
    }

    /// Also stops when standard input ends: whoever started this process is gone, however it went.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn with_stdin(self) -> io::Result<Self> {
        let (ended, bell) = (Arc::clone(&self.input_ended), self.bell.clone());
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || {
                let mut scratch = [0; 256];
                let mut input = io::stdin().lock();
                loop {
                    match input.read(&mut scratch) {
                        Ok(count) if count > 0 => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        _ => break,
                    }
                }
                ended.store(true, Ordering::SeqCst);
                if let Some(bell) = bell {
                    bell.ring();
                }
            })?;
        Ok(self)
    }

    /// Stops as after a signal.
    pub fn ask(&self) {
        self.signalled.store(true, Ordering::SeqCst);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// It is time: what this process was started for is over.
    pub fn end(&self) {
        self.input_ended.store(true, Ordering::SeqCst);
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    /// Whether to stop.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.signalled.load(Ordering::SeqCst) || self.input_ended.load(Ordering::SeqCst)
    }

    /// Waits until it is time.
    pub fn wait(&self) {
        while !self.asked() {
            match &self.bell {
                Some(bell) => bell.wait(),
                // Nobody listens to signals, so nobody will ask.
                None => std::thread::park(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_told_once_and_the_end_of_the_input_stays() {
        let stop = Stop::default();
        assert!(!stop.asked() && !stop.take_signal());
        stop.signalled.store(true, Ordering::SeqCst);
        assert!(stop.asked() && stop.take_signal());
        assert!(!stop.asked() && !stop.take_signal());
        stop.input_ended.store(true, Ordering::SeqCst);
        assert!(stop.asked() && !stop.take_signal() && stop.asked());
    }
}
