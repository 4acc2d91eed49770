//! Why we refuse what the reference lets through, and the other way round: one reason per rule,
//! judged from the bytes of a payload alone, without asking our codec.

use crate::scan::Scan;
use crate::shapes::{twins, well_typed};
use exo_protocol::wire::{DecodeLimits, MessageType};
use exo_protocol::{DType, Tensor};
use serde_json::Value;

/// Every rule on payloads with its reason.
pub(crate) const TABLE: &[(&str, &str)] = &[
    (
        "limit",
        "beyond our limits on lengths; the reference has none and takes any amount of memory",
    ),
    (
        "clipped",
        "the metadata's announced length ends past the payload; the reference clips it silently",
    ),
    ("nan", "NaN and Infinity are no JSON"),
    (
        "overflow",
        "a number beyond f64; Python makes an infinity of it",
    ),
    (
        "surrogate",
        "an unpaired surrogate escape is no Unicode text",
    ),
    ("depth", "nested deeper than any inference state is"),
    (
        "types",
        "a key is missing or of the wrong type; the reference checks none and fails later, or passes it on",
    ),
    (
        "dimension",
        "a negative dimension, which NumPy infers, or more dimensions than any tensor has",
    ),
    (
        "dtype",
        "a dtype outside both vocabularies; NumPy knows aliases, the Apple branch guesses float32",
    ),
    (
        "bytes",
        "the bytes are not shape times dtype; the decoder alone does not count them",
    ),
    (
        "vocabulary",
        "a dtype name that only the other platform of the reference knows; we know both",
    ),
    (
        "big integer",
        "an integer beyond 64 bits inside a state becomes the nearest float",
    ),
    (
        "skipped",
        "what nobody reads, an unknown key's value, is not looked at; the reference reads it, and \
         makes what no other JSON reader would of it",
    ),
    (
        "closes",
        "a malformed payload closes the connection with a reason; the reference swallows it \
         silently, and whoever waits for a reply waits for its timeout",
    ),
    (
        "apple",
        "the reference's Apple branch reads only types of 4 and 8 bytes, takes other names for \
         float32 and changes integer types; we keep what was said",
    ),
    (
        "unasked reply",
        "a malformed reply that nobody asked for closes the connection as well; the reference's \
         server does not look into replies",
    ),
    (
        "bare reply",
        "the reference cannot read the tensor replies it writes; we can",
    ),
    (
        "one way",
        "nothing comes back: what the sender does about its connection is not the codec's",
    ),
    (
        "untyped",
        "Python values that no message of ours can hold, and the reference refuses as well",
    ),
    (
        "unknown type",
        "the reference packs any number as a type; it refuses to read it, as we do",
    ),
];

/// Rules that our own set of vectors does not need.
pub(crate) const RARE: &[&str] = &["bare reply", "one way", "skipped"];

/// A payload with its type.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) kind: MessageType,
    pub(crate) bytes: &'a [u8],
}

