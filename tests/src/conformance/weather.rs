//! What networks and strangers do to a port.

use super::engine::{MODEL, NullEngine};
use super::raw::{Raw, ask_topology, bytes_of, tokens};
use super::{Host, Kind, NEVER, PATIENCE, Setup, joined, member, submit};
use exo_protocol::engine::{Engine, EngineCommand};
use exo_protocol::{Command, Event};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

fn start(kind: Kind) -> Host {
    Host::start(kind, Setup::new("host", 1), || {
        Ok(Box::new(NullEngine::new(1)))
    })
}

fn refused(host: &Host) -> String {
    host.event(|event| match event {
        Event::ConnectionRefused { reason, .. } => Some(reason),
        _ => None,
    })
}

/// Bytes of another protocol close the connection they came over, and no other.
pub fn junk_costs_its_own_connection_only(kind: Kind) {
    let host = start(kind);
    let mut other = Raw::connect(host.address);
    other.check_health();
    for junk in [
        &b"GET / HTTP/1.1\r\nHost: exo\r\n\r\n"[..],
        &[0; 100],
        &[0xff; 9],
        b"EXO\x02.....",
    ] {
        let mut raw = Raw::connect(host.address);
        raw.send_bytes(junk);
        raw.closed();
        refused(&host);
        other.check_health();
    }
    host.until("one connection", |status| status.connections == 1);
}

/// A peer that goes in the middle of a frame is told from one that goes after it.
pub fn half_a_frame_is_noticed(kind: Kind) {
    let host = start(kind);
    let whole = bytes_of(&[ask_topology()]);
    for cut in [1, 8, 9, whole.len() - 1] {
        let mut raw = Raw::connect(host.address);
        raw.send_bytes(&whole[..cut]);
        drop(raw);
        let reason = refused(&host);
        assert!(reason.contains("middle of a frame"), "{reason}");
    }
    host.until("no connection", |status| status.connections == 0);
}

/// A frame that announces more than is allowed ends the connection before any of it comes.
pub fn an_oversize_announcement_is_refused(kind: Kind) {
    let host = start(kind);
    for (message, length) in [(0x12u8, u32::MAX), (0x01, 64 << 20), (0x40, 1 << 30)] {
        let mut raw = Raw::connect(host.address);
        let mut header = b"EXO\x01".to_vec();
        header.push(message);
        header.extend_from_slice(&length.to_be_bytes());
        raw.send_bytes(&header);
        raw.closed();
        refused(&host);
    }
    host.until("no connection", |status| status.connections == 0);
}

/// A frame that a later version may add is read over, however long it is, and keeps no place.
pub fn a_later_version_is_read_over(kind: Kind) {
    let host = start(kind);
    let mut raw = Raw::connect(host.address);
    for (number, length) in [(0xc0, 0), (0xd7, 70_000), (0xfe, 32 << 20)] {
        let mut bytes = b"EXO\x01".to_vec();
        bytes.push(number);
        bytes.extend_from_slice(&u32::to_be_bytes(length));
        raw.send_bytes(&bytes);
        for _ in 0..length / 10_000 {
            raw.send_bytes(&[0x58; 10_000]);
        }
        raw.send_bytes(&vec![0x58; length as usize % 10_000]);
        raw.check_health();
    }
}

/// An event handler that panics ends its runtime: who relies on the node learns that it is gone.
pub fn a_panic_ends_the_runtime(kind: Kind) {
    let engine = || Ok(Box::new(NullEngine::new(1)) as Box<dyn Engine>);
    let host = Host::start_with(kind, Setup::new("host", 1), engine, |event| {
        assert!(
            !matches!(event, Event::ConnectionRefused { .. }),
            "this panic is on purpose"
        );
    });
    let mut other = Raw::connect(host.address);
    other.check_health();
    Raw::connect(host.address).send_bytes(b"junk that is long enough");
    other.closed();
    assert!(host.handle.command(Command::Stop).is_err());
    host.shutdown();
}

