//! One machine of the ring: a node, its engine, its clock, and what its clients were told.

use super::engine::TrailEngine;
use exo_protocol::engine::EngineCommand;
use exo_protocol::topology::Capabilities;
use exo_protocol::{Config, Event, FinishReason, Instant, Node, RequestId, config::Discovery};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) engine: TrailEngine,
    /// Commands that the engine has not come to.
    pub(crate) commands: VecDeque<EngineCommand>,
    pub(crate) computing: bool,
    /// How far its clock is ahead of the world's.
    pub(crate) ahead: Duration,
    pub(crate) up: bool,
    /// Counts its lives: what was meant for an earlier one is thrown away.
    pub(crate) life: u64,
    pub(crate) clients: BTreeMap<RequestId, Client>,
    /// The wake-up that is scheduled.
    pub(crate) wakes_at: Option<Instant>,
}

/// What a client was told of its request.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) tokens: Vec<u32>,
    pub(crate) end: Option<End>,
    /// When it must have ended, by the world's clock.
    pub(crate) deadline: Instant,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finished(FinishReason),
    Failed(String),
    Rejected(String),
}

impl Host {
    pub(crate) fn new(index: usize, memory: i64, seed: u64, now: Instant) -> Self {
        Self {
            node: Node::new(config(index, memory), seed, now),
            engine: TrailEngine::default(),
            commands: VecDeque::new(),
            computing: false,
            ahead: Duration::ZERO,
            up: true,
            life: 0,
            clients: BTreeMap::new(),
            wakes_at: None,
        }
    }

    /// A new life after a crash: nothing is remembered.
    pub(crate) fn restart(&mut self, index: usize, memory: i64, seed: u64, now: Instant) {
        let (life, clients) = (self.life + 1, std::mem::take(&mut self.clients));
        *self = Self {
            life,
            clients,
            ..Self::new(index, memory, seed, now)
        };
    }

    /// Tells its clients.
    ///
    /// # Errors
    /// What a client was told that it must not be told.
    pub(crate) fn hear(&mut self, event: Event) -> Result<(), String> {
        let (request, end) = match event {
            Event::Token {
                request,
                index,
                token,
            } => {
                let client = self.clients.entry(request.clone()).or_default();
                if let Some(end) = &client.end {
                    return Err(format!("{request}: token {token} after {end:?}"));
                }
                // The prompt is one position, so the first token comes after one.
                let expected = 1001 + index;
                if token != expected || client.tokens.len() as u64 != u64::from(index) {
                    let told = &client.tokens;
                    return Err(format!(
                        "{request}: token {token} as number {index} after {told:?}"
                    ));
                }
                client.tokens.push(token);
                return Ok(());
            }
            Event::Finished {
                request, reason, ..
            } => (request, End::Finished(reason)),
            Event::Failed { request, failure } => (request, End::Failed(failure.to_string())),
            Event::Rejected { request, rejection } => {
                (request, End::Rejected(rejection.to_string()))
            }
            _ => return Ok(()),
        };
        let client = self.clients.entry(request.clone()).or_default();
        match client.end.replace(end.clone()) {
            None => Ok(()),
            Some(before) => Err(format!("{request}: {end:?} after {before:?}")),
        }
    }
}

pub(crate) fn name(index: usize) -> String {
    format!("n{index}")
}

/// Small limits and little patience, so that runs reach both.
fn config(index: usize, memory: i64) -> Config {
    let capabilities = Capabilities {
        memory,
        ..Capabilities::unknown()
    };
    let mut config = Config::new(name(index).into(), capabilities);
    config.discovery = Discovery::Manual;
    config.timing.stage_timeout = Duration::from_secs(30);
    config.limits.requests = 6;
    config.limits.connections = 64;
    config.limits.outbox = 256;
    config.limits.ended = 64;
    config
}

/// Names every host but `own`.
pub(crate) fn discovery_file(own: usize, hosts: usize) -> String {
    let peers: Vec<String> = (0..hosts)
        .filter(|other| *other != own)
        .map(|other| format!(r#""{}": {{"address": "host:{}"}}"#, name(other), other + 1))
        .collect();
    format!(r#"{{"peers": {{{}}}}}"#, peers.join(", "))
}
