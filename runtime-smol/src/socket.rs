//! What sockets are told before they are used. This file is the same in both runtimes.

use socket2::Socket;
use tracing::debug;

/// Bytes that the system holds unsent for a connection: what is more urgent waits behind no more.
const UNSENT: u32 = 128 << 10;

/// Makes a connection quick: nothing waits for company, and for little of what was written before.
pub(crate) fn hurry(socket: &Socket, remote: &str) {
    let network = |address: socket2::SockAddr| address.as_socket().is_some();
    if !socket.local_addr().is_ok_and(network) {
        // A pipe to a program: only its size can be told.
        if let Err(error) = socket.set_send_buffer_size(UNSENT as usize) {
            debug!(%remote, %error, "cannot bound what is unsent");
        }
        return;
    }
    if let Err(error) = socket.set_tcp_nodelay(true) {
        debug!(%remote, %error, "cannot switch Nagle's algorithm off");
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT) {
        debug!(%remote, %error, "cannot bound what is unsent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_quick() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let stream = TcpStream::connect(address).expect("it listens");
        let socket = Socket::from(stream);
        hurry(&socket, "a test");
        assert!(socket.tcp_nodelay().expect("a socket's option"));
        #[cfg(any(target_os = "android", target_os = "linux"))]
        {
            let unsent = socket.tcp_notsent_lowat().expect("a socket's option");
            assert_eq!(unsent, UNSENT);
        }
    }
}
