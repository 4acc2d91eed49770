//! Reading the fields of a request's body; whatever is wrong names its field.

use super::error::ApiError;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Most keys that all objects of a body may have: in memory each takes some hundred times what it
/// takes in the body.
const KEYS: usize = 1 << 17;

/// Most values that all lists of a body may have.
const VALUES: usize = 1 << 20;

/// Refuses a body that would be large in memory, whatever it is on the wire.
fn check_size(bytes: &[u8]) -> Result<(), ApiError> {
    let (mut keys, mut values) = (0usize, 0usize);
    let (mut quoted, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b':' => keys += 1,
            b',' | b'[' | b'{' => values += 1,
            _ => {}
        }
    }
    if keys <= KEYS && values <= VALUES {
        return Ok(());
    }
    let message = format!("the body has more than {KEYS} keys, or {VALUES} values");
    Err(ApiError::new(413, "body_too_large", message))
}

/// The object that a body must be.
///
/// # Errors
/// 400 for anything else, and 413 for what is too large.
pub(super) fn body(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    check_size(bytes)?;
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(
            400,
            "invalid_json",
            format!("the body is not JSON: {error}"),
        )
    })?;
    match value {
        Value::Object(object) => Ok(object),
        other => {
            let message = format!("the body must be an object, not {}", kind(&other));
            Err(ApiError::new(400, "invalid_json", message))
        }
    }
}

/// An object's fields; `null` is the same as nothing.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Where the object is, with the dot behind it; empty for the body itself.
    place: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of the body.
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, place: "" }
    }

    /// The fields of an object inside; `place` ends with a dot.
    pub(super) fn at(object: &'a Map<String, Value>, place: &'a str) -> Self {
        Self { object, place }
    }

    /// The field's full name.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let read = |value| read(value).ok_or_else(|| wrong(&self.name(name), wanted, value));
        self.get(name).map(read).transpose()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A text that must be there.
    pub(super) fn wanted(&self, name: &str) -> Result<String, ApiError> {
        let text = self.text(name)?;
        text.ok_or_else(|| wrong(&self.name(name), "a text", &Value::Null))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.typed(name, "an integer", Value::as_i64)
    }

    /// A count of at least `least`; numbers beyond 32 bits are as good as the largest.
    pub(super) fn count(&self, name: &str, least: i64) -> Result<Option<u32>, ApiError> {
        let Some(count) = self.integer(name)? else {
            return Ok(None);
        };
        if count < least {
            let name = self.name(name);
            let message = format!("{name} must be at least {least}");
            return Err(ApiError::field(name, message));
        }
        Ok(Some(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    pub(super) fn number(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f32>, ApiError> {
        let Some(number) = self.typed(name, "a number", Value::as_f64)? else {
            return Ok(None);
        };
        if !range.contains(&number) {
            let name = self.name(name);
            let message = format!("{name} must be from {} to {}", range.start(), range.end());
            return Err(ApiError::field(name, message));
        }
        Ok(Some(number as f32))
    }

    pub(super) fn list(&self, name: &str) -> Result<Option<&'a Vec<Value>>, ApiError> {
        self.typed(name, "a list", Value::as_array)
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.typed(name, "an object", Value::as_object)
    }

    /// Refuses the field when it is there, with the reason.
    pub(super) fn refuse(&self, name: &str, why: &str) -> Result<(), ApiError> {
        match self.get(name) {
            None => Ok(()),
            Some(_) => Err(self.unsupported(name, why)),
        }
    }

    /// Says of a field that what it asks for is not to be had here.
    pub(super) fn unsupported(&self, name: &str, why: &str) -> ApiError {
        let name = self.name(name);
        let message = format!("{name}: {why}");
        ApiError::unsupported(name, message)
    }

    /// Any integer of 64 bits is a seed.
    pub(super) fn seed(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.typed(name, "an integer", |value| {
            value
                .as_u64()
                .or_else(|| value.as_i64().map(i64::cast_unsigned))
        })
    }

    /// -1 means all tokens for many clients, as zero does for ours.
    pub(super) fn top_k(&self, name: &str) -> Result<Option<u32>, ApiError> {
        if self.integer(name)? == Some(-1) {
            return Ok(Some(0));
        }
        self.count(name, 0)
    }

    /// One text, or a list of at most `most`, none of them empty.
    pub(super) fn stops(&self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let wanted = "a text or a list of texts";
        let stops = match self.get(name) {
            None => Vec::new(),
            Some(Value::String(stop)) => vec![stop.clone()],
            Some(Value::Array(stops)) => stops
                .iter()
                .map(|stop| match stop {
                    Value::String(stop) => Ok(stop.clone()),
                    other => Err(wrong(&self.name(name), wanted, other)),
                })
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(wrong(&self.name(name), wanted, other)),
        };
        let name = self.name(name);
        if stops.len() > most {
            let message = format!("{name} may hold at most {most} texts, not {}", stops.len());
            return Err(ApiError::field(name, message));
        }
        if stops.iter().any(String::is_empty) {
            let message = format!("{name} must not hold an empty text");
            return Err(ApiError::field(name, message));
        }
        Ok(stops)
    }
}

/// A value of the wrong type.
pub(super) fn wrong(name: &str, wanted: &str, value: &Value) -> ApiError {
    ApiError::field(
        name,
        format!("{name} must be {wanted}, not {}", kind(value)),
    )
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_large_in_memory_is_refused_and_one_with_long_texts_is_not() {
        let listed =
            |value: &str, count: usize| format!("{{\"a\":[{}]}}", vec![value; count].join(","));
        for (text, good) in [
            (listed("1", VALUES - 10), true),
            (listed("1", VALUES + 1), false),
            (listed("[]", VALUES / 2 + 1), false),
            (listed("{\"b\":1}", KEYS - 10), true),
            (listed("{\"b\":1}", KEYS), false),
            (format!("{{\"a\":\"{}\"}}", ",:[{\\\"".repeat(VALUES)), true),
        ] {
            let read = body(text.as_bytes());
            assert_eq!(read.is_ok(), good, "{:.40}", text);
            assert!(read.err().is_none_or(|error| error.status == 413));
        }
    }
}
