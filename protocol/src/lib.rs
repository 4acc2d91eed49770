//! The EXO ring protocol as a pure state machine.
//!
//! A ring of nodes runs one language model: each node computes a contiguous range of layers (a
//! [`Shard`]), hidden states hop from node to node, the last stage samples a token and the ring
//! turns again. This crate holds everything that is *decided* in such a ring (frames, peers,
//! topology, placement, requests) and nothing that is *done*: no socket, clock, file, thread or
//! source of randomness can even be named here. Bytes, time and events go in; bytes, deadlines and
//! effects come out.
//!
//! ```text
//!            network            clock             engine          application
//!               |                 |                  |                 |
//!   Opened, Received, Sent,   handle_timeout    Input::Engine     Input::Command
//!   Progress, Lost, DialFailed    |                  |                 |
//!               v                 v                  v                 v
//!          +-----------------------------------------------------------------+
//!          |                             Node                                |
//!          +-----------------------------------------------------------------+
//!               |                 |                  |                 |
//!          Dial, Send, Close  poll_timeout     Output::Compute    Output::Event
//! ```
//!
//! # Run loop
//!
//! ```text
//! node.handle_input(now, input)        // or handle_timeout(now)
//! while let Some(output) = node.poll_output() { carry it out }
//! wait until node.poll_timeout(), or until there is another input
//! ```
//!
//! # The driver's contract
//!
//! Two drivers ship with this crate (`exo-runtime-std`, `exo-runtime-smol`); anybody may write a
//! third. A driver moves bytes and wakes on deadlines, and decides nothing. It promises:
//!
//! 1. **Drain.** After every `handle_*` it calls [`Node::poll_output`] until `None` before it hands
//!    in anything else.
//! 2. **One clock.** Every `now` comes from one monotonic clock per node.
//! 3. **Deadlines.** It calls [`Node::handle_timeout`] at or after [`Node::poll_timeout`]. Early
//!    and repeated calls are harmless; late ones cost latency only.
//! 4. **Fresh numbers.** A [`ConnectionId`] is never used twice.
//! 5. **Opened first, Lost last.** [`Input::Opened`] comes before every other input for its
//!    connection; [`Input::Lost`] comes exactly once and last, also after [`Output::Close`].
//! 6. **Order.** Messages of one connection are handed in as the peer sent them, or the connection
//!    is lost. A frame that is no message loses it with [`LinkFault::Malformed`], after the
//!    messages before it.
//! 7. **Sent.** Each [`Output::Send`] is written in order and answered by one [`Input::Sent`] when
//!    the system took its last byte, unless the connection is lost first.
//! 8. **Dials end.** Each [`Output::Dial`] ends in exactly one [`Input::Opened`] with
//!    [`Origin::Dialed`] or one [`Input::DialFailed`].
//! 9. **Calls end.** Each [`Output::Compute`] ends in exactly one completion with its [`CallId`],
//!    whatever the engine does. The engine gets the commands on one thread and in order, those that
//!    wait at the same time together ([`execute_all`](engine::Engine::execute_all), at most
//!    [`BATCH_LIMIT`](engine::BATCH_LIMIT)). What it [measured](engine::Engine::measure) of itself
//!    before the first is the node's [`speed`](topology::Capabilities::speed).
//! 10. **Never block the node.** Whoever holds the node waits for nothing: not for a socket, not
//!     for the engine, not for the application.
//! 11. **Progress.** When a read leaves a frame incomplete, [`Input::Progress`] follows the
//!     messages that the read completed.
//! 12. **Back-pressure.** Inputs that wait for the node are bounded; when the bound is reached the
//!     readers stop reading, so that TCP slows the peer down.
//! 13. **Broadcasts.** Each [`Output::ListInterfaces`] is answered by exactly one
//!     [`Input::Interfaces`]. A datagram of [`Output::Broadcast`] is sent or lost without a word. No
//!     more [`Input::Datagram`]s come than the last [`Output::Listen`] wants.
//! 14. **Asks end.** Each [`Output::Ask`] ends in exactly one [`Input::Answered`], within
//!     [`Timing::ask_timeout`](config::Timing::ask_timeout). A visitor is handed in once, as
//!     [`Input::Asked`], when a [`Reader`](discovery::tcp::Reader) has enough of what it says, or
//!     after the same time; it is told what [`Output::Answer`] says and the connection is closed. No
//!     more than [`MOST_VISITORS`](discovery::tcp::MOST_VISITORS) are there at the same time.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod discovery;
pub mod dummy;
pub mod engine;
pub mod id;
pub mod json;
pub mod node;
pub mod record;
pub mod rng;
pub mod shard;
pub mod tensor;
pub mod time;
pub mod topology;
pub mod wire;

pub use config::Config;
pub use id::{AskId, CallId, ConnectionId, DialId, ModelId, NodeId, RequestId, VisitId};
pub use json::Json;
pub use node::{
    Command, Deadline, Discovered, Event, Example, Failure, FinishReason, Input, JobFailure,
    LinkFault, Node, Origin, Output, Rejection, Stage, Status, Submit, Timer, Train,
};
pub use shard::Shard;
pub use tensor::{DType, Tensor};
pub use time::Instant;
