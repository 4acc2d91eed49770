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
        let [m0, m1, m2, m3, kind, l0, l1, l2, l3] = *bytes;
        let magic = [m0, m1, m2, m3];
        if magic != MAGIC {
            return Err(DecodeError::Magic(magic));
        }
        let kind = MessageType::from_byte(kind).ok_or(DecodeError::UnknownType(kind))?;
        Ok(Self {
            kind,
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [l0, l1, l2, l3] = self.length.to_be_bytes();
        [m0, m1, m2, m3, self.kind as u8, l0, l1, l2, l3]
    }
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
}
