//! Rule 9 of the contract: what the engine is asked is completed once, in order, and together where
//! it waits together.

use super::engine::NullEngine;
use super::raw::Raw;
use super::{Host, Kind, NEVER, PATIENCE, Setup, submit};
use exo_protocol::dummy::DummyEngine;
use exo_protocol::engine::{BATCH_LIMIT, Engine, EngineCommand, EngineEvent};
use exo_protocol::id::CallId;
use exo_protocol::topology::Speed;
use exo_protocol::{Command, Event};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

/// An engine that cannot leave its thread, and breaks at a certain request.
struct Fragile {
    home: Rc<thread::ThreadId>,
    calls: Arc<Mutex<Vec<CallId>>>,
    inner: NullEngine,
}

impl Engine for Fragile {
    fn execute(
        &mut self,
        command: EngineCommand,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        assert_eq!(
            *self.home,
            thread::current().id(),
            "the engine stays on its thread"
        );
        self.calls
            .lock()
            .expect("nobody panics with it")
            .push(command.call());
        assert_ne!(asker(&command), Some("fatal"), "this request is too much");
        self.inner.execute(command, progress)
    }
}

/// Whose step a command is.
fn asker(command: &EngineCommand) -> Option<&str> {
    match command {
        EngineCommand::Forward { request, .. } => Some(request),
        _ => None,
    }
}

/// How a request ended.
fn outcome(host: &Host) -> (String, Result<(), String>) {
    host.event(|event| match event {
        Event::Finished { request, .. } => Some((request.to_string(), Ok(()))),
        Event::Failed { request, failure } => Some((request.to_string(), Err(failure.to_string()))),
        _ => None,
    })
}

/// Every call is completed, in order and on one thread, and nothing the engine does changes that.
pub fn calls_end(kind: Kind) {
    let calls = Arc::default();
    let seen = Arc::clone(&calls);
    let host = Host::start(kind, Setup::new("host", 1), || {
        let home = Rc::new(thread::current().id());
        Ok(Box::new(Fragile {
            home,
            calls: seen,
            inner: NullEngine::new(1),
        }))
    });
    let ask = |id: &str| {
        host.command(Command::Submit(submit(id, 1, 5, NEVER)));
        outcome(&host).1
    };
    assert_eq!(ask("one"), Ok(()));
    for id in ["fatal", "after"] {
        let reason = ask(id).expect_err("the engine is broken");
        assert!(reason.contains("this request is too much"), "{reason}");
    }
    host.until("the end of all calls", |status| status.calls == 0);
    let calls = calls.lock().expect("nobody panicked with it");
    assert!(calls.is_sorted() && calls.len() >= 7, "{calls:?}");
}

/// How quick the engine is, the node knows from it before anything is asked of it.
pub fn what_the_engine_measures_is_told(kind: Kind) {
    let speed = Speed {
        decode: 7_000_000_000,
        prefill: 230_000_000_000,
    };
    let host = Host::start(kind, Setup::new("host", 1), move || {
        Ok(Box::new(DummyEngine::with_speed(speed)))
    });
    let told = |host: &Host| {
        let machine = host.status().topology.nodes.remove("host");
        machine.and_then(|machine| machine.speed)
    };
    assert_eq!(told(&host), Some(speed));
    let mut setup = Setup::new("host", 1);
    setup.config.capabilities.speed = Some(speed);
    let host = Host::start(kind, setup, || Ok(Box::new(NullEngine::new(1))));
    assert_eq!(told(&host), Some(speed), "an engine that cannot tell");
}

/// Looks at a command of an [`Observed`] engine, and says whether it is executed; if not, a call
/// that was never made is completed in its place.
type Twist = fn(&EngineCommand) -> bool;

/// An engine that waits at the first step of the request `first`, and tells of each batch that it
/// got.
struct Observed {
    waits: Option<Receiver<()>>,
    batches: Sender<Vec<EngineCommand>>,
    twist: Twist,
    inner: NullEngine,
}

impl Engine for Observed {
    fn execute(
        &mut self,
        command: EngineCommand,
        progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        self.inner.execute(command, progress)
    }

    fn execute_all(&mut self, commands: Vec<EngineCommand>, tell: &mut dyn FnMut(EngineEvent)) {
        let _ = self.batches.send(commands.clone());
        for command in commands {
            if asker(&command) == Some("first")
                && let Some(release) = self.waits.take()
            {
                let _ = release.recv_timeout(PATIENCE);
            }
            let done = if (self.twist)(&command) {
                self.execute(command, tell)
            } else {
                let call = CallId(u64::MAX);
                EngineEvent::Freed { call }
            };
            tell(done);
        }
    }
}

/// A host whose engine is at the step of the request `first` until it is released.
struct Busy {
    host: Host,
    release: Sender<()>,
    batches: Receiver<Vec<EngineCommand>>,
}

