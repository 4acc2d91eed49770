//! Examples in the container of the base protocol.

use super::*;
use crate::tensor::{DType, DTypeFamily};
use alloc::format;
use alloc::vec;
use proptest::prelude::*;

fn tensor(dtype: DType, shape: &[usize], byte: u8) -> Tensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    let tensor = Tensor::new(dtype, shape.to_vec(), vec![byte; bytes].into());
    tensor.expect("the bytes match")
}

fn example() -> SendExample {
    SendExample {
        shard: Shard::new("m".into(), 0..4, 8).expect("a range of layers"),
        example: tensor(DType::I64, &[1, 2], 1),
        target: tensor(DType::I64, &[1, 2], 2),
        length: tensor(DType::I64, &[1], 3),
        train: true,
        request_id: Some("r".into()),
    }
}

fn read(payload: &[u8]) -> Result<SendExample, DecodeError> {
    SendExample::read(&Bytes::copy_from_slice(payload), &DecodeLimits::default())
}

fn reply(payload: &[u8]) -> Result<ExampleReply, DecodeError> {
    ExampleReply::read(&Bytes::copy_from_slice(payload), &DecodeLimits::default())
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let json = br#"{"shard": {"model_id": "m", "start_layer": 0, "end_layer": 3, "n_layers": 8}, "example": {"shape": [1, 2], "dtype": "int64"}, "target": {"shape": [1, 2], "dtype": "int64"}, "length": {"shape": [1], "dtype": "int64"}, "train": true, "request_id": "r"}"#;
    let length = u32::try_from(json.len()).expect("short");
    let written = [
        &length.to_be_bytes(),
        &json[..],
        &[1; 16],
        &[2; 16],
        &[3; 8],
    ]
    .concat();
    assert_eq!(example().write(), written);
    assert_eq!(read(&written), Ok(example()));
    let grads = Some(tensor(DType::F32, &[1, 1, 1], 0).spelled(DTypeFamily::Mlx));
    let json = br#"{"loss": 0.5, "grads": {"shape": [1, 1, 1], "dtype": "mlx.core.float32"}}"#;
    let length = u32::try_from(json.len()).expect("short");
    let written = [&length.to_be_bytes(), &json[..], &[0; 4]].concat();
    let both = ExampleReply { loss: 0.5, grads };
    assert_eq!(both.write(), written);
    assert_eq!(reply(&written), Ok(both));
    let alone = reply(b"\0\0\0\x0b{\"loss\": 2}").expect("a loss alone");
    assert_eq!((alone.loss, alone.grads), (2.0, None));
    let none = ExampleReply {
        loss: f32::NAN,
        grads: None,
    };
    assert_eq!(none.write()[4..], *b"{\"loss\": null}");
    assert!(reply(&none.write()).expect("a loss").loss.is_nan());
}

#[test]
fn the_bytes_are_exactly_those_of_the_tensors() {
    let whole = example().write();
    for length in 0..whole.len() {
        let cut = read(&whole[..length]);
        let short = matches!(cut, Err(DecodeError::Truncated { .. }));
        assert!(short, "{length}: {cut:?}");
    }
    let long = read(&[&whole[..], b"x"].concat());
    assert!(matches!(long, Err(DecodeError::Length { .. })), "{long:?}");
    let text = core::str::from_utf8(&whole[4..whole.len() - 40]).expect("JSON");
    for shape in ["[4294967295, 4294967295, 9]", "[1, 99]"] {
        let json = text.replacen("[1, 2]", shape, 1);
        let length = u32::try_from(json.len()).expect("short");
        let other = [&length.to_be_bytes(), json.as_bytes(), &[0; 40]].concat();
        let short = matches!(read(&other), Err(DecodeError::Truncated { .. }));
        assert!(short, "{shape}");
    }
}

#[test]
fn every_key_is_needed_and_judged() {
    let whole = example().write();
    let text = core::str::from_utf8(&whole[4..whole.len() - 40]).expect("JSON");
    for key in ["shard", "example", "target", "length", "train"] {
        let json = text.replacen(&format!("\"{key}\""), "\"other\"", 1);
        let length = u32::try_from(json.len()).expect("short");
        let other = [&length.to_be_bytes(), json.as_bytes(), &[0; 40]].concat();
        let bad = matches!(read(&other), Err(DecodeError::Json { .. }));
        assert!(bad, "without {key}");
    }
    assert!(reply(b"\0\0\0\x02{}").is_err());
    assert!(reply(b"\0\0\0\x0d{\"loss\": \"1\"}").is_err());
    let limits = DecodeLimits {
        metadata: 10,
        ..DecodeLimits::default()
    };
    let large = SendExample::read(&whole, &limits);
    assert!(matches!(large, Err(DecodeError::JsonTooLarge { .. })));
}

proptest! {
    #[test]
    fn any_example_reads_back(
        shapes in prop::array::uniform3(prop::collection::vec(0usize..4, 0..4)),
        dtypes in prop::array::uniform3(0usize..14),
        train in any::<bool>(),
        request_id in prop::option::of(any::<String>()),
        model in any::<String>(),
        loss in any::<f32>(),
    ) {
        let [example, target, length] = [0, 1, 2].map(|index| {
            tensor(DType::ALL[dtypes[index]], &shapes[index], 7)
        });
        let shard = Shard { model: model.into(), start: 3, end: 1, layers: 0 };
        let grads = train.then(|| length.clone());
        let sent = SendExample { shard, example, target, length, train, request_id };
        prop_assert_eq!(read(&sent.write()), Ok(sent));
        let sent = ExampleReply { loss, grads };
        let back = reply(&sent.write()).expect("it was written just now");
        let same = back.loss == loss || !loss.is_finite() && back.loss.is_nan();
        prop_assert!(same && back.grads == sent.grads);
    }

    #[test]
    fn noise_is_refused_or_read(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(sent) = read(&noise) {
            prop_assert_eq!(read(&sent.write()), Ok(sent));
        }
        let _ = reply(&noise);
    }
}
