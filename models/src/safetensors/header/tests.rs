use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::Header;
use crate::{
    ModelError, WeightKind, map::FileBytes, test_files::safetensors_with, weights::StoredKind,
};

fn locate(entry: Json, data: usize) -> Result<(StoredKind, Vec<usize>), ModelError> {
    let bytes = FileBytes::Static(safetensors_with(&json!({ "t": entry }), data).leak());
    let file = Path::new("some.safetensors");
    let header = Header::parse(file, &bytes)?;
    let found = header.locate(file, &bytes, "t")?.unwrap();
    assert_eq!(found.bytes.end - found.bytes.start, data);
    Ok((found.kind, found.shape))
}

fn entry(dtype: &str, shape: &[u64], offsets: [u64; 2]) -> Json {
    json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
}

#[test]
fn tensors_of_each_type() {
    assert_eq!(
        locate(entry("F32", &[2, 3], [0, 24]), 24).unwrap(),
        (StoredKind::Plain(WeightKind::F32), vec![2, 3])
    );
    assert_eq!(
        locate(entry("F16", &[2, 3], [0, 12]), 12).unwrap(),
        (StoredKind::Plain(WeightKind::F16), vec![2, 3])
    );
    assert_eq!(
        locate(entry("BF16", &[5], [0, 10]), 10).unwrap(),
        (StoredKind::Plain(WeightKind::Bf16), vec![5])
    );
    assert_eq!(
        locate(entry("U32", &[2, 1, 3], [0, 24]), 24).unwrap(),
        (StoredKind::Words, vec![2, 1, 3])
    );
}

#[test]
fn wrong_tensors_are_named() {
    for (entry, expected) in [
        (entry("I64", &[2], [0, 16]), "stored as I64"),
        (entry("F32", &[1, 1, 1, 1], [0, 4]), "a vector, a matrix"),
        (entry("F32", &[], [0, 4]), "a vector, a matrix"),
        (entry("F32", &[0, 4], [0, 0]), "of a size that can be"),
        (
            entry("F32", &[u64::MAX, u64::MAX], [0, 16]),
            "of a size that can be",
        ),
        (entry("F32", &[4], [0, 15]), "16 bytes long"),
        (entry("F32", &[4], [16, 0]), "16 bytes long"),
        (entry("F32", &[4], [u64::MAX - 16, u64::MAX]), "download"),
        (entry("F32", &[4], [8, 24]), "download"),
    ] {
        let error = locate(entry, 16).unwrap_err().to_string();
        assert!(
            error.contains("some.safetensors") && error.contains("`t`"),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn wrong_headers_are_named() {
    let parse = |bytes: &[u8]| match Header::parse(Path::new("some.safetensors"), bytes) {
        Ok(header) => Ok(header.tensors.len()),
        Err(error) => Err(error.to_string()),
    };
    let good = safetensors_with(&json!({"__metadata__": {"a": "b"}}), 0);
    assert_eq!(parse(&good), Ok(0));
    for (bytes, expected) in [
        (&good[..7], "only 7 bytes"),
        (&good[..good.len() - 1], "inside its header"),
        (&[0xff; 64][..], "header would have"),
        (&safetensors_with(&json!([1]), 0), "header"),
        (
            &safetensors_with(&json!({"t": {"dtype": "F32"}}), 0),
            "tensor `t`",
        ),
    ] {
        let error = parse(bytes).unwrap_err();
        assert!(
            error.contains("some.safetensors") && error.contains(expected),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn mutations_are_survived(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = safetensors_with(&json!({ "t": entry("F32", &[2, 3], [0, 24]) }), 24);
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = Path::new("some.safetensors");
        let bytes = FileBytes::Static(bytes.leak());
        if let Ok(header) = Header::parse(file, &bytes) {
            for name in header.tensors.keys() {
                if let Ok(Some(found)) = header.locate(file, &bytes, name) {
                    prop_assert!(bytes.get(found.bytes).is_some());
                }
            }
        }
    }
}
