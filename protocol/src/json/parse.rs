//! Reading JSON: `serde_json`'s grammar under our own bounds.

use super::{Json, JsonError};
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// What happens to a key that stands twice in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twins {
    /// The last value counts, at the first one's place.
    LastWins,
    /// Both stay.
    Keep,
}

/// How much more one document may hold. Shared by everything that is read from it.
#[derive(Debug)]
pub(crate) struct Allowance {
    depth: u32,
    values: Cell<u32>,
}

impl Allowance {
    /// For a document with containers nested up to `depth`.
    pub(crate) fn new(depth: u32) -> Self {
        Self {
            depth,
            values: Cell::new(Json::MAX_VALUES),
        }
    }
}

/// Reads one [`Json`] value within an [`Allowance`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonSeed<'a> {
    allowance: &'a Allowance,
    /// Containers that may still open.
    depth: u32,
    twins: Twins,
}

impl<'a> JsonSeed<'a> {
    /// At the top of a value that may nest as deep as `allowance` says.
    pub(crate) fn new(allowance: &'a Allowance) -> Self {
        Self {
            allowance,
            depth: allowance.depth,
            twins: Twins::LastWins,
        }
    }

    fn inside<E: Error>(self) -> Result<Self, E> {
        let Some(depth) = self.depth.checked_sub(1) else {
            let most = self.allowance.depth;
            return Err(E::custom(format_args!("nested deeper than {most} levels")));
        };
        Ok(Self { depth, ..self })
    }
}

pub(super) fn document(bytes: &[u8], depth: usize, twins: Twins) -> Result<Json, JsonError> {
    let allowance = Allowance::new(u32::try_from(depth).unwrap_or(u32::MAX));
    let text = core::str::from_utf8(bytes).map_err(|error| JsonError(error.to_string()))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    JsonSeed {
        twins,
        ..JsonSeed::new(&allowance)
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value))
    .map_err(|error| JsonError(brief(&error)))
}

/// An error's text, cut where it quotes more of the peer's words than anybody wants to read. The
/// position at its end stays.
pub(crate) fn brief(error: &serde_json::Error) -> String {
    const WORDS: usize = 120;
    let text = error.to_string();
    let (words, position) = match text.rfind(" at line ") {
        Some(at) => text.split_at(at),
        None => (text.as_str(), ""),
    };
    if words.chars().count() <= WORDS {
        return text;
    }
    let start: String = words.chars().take(WORDS - 40).collect();
    let skipped = words.chars().count() - 40;
    let end: String = words.chars().skip(skipped).collect();
    format!("{start}…{end}{position}")
}

impl<'de> DeserializeSeed<'de> for JsonSeed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let Some(left) = self.allowance.values.get().checked_sub(1) else {
            let most = Json::MAX_VALUES;
            return Err(D::Error::custom(format_args!("more than {most} values")));
        };
        self.allowance.values.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonSeed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inside)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let inside = self.inside()?;
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            entries.push((key, access.next_value_seed(inside)?));
        }
        if self.twins == Twins::LastWins {
            last_wins(&mut entries);
        }
        Ok(Json::Object(entries))
    }
}

/// Leaves the last value of every key at the place of its first.
fn last_wins(entries: &mut Vec<(String, Json)>) {
    // Sorting keeps a peer with a million keys from costing the square of that.
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by(|&a, &b| {
        entries
            .get(a)
            .map(|entry| &entry.0)
            .cmp(&entries.get(b).map(|entry| &entry.0))
    });
    let same = |pair: &[usize]| match pair {
        &[a, b] => {
            matches!((entries.get(a), entries.get(b)), (Some(a), Some(b)) if a.0 == b.0)
        }
        _ => false,
    };
    if !order.windows(2).any(same) {
        return;
    }
    // The sort is stable: within a run of equal keys the first place comes first.
    let mut moves = Vec::new();
    let mut keep = alloc::vec![true; entries.len()];
    for run in order.chunk_by(|&a, &b| same(&[a, b])) {
        if let [first, .., last] = *run {
            moves.push((first, last));
            for &index in run.iter().skip(1) {
                if let Some(keep) = keep.get_mut(index) {
                    *keep = false;
                }
            }
        }
    }
    for (first, last) in moves {
        entries.swap(first, last);
    }
    let mut kept = keep.into_iter();
    entries.retain(|_| kept.next().unwrap_or(false));
}
