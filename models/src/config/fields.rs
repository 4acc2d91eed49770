//! Reading config.json.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ModelError;

/// A JSON object with the path of its file, for messages. An explicit `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    file: PathBuf,
    object: Map<String, Value>,
    has_output_head: bool,
}

impl Fields {
    pub(crate) fn new(file: PathBuf, object: Map<String, Value>) -> Self {
        Self {
            file,
            object,
            has_output_head: false,
        }
    }

    /// With what the weight files say: whether an output head is among the tensors.
    pub(crate) fn with_output_head(mut self, there: bool) -> Self {
        self.has_output_head = there;
        self
    }

    /// The same with values for what is not there.
    pub(crate) fn with_defaults(&self, defaults: &[(&str, f64)]) -> Self {
        let mut object = self.object.clone();
        for &(name, value) in defaults {
            if Self::get(&object, name).is_none() {
                // Whole numbers stay whole numbers.
                let value = match value.fract() {
                    0.0 => Value::from(value as u64),
                    _ => Value::from(value),
                };
                object.insert(name.to_owned(), value);
            }
        }
        Self::new(self.file.clone(), object).with_output_head(self.has_output_head)
    }

    /// The object inside of this one under that name; what it does not have comes from this one.
    pub(crate) fn within(&self, name: &str) -> Result<Self, ModelError> {
        let mut object = self.object.clone();
        let inner = self.section(name)?.ok_or_else(|| self.missing(name))?;
        let there = inner.iter().filter(|(_, value)| !value.is_null());
        object.extend(there.map(|(name, value)| (name.clone(), value.clone())));
        Ok(Self::new(self.file.clone(), object).with_output_head(self.has_output_head))
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// An output head is among the tensors.
    pub(crate) fn has_output_head(&self) -> bool {
        self.has_output_head
    }

    /// Whether the field is there, be it as `null`.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        object.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn missing(&self, name: &str) -> ModelError {
        ModelError::MissingField {
            file: self.file.clone(),
            field: name.to_owned(),
        }
    }

    pub(crate) fn wrong(&self, name: &str, expected: impl Into<String>) -> ModelError {
        let found = self.object.get(name).unwrap_or(&Value::Null);
        ModelError::field(&self.file, name, expected, found)
    }

    pub(crate) fn unsupported(
        &self,
        what: impl Into<String>,
        supported: impl Into<String>,
    ) -> ModelError {
        ModelError::unsupported(&self.file, what, supported)
    }

    pub(crate) fn count_in(
        &self,
        name: &str,
        object: &Map<String, Value>,
        limit: u64,
    ) -> Result<Option<usize>, ModelError> {
        let Some(value) = Self::get(object, name) else {
            return Ok(None);
        };
        let count = value.as_u64().filter(|&n| (1..=limit).contains(&n));
        match count.and_then(|n| usize::try_from(n).ok()) {
            Some(count) => Ok(Some(count)),
            None => {
                let expected = format!("a whole number from 1 to {limit}");
                Err(ModelError::field(&self.file, name, expected, value))
            }
        }
    }

    pub(crate) fn count(&self, name: &str, limit: u64) -> Result<Option<usize>, ModelError> {
        self.count_in(name, &self.object, limit)
    }

    pub(crate) fn required_count(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        self.count(name, limit)?.ok_or_else(|| self.missing(name))
    }

    /// A count that may be zero, which is also what it is when it is absent.
    pub(crate) fn count_or_zero(&self, name: &str, limit: u64) -> Result<usize, ModelError> {
        match Self::get(&self.object, name).and_then(Value::as_u64) {
            Some(0) => Ok(0),
            _ => Ok(self.count(name, limit)?.unwrap_or(0)),
        }
    }

    /// Nearly all numbers of a model's configuration are positive, and all are finite.
    pub(crate) fn number_in(
        &self,
        name: &str,
        object: &Map<String, Value>,
    ) -> Result<Option<f32>, ModelError> {
        let Some(value) = Self::get(object, name) else {
            return Ok(None);
        };
        match number(value).filter(|&x| x > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(ModelError::field(
                &self.file,
                name,
                "a positive number",
                value,
            )),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        self.number_in(name, &self.object)
    }

    /// A number that may be zero.
    pub(crate) fn weight_in(
        &self,
        name: &str,
        object: &Map<String, Value>,
    ) -> Result<Option<f32>, ModelError> {
        match Self::get(object, name).and_then(number) {
            Some(0.0) => Ok(Some(0.0)),
            _ => self.number_in(name, object),
        }
    }

    /// One positive number for each of `count`.
    pub(crate) fn numbers_in(
        &self,
        name: &str,
        object: &Map<String, Value>,
        count: usize,
    ) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(value) = Self::get(object, name) else {
            return Ok(None);
        };
        let list = value.as_array().filter(|list| list.len() == count);
        let positive = |value: &Value| number(value).filter(|&x| x > 0.0);
        match list.and_then(|list| list.iter().map(positive).collect()) {
            Some(numbers) => Ok(Some(numbers)),
            None => {
                let expected = format!("{count} positive numbers");
                Err(ModelError::field(&self.file, name, expected, value))
            }
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    pub(crate) fn section(&self, name: &str) -> Result<Option<&Map<String, Value>>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::Object(section)) => Ok(Some(section)),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    pub(crate) fn list(&self, name: &str) -> Result<Option<&[Value]>, ModelError> {
        match Self::get(&self.object, name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    /// A token or a list of tokens.
    pub(crate) fn tokens(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let values = match Self::get(&self.object, name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        values
            .iter()
            .map(|value| value.as_u64().and_then(|n| u32::try_from(n).ok()))
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong(name, "a token's number, or a list of them"))
    }
}

fn number(value: &Value) -> Option<f32> {
    let number = value.as_f64()? as f32;
    number.is_finite().then_some(number)
}
