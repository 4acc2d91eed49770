//! Outputs of a recording without what was said. They are only summed up in a hash, and nothing in
//! it comes from what was replaced in the inputs: neither tokens and tensors, nor words for people,
//! which may quote them.

use super::redact::{Side, zeros};
use crate::engine::{EngineCommand, EngineInput, Sampling, TrainCommand};
use crate::node::{Event, Failure, Found, JobFailure, Output};
use alloc::sync::Arc;

/// An output without anything that was replaced in the inputs.
pub(super) fn output(output: &Output) -> Output {
    match output {
        Output::Send {
            connection,
            message,
        } => Output::Send {
            connection: *connection,
            message: Side::Out.message(message),
        },
        Output::Compute(EngineCommand::Forward {
            call,
            shard,
            request,
            position,
            input,
            sampling,
        }) => Output::Compute(EngineCommand::Forward {
            call: *call,
            shard: shard.clone(),
            request: request.clone(),
            position: *position,
            input: match input {
                EngineInput::Text(_) => EngineInput::Text("".into()),
                EngineInput::Tokens(tokens) => EngineInput::Tokens(Side::Out.tokens(tokens)),
                EngineInput::Hidden(tensor) => EngineInput::Hidden(Side::Out.tensor(tensor)),
            },
            sampling: sampling.as_ref().map(quiet_sampling),
        }),
        Output::Compute(EngineCommand::Train(command)) => {
            Output::Compute(EngineCommand::Train(blank_training(command)))
        }
        Output::Event(event) => Output::Event(blank_event(event)),
        Output::Dial { .. }
        | Output::Close { .. }
        | Output::ReadDiscoveryFile
        | Output::ListInterfaces
        | Output::Broadcast { .. }
        | Output::Listen { .. }
        | Output::Ask { .. }
        | Output::Answer { .. }
        | Output::Compute(_) => output.clone(),
    }
}

/// Without the answer so far, what it has to be, and what it has to begin with.
fn quiet_sampling(sampling: &Sampling) -> Sampling {
    let mut sampling = Side::Out.sampling(sampling);
    if let Some(shaping) = &mut sampling.shaping
        && !shaping.answer.is_empty()
    {
        let shaping = Arc::make_mut(shaping);
        shaping.answer = Side::Out.tokens(&shaping.answer);
    }
    sampling
}

fn blank_training(command: &TrainCommand) -> TrainCommand {
    let mut command = command.clone();
    match &mut command {
        TrainCommand::Forward { input, targets, .. } => {
            *input = Side::Out.example(input);
            *targets = targets.as_ref().map(|targets| Side::Out.targets(targets));
        }
        TrainCommand::Backward { gradient, .. } => *gradient = Side::Out.tensor(gradient),
        TrainCommand::Begin { .. } | TrainCommand::Save { .. } | TrainCommand::End { .. } => {}
    }
    command
}

fn blank_event(event: &Event) -> Event {
    let mut event = event.clone();
    match &mut event {
        Event::Token { token, scores, .. } => {
            *token = 0;
            // How likely it was tells what it was.
            *scores = None;
        }
        Event::Part {
            found: Found::At { content, .. },
            ..
        } => *content = zeros(content),
        Event::Failed { failure, .. } => match failure {
            Failure::PeerLost { reason, .. }
            | Failure::Memory { reason, .. }
            | Failure::Unrecoverable { reason, .. } => reason.clear(),
            Failure::Stage { message, .. } | Failure::Refused { message, .. } => message.clear(),
            Failure::Cancelled | Failure::TimedOut { .. } | Failure::Stopping => {}
        },
        Event::JobFailed { failure, .. } => match failure {
            JobFailure::PeerLost { reason, .. } => reason.clear(),
            JobFailure::Stage { message, .. } => message.clear(),
            JobFailure::Busy(_)
            | JobFailure::Duplicate(_)
            | JobFailure::Layers(_)
            | JobFailure::Setup(_)
            | JobFailure::Memory { .. }
            | JobFailure::Example(_)
            | JobFailure::OutOfTurn { .. }
            | JobFailure::Resumed { .. }
            | JobFailure::TimedOut { .. }
            | JobFailure::Stopping
            | JobFailure::Unsupported(_) => {}
        },
        Event::Recovering { reason, .. }
        | Event::PeerDown { reason, .. }
        | Event::PeerUnreachable { reason, .. }
        | Event::ConnectionRefused { reason, .. }
        | Event::DiscoveryRejected { reason }
        | Event::BroadcastTrouble { reason }
        | Event::EngineFailed { reason, .. } => reason.clear(),
        Event::Accepted { .. }
        | Event::JobReady { .. }
        | Event::ExampleDone { .. }
        | Event::JobSaved { .. }
        | Event::JobEnded { .. }
        | Event::Finished { .. }
        | Event::Rejected { .. }
        | Event::PeerUp { .. }
        | Event::PeerRestarted { .. }
        | Event::PeerMoved { .. }
        | Event::LinkSlow { .. }
        | Event::StepTimed { .. }
        | Event::PeerEngine { .. }
        | Event::DuplicateNode { .. }
        | Event::PeerLeaving { .. }
        | Event::Drained
        | Event::TopologyChanged
        | Event::Loading { .. }
        | Event::Loaded { .. }
        | Event::FilesWanted { .. }
        | Event::Unloaded { .. }
        | Event::Part {
            found: Found::Nowhere,
            ..
        }
        | Event::PartWanted { .. } => {}
    }
    event
}
