//! SCORED: a token, how likely it was, and which were likeliest.

use super::super::{DecodeError, Message, MessageType};
use super::Scored;
use super::fields::Fields;
use super::small::{self, TOKEN};
use crate::engine::Scores;
use alloc::vec::Vec;

/// Payload bytes before the likeliest tokens: the score of the chosen one, and how many they are.
pub(in super::super) const SCORED: usize = TOKEN + 8;
/// Payload bytes of each of them.
const EACH: usize = 8;
/// The most payload bytes.
pub(in super::super) const MOST: usize = SCORED + Scores::MOST * EACH;

impl Scored {
    /// Bytes of its payload.
    pub(in super::super) fn payload_len(&self) -> usize {
        SCORED + self.told().len() * EACH
    }

    /// What fits.
    fn told(&self) -> &[(u32, f32)] {
        let all = &self.scores.likeliest;
        all.get(..Scores::MOST).unwrap_or(all)
    }
}

pub(in super::super) fn decode_scored(payload: &[u8]) -> Result<Message, DecodeError> {
    let kind = MessageType::Scored;
    let mut fields = Fields::at_least(kind, payload, SCORED)?;
    let token = small::token_fields(&mut fields)?;
    let chosen = f32::from_bits(fields.u32()?);
    let count = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let expected = SCORED + count.min(Scores::MOST) * EACH;
    if count > Scores::MOST || payload.len() != expected {
        return Err(DecodeError::Length {
            kind,
            expected,
            got: payload.len(),
        });
    }
    let mut likeliest = Vec::with_capacity(count);
    for _ in 0..count {
        likeliest.push((fields.u32()?, 0.0));
    }
    for (_, score) in &mut likeliest {
        // The elements of a tensor are little-endian.
        *score = f32::from_bits(fields.u32()?.swap_bytes());
    }
    let scores = Scores { chosen, likeliest };
    Ok(Message::Scored(Scored { token, scores }))
}

pub(in super::super) fn encode_scored(out: &mut Vec<u8>, scored: &Scored) {
    small::encode_token(out, &scored.token);
    out.extend_from_slice(&scored.scores.chosen.to_be_bytes());
    let told = scored.told();
    // At most twenty.
    let count = u32::try_from(told.len()).unwrap_or(0);
    out.extend_from_slice(&count.to_be_bytes());
    for (token, _) in told {
        out.extend_from_slice(&token.to_be_bytes());
    }
    for (_, score) in told {
        out.extend_from_slice(&score.to_le_bytes());
    }
}
