//! Messages that come in pieces.

use crate::wire::{Chunk, DecodeLimits, MessageType};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use bytes::Bytes;

/// The transfers of one direction of a connection. Memory follows the bytes that came, not the
/// total that a piece announces: at most twice those.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    under_way: BTreeMap<u32, Transfer>,
    /// The newest transfer; zero before the first.
    newest: u32,
}

#[derive(Debug)]
struct Transfer {
    kind: u8,
    total: u32,
    /// Bytes that came.
    came: u32,
    /// They; stays empty for a message that is read over.
    bytes: Vec<u8>,
}

/// A piece that belongs nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("transfer {got} is not under way: up to {newest} all others are complete or aborted")]
    NotUnderWay { got: u32, newest: u32 },
    #[error("transfer {got} began, {expected} comes next")]
    Order { expected: u32, got: u32 },
    #[error("transfer {got} began with {limit} others under way, which is the limit")]
    TooMany { limit: usize, got: u32 },
    #[error("transfer {transfer} goes on at byte {got}, {expected} comes next")]
    Offset {
        transfer: u32,
        expected: u32,
        got: u32,
    },
    #[error("transfer {transfer} was of type {expected:#04x} and is of type {got:#04x} now")]
    Kind {
        transfer: u32,
        expected: u8,
        got: u8,
    },
    #[error("transfer {transfer} was of {expected} bytes and is of {got} now")]
    Total {
        transfer: u32,
        expected: u32,
        got: u32,
    },
    #[error("transfer {transfer} has {total} bytes, a piece of it ends at {end}")]
    Beyond { transfer: u32, total: u32, end: u64 },
    #[error("transfer {transfer} announces {kind:#04x} with {total} bytes, the limit is {limit}")]
    TooLarge {
        transfer: u32,
        kind: u8,
        total: u32,
        limit: u32,
    },
    #[error("transfer {transfer} is of type {kind:#04x}, which cannot come in pieces")]
    Type { transfer: u32, kind: u8 },
}

impl Reassembly {
    /// The most transfers under way: one for each class of messages.
    const LIMIT: usize = 5;

    /// Takes a piece. Gives the type and the payload of the message that it completes.
    pub(super) fn chunk(
        &mut self,
        chunk: Chunk,
        limits: &DecodeLimits,
    ) -> Result<Option<(MessageType, Bytes)>, ChunkError> {
        let Chunk {
            transfer: number,
            kind,
            total,
            offset,
            data,
        } = chunk;
        // `None` is a message of a type that a later version adds: it is read over, in pieces too.
        let known = known(number, kind)?;
        let (came, begins) = match self.under_way.get(&number) {
            Some(transfer) => {
                transfer.same(number, kind, total)?;
                (transfer.came, false)
            }
            None => {
                self.may_begin(number)?;
                let limit = known.map_or(u32::MAX, |kind| limits.payload(kind));
                if total > limit {
                    return Err(ChunkError::TooLarge {
                        transfer: number,
                        kind,
                        total,
                        limit,
                    });
                }
                (0, true)
            }
        };
        if offset != came {
            return Err(ChunkError::Offset {
                transfer: number,
                expected: came,
                got: offset,
            });
        }
        let end = u64::from(came) + data.len() as u64;
        let came = u32::try_from(end).unwrap_or(u32::MAX);
        if end > u64::from(total) {
            return Err(ChunkError::Beyond {
                transfer: number,
                total,
                end,
            });
        }
        if begins {
            self.newest = number;
        }
        if came == total {
            let bytes = match self.under_way.remove(&number) {
                Some(mut transfer) if known.is_some() => {
                    transfer.extend(&data);
                    Bytes::from(transfer.bytes)
                }
                // The first piece is the last.
                _ => data,
            };
            return Ok(known.map(|kind| (kind, bytes)));
        }
        let transfer = self.under_way.entry(number).or_insert(Transfer {
            kind,
            total,
            came: 0,
            bytes: Vec::new(),
        });
        if known.is_some() {
            transfer.extend(&data);
        }
        transfer.came = came;
        Ok(None)
    }

    /// The rest of a transfer will not come.
    pub(super) fn abort(&mut self, transfer: u32) -> Result<(), ChunkError> {
        match self.under_way.remove(&transfer) {
            Some(_) => Ok(()),
            None => Err(ChunkError::NotUnderWay {
                got: transfer,
                newest: self.newest,
            }),
        }
    }

    /// Bytes of memory held for messages that are not complete.
    pub(super) fn held(&self) -> usize {
        self.under_way
            .values()
            .map(|transfer| transfer.bytes.capacity())
            .sum()
    }

    fn next(&self) -> u32 {
        self.newest.wrapping_add(1)
    }

    fn may_begin(&self, number: u32) -> Result<(), ChunkError> {
        let expected = self.next();
        if number == expected && self.under_way.len() < Self::LIMIT {
            return Ok(());
        }
        Err(if number == expected {
            ChunkError::TooMany {
                limit: Self::LIMIT,
                got: number,
            }
        } else if (1..expected).contains(&number) {
            ChunkError::NotUnderWay {
                got: number,
                newest: self.newest,
            }
        } else {
            ChunkError::Order {
                expected,
                got: number,
            }
        })
    }
}

impl Transfer {
    /// Whether a further piece speaks of the same whole.
    fn same(&self, number: u32, kind: u8, total: u32) -> Result<(), ChunkError> {
        if kind != self.kind {
            return Err(ChunkError::Kind {
                transfer: number,
                expected: self.kind,
                got: kind,
            });
        }
        if total != self.total {
            return Err(ChunkError::Total {
                transfer: number,
                expected: self.total,
                got: total,
            });
        }
        Ok(())
    }

    fn extend(&mut self, data: &[u8]) {
        let came = self.bytes.len() + data.len();
        if came > self.bytes.capacity() {
            let total = usize::try_from(self.total).unwrap_or(usize::MAX);
            let room = came.saturating_mul(2).min(total);
            // The exact size makes `Bytes` of it later without a copy.
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
    }
}

/// The type of a whole; `None` if it is one to be read over.
fn known(transfer: u32, kind: u8) -> Result<Option<MessageType>, ChunkError> {
    match MessageType::from_byte(kind) {
        Some(known) if !matches!(known, MessageType::Chunk | MessageType::Abort) => Ok(Some(known)),
        None if MessageType::SKIPPABLE.contains(&kind) => Ok(None),
        _ => Err(ChunkError::Type { transfer, kind }),
    }
}

#[cfg(test)]
mod tests;
