//! An engine that computes nothing, and judges what it is asked for.

use super::message::rows;
use super::source::Source;
use exo_protocol::dummy::DummyEngine;
use exo_protocol::engine::{
    Engine as _, EngineCommand, EngineEvent, EngineFailure, EngineInput, EngineOutput, FailureKind,
    Scores, TrainCommand,
};
use exo_protocol::tensor::Tensor;
use exo_protocol::{CallId, RequestId, Shard};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Commands are executed in order, one whenever the script says so.
#[derive(Debug, Default)]
pub(super) struct Engine {
    queue: VecDeque<EngineCommand>,
    newest: u64,
    loaded: BTreeSet<Shard>,
    /// Positions by request, and the shard that computed them.
    caches: BTreeMap<RequestId, (Shard, u32)>,
    turns: BTreeMap<RequestId, Turn>,
    /// What trains.
    dummy: DummyEngine,
    /// It said what no engine may say. From then on the node cannot know better.
    lied: bool,
}

/// The lie that is no completion.
const PROGRESS: u8 = 3;

/// What one request may ask for.
#[derive(Debug, Default)]
struct Turn {
    /// Steps in the engine.
    under_way: u32,
    /// How often the request began anew while there were any: each ring may have one.
    rings: u32,
    /// The newest step was not followed by a release.
    holds: bool,
}

/// What an engine can do with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Able,
    /// The model ends its answer with this step's token.
    Ending,
    Unable(FailureKind),
}

impl Engine {
    /// Takes a command.
    ///
    /// # Panics
    /// When the node must not ask for it now.
    pub(super) fn ask(&mut self, command: EngineCommand) {
        let CallId(call) = command.call();
        assert!(
            call > self.newest,
            "call {call} comes after {}",
            self.newest
        );
        self.newest = call;
        match &command {
            EngineCommand::Forward { request, .. } => {
                let turn = self.turns.entry(request.clone()).or_default();
                turn.holds = true;
                turn.under_way += 1;
                assert!(
                    turn.under_way <= 1 + turn.rings,
                    "{request}: a step while another one is under way: {command:?}"
                );
            }
            EngineCommand::Free { request, .. } => {
                self.turns.entry(request.clone()).or_default().holds = false;
            }
            EngineCommand::Train(command) => {
                let of = |command: &TrainCommand| match command {
                    TrainCommand::Begin { job, .. }
                    | TrainCommand::Forward { job, .. }
                    | TrainCommand::Backward { job, .. }
                    | TrainCommand::Save { job, .. } => Some(job.clone()),
                    TrainCommand::End { .. } => None,
                };
                // A job that ended may begin anew under its name once it is forgotten.
                let ends = |queued: &&EngineCommand| {
                    !matches!(queued, EngineCommand::Train(TrainCommand::End { .. }))
                };
                let since = self.queue.iter().rev().take_while(ends);
                let mut parts = since.filter_map(|queued| match queued {
                    EngineCommand::Train(queued) => of(queued),
                    _ => None,
                });
                let twice = of(command).is_some_and(|job| parts.any(|other| other == job));
                assert!(!twice, "a job has two parts in the engine: {command:?}");
            }
            EngineCommand::Load { .. } | EngineCommand::Unload { .. } => {}
        }
        self.queue.push_back(command);
    }

