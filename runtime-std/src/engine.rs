//! The engine and its one thread. This file is the same in both runtimes.

use crate::error::StartError;
use exo_protocol::engine::{
    BATCH_LIMIT, Engine, EngineCommand, EngineEvent, EngineFailure, FailureKind,
};
use exo_protocol::id::CallId;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// Commands on their way to the engine's thread. The node bounds them: it counts its calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
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
    pub(crate) fn submit(&self, command: EngineCommand) -> Option<EngineEvent> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.stopping {
            return Some(failed(command.call(), STOPPING));
        }
        queue.commands.push_back(command);
        None
    }

    /// Lets the engine's thread see what is queued.
    pub(crate) fn wake(&self) {
        self.more.notify_one();
    }

    /// Lets the engine finish what it has. What waits behind that is answered unexecuted.
    pub(crate) fn stop(&self) {
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

/// Builds the engine on a thread of its own, and waits until that is done.
pub(crate) fn start<E>(
    calls: Arc<Calls>,
    build: E,
    tell: impl Fn(EngineEvent) + Send + 'static,
) -> Result<JoinHandle<()>, StartError>
where
    E: FnOnce() -> Result<Box<dyn Engine>, String> + Send + 'static,
{
    let (built, outcome) = mpsc::channel();
    let thread = thread::Builder::new()
        .name("exo-engine".into())
        .spawn(move || {
            let engine = catch_unwind(AssertUnwindSafe(build))
                .unwrap_or_else(|panic| Err(format!("it panicked: {}", words(&*panic))));
            match engine {
                Ok(engine) => {
                    let _ = built.send(Ok(()));
                    run(&calls, engine, &tell);
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
        Ok(()) => Ok(thread),
        Err(reason) => {
            let _ = thread.join();
            Err(StartError::Engine(reason))
        }
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
