//! The driver's contract (the numbered list in the documentation of [`exo_protocol`]), checked on
//! running nodes.
//!
//! [`rules`], [`calls`] and [`streams`] have a check for each rule that one node can show, [`pairs`]
//! those that take two, under the same or under different runtimes, [`weather`] what networks and strangers do
//! to a port. A check looks at the far end wherever it can: a driver that loses something believes
//! that all is well.

pub mod asks;
pub mod broadcast;
pub mod calls;
pub mod engine;
pub mod host;
pub mod pairs;
pub mod raw;
pub mod rules;
pub mod streams;
pub mod weather;

pub use host::{Handle, Host, Kind, Setup};

use engine::{MODEL, NullEngine};
use exo_protocol::config::DirectPeer;
use exo_protocol::engine::{Engine, Sampling};
use exo_protocol::{Command, Event, Submit};
use raw::Raw;
use std::net::TcpListener;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a check waits for what must happen: far beyond what any loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A time that no check ever reaches.
pub const NEVER: Duration = Duration::from_secs(3600);

/// A generation by a [`engine::NullEngine`], which ends when it has `max_tokens`.
#[must_use]
pub fn submit(request: &str, layers: u32, max_tokens: u32, timeout: Duration) -> Submit {
    Submit {
        request: request.into(),
        model: MODEL.into(),
        layers,
        bytes: 0,
        cost: Default::default(),
        fingerprint: 0,
        prompt: "hello".into(),
        tokens: vec![1],
        end_tokens: vec![],
        sampling: Sampling::default(),
        max_tokens,
        timeout,
        trace: false,
    }
}

/// The node `host`, which knows of one peer, behind `listener`, and leaves it in peace.
///
/// # Panics
/// If the listener is broken.
#[must_use]
pub fn member(listener: &TcpListener) -> Setup {
    let mut setup = Setup::new("host", 1000);
    let address = listener.local_addr().expect("it listens").to_string();
    setup.config.discovery.direct = vec![DirectPeer {
        address,
        node: None,
    }];
    let timing = &mut setup.config.timing;
    timing.health_every = NEVER;
    timing.health_timeout = NEVER;
    timing.topology_every = NEVER;
    timing.forming_every = NEVER;
    timing.acknowledge = NEVER;
    setup
}

/// Takes the connection of such a host, and makes the other end a member of its ring: the second
/// stage, and in a model of two layers one of them. A reference node, so that nothing comes between
/// what the check says and hears; a tensor goes to it in one piece, however large it is.
pub fn joined(host: &Host, listener: &TcpListener) -> Raw {
    let mut raw = Raw::accept(listener);
    raw.answer(2);
    host.until("a ring of two", |status| {
        status
            .topology
            .edges
            .values()
            .map(|edges| edges.len())
            .sum::<usize>()
            == 2
    });
    raw
}

/// Something that holds up a node.
#[derive(Debug)]
pub struct HeldUp {
    release: Sender<()>,
    visitor: JoinHandle<Result<(), String>>,
}

impl HeldUp {
    /// Lets the node go on.
    ///
    /// # Panics
    /// If its visitor does not come back.
    pub fn end(self) {
        drop(self.release);
        let taken = self.visitor.join().expect("the visitor comes back");
        taken.expect("its command was taken");
    }
}

/// A node whose event handler holds it up, in a thread of the application; so the runtime's own
/// threads go on reading.
///
/// # Panics
/// If it is not held up.
#[must_use]
pub fn held_up(kind: Kind, inbox: usize) -> (Host, HeldUp) {
    let (release, held) = mpsc::channel();
    let (tell, stuck) = mpsc::channel();
    let mut setup = Setup::new("host", 1);
    setup.inbox = inbox;
    let engine = || Ok(Box::new(NullEngine::new(1)) as Box<dyn Engine>);
    let host = Host::start_with(kind, setup, engine, move |event| {
        if let Event::Rejected { .. } = event {
            let _ = tell.send(());
            let _ = held.recv_timeout(PATIENCE);
        }
    });
    let handle = host.handle.clone();
    let nonsense = Command::Submit(submit("", 0, 1, NEVER));
    let visitor = thread::spawn(move || handle.command(nonsense));
    stuck.recv_timeout(PATIENCE).expect("the node is held up");
    (host, HeldUp { release, visitor })
}
