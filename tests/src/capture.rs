//! Captures of conversations, as `tcpdump` writes them: the bytes as they were sent, with the
//! headers of TCP, UDP and IP made up around them. Needs no rights and no network.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Packets that begin with an IP header.
const RAW: u32 = 101;

/// As many bytes fit a packet of IPv4 with its headers.
const MOST: usize = 60_000;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Packets in the order in which they were seen.
#[derive(Debug, Default)]
pub struct Capture {
    packets: Vec<u8>,
    count: u32,
    connections: u16,
}

/// A connection between two made-up hosts.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    ports: [u16; 2],
    sent: [u32; 2],
}

impl Capture {
    /// A new connection, to this port.
    pub fn connection(&mut self, port: u16) -> Connection {
        self.connections += 1;
        Connection {
            ports: [40_000 + self.connections, port],
            sent: [1, 1],
        }
    }

    /// The side that opened the connection, or else the other one, sends bytes: a packet for each
    /// call, several if they do not fit.
    pub fn segment(&mut self, connection: &mut Connection, opener: bool, bytes: &[u8]) {
        for bytes in bytes.chunks(MOST) {
            let (from, to) = if opener { (0, 1) } else { (1, 0) };
            let mut packet = Vec::with_capacity(bytes.len() + 20);
            packet.extend(connection.ports[from].to_be_bytes());
            packet.extend(connection.ports[to].to_be_bytes());
            packet.extend(connection.sent[from].to_be_bytes());
            packet.extend(connection.sent[to].to_be_bytes());
            // Five words of header; PSH and ACK; window; no checksum, nothing urgent.
            packet.extend([0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
            packet.extend(bytes);
            let sent = u32::try_from(bytes.len()).expect("short");
            connection.sent[from] = connection.sent[from].wrapping_add(sent);
            self.packet(TCP, opener, &packet);
        }
    }

    /// A datagram to this port.
    pub fn datagram(&mut self, port: u16, bytes: &[u8]) {
        let length = u16::try_from(bytes.len() + 8).expect("short");
        let mut packet = Vec::new();
        packet.extend(40_000_u16.to_be_bytes());
        packet.extend(port.to_be_bytes());
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(bytes);
        self.packet(UDP, true, &packet);
    }

    fn packet(&mut self, protocol: u8, opener: bool, bytes: &[u8]) {
        let hosts = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        let (from, to) = if opener { (0, 1) } else { (1, 0) };
        let length = u16::try_from(bytes.len() + 20).expect("short");
        let whole = u32::from(length).to_le_bytes();
        self.packets.extend(self.count.to_le_bytes());
        self.packets.extend([0; 4]);
        self.packets.extend(whole);
        self.packets.extend(whole);
        self.packets.extend([0x45, 0]);
        self.packets.extend(length.to_be_bytes());
        self.packets.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        self.packets.extend(hosts[from].octets());
        self.packets.extend(hosts[to].octets());
        self.packets.extend(bytes);
        self.count += 1;
    }

    /// Writes the file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &Path) {
        let mut file = Vec::from(0xa1b2_c3d4_u32.to_le_bytes());
        file.extend([2, 0, 4, 0]);
        file.extend([0; 8]);
        file.extend(0x0004_0000_u32.to_le_bytes());
        file.extend(RAW.to_le_bytes());
        file.extend(&self.packets);
        std::fs::write(path, file).expect("a writable folder");
    }
}

/// What two nodes said to each other through [`Recorder::way`].
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    capture: Arc<Mutex<Capture>>,
}

impl Recorder {
    /// Opens a way to `target` that keeps what goes over it, for as long as this process lives; gives
    /// where it begins.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn way(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((target.ip(), 0)).expect("a free port");
        let begins = listener.local_addr().expect("it is bound");
        let capture = Arc::clone(&self.capture);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A target that is not there is one that hangs up.
                let Ok(far) = TcpStream::connect(target) else {
                    continue;
                };
                let connection = lock(&capture).connection(target.port());
                let connection = Arc::new(Mutex::new(connection));
                for opener in [true, false] {
                    let ends = (near.try_clone(), far.try_clone());
                    let (Ok(near), Ok(far)) = ends else { continue };
                    let (from, to) = if opener { (near, far) } else { (far, near) };
                    let (capture, connection) = (Arc::clone(&capture), Arc::clone(&connection));
                    thread::spawn(move || pass(from, to, opener, &capture, &connection));
                }
            }
        });
        begins
    }

    /// What was said up to now.
    pub fn capture(&self) -> MutexGuard<'_, Capture> {
        lock(&self.capture)
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    opener: bool,
    capture: &Mutex<Capture>,
    connection: &Mutex<Connection>,
) {
    let mut place = vec![0; 16 << 10];
    while let Ok(count) = from.read(&mut place) {
        let bytes = place.get(..count).unwrap_or_default();
        lock(capture).segment(&mut lock(connection), opener, bytes);
        if bytes.is_empty() || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