    /// A request begins, or begins anew: a step of an earlier ring is nobody's.
    pub(super) fn renew(&mut self, request: &str) {
        if let Some(turn) = self
            .turns
            .get_mut(request)
            .filter(|turn| turn.under_way > 0)
        {
            turn.rings += 1;
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn has_lied(&self) -> bool {
        self.lied
    }

    /// Progress of a load, if one is under way.
    pub(super) fn progress(&self) -> Option<EngineEvent> {
        match self.queue.front()? {
            &EngineCommand::Load { call, .. } => Some(EngineEvent::Progress {
                call,
                done: 1,
                total: 2,
            }),
            _ => None,
        }
    }

    /// Executes the next command.
    ///
    /// # Panics
    /// When no engine could, whatever its state.
    pub(super) fn execute(&mut self, mood: Mood) -> Option<EngineEvent> {
        let command = self.queue.pop_front()?;
        let call = command.call();
        if let EngineCommand::Forward { request, .. } = &command {
            self.step_done(request);
        }
        if let Mood::Unable(kind) = mood
            && !matches!(
                command,
                EngineCommand::Free { .. } | EngineCommand::Unload { .. }
            )
        {
            let failure = EngineFailure::new(kind, "it smokes");
            return Some(EngineEvent::Failed { call, failure });
        }
        Some(match command {
            EngineCommand::Load { shard, .. } => {
                let load = EngineCommand::Load {
                    call,
                    shard: shard.clone(),
                };
                self.dummy.execute(load, &mut |_| {});
                self.loaded.insert(shard);
                EngineEvent::Loaded {
                    call,
                    bytes: 1,
                    fingerprint: 1,
                }
            }
            EngineCommand::Unload { shard, .. } => {
                let used = self.caches.iter().find(|(_, (of, _))| *of == shard);
                assert!(
                    self.lied || used.is_none(),
                    "{shard} is unloaded and used by {used:?}"
                );
                self.loaded.remove(&shard);
                EngineEvent::Unloaded { call }
            }
            EngineCommand::Free { request, .. } => {
                self.caches.remove(&request);
                EngineEvent::Freed { call }
            }
            EngineCommand::Train(_) => self.dummy.execute(command, &mut |_| {}),
            EngineCommand::Forward {
                shard,
                request,
                position,
                input,
                sampling,
                ..
            } => {
                let before = self.cached(&shard, &request);
                assert!(
                    self.lied || self.loaded.contains(&shard),
                    "{request}: {shard} is not loaded"
                );
                assert!(
                    self.lied || position <= before,
                    "{request}: position {position} of {shard} where {before} are cached"
                );
                let positions = positions(&input);
                let output = output(&shard, positions, sampling.is_some(), mood);
                let cached = position.saturating_add(positions);
                self.caches.insert(request, (shard, cached));
                EngineEvent::Forwarded {
                    call,
                    output,
                    positions,
                }
            }
        })
    }

    /// An event that answers nothing, or something else than what was asked.
    pub(super) fn lie(&mut self, source: &mut Source<'_>) -> EngineEvent {
        let number = u64::from(source.byte());
        let call = CallId(if number < 128 {
            self.newest.saturating_sub(number)
        } else {
            number - 128
        });
        let kind = source.below(8);
        let of = |command: &EngineCommand| command.call() == call && kind != PROGRESS;
        let answered = self.queue.iter().position(of);
        if let Some(command) = answered.and_then(|index| self.queue.remove(index))
            && let EngineCommand::Forward { request, .. } = command
        {
            self.step_done(&request);
        }
        self.lied = true;
        let forwarded = |output| EngineEvent::Forwarded {
            call,
            output,
            positions: u32::from(kind),
        };
        match kind {
            0 => EngineEvent::Loaded {
                call,
                bytes: u64::MAX,
                fingerprint: 2,
            },
            1 => EngineEvent::Unloaded { call },
            2 => EngineEvent::Freed { call },
            PROGRESS => EngineEvent::Progress {
                call,
                done: 2,
                total: 1,
            },
            4 => forwarded(EngineOutput::Nothing),
            5 if source.one_in(3) => forwarded(EngineOutput::Scored {
                token: u32::MAX,
                end: false,
                scores: Scores::default(),
            }),
            5 => forwarded(EngineOutput::Token {
                token: u32::MAX,
                end: false,
            }),
            6 => forwarded(EngineOutput::Hidden(Tensor::from_tokens(&[]))),
            _ => forwarded(EngineOutput::Hidden(rows(source.below(4).into()))),
        }
    }

    /// What must hold when all requests are over and all commands executed.
    pub(super) fn assert_idle(&self) {
        assert!(self.queue.is_empty(), "{:?}", self.queue);
        for (request, turn) in &self.turns {
            assert!(!turn.holds, "{request} is over and was not freed");
        }
        assert!(self.lied || self.caches.is_empty(), "{:?}", self.caches);
    }

    fn cached(&self, shard: &Shard, request: &RequestId) -> u32 {
        match self.caches.get(request) {
            Some((of, positions)) if of == shard => *positions,
            _ => 0,
        }
    }

    fn step_done(&mut self, request: &RequestId) {
        let Some(turn) = self.turns.get_mut(request) else {
            return;
        };
        turn.under_way = turn.under_way.saturating_sub(1);
        turn.rings = turn.rings.min(turn.under_way);
    }
}

fn positions(input: &EngineInput) -> u32 {
    let count = match input {
        EngineInput::Text(_) => 2,
        EngineInput::Tokens(tokens) => tokens.len(),
        EngineInput::Hidden(tensor) => match tensor.shape() {
            [_, rows] | [_, rows, _] => *rows,
            _ => 0,
        },
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn output(shard: &Shard, positions: u32, samples: bool, mood: Mood) -> EngineOutput {
    if !shard.is_last() {
        return EngineOutput::Hidden(rows(positions.min(4096).try_into().unwrap_or(0)));
    }
    if !samples {
        return EngineOutput::Nothing;
    }
    let end = mood == Mood::Ending;
    EngineOutput::Token {
        token: if end { 69 } else { 5 },
        end,
    }
}
