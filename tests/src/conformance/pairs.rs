//! Checks with a node at both ends.

use super::engine::NullEngine;
use super::host::introduce;
use super::{Host, Kind, NEVER, PATIENCE, Setup, submit};
use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::{Engine, EngineCommand, EngineInput, Sampling};
use exo_protocol::node::PeerStatus;
use exo_protocol::{Command, Event, FinishReason, Submit};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Two nodes that are a ring, the near one first.
struct Pair {
    near: Host,
    far: Host,
    folder: TempDir,
}

type Build = Box<dyn FnOnce() -> Result<Box<dyn Engine>, String> + Send>;

fn setup(name: &str, memory: i64, file: PathBuf) -> Setup {
    let mut setup = Setup::new(name, memory);
    setup.config.discovery.file = true;
    setup.config.timing.discovery_every = Duration::from_millis(20);
    Setup {
        discovery_file: Some(file),
        ..setup
    }
}

impl Pair {
    fn start(kinds: (Kind, Kind), engines: [Build; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("peers.json");
        let [near, far] = engines;
        let near = Host::start(kinds.0, setup("near", 1001, file.clone()), near);
        let far = Host::start(kinds.1, setup("far", 1000, file.clone()), far);
        introduce(&[("near", near.address), ("far", far.address)], &file);
        let pair = Self { near, far, folder };
        pair.meet();
        pair
    }

    /// Waits until both know that they are two, and each has found the other in its file.
    fn meet(&self) {
        for (host, other) in [(&self.near, &self.far), (&self.far, &self.near)] {
            let address = other.address.to_string();
            host.until("a ring of two", |status| {
                let edges = status.topology.edges.values().map(|edges| edges.len());
                let met = |peer: &PeerStatus| peer.up && peer.own && peer.address == address;
                edges.sum::<usize>() == 2 && status.peers.iter().all(met)
            });
        }
    }
}

fn null(width: usize) -> Build {
    Box::new(move || Ok(Box::new(NullEngine::new(width))))
}

/// All rules at once: many generations at the same time, from both ends, each complete and in order.
pub fn a_ring_answers_from_both_ends(near: Kind, far: Kind) {
    const REQUESTS: usize = 16;
    let dummy = || -> Build { Box::new(|| Ok(Box::new(DummyEngine::new()))) };
    let pair = Pair::start((near, far), [dummy(), dummy()]);
    for (name, host) in [("near", &pair.near), ("far", &pair.far)] {
        for number in 0..REQUESTS {
            host.command(Command::Submit(Submit {
                request: format!("{name} {number}").into(),
                model: dummy::MODEL.into(),
                layers: dummy::LAYERS,
                bytes: 0,
                cost: Default::default(),
                fingerprint: 0,
                prompt: dummy::PROMPT.into(),
                tokens: vec![dummy::PROMPT_TOKEN],
                end_tokens: vec![dummy::END_TOKEN],
                sampling: Sampling::default(),
                max_tokens: 100,
                timeout: NEVER,
                trace: false,
            }));
        }
    }
    for host in [&pair.near, &pair.far] {
        let mut told: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for _ in 0..REQUESTS {
            host.event(|event| match event {
                Event::Token {
                    request,
                    index,
                    token,
                    ..
                } => {
                    let tokens = told.entry(request.to_string()).or_default();
                    assert_eq!(usize::try_from(index), Ok(tokens.len()), "{request}");
                    tokens.push(token);
                    None
                }
                Event::Finished { reason, .. } => {
                    assert_eq!(reason, FinishReason::Stop);
                    Some(())
                }
                Event::Failed { request, failure } => panic!("{request}: {failure}"),
                _ => None,
            });
        }
        assert_eq!(told.len(), REQUESTS);
        for (request, tokens) in told {
            assert_eq!(tokens, [2, 3, 4, 5, 6, 7, 8, 9, 10], "{request}");
        }
        host.until("rest", |status| {
            status.requests.is_empty() && status.calls == 0 && status.queued == 0
        });
    }
}

/// Rule 2: what one thread saw begin and another saw end took some time, and no more than passed.
pub fn one_clock_measures_everything(near: Kind, far: Kind) {
    let start = Instant::now();
    let pair = Pair::start((near, far), [null(8), null(8)]);
    pair.near
        .command(Command::Submit(submit("r", 2, 20, NEVER)));
    pair.near.event(|event| match event {
        Event::Recovering { reason, .. } => panic!("nothing is lost here: {reason}"),
        event => matches!(event, Event::Finished { .. }).then_some(()),
    });
    let status = pair.near.until("the answer to a probe", |status| {
        let measured = |peer: &PeerStatus| peer.rtt.is_some() && peer.hops.p50 > Duration::ZERO;
        status.peers.iter().all(measured)
    });
    let peer = status.peers.first().expect("the far node is a peer");
    let passed = start.elapsed();
    for took in [peer.rtt.expect("it is up"), peer.hops.p50, peer.hops.p99] {
        assert!(
            took > Duration::ZERO && took < passed,
            "{took:?} of {passed:?}"
        );
    }
    assert_eq!(peer.hops.count, 20, "{peer:?}");
    assert!(peer.hops.bytes > 20 * 32, "{peer:?}");
}

/// A tensor of 8 MiB arrives as it was sent.
pub fn a_large_tensor_passes(near: Kind, far: Kind) {
    const WIDTH: usize = 2 << 20;
    let (tell, seen) = mpsc::channel();
    let hook = move |command: &EngineCommand| {
        if let EngineCommand::Forward {
            input: EngineInput::Hidden(tensor),
            ..
        } = command
        {
            let _ = tell.send(tensor.clone());
        }
    };
    let far_engine: Build = Box::new(|| Ok(Box::new(NullEngine::with_hook(1, Box::new(hook)))));
    let pair = Pair::start((near, far), [null(WIDTH), far_engine]);
    for number in 0..3 {
        pair.near
            .command(Command::Submit(submit(&format!("r{number}"), 2, 4, NEVER)));
    }
    for _ in 0..3 {
        pair.near
            .event(|event| matches!(event, Event::Finished { .. }).then_some(()));
    }
    let tensors: Vec<_> = seen.try_iter().collect();
    assert_eq!(tensors.len(), 12);
    for tensor in tensors {
        assert_eq!(tensor.shape(), [1, 1, WIDTH]);
        assert!(
            tensor
                .data()
                .iter()
                .enumerate()
                .all(|(index, &byte)| byte == index as u8)
        );
    }
}

/// Rule 5: a node that goes is missed at once, so that its requests go on elsewhere, and is welcome
/// when it comes back.
pub fn a_node_that_goes_is_missed(near: Kind, far: Kind) {
    let (release, held) = mpsc::channel::<()>();
    let (tell, stuck) = mpsc::channel();
    let hook = move |command: &EngineCommand| {
        if let EngineCommand::Forward { position: 3, .. } = command {
            let _ = tell.send(());
            let _ = held.recv_timeout(PATIENCE);
        }
    };
    let far_engine: Build = Box::new(|| Ok(Box::new(NullEngine::with_hook(1, Box::new(hook)))));
    let Pair {
        near: host,
        far: old,
        folder,
    } = Pair::start((near, far), [null(8), far_engine]);
    host.command(Command::Submit(submit("r", 2, 9, NEVER)));
    stuck
        .recv_timeout(PATIENCE)
        .expect("the far engine gets to work");
    // It closes its connections, and then waits for its engine.
    let end = thread::spawn(move || old.shutdown());
    let mut told = vec![];
    // While one of the two connections between them is open, the ring may stay.
    host.event(|event| match event {
        Event::Token { index, .. } => {
            told.push(index);
            None
        }
        Event::Recovering { ring, .. } => ring
            .iter()
            .all(|stage| &*stage.node == "near")
            .then_some(()),
        Event::Failed { failure, .. } => panic!("{failure}"),
        _ => None,
    });
    assert_eq!(told, [0, 1, 2], "three tokens were chosen before");
    host.event(|event| match event {
        Event::Token { index, .. } => {
            told.push(index);
            None
        }
        Event::Failed { failure, .. } => panic!("{failure}"),
        Event::Finished { tokens, .. } => {
            assert_eq!(tokens, 9);
            Some(())
        }
        _ => None,
    });
    assert_eq!(told, (0..9).collect::<Vec<_>>());
    drop(release);
    end.join().expect("it ends");
    let file = folder.path().join("peers.json");
    let new = Host::start(far, setup("far", 1000, file.clone()), null(8));
    introduce(&[("near", host.address), ("far", new.address)], &file);
    let pair = Pair {
        near: host,
        far: new,
        folder,
    };
    pair.meet();
    pair.near
        .command(Command::Submit(submit("again", 2, 4, NEVER)));
    let ring = pair.near.event(|event| match event {
        Event::Accepted { ring, .. } => Some(ring),
        _ => None,
    });
    assert_eq!(ring.len(), 2, "{ring:?}");
    pair.near
        .event(|event| matches!(event, Event::Finished { .. }).then_some(()));
}
