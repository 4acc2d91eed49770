//! Files between nodes: who has one, who fetches it, and in which pieces it comes.
//!
//! The application asks for a piece of a file by the hash of the whole, one after the other. The
//! node asks the peers that give files out. Whoever has the piece sends it; whoever is just getting
//! the file sends what it has or says that it comes, and is asked again. When several seek the same
//! at the same time, the one with the least id is told that nobody has it, and fetches it from
//! elsewhere; the others follow. Who seeks other bytes of the same file is none of them: nodes that
//! hold different layers fetch at the same time. Nothing here is trusted: the application compares
//! the hash when all of a file is there, and says who sent what is wrong.

use super::Node;
use super::output::{Event, Found};
use crate::id::{ConnectionId, NodeId};
use crate::time::Instant;
use crate::wire::extension::part;
use crate::wire::{Message, Part, Want};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Pieces that the application may want at the same time.
const MOST_WANTS: usize = 32;

/// Pieces that one peer may want of this node at the same time, and all of them.
const MOST_READS_OF_ONE: usize = 8;
const MOST_READS: usize = 32;

/// The longest name of a file.
const MOST_NAME: usize = 200;

/// Senders of wrong bytes that are remembered.
const MOST_BLAMED: usize = 256;

/// How often a peer is looked after that owes an answer, or asked again for what is to come.
const LOOK: Duration = Duration::from_millis(200);

/// So many looks without an answer, or without anything new, and the peer counts as one that does
/// not have it (30 s).
const PATIENCE: u32 = 150;

/// Whoever was told that nobody has a file is about to fetch it for so long.
const CLAIM: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Files {
    /// What the application wants, by its own number.
    wants: BTreeMap<u64, Wanted>,
    /// Questions to peers, by the number that the peer sees.
    asked: BTreeMap<u64, (u64, NodeId)>,
    /// What peers want, by the number that the application sees.
    reads: BTreeMap<u64, Read>,
    /// Who sent wrong bytes of what.
    blamed: VecDeque<(String, NodeId)>,
    /// The pieces of which the application was told that nobody has them, and until when others wait
    /// for them.
    claims: VecDeque<(Span, Instant)>,
    last: u64,
}

/// A piece of a file.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    from: u64,
    length: u32,
}

impl Span {
    /// Whether the two have a byte in common, or begin at the same one.
    fn meets(&self, other: &Self) -> bool {
        let end = |span: &Self| span.from.saturating_add(span.length.max(1).into());
        self.name == other.name && self.from < end(other) && other.from < end(self)
    }
}

#[derive(Debug)]
struct Wanted {
    span: Span,
    /// Only this peer is asked, until it does not have it.
    prefer: Option<NodeId>,
    peers: BTreeMap<NodeId, Answer>,
}

/// What a peer said of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    Owed {
        question: u64,
        connection: ConnectionId,
        looks: u32,
        at: Instant,
    },
    /// It will have it: asked again at this time.
    Later { looks: u32, at: Instant },
    /// It does not have it.
    Absent,
}

#[derive(Debug)]
struct Read {
    connection: ConnectionId,
    want: u64,
    span: Span,
    node: NodeId,
}

impl Node {
    /// The application wants a piece of a file.
    pub(super) fn want(
        &mut self,
        number: u64,
        name: String,
        from: u64,
        length: u32,
        prefer: Option<NodeId>,
    ) {
        if self.files.wants.len() >= MOST_WANTS || self.files.wants.contains_key(&number) {
            return self.tell(Event::Part {
                want: number,
                found: Found::Nowhere,
            });
        }
        let wanted = Wanted {
            span: Span { name, from, length },
            prefer,
            peers: BTreeMap::new(),
        };
        self.files.wants.insert(number, wanted);
        self.ask_for(number);
    }

    /// The application wants it no more.
    pub(super) fn unwant(&mut self, number: u64) {
        self.files.wants.remove(&number);
        self.files.asked.retain(|_, (want, _)| *want != number);
    }

    /// A peer's bytes turned out to be wrong: it is not asked for that file any more.
    pub(super) fn blame(&mut self, name: String, node: NodeId) {
        if self.files.blamed.len() >= MOST_BLAMED {
            self.files.blamed.pop_front();
        }
        self.files.blamed.push_back((name, node));
    }

