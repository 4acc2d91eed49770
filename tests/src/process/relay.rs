//! A slow way between two nodes, where no network can be slowed down: connections go through this
//! process, which holds their bytes back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces that are on their way at a time; then the sender has to wait.
const UNDER_WAY: usize = 256;

/// How long the way takes for the piece of this number; none overtakes another.
pub type Delay = fn(u64) -> Duration;

/// Opens a way to `target` that takes time in both directions, for as long as this process lives;
/// gives where it begins.
///
/// # Panics
/// If there is no port.
#[must_use]
pub fn open(target: SocketAddr, delay: Delay) -> SocketAddr {
    let listener = TcpListener::bind((target.ip(), 0)).expect("a free port");
    let begins = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            // A target that is not there is one that hangs up.
            let Ok(far) = TcpStream::connect(target) else {
                continue;
            };
            let ways = || -> io::Result<_> {
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                Ok([
                    (near.try_clone()?, far.try_clone()?),
                    (far.try_clone()?, near.try_clone()?),
                ])
            };
            for (from, to) in ways().into_iter().flatten() {
                let (tell, pieces) = mpsc::sync_channel(UNDER_WAY);
                thread::spawn(move || take(from, &tell, delay));
                thread::spawn(move || bring(to, &pieces));
            }
        }
    });
    begins
}

/// When it is due, and what.
type Piece = (Instant, Vec<u8>);

fn take(mut from: TcpStream, tell: &SyncSender<Piece>, delay: Delay) {
    let mut place = vec![0; 64 << 10];
    for number in 0.. {
        let Ok(count) = from.read(&mut place) else {
            break;
        };
        let due = Instant::now() + delay(number);
        let bytes = place.get(..count).unwrap_or_default().to_vec();
        if tell.send((due, bytes)).is_err() || count == 0 {
            break;
        }
    }
}

fn bring(mut to: TcpStream, pieces: &Receiver<Piece>) {
    for (due, bytes) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other direction ends, too: nodes never close half a connection.
    let _ = to.shutdown(Shutdown::Both);
}
