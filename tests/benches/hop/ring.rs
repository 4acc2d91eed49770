//! Two nodes.

use crate::far::Far;
use crate::{BLOCK, Block, Contestant, Outcome, engine};
use exo_protocol::{Command, Event};
use exo_tests::conformance::host::introduce;
use exo_tests::conformance::{Host, Kind, NEVER, Setup, submit};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const NEAR: &str = "near";
pub(crate) const FAR: &str = "far";

fn setup(name: &str, memory: i64, file: PathBuf) -> Setup {
    let mut setup = Setup::new(name, memory);
    setup.config.discovery.file = true;
    setup.config.timing.discovery_every = Duration::from_millis(500);
    Setup {
        discovery_file: Some(file),
        ..setup
    }
}

/// A node that waits to be given work, and asks for nothing else.
pub(crate) fn far(kind: Kind, file: PathBuf) -> Outcome<()> {
    let mut setup = setup(FAR, 1000, file);
    let timing = &mut setup.config.timing;
    (timing.health_every, timing.topology_every) = (NEVER, NEVER);
    (timing.probe_idle, timing.probe_busy) = (NEVER, NEVER);
    let host = Host::start_with(kind, setup, engine, |_| {});
    println!("{}", host.address.port());
    io::stdin().read_to_end(&mut Vec::new())?;
    host.shutdown();
    Ok(())
}

/// A ring of two, and what it told.
struct Ring {
    host: Host,
    finished: Receiver<Vec<Instant>>,
    requests: u64,
    _far: Far,
    _folder: TempDir,
}

impl Ring {
    fn start(kind: Kind, name: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("peers.json");
        let far = Far::node(name, &file)?;
        let (tell, finished) = mpsc::channel();
        let mut tokens = Vec::with_capacity(BLOCK + 1);
        let on_event = move |event| match event {
            Event::Token { .. } => tokens.push(Instant::now()),
            Event::Finished { .. } => {
                let _ = tell.send(tokens.clone());
                tokens.clear();
            }
            Event::Failed { failure, .. } => eprintln!("{failure}"),
            _ => {}
        };
        let host = Host::start_with(kind, setup(NEAR, 1001, file.clone()), engine, on_event);
        let address = ([127, 0, 0, 1], far.port).into();
        introduce(&[(NEAR, host.address), (FAR, address)], &file);
        host.until("a ring of two", |status| {
            let edges = status.topology.edges.values().map(|edges| edges.len());
            edges.sum::<usize>() == 2 && status.peers.iter().all(|peer| peer.up && peer.own)
        });
        Ok(Self {
            host,
            finished,
            requests: 0,
            _far: far,
            _folder: folder,
        })
    }

    fn run(&mut self) -> Outcome<Vec<Block>> {
        self.requests += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.requests);
        let most = u32::try_from(BLOCK)? + 1;
        let submit = submit(&id, 2, most, Duration::from_secs(60));
        self.host.command(Command::Submit(submit));
        let tokens = self.finished.recv_timeout(Duration::from_secs(60))?;
        let status = self.host.status();
        // Of the last blocks together: a node measures its way a few times in each.
        let hops = status.peers.first().ok_or("the far node is a peer")?.hops;
        let turns = tokens.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(vec![
            Block {
                p50: hops.p50,
                p99: hops.p99,
            },
            Block::of(turns),
        ])
    }
}

pub(crate) fn contestant(name: &'static str, kind: Kind) -> Outcome<Contestant> {
    let mut ring = Ring::start(kind, name)?;
    let run = Box::new(move || ring.run());
    let rows = vec![("hop", vec![]), ("ring turn", vec![])];
    Ok(Contestant { name, run, rows })
}
