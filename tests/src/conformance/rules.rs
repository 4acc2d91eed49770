//! Rules of the contract about the node and its time, one check each.

use super::engine::NullEngine;
use super::raw::Raw;
use super::{Host, Kind, NEVER, PATIENCE, Setup, held_up, joined, member, submit};
use exo_protocol::config::DirectPeer;
use exo_protocol::engine::EngineCommand;
use exo_protocol::wire::Message;
use exo_protocol::{Command, Event, Failure};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Rule 1: nothing but the outputs of one input moves this node, so one that stays behind stays for
/// ever.
pub fn every_output_of_an_input_is_carried_out(kind: Kind) {
    let (tell, seen) = mpsc::channel();
    let hook = move |command: &EngineCommand| {
        let _ = tell.send(command.clone());
    };
    let host = Host::start(kind, Setup::new("host", 1), || {
        Ok(Box::new(NullEngine::with_hook(1, Box::new(hook))))
    });
    host.command(Command::Submit(submit("r", 1, 3, NEVER)));
    let next = || {
        seen.recv_timeout(PATIENCE)
            .expect("the engine gets its next command")
    };
    assert!(matches!(next(), EngineCommand::Load { .. }));
    for positions in 0..3 {
        let command = next();
        assert!(
            matches!(command, EngineCommand::Forward { position, .. } if position == positions),
            "{command:?}"
        );
    }
    assert!(matches!(next(), EngineCommand::Free { .. }));
    let mut told = vec![];
    host.event(|event| match event {
        Event::Token { index, .. } => {
            told.push(index);
            None
        }
        Event::Finished { tokens: 3, .. } => Some(()),
        _ => None,
    });
    assert_eq!(told, [0, 1, 2]);
}

/// Rule 3: a deadline is kept, also one that comes to stand before those that were waited for.
pub fn deadlines_are_kept(kind: Kind) {
    let (release, held) = mpsc::channel::<()>();
    let hook = move |_: &EngineCommand| {
        let _ = held.recv_timeout(PATIENCE);
    };
    let host = Host::start(kind, Setup::new("host", 1), || {
        Ok(Box::new(NullEngine::with_hook(1, Box::new(hook))))
    });
    host.command(Command::Submit(submit("patient", 1, 3, NEVER)));
    // A runtime that does not notice an earlier deadline may happen to look at the right time.
    for round in 0..10 {
        let hasty = format!("hasty {round}");
        let timeout = Duration::from_millis(20);
        host.command(Command::Submit(submit(&hasty, 1, 3, timeout)));
        let failed = host.event(|event| match event {
            Event::Failed { request, failure } => Some((request, failure)),
            _ => None,
        });
        assert_eq!(*failed.0, *hasty);
        assert!(matches!(failed.1, Failure::TimedOut { .. }), "{failed:?}");
    }
    drop(release);
}

/// Rule 3, of a node of ours that says nothing: it is asked at each deadline, and given up at the
/// last.
pub fn silence_is_noticed(kind: Kind) {
    let mut setup = Setup::new("host", 1);
    setup.config.timing.probe_idle = Duration::from_millis(20);
    setup.config.timing.probe_busy = Duration::from_millis(20);
    let probes = setup.config.limits.probes;
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    let mut raw = Raw::connect(host.address);
    raw.introduce();
    // The first one goes at once, to measure the way: nothing comes of its silence.
    for number in 1..=u64::from(probes) + 1 {
        assert_eq!(raw.receive(), Some(Message::Ping { id: number }));
    }
    assert_eq!(raw.receive(), None);
    let reason = host.event(|event| match event {
        Event::PeerDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("silent"), "{reason}");
    host.until("no connection", |status| status.connections == 0);
}

/// Rule 8: a dial ends, in whichever way, and the next one may succeed.
pub fn dials_end(kind: Kind) {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // Bound and not listening: nobody else gets the port, and nobody answers there.
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a free port");
    let address = socket
        .local_addr()
        .expect("it is bound")
        .as_socket()
        .expect("it is IPv4");
    let nowhere = "exo-no-such-host.invalid:50051";
    let mut missing = vec![address.to_string(), nowhere.into()];
    let mut setup = Setup::new("host", 1);
    let peer = |address: &String| DirectPeer {
        address: address.clone(),
        node: None,
    };
    setup.config.discovery.direct = missing.iter().map(peer).collect();
    setup.config.timing.dial_timeout = NEVER;
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    while !missing.is_empty() {
        let failed = host.event(|event| match event {
            Event::PeerUnreachable {
                address, reason, ..
            } => Some((address, reason)),
            _ => None,
        });
        assert!(!failed.1.is_empty(), "the system gives a reason");
        missing.retain(|address| *address != failed.0);
    }
    socket.listen(8).expect("it is bound");
    let mut raw = Raw::accept(&socket.into());
    assert!(matches!(
        raw.receive(),
        Some(Message::HealthCheckRequest { .. })
    ));
}

/// Rule 10: a peer that does not read and an engine that computes hold up nobody else.
pub fn nobody_holds_up_the_node(kind: Kind) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
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
    let host = Host::start(kind, member(&listener), || {
        Ok(Box::new(NullEngine::with_hook(2 << 20, Box::new(hook))))
    });
    let _unread = joined(&host, &listener);
    for id in ["1", "2", "3", "4", "slow"] {
        host.command(Command::Submit(submit(id, 2, 1, NEVER)));
    }
    stuck
        .recv_timeout(PATIENCE)
        .expect("the engine comes to the slow request");
    let mut other = Raw::connect(host.address);
    for _ in 0..100 {
        other.check_health();
    }
    host.command(Command::Cancel {
        request: "slow".into(),
    });
    host.event(|event| matches!(event, Event::Failed { .. }).then_some(()));
    drop(release);
}

/// Rule 12: while the node is held up, its peers are too, instead of filling memory.
pub fn a_full_inbox_slows_the_peers_down(kind: Kind) {
    const FLOOD: usize = 1024;
    let (host, held_up) = held_up(kind, 4);
    let mut raw = Raw::connect(host.address);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let flood = thread::spawn(move || {
        let status = Message::SendOpaqueStatus {
            request_id: None,
            status: "x".repeat(64 << 10),
        };
        for _ in 0..FLOOD {
            raw.send(std::slice::from_ref(&status));
            counter.fetch_add(1, Ordering::SeqCst);
        }
        raw.check_health();
    });
    // Being slow can only make this pass by mistake, never fail.
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        let now = sent.load(Ordering::SeqCst);
        assert!(
            now < FLOOD,
            "the node took {FLOOD} messages without looking at one"
        );
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(10));
    }
    held_up.end();
    flood
        .join()
        .expect("the flood goes on, and the health check after it is answered");
}