/// Why we refuse it though the reference does not.
pub(crate) fn why_refused(payload: Payload<'_>) -> Option<&'static str> {
    let limits = DecodeLimits::default();
    let length = payload.bytes.len() as u64;
    let plain = payload.kind == MessageType::SendResult
        && payload
            .bytes
            .first()
            .is_some_and(|byte| b"{ \t\r\n".contains(byte));
    let limit = if plain {
        limits.json
    } else {
        limits.payload(payload.kind)
    };
    if length > u64::from(limit) {
        return Some("limit");
    }
    let json = match split(payload) {
        Split::Short => return None,
        Split::Clipped => return Some("clipped"),
        Split::Json(json, Some(_)) if json.len() as u64 > u64::from(limits.metadata) => {
            return Some("limit");
        }
        Split::Json(json, _) => json,
    };
    let Ok(text) = std::str::from_utf8(json) else {
        return None;
    };
    let scan = Scan::of(text);
    if scan.depth > 64 {
        return Some("depth");
    }
    if scan
        .words
        .iter()
        .any(|word| matches!(word.as_str(), "NaN" | "Infinity" | "-Infinity"))
    {
        return Some("nan");
    }
    if scan.words.iter().any(|word| overflows(word)) {
        return Some("overflow");
    }
    if scan.unpaired {
        return Some("surrogate");
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let tensor = tensor(payload.kind, &value);
    if let Some(dtype) = tensor.and_then(|tensor| tensor["dtype"].as_str())
        && !known(dtype)
    {
        return Some("dtype");
    }
    if let Some(shape) = tensor.and_then(|tensor| tensor["shape"].as_array())
        && (shape.len() > Tensor::MAX_DIMENSIONS
            || shape
                .iter()
                .any(|size| size.as_i64().is_some_and(|size| size < 0)))
    {
        return Some("dimension");
    }
    if !well_typed(payload, &value) || twins(text) {
        return Some("types");
    }
    match split(payload) {
        Split::Json(_, Some(body)) => {
            let tensor = tensor?;
            let size = DType::parse(tensor["dtype"].as_str()?)?.size();
            let count: Option<usize> = tensor["shape"].as_array()?.iter().try_fold(size, |n, d| {
                n.checked_mul(usize::try_from(d.as_u64()?).ok()?)
            });
            (count != Some(body.len())).then_some("bytes")
        }
        _ => None,
    }
}

/// Whether its JSON is none, to anybody.
pub(crate) fn not_json(payload: Payload<'_>) -> bool {
    match split(payload) {
        Split::Json(json, _) => serde_json::from_slice::<Value>(json).is_err(),
        Split::Short | Split::Clipped => true,
    }
}

/// Why we accept it though the reference does not.
pub(crate) fn why_accepted(payload: Payload<'_>) -> Option<&'static str> {
    let Split::Json(json, body) = split(payload) else {
        return None;
    };
    // Python's own limit is about a thousand levels, wherever they are.
    if std::str::from_utf8(json).is_ok_and(|text| Scan::of(text).depth > 900) {
        return Some("skipped");
    }
    body?;
    let value: Value = serde_json::from_slice(json).ok()?;
    let tensor = tensor(payload.kind, &value)?;
    let beyond = |size: &Value| {
        size.as_u64()
            .is_some_and(|size| i64::try_from(size).is_err())
    };
    if tensor["shape"]
        .as_array()
        .is_some_and(|shape| shape.iter().any(beyond))
    {
        return Some("dimension");
    }
    let dtype = tensor["dtype"].as_str()?;
    (known(dtype) && !numpy(dtype)).then_some("vocabulary")
}

/// Why what we read differs from what the reference reads, or writes again differently.
pub(crate) fn why_different(payload: Payload<'_>) -> Option<&'static str> {
    let Split::Json(json, _) = split(payload) else {
        return None;
    };
    let scan = Scan::of(std::str::from_utf8(json).ok()?);
    let integer = |word: &&String| {
        word.bytes()
            .enumerate()
            .all(|(at, byte)| byte.is_ascii_digit() || (at == 0 && byte == b'-'))
    };
    let big = |word: &String| {
        !word.is_empty() && word.parse::<i64>().is_err() && word.parse::<u64>().is_err()
    };
    if scan.words.iter().filter(integer).any(big) {
        return Some("big integer");
    }
    (scan.unpaired || scan.depth > 64 || scan.words.iter().any(|word| overflows(word)))
        .then_some("skipped")
}

/// Whether this is a number that no `f64` holds.
fn overflows(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && word.parse().is_ok_and(f64::is_infinite)
}

/// Whether this name stands in a table, with or without a prefix.
pub(crate) fn known(dtype: &str) -> bool {
    const NAMES: [&str; 15] = [
        "bool",
        "bool_",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
    ];
    let bare = ["mlx.core.", "torch.", "numpy."]
        .iter()
        .find_map(|p| dtype.strip_prefix(p));
    NAMES.contains(&bare.unwrap_or(dtype))
}

/// Whether NumPy knows this name of the table.
pub(crate) fn numpy(dtype: &str) -> bool {
    known(dtype) && !dtype.contains('.') && dtype != "bfloat16"
}

/// A payload taken apart.
pub(crate) enum Split<'a> {
    /// Nothing to read, as the message understands it.
    Short,
    /// The announced JSON does not end inside.
    Clipped,
    /// The JSON, and what follows it where the message carries a tensor.
    Json(&'a [u8], Option<&'a [u8]>),
}

/// Takes a payload apart.
pub(crate) fn split(payload: Payload<'_>) -> Split<'_> {
    let Payload { kind, bytes } = payload;
    let container = match kind {
        MessageType::SendTensorRequest | MessageType::SendTensorResponse => true,
        // No JSON text starts with a zero, and no metadata that we take is long enough not to.
        MessageType::SendResult => bytes.first() == Some(&0),
        _ => false,
    };
    if !container {
        return Split::Json(bytes, None);
    }
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else {
        return Split::Short;
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    match rest.split_at_checked(length) {
        Some((json, body)) => Split::Json(json, Some(body)),
        None => Split::Clipped,
    }
}

/// The description of the tensor that a message carries.
pub(crate) fn tensor(kind: MessageType, value: &Value) -> Option<&Value> {
    match kind {
        MessageType::SendTensorResponse => Some(value.get("tensor").unwrap_or(value)),
        MessageType::SendTensorRequest | MessageType::SendResult => value.get("tensor"),
        _ => None,
    }
}
