//! Whole rings of nodes in one thread: messages are handed over as values, time stands still
//! unless a test moves it.

use crate::config::{Broadcast, Tcp};
use crate::discovery::interface::Interface;
use crate::dummy::{self, DummyEngine};
use crate::engine::{Engine, EngineCommand, EngineEvent, EngineFailure, FailureKind};
use crate::id::{AskId, NodeId, VisitId};
use crate::node::*;
use crate::topology::{Capabilities, EngineInfo};
use crate::wire::Message;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

/// Nodes and the pipes between them. Node `i` listens at `host:i`.
pub(super) struct Net {
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    pub(super) pipes: BTreeMap<(usize, ConnectionId), (usize, ConnectionId)>,
    pub(super) queue: VecDeque<(usize, Input)>,
    pub(super) last_connection: u64,
    /// Nodes that cannot be dialled.
    pub(super) down: Vec<usize>,
    /// Addresses that nobody answers at, beside those of nodes that are down.
    pub(super) dead: Vec<String>,
    /// How long it takes to get to an address and, over what was dialled there, back.
    pub(super) delays: BTreeMap<String, Duration>,
    slow: BTreeMap<(usize, ConnectionId), Duration>,
    /// What is under way, and when it arrives.
    under_way: Vec<(Instant, usize, Input)>,
    /// Everything that was sent, as `from > to: message`.
    pub(super) sent: Vec<(usize, usize, Message)>,
    /// Announcements over TCP that wait for their answers.
    pub(super) visits: BTreeMap<VisitId, (usize, AskId)>,
    /// Who asked where.
    pub(super) asked: Vec<(usize, String)>,
}

pub(super) struct Host {
    pub(super) node: Node,
    pub(super) engine: DummyEngine,
    pub(super) file: String,
    pub(super) events: Vec<Event>,
    pub(super) commands: Vec<EngineCommand>,
    /// Completions are held back while set.
    pub(super) hung: bool,
    pub(super) broken: bool,
}

pub(super) fn machine(memory: i64) -> Capabilities {
    Capabilities {
        memory,
        engine: Some(EngineInfo {
            name: "dummy".into(),
            version: memory.to_string(),
            ..EngineInfo::default()
        }),
        ..Capabilities::unknown()
    }
}

impl Net {
    /// Nodes `n0`, `n1`, … with these memories, each naming all others.
    pub(super) fn mesh(memories: &[i64]) -> Self {
        Self::found(memories, |config| config.discovery.file = true)
    }

    /// Nodes `n0`, `n1`, … that know nobody, and announce themselves.
    pub(super) fn strangers(memories: &[i64], adjust: fn(&mut Broadcast)) -> Self {
        Self::found(memories, move |config| {
            let mut broadcast = Broadcast {
                node_port: 50_051,
                target_port: 5678,
                nodes: vec![],
                kinds: vec![],
            };
            adjust(&mut broadcast);
            config.discovery.broadcast = Some(broadcast);
        })
    }

    /// Nodes `n0`, `n1`, … that announce themselves over TCP to these hosts of `10.0.0.*`, and to
    /// those of their subnet if they probe it.
    pub(super) fn seeded(memories: &[i64], seeds: &[u8], probe: bool) -> Self {
        let address = |host: &u8| format!("10.0.0.{host}:5678");
        let seeds: Vec<String> = seeds.iter().map(address).collect();
        Self::found(memories, move |config| {
            config.discovery.tcp = Some(Tcp {
                node_port: 50_051,
                seeds: seeds.clone(),
                probe,
                port: 5678,
                nodes: vec![],
            });
        })
    }

