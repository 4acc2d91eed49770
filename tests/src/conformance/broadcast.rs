//! The rule of the contract about announcements.

use super::engine::NullEngine;
use super::{Host, Kind, PATIENCE, Setup};
use exo_protocol::config::Broadcast;
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::topology::{Capabilities, EngineInfo};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Rule 13: announcements go out over every interface, and no more come in than are wanted.
pub fn announcements_go_out_and_come_in(kind: Kind) {
    let air = Air::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let peer = listener.local_addr().expect("it listens").port();
    let mut setup = Setup::new("host", 1);
    setup.config.capabilities.engine = Some(EngineInfo::default());
    setup.config.discovery.broadcast = Some(Broadcast {
        node_port: 4711,
        target_port: air.port,
        nodes: vec!["peer".into()],
        kinds: Vec::new(),
    });
    setup.config.timing.announce_every = Duration::from_millis(20);
    setup.config.limits.announcements = 4;
    setup.announcements = Some(air.port);
    let plain = Capabilities {
        engine: None,
        speed: None,
        ..setup.config.capabilities.clone()
    };
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));

    let heard = air.hear(|announced| &*announced.node == "host");
    let loopback = Announcement::over(&heard.interface, "host".into(), 4711, plain);
    assert_eq!(heard, loopback);

    // One that nobody answers to floods the port; one that is there is heard all the same, since
    // the kernel drops what is not wanted, and it says it again.
    let flood = Announcement::over("lo", "flood".into(), 1, Capabilities::unknown()).encode();
    let announced = Announcement::over("lo", "peer".into(), peer, Capabilities::unknown());
    listener.set_nonblocking(true).expect("a socket");
    let until = Instant::now() + PATIENCE;
    let met = loop {
        for _ in 0..8 {
            air.say(&flood);
        }
        air.say(&announced.encode());
        match listener.accept() {
            Ok((met, _)) => break met,
            Err(_) if Instant::now() < until => thread::yield_now(),
            Err(error) => panic!("nobody came: {error}"),
        }
    };
    met.set_nonblocking(false).expect("a socket");
    let peers = host.handle.status().peers;
    assert_eq!(peers.len(), 1, "{peers:?}");
}

/// The loopback interface as everybody hears it.
struct Air {
    socket: UdpSocket,
    port: u16,
}

impl Air {
    fn new() -> Self {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let socket = socket.expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        #[cfg(unix)]
        socket.set_reuse_port(true).expect("an option");
        socket.bind(&any.into()).expect("a free port");
        let socket = UdpSocket::from(socket);
        socket.set_broadcast(true).expect("an option");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let port = socket.local_addr().expect("it is bound").port();
        Self { socket, port }
    }

    fn say(&self, payload: &[u8]) {
        let to = SocketAddr::from(([127, 255, 255, 255], self.port));
        self.socket.send_to(payload, to).expect("it is sent");
    }

    fn hear(&self, wanted: impl Fn(&Announcement) -> bool) -> Announcement {
        let mut buffer = [0; 8192];
        loop {
            let length = self.socket.recv(&mut buffer).expect("somebody speaks");
            match Announcement::decode(&buffer[..length]) {
                Ok(announced) if wanted(&announced) => return announced,
                _ => {}
            }
        }
    }
}
