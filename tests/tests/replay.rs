//! Two nodes talk, each on a runtime of its own, and both conversations are replayed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use exo_protocol::dummy::{self, DummyEngine};
use exo_protocol::engine::{Engine, Sampling};
use exo_protocol::record::{Log, LogError, Recorder};
use exo_protocol::topology::Capabilities;
use exo_protocol::{Command, Config, Event, RequestId, Status, Submit};
use exo_runtime_common::Options;
use exo_tests::conformance::engine::NullEngine;
use exo_tests::replay::{ReplayError, replay, replay_bytes};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Wide enough that a prompt's hidden state travels in pieces.
const WIDTH: usize = 1024;

type Build = fn() -> Box<dyn Engine>;

enum Runtime {
    Std(exo_runtime_std::Runtime),
    Smol(exo_runtime_smol::Runtime),
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Std,
    Smol,
}

/// A node that is recorded.
struct Node {
    runtime: Runtime,
    events: Receiver<Event>,
    log: Arc<Mutex<Vec<u8>>>,
}

fn config(name: &str, memory: i64) -> Config {
    let capabilities = Capabilities {
        memory,
        ..Capabilities::unknown()
    };
    let mut config = Config::new(name.into(), capabilities);
    config.discovery.file = true;
    config.timing.discovery_every = Duration::from_millis(20);
    config
}

impl Node {
    fn start(kind: Kind, config: Config, prompts: bool, file: PathBuf, build: Build) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&log);
        let append = Box::new(move |bytes: &[u8]| {
            to.lock().unwrap().extend_from_slice(bytes);
            true
        });
        let record = Some(Recorder { prompts, append });
        let (tell, events) = mpsc::channel();
        let on_event = move |event| {
            let _ = tell.send(event);
        };
        let engine = move || Ok(build());
        let (listen, discovery_file) = (Some("127.0.0.1:0".into()), Some(file));
        let options = Options {
            listen,
            discovery_file,
            record,
            ..Default::default()
        };
        let runtime = match kind {
            Kind::Std => {
                let runtime = exo_runtime_std::start(config, 7, options, engine, on_event);
                Runtime::Std(runtime.unwrap())
            }
            Kind::Smol => {
                let runtime = exo_runtime_smol::start(config, 7, options, engine, on_event);
                Runtime::Smol(runtime.unwrap())
            }
        };
        Self {
            runtime,
            events,
            log,
        }
    }

    fn address(&self) -> SocketAddr {
        match &self.runtime {
            Runtime::Std(runtime) => runtime.local_addr().unwrap(),
            Runtime::Smol(runtime) => runtime.local_addr().unwrap(),
        }
    }

    fn command(&self, command: Command) {
        match &self.runtime {
            Runtime::Std(runtime) => runtime.handle().command(command).unwrap(),
            Runtime::Smol(runtime) => runtime.handle().command(command).unwrap(),
        }
    }

    fn status(&self) -> Status {
        match &self.runtime {
            Runtime::Std(runtime) => runtime.handle().status(),
            Runtime::Smol(runtime) => runtime.handle().status(),
        }
    }

    fn event(&self, wanted: impl Fn(&Event) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if wanted(&event) => return,
                Ok(_) => {}
                Err(_) => panic!("it does not come: {:?}", self.status()),
            }
        }
    }

    /// Waits until it knows that they are two.
    fn meet(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            let edges: usize = status
                .topology
                .edges
                .values()
                .map(|edges| edges.len())
                .sum();
            if edges == 2 && status.peers.iter().all(|peer| peer.up) {
                return;
            }
            assert!(Instant::now() < until, "{status:?}");
            std::thread::yield_now();
        }
    }

    /// Ends it; what was recorded.
    fn end(self) -> Vec<u8> {
        match self.runtime {
            Runtime::Std(runtime) => runtime.shutdown(),
            Runtime::Smol(runtime) => runtime.shutdown(),
        }
        self.log.lock().unwrap().clone()
    }
}

fn submit(request: &str, model: &str, tokens: usize, max_tokens: u32) -> Command {
    // The dummy counts on from the last one.
    let mut prompt = vec![0x5ec7_5ec7; tokens];
    prompt.push(1);
    Command::Submit(Submit {
        request: request.into(),
        model: model.into(),
        layers: dummy::LAYERS,
        bytes: 0,
        cost: Default::default(),
        fingerprint: 0,
        prompt: "tell me the SECRET".into(),
        tokens: prompt,
        end_tokens: vec![dummy::END_TOKEN],
        sampling: Sampling::default(),
        max_tokens,
        timeout: PATIENCE,
        trace: false,
    })
}

