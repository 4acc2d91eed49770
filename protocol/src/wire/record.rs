//! JSON objects with known keys, read straight into their values.

use super::{DecodeError, DecodeLimits, MessageType};
use crate::json::{Allowance, Json, JsonSeed, brief};
use alloc::borrow::{Cow, ToOwned};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// An object while it is read, key by key. Of a key that stands twice the last value counts, as in
/// Python; that is why this is not derived.
pub(super) trait Record: Default {
    /// What the object becomes.
    type Value;

    /// Reads the value of `key`, or returns false for a key that this object does not know.
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        map: &mut A,
        allowance: &Allowance,
    ) -> Result<bool, A::Error>;

    /// Whether all that is needed was there.
    fn finish<E: Error>(self) -> Result<Self::Value, E>;
}

/// The value of a key that must be there.
pub(super) fn need<T, E: Error>(value: Option<T>, key: &str) -> Result<T, E> {
    value.ok_or_else(|| E::custom(format_args!("key {key:?} is missing")))
}

/// Reads `text`, all of it, as one `R`.
pub(super) fn read<R: Record>(
    kind: MessageType,
    text: &[u8],
    limits: &DecodeLimits,
) -> Result<R::Value, DecodeError> {
    let text = utf8(kind, text)?;
    let allowance = Allowance::new(limits.json_depth);
    let mut reader = serde_json::Deserializer::from_str(text);
    Object::<R>::new(&allowance)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| DecodeError::Json {
            kind,
            reason: brief(&error),
        })
}

fn utf8(kind: MessageType, text: &[u8]) -> Result<&str, DecodeError> {
    core::str::from_utf8(text).map_err(|error| DecodeError::Json {
        kind,
        reason: error.to_string(),
    })
}

/// Reads one object.
pub(super) struct Object<'a, R> {
    allowance: &'a Allowance,
    record: PhantomData<R>,
}

impl<'a, R> Object<'a, R> {
    pub(super) fn new(allowance: &'a Allowance) -> Self {
        Self {
            allowance,
            record: PhantomData,
        }
    }
}

impl<'de, R: Record> DeserializeSeed<'de> for Object<'_, R> {
    type Value = R::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<R::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, R: Record> Visitor<'de> for Object<'_, R> {
    type Value = R::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<R::Value, A::Error> {
        let mut record = R::default();
        while let Some(Text(key)) = map.next_key()? {
            if !record.field(&key, &mut map, self.allowance)? {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        record.finish()
    }
}

/// A text, borrowed from the document where it holds no escape.
pub(super) struct Text<'de>(pub(super) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Reader)
    }
}

/// A list of at most `most` items.
pub(super) struct List<T> {
    most: usize,
    item: PhantomData<T>,
}

impl<T> List<T> {
    pub(super) fn up_to(most: usize) -> Self {
        Self {
            most,
            item: PhantomData,
        }
    }

    /// As many as any document may hold.
    pub(super) fn any() -> Self {
        Self::up_to(Json::MAX_VALUES as usize)
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} items", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            if items.len() == self.most {
                return Err(A::Error::custom(format_args!(
                    "more than {} items",
                    self.most
                )));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Any value, with null as `None`.
pub(super) fn maybe_json<'de, A: MapAccess<'de>>(
    map: &mut A,
    allowance: &Allowance,
) -> Result<Option<Json>, A::Error> {
    let json = map.next_value_seed(JsonSeed::new(allowance))?;
    Ok(if json == Json::Null { None } else { Some(json) })
}

/// At most some characters of a peer's word, for an error message.
pub(super) fn excerpt(text: &str) -> impl fmt::Display + '_ {
    const MOST: usize = 60;

    struct Excerpt<'a>(&'a str);

    impl fmt::Display for Excerpt<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (shown, more) = match self.0.char_indices().nth(MOST) {
                Some((at, _)) => (self.0.get(..at).unwrap_or_default(), "…"),
                None => (self.0, ""),
            };
            write!(f, "{shown:?}{more}")
        }
    }

    Excerpt(text)
}
