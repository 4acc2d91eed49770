use proptest::prelude::*;

use super::{Array, Gguf, GgufError, Value};
use crate::{
    WeightKind,
    test_files::{F32, GgufFile},
};

fn parse(file: &GgufFile) -> Result<Gguf, GgufError> {
    Gguf::parse(&file.bytes().0)
}

fn empty() -> GgufFile {
    GgufFile {
        version: 3,
        metadata: Vec::new(),
        tensors: Vec::new(),
    }
}

#[test]
fn every_value_type_survives() {
    let arrays = [
        Array::U8(vec![0, 255]),
        Array::I8(vec![-128, 127]),
        Array::U16(vec![0, u16::MAX]),
        Array::I16(vec![i16::MIN, i16::MAX]),
        Array::U32(vec![0, u32::MAX]),
        Array::I32(vec![i32::MIN, i32::MAX]),
        Array::U64(vec![0, u64::MAX]),
        Array::I64(vec![i64::MIN, i64::MAX]),
        Array::F32(vec![-0.0, 1.5]),
        Array::F64(vec![f64::MIN, f64::MAX]),
        Array::Bool(vec![true, false]),
        Array::String(vec![String::new(), "naïve 🎉".to_owned()]),
        Array::String(Vec::new()),
        Array::Array(vec![
            Array::Array(vec![Array::U8(vec![1])]),
            Array::U8(Vec::new()),
        ]),
    ];
    let scalars = [
        Value::U8(200),
        Value::I8(-100),
        Value::U16(60_000),
        Value::I16(-30_000),
        Value::U32(4_000_000_000),
        Value::I32(-2_000_000_000),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F32(1e-5),
        Value::F64(1e-300),
        Value::Bool(true),
        Value::String("text".to_owned()),
    ];
    let values: Vec<Value> = scalars
        .into_iter()
        .chain(arrays.map(Value::Array))
        .collect();
    for version in [2, 3] {
        let mut file = empty();
        file.version = version;
        for (index, value) in values.iter().enumerate() {
            file.set(&index.to_string(), value.clone());
        }
        let read = parse(&file).unwrap();
        assert_eq!(read.version, version);
        assert_eq!(read.metadata.len(), values.len());
        for (index, value) in values.iter().enumerate() {
            assert_eq!(read.metadata.get(&index.to_string()), Some(value));
        }
    }
}

#[test]
fn tensors_lie_where_the_header_says() {
    let mut file = empty();
    file.tensor("a", &[3, 2], F32, (0..24).collect());
    file.tensor("b", &[32, 1], 2, (100..118).collect());
    let (bytes, header) = file.bytes();
    let read = Gguf::parse(&bytes).unwrap();
    let (a, b) = (&read.tensors["a"], &read.tensors["b"]);
    assert_eq!(a.bytes.start, header.next_multiple_of(32));
    assert_eq!((a.kind, a.dims.as_slice()), (WeightKind::F32, &[3, 2][..]));
    assert_eq!(&bytes[a.bytes.clone()], (0..24).collect::<Vec<u8>>());
    assert_eq!(b.kind, WeightKind::Q4_0);
    assert_eq!(&bytes[b.bytes.clone()], (100..118).collect::<Vec<u8>>());
}

#[test]
fn alignment_is_the_files_own() {
    let mut file = empty();
    file.set("general.alignment", Value::U32(4));
    file.tensor("a", &[1], F32, vec![1, 2, 3, 4]);
    let (mut bytes, header) = file.bytes();
    let start = header.next_multiple_of(4);
    bytes.truncate(start);
    bytes.extend([5, 6, 7, 8]);
    assert_eq!(
        Gguf::parse(&bytes).unwrap().tensors["a"].bytes,
        start..start + 4
    );

    for wrong in [
        Value::U32(0),
        Value::U32(24),
        Value::String("32".to_owned()),
    ] {
        file.set("general.alignment", wrong);
        assert!(matches!(parse(&file), Err(GgufError::Alignment(_))));
    }
    file.set("general.alignment", Value::U64(1 << 40));
    assert!(matches!(parse(&file), Err(GgufError::Limit { .. })));
}

