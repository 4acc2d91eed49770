//! When to ask what of a tailnet, and what comes of it.

use super::{Attributes, Device, attributes, devices, status};
use crate::id::NodeId;
use crate::node::Discovered;
use crate::time::Instant;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

/// Most devices that are looked at.
pub const MOST_DEVICES: usize = 256;

/// Between two looks at the list of devices (the reference's period).
const DEVICES_EVERY: Duration = Duration::from_secs(5);

/// Between two looks at the program's status, and at the attributes of one device.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Between two looks at a device that is no node, or whose node answers.
const SETTLED_EVERY: Duration = Duration::from_secs(60);

/// Until this node's attributes are written again, though they stay.
const TELL_EVERY: Duration = Duration::from_secs(600);

/// The longest wait after failures.
const MOST_WAIT: Duration = Duration::from_secs(120);

/// Something to find out, or to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Run `tailscale status --json`.
    Status,
    /// Get the tailnet's devices from the API.
    Devices,
    /// Get a device's attributes from the API.
    Attributes {
        /// Its id.
        device: String,
    },
    /// Write an attribute of this machine's device by the API.
    Tell {
        /// Its id.
        device: String,
        /// The attribute.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Connect and hang up: does anybody take connections there?
    Knock {
        /// Where.
        address: SocketAddr,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This; [`Watch::done`] takes the answer.
    Ask(Ask),
    /// Nothing until then.
    Wait(Instant),
}

/// What is new.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The peers that are known now, all of them.
    Peers(Vec<Discovered>),
    /// Something does not work; told once for each run of failures.
    Trouble(String),
}

/// Watches a tailnet. One thing is asked at a time.
#[derive(Debug)]
pub struct Watch {
    own: Attributes,
    /// Only these nodes count, unless there are none.
    nodes: Vec<NodeId>,
    /// There is a key for the API.
    api: bool,
    /// This machine's device.
    device: Option<String>,
    devices: BTreeMap<String, Known>,
    /// This node's attributes that are still to be written.
    untold: VecDeque<(&'static str, String)>,
    status: Timer,
    list: Timer,
    tell: Timer,
    last: Vec<Discovered>,
}

#[derive(Debug)]
struct Known {
    address: core::net::IpAddr,
    peer: Option<Discovered>,
    timer: Timer,
}

/// When something is due, and how often in a row it failed.
#[derive(Clone, Copy, Debug, Default)]
struct Timer {
    at: Instant,
    failures: u32,
}

impl Timer {
    fn succeeded(&mut self, next: Instant) {
        *self = Self {
            at: next,
            failures: 0,
        };
    }

