//! What sockets are told before they are used.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use tracing::debug;

/// Bytes that the system holds unsent for a connection: what is more urgent waits behind no more.
const UNSENT: u32 = 128 << 10;

/// Makes a connection quick: nothing waits for company, and for little of what was written before.
pub fn hurry(socket: &Socket, remote: &str) {
    let network = |address: SockAddr| address.as_socket().is_some();
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

/// Opens the UDP port for announcements, which all nodes of a machine share. To other machines'
/// broadcasts all who share it listen.
///
/// # Errors
/// When a program has it that does not share it.
pub fn for_announcements(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(
        Ipv4Addr::UNSPECIFIED,
        port,
    )))?;
    Ok(socket.into())
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
