//! Frames and messages as bytes, usable without the rest of the crate: a [`Decoder`] turns what
//! comes in into [`Message`]s, an [`Encoder`] turns one message into what goes out.
//!
//! `docs/PROTOCOL.md` specifies the bytes. What peers can send is read leniently where nothing
//! depends on it (order of keys, white space, unknown keys) and refused where something does:
//! missing keys, wrong types, tensors whose bytes do not match, lengths beyond
//! [`DecodeLimits`].

mod decoder;
mod download;
mod encoder;
mod error;
mod example;
pub mod extension;
mod header;
mod health;
mod hello;
mod hint;
pub mod layout;
mod limits;
mod message;
mod payload;
mod prompt;
mod record;
mod result;
mod status;
mod tensor;
mod topology;

pub use decoder::Decoder;
pub use download::{Download, DownloadState};
pub use encoder::Encoder;
pub use error::{DecodeError, EncodeError};
pub use example::{ExampleReply, SendExample};
pub use extension::{
    Begin, Begun, Chunk, Ending, Example, Gradient, Loss, Notice, Open, Part, Save, Saved, Scored,
    Step, StepBody, Timing, Token, Want,
};
pub use header::{HEADER_LEN, Header, MAGIC};
pub use hello::Hello;
pub use limits::DecodeLimits;
pub use message::{
    Message, MessageType, SendPrompt, SendResult, SendTensor, TopologyReply, WireEdge,
};
pub use payload::{decode_payload, encode_parts, encode_payload};

#[cfg(test)]
mod tests;
