//! Driving the nodes: what a runtime does, with the world in the place of sockets, clock and
//! engine thread.

use super::engine::{Broken, first_token, positions};
use super::faults::Fault;
use super::host::discovery_file;
use super::queue::Happening;
use super::world::{INJECTED, MODEL, World};
use bytes::Bytes;
use exo_protocol::engine::{EngineCommand, EngineEvent, EngineFailure, FailureKind, TrainCommand};
use exo_protocol::wire::Message;
use exo_protocol::{ConnectionId, Input, LinkFault, Output, RequestId};
use std::time::Duration;

impl World {
    pub(super) fn is_alive(&self, index: usize, life: u64) -> bool {
        let host = &self.hosts[index];
        host.is_on() && host.life == life
    }

    pub(super) fn is_running(&self, index: usize, request: &RequestId) -> bool {
        let client = self.hosts[index].clients.get(request);
        client.is_some_and(|client| client.end.is_none())
    }

    /// A node takes an input and all that follows from it at once.
    pub(super) fn input(&mut self, index: usize, input: Input) {
        if !self.hosts[index].is_on() {
            return;
        }
        self.take(index, input);
        self.work(index);
    }

    fn take(&mut self, index: usize, input: Input) {
        self.trace.input(self.now, index, &input);
        let host = &mut self.hosts[index];
        host.node.handle_input(host.clock.at(self.now), input);
    }

    /// Carries out what a node wants, until it wants nothing more now.
    pub(super) fn work(&mut self, index: usize) {
        while self.hosts[index].is_on() {
            while let Some(output) = self.hosts[index].node.poll_output() {
                self.trace.output(self.now, index, &output);
                self.carry_out(index, output);
            }
            self.told(index);
            if let Some(input) = self.hosts[index].inbox.pop_front() {
                self.take(index, input);
                continue;
            }
            if !self.wake(index) {
                break;
            }
            let host = &mut self.hosts[index];
            host.node.handle_timeout(host.clock.at(self.now));
        }
    }

    /// Schedules the node's deadline; true if it is due now.
    fn wake(&mut self, index: usize) -> bool {
        let host = &mut self.hosts[index];
        let Some(deadline) = host.node.poll_timeout() else {
            return false;
        };
        let left = deadline.at.saturating_since(host.clock.at(self.now));
        if left == Duration::ZERO {
            return true;
        }
        if host.wakes_at.is_none_or(|armed| armed > deadline.at) {
            host.wakes_at = Some(deadline.at);
            host.wakes += 1;
            let at = self.now + host.clock.real(left);
            self.queue.push(at, Happening::Wake(index, host.wakes));
        }
        false
    }

    pub(super) fn woken(&mut self, index: usize, wake: u64) {
        let host = &mut self.hosts[index];
        if host.wakes != wake || !host.is_on() {
            return;
        }
        host.wakes_at = None;
        host.node.handle_timeout(host.clock.at(self.now));
        self.work(index);
    }

    fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Dial { dial, address } => self.dial(index, dial, &address),
            Output::Send {
                connection,
                message,
            } => self.send(connection, message),
            Output::Close { connection } => {
                let end = usize::try_from(connection.0).unwrap_or(usize::MAX);
                self.lose(end, LinkFault::Local);
            }
            Output::ReadDiscoveryFile => {
                let (hosts, host) = (self.real_hosts(), &mut self.hosts[index]);
                let file = discovery_file(host.runs_as, hosts, host.file).map(Bytes::from);
                host.inbox.push_back(Input::DiscoveryFile(file));
            }
            Output::ListInterfaces => {
                let interfaces = Ok(self.net.ways.interfaces(index));
                let host = &mut self.hosts[index];
                host.inbox.push_back(Input::Interfaces(interfaces));
            }
            Output::Broadcast { from, payload, .. } => self.broadcast(index, from, &payload),
            // The node says it for drivers' sake, and counts itself.
            Output::Listen { .. } => {}
            Output::Ask { .. } | Output::Answer { .. } => {
                unreachable!("nobody announces itself over TCP")
            }
            Output::Compute(command) => {
                self.hosts[index].commands.push_back(command);
                self.compute(index);
            }
            Output::Event(event) => self.hear(index, event),
        }
    }

    fn send(&mut self, connection: ConnectionId, message: Message) {
        let end = usize::try_from(connection.0).unwrap_or(usize::MAX);
        let Some(pipe) = self.net.pipe(end).filter(|pipe| pipe.open) else {
            return;
        };
        if let Err(what) = pipe.write(message) {
            self.broken("nothing_impossible", what);
        }
        self.push(end);
    }

    fn compute(&mut self, index: usize) {
        let host = &self.hosts[index];
        if host.computing {
            return;
        }
        let (load, positions) = match host.commands.front() {
            None => return,
            Some(EngineCommand::Load { .. }) => (true, 0),
            Some(EngineCommand::Forward { input, .. }) => (false, positions(input)),
            Some(_) => (false, 0),
        };
        let slow = self.strikes(Fault::SlowEngine);
        let delay = match (load, slow) {
            (true, false) => Duration::from_millis(2 + self.rng.below(200)),
            (true, true) => Duration::from_millis(2000 + self.rng.below(20_000)),
            (false, false) => Duration::from_micros(500 + self.rng.below(4000) + 30 * positions),
            (false, true) => Duration::from_millis(500 + self.rng.below(8000)),
        };
        let command = self.hosts[index].commands.front();
        let known = command.and_then(|command| self.takes(index, command));
        let delay = known.unwrap_or(delay);
        if slow {
            self.struck.count(Fault::SlowEngine);
        }
        self.turn_engine(index, delay);
        if load {
            let turn = self.hosts[index].turn;
            self.later(delay / 2, Happening::Progress(index, turn));
        }
    }

    /// The engine of a host is done with its first command in `delay`.
    pub(super) fn turn_engine(&mut self, index: usize, delay: Duration) {
        let host = &mut self.hosts[index];
        host.computing = true;
        host.turn += 1;
        let turn = host.turn;
        self.later(delay, Happening::Computed(index, turn));
    }

    pub(super) fn half_loaded(&mut self, index: usize, turn: u64) {
        let host = &self.hosts[index];
        if host.turn != turn || !host.computing || self.now < host.hangs_until {
            return;
        }
        if let Some(command) = host.commands.front() {
            let progress = EngineEvent::Progress {
                call: command.call(),
                done: 1,
                total: 2,
            };
            self.input(index, Input::Engine(progress));
        }
    }

    fn execute(&mut self, index: usize, command: EngineCommand) -> Result<EngineEvent, Broken> {
        if let EngineCommand::Forward {
            call,
            shard,
            request,
            position,
            input,
            ..
        } = &command
        {
            let (wanted, has) = (self.model_of(request), self.hosts[index].engine.fingerprint);
            let enters = shard.is_first() && *position == 0;
            let (begins, asked) = (first_token(input), self.first_token_of(request));
            let what = if wanted.is_some_and(|wanted| wanted != has) {
                Some(format!("computed with {has:x}, asked for {wanted:x?}"))
            } else if enters && begins != asked {
                Some(format!("begins with {begins:?}, its prompt with {asked:?}"))
            } else {
                None
            };
            if let Some(what) = what {
                let (call, request) = (*call, request.clone());
                return Err(Broken {
                    call,
                    request,
                    what,
                });
            }
        }
        let weighs = match &command {
            EngineCommand::Load { shard, .. } if *shard.model == *MODEL => {
                Some(self.cost.stage(shard.range(), 0, 0).weights)
            }
            _ => None,
        };
        let mut event = self.hosts[index].engine.execute(command);
        if let (Ok(EngineEvent::Loaded { bytes, .. }), Some(weighs)) = (&mut event, weighs) {
            *bytes = weighs.max(1);
        }
        event
    }

    pub(super) fn computed(&mut self, index: usize, turn: u64) {
        let host = &mut self.hosts[index];
        if host.turn != turn || !host.computing {
            return;
        }
        if self.now < host.hangs_until {
            let at = host.hangs_until;
            return self.queue.push(at, Happening::Computed(index, turn));
        }
        host.computing = false;
        let Some(command) = host.commands.pop_front() else {
            return;
        };
        let fallible = matches!(
            command,
            EngineCommand::Load { .. }
                | EngineCommand::Forward { .. }
                | EngineCommand::Train(
                    TrainCommand::Begin { .. }
                        | TrainCommand::Forward { .. }
                        | TrainCommand::Backward { .. }
                        | TrainCommand::Save { .. }
                )
        );
        let moved = match &command {
            EngineCommand::Forward { request, .. } => Some(Some(request.clone())),
            EngineCommand::Load { .. } => Some(None),
            _ => None,
        };
        let fails = self.now < host.fails_until;
        let bad = self.strikes(Fault::BadStep);
        let event = if fallible && (fails || bad) {
            if !fails {
                self.struck.count(Fault::BadStep);
            }
            let failure = EngineFailure::new(FailureKind::Internal, INJECTED);
            Ok(EngineEvent::Failed {
                call: command.call(),
                failure,
            })
        } else {
            self.execute(index, command)
        };
        self.compute(index);
        match event {
            Ok(event) => {
                if let Some(request) = moved {
                    self.moves(request.as_ref());
                }
                self.input(index, Input::Engine(event));
            }
            // In the base protocol every node cuts the model by its own view, and nobody says where
            // a hidden state comes from.
            Err(broken) if self.mixed.contains(&broken.request) => {
                let failure = EngineFailure::new(FailureKind::BadInput, broken.what);
                let call = broken.call;
                self.input(index, Input::Engine(EngineEvent::Failed { call, failure }));
            }
            Err(broken) => {
                let what = format!("n{index}: {}: {}", broken.request, broken.what);
                self.broken("layers_in_order", what);
            }
        }
    }
}
