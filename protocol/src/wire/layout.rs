//! Where each message has its fields, as data: for tools that explain bytes, such as the Wireshark
//! dissector. Nothing is decoded by it; the tests hold the codec and this table to each other.

use super::MessageType;
use super::extension::{end, error, failed, goodbye, part, small, step, train};
use crate::tensor::DType;
use alloc::string::String;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Nobody says what the bytes mean.
    Opaque,
    /// JSON, or nothing at all.
    Json,
    /// The container of tensors: the length of the JSON in four bytes, the JSON, and the bytes of
    /// the tensors that the JSON describes under these keys, in this order. A first length of zero
    /// is the empty reply.
    Container(&'static [&'static str]),
    /// JSON if it begins as an object or with white space, else a container.
    JsonOrContainer(&'static [&'static str]),
    /// One field after another.
    Fields(&'static [Field]),
}

/// A field of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name: in the code, and for filters.
    pub name: &'static str,
    /// What its bytes are.
    pub kind: Kind,
    /// On which payloads it is there; `None` for all.
    pub when: Option<When>,
}

/// A condition on an earlier field of the same payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The field of this name is zero.
    Zero(&'static str),
    /// It is not.
    NotZero(&'static str),
}

/// What the bytes of a field are. Numbers are unsigned and big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
    /// Four bytes, IEEE, big-endian too.
    F32,
    /// One byte of named bits.
    Flags(&'static [(u8, &'static str)]),
    /// Two bytes with a meaning.
    Code(&'static [(u16, &'static str)]),
    /// One byte, the number of a message.
    Message,
    /// One byte, one of [`ELEMENTS`]; decides what a [`Kind::Tensor`] after it has.
    Element,
    /// UTF-8, of as many bytes as the field of this name says.
    Text(&'static str),
    /// UTF-8, to the end of the payload.
    Words,
    /// JSON, to the end of the payload.
    Json,
    /// A piece of another payload, to the end of this one.
    Piece,
    /// Bytes that mean nothing here, to the end of the payload.
    Bytes,
    /// Numbers of four bytes: as many as the product of these fields, or to the end of the payload
    /// if there are none.
    Numbers(&'static [&'static str]),
    /// Pairs of such numbers: as many as this field says.
    Pairs(&'static str),
    /// Elements of a tensor to the end of the payload, row-major and little-endian: of the type
    /// that an [`Kind::Element`] before it said, else `float32`.
    Tensor([Dimension; 3]),
}

/// One dimension of a tensor in a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Always 1.
    One,
    /// What this field says.
    Field(&'static str),
    /// As many as there are bytes for.
    Rest,
}

/// Codes of a [`Kind::Element`]; `None` for token ids.
pub const ELEMENTS: [(u8, Option<DType>); 6] = {
    let [a, b, c, d, e] = step::ELEMENTS;
    [
        (step::TOKENS, None),
        (a.0, Some(a.1)),
        (b.0, Some(b.1)),
        (c.0, Some(c.1)),
        (d.0, Some(d.1)),
        (e.0, Some(e.1)),
    ]
};

const fn field(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        when: None,
    }
}

const fn only(when: When, name: &'static str, kind: Kind) -> Field {
    let when = Some(when);
    Field { name, kind, when }
}

const PING: &[Field] = &[field("id", Kind::U64)];

const STEP: &[Field] = &[
    field("stream", Kind::U32),
    field("position", Kind::U32),
    field("flags", Kind::Flags(&[(step::SAMPLE, "SAMPLE")])),
    field("elements", Kind::Element),
    only(When::Zero("elements"), "tokens", Kind::Numbers(&[])),
    only(When::NotZero("elements"), "width", Kind::U32),
    only(
        When::NotZero("elements"),
        "hidden",
        Kind::Tensor([Dimension::One, Dimension::Rest, Dimension::Field("width")]),
    ),
];

const TOKEN: &[Field] = &[
    field("stream", Kind::U32),
    field("index", Kind::U32),
    field("token", Kind::U32),
    field(
        "flags",
        Kind::Flags(&[(small::END, "END"), (small::LAST, "LAST")]),
    ),
];

const SCORED: &[Field] = &[
    field("stream", Kind::U32),
    field("index", Kind::U32),
    field("token", Kind::U32),
    field(
        "flags",
        Kind::Flags(&[(small::END, "END"), (small::LAST, "LAST")]),
    ),
    field("score", Kind::F32),
    field("likeliest_count", Kind::U32),
    field("likeliest", Kind::Numbers(&["likeliest_count"])),
    field(
        "scores",
        Kind::Tensor([Dimension::One, Dimension::One, Dimension::Rest]),
    ),
];

const TIMING: &[Field] = &[
    field("epoch", Kind::U32),
    field("stage", Kind::U16),
    field("position", Kind::U32),
    field("counted_positions", Kind::U32),
    field("wait_ns", Kind::U64),
    field("compute_ns", Kind::U64),
    field("write_ns", Kind::U64),
    field("rtt_ns", Kind::U64),
    field("request", Kind::Words),
];

/// The fields of END and FAILED, which differ in what their codes mean.
const fn ending(codes: &'static [(u16, &'static str)]) -> [Field; 5] {
    [
        field("epoch", Kind::U32),
        field("code", Kind::Code(codes)),
        field("request_length", Kind::U16),
        field("request", Kind::Text("request_length")),
        field("text", Kind::Words),
    ]
}