    /// Whether it is the first failure of a run.
    fn failed(&mut self, now: Instant, every: Duration) -> bool {
        let wait = every * (1 << self.failures.min(8));
        self.at = now + wait.min(MOST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }
}

impl Watch {
    /// A watch for a node that says this of itself. Without the API's key others' nodes are looked
    /// for at its port.
    #[must_use]
    pub fn new(own: Attributes, nodes: Vec<NodeId>, api: bool) -> Self {
        Self {
            own,
            nodes,
            api,
            device: None,
            devices: BTreeMap::new(),
            untold: VecDeque::new(),
            status: Timer::default(),
            list: Timer::default(),
            tell: Timer::default(),
            last: Vec::new(),
        }
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Step {
        if self.status.at <= now {
            return Step::Ask(Ask::Status);
        }
        let mut wait = self.status.at;
        if let Some(device) = self.device.clone().filter(|_| self.api) {
            if self.tell.at <= now {
                if self.untold.is_empty() {
                    self.untold = self.own.encode().into();
                }
                if let Some((name, value)) = self.untold.front().cloned() {
                    return Step::Ask(Ask::Tell {
                        device,
                        name,
                        value,
                    });
                }
            }
            if self.list.at <= now {
                return Step::Ask(Ask::Devices);
            }
            wait = wait.min(self.tell.at).min(self.list.at);
        }
        let next = self.devices.iter().min_by_key(|(_, known)| known.timer.at);
        let Some((id, known)) = next else {
            return Step::Wait(wait);
        };
        if known.timer.at > now {
            return Step::Wait(wait.min(known.timer.at));
        }
        Step::Ask(if self.api {
            Ask::Attributes { device: id.clone() }
        } else {
            let address = SocketAddr::new(known.address, self.own.port);
            Ask::Knock { address }
        })
    }

    /// Takes what came of an ask, at `unix` seconds since 1970.
    pub fn done(
        &mut self,
        now: Instant,
        unix: i64,
        ask: &Ask,
        answer: Result<&[u8], String>,
    ) -> Vec<News> {
        let trouble = match ask {
            Ask::Status => self.status_came(now, answer),
            Ask::Devices => self.devices_came(now, unix, answer),
            Ask::Attributes { device } => self.attributes_came(now, device, answer),
            Ask::Tell { .. } => self.told(now, answer),
            Ask::Knock { address } => {
                self.knocked(now, *address, answer.is_ok());
                None
            }
        };
        let mut news: Vec<News> = trouble.map(News::Trouble).into_iter().collect();
        let peers = self.devices.values().filter_map(|known| known.peer.clone());
        let peers: Vec<Discovered> = peers.collect();
        if peers != self.last {
            self.last.clone_from(&peers);
            news.push(News::Peers(peers));
        }
        news
    }

    fn status_came(&mut self, now: Instant, answer: Result<&[u8], String>) -> Option<String> {
        let read = answer.and_then(|bytes| status(bytes).map_err(|error| error.to_string()));
        match read {
            Ok(status) => {
                self.status.succeeded(now + LOOK_EVERY);
                self.device = Some(status.own);
                if !self.api {
                    self.refresh(now, status.peers);
                }
                None
            }
            Err(error) => self
                .status
                .failed(now, LOOK_EVERY)
                .then(|| format!("`tailscale status --json`: {error}; asking again")),
        }
    }

    fn devices_came(
        &mut self,
        now: Instant,
        unix: i64,
        answer: Result<&[u8], String>,
    ) -> Option<String> {
        let read = answer.and_then(|bytes| devices(bytes, unix).map_err(|error| error.to_string()));
        match read {
            Ok(devices) => {
                self.list.succeeded(now + DEVICES_EVERY);
                self.refresh(now, devices);
                None
            }
            Err(error) => self.list.failed(now, DEVICES_EVERY).then(|| {
                format!("the devices of the tailnet are not known: {error}; asking again")
            }),
        }
    }

    /// Looks at those that are there, and no longer at the others.
    fn refresh(&mut self, now: Instant, devices: Vec<Device>) {
        let own = self.device.as_ref();
        let there = devices.into_iter().filter(|device| {
            let is_own = own == Some(&device.id) || own.is_some() && own == device.stable.as_ref();
            device.active && !is_own
        });
        let there: BTreeMap<String, core::net::IpAddr> = there
            .map(|device| (device.id, device.address))
            .take(MOST_DEVICES)
            .collect();
        self.devices
            .retain(|id, known| there.get(id) == Some(&known.address));
        for (id, address) in there {
            self.devices.entry(id).or_insert_with(|| Known {
                address,
                peer: None,
                timer: Timer {
                    at: now,
                    failures: 0,
                },
            });
        }
    }

    fn attributes_came(
        &mut self,
        now: Instant,
        device: &str,
        answer: Result<&[u8], String>,
    ) -> Option<String> {
        let known = self.devices.get_mut(device)?;
        let read = answer.and_then(|bytes| attributes(bytes).map_err(|error| error.to_string()));
        match read {
            Ok(found) => {
                let counts = |node: &NodeId| {
                    *node != self.own.node && (self.nodes.is_empty() || self.nodes.contains(node))
                };
                let found = found.filter(|found| counts(&found.node));
                let every = if found.is_some() {
                    LOOK_EVERY
                } else {
                    SETTLED_EVERY
                };
                known.timer.succeeded(now + every);
                known.peer = found.map(|found| Discovered {
                    node: Some(found.node),
                    address: SocketAddr::new(known.address, found.port).to_string(),
                    description: String::from("TS"),
                    capabilities: Some(found.capabilities),
                });
                None
            }
            // What it said before may still be so; the others are asked all the same.
            Err(error) => known.timer.failed(now, DEVICES_EVERY).then(|| {
                let address = known.address;
                format!("the attributes of the device at {address} are not known: {error}")
            }),
        }
    }

    fn told(&mut self, now: Instant, answer: Result<&[u8], String>) -> Option<String> {
        match answer {
            Ok(_) => {
                self.untold.pop_front();
                let again = if self.untold.is_empty() {
                    TELL_EVERY
                } else {
                    Duration::ZERO
                };
                self.tell.succeeded(now + again);
                None
            }
            Err(error) => self
                .tell
                .failed(now, LOOK_EVERY)
                .then(|| format!("the tailnet cannot be told of this node: {error}; trying again")),
        }
    }

    fn knocked(&mut self, now: Instant, address: SocketAddr, opened: bool) {
        let known = self.devices.values_mut();
        let Some(known) = known
            .into_iter()
            .find(|known| known.address == address.ip())
        else {
            return;
        };
        if !opened {
            // Once a peer, it is watched by the node, which tells of it too.
            known.timer.failed(now, DEVICES_EVERY);
            return;
        }
        known.timer.succeeded(now + SETTLED_EVERY);
        known.peer = Some(Discovered {
            node: None,
            address: address.to_string(),
            description: String::from("TS"),
            capabilities: None,
        });
    }
}
