//! The node behind its inbox.
//!
//! No thread belongs to the node. Whoever brings an input holds the node until its inbox is empty,
//! unless somebody does so already, who will then find it. The thread that read a message is thus
//! the one that writes the answer: nothing on the way of a token waits for another thread to wake.
//! System calls come after the node was let go: whom they wake finds it free.

use crate::Options;
use crate::ask::{self, Talks};
use crate::broadcast::{self, Listener};
use crate::connection::{self, Connection, Connections, STOPPING};
use crate::listen;
use bytes::Bytes;
use exo_protocol::id::{AskId, DialId, VisitId};
use exo_protocol::node::{Placement, Question};
use exo_protocol::record::Recording;
use exo_protocol::{Command, Config, Event, Input, Instant, Node, Output, Rejection, Status};
use exo_runtime_common::CommandError;
use exo_runtime_common::clock::Clock;
use exo_runtime_common::engine::Calls;
use exo_runtime_common::file::DiscoveryFile;
use exo_runtime_common::interfaces;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Inputs that one visitor serves before the timer's thread takes over: an engine has to compute
/// and an application's thread has to return.
const TURN: usize = 64;

/// What all threads of a runtime share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) options: Options,
    pub(crate) discovery_file: Option<DiscoveryFile>,
    /// Where announcements of other nodes come.
    pub(crate) announcements: Option<Listener>,
    pub(crate) connections: Connections,
    pub(crate) talks: Talks,
    pub(crate) calls: Arc<Calls>,
    clock: Clock,
    inbox: Mutex<Inbox>,
    /// For readers that wait until the inbox is not full.
    room: Condvar,
    /// For the timer's thread.
    alarm: Condvar,
    /// Locked by whoever set [`Inbox::held`]; somebody else only ever looks at the status.
    driver: Mutex<Driver>,
    /// Every thread has a copy; the runtime's end waits until all of them are gone.
    alive: Mutex<Option<Sender<Infallible>>>,
}

#[derive(Default)]
struct Inbox {
    tasks: VecDeque<Task>,
    /// Readers that wait.
    waiting: usize,
    /// Somebody holds the node, and looks here before leaving.
    held: bool,
    /// When the timer's thread is to wake the node; at once, when it starts.
    wake_at: Instant,
    /// Whoever ran the node wants the timer's thread to go on.
    relieve: bool,
    /// Commands are refused.
    stopping: bool,
    /// The timer's thread is to end.
    ended: bool,
    /// The node panicked: it stays held, and nothing is taken any more.
    broken: bool,
}

/// An input, or a deadline that may be due.
type Task = Option<Input>;

/// What is left to do for an input when the node was let go.
enum Effect {
    Flush(Arc<Connection>),
    WakeEngine,
    Dial(DialId, String),
    ReadDiscoveryFile,
    ListInterfaces,
    Broadcast(Ipv4Addr, SocketAddrV4, Bytes),
    Ask(AskId, String, Bytes),
    Answer(VisitId, Option<Bytes>),
}

struct Driver {
    node: Node,
    recording: Option<Recording>,
    on_event: Box<dyn FnMut(Event) + Send>,
}

