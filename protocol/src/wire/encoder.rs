//! Messages on their way out.

use super::payload::encode;
use super::{EncodeError, Message};
use alloc::vec::Vec;
use bytes::Bytes;

/// One message on its way out, in two pieces for one vectored write: what had to be written anew
/// (frame header and JSON), and the tensor's bytes, which are never copied.
#[derive(Debug)]
pub struct Encoder {
    head: Vec<u8>,
    body: Bytes,
    sent: usize,
}

impl Encoder {
    /// The bytes of `message`.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] when the payload exceeds what a frame can announce; the others
    /// when a message of the extension holds what no receiver would take.
    pub fn new(message: &Message) -> Result<Self, EncodeError> {
        let (head, body) = encode(message)?;
        Ok(Self {
            head,
            body,
            sent: 0,
        })
    }

    /// What is left to write, in this order. Either piece may be empty.
    #[must_use]
    pub fn slices(&self) -> [&[u8]; 2] {
        let head = self.head.get(self.sent..).unwrap_or_default();
        let body = self
            .body
            .get(self.sent.saturating_sub(self.head.len())..)
            .unwrap_or_default();
        [head, body]
    }

    /// Counts `n` bytes as written; true when that was all.
    pub fn advance(&mut self, n: usize) -> bool {
        debug_assert!(
            n <= self.remaining(),
            "the transport wrote more than there was"
        );
        self.sent = self.sent.saturating_add(n);
        self.remaining() == 0
    }

    /// Bytes left to write.
    #[must_use]
    pub fn remaining(&self) -> usize {
        (self.head.len() + self.body.len()).saturating_sub(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::Shard;
    use crate::tensor::Tensor;
    use crate::wire::SendTensor;

    fn tensor() -> Message {
        Message::SendTensorRequest(SendTensor {
            shard: Shard::new("dummy".into(), 0..4, 8).expect("layers"),
            tensor: Tensor::from_tokens(&[2]),
            request_id: Some("req-1".into()),
            inference_state: None,
        })
    }

    #[test]
    fn a_tensor_leaves_as_the_reference_writes_it() {
        let encoder = Encoder::new(&tensor()).expect("small");
        let [head, body] = encoder.slices();
        let metadata = br#"{"shard": {"model_id": "dummy", "start_layer": 0, "end_layer": 3, "n_layers": 8}, "tensor": {"shape": [1, 1], "dtype": "int32"}, "request_id": "req-1", "inference_state": null}"#;
        let mut expected = b"EXO\x01\x12\0\0\0\xb8\0\0\0\xb0".to_vec();
        expected.extend_from_slice(metadata);
        assert_eq!(head, expected);
        assert_eq!(body, [2, 0, 0, 0]);
    }

    #[test]
    fn a_body_is_shared_not_copied() {
        let message = tensor();
        let Message::SendTensorRequest(request) = &message else {
            panic!("made above")
        };
        let encoder = Encoder::new(&message).expect("small");
        assert_eq!(encoder.slices()[1].as_ptr(), request.tensor.data().as_ptr());
    }

    #[test]
    fn any_partition_of_the_writes_sends_all_bytes_once() {
        let whole = Encoder::new(&tensor()).expect("small").slices().concat();
        for step in 1..whole.len() {
            let mut encoder = Encoder::new(&tensor()).expect("small");
            let mut sent = Vec::new();
            loop {
                let left = encoder.slices().concat();
                assert_eq!(left.len(), encoder.remaining());
                let n = step.min(left.len());
                sent.extend_from_slice(&left[..n]);
                if encoder.advance(n) {
                    break;
                }
            }
            assert_eq!(sent, whole);
        }
    }
}
