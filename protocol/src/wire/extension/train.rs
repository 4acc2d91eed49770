//! 0x8F BEGIN to 0x95 SAVED: what the nodes of a training job say to each other.

use super::super::payload::Payload;
use super::super::{DecodeError, EncodeError, Message, MessageType};
use super::fields::{Fields, text};
use super::notice::{MOST, fitting};
use super::{Begun, Example, Gradient, Loss, Save, Saved};
use crate::engine::{ExampleInput, Targets};
use crate::id::RequestId;
use crate::tensor::{DType, Tensor};
use alloc::borrow::ToOwned;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes before the job id of BEGUN.
pub(in super::super) const BEGUN: usize = 12;
/// Bytes before the job id of EXAMPLE.
pub(in super::super) const EXAMPLE: usize = 19;
/// Bytes before the job id of GRADIENT.
pub(in super::super) const GRADIENT: usize = 26;
/// Bytes before the job id of LOSS.
pub(in super::super) const LOSS: usize = 12;
/// Bytes before the job id of SAVE.
pub(in super::super) const SAVE: usize = 4;
/// Bytes before the job id of SAVED.
pub(in super::super) const SAVED: usize = 6;

/// The stages are to learn from the example.
pub(in super::super) const LEARN: u8 = 1;

/// Bytes of a token id, of an element, and of each end of what counts.
const WORD: usize = 4;

/// B sequences of T positions of width H; of width zero are token ids.
#[derive(Clone, Copy)]
struct Sizes {
    kind: MessageType,
    batch: u32,
    positions: u32,
    width: u32,
}

impl Sizes {
    fn read(kind: MessageType, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let sizes = Self {
            kind,
            batch: fields.u32()?,
            positions: fields.u32()?,
            width: fields.u32()?,
        };
        let hidden = kind == MessageType::Gradient;
        if sizes.batch == 0 || sizes.positions == 0 || hidden && sizes.width == 0 {
            return Err(DecodeError::Sizes {
                kind,
                batch: sizes.batch,
                positions: sizes.positions,
                width: sizes.width,
            });
        }
        Ok(sizes)
    }

    fn write(self, out: &mut Vec<u8>) {
        for size in [self.batch, self.positions, self.width] {
            out.extend_from_slice(&size.to_be_bytes());
        }
    }

    /// Positions of all sequences; what does not fit cannot have come.
    fn tokens(self) -> usize {
        product([self.batch, self.positions])
    }

    /// Bytes of what enters.
    fn input(self) -> usize {
        product([self.batch, self.positions, self.width.max(1)]).saturating_mul(WORD)
    }

    /// Whether so many bytes of a payload are left as are announced.
    fn check(self, fields: &Fields<'_>, expected: usize) -> Result<(), DecodeError> {
        let (at, got) = (fields.at(), fields.rest().len());
        if got == expected {
            return Ok(());
        }
        Err(DecodeError::Length {
            kind: self.kind,
            expected: at.saturating_add(expected),
            got: at.saturating_add(got),
        })
    }

    fn tensor(self, data: Bytes) -> Result<Tensor, DecodeError> {
        let size = |size| usize::try_from(size).unwrap_or(usize::MAX);
        let shape = vec![size(self.batch), size(self.positions), size(self.width)];
        Tensor::new(DType::F32, shape, data).map_err(|reason| DecodeError::Tensor {
            kind: self.kind,
            reason,
        })
    }

    /// Of a tensor that may travel.
    fn of(kind: MessageType, tensor: &Tensor) -> Result<Self, EncodeError> {
        let error = || EncodeError::Batch {
            kind,
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
        };
        let &[batch, positions, width] = tensor.shape() else {
            return Err(error());
        };
        let size = |size: usize| u32::try_from(size).ok().filter(|&size| size > 0);
        match (size(batch), size(positions), size(width)) {
            (Some(batch), Some(positions), Some(width)) if tensor.dtype() == DType::F32 => {
                Ok(Self {
                    kind,
                    batch,
                    positions,
                    width,
                })
            }
            _ => Err(error()),
        }
    }
}

fn product<const N: usize>(factors: [u32; N]) -> usize {
    let all = factors.into_iter();
    all.map(|factor| usize::try_from(factor).unwrap_or(usize::MAX))
        .fold(1, usize::saturating_mul)
}

/// Big-endian words.
fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks::<WORD>();
    words.iter().map(|word| u32::from_be_bytes(*word)).collect()
}

