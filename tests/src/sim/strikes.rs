//! What strikes from outside: faults, and clients that come and go.

use super::engine::END;
use super::faults::{DRAW_EVERY, Faults, NOISE};
use super::host::Client;
use super::world::{Ending, Happening, LAYERS, SHORT, TIMEOUT, World};
use exo_protocol::engine::Sampling;
use exo_protocol::{Command, Input, Instant, LinkFault, RequestId, Submit};
use std::time::Duration;

impl World {
    pub(super) fn strikes(&mut self, per_mille: u64) -> bool {
        self.rng.below(1000) < per_mille
    }

    pub(super) fn some_pipe(&mut self) -> Option<Ending> {
        let count = self.pipes.len() as u64;
        let index = usize::try_from(self.rng.below(count)).ok()?;
        self.pipes.keys().nth(index).copied()
    }

    pub(super) fn some_host(&mut self) -> usize {
        usize::try_from(self.rng.below(self.hosts.len() as u64)).unwrap_or(0)
    }

    pub(super) fn draw(&mut self) {
        let faults = self.faults;
        if faults == Faults::default() && self.now >= Instant::after_origin(NOISE) {
            return;
        }
        self.later(DRAW_EVERY, Happening::Draw);
        if self.strikes(faults.crash) {
            self.crash();
        }
        if self.strikes(faults.reset)
            && let Some(end) = self.some_pipe()
        {
            self.struck.reset += 1;
            let reset = || LinkFault::Io("connection reset".into());
            self.hang_up(end, reset(), reset());
        }
        if self.strikes(faults.stall)
            && let Some(end) = self.some_pipe()
        {
            self.struck.stall += 1;
            let seconds = Duration::from_millis(self.rng.below(12_000));
            if let Some(pipe) = self.pipes.get_mut(&end) {
                pipe.stalled = true;
            }
            self.later(seconds, Happening::Resume(end));
        }
        if self.strikes(faults.half_open)
            && let Some(end) = self.some_pipe()
        {
            self.struck.half_open += 1;
            self.half_open(end);
        }
        if self.strikes(faults.sleep) {
            self.struck.sleep += 1;
            let index = self.some_host();
            let jump = Duration::from_secs(self.rng.below(3600));
            if let Some(host) = self.hosts.get_mut(index) {
                host.ahead += jump;
                // Its deadlines came nearer with its clock, and its clients' too.
                for client in host.clients.values_mut() {
                    client.deadline = client.deadline.min(self.now + TIMEOUT);
                }
                host.wakes_at = None;
            }
            self.wake(index);
        }
        self.clients(faults.cancel);
    }

    pub(super) fn clients(&mut self, cancel: u64) {
        if self.strikes(150) {
            let index = self.some_host();
            let most = if self.strikes(300) { SHORT } else { u32::MAX };
            self.submit(index, most);
        }
        if self.strikes(cancel) {
            let index = self.some_host();
            let running = self.hosts.get(index).and_then(|host| {
                let running = |(_, client): &(&RequestId, &Client)| client.end.is_none();
                host.clients
                    .iter()
                    .find(running)
                    .map(|(request, _)| request.clone())
            });
            if let Some(request) = running {
                self.struck.cancel += 1;
                self.soon(index, Input::Command(Command::Cancel { request }));
            }
        }
    }

    pub(super) fn submit(&mut self, index: usize, max_tokens: u32) -> RequestId {
        self.last_request += 1;
        let request = RequestId::from(format!("r{}", self.last_request));
        let submit = Submit {
            request: request.clone(),
            model: "trail".into(),
            layers: LAYERS,
            prompt: "p".into(),
            tokens: vec![1],
            end_tokens: vec![END],
            sampling: Sampling::default(),
            max_tokens,
            timeout: TIMEOUT,
        };
        // A second of grace: the deadline itself is an event like any other.
        let deadline = self.now + TIMEOUT + Duration::from_secs(1);
        if let Some(host) = self.hosts.get_mut(index).filter(|host| host.up) {
            host.clients.insert(
                request.clone(),
                Client {
                    deadline,
                    ..Client::default()
                },
            );
            self.soon(index, Input::Command(Command::Submit(submit)));
        }
        request
    }

    /// A host dies without a word; whoever was connected sees a reset, or nothing at all.
    pub(super) fn crash(&mut self) {
        let index = self.some_host();
        let silent = self.strikes(300);
        let millis = 200 + self.rng.below(15_000);
        let Some(host) = self.hosts.get_mut(index).filter(|host| host.up) else {
            return;
        };
        self.struck.crash += 1;
        host.up = false;
        host.clients.retain(|_, client| client.end.is_some());
        let ends: Vec<Ending> = self
            .pipes
            .keys()
            .filter(|end| end.0 == index)
            .copied()
            .collect();
        for end in ends {
            if silent {
                self.half_open(end);
            } else {
                self.hang_up(
                    end,
                    LinkFault::Local,
                    LinkFault::Io("connection reset".into()),
                );
            }
        }
        self.later(Duration::from_millis(millis), Happening::Restart(index));
    }

    /// `end` forgets its connection; the other end goes on believing in it.
    pub(super) fn half_open(&mut self, end: Ending) {
        let Some(pipe) = self.pipes.remove(&end) else {
            return;
        };
        if let Some(other) = self.pipes.get_mut(&(pipe.to, pipe.to_connection)) {
            other.swallows = true;
        }
        let fault = LinkFault::Io("no route to host".into());
        self.soon(
            end.0,
            Input::Lost {
                connection: end.1,
                fault,
            },
        );
    }

    pub(super) fn restart(&mut self, index: usize) {
        let seed = self.rng.next_u64();
        let memory = self.memories.get(index).copied().unwrap_or(1);
        let now = self.now;
        if let Some(host) = self.hosts.get_mut(index).filter(|host| !host.up) {
            host.restart(index, memory, seed, now);
        }
        self.wake(index);
    }

    /// Ends the noise: no more faults, no more stalls.
    pub(super) fn calm(&mut self) {
        self.faults = Faults::default();
        let stalled: Vec<Ending> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| pipe.stalled)
            .map(|(end, _)| *end)
            .collect();
        for end in stalled {
            self.later(Duration::ZERO, Happening::Resume(end));
        }
    }
}
