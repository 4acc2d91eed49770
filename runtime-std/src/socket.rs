//! What sockets are told before they are used. This file is the same in both runtimes.

use std::net::TcpStream;
use tracing::debug;

/// Bytes that the system holds unsent for a connection: what is more urgent waits behind no more.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 << 10;

/// Makes a connection quick: nothing waits for company, and for little of what was written before.
pub(crate) fn hurry(stream: &TcpStream, remote: &str) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%remote, %error, "cannot switch Nagle's algorithm off");
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT) {
        debug!(%remote, %error, "cannot bound what is unsent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_is_quick() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let stream = TcpStream::connect(address).expect("it listens");
        hurry(&stream, "a test");
        assert!(stream.nodelay().expect("a socket's option"));
        #[cfg(any(target_os = "android", target_os = "linux"))]
        {
            let socket = socket2::SockRef::from(&stream);
            let unsent = socket.tcp_notsent_lowat().expect("a socket's option");
            assert_eq!(unsent, UNSENT);
        }
    }
}