#[test]
fn wrong_beginnings_are_named() {
    assert_eq!(
        Gguf::parse(b"PK\x03\x04 and more"),
        Err(GgufError::Magic(*b"PK\x03\x04"))
    );
    for version in [0, 1, 4, 3_u32.swap_bytes()] {
        let mut file = empty();
        file.version = version;
        assert_eq!(parse(&file), Err(GgufError::Version(version)));
    }
}

#[test]
fn every_truncation_is_an_error() {
    let file = GgufFile::tiny();
    let (bytes, header) = file.bytes();
    // Byte by byte where it matters; the vocabulary in the middle is more of the same.
    let cuts = (0..1_000)
        .chain((1_000..header).step_by(97))
        .chain(header - 500..header);
    for cut in cuts {
        let error = Gguf::parse(&bytes[..cut]).unwrap_err();
        assert!(
            matches!(error, GgufError::Truncated { length, .. } if length == cut),
            "{error}"
        );
    }
    let error = Gguf::parse(&bytes[..bytes.len() - 1]).unwrap_err();
    assert!(matches!(&error, GgufError::Bounds { tensor, .. } if tensor == "output_norm.weight"));
    assert!(error.to_string().contains("download"), "{error}");
}

/// Counts that the file cannot keep must neither be believed nor allocated.
#[test]
fn announced_counts_are_not_believed() {
    let huge = [u64::MAX, 1 << 60, 1 << 40];
    for count in huge {
        let mut bytes = empty().bytes().0;
        bytes[8..16].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(
            Gguf::parse(&bytes),
            Err(GgufError::Truncated { .. })
        ));
        let mut bytes = empty().bytes().0;
        bytes[16..24].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(
            Gguf::parse(&bytes),
            Err(GgufError::Truncated { .. })
        ));
    }
    for (element, count) in (0..=12).flat_map(|element| huge.map(|count| (element, count))) {
        let mut bytes = empty().bytes().0;
        bytes[16..24].copy_from_slice(&1_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(b'k');
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(u32::to_le_bytes(element));
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 64]);
        let error = Gguf::parse(&bytes).unwrap_err();
        assert!(
            !matches!(error, GgufError::Magic(_) | GgufError::Version(_)),
            "{error}"
        );
    }
}

#[test]
fn limits_and_contradictions_are_named() {
    let mut nested = Array::U8(vec![1]);
    for _ in 0..4 {
        nested = Array::Array(vec![nested]);
    }
    let mut file = empty();
    file.set("deep", Value::Array(nested));
    assert!(
        parse(&file)
            .unwrap_err()
            .to_string()
            .contains("nesting of the value of `deep`")
    );

    let mut file = empty();
    file.metadata.push(("k".to_owned(), Value::U8(1)));
    file.metadata.push(("k".to_owned(), Value::U8(2)));
    assert_eq!(
        parse(&file),
        Err(GgufError::Duplicate("metadata key `k`".to_owned()))
    );

    let mut file = empty();
    file.tensor("t", &[1], F32, vec![0; 4]);
    file.tensor("t", &[1], F32, vec![0; 4]);
    assert_eq!(
        parse(&file),
        Err(GgufError::Duplicate("tensor `t`".to_owned()))
    );

    let mut file = empty();
    file.set(&"k".repeat(70_000), Value::U8(1));
    assert!(matches!(parse(&file), Err(GgufError::Limit { .. })));

    let mut file = empty();
    file.set("bad", Value::String("xyz".to_owned()));
    let mut bytes = file.bytes().0;
    let at = bytes.len() - 1;
    bytes[at] = 0xff;
    assert_eq!(
        Gguf::parse(&bytes),
        Err(GgufError::Utf8 {
            what: "the value of `bad`".to_owned()
        })
    );
}

