//! Safetensors files as tests need them: read whole, changed, and written again.
//!
//! Not by the reader of `exo_models`, which is what is being tested.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the format spells it, such as `F32`.
    pub dtype: String,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// Little endian.
    pub data: Vec<u8>,
}

impl Entry {
    /// Numbers of an `F32` tensor.
    #[must_use]
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32", "golden floats are F32");
        let (numbers, _) = self.data.as_chunks();
        numbers.iter().map(|n| f32::from_le_bytes(*n)).collect()
    }

    /// Numbers of an `I32` tensor, none of them negative.
    #[must_use]
    pub fn tokens(&self) -> Vec<u32> {
        assert_eq!(self.dtype, "I32", "golden tokens are I32");
        let (numbers, _) = self.data.as_chunks();
        let numbers = numbers.iter().map(|n| i32::from_le_bytes(*n));
        numbers.map(i32::cast_unsigned).collect()
    }
}

/// The tensors of a file by name.
///
/// # Panics
/// When there is no such file or it is no safetensors file: golden data is as it was committed.
#[must_use]
pub fn read(file: &Path) -> BTreeMap<String, Entry> {
    let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    parse(&bytes)
}

/// The tensors of a file's bytes by name.
///
/// # Panics
/// When it is no safetensors file.
#[must_use]
pub fn parse(bytes: &[u8]) -> BTreeMap<String, Entry> {
    let (length, rest) = bytes.split_first_chunk().expect("a length");
    let length = usize::try_from(u64::from_le_bytes(*length)).expect("a small header");
    let (header, data) = rest.split_at(length);
    let header: Map<String, Value> = serde_json::from_slice(header).expect("a header");
    let tensor = |(name, about): (String, Value)| {
        let number = |value: &Value| {
            usize::try_from(value.as_u64().expect("a number")).expect("a small number")
        };
        let [start, end] = [0, 1].map(|side| number(&about["data_offsets"][side]));
        let shape = about["shape"].as_array().expect("a shape");
        let entry = Entry {
            dtype: about["dtype"].as_str().expect("a dtype").to_owned(),
            shape: shape.iter().map(number).collect(),
            data: data[start..end].to_vec(),
        };
        (name, entry)
    };
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    tensors.map(tensor).collect()
}

/// A tensor of floats, whatever they are stored as, as single precision.
///
/// # Panics
/// When it is of something else.
#[must_use]
pub fn floats(entry: &Entry) -> Vec<f32> {
    let (halves, _) = entry.data.as_chunks();
    let halves = halves.iter().map(|half| u16::from_le_bytes(*half));
    match &*entry.dtype {
        "F32" => entry.floats(),
        "BF16" => halves
            .map(|half| f32::from_bits(u32::from(half) << 16))
            .collect(),
        other => panic!("no floats: {other}"),
    }
}

/// The bytes of a file with these tensors.
#[must_use]
pub fn bytes(tensors: &BTreeMap<String, Entry>) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut data = Vec::<u8>::new();
    for (name, entry) in tensors {
        let start = data.len();
        data.extend(&entry.data);
        let about = json!({
            "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, data.len()],
        });
        header.insert(name.clone(), about);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}
