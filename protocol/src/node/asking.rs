//! Discovery over TCP: announcing this node to those that the operator names, or to some machines of
//! its subnets, and answering those that announce themselves. What they say of themselves is a hint
//! from a stranger, as in `announce`.

use super::find::{Found, Source};
use super::output::{Event, Output};
use super::{Instant, Node};
use crate::config::Tcp;
use crate::discovery::interface::Interface;
use crate::discovery::tcp::{self, Announce};
use crate::id::{AskId, VisitId};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{IpAddr, SocketAddr, SocketAddrV4};

/// Most asks at the same time; the others wait for them.
const MOST_ASKS: usize = 16;

/// Most machines that a probe tries: those of so many subnets are other machines' containers.
const MOST_PROBED: usize = 64;

/// What this node does about announcements over TCP.
#[derive(Debug)]
pub(super) struct Asking {
    /// When to look for somebody to ask.
    pub(super) at: Instant,
    targets: Vec<Target>,
    last: u64,
    /// How many visitors are still judged until then.
    left: u32,
    /// When this node was last asked by itself.
    met_itself: Option<Instant>,
}

/// Somebody to ask.
#[derive(Debug)]
struct Target {
    /// `host:port`.
    address: String,
    /// The operator did not name it.
    probed: bool,
    /// Under way, and since when.
    asked: Option<(AskId, Instant)>,
    /// When to ask next.
    next: Instant,
    /// In a row.
    failures: u32,
    /// Its current run of failures was told to the application.
    told: bool,
}

impl Target {
    fn new(address: String, probed: bool, next: Instant) -> Self {
        Self {
            address,
            probed,
            asked: None,
            next,
            failures: 0,
            told: false,
        }
    }
}

impl Asking {
    pub(super) fn new(tcp: Option<&Tcp>, now: Instant) -> Self {
        let seeds = tcp.into_iter().flat_map(|tcp| &tcp.seeds);
        let target = |seed: &String| Target::new(seed.clone(), false, now);
        Self {
            at: tcp.map_or(Instant::FAR_FUTURE, |_| now),
            targets: seeds.map(target).collect(),
            last: 0,
            left: 0,
            met_itself: None,
        }
    }

    fn under_way(&self) -> usize {
        let asked = |target: &&Target| target.asked.is_some();
        self.targets.iter().filter(asked).count()
    }
}

impl Node {
    /// It is time to ask again, and to answer as many as before.
    pub(super) fn look_for_targets(&mut self) {
        self.asking.at = self.now + self.config.timing.ask_every;
        self.asking.left = self.config.limits.announcements;
        if self.config.discovery.broadcast.is_none() {
            self.allow_troubles();
            self.forget_silent();
        }
        let probes = self.config.discovery.tcp.as_ref().is_some_and(|t| t.probe);
        if probes {
            self.list_interfaces();
        }
        self.ask_targets();
    }

    /// Tries some machines of each of this machine's subnets too, from now on.
    pub(super) fn probe(&mut self, interfaces: &[Interface]) {
        let Some(Tcp {
            probe: true, port, ..
        }) = self.config.discovery.tcp
        else {
            return;
        };
        let hosts: Vec<String> = tcp::probed(interfaces)
            .take(MOST_PROBED)
            .map(|host| SocketAddrV4::new(host, port).to_string())
            .collect();
        let targets = &mut self.asking.targets;
        targets.retain(|t| !t.probed || t.asked.is_some() || hosts.contains(&t.address));
        for address in hosts {
            if !targets.iter().any(|target| target.address == address) {
                targets.push(Target::new(address, true, self.now));
            }
        }
        self.ask_targets();
    }

    /// Asks those whose time has come, as many as may be asked at once.
    fn ask_targets(&mut self) {
        let room = MOST_ASKS.saturating_sub(self.asking.under_way());
        if self.leaving || self.stopping || room == 0 {
            return;
        }
        let Some(payload) = self.introduction() else {
            return;
        };
        let now = self.now;
        let is_due = |target: &&mut Target| target.asked.is_none() && target.next <= now;
        let Asking { targets, last, .. } = &mut self.asking;
        for target in targets.iter_mut().filter(is_due).take(room) {
            *last += 1;
            let ask = AskId(*last);
            target.asked = Some((ask, now));
            self.outputs.push_back(Output::Ask {
                ask,
                address: target.address.clone(),
                payload: payload.clone(),
            });
        }
    }

