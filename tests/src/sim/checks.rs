//! What must hold, one sentence each. A run that breaks one panics with its seed.
//!
//! Each was seen to catch the code being broken on purpose (seed, hosts): the stage after the next one
//! gets the hidden state (11, 3: a broken trail); a token is told twice (0, 2) or a lost member is
//! ignored (39, 5: tokens with a gap); the limit of requests is not looked at in a ring (9, 3); the
//! KV cache is not freed at the end, or a lost peer is not dialled again (0, 2: what is left at rest).

use super::host::End;
use super::world::World;
use exo_protocol::FinishReason;

impl World {
    /// No limit of `Config` is ever passed.
    pub(crate) fn check_limits(&self, index: usize) {
        let Some(host) = self.hosts.get(index) else {
            return;
        };
        let status = host.node.status();
        self.must(status.requests.len() <= 6, || {
            format!("n{index}: {:?}", status.requests)
        });
        self.must(status.connections <= 65, || {
            format!("n{index} has {} connections", status.connections)
        });
        self.must(status.queued <= 256 * status.connections.max(1), || {
            format!("n{index} queues {} messages", status.queued)
        });
    }

    /// Every request ends within its time, whatever happens.
    pub(crate) fn check_deadlines(&self) {
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.up) {
            for (request, client) in &host.clients {
                let late = client.end.is_none() && client.deadline < self.now;
                self.must(!late, || format!("n{index}: {request} did not end in time"));
            }
        }
    }

    /// A request that finished told every token of its answer.
    pub(crate) fn check_answers(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            for (request, client) in &host.clients {
                let whole = match client.end {
                    Some(End::Finished(FinishReason::Stop)) => super::engine::ANSWER,
                    Some(End::Finished(FinishReason::Length)) => super::world::SHORT,
                    _ => continue,
                };
                let told = client.tokens.len() as u64;
                self.must(told == u64::from(whole), || {
                    format!("n{index}: {request} finished with {:?}", client.tokens)
                });
            }
        }
    }

    /// When the noise is over and time has passed, nothing is left: no request, no call, no message,
    /// no KV cache; and all nodes see each other.
    pub(crate) fn check_rest(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            let status = host.node.status();
            self.must(status.requests.is_empty(), || {
                format!("n{index} keeps {:?}", status.requests)
            });
            self.must(status.calls == 0, || {
                format!("n{index} awaits {} calls", status.calls)
            });
            self.must(status.queued == 0, || {
                format!("n{index} queues {}", status.queued)
            });
            self.must(host.engine.positions.is_empty(), || {
                format!("n{index} keeps the KV cache of {:?}", host.engine.positions)
            });
            let seen = status.topology.nodes.len();
            self.must(seen == self.hosts.len(), || {
                format!("n{index} sees {seen} nodes")
            });
        }
    }

    pub(crate) fn must(&self, holds: bool, what: impl FnOnce() -> String) {
        assert!(
            holds,
            "seed {} with {} hosts, at {}: {}\nagain: cargo run --release -p exo-tests --bin sim -- \
             --seed {} --seeds 1 --hosts {}",
            self.seed,
            self.hosts.len(),
            self.now,
            what(),
            self.seed,
            self.hosts.len(),
        );
    }
}