#[test]
fn impossible_tensors_are_named() {
    for dims in [&[][..], &[0], &[4, 0], &[u64::MAX, 2], &[1 << 40, 1 << 40]] {
        let mut file = empty();
        file.tensor("t", dims, F32, vec![0; 64]);
        let error = parse(&file).unwrap_err();
        assert!(
            matches!(&error, GgufError::Dimensions { tensor, .. } if tensor == "t"),
            "{error}"
        );
    }
    // 33 elements do not divide into blocks of 32.
    let mut file = empty();
    file.tensor("t", &[33], 8, vec![0; 68]);
    assert!(matches!(parse(&file), Err(GgufError::Dimensions { .. })));

    let mut file = empty();
    file.tensor("t", &[1, 1, 1, 1, 1], F32, vec![0; 4]);
    assert!(matches!(parse(&file), Err(GgufError::Limit { .. })));

    for (kind, name) in [
        (23, "IQ4_XS"),
        (10, "Q2_K"),
        (4, "type number 4"),
        (999, "999"),
    ] {
        let mut file = empty();
        file.tensor("t", &[256], kind, vec![0; 4096]);
        let error = parse(&file).unwrap_err().to_string();
        assert!(error.contains("`t`") && error.contains(name), "{error}");
    }
}

/// What a stranger's bytes go through when a model is opened.
fn open_all(bytes: &[u8]) {
    let file = std::path::Path::new("stranger.gguf");
    let Ok(gguf) = Gguf::parse(bytes) else { return };
    for tensor in gguf.tensors.values() {
        assert!(bytes.get(tensor.bytes.clone()).is_some());
    }
    let template = crate::chat::from_gguf(file, &gguf);
    let Ok(config) = crate::config::from_gguf(file, &gguf, bytes) else {
        return;
    };
    let tokenizer = crate::tokenizer::from_gguf(file, &gguf, &config);
    if let (Ok(template), Ok(tokenizer)) = (template, tokenizer) {
        let text = template.render(&[], None, true).unwrap_or_default();
        tokenizer.encode(&text).unwrap();
    }
}

/// Metadata without most of the vocabulary: mutations then hit something that matters.
fn small() -> Vec<u8> {
    let mut file = GgufFile::tiny();
    file.tensors.retain(|tensor| tensor.data.len() < 2_000);
    let few = ["a", "b", "ab", "<|im_end|>"].map(str::to_owned).to_vec();
    file.set("llama.vocab_size", Value::U32(4));
    file.set("tokenizer.ggml.tokens", Value::Array(Array::String(few)));
    file.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32(vec![1, 1, 1, 3])),
    );
    file.set(
        "tokenizer.ggml.merges",
        Value::Array(Array::String(vec!["a b".to_owned()])),
    );
    file.set("tokenizer.ggml.bos_token_id", Value::U32(3));
    file.set("tokenizer.ggml.eos_token_id", Value::U32(3));
    file.bytes().0
}

#[test]
fn the_file_that_is_mutated_is_sound() {
    let bytes = small();
    let gguf = Gguf::parse(&bytes).unwrap();
    let file = std::path::Path::new("small.gguf");
    let config = crate::config::from_gguf(file, &gguf, &bytes).unwrap();
    let tokenizer = crate::tokenizer::from_gguf(file, &gguf, &config).unwrap();
    assert_eq!(tokenizer.encode("ab<|im_end|>ba").unwrap(), [2, 3, 1, 0]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        open_all(&bytes);
        let mut behind_a_header = empty().bytes().0;
        behind_a_header[8] = 1;
        behind_a_header[16] = 2;
        behind_a_header.extend(&bytes);
        open_all(&behind_a_header);
    }

    #[test]
    fn mutations_are_survived(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = small();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        open_all(&bytes);
    }

    #[test]
    fn overwritten_numbers_are_survived(
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(vec![
                0, 1, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, 1 << 60, u64::MAX / 2, u64::MAX,
            ])),
            1..3,
        ),
    ) {
        let mut bytes = small();
        for (index, number) in edits {
            let at = index.index(bytes.len() - 8);
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(number));
        }
        open_all(&bytes);
    }
}
