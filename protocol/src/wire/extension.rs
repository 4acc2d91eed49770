//! The messages of the extension, spoken only between nodes that introduced themselves with a
//! [`Hello`](super::Hello) of this version. `docs/PROTOCOL.md` has their bytes.

pub(super) mod chunk;
mod fields;
pub(super) mod file;
pub(super) mod notice;
pub(super) mod scored;
pub(super) mod small;
pub(super) mod step;
pub(super) mod timing;
pub(super) mod train;

use crate::engine::{ExampleInput, Scores, Targets};
use crate::id::RequestId;
use crate::tensor::Tensor;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

/// Something enters a stage: token ids, or the hidden state of the stage before.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The stream that a [`Open`] bound to a request.
    pub stream: u32,
    /// The first position that the body fills in the receiver's KV cache.
    pub position: u32,
    /// Whether the last stage is to choose a token after the last of these positions; false for
    /// every piece of a prompt but the last.
    pub sample: bool,
    /// What enters.
    pub body: StepBody,
}

/// What a [`Step`] brings.
#[derive(Clone, Debug, PartialEq)]
pub enum StepBody {
    /// Token ids, for the stage with the first layer.
    Tokens(Vec<u32>),
    /// A hidden state of shape `[1, T, H]`, `float32`, `float16` or `bfloat16`.
    Hidden(Tensor),
}

/// Binds a stream to a request and brings its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The number, chosen by the sender: one more than its last on this connection.
    pub stream: u32,
    /// The plan as JSON text, read by the node.
    pub plan: Bytes,
}

/// A token of an answer, from the last stage to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The stream.
    pub stream: u32,
    /// Which token of the answer, counted from zero.
    pub index: u32,
    /// Its id.
    pub token: u32,
    /// Whether the model ends its answer with it.
    pub end: bool,
    /// Whether nothing comes after it.
    pub last: bool,
}

/// A token of an answer with how likely it was, in the place of a [`Token`] where the plan asks for
/// that.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: Token,
    /// How likely it was, and which were likeliest; at most [`Scores::MOST`].
    pub scores: Scores,
}

/// The end of a request for one stage, or at one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Up to which epoch.
    pub epoch: u32,
    /// One of the codes of [`end`] or [`failed`].
    pub code: u16,
    /// Which request.
    pub request: RequestId,
    /// For people.
    pub text: String,
}

/// A code and words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// One of the codes of [`error`](mod@error) or [`goodbye`].
    pub code: u16,
    /// For people.
    pub text: String,
}

/// What the origin of a training job tells a stage to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The job's plan as JSON text, read by the node.
    pub plan: Bytes,
}

/// A stage of a training job is ready; from the stage to the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Which job.
    pub job: RequestId,
    /// How many numbers of its layers are trained.
    pub trainable: u64,
    /// Steps done by the checkpoint that was resumed, else zero.
    pub iteration: u32,
}

/// An example enters a stage of a training job.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Which job.
    pub job: RequestId,
    /// Steps of the job, this one included if it is to be learned from.
    pub step: u32,
    /// Learn, not only compare.
    pub learn: bool,
    /// Token ids `[B, T]` for the first stage, a hidden state `[B, T, H]` of `float32` for others.
    pub input: ExampleInput,
    /// What is to come out of the last stage.
    pub targets: Targets,
}

/// The gradient of an example's loss by what left a stage; from the stage after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// Which job.
    pub job: RequestId,
    /// The example's step.
    pub step: u32,
    /// The loss.
    pub loss: f32,
    /// How many positions counted.
    pub positions: u32,
    /// `[B, T, H]`, `float32`.
    pub gradient: Tensor,
}

/// What came of an example: from the first stage to the origin when all have learned, from the last
/// one when it was only to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Which job.
    pub job: RequestId,
    /// The example's step.
    pub step: u32,
    /// The loss.
    pub loss: f32,
    /// How many positions counted.
    pub positions: u32,
}

/// A stage of a training job is to write a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Save {
    /// Which job.
    pub job: RequestId,
    /// Steps done, which names the checkpoint.
    pub iteration: u32,
}

/// A stage of a training job has written its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Which job.
    pub job: RequestId,
    /// Which checkpoint.
    pub iteration: u32,
    /// The file's name there, for people.
    pub file: String,
}

/// Asks for a piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The asker's number of it, which comes back in the answer.
    pub want: u64,
    /// Where the piece begins.
    pub from: u64,
    /// Most bytes of it.
    pub length: u32,
    /// The file, by its hash in hexadecimal digits; or a repository, whose files are listed.
    pub name: String,
}

/// A piece of a file, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it answers.
    pub want: u64,
    /// Bytes of the whole file; zero when the sender does not know it.
    pub size: u64,
    /// One of the codes of [`part`].
    pub code: u16,
    /// At most [`Part::MAX`] bytes.
    pub content: Bytes,
}

impl Part {
    /// The most bytes of one piece.
    pub const MAX: usize = 1 << 20;
}

/// What one step of a traced request cost at one stage; from the stage to the origin. All of it are
/// durations by the stage's own clock: no two clocks are ever compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Which request.
    pub request: RequestId,
    /// In which epoch.
    pub epoch: u32,
    /// The stage's place in the ring, from zero.
    pub stage: u16,
    /// Positions before the step.
    pub position: u32,
    /// How many it added.
    pub positions: u32,
    /// From when it came until the engine had nothing else to do before it.
    pub wait: Duration,
    /// What the engine took over it.
    pub compute: Duration,
    /// From then until the system had taken all of what goes to the next stage.
    pub write: Duration,
    /// Round trip to the next stage, of a probe right behind a step where there was one; zero if
    /// it is not known, or nothing went there.
    pub rtt: Duration,
}