fn put_words(out: &mut Vec<u8>, words: &[u32]) {
    out.reserve_exact(words.len().saturating_mul(WORD));
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

fn id(kind: MessageType, bytes: &[u8]) -> Result<RequestId, DecodeError> {
    text(kind, "job id", bytes).map(RequestId::from)
}

/// A job id that fits behind so many bytes.
fn checked(kind: MessageType, job: &RequestId, before: usize) -> Result<u16, EncodeError> {
    let limit = MOST - before;
    let length = job.len();
    let short = u16::try_from(length).ok().filter(|_| length <= limit);
    short.ok_or(EncodeError::RequestId {
        kind,
        length,
        limit,
    })
}

pub(in super::super) fn decode_begun(payload: &[u8]) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Begun;
    let mut fields = Fields::at_least(KIND, payload, BEGUN)?;
    Ok(Message::Begun(Begun {
        trainable: fields.u64()?,
        iteration: fields.u32()?,
        job: id(KIND, fields.rest())?,
    }))
}

pub(in super::super) fn encode_begun(out: &mut Vec<u8>, begun: &Begun) -> Result<(), EncodeError> {
    checked(MessageType::Begun, &begun.job, BEGUN)?;
    out.extend_from_slice(&begun.trainable.to_be_bytes());
    out.extend_from_slice(&begun.iteration.to_be_bytes());
    out.extend_from_slice(begun.job.as_bytes());
    Ok(())
}

pub(in super::super) fn decode_example(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Example;
    let mut fields = Fields::at_least(KIND, payload.bytes(), EXAMPLE)?;
    let step = fields.u32()?;
    let sizes = Sizes::read(KIND, &mut fields)?;
    let learn = fields.flags(LEARN)? & LEARN != 0;
    let length = fields.u16()?;
    let job = id(KIND, fields.bytes(usize::from(length))?)?;
    let targets = sizes.tokens().saturating_mul(WORD);
    let counted = product([sizes.batch, 2]).saturating_mul(WORD);
    let all = targets.saturating_add(counted);
    sizes.check(&fields, all.saturating_add(sizes.input()))?;
    let targets = Targets {
        tokens: words(fields.bytes(targets)?),
        counted: pairs(sizes, fields.bytes(counted)?)?,
    };
    let input = if sizes.width == 0 {
        ExampleInput::Tokens {
            tokens: words(fields.rest()),
            batch: sizes.batch,
        }
    } else {
        ExampleInput::Hidden(sizes.tensor(payload.keep_from(fields.at()))?)
    };
    Ok(Message::Example(Example {
        job,
        step,
        learn,
        input,
        targets,
    }))
}

/// Which positions of each sequence count.
fn pairs(sizes: Sizes, bytes: &[u8]) -> Result<Vec<(u32, u32)>, DecodeError> {
    let words = words(bytes);
    let (pairs, _) = words.as_chunks::<2>();
    let pair = |&[from, to]: &[u32; 2]| {
        if from <= to && to <= sizes.positions {
            return Ok((from, to));
        }
        let positions = sizes.positions;
        Err(DecodeError::Counted {
            from,
            to,
            positions,
        })
    };
    pairs.iter().map(pair).collect()
}

pub(in super::super) fn encode_example(
    out: &mut Vec<u8>,
    example: &Example,
) -> Result<Bytes, EncodeError> {
    const KIND: MessageType = MessageType::Example;
    let Example {
        job,
        step,
        learn,
        input,
        targets,
    } = example;
    let length = checked(KIND, job, EXAMPLE)?;
    let sizes = match input {
        ExampleInput::Tokens { tokens, batch } => {
            let all = u32::try_from(tokens.len()).ok();
            let positions = all.filter(|all| *all > 0).and_then(|all| {
                (all.checked_rem(*batch) == Some(0)).then(|| all.checked_div(*batch))?
            });
            let none = EncodeError::Rows {
                tokens: tokens.len(),
                batch: *batch,
            };
            Sizes {
                kind: KIND,
                batch: *batch,
                positions: positions.ok_or(none)?,
                width: 0,
            }
        }
        ExampleInput::Hidden(tensor) => Sizes::of(KIND, tensor)?,
    };
    let counts = |&(from, to): &(u32, u32)| from <= to && to <= sizes.positions;
    if targets.tokens.len() != sizes.tokens()
        || u32::try_from(targets.counted.len()) != Ok(sizes.batch)
        || !targets.counted.iter().all(counts)
    {
        return Err(EncodeError::Targets {
            batch: sizes.batch,
            positions: sizes.positions,
            targets: targets.tokens.len(),
            counted: targets.counted.len(),
        });
    }
    out.extend_from_slice(&step.to_be_bytes());
    sizes.write(out);
    out.push(if *learn { LEARN } else { 0 });
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(job.as_bytes());
    put_words(out, &targets.tokens);
    for &(from, to) in &targets.counted {
        put_words(out, &[from, to]);
    }
    Ok(match input {
        ExampleInput::Tokens { tokens, .. } => {
            put_words(out, tokens);
            Bytes::new()
        }
        ExampleInput::Hidden(tensor) => tensor.data().clone(),
    })
}

