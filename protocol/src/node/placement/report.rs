//! What is told of how a model would be placed.

use crate::id::{ModelId, NodeId};
use crate::node::Stage;
use crate::shard::Shard;
use crate::topology::auto::Prediction;
use crate::topology::{LinkMetrics, ModelCost, StageBytes};
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// A model that somebody may ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// The model.
    pub model: ModelId,
    /// How many layers it has.
    pub layers: u32,
    /// Bytes of all its weights; zero when unknown.
    pub bytes: u64,
    /// What placement goes by.
    pub cost: ModelCost,
    /// Positions of the prompt and the answer, for which there must be room.
    pub positions: u32,
}

/// How a model would be placed now.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    /// What decided.
    pub by: By,
    /// The stages in order.
    pub ring: Vec<Stage>,
    /// How long a typical request takes; `None` when the model's cost is unknown.
    pub prediction: Option<Prediction>,
    /// With [`By::Auto`] the quickest ring over other nodes; else the quickest of all rings, if it
    /// is another one.
    pub other: Option<(Vec<Stage>, Prediction)>,
    /// Whether every ring was looked at for that; there can be too many.
    pub exact: bool,
    /// All nodes that are up, those of the ring first and in its order.
    pub nodes: Vec<NodeShare>,
    /// What is known of the ways between nodes that may take part, each pair once.
    pub links: Vec<LinkShare>,
}

/// What is known of the way between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkShare {
    /// The two.
    pub nodes: [NodeId; 2],
    /// As the first of them measured it, and the second.
    pub measured: [LinkMetrics; 2],
}

impl LinkShare {
    /// By either end.
    fn known(&self) -> LinkMetrics {
        let [there, back] = self.measured;
        there.or(back)
    }

    /// The round trip, if either end measured it.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.known().rtt_us.map(Duration::from_micros)
    }

    /// The round trip behind steps of requests, if either end measured it.
    #[must_use]
    pub fn loaded(&self) -> Option<Duration> {
        self.known().loaded_us.map(Duration::from_micros)
    }

    /// Whether round trip and goodput are known of at least one end.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.known().is_measured()
    }
}

/// What decided on a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The memory of the nodes.
    Memory,
    /// The time that a typical request takes.
    Auto,
    /// As [`By::Auto`] for an earlier request: no other ring is better by more than a tenth.
    Kept,
    /// Whoever gave the nodes their layers.
    Pins,
}

/// One node of a [`Placement`].
#[derive(Clone, Debug, PartialEq)]
pub struct NodeShare {
    /// Who.
    pub node: NodeId,
    /// Its layers, if it has some.
    pub shard: Option<Shard>,
    /// Bytes of memory that it gives to a model.
    pub budget: u64,
    /// What its layers need of that, where it is known.
    pub needs: Option<StageBytes>,
    /// How long its layers take for one position, where it is known.
    pub decode: Option<Duration>,
    /// How long they take for a piece of a prompt, where it is known.
    pub piece: Option<Duration>,
    /// Why it is in the ring, or not.
    pub part: Part,
}

/// Why a node is in a ring, or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// It has layers.
    In,
    /// The quickest ring in which it takes part is slower: it takes this long.
    Slower(Prediction),
    /// It cannot hold a single layer: that needs so many bytes.
    Small(u64),
    /// It has too little of the memory for a layer of its own, or was given none.
    Unneeded,
    /// It cannot take part at the moment.
    Apart(&'static str),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::In => f.write_str("in the ring"),
            Self::Slower(with) => {
                let rate = with.rate();
                let first = with.first.as_secs_f64();
                write!(
                    f,
                    "left out: with it {rate:.1} tokens/s after {first:.2} s, which is slower"
                )
            }
            Self::Small(needed) => {
                let needed = needed.div_ceil(1 << 20);
                write!(f, "left out: one layer needs {needed} MiB")
            }
            Self::Unneeded => f.write_str("left out: it has no layer"),
            Self::Apart(why) => write!(f, "left out: {why}"),
        }
    }
}