    fn found(memories: &[i64], discovery: impl Fn(&mut Config)) -> Self {
        let count = memories.len();
        let file = |own: usize| {
            let peers: Vec<String> = (0..count)
                .filter(|&other| other != own)
                .map(|other| format!(r#""n{other}": {{"address": "host:{}"}}"#, other + 1))
                .collect();
            format!(r#"{{"peers": {{{}}}}}"#, peers.join(", "))
        };
        let host = |(index, &memory): (usize, &i64)| {
            let id = NodeId::from(format!("n{index}"));
            let mut config = Config::new(id, machine(memory));
            discovery(&mut config);
            Host {
                node: Node::new(config, index as u64, Instant::ZERO),
                engine: DummyEngine::new(),
                file: file(index),
                events: vec![],
                commands: vec![],
                hung: false,
                broken: false,
            }
        };
        let hosts = memories.iter().enumerate().map(host).collect();
        Self {
            now: Instant::ZERO,
            hosts,
            pipes: BTreeMap::new(),
            queue: VecDeque::new(),
            last_connection: 0,
            down: vec![],
            dead: vec![],
            delays: BTreeMap::new(),
            slow: BTreeMap::new(),
            under_way: vec![],
            sent: vec![],
            visits: BTreeMap::new(),
            asked: vec![],
        }
    }

    /// A mesh whose nodes all know each other.
    pub(super) fn settled(memories: &[i64]) -> Self {
        let mut net = Self::mesh(memories);
        net.advance(Duration::from_secs(10));
        for host in &net.hosts {
            assert_eq!(
                host.node.topology.nodes.len(),
                memories.len(),
                "{:?}",
                host.events
            );
        }
        net
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        self.input_later(index, input);
        self.run();
    }

    /// Hands in what is queued, and what comes of it, until nothing is left.
    pub(super) fn run(&mut self) {
        while let Some((index, input)) = self.queue.pop_front() {
            let now = self.now;
            self.hosts[index].node.handle_input(now, input);
            self.drain(index);
        }
    }

    pub(super) fn drain(&mut self, index: usize) {
        while let Some(output) = self.hosts[index].node.poll_output() {
            self.carry_out(index, output);
        }
    }

    pub(super) fn input_later(&mut self, index: usize, input: Input) {
        self.queue.push_back((index, input));
    }

    pub(super) fn carry_out(&mut self, index: usize, output: Output) {
        match output {
            Output::Dial { dial, address } => self.dial(index, dial, &address),
            Output::Send {
                connection,
                message,
            } => {
                self.input_later(
                    index,
                    Input::Sent {
                        connection,
                        bytes: 9,
                    },
                );
                if let Some(&(to, other)) = self.pipes.get(&(index, connection)) {
                    self.sent.push((index, to, message.clone()));
                    let received = Input::Received {
                        connection: other,
                        message,
                        bytes: 9,
                    };
                    match self.slow.get(&(index, connection)) {
                        Some(&delay) => self.under_way.push((self.now + delay, to, received)),
                        None => self.input_later(to, received),
                    }
                }
            }
            Output::Close { connection } => self.cut(index, connection, LinkFault::Local),
            Output::ReadDiscoveryFile => {
                let content = Ok(Bytes::from(self.hosts[index].file.clone()));
                self.input_later(index, Input::DiscoveryFile(content));
            }
            Output::ListInterfaces => {
                let interfaces = self.interfaces(index);
                self.input_later(index, Input::Interfaces(Ok(interfaces)));
            }
            Output::Broadcast { from, to, payload } => self.broadcast(from, to, &payload),
            Output::Listen { .. } => {}
            Output::Ask {
                ask,
                address,
                payload,
            } => self.ask(index, ask, &address, payload),
            Output::Answer { visit, payload } => {
                let (asker, ask) = self.visits.remove(&visit).expect("nobody is told twice");
                let from = self.address(index).into();
                let answer = Ok((from, payload.unwrap_or_default()));
                self.input_later(asker, Input::Answered { ask, answer });
            }
            Output::Compute(command) => {
                let host = &mut self.hosts[index];
                host.commands.push(command.clone());
                if host.hung {
                    return;
                }
                let call = command.call();
                let event = if host.broken && matches!(command, EngineCommand::Forward { .. }) {
                    let failure = EngineFailure::new(FailureKind::Internal, "it smokes");
                    EngineEvent::Failed { call, failure }
                } else {
                    host.engine.execute(command, &mut |_| {})
                };
                self.input_later(index, Input::Engine(event));
            }
            Output::Event(event) => self.hosts[index].events.push(event),
        }
    }

    /// A node announces itself to another over TCP.
    fn ask(&mut self, index: usize, ask: AskId, address: &str, payload: Bytes) {
        let place = address.strip_prefix("10.0.0.");
        let host = place.and_then(|place| place.strip_suffix(":5678")?.parse::<usize>().ok());
        let to = host.and_then(|host| host.checked_sub(1));
        self.asked.push((index, address.to_string()));
        let Some(to) = to.filter(|to| *to < self.hosts.len() && !self.down.contains(to)) else {
            let answer = Err(String::from("connection refused"));
            self.input_later(index, Input::Answered { ask, answer });
            return;
        };
        self.last_connection += 1;
        let visit = VisitId(self.last_connection);
        self.visits.insert(visit, (index, ask));
        let from = self.address(index).into();
        self.input_later(
            to,
            Input::Asked {
                visit,
                from,
                payload,
            },
        );
    }

    /// Node `i` has the address `10.0.0.i + 1` on the one wire there is.
    fn address(&self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, u8::try_from(index + 1).expect("few nodes"))
    }

    fn interfaces(&self, index: usize) -> Vec<Interface> {
        vec![Interface {
            name: String::from("eth0"),
            address: self.address(index),
            broadcast: Some(Ipv4Addr::new(10, 0, 0, 255)),
        }]
    }

    /// Everybody on the wire hears it, who says it too.
    pub(super) fn broadcast(&mut self, from: Ipv4Addr, to: SocketAddrV4, payload: &Bytes) {
        assert_eq!(to.port(), 5678);
        for index in 0..self.hosts.len() {
            let (from, payload) = (from.into(), payload.clone());
            if !self.down.contains(&index) {
                self.input_later(index, Input::Datagram { from, payload });
            }
        }
    }

    pub(super) fn dial(&mut self, index: usize, dial: DialId, address: &str) {
        let place = address
            .strip_prefix("host:")
            .or_else(|| address.strip_prefix("alt:"))
            .or_else(|| address.strip_prefix("10.0.0.")?.strip_suffix(":50051"));
        let to = place.and_then(|n| n.parse::<usize>().ok());
        let to = to.and_then(|n| n.checked_sub(1));
        let dead = self.dead.iter().any(|dead| dead == address);
        let there = |to: &usize| *to < self.hosts.len() && !self.down.contains(to) && !dead;
        let Some(to) = to.filter(there) else {
            let reason = String::from("connection refused");
            self.input_later(index, Input::DialFailed { dial, reason });
            return;
        };
        self.last_connection += 2;
        let (near, far) = (
            ConnectionId(self.last_connection),
            ConnectionId(self.last_connection + 1),
        );
        self.pipes.insert((index, near), (to, far));
        self.pipes.insert((to, far), (index, near));
        if let Some(&delay) = self.delays.get(address) {
            self.slow.insert((index, near), delay);
            self.slow.insert((to, far), delay);
        }
        let remote = format!("host:{index}");
        self.input_later(
            to,
            Input::Opened {
                connection: far,
                origin: Origin::Accepted,
                remote,
            },
        );
        let remote = address.to_string();
        let origin = Origin::Dialed(dial);
        self.input_later(
            index,
            Input::Opened {
                connection: near,
                origin,
                remote,
            },
        );
    }

    pub(super) fn cut(&mut self, index: usize, connection: ConnectionId, fault: LinkFault) {
        let Some((to, other)) = self.pipes.remove(&(index, connection)) else {
            return;
        };
        self.pipes.remove(&(to, other));
        self.input_later(index, Input::Lost { connection, fault });
        if !self.down.contains(&to) {
            self.input_later(
                to,
                Input::Lost {
                    connection: other,
                    fault: LinkFault::Closed,
                },
            );
        }
    }

    /// Ends a node without a word.
    pub(super) fn kill(&mut self, index: usize) {
        self.down.push(index);
        let all: Vec<_> = self
            .pipes
            .keys()
            .filter(|(of, _)| *of == index)
            .copied()
            .collect();
        for key in all {
            if let Some((to, other)) = self.pipes.remove(&key) {
                self.pipes.remove(&(to, other));
                self.input(
                    to,
                    Input::Lost {
                        connection: other,
                        fault: LinkFault::Closed,
                    },
                );
            }
        }
    }

    /// Lets time pass for every living node, deadline by deadline.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = (0..self.hosts.len())
                .filter(|index| !self.down.contains(index))
                .filter_map(|index| Some((self.hosts[index].node.poll_timeout()?.at, index)))
                .min();
            let arrives = self.under_way.iter().map(|(at, ..)| *at).min();
            if let Some(at) = arrives.filter(|at| *at <= end && next.is_none_or(|n| *at <= n.0)) {
                self.now = self.now.max(at);
                let first = self.under_way.iter().position(|(when, ..)| *when == at);
                let (_, to, input) = self.under_way.remove(first.expect("the least is there"));
                self.input(to, input);
                continue;
            }
            match next {
                Some((at, index)) if at <= end => {
                    self.now = self.now.max(at);
                    let now = self.now;
                    self.hosts[index].node.handle_timeout(now);
                    self.drain(index);
                    self.run();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    pub(super) fn submit(&mut self, index: usize, request: &str, max_tokens: u32) {
        let submit = Submit {
            max_tokens,
            ..counting(request)
        };
        self.input(index, Input::Command(Command::Submit(submit)));
    }

    pub(super) fn tokens(&self, index: usize) -> Vec<u32> {
        let token = |event: &Event| match event {
            Event::Token { token, .. } => Some(*token),
            _ => None,
        };
        self.hosts[index].events.iter().filter_map(token).collect()
    }

    pub(super) fn failures(&self, index: usize) -> Vec<String> {
        let failure = |event: &Event| match event {
            Event::Failed { failure, .. } => Some(failure.to_string()),
            Event::Rejected { rejection, .. } => Some(rejection.to_string()),
            _ => None,
        };
        self.hosts[index]
            .events
            .iter()
            .filter_map(failure)
            .collect()
    }

    pub(super) fn at_rest(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            if self.down.contains(&index) {
                continue;
            }
            let status = host.node.status();
            assert!(
                status.requests.is_empty(),
                "n{index} keeps {:?}",
                status.requests
            );
            assert!(status.jobs.is_empty(), "n{index} keeps {:?}", status.jobs);
            assert_eq!(status.calls, 0, "n{index} awaits its engine");
            assert_eq!(status.queued, 0, "n{index} has messages to send");
        }
    }
}

/// A request for the model that counts.
pub(super) fn counting(request: &str) -> Submit {
    Submit {
        request: request.into(),
        model: dummy::MODEL.into(),
        layers: dummy::LAYERS,
        bytes: 0,
        cost: Default::default(),
        fingerprint: 0,
        prompt: dummy::PROMPT.into(),
        tokens: vec![dummy::PROMPT_TOKEN],
        end_tokens: vec![dummy::END_TOKEN],
        sampling: Default::default(),
        max_tokens: 100,
        timeout: Duration::from_secs(60),
        trace: false,
    }
}