    /// Asks those who were not asked yet; all of them, unless one is preferred.
    fn ask_for(&mut self, number: u64) {
        let Some(wanted) = self.files.wants.get(&number) else {
            return;
        };
        let blamed = |node: &NodeId| {
            let mut blamed = self.files.blamed.iter();
            blamed.any(|(name, who)| *name == wanted.span.name && who == node)
        };
        let mut nodes: Vec<NodeId> = Vec::new();
        for peer in self.peers.values().filter(|peer| peer.up && peer.own) {
            let Some(node) = peer.node.clone() else {
                continue;
            };
            let shares = self.route(peer).and_then(|id| self.connections.get(&id));
            let shares = shares.and_then(|connection| connection.extended.as_ref());
            let known = wanted.peers.contains_key(&node) || nodes.contains(&node);
            if shares.is_some_and(|extended| extended.files) && !known && !blamed(&node) {
                nodes.push(node);
            }
        }
        if let Some(prefer) = wanted.prefer.clone() {
            if nodes.contains(&prefer) {
                nodes = alloc::vec![prefer];
            } else if let Some(wanted) = self.files.wants.get_mut(&number) {
                wanted.prefer = None;
            }
        }
        for node in nodes {
            self.ask_peer(number, node, 0);
        }
        self.decide(number);
    }

    fn ask_peer(&mut self, number: u64, node: NodeId, looks: u32) {
        self.files.last += 1;
        let (question, at) = (self.files.last, self.now + LOOK);
        let connection = self.connection_to(&node);
        let Some(wanted) = self.files.wants.get_mut(&number) else {
            return;
        };
        let message = Message::Want(Want {
            want: question,
            from: wanted.span.from,
            length: wanted.span.length,
            name: wanted.span.name.clone(),
        });
        let Some(connection) = connection else {
            wanted.peers.insert(node, Answer::Absent);
            return;
        };
        let owed = Answer::Owed {
            question,
            connection,
            looks,
            at,
        };
        wanted.peers.insert(node.clone(), owed);
        self.files.asked.insert(question, (number, node));
        self.send(connection, message);
    }

    fn answer(&mut self, number: u64, node: &NodeId, answer: Answer) {
        if let Some(wanted) = self.files.wants.get_mut(&number) {
            wanted.peers.insert(node.clone(), answer);
        }
    }

    /// Nobody has it, if everybody said so.
    fn decide(&mut self, number: u64) {
        let Some(wanted) = self.files.wants.get_mut(&number) else {
            return;
        };
        if wanted
            .peers
            .values()
            .any(|answer| *answer != Answer::Absent)
        {
            return;
        }
        if wanted.prefer.take().is_some() {
            return self.ask_for(number);
        }
        let span = wanted.span.clone();
        self.unwant(number);
        let now = self.now;
        self.files.claims.retain(|(_, until)| *until > now);
        if self.files.claims.len() < MOST_WANTS {
            self.files.claims.push_back((span, now + CLAIM));
        }
        self.tell(Event::Part {
            want: number,
            found: Found::Nowhere,
        });
    }

    /// A peer answered.
    pub(super) fn part_came(&mut self, from: ConnectionId, came: Part) {
        let Some((number, node)) = self.files.asked.get(&came.want).cloned() else {
            // Of a question that is settled.
            return;
        };
        let sender = self.extended(from).map(|extended| extended.node.clone());
        if sender.as_ref() != Some(&node) {
            return;
        }
        self.files.asked.remove(&came.want);
        let Some(wanted) = self.files.wants.get(&number) else {
            return;
        };
        let looks = match wanted.peers.get(&node) {
            Some(Answer::Owed { looks, .. }) => *looks,
            _ => 0,
        };
        let fits = came.content.len() <= wanted.span.length as usize;
        let gives = matches!(came.code, part::HERE | part::COMING) && fits;
        if gives && !came.content.is_empty() {
            self.unwant(number);
            return self.tell(Event::Part {
                want: number,
                found: Found::At {
                    node,
                    size: came.size,
                    content: came.content,
                },
            });
        }
        let follows = match came.code {
            part::COMING | part::BUSY => true,
            // Of those who seek the same, the one with the least id fetches it.
            part::SOUGHT => node < self.config.node,
            _ => false,
        };
        let answer = match follows && looks < PATIENCE {
            true => Answer::Later {
                looks,
                at: self.now + LOOK,
            },
            false => Answer::Absent,
        };
        self.answer(number, &node, answer);
        self.decide(number);
    }