/// The fields of ERROR and GOODBYE.
const fn notice(codes: &'static [(u16, &'static str)]) -> [Field; 2] {
    [field("code", Kind::Code(codes)), field("text", Kind::Words)]
}

const ERROR: &[Field] = &notice(error::ALL);
const GOODBYE: &[Field] = &notice(goodbye::ALL);
const END: &[Field] = &ending(end::ALL);
const FAILED: &[Field] = &ending(failed::ALL);

const BATCH: [Dimension; 3] = [
    Dimension::Field("batch"),
    Dimension::Field("positions"),
    Dimension::Field("width"),
];

const EXAMPLE: &[Field] = &[
    field("step", Kind::U32),
    field("batch", Kind::U32),
    field("positions", Kind::U32),
    field("width", Kind::U32),
    field("flags", Kind::Flags(&[(train::LEARN, "LEARN")])),
    field("job_length", Kind::U16),
    field("job", Kind::Text("job_length")),
    field("targets", Kind::Numbers(&["batch", "positions"])),
    field("counted", Kind::Pairs("batch")),
    only(When::Zero("width"), "tokens", Kind::Numbers(&[])),
    only(When::NotZero("width"), "hidden", Kind::Tensor(BATCH)),
];

const GRADIENT: &[Field] = &[
    field("step", Kind::U32),
    field("loss", Kind::F32),
    field("counted_positions", Kind::U32),
    field("batch", Kind::U32),
    field("positions", Kind::U32),
    field("width", Kind::U32),
    field("job_length", Kind::U16),
    field("job", Kind::Text("job_length")),
    field("gradient", Kind::Tensor(BATCH)),
];

impl MessageType {
    /// Its name in the specification, such as `SEND_RESULT`.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in alloc::format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    /// Where its payload has what.
    #[must_use]
    pub const fn layout(self) -> Layout {
        match self {
            Self::SendPromptResponse => Layout::Opaque,
            Self::HealthCheckRequest
            | Self::HealthCheckResponse
            | Self::SendPromptRequest
            | Self::CollectTopologyRequest
            | Self::CollectTopologyResponse
            | Self::SendOpaqueStatus
            | Self::Topology
            | Self::Begin => Layout::Json,
            Self::SendTensorRequest | Self::SendTensorResponse => Layout::Container(&["tensor"]),
            Self::SendExampleRequest => Layout::Container(&["example", "target", "length"]),
            Self::SendExampleResponse => Layout::Container(&["grads"]),
            Self::SendResult => Layout::JsonOrContainer(&["tensor"]),
            Self::Ping | Self::Pong => Layout::Fields(PING),
            Self::Error => Layout::Fields(ERROR),
            Self::Goodbye => Layout::Fields(GOODBYE),
            Self::Open => {
                Layout::Fields(const { &[field("stream", Kind::U32), field("plan", Kind::Json)] })
            }
            Self::Step => Layout::Fields(STEP),
            Self::Token => Layout::Fields(TOKEN),
            Self::Scored => Layout::Fields(SCORED),
            Self::Close => Layout::Fields(const { &[field("stream", Kind::U32)] }),
            Self::Credit => {
                Layout::Fields(const { &[field("stream", Kind::U32), field("bytes", Kind::U32)] })
            }
            Self::End => Layout::Fields(END),
            Self::Failed => Layout::Fields(FAILED),
            Self::Chunk => Layout::Fields(
                const {
                    &[
                        field("transfer", Kind::U32),
                        field("kind", Kind::Message),
                        field("total", Kind::U32),
                        field("offset", Kind::U32),
                        field("data", Kind::Piece),
                    ]
                },
            ),
            Self::Abort => Layout::Fields(const { &[field("transfer", Kind::U32)] }),
            Self::Timing => Layout::Fields(TIMING),
            Self::Begun => Layout::Fields(
                const {
                    &[
                        field("trainable", Kind::U64),
                        field("iteration", Kind::U32),
                        field("job", Kind::Words),
                    ]
                },
            ),
            Self::Example => Layout::Fields(EXAMPLE),
            Self::Gradient => Layout::Fields(GRADIENT),
            Self::Loss => Layout::Fields(
                const {
                    &[
                        field("step", Kind::U32),
                        field("loss", Kind::F32),
                        field("counted_positions", Kind::U32),
                        field("job", Kind::Words),
                    ]
                },
            ),
            Self::Save => Layout::Fields(
                const { &[field("iteration", Kind::U32), field("job", Kind::Words)] },
            ),
            Self::Saved => Layout::Fields(
                const {
                    &[
                        field("iteration", Kind::U32),
                        field("job_length", Kind::U16),
                        field("job", Kind::Text("job_length")),
                        field("file", Kind::Words),
                    ]
                },
            ),
            Self::Want => Layout::Fields(
                const {
                    &[
                        field("want", Kind::U64),
                        field("from", Kind::U64),
                        field("most", Kind::U32),
                        field("file", Kind::Words),
                    ]
                },
            ),
            Self::Part => Layout::Fields(
                const {
                    &[
                        field("want", Kind::U64),
                        field("size", Kind::U64),
                        field("code", Kind::Code(part::ALL)),
                        field("content", Kind::Bytes),
                    ]
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests;
