//! Reading GGUF metadata.

use std::path::Path;

use half::f16;

use crate::{
    ModelError, WeightKind,
    gguf::{Array, Gguf, Value},
};

/// The header of a GGUF file, with names under its architecture's prefix.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    file: &'a Path,
    gguf: &'a Gguf,
    /// The whole file, for the few tensors that are really constants.
    bytes: &'a [u8],
    architecture: &'a str,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(file: &'a Path, gguf: &'a Gguf, bytes: &'a [u8]) -> Result<Self, ModelError> {
        const ARCHITECTURE: &str = "general.architecture";
        let mut keys = Self {
            file,
            gguf,
            bytes,
            architecture: "",
        };
        let Some(value) = keys.value(ARCHITECTURE) else {
            return Err(keys.missing(ARCHITECTURE));
        };
        keys.architecture = value
            .as_str()
            .ok_or_else(|| ModelError::field(file, ARCHITECTURE, "a text", value))?;
        Ok(keys)
    }

    pub(crate) fn file(&self) -> &Path {
        self.file
    }

    pub(crate) fn architecture(&self) -> &str {
        self.architecture
    }

    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// The value of a key with its prefix.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.gguf.metadata.get(key)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.value(&self.full(name))
    }

    /// `key` with its prefix.
    pub(crate) fn missing(&self, key: &str) -> ModelError {
        ModelError::MissingField {
            file: self.file.to_owned(),
            field: key.to_owned(),
        }
    }

    pub(crate) fn wrong(&self, name: &str, expected: impl Into<String>) -> ModelError {
        let key = self.full(name);
        let found = self.value(&key).map(Value::to_string).unwrap_or_default();
        ModelError::field(self.file, &key, expected, found)
    }

    pub(crate) fn unsupported(
        &self,
        what: impl Into<String>,
        supported: impl Into<String>,
    ) -> ModelError {
        ModelError::unsupported(self.file, what, supported)
    }

    /// A positive number, or a list with the same one for each layer (some converters write that).
    pub(crate) fn count(&self, name: &str, limit: u64) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let uniform = || {
            let list = value.as_ints()?;
            let (&first, rest) = list.split_first()?;
            rest.iter()
                .all(|&other| other == first)
                .then_some(first)?
                .try_into()
                .ok()
        };
        let count = value
            .as_u64()
            .or_else(uniform)
            .filter(|n| (1..=limit).contains(n));
        match count.and_then(|n| usize::try_from(n).ok()) {
            Some(count) => Ok(Some(count)),
            None => {
                let expected = format!("a whole number from 1 to {limit}, the same for all layers");
                Err(self.wrong(name, expected))
            }
        }
    }

    pub(crate) fn required_count(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        self.count(name, limit)?
            .ok_or_else(|| self.missing(&self.full(name)))
    }

    /// A count that may be zero, which is also what it is when it is absent.
    pub(crate) fn count_or_zero(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        match self.get(name).and_then(Value::as_u64) {
            Some(0) => Ok(0),
            _ => Ok(self.count(name, limit)?.unwrap_or(0)),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value
            .as_f64()
            .map(|x| x as f32)
            .filter(|x| x.is_finite() && *x > 0.0)
        {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, "a positive number")),
        }
    }

    pub(crate) fn required_number(&self, name: &str) -> Result<f32, ModelError> {
        self.number(name)?
            .ok_or_else(|| self.missing(&self.full(name)))
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_bool() {
                Some(flag) => Ok(Some(flag)),
                None => Err(self.wrong(name, "true or false")),
            },
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(self.wrong(name, "a text")),
            },
        }
    }

    /// For each of `layers` whether it is so; nothing when the key is absent or a number.
    pub(crate) fn flags(
        &self,
        name: &str,
        layers: usize,
    ) -> Result<Option<&'a [bool]>, ModelError> {
        match self.get(name) {
            Some(Value::Array(Array::Bool(flags))) if flags.len() == layers => Ok(Some(flags)),
            Some(Value::Array(_)) => {
                let expected = format!("a number, or true or false for each of {layers} layers");
                Err(self.wrong(name, expected))
            }
            _ => Ok(None),
        }
    }

    /// A token under a key that has no architecture in it.
    pub(crate) fn token(&self, key: &str) -> Result<Option<u32>, ModelError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(token) => Ok(Some(token)),
            None => Err(ModelError::field(self.file, key, "a token's number", value)),
        }
    }

    /// Whether the file has a tensor.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.gguf.tensors.contains_key(tensor)
    }

    /// How many rows a matrix has, if it is there.
    pub(crate) fn rows(&self, tensor: &str) -> Option<usize> {
        self.gguf.tensors.get(tensor)?.dims.get(1).copied()
    }

    pub(crate) fn tensor_bytes(&self) -> u64 {
        let tensors = self.gguf.tensors.values();
        tensors.map(|tensor| tensor.bytes.len() as u64).sum()
    }

    /// The numbers of a tensor of positive floats, if it is there.
    pub(crate) fn floats(&self, tensor: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(info) = self.gguf.tensors.get(tensor) else {
            return Ok(None);
        };
        let data = self.bytes.get(info.bytes.clone()).unwrap_or_default();
        let numbers: Vec<f32> = match info.kind {
            WeightKind::F32 => {
                let (numbers, _) = data.as_chunks();
                numbers.iter().map(|&n| f32::from_le_bytes(n)).collect()
            }
            WeightKind::F16 => {
                let (numbers, _) = data.as_chunks();
                let numbers = numbers.iter().map(|&n| f16::from_le_bytes(n));
                numbers.map(f16::to_f32).collect()
            }
            other => {
                let what = format!("the tensor `{tensor}` in {other}");
                return Err(self.unsupported(what, "F32, F16"));
            }
        };
        match numbers.iter().find(|&&n| !n.is_finite() || n <= 0.0) {
            None => Ok(Some(numbers)),
            Some(bad) => {
                let expected = "positive numbers only";
                Err(ModelError::field(self.file, tensor, expected, bad))
            }
        }
    }
}