pub(in super::super) fn decode_gradient(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Gradient;
    let mut fields = Fields::at_least(KIND, payload.bytes(), GRADIENT)?;
    let (step, loss, positions) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let sizes = Sizes::read(KIND, &mut fields)?;
    let length = fields.u16()?;
    let job = id(KIND, fields.bytes(usize::from(length))?)?;
    sizes.check(&fields, sizes.input())?;
    Ok(Message::Gradient(Gradient {
        job,
        step,
        loss: f32::from_bits(loss),
        positions,
        gradient: sizes.tensor(payload.keep_from(fields.at()))?,
    }))
}

pub(in super::super) fn encode_gradient(
    out: &mut Vec<u8>,
    gradient: &Gradient,
) -> Result<Bytes, EncodeError> {
    const KIND: MessageType = MessageType::Gradient;
    let length = checked(KIND, &gradient.job, GRADIENT)?;
    let sizes = Sizes::of(KIND, &gradient.gradient)?;
    for word in [gradient.step, gradient.loss.to_bits(), gradient.positions] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    sizes.write(out);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(gradient.job.as_bytes());
    Ok(gradient.gradient.data().clone())
}

pub(in super::super) fn decode_loss(payload: &[u8]) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Loss;
    let mut fields = Fields::at_least(KIND, payload, LOSS)?;
    Ok(Message::Loss(Loss {
        step: fields.u32()?,
        loss: f32::from_bits(fields.u32()?),
        positions: fields.u32()?,
        job: id(KIND, fields.rest())?,
    }))
}

pub(in super::super) fn encode_loss(out: &mut Vec<u8>, loss: &Loss) -> Result<(), EncodeError> {
    checked(MessageType::Loss, &loss.job, LOSS)?;
    for word in [loss.step, loss.loss.to_bits(), loss.positions] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(loss.job.as_bytes());
    Ok(())
}

pub(in super::super) fn decode_save(payload: &[u8]) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Save;
    let mut fields = Fields::at_least(KIND, payload, SAVE)?;
    Ok(Message::Save(Save {
        iteration: fields.u32()?,
        job: id(KIND, fields.rest())?,
    }))
}

pub(in super::super) fn encode_save(out: &mut Vec<u8>, save: &Save) -> Result<(), EncodeError> {
    checked(MessageType::Save, &save.job, SAVE)?;
    out.extend_from_slice(&save.iteration.to_be_bytes());
    out.extend_from_slice(save.job.as_bytes());
    Ok(())
}

pub(in super::super) fn decode_saved(payload: &[u8]) -> Result<Message, DecodeError> {
    const KIND: MessageType = MessageType::Saved;
    let mut fields = Fields::at_least(KIND, payload, SAVED)?;
    let (iteration, length) = (fields.u32()?, fields.u16()?);
    let job = id(KIND, fields.bytes(usize::from(length))?)?;
    Ok(Message::Saved(Saved {
        job,
        iteration,
        file: text(KIND, "file", fields.rest())?.to_owned(),
    }))
}

pub(in super::super) fn encode_saved(out: &mut Vec<u8>, saved: &Saved) -> Result<(), EncodeError> {
    let length = checked(MessageType::Saved, &saved.job, SAVED)?;
    out.extend_from_slice(&saved.iteration.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(saved.job.as_bytes());
    out.extend_from_slice(fitting(&saved.file, SAVED + saved.job.len()).as_bytes());
    Ok(())
}

impl Example {
    /// Bytes of its payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        let input = match &self.input {
            ExampleInput::Tokens { tokens, .. } => tokens.len().saturating_mul(WORD),
            ExampleInput::Hidden(tensor) => tensor.data().len(),
        };
        let targets = self.targets.tokens.len().saturating_mul(WORD);
        let counted = self.targets.counted.len().saturating_mul(2 * WORD);
        let parts = [EXAMPLE, self.job.len(), targets, counted, input];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

impl Gradient {
    /// Bytes of its payload.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        GRADIENT + self.job.len() + self.gradient.data().len()
    }
}
