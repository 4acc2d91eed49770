//! Keys while the view is shown: those that a terminal would turn into signals.

use super::screen;
use crate::wake::Wake;
use signal_hook::consts::SIGINT;
use signal_hook::low_level;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::thread;

const CTRL_C: u8 = 0x03;
#[cfg(unix)]
const CTRL_BACKSLASH: u8 = 0x1c;
const CTRL_L: u8 = 0x0c;

/// Listens to keys on a thread of its own, for as long as the program lives: nobody can wake it.
pub(super) fn listen(wake: Arc<Wake>) {
    if !io::stdin().is_terminal() {
        return;
    }
    let keys = move || {
        let mut keys = [0; 64];
        let mut input = io::stdin();
        loop {
            let count = match input.read(&mut keys) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return,
            };
            for key in keys.iter().take(count) {
                press(*key, &wake);
            }
        }
    };
    // Without it ^C does nothing: then a kill from elsewhere is left.
    let _ = thread::Builder::new().name("keys".to_owned()).spawn(keys);
}

fn press(key: u8, wake: &Wake) {
    match key {
        CTRL_C => {
            let _ = low_level::raise(SIGINT);
        }
        #[cfg(unix)]
        CTRL_BACKSLASH => {
            screen::give_back();
            let _ = low_level::emulate_default_handler(signal_hook::consts::SIGQUIT);
        }
        CTRL_L => wake.ring(),
        _ => {}
    }
}