/// Locks; what a panic left behind is dealt with by [`Inbox::broken`].
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        seed: u64,
        mut options: Options,
        calls: Arc<Calls>,
        announcements: Option<Listener>,
        on_event: Box<dyn FnMut(Event) + Send>,
        alive: Sender<Infallible>,
    ) -> Self {
        let clock = Clock::start();
        let now = clock.now();
        let discovery_file = options.discovery_file.take();
        let discovery_file = discovery_file.map(|path| DiscoveryFile::new(&path));
        let recorder = options.record.take();
        let recording = recorder.map(|recorder| Recording::start(recorder, &config, seed, now));
        let driver = Driver {
            node: Node::new(config.clone(), seed, now),
            recording,
            on_event,
        };
        Self {
            config,
            discovery_file,
            options,
            announcements,
            connections: Connections::default(),
            talks: Talks::default(),
            calls,
            clock,
            inbox: Mutex::default(),
            room: Condvar::new(),
            alarm: Condvar::new(),
            driver: Mutex::new(driver),
            alive: Mutex::new(Some(alive)),
        }
    }

    /// Brings an input from a peer; waits while the inbox is full.
    pub(crate) fn offer(self: &Arc<Self>, input: Input) {
        let mut inbox = lock(&self.inbox);
        while self.is_full(&inbox) {
            inbox.waiting += 1;
            inbox = self
                .room
                .wait(inbox)
                .unwrap_or_else(PoisonError::into_inner);
            inbox.waiting -= 1;
        }
        inbox.push(Some(input));
        drop(inbox);
        self.run();
    }

    /// Brings an input that the node waits for, and that is bounded by what it asked for. Who is
    /// not in [`Shared::run`] calls it then.
    pub(crate) fn queue(&self, input: Input) {
        lock(&self.inbox).push(Some(input));
    }

    /// Brings a command of the application; never waits.
    pub(crate) fn command(self: &Arc<Self>, command: Command) -> Result<(), CommandError> {
        let mut inbox = lock(&self.inbox);
        if inbox.stopping {
            return Err(CommandError::Stopped);
        }
        if self.is_full(&inbox) {
            return Err(CommandError::Busy);
        }
        inbox.push(Some(Input::Command(command)));
        drop(inbox);
        self.run();
        Ok(())
    }

    fn is_full(&self, inbox: &Inbox) -> bool {
        inbox.tasks.len() >= self.options.inbox.max(1)
    }

    pub(crate) fn status(&self) -> Status {
        lock(&self.driver).node.status()
    }

    pub(crate) fn placement(&self, question: &Question) -> Result<Placement, Rejection> {
        lock(&self.driver).node.placement(question)
    }

    /// Hands the node what waits for it and carries out what it wants, until nothing waits or
    /// somebody else is at it.
    pub(crate) fn run(self: &Arc<Self>) {
        let _bail = Bail(self);
        let (mut served, mut effects) = (0, Vec::new());
        while served < TURN {
            match self.hold(&mut effects) {
                0 => return,
                inputs => served += inputs,
            }
            for effect in effects.drain(..) {
                match effect {
                    Effect::Flush(connection) => connection::flush(self, &connection),
                    Effect::WakeEngine => self.calls.wake(),
                    Effect::Dial(dial, address) => listen::dial(self, dial, address),
                    Effect::ReadDiscoveryFile => listen::read_discovery_file(self),
                    Effect::ListInterfaces => self.queue(interfaces::list()),
                    Effect::Broadcast(from, to, payload) => broadcast::send(from, to, &payload),
                    Effect::Ask(ask, address, payload) => ask::ask(self, ask, address, payload),
                    Effect::Answer(visit, payload) => self.talks.answer(visit, payload),
                }
            }
        }
        lock(&self.inbox).relieve = true;
        self.alarm.notify_one();
    }

    /// Holds the node for all the inputs without effects and one that has some, and counts them.
    fn hold(&self, effects: &mut Vec<Effect>) -> usize {
        let mut inbox = lock(&self.inbox);
        if inbox.tasks.is_empty() || mem::replace(&mut inbox.held, true) {
            return 0;
        }
        drop(inbox);
        let mut driver = lock(&self.driver);
        let mut served = 0;
        while served < TURN && effects.is_empty() {
            let Some(task) = self.take() else { break };
            self.step(&mut driver, task, effects);
            served += 1;
        }
        let deadline = driver.node.poll_timeout();
        drop(driver);
        let mut inbox = lock(&self.inbox);
        inbox.held = false;
        if let Some(deadline) = deadline
            && deadline.at < inbox.wake_at
        {
            inbox.wake_at = deadline.at;
            self.alarm.notify_one();
        }
        served
    }

    fn take(&self) -> Option<Task> {
        let mut inbox = lock(&self.inbox);
        let task = inbox.tasks.pop_front();
        if inbox.waiting > 0 && !self.is_full(&inbox) {
            self.room.notify_one();
        }
        task
    }

    /// One input, and everything that follows from it.
    fn step(&self, driver: &mut Driver, task: Task, effects: &mut Vec<Effect>) {
        let (node, now) = (&mut driver.node, self.clock.now());
        if let Some(recording) = &mut driver.recording {
            recording.input(now, task.as_ref());
        }
        match task {
            Some(input) => node.handle_input(now, input),
            None => node.handle_timeout(now),
        }
        while let Some(output) = node.poll_output() {
            if let Some(recording) = &mut driver.recording {
                recording.output(&output);
            }
            match output {
                Output::Dial { dial, address } => effects.push(Effect::Dial(dial, address)),
                Output::Send {
                    connection,
                    message,
                } => {
                    effects.extend(connection::send(self, connection, &message).map(Effect::Flush));
                }
                Output::Close { connection } => {
                    effects.extend(connection::close(self, connection).map(Effect::Flush));
                }
                Output::ReadDiscoveryFile => effects.push(Effect::ReadDiscoveryFile),
                Output::ListInterfaces => effects.push(Effect::ListInterfaces),
                Output::Broadcast { from, to, payload } => {
                    effects.push(Effect::Broadcast(from, to, payload));
                }
                Output::Listen { datagrams } => {
                    if let Some(listener) = &self.announcements {
                        listener.want(datagrams);
                    }
                }
                Output::Ask {
                    ask,
                    address,
                    payload,
                } => effects.push(Effect::Ask(ask, address, payload)),
                Output::Answer { visit, payload } => effects.push(Effect::Answer(visit, payload)),
                Output::Compute(command) => match self.calls.submit(command) {
                    None => effects.push(Effect::WakeEngine),
                    Some(answer) => self.queue(Input::Engine(answer)),
                },
                Output::Event(event) => (driver.on_event)(event),
            }
        }
        if driver
            .recording
            .as_mut()
            .is_some_and(|recording| !recording.commit())
        {
            driver.recording = None;
        }
    }

    /// Wakes the node at its deadlines, and relieves whoever ran it for long.
    pub(crate) fn keep_time(self: &Arc<Self>) {
        let mut inbox = lock(&self.inbox);
        while !inbox.ended {
            let wait = self.clock.until(inbox.wake_at);
            if !mem::take(&mut inbox.relieve) && !wait.is_zero() {
                let woken = self.alarm.wait_timeout(inbox, wait);
                inbox = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if wait.is_zero() {
                inbox.wake_at = Instant::FAR_FUTURE;
                inbox.push(None);
            }
            drop(inbox);
            self.run();
            inbox = lock(&self.inbox);
        }
    }

    /// Refuses what is new and ends what is under way, with all the inputs that its end entails.
    pub(crate) fn stop(&self) {
        lock(&self.inbox).stopping = true;
        self.calls.stop();
        connection::stop(self);
        self.talks.stop();
        if let Some(listener) = &self.announcements {
            listener.stop();
        }
        *lock(&self.alive) = None;
    }

    /// Ends the timer's thread, once all the others have ended.
    pub(crate) fn stop_time(&self) {
        lock(&self.inbox).ended = true;
        self.alarm.notify_one();
    }

    /// What a thread keeps for as long as it runs, and gets unless the runtime is stopping.
    pub(crate) fn alive(&self) -> io::Result<Sender<Infallible>> {
        lock(&self.alive)
            .clone()
            .ok_or_else(|| io::Error::other(STOPPING))
    }

    /// Starts a thread that the runtime's end waits for.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        let (shared, alive) = (Arc::clone(self), self.alive()?);
        let body = move || {
            body(&shared);
            drop(alive);
        };
        thread::Builder::new()
            .name(name.into())
            .spawn(body)
            .map(drop)
    }
}

impl Inbox {
    fn push(&mut self, task: Task) {
        if !self.broken {
            self.tasks.push_back(task);
        }
    }
}

/// Ends the runtime when the node, or the application's event handler, panics: a node that stands
/// still but keeps its connections would be worse for its ring than none.
struct Bail<'a>(&'a Shared);

impl Drop for Bail<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut inbox = lock(&self.0.inbox);
            inbox.broken = true;
            inbox.tasks.clear();
            drop(inbox);
            self.0.room.notify_all();
            self.0.stop();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
