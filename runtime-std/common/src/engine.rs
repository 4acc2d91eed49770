//! The engine and its one thread.

use crate::error::StartError;
use exo_protocol::engine::{
    BATCH_LIMIT, Engine, EngineCommand, EngineEvent, EngineFailure, FailureKind,
};
use exo_protocol::id::CallId;
use exo_protocol::topology::Speed;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Commands on their way to the engine's thread. The node bounds them: it counts its calls.
#[derive(Debug, Default)]
pub struct Calls {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    commands: VecDeque<EngineCommand>,
    stopping: bool,
}

impl Calls {
    /// Queues a command, or answers it when there is no engine any more. [`Calls::wake`] follows.
    #[must_use = "nobody else answers it"]
    pub fn submit(&self, command: EngineCommand) -> Option<EngineEvent> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.stopping {
            return Some(failed(command.call(), STOPPING));
        }
        queue.commands.push_back(command);
        None
    }

    /// Lets the engine's thread see what is queued.
    pub fn wake(&self) {
        self.more.notify_one();
    }

    /// Lets the engine finish what it has. What waits behind that is answered unexecuted.
    pub fn stop(&self) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopping = true;
        self.wake();
    }

    /// Waits for commands and takes those that wait, as many as an engine gets at once; the flag
    /// says whether they are still to be executed.
    fn next(&self) -> Option<(Vec<EngineCommand>, bool)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.commands.is_empty() {
            if queue.stopping {
                return None;
            }
            queue = self
                .more
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let count = queue.commands.len().min(BATCH_LIMIT);
        let wanted = !queue.stopping;
        Some((queue.commands.drain(..count).collect(), wanted))
    }
}

/// An engine that is built and measured, and waits for whom to tell.
#[derive(Debug)]
pub struct Built {
    /// Where its commands go.
    pub calls: Arc<Calls>,
    /// How quick it found itself.
    pub speed: Option<Speed>,
    thread: JoinHandle<()>,
    tell: Sender<Tell>,
}

type Tell = Box<dyn Fn(EngineEvent) + Send>;

/// Builds the engine on a thread of its own, and waits until that is done and measured.
///
/// # Errors
/// When it cannot be built, or the system gives no thread.
pub fn build<E>(build: E) -> Result<Built, StartError>
where
    E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
{
    let calls = Arc::<Calls>::default();
    let (built, outcome) = mpsc::channel();
    let (tell, told) = mpsc::channel::<Tell>();
    let own = Arc::clone(&calls);
    let thread = thread::Builder::new()
        .name("exo-engine".into())
        .spawn(move || {
            let measured = || {
                let mut engine = build()?;
                let speed = engine.measure();
                Ok((engine, speed))
            };
            let engine = catch_unwind(AssertUnwindSafe(measured))
                .unwrap_or_else(|panic| Err(format!("it panicked: {}", words(&*panic))));
            match engine {
                Ok((engine, speed)) => {
                    let _ = built.send(Ok(speed));
                    // Nobody tells when the runtime does not start after all.
                    if let Ok(tell) = told.recv() {
                        run(&own, engine, &tell);
                    }
                }
                Err(reason) => {
                    let _ = built.send(Err(reason));
                }
            }
        })?;
    match outcome
        .recv()
        .unwrap_or_else(|_| Err("its thread ended".into()))
    {
        Ok(speed) => Ok(Built {
            calls,
            speed,
            thread,
            tell,
        }),
        Err(reason) => {
            let _ = thread.join();
            Err(StartError::Engine(reason))
        }
    }
}

impl Built {
    /// Lets the engine execute what comes, and tell what comes of it.
    pub fn start(self, tell: impl Fn(EngineEvent) + Send + 'static) -> JoinHandle<()> {
        // Its thread waits for exactly this.
        let _ = self.tell.send(Box::new(tell));
        self.thread
    }
}

/// Executes commands in order until the runtime stops.
fn run(calls: &Calls, mut engine: Box<dyn Engine>, tell: &impl Fn(EngineEvent)) {
    let mut broken: Option<String> = None;
    while let Some((commands, wanted)) = calls.next() {
        let mut open: Vec<CallId> = commands.iter().map(EngineCommand::call).collect();
        let mut reason = if wanted {
            broken.clone()
        } else {
            Some(STOPPING.into())
        };
        if reason.is_none() {
            let mut told = |event: EngineEvent| {
                if is_expected(&mut open, &event) {
                    tell(event);
                }
            };
            let execute = || engine.execute_all(commands, &mut told);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(execute)) {
                // Nobody knows what a panic left behind: this engine computes no more.
                broken = Some(format!("the engine panicked: {}", words(&*panic)));
                reason.clone_from(&broken);
            }
        }
        let reason = reason.as_deref().unwrap_or(NOT_COMPLETED);
        for call in open {
            tell(failed(call, reason));
        }
    }
}

/// Whether an event is of a call that is not completed yet. If it completes the call it is the last
/// one that is.
fn is_expected(open: &mut Vec<CallId>, event: &EngineEvent) -> bool {
    let Some(index) = open.iter().position(|call| *call == event.call()) else {
        return false;
    };
    if !matches!(event, EngineEvent::Progress { .. }) {
        open.remove(index);
    }
    true
}

const NOT_COMPLETED: &str = "the engine returned without completing this call";

const STOPPING: &str = "the runtime is stopping";

fn failed(call: CallId, reason: &str) -> EngineEvent {
    EngineEvent::Failed {
        call,
        failure: EngineFailure::new(FailureKind::Internal, reason),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}
