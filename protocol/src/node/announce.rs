//! Discovery by broadcasts: announcing this node, and taking announcements for what they are, hints
//! from strangers. Nothing is believed of one but where to knock.

use super::find::{Found, Source};
use super::output::{Event, Output};
use super::{Instant, Node};
use crate::discovery::announcement::{Announcement, AnnouncementError};
use crate::discovery::interface::Interface;
use crate::id::NodeId;
use crate::topology::Capabilities;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr, SocketAddrV4};

/// Most interfaces that are announced over; a machine with more has them for containers.
const MOST_INTERFACES: usize = 64;

/// What was complained about and is not told again: this much of it is remembered.
const MOST_COMPLAINTS: usize = 64;

/// Troubles with strangers that are told between two announcements; a flood of them, each from
/// another address, fills no log.
const MOST_TROUBLES: u32 = 8;

/// What this node does about broadcasts.
#[derive(Debug)]
pub(super) struct Announcing {
    /// When to announce next.
    pub(super) at: Instant,
    /// How many datagrams may still come until then.
    left: u32,
    /// How many troubles with strangers may still be told until then.
    troubles: u32,
    /// Already told to the application.
    complaints: VecDeque<String>,
}

impl Announcing {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            at,
            left: 0,
            troubles: 0,
            complaints: VecDeque::new(),
        }
    }
}

impl Node {
    /// It is time to announce: whoever was not heard for too long is forgotten, and the driver is
    /// asked over which interfaces this node can be reached now.
    pub(super) fn look_around(&mut self) {
        // Until the driver answers; it always does.
        self.announcing.at = Instant::FAR_FUTURE;
        let datagrams = self.config.limits.announcements;
        self.announcing.left = datagrams;
        self.allow_troubles();
        self.outputs.push_back(Output::Listen { datagrams });
        self.list_interfaces();
        self.forget_silent();
    }

    /// Asks the driver for this machine's addresses, unless it was.
    pub(super) fn list_interfaces(&mut self) {
        if !core::mem::replace(&mut self.lists_interfaces, true) {
            self.outputs.push_back(Output::ListInterfaces);
        }
    }

    /// The driver tells this machine's addresses.
    pub(super) fn interfaces(&mut self, interfaces: Result<Vec<Interface>, String>) {
        self.lists_interfaces = false;
        let interfaces = interfaces.unwrap_or_else(|error| {
            self.tell_once(&error, || {
                format!("this machine's addresses are not known: {error}")
            });
            Vec::new()
        });
        self.probe(&interfaces);
        if self.announcing.at == Instant::FAR_FUTURE {
            self.announce(interfaces);
        }
    }

    /// Announces this node over each of these interfaces.
    fn announce(&mut self, mut interfaces: Vec<Interface>) {
        let Some(broadcast) = &self.config.discovery.broadcast else {
            return;
        };
        let (node_port, target_port) = (broadcast.node_port, broadcast.target_port);
        self.announcing.at = self.now + self.config.timing.announce_every;
        if self.leaving {
            return;
        }
        interfaces.sort_by_key(Interface::order);
        let machine = self.machine();
        for interface in interfaces.into_iter().take(MOST_INTERFACES) {
            let (node, machine) = (self.config.node.clone(), machine.clone());
            let payload = Announcement::over(&interface.name, node, node_port, machine).encode();
            for target in interface.targets() {
                self.outputs.push_back(Output::Broadcast {
                    from: interface.address,
                    to: SocketAddrV4::new(target, target_port),
                    payload: payload.clone(),
                });
            }
        }
    }

    /// This machine, as strangers are told of it.
    pub(super) fn machine(&self) -> Capabilities {
        // Reference nodes read it too: nothing in it is ours alone.
        Capabilities {
            engine: None,
            speed: None,
            ..self.config.capabilities.clone()
        }
    }

    /// A datagram came to the port for announcements.
    pub(super) fn heard(&mut self, from: IpAddr, payload: &[u8]) {
        let Some(broadcast) = &self.config.discovery.broadcast else {
            return;
        };
        // The driver was told how many; what it hands in beyond them is not worth a look.
        let Some(left) = self.announcing.left.checked_sub(1) else {
            return;
        };
        self.announcing.left = left;
        let announced = match Announcement::decode(payload) {
            Ok(announced) => announced,
            // Somebody else's business on the same port.
            Err(AnnouncementError::OtherType(_)) => return,
            // Told by address and not by content, which may be another one each time.
            Err(error) => {
                return self.tell_once(&from.to_string(), || {
                    format!("a datagram from {from} is no announcement: {error}")
                });
            }
        };
        let wanted = |list: &[NodeId]| list.is_empty() || list.contains(&announced.node);
        let kinds = &broadcast.kinds;
        if announced.node == self.config.node
            || !wanted(&broadcast.nodes)
            || !(kinds.is_empty() || kinds.contains(&announced.kind))
        {
            return;
        }
        self.found(Found {
            source: Source::Udp,
            address: SocketAddr::new(from, announced.port).to_string(),
            description: announced.description(),
            node: Some(announced.node),
            capabilities: Some(announced.capabilities),
            priority: Some(announced.priority),
        });
    }

    /// Tells of a trouble that may come again and again, the first time that `what` is in trouble.
    pub(super) fn tell_once(&mut self, what: &str, reason: impl FnOnce() -> String) {
        if self.is_worth_a_word(what) {
            self.tell(Event::BroadcastTrouble { reason: reason() });
        }
    }

    /// A new time for troubles with strangers begins.
    pub(super) fn allow_troubles(&mut self) {
        self.announcing.troubles = MOST_TROUBLES;
    }

    /// Whether a trouble with a stranger is worth a word: it is its first, and there were few others.
    pub(super) fn is_worth_a_word(&mut self, what: &str) -> bool {
        if self.announcing.troubles == 0 || !self.is_first(what) {
            return false;
        }
        self.announcing.troubles -= 1;
        true
    }

    /// Whether something that happens again and again happens for the first time.
    pub(super) fn is_first(&mut self, what: &str) -> bool {
        let complaints = &mut self.announcing.complaints;
        if complaints.iter().any(|known| known == what) {
            return false;
        }
        if complaints.len() >= MOST_COMPLAINTS {
            complaints.pop_front();
        }
        complaints.push_back(what.into());
        true
    }
}