impl Busy {
    fn start(kind: Kind, twist: Twist) -> Self {
        let (release, waits) = mpsc::channel();
        let (tell, batches) = mpsc::channel();
        let mut setup = Setup::new("host", 1);
        setup.config.limits.requests = 4 * BATCH_LIMIT;
        let host = Host::start(kind, setup, move || {
            Ok(Box::new(Observed {
                waits: Some(waits),
                batches: tell,
                twist,
                inner: NullEngine::new(1),
            }))
        });
        host.command(Command::Submit(submit("first", 1, 1, NEVER)));
        let busy = Self {
            host,
            release,
            batches,
        };
        while !busy.batch().iter().any(|c| asker(c) == Some("first")) {}
        busy
    }

    fn batch(&self) -> Vec<EngineCommand> {
        let batch = self.batches.recv_timeout(PATIENCE);
        batch.expect("the engine gets its next commands")
    }

    /// Lets so many requests wait for the engine, besides `first`.
    fn pile_up(&self, requests: &[&str]) {
        for id in requests {
            self.host.command(Command::Submit(submit(id, 1, 1, NEVER)));
        }
        self.host.until("all steps wait", |status| {
            status.calls == 1 + requests.len()
        });
    }
}

/// What waits comes at once and in order, as much of it as an engine gets at most.
pub fn calls_that_wait_come_together(kind: Kind) {
    let busy = Busy::start(kind, |_| true);
    let names: Vec<String> = (0..BATCH_LIMIT + 3).map(|n| format!("r{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    busy.pile_up(&names);
    busy.release.send(()).expect("the engine waits");
    let mut seen = vec![];
    let first = busy.batch();
    assert_eq!(first.len(), BATCH_LIMIT);
    let mut batch = first;
    loop {
        assert!(batch.len() <= BATCH_LIMIT, "{} at once", batch.len());
        let calls: Vec<CallId> = batch.iter().map(EngineCommand::call).collect();
        assert!(calls.is_sorted(), "{calls:?}");
        seen.extend(batch.iter().filter_map(asker).map(str::to_owned));
        if seen.len() == names.len() {
            break;
        }
        batch = busy.batch();
    }
    assert_eq!(seen, names);
    for _ in 0..=names.len() {
        assert_eq!(outcome(&busy.host).1, Ok(()));
    }
    busy.host
        .until("the end of all calls", |status| status.calls == 0);
}

/// A panic in the middle of a batch: what was told before it counts, all the rest fails with it.
pub fn a_batch_that_breaks_is_completed(kind: Kind) {
    let busy = Busy::start(kind, |command| {
        assert_ne!(asker(command), Some("fatal"), "this request is too much");
        true
    });
    busy.pile_up(&["before", "fatal", "after"]);
    busy.release.send(()).expect("the engine waits");
    assert_eq!(outcome(&busy.host), ("first".into(), Ok(())));
    assert_eq!(outcome(&busy.host), ("before".into(), Ok(())));
    for expected in ["fatal", "after"] {
        let (request, end) = outcome(&busy.host);
        let reason = end.expect_err("the engine broke");
        assert_eq!(request, expected);
        assert!(reason.contains("this request is too much"), "{reason}");
    }
    busy.host
        .until("the end of all calls", |status| status.calls == 0);
}

/// A call that an engine does not complete is completed for it, and one that was never made is not.
pub fn a_forgotten_call_is_completed(kind: Kind) {
    let busy = Busy::start(kind, |command| asker(command) != Some("foreign"));
    busy.pile_up(&["before", "foreign", "after"]);
    busy.release.send(()).expect("the engine waits");
    for expected in ["first", "before", "after"] {
        assert_eq!(outcome(&busy.host), (expected.into(), Ok(())));
    }
    let (request, end) = outcome(&busy.host);
    assert_eq!(request, "foreign");
    let reason = end.expect_err("its step was not computed");
    assert!(reason.contains("without completing"), "{reason}");
}

/// The end of a runtime waits for what the engine has, and not for what waits behind it.
pub fn a_stop_leaves_what_waits_unexecuted(kind: Kind) {
    let busy = Busy::start(kind, |_| true);
    busy.pile_up(&["second", "third"]);
    let mut visitor = Raw::connect(busy.host.address);
    visitor.check_health();
    let Busy {
        host,
        release,
        batches,
    } = busy;
    let handle = host.handle.clone();
    let end = thread::spawn(move || host.shutdown());
    // Connections are closed after the engine was told.
    visitor.closed();
    release.send(()).expect("the engine waits");
    end.join().expect("it ends");
    assert_eq!(batches.recv(), Err(mpsc::RecvError));
    assert_eq!(handle.status().calls, 0);
}
