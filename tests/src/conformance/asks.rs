//! The rule of the contract about announcements over TCP.

use super::engine::NullEngine;
use super::{Host, Kind, PATIENCE, Setup};
use exo_protocol::Event;
use exo_protocol::config::Tcp;
use exo_protocol::discovery::tcp::{Announce, MOST_VISITORS};
use exo_protocol::topology::Capabilities;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Rule 14: whatever becomes of an ask, it ends, and what was answered is heard of.
pub fn asks_end(kind: Kind) {
    let (seed, ring) = (listener(), listener());
    let (silent, refusing, hasty) = (listener(), listener(), listener());
    let places = [&seed, &silent, &refusing, &hasty].map(|it| address(it).to_string());
    let [_, silent_place, refusing_place, hasty_place] = places.clone();
    drop(refusing);
    let (host, _) = start(kind, places.to_vec(), Duration::from_millis(300));

    // As a reference node does: one read has all, and the answer is written in one piece.
    let reference = thread::spawn(move || {
        let answer = announce("seed", address(&ring).port());
        for _ in 0..3 {
            let (mut stream, _) = seed.accept().expect("it asks again");
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).expect("it speaks first");
            let told = Announce::decode(&buffer[..length]).expect("all in one read");
            assert_eq!((&*told.node, told.port), ("host", 4711));
            stream.write_all(&answer).expect("it listens");
        }
        // It stays: later asks wait for it.
        (seed, ring.accept().expect("it comes to the seed"))
    });
    // It hangs up without having listened.
    let hangs_up = thread::spawn(move || drop(hasty.accept()));
    let mut missing = vec![silent_place, refusing_place, hasty_place];
    while !missing.is_empty() {
        let reason = host.event(|event| match event {
            Event::BroadcastTrouble { reason } => Some(reason),
            _ => None,
        });
        let before = missing.len();
        missing.retain(|place| !reason.contains(place.as_str()));
        assert_eq!(missing.len() + 1, before, "told once: {reason}");
    }
    hangs_up.join().expect("it was asked");
    let met = reference.join().expect("it was asked");
    drop((met, silent));
}

/// Rule 14: a visitor is answered once what it says is whole, and only if it is another node.
pub fn visitors_are_answered(kind: Kind) {
    let (host, port) = start(kind, Vec::new(), PATIENCE);
    let visitor = announce("visitor", 1);
    let mut in_pieces = visit(port);
    for piece in visitor.chunks(40) {
        in_pieces.write_all(piece).expect("it listens");
    }
    let mut with_end = visit(port);
    with_end.write_all(&visitor).expect("it listens");
    with_end.write_all(b"\n").expect("it listens");
    for stream in [in_pieces, with_end] {
        let told = Announce::decode(&rest(stream)).expect("an answer");
        assert_eq!((&*told.node, told.port), ("host", 4711));
    }
    for junk in [&announce("host", 1)[..], b"hello", b"{}"] {
        let mut stream = visit(port);
        stream.write_all(junk).expect("it listens");
        assert_eq!(rest(stream), b"");
    }
    let mut half = visit(port);
    half.write_all(&visitor[..20]).expect("it listens");
    half.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(rest(half), b"");
    drop(host);
}

/// Rule 14: whoever says nothing keeps the others waiting for a bounded time, and is sent away.
pub fn idle_visitors_keep_nobody_out(kind: Kind) {
    let (host, port) = start(kind, Vec::new(), Duration::from_millis(300));
    let idle: Vec<TcpStream> = (0..2 * MOST_VISITORS).map(|_| visit(port)).collect();
    let mut good = visit(port);
    good.write_all(&announce("good", 1)).expect("it listens");
    assert!(Announce::decode(&rest(good)).is_ok());
    for stream in idle {
        assert_eq!(rest(stream), b"");
    }
    // What is under way does not keep the runtime from its end.
    let _idle = visit(port);
    let begun = Instant::now();
    host.shutdown();
    assert!(begun.elapsed() < PATIENCE);
}

fn start(kind: Kind, seeds: Vec<String>, ask_timeout: Duration) -> (Host, u16) {
    let mut setup = Setup::new("host", 1);
    // Nobody else has it: it is free, and the system gives it to nobody soon.
    let port = address(&listener()).port();
    setup.visitors = Some(port);
    setup.config.discovery.tcp = Some(Tcp {
        node_port: 4711,
        seeds,
        probe: false,
        port,
        nodes: Vec::new(),
    });
    setup.config.timing.ask_every = Duration::from_millis(20);
    setup.config.timing.ask_again_max = Duration::from_millis(20);
    setup.config.timing.ask_timeout = ask_timeout;
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    (host, port)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("it listens")
}

fn announce(node: &str, port: u16) -> Vec<u8> {
    let announce = Announce {
        node: node.into(),
        port,
        capabilities: Capabilities::unknown(),
    };
    announce.encode().to_vec()
}

fn visit(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket's option");
    stream
}

/// What comes until the other end closes.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // It closed before it had read all.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("it stays: {error}"),
    }
    bytes
}
