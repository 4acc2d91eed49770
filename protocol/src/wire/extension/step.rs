//! 0x86 OPEN and 0x87 STEP: what a request sends from stage to stage.

use super::super::payload::Payload;
use super::super::{DecodeError, EncodeError, Message, MessageType};
use super::fields::Fields;
use super::{Open, Step, StepBody};
use crate::tensor::{DType, Tensor};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes before the plan of an OPEN.
pub(in super::super) const OPEN: usize = 4;
/// Bytes before the token ids of a STEP.
pub(in super::super) const STEP: usize = 10;
/// Bytes before the hidden state of a STEP.
pub(in super::super) const HIDDEN: usize = STEP + 4;

/// The last stage is to choose a token.
pub(in super::super) const SAMPLE: u8 = 1;

/// The element code of token ids.
pub(in super::super) const TOKENS: u8 = 0;
/// Bytes of one token id.
const ID: usize = 4;

/// The codes of the types in which a hidden state may travel. The integers are for engines that
/// count, such as the dummy.
pub(in super::super) const ELEMENTS: [(u8, DType); 5] = [
    (1, DType::F32),
    (2, DType::F16),
    (3, DType::Bf16),
    (4, DType::I32),
    (5, DType::U32),
];

const KIND: MessageType = MessageType::Step;

impl StepBody {
    /// Whether a hidden state may travel in this type.
    #[must_use]
    pub fn takes(dtype: DType) -> bool {
        ELEMENTS.iter().any(|&(_, known)| known == dtype)
    }
}

impl Step {
    /// Bytes of its payload, which are also what it takes of the windows.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        match &self.body {
            StepBody::Tokens(tokens) => STEP + ID * tokens.len(),
            StepBody::Hidden(tensor) => HIDDEN + tensor.data().len(),
        }
    }
}

pub(in super::super) fn decode_open(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    let mut fields = Fields::at_least(MessageType::Open, payload.bytes(), OPEN)?;
    let stream = fields.u32()?;
    let plan = payload.keep_from(fields.at());
    Ok(Message::Open(Open { stream, plan }))
}

pub(in super::super) fn encode_open(out: &mut Vec<u8>, open: &Open) -> Bytes {
    out.extend_from_slice(&open.stream.to_be_bytes());
    open.plan.clone()
}

pub(in super::super) fn decode_step(payload: &Payload<'_>) -> Result<Message, DecodeError> {
    let mut fields = Fields::at_least(KIND, payload.bytes(), STEP)?;
    let (stream, position) = (fields.u32()?, fields.u32()?);
    let sample = fields.flags(SAMPLE)? & SAMPLE != 0;
    let body = match fields.u8()? {
        TOKENS => tokens(fields.rest())?,
        code => {
            let known = ELEMENTS.iter().find(|(known, _)| *known == code);
            let &(_, dtype) = known.ok_or(DecodeError::ElementCode { kind: KIND, code })?;
            let width = fields.u32()?;
            hidden(dtype, width, payload.keep_from(fields.at()))?
        }
    };
    Ok(Message::Step(Step {
        stream,
        position,
        sample,
        body,
    }))
}

fn tokens(bytes: &[u8]) -> Result<StepBody, DecodeError> {
    let (ids, []) = bytes.as_chunks::<ID>() else {
        return Err(DecodeError::Tokens { got: bytes.len() });
    };
    if ids.is_empty() {
        return Err(DecodeError::Tokens { got: 0 });
    }
    Ok(StepBody::Tokens(
        ids.iter().map(|id| u32::from_be_bytes(*id)).collect(),
    ))
}

fn hidden(dtype: DType, width: u32, data: Bytes) -> Result<StepBody, DecodeError> {
    let error = DecodeError::Rows {
        dtype,
        width,
        got: data.len(),
    };
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    let row = width.checked_mul(dtype.size()).filter(|&row| row > 0);
    let Some(row) = row.filter(|row| !data.is_empty() && data.len().is_multiple_of(*row)) else {
        return Err(error);
    };
    let rows = data.len() / row;
    match Tensor::new(dtype, vec![1, rows, width], data) {
        Ok(tensor) => Ok(StepBody::Hidden(tensor)),
        Err(_) => Err(error),
    }
}

pub(in super::super) fn encode_step(out: &mut Vec<u8>, step: &Step) -> Result<Bytes, EncodeError> {
    out.extend_from_slice(&step.stream.to_be_bytes());
    out.extend_from_slice(&step.position.to_be_bytes());
    out.push(if step.sample { SAMPLE } else { 0 });
    match &step.body {
        StepBody::Tokens(tokens) => {
            if tokens.is_empty() {
                return Err(EncodeError::NoTokens);
            }
            out.push(TOKENS);
            out.reserve_exact(tokens.len().saturating_mul(ID));
            out.extend(tokens.iter().flat_map(|token| token.to_be_bytes()));
            Ok(Bytes::new())
        }
        StepBody::Hidden(tensor) => {
            let (code, width) = describe(tensor).ok_or_else(|| EncodeError::Hidden {
                dtype: tensor.dtype(),
                shape: tensor.shape().to_vec(),
            })?;
            out.push(code);
            out.extend_from_slice(&width.to_be_bytes());
            Ok(tensor.data().clone())
        }
    }
}

/// The element code and the width of a hidden state.
fn describe(tensor: &Tensor) -> Option<(u8, u32)> {
    let &[1, rows, width] = tensor.shape() else {
        return None;
    };
    let &(code, _) = ELEMENTS
        .iter()
        .find(|(_, dtype)| *dtype == tensor.dtype())?;
    let width = u32::try_from(width).ok()?;
    (rows > 0 && width > 0).then_some((code, width))
}
