//! Wakes who waits for a signal: a node that has nothing to do is not to look up again and again.

#[cfg(unix)]
pub(super) use unix::Bell;

#[cfg(not(unix))]
pub(super) use elsewhere::Bell;

#[cfg(unix)]
mod unix {
    use signal_hook::low_level::pipe;
    use std::io::{self, ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;

    /// A pair of sockets, the one thing besides flags that a signal's handler may use.
    #[derive(Debug)]
    pub(in super::super) struct Bell {
        heard: UnixStream,
        rope: UnixStream,
    }

    impl Bell {
        pub(in super::super) fn new() -> io::Result<Self> {
            let (heard, rope) = UnixStream::pair()?;
            Ok(Self { heard, rope })
        }

        /// Rings whenever this signal comes, after what was registered for it before.
        pub(in super::super) fn on_signal(&self, signal: i32) -> io::Result<()> {
            pipe::register(signal, self.rope.try_clone()?).map(drop)
        }

        pub(in super::super) fn ring(&self) {
            // It fails only when it is full, and then rings already.
            let _ = (&self.rope).write(&[0]);
        }

        /// Until it rings, or has rung since the last time; perhaps sooner.
        pub(in super::super) fn wait(&self) {
            match (&self.heard).read(&mut [0; 64]) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    // Then looking up now and then has to do.
                    std::thread::sleep(super::LOOK_UP);
                }
                _ => {}
            }
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::io;

    /// Where handlers of signals can only set flags, these are looked at now and then.
    #[derive(Debug)]
    pub(in super::super) struct Bell;

    impl Bell {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) fn on_signal(&self, _: i32) -> io::Result<()> {
            Ok(())
        }

        pub(in super::super) fn ring(&self) {}

        pub(in super::super) fn wait(&self) {
            std::thread::sleep(super::LOOK_UP);
        }
    }
}

/// How often flags are looked at where nothing wakes who waits.
const LOOK_UP: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_bell_that_has_rung_keeps_nobody_waiting() {
        let bell = Arc::new(Bell::new().unwrap());
        bell.ring();
        bell.wait();
        let rings = Arc::clone(&bell);
        let ringing = std::thread::spawn(move || rings.ring());
        bell.wait();
        ringing.join().unwrap();
    }
}