/// Whatever connects and goes, in whichever way, nothing of it stays. Alone in its process: it
/// counts threads and descriptors.
pub fn two_hundred_visitors_leave_nothing(kind: Kind) {
    let host = start(kind);
    Raw::connect(host.address).check_health();
    host.until("no connection", |status| status.connections == 0);
    // The runtime's own threads may have not begun.
    let before = Holdings::now(&["exo-read", "exo-write"]);
    for number in 0..200 {
        let mut raw = Raw::connect(host.address);
        match number % 5 {
            0 => {}
            1 => raw.send_bytes(b"junk that is long enough"),
            2 => raw.send_bytes(&bytes_of(&[ask_topology()])[..11]),
            3 => raw.check_health(),
            _ => raw.send(&[tokens(None, MODEL)]),
        }
    }
    host.until("no connection", |status| status.connections == 0);
    before.again();
}

/// After its end nothing of a runtime is left, whatever it was at. Alone in its process, likewise.
pub fn shutdown_leaves_nothing(kind: Kind) {
    // What a process starts once for all runtimes is there afterwards.
    start(kind).shutdown();
    let before = Holdings::now(&["exo-"]);
    for _ in 0..3 {
        // An address where nobody ever answers a dial.
        let full = full_listener();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut setup = member(&listener);
        let address = full.0.local_addr().expect("it is bound").to_string();
        let peer = exo_protocol::config::DirectPeer {
            address,
            node: None,
        };
        setup.config.discovery.direct.push(peer);
        setup.config.timing.dial_timeout = NEVER;
        let (release, held) = mpsc::channel::<()>();
        let (tell, stuck) = mpsc::channel();
        let hook = move |command: &EngineCommand| {
            if let EngineCommand::Forward { request, .. } = command
                && &**request == "slow"
            {
                let _ = tell.send(());
                let _ = held.recv_timeout(PATIENCE);
            }
        };
        let host = Host::start(kind, setup, || {
            Ok(Box::new(NullEngine::with_hook(2 << 20, Box::new(hook))) as Box<dyn Engine>)
        });
        let unread = joined(&host, &listener);
        let visitors: Vec<Raw> = (0..10).map(|_| Raw::connect(host.address)).collect();
        host.until("all visitors", |status| status.connections == 11);
        for id in ["1", "2", "slow", "never"] {
            host.command(Command::Submit(submit(id, 2, 1, NEVER)));
        }
        stuck
            .recv_timeout(PATIENCE)
            .expect("the engine comes to the slow request");
        let (handle, address) = (host.handle.clone(), host.address);
        let end = thread::spawn(move || host.shutdown());
        visitors.into_iter().for_each(Raw::closed);
        drop(release);
        end.join().expect("it ends");
        unread.closed();
        assert!(
            TcpStream::connect(address).is_err(),
            "nobody listens any more"
        );
        assert!(
            handle.command(Command::Stop).is_err(),
            "nobody takes commands any more"
        );
        let status = handle.status();
        assert_eq!((status.connections, status.calls), (0, 0), "{status:?}");
    }
    before.again();
}

/// A listener that has as many visitors waiting as it may, with the visitors.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&any.into()).expect("a free port");
    socket.listen(1).expect("it is bound");
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().expect("it is bound");
    let visit = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let visitors = std::iter::from_fn(visit).take(16).collect();
    (listener, visitors)
}

/// What the process holds of the system.
#[derive(Debug)]
struct Holdings {
    names: &'static [&'static str],
    threads: Option<usize>,
    descriptors: Option<usize>,
}

impl Holdings {
    fn now(names: &'static [&'static str]) -> Self {
        // Only Linux tells. The test harness has threads, too.
        let ours = |task: &std::path::Path| {
            let name = std::fs::read_to_string(task.join("comm"));
            name.is_ok_and(|name| names.iter().any(|start| name.starts_with(start)))
        };
        let entries = |folder| Some(std::fs::read_dir(folder).ok()?.filter_map(Result::ok));
        let threads =
            entries("/proc/self/task").map(|tasks| tasks.filter(|task| ours(&task.path())).count());
        let descriptors = entries("/proc/self/fd").map(Iterator::count);
        Self {
            names,
            threads,
            descriptors,
        }
    }

    /// Waits until it is no more than that.
    fn again(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let now = Self::now(self.names);
            if now.threads <= self.threads && now.descriptors <= self.descriptors {
                return;
            }
            assert!(Instant::now() < until, "before {self:?}, after {now:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
