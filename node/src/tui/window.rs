//! When the terminal has another size.

use crate::wake::Wake;
use std::sync::Arc;

/// Rings whenever the window changes its size, until it is dropped.
#[derive(Debug)]
pub(super) struct Window {
    #[cfg(unix)]
    handle: signal_hook::iterator::Handle,
}

impl Window {
    /// `None` when the system does not let it: then the size is seen at the next look.
    #[cfg(unix)]
    pub(super) fn watch(wake: Arc<Wake>) -> Option<Self> {
        use signal_hook::consts::SIGWINCH;
        use signal_hook::iterator::Signals;

        let mut signals = Signals::new([SIGWINCH]).ok()?;
        let handle = signals.handle();
        let watch = move || signals.forever().for_each(|_| wake.ring());
        let thread = std::thread::Builder::new().name("window".to_owned());
        thread.spawn(watch).ok()?;
        Some(Self { handle })
    }

    /// There is no such signal.
    #[cfg(not(unix))]
    pub(super) fn watch(_: Arc<Wake>) -> Option<Self> {
        None
    }
}

#[cfg(unix)]
impl Drop for Window {
    fn drop(&mut self) {
        self.handle.close();
    }
}
