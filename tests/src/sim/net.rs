//! Connections between hosts: dialling, delivering cut anywhere, hanging up.

use super::pipe::{Pipe, Weather};
use super::world::{Ending, Happening, World};
use exo_protocol::wire::DecodeLimits;
use exo_protocol::{ConnectionId, DialId, Input, LinkFault, Origin};
use std::time::Duration;

impl World {
    pub(super) fn dial(&mut self, index: usize, dial: DialId, address: &str) {
        let to = address
            .strip_prefix("host:")
            .and_then(|number| number.parse::<usize>().ok());
        let to = to.and_then(|number| number.checked_sub(1));
        let Some(to) = to.filter(|to| self.hosts.get(*to).is_some_and(|host| host.up)) else {
            let reason = String::from("connection refused");
            return self.soon(index, Input::DialFailed { dial, reason });
        };
        self.last_connection += 2;
        let near = (index, ConnectionId(self.last_connection));
        let far = (to, ConnectionId(self.last_connection + 1));
        let weather = Weather {
            latency: Duration::from_micros(100 + self.rng.below(30_000)),
            bytes_per_second: 20_000 << self.rng.below(12),
        };
        let limits = DecodeLimits::default;
        self.pipes
            .insert(near, Pipe::new(far.0, far.1, weather, limits()));
        self.pipes
            .insert(far, Pipe::new(near.0, near.1, weather, limits()));
        let opened = |connection, origin, from: usize| Input::Opened {
            connection,
            origin,
            remote: format!("host:{from}"),
        };
        self.soon(to, opened(far.1, Origin::Accepted, index));
        self.soon(index, opened(near.1, Origin::Dialed(dial), to));
    }

    /// Confirms what the system took.
    pub(super) fn sent(&mut self, (index, connection): Ending, taken: Vec<usize>) {
        for bytes in taken {
            self.soon(index, Input::Sent { connection, bytes });
        }
    }

    pub(super) fn schedule(&mut self, end: Ending) {
        let Some(pipe) = self.pipes.get_mut(&end) else {
            return;
        };
        if pipe.stalled || pipe.scheduled || pipe.is_empty() {
            return;
        }
        pipe.scheduled = true;
        let delay = pipe.delay(64);
        self.later(delay, Happening::Deliver(end));
    }

    /// Delivers some bytes, cut anywhere.
    pub(super) fn deliver(&mut self, end: Ending) {
        let most = usize::try_from(1 + self.rng.below(3000)).unwrap_or(1);
        let Some(pipe) = self.pipes.get_mut(&end) else {
            return;
        };
        pipe.scheduled = false;
        if pipe.stalled {
            return;
        }
        let (delivery, taken) = pipe.deliver(most);
        let (to, connection) = (pipe.to, pipe.to_connection);
        for (message, bytes) in delivery.messages {
            self.soon(
                to,
                Input::Received {
                    connection,
                    message,
                    bytes,
                },
            );
        }
        if delivery.mid_frame {
            self.soon(to, Input::Progress { connection });
        }
        self.sent(end, taken);
        match delivery.fault {
            Some(fault) => self.hang_up((to, connection), fault, LinkFault::Closed),
            None => self.schedule(end),
        }
    }

    /// Ends a connection: `end` hears `near`, the other side hears `far`.
    pub(super) fn hang_up(&mut self, end: Ending, near: LinkFault, far: LinkFault) {
        let Some(pipe) = self.pipes.remove(&end) else {
            return;
        };
        let other = (pipe.to, pipe.to_connection);
        self.soon(
            end.0,
            Input::Lost {
                connection: end.1,
                fault: near,
            },
        );
        if self.pipes.remove(&other).is_some() {
            self.soon(
                other.0,
                Input::Lost {
                    connection: other.1,
                    fault: far,
                },
            );
        }
    }
}