    /// What this node says of itself.
    fn introduction(&self) -> Option<Bytes> {
        let tcp = self.config.discovery.tcp.as_ref()?;
        let announce = Announce {
            node: self.config.node.clone(),
            port: tcp.node_port,
            capabilities: self.machine(),
        };
        Some(announce.encode())
    }

    /// An ask came to its end.
    pub(super) fn answered(&mut self, ask: AskId, answer: Result<(IpAddr, Bytes), String>) {
        let is_it = |target: &Target| target.asked.is_some_and(|(number, _)| number == ask);
        let Some(index) = self.asking.targets.iter().position(is_it) else {
            return;
        };
        let hangs_up = answer.as_ref().is_ok_and(|(_, bytes)| bytes.is_empty());
        let told = answer.and_then(|(from, bytes)| {
            if bytes.is_empty() {
                return Err(String::from("it hangs up; perhaps its id is this node's"));
            }
            let announced = Announce::decode_answer(&bytes).map_err(|error| error.to_string());
            Ok((from, announced?))
        });
        let met_itself = self.asking.met_itself;
        let timing = self.config.timing;
        let Some(target) = self.asking.targets.get_mut(index) else {
            return;
        };
        let since = target.asked.take().map(|(_, since)| since);
        match told {
            Ok((from, announced)) => {
                target.next = self.now + timing.ask_every;
                (target.failures, target.told) = (0, false);
                self.met_over_tcp(from, announced);
            }
            // One list of seeds is good for all nodes, though each of them is in it.
            Err(_) if hangs_up && met_itself >= since => {
                target.next = self.now + timing.ask_again_max
            }
            Err(reason) => {
                let wait = timing.ask_every * (1 << target.failures.min(16));
                target.next = self.now + wait.min(timing.ask_again_max);
                target.failures += 1;
                if !target.probed && !core::mem::replace(&mut target.told, true) {
                    let address = target.address.clone();
                    let reason = format!(
                        "{address}, of --tcp-seeds, cannot be asked for its node: {reason}; trying \
                         again"
                    );
                    self.tell(Event::BroadcastTrouble { reason });
                }
            }
        }
        self.ask_targets();
    }

    /// Somebody announces itself. It is answered at once: whether it can be reached is seen later.
    pub(super) fn asked(&mut self, visit: VisitId, from: IpAddr, payload: &[u8]) {
        let payload = self.judge_visitor(from, payload);
        self.outputs.push_back(Output::Answer { visit, payload });
    }

    /// The answer to a visitor, who is sent away without one unless it is another node.
    fn judge_visitor(&mut self, from: IpAddr, payload: &[u8]) -> Option<Bytes> {
        let answer = self.introduction()?;
        self.asking.left = self.asking.left.checked_sub(1)?;
        let announced = match Announce::decode(payload) {
            Ok(announced) => announced,
            // Told by address and not by content, which may be another one each time.
            Err(error) => {
                self.tell_once(&format!("tcp {from}"), || {
                    format!("what {from} sent to the port for announcements is none: {error}")
                });
                return None;
            }
        };
        if announced.node == self.config.node {
            self.asking.met_itself = Some(self.now);
            return None;
        }
        if self.leaving || self.stopping {
            return None;
        }
        self.met_over_tcp(from, announced);
        Some(answer)
    }

    fn met_over_tcp(&mut self, from: IpAddr, announced: Announce) {
        let from = from.to_canonical();
        let Some(tcp) = &self.config.discovery.tcp else {
            return;
        };
        if !tcp.nodes.is_empty() && !tcp.nodes.contains(&announced.node) {
            return;
        }
        self.found(Found {
            source: Source::Tcp,
            address: SocketAddr::new(from, announced.port).to_string(),
            description: format!("TCP ({from})"),
            node: Some(announced.node),
            capabilities: Some(announced.capabilities),
            // Over which interface it came is not told: any that is known is better.
            priority: Some(0),
        });
    }
}