/// A piece of a message that is too large to travel at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Names the whole; rises by one.
    pub transfer: u32,
    /// The message's number.
    pub kind: u8,
    /// Bytes of the whole payload.
    pub total: u32,
    /// Where these bytes belong.
    pub offset: u32,
    /// At least one byte, at most [`Chunk::MAX`].
    pub data: Bytes,
}

impl Chunk {
    /// The most bytes of one piece; a longer payload travels in pieces. On a link of 10 Mbit/s a
    /// piece takes 26 ms, and nothing more urgent waits longer than that.
    pub const MAX: usize = 32 << 10;

    /// The type of transfers that only show how quick the way is: nobody knows it, so it is read
    /// over without being kept.
    pub const PADDING: u8 = 0xfe;

    /// Whether the whole is complete with it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        u64::from(self.offset) + self.data.len() as u64 >= u64::from(self.total)
    }
}

/// Codes of [`Message::Error`](super::Message::Error).
pub mod error {
    /// A field has a value that it cannot have.
    pub const PROTOCOL: u16 = 1;
    /// A message of the extension before the introduction.
    pub const NOT_NEGOTIATED: u16 = 2;
    /// A stream that was never opened, or out of order.
    pub const STREAM: u16 = 3;
    /// A chunk out of order, overlapping, or of an unknown transfer.
    pub const CHUNK: u16 = 4;
    /// More was sent than was allowed.
    pub const CREDIT: u16 = 5;
    /// An answer that nobody asked for.
    pub const UNASKED: u16 = 6;
    /// A word on a request in which the sender has no such part.
    pub const FOREIGN: u16 = 7;
    /// A plan that is none.
    pub const PLAN: u16 = 8;
    /// Another node of the same id is connected.
    pub const DUPLICATE: u16 = 9;
    /// More of something than the receiver takes.
    pub const LIMIT: u16 = 10;

    /// Every code with its name.
    pub const ALL: &[(u16, &str)] = &[
        (PROTOCOL, "PROTOCOL"),
        (NOT_NEGOTIATED, "NOT_NEGOTIATED"),
        (STREAM, "STREAM"),
        (CHUNK, "CHUNK"),
        (CREDIT, "CREDIT"),
        (UNASKED, "UNASKED"),
        (FOREIGN, "FOREIGN"),
        (PLAN, "PLAN"),
        (DUPLICATE, "DUPLICATE"),
        (LIMIT, "LIMIT"),
    ];
}

/// Codes of [`Message::Goodbye`](super::Message::Goodbye).
pub mod goodbye {
    /// The node leaves as soon as it is no longer needed.
    pub const LEAVING: u16 = 0;

    /// Every code with its name.
    pub const ALL: &[(u16, &str)] = &[(LEAVING, "LEAVING")];
}

/// Codes of [`Message::End`](super::Message::End).
pub mod end {
    /// The answer is complete.
    pub const FINISHED: u16 = 0;
    /// The origin wants no more.
    pub const CANCELLED: u16 = 1;
    /// The request goes on without the receiver.
    pub const MOVED: u16 = 2;

    /// Every code with its name.
    pub const ALL: &[(u16, &str)] = &[
        (FINISHED, "FINISHED"),
        (CANCELLED, "CANCELLED"),
        (MOVED, "MOVED"),
    ];
}

/// Codes of [`Message::Part`](super::Message::Part).
pub mod part {
    /// The file is here, and this is of it.
    pub const HERE: u16 = 0;
    /// The file is on its way; what is here of the piece follows, perhaps nothing.
    pub const COMING: u16 = 1;
    /// The sender looks for the file itself.
    pub const SOUGHT: u16 = 2;
    /// The file is not here, or not given.
    pub const ABSENT: u16 = 3;
    /// Too many pieces are wanted already: ask again.
    pub const BUSY: u16 = 4;

    /// Every code with its name.
    pub const ALL: &[(u16, &str)] = &[
        (HERE, "HERE"),
        (COMING, "COMING"),
        (SOUGHT, "SOUGHT"),
        (ABSENT, "ABSENT"),
        (BUSY, "BUSY"),
    ];
}

/// Codes of [`Message::Failed`](super::Message::Failed).
pub mod failed {
    /// The engine failed.
    pub const ENGINE: u16 = 1;
    /// The model is not here, is damaged, or is not the one that the plan means.
    pub const MODEL: u16 = 2;
    /// The layers or the KV cache do not fit.
    pub const MEMORY: u16 = 3;
    /// The KV cache is not what the plan says.
    pub const POSITION: u16 = 4;
    /// The next stage or the origin cannot be reached.
    pub const PEER: u16 = 5;
    /// Too many requests are under way.
    pub const BUSY: u16 = 6;
    /// The node leaves.
    pub const LEAVING: u16 = 7;
    /// The input is not what the model takes: another ring would refuse it too.
    pub const INPUT: u16 = 8;
    /// Nothing happened for too long.
    pub const HUNG: u16 = 9;

    /// Every code with its name.
    pub const ALL: &[(u16, &str)] = &[
        (ENGINE, "ENGINE"),
        (MODEL, "MODEL"),
        (MEMORY, "MEMORY"),
        (POSITION, "POSITION"),
        (PEER, "PEER"),
        (BUSY, "BUSY"),
        (LEAVING, "LEAVING"),
        (INPUT, "INPUT"),
        (HUNG, "HUNG"),
    ];
}

#[cfg(test)]
pub(super) mod tests;