    /// A peer wants a piece.
    pub(super) fn want_came(&mut self, from: ConnectionId, want: Want) {
        let Some(node) = self.extended(from).map(|extended| extended.node.clone()) else {
            return;
        };
        let refuse = |code| {
            Message::Part(Part {
                want: want.want,
                size: 0,
                code,
                content: Bytes::new(),
            })
        };
        if !self.config.shares || self.stopping || want.name.len() > MOST_NAME {
            return self.send(from, refuse(part::ABSENT));
        }
        let of_one = self.files.reads.values();
        let of_one = of_one.filter(|read| read.connection == from).count();
        if of_one >= MOST_READS_OF_ONE || self.files.reads.len() >= MOST_READS {
            return self.send(from, refuse(part::BUSY));
        }
        let span = Span {
            name: want.name.clone(),
            from: want.from,
            length: want.length,
        };
        if node < self.config.node {
            self.is_sought_by(&span, &node);
        }
        self.files.last += 1;
        let read = self.files.last;
        self.files.reads.insert(
            read,
            Read {
                connection: from,
                want: want.want,
                span,
                node,
            },
        );
        self.tell(Event::PartWanted {
            read,
            name: want.name,
            from: want.from,
            length: want.length.min(Part::MAX as u32),
        });
    }

    /// A node that goes before this one seeks what it said not to have: it is asked again.
    fn is_sought_by(&mut self, span: &Span, node: &NodeId) {
        let at = self.now + LOOK;
        for wanted in self.files.wants.values_mut() {
            let meets = wanted.span.meets(span);
            let answer = wanted.peers.get_mut(node).filter(|_| meets);
            if let Some(answer @ Answer::Absent) = answer {
                *answer = Answer::Later { looks: 0, at };
            }
        }
    }

    /// The application has looked for what a peer wants.
    pub(super) fn part_read(&mut self, read: u64, size: u64, code: u16, content: Bytes) {
        let Some(read) = self.files.reads.remove(&read) else {
            return;
        };
        let sender = self.extended(read.connection).map(|it| it.node.clone());
        if sender.as_ref() != Some(&read.node) {
            return;
        }
        let now = self.now;
        let sought = || {
            let mut wants = self.files.wants.values();
            wants.any(|wanted| wanted.span.meets(&read.span))
        };
        let claimed = || {
            let mut claims = self.files.claims.iter();
            claims.any(|(span, until)| span.meets(&read.span) && *until > now)
        };
        let code = match code {
            part::HERE => part::HERE,
            _ if !content.is_empty() => part::COMING,
            _ if sought() => part::SOUGHT,
            part::COMING => part::COMING,
            _ if claimed() => part::COMING,
            _ => part::ABSENT,
        };
        let part = Part {
            want: read.want,
            size,
            code,
            content,
        };
        self.send(read.connection, Message::Part(part));
    }

    /// Looks after what peers owe.
    pub(super) fn look_after_files(&mut self) {
        let now = self.now;
        let mut due = Vec::new();
        for (&number, wanted) in &self.files.wants {
            for (node, answer) in &wanted.peers {
                match *answer {
                    Answer::Owed { at, .. } | Answer::Later { at, .. } if at <= now => {
                        due.push((number, node.clone(), *answer));
                    }
                    _ => {}
                }
            }
        }
        for (number, node, answer) in due {
            match answer {
                Answer::Later { looks, .. } => self.ask_peer(number, node, looks + 1),
                Answer::Owed {
                    question,
                    connection,
                    looks,
                    ..
                } if looks < PATIENCE && self.connections.contains_key(&connection) => {
                    let (looks, at) = (looks + 1, now + LOOK);
                    let owed = Answer::Owed {
                        question,
                        connection,
                        looks,
                        at,
                    };
                    self.answer(number, &node, owed);
                }
                _ => {
                    self.answer(number, &node, Answer::Absent);
                }
            }
            self.decide(number);
        }
    }

    /// When that is due next.
    pub(super) fn next_look_after_files(&self) -> Instant {
        let answers = self.files.wants.values().flat_map(|w| w.peers.values());
        let at = answers.filter_map(|answer| match answer {
            Answer::Owed { at, .. } | Answer::Later { at, .. } => Some(*at),
            Answer::Absent => None,
        });
        at.min().unwrap_or(Instant::FAR_FUTURE)
    }
}
