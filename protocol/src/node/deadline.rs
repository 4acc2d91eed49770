//! When a node wants to be woken, and why.

use super::Node;
use super::peer::Link;
use crate::time::Instant;

/// When the node wants to be woken, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// Why.
    pub timer: Timer,
}

/// The named reasons for a [`Deadline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Timer {
    /// A connection owes something: a reply, the rest of a frame, room for what is written.
    Connection,
    /// The driver has not answered a dial.
    Dial,
    /// The discovery file is due to be read again.
    Discovery,
    /// This node is due to announce itself.
    Announcement,
    /// This node is due to announce itself over TCP.
    Ask,
    /// A peer is due to be dialled.
    Redial,
    /// A request's time is over, or its wait for peers.
    Request,
    /// A stage waited too long.
    Stage,
    /// A training job or a stage of one waited too long.
    Job,
    /// A reference peer is due for a health check.
    Health,
    /// A node of ours was silent for too long.
    Pulse,
    /// A peer is due to tell its topology.
    Topology,
    /// The addresses of a peer are due to be measured.
    Survey,
    /// Layers were not used for long enough.
    Idle,
    /// A peer owes a piece of a file, or is due to be asked again.
    Files,
    /// Peers are due to hear how far a download is.
    Downloads,
}

impl Node {
    pub(super) fn next_deadline(&self) -> Option<Deadline> {
        let stall = self.config.timing.acknowledge;
        let connections = self
            .connections
            .values()
            .filter_map(|connection| connection.deadline(stall))
            .map(|at| Deadline {
                at,
                timer: Timer::Connection,
            });
        let peers = self.peers.values().flat_map(|peer| {
            let link = |link: Link| match link {
                Link::Idle(at) => Deadline {
                    at,
                    timer: Timer::Redial,
                },
                Link::Dialing(_, at) => Deadline {
                    at,
                    timer: Timer::Dial,
                },
                Link::Open(_) => Deadline {
                    at: Instant::FAR_FUTURE,
                    timer: Timer::Redial,
                },
            };
            [
                link(peer.data),
                link(peer.probe),
                Deadline {
                    at: peer.survey.dial_until(),
                    timer: Timer::Dial,
                },
                Deadline {
                    at: peer.survey.at,
                    timer: Timer::Survey,
                },
                Deadline {
                    at: peer.health_at,
                    timer: Timer::Health,
                },
                Deadline {
                    at: peer.topology_at,
                    timer: Timer::Topology,
                },
            ]
        });
        let pulses = self.connections.values().filter_map(|connection| {
            let every = self.probe_every(connection)?;
            Some(Deadline {
                at: connection.extended.as_ref()?.pulse.due(every),
                timer: Timer::Pulse,
            })
        });
        let requests = self.clients.values().map(|client| Deadline {
            at: client.deadline(),
            timer: Timer::Request,
        });
        let once = [
            (self.file.read_at, Timer::Discovery),
            (self.next_expiry(), Timer::Stage),
            (self.next_job_expiry(), Timer::Job),
            (self.announcing.at, Timer::Announcement),
            (self.asking.at, Timer::Ask),
            (self.next_idle(), Timer::Idle),
            (self.next_look_after_files(), Timer::Files),
            (self.downloads.due(), Timer::Downloads),
        ];
        let once = once.map(|(at, timer)| Deadline { at, timer });
        connections
            .chain(pulses)
            .chain(peers)
            .chain(requests)
            .chain(once)
            .filter(|deadline| deadline.at < Instant::FAR_FUTURE)
            .min_by_key(|deadline| (deadline.at, deadline.timer))
    }
}