fn introduce(nodes: [(&str, &Node); 2], file: &Path) {
    let entry = |(name, node): (&str, &Node)| {
        let address = node.address();
        let (ip, port) = (address.ip(), address.port());
        format!(r#""{name}": {{"address": "{ip}", "port": {port}}}"#)
    };
    let text = format!(r#"{{"peers": {{{}}}}}"#, nodes.map(entry).join(", "));
    // Never half a file for who reads it.
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// Two nodes answer one question, give up another, and one of them leaves.
fn converse(kinds: [Kind; 2], prompts: [bool; 2], model: &str, build: Build) -> [Vec<u8>; 2] {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.json");
    let [near, far] = [0, 1].map(|index| {
        let (name, memory) = [("near", 1001), ("far", 1000)][index];
        let config = config(name, memory);
        Node::start(kinds[index], config, prompts[index], file.clone(), build)
    });
    introduce([("near", &near), ("far", &far)], &file);
    near.meet();
    far.meet();
    let of = |request: &'static str| move |id: &RequestId| **id == *request;
    near.command(submit("first", model, 300, 20));
    let first = of("first");
    near.event(|event| matches!(event, Event::Finished { request, .. } if first(request)));
    far.command(submit("second", model, 2, 10_000));
    let second = of("second");
    far.event(|event| matches!(event, Event::Accepted { request, .. } if second(request)));
    far.command(Command::Cancel {
        request: "second".into(),
    });
    let over = |event: &Event| match event {
        Event::Failed { request, .. } | Event::Finished { request, .. } => second(request),
        _ => false,
    };
    far.event(over);
    far.command(Command::Drain);
    far.event(|event| *event == Event::Drained);
    far.command(Command::Stop);
    let far = far.end();
    near.event(|event| matches!(event, Event::PeerDown { .. }));
    [near.end(), far]
}

fn dummy() -> Box<dyn Engine> {
    Box::new(DummyEngine::new())
}

fn wide() -> Box<dyn Engine> {
    Box::new(NullEngine::new(WIDTH))
}

#[test]
fn real_conversations_replay_exactly() {
    for (kinds, prompts) in [
        ([Kind::Std, Kind::Smol], [true, false]),
        ([Kind::Smol, Kind::Std], [false, true]),
        ([Kind::Smol, Kind::Smol], [false, false]),
    ] {
        let engines: [(&str, Build); 2] = [(dummy::MODEL, dummy), ("null", wide)];
        for (model, build) in engines {
            let logs = converse(kinds, prompts, model, build);
            for ((log, prompts), name) in logs.iter().zip(prompts).zip(["near", "far"]) {
                let report = match replay_bytes(log, Path::new(name)) {
                    Ok(report) => report,
                    Err(error) => panic!("{kinds:?} {model}: {error}"),
                };
                assert_eq!((&*report.node, report.prompts), (name, prompts));
                assert!(report.entries > 30 && report.outputs > 30, "{report}");
                assert_eq!((report.cut, report.unfinished), (0, false), "{report}");
                let secret = |form: &[u8]| log.windows(form.len()).any(|window| window == form);
                assert_eq!(
                    secret(b"SECRET") || secret(&0x5ec7_5ec7_u32.to_be_bytes()),
                    prompts,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_changed_byte_is_reported_with_its_entry() {
    let kinds = [Kind::Std, Kind::Smol];
    let [near, _] = converse(kinds, [true, true], dummy::MODEL, dummy);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("near.exolog");
    // Before and after the seventeenth entry.
    let mut log = Log::read(&near).unwrap();
    log.by_ref().take(16).for_each(drop);
    let before = near.len() - log.left();
    log.by_ref().take(1).for_each(drop);
    let after = near.len() - log.left();

    let mut changed = near.clone();
    changed[before + 3] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    match replay(&path) {
        Err(ReplayError::Log {
            source: LogError::Entry { number: 17, .. },
            ..
        }) => {}
        other => panic!("{other:?}"),
    }

    // What the node was told is as it was; what it put out is not.
    let mut changed = near.clone();
    changed[after - 1] ^= 1;
    std::fs::write(&path, &changed).unwrap();
    match replay(&path) {
        Err(ReplayError::Diverged { entry: 17, .. }) => {}
        other => panic!("{other:?}"),
    }

    // Half of it is as good as far as it goes.
    std::fs::write(&path, &near[..after + 5]).unwrap();
    let report = replay(&path).unwrap();
    assert!(report.entries >= 17 && report.cut < 30, "{report}");

    let error = replay(&folder.path().join("none")).unwrap_err();
    assert!(error.to_string().contains("none: No such file"), "{error}");
}
