//! The nine bytes before every payload.

use super::{DecodeError, MessageType};

/// The first four bytes of a frame: the protocol's name and its version.
pub const MAGIC: [u8; 4] = *b"EXO\x01";

/// Bytes before the payload: magic, type, and the payload's length as a big-endian `u32`.
pub const HEADER_LEN: usize = 9;

/// A frame's type and the bytes of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: MessageType,
    /// How long it is.
    pub length: u32,
}

impl Header {
    /// Reads a header; in this order, as the reference does: magic, type, length.
    ///
    /// # Errors
    /// [`DecodeError::Magic`] and [`DecodeError::UnknownType`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let (number, length) = read(bytes)?;
        match MessageType::from_byte(number) {
            Some(kind) => Ok(Self { kind, length }),
            None => Err(DecodeError::UnknownType(number)),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [m0, m1, m2, m3, self.kind as u8, l0, l1, l2, l3]
    }
}

/// What a decoder does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Reads it as a message.
    Message(Header),
    /// Reads over so many bytes of payload: the message is a later version's, and made so that
    /// nothing is lost on who does not know it.
    Skip(u32),
}

impl Frame {
    /// Reads a header, as [`Header::decode`].
    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, DecodeError> {
        let (number, length) = read(bytes)?;
        match MessageType::from_byte(number) {
            Some(kind) => Ok(Self::Message(Header { kind, length })),
            None if MessageType::SKIPPABLE.contains(&number) => Ok(Self::Skip(length)),
            None => Err(DecodeError::UnknownType(number)),
        }
    }
}

/// The message's number and the payload's length.
fn read(bytes: &[u8; HEADER_LEN]) -> Result<(u8, u32), DecodeError> {
    let [m0, m1, m2, m3, number, l0, l1, l2, l3] = *bytes;
    let magic = [m0, m1, m2, m3];
    if magic != MAGIC {
        return Err(DecodeError::Magic(magic));
    }
    Ok((number, u32::from_be_bytes([l0, l1, l2, l3])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back() {
        for kind in MessageType::ALL {
            let header = Header {
                kind,
                length: 0x0102_0304,
            };
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
        let bytes = Header {
            kind: MessageType::SendTensorRequest,
            length: 0xb8,
        }
        .encode();
        assert_eq!(&bytes, b"EXO\x01\x12\x00\x00\x00\xb8");
    }

    #[test]
    fn the_magic_is_judged_before_the_type() {
        assert_eq!(
            Header::decode(b"EXO\x02\xff\0\0\0\0"),
            Err(DecodeError::Magic(*b"EXO\x02"))
        );
        assert_eq!(
            Header::decode(b"EXO\x01\x7f\0\0\0\0"),
            Err(DecodeError::UnknownType(0x7f))
        );
    }

    #[test]
    fn what_is_unknown_is_fatal_or_read_over_by_its_number() {
        for number in 0..=u8::MAX {
            let bytes = [b'E', b'X', b'O', 1, number, 0, 0, 1, 2];
            let frame = Frame::decode(&bytes);
            let header = Header::decode(&bytes);
            match MessageType::from_byte(number) {
                Some(kind) => {
                    let expected = Header { kind, length: 258 };
                    assert_eq!(header, Ok(expected));
                    assert_eq!(frame, Ok(Frame::Message(expected)));
                }
                None => {
                    let unknown = DecodeError::UnknownType(number);
                    assert_eq!(header, Err(unknown.clone()));
                    let skipped = (0xc0..=0xfe).contains(&number);
                    let expected = if skipped {
                        Ok(Frame::Skip(258))
                    } else {
                        Err(unknown)
                    };
                    assert_eq!(frame, expected, "{number:#04x}");
                }
            }
        }
    }
}
