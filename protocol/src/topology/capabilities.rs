//! What a machine can do, as nodes tell each other.

use super::{EngineInfo, Speed};
use crate::id::tidy;
use crate::json::Json;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec;
use core::fmt;

/// A machine, as it stands on the wire: `{"model", "chip", "memory", "flops"}`, and `"engine"` and
/// `"speed"` where they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// The machine, such as `MacBook Pro`.
    pub model: String,
    /// Its chip, such as `Apple M3 Max`.
    pub chip: String,
    /// Memory for models in MiB. Signed because the reference accepts and sends any integer.
    pub memory: i64,
    /// Peak arithmetic rates.
    pub flops: Flops,
    /// What computes there. Reference nodes have no word for it and are not told.
    pub engine: Option<EngineInfo>,
    /// How quick that is. Reference nodes are not told.
    pub speed: Option<Speed>,
}

/// Peak arithmetic rates in TFLOPS.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flops {
    /// Single precision.
    pub fp32: f64,
    /// Half precision.
    pub fp16: f64,
    /// 8-bit integers.
    pub int8: f64,
}

/// Which key of a capabilities object is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: expected {expected}, got {got}")]
pub struct CapabilitiesError {
    /// The key, such as `flops.fp32`; `capabilities` for the object itself.
    pub key: &'static str,
    /// What it must be.
    pub expected: &'static str,
    /// What stands there, or `nothing`.
    pub got: &'static str,
}

impl Capabilities {
    /// What is known of a peer that has not told anything yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            model: String::from("Unknown Model"),
            chip: String::from("Unknown Chip"),
            memory: 0,
            flops: Flops::default(),
            engine: None,
            speed: None,
        }
    }

    /// Makes its names such that they can be shown to people.
    pub(crate) fn tidy(&mut self) {
        tidy(&mut self.model);
        tidy(&mut self.chip);
    }

    /// Reads the object that peers send. All keys but `engine` and `speed` are needed,
    /// others are ignored.
    ///
    /// Numbers may come as decimal texts, and `memory` as a float without a fraction: the
    /// reference implementation takes these too.
    ///
    /// # Errors
    /// Names the first key that is missing or of the wrong type.
    pub fn from_json(json: &Json) -> Result<Self, CapabilitiesError> {
        Self::read(json, Missing::Refused)
    }

    /// [`Capabilities::from_json`] for files that people write: what is missing or null is
    /// unknown.
    pub(crate) fn from_partial_json(json: &Json) -> Result<Self, CapabilitiesError> {
        Self::read(json, Missing::Unknown)
    }

    fn read(json: &Json, missing: Missing) -> Result<Self, CapabilitiesError> {
        const NUMBER: &str = "a finite number";
        let object = member(Some(json), "capabilities", "an object", missing, |json| {
            json.as_object().map(|_| json)
        })?;
        let get = |key: &str| object.and_then(|object| object.get(key));
        let text = |key, name| {
            member(get(key), name, "a text", missing, |json| {
                json.as_str().map(str::to_owned)
            })
        };
        let model = text("model", "model")?;
        let chip = text("chip", "chip")?;
        let memory = member(get("memory"), "memory", "an integer", missing, integer)?;
        let flops = member(get("flops"), "flops", "an object", missing, |json| {
            json.as_object().map(|_| json)
        })?;
        let rate = |key: &str, name| {
            let found = flops.and_then(|flops| flops.get(key));
            member(found, name, NUMBER, missing, number)
        };
        let unknown = Self::unknown();
        Ok(Self {
            model: model.unwrap_or(unknown.model),
            chip: chip.unwrap_or(unknown.chip),
            memory: memory.unwrap_or(unknown.memory),
            flops: Flops {
                fp32: rate("fp32", "flops.fp32")?.unwrap_or_default(),
                fp16: rate("fp16", "flops.fp16")?.unwrap_or_default(),
                int8: rate("int8", "flops.int8")?.unwrap_or_default(),
            },
            engine: get("engine").and_then(EngineInfo::from_json),
            speed: get("speed").and_then(Speed::from_json),
        })
    }

    /// The object as peers get it, keys in the reference's order and what it does not know last.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let flops = Json::object([
            ("fp32", Json::from(self.flops.fp32)),
            ("fp16", Json::from(self.flops.fp16)),
            ("int8", Json::from(self.flops.int8)),
        ]);
        let mut entries = vec![
            ("model", Json::from(self.model.as_str())),
            ("chip", Json::from(self.chip.as_str())),
            ("memory", Json::from(self.memory)),
            ("flops", flops),
        ];
        entries.extend(
            self.engine
                .iter()
                .map(|engine| ("engine", engine.to_json())),
        );
        entries.extend(self.speed.iter().map(|speed| ("speed", speed.to_json())));
        Json::object(entries)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    Unknown,
}

/// One value through `read`; `None` only where it may be missing.
fn member<'a, T>(
    json: Option<&'a Json>,
    key: &'static str,
    expected: &'static str,
    missing: Missing,
    read: impl FnOnce(&'a Json) -> Option<T>,
) -> Result<Option<T>, CapabilitiesError> {
    match json {
        None | Some(Json::Null) if missing == Missing::Unknown => Ok(None),
        None => Err(CapabilitiesError {
            key,
            expected,
            got: "nothing",
        }),
        Some(json) => read(json).map(Some).ok_or(CapabilitiesError {
            key,
            expected,
            got: json.kind(),
        }),
    }
}

/// An integer, also as a text or a float without a fraction.
pub(crate) fn integer(json: &Json) -> Option<i64> {
    match json {
        Json::Float(value) => whole(*value),
        Json::String(text) => {
            let text = text.trim();
            let digits = match text.split_once('.') {
                Some((digits, zeros)) if zeros.bytes().all(|byte| byte == b'0') => digits,
                Some(_) => return None,
                None => text,
            };
            digits.parse().ok()
        }
        _ => json.as_i64(),
    }
}

fn whole(value: f64) -> Option<i64> {
    // Both bounds are exact powers of two, so the comparison is exact as well.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    let integer = value as i64;
    (fits && integer as f64 == value).then_some(integer)
}

/// A number, also as a text.
fn number(json: &Json) -> Option<f64> {
    let value = match json {
        Json::String(text) => text.trim().parse().ok(),
        _ => json.as_f64(),
    };
    value.filter(|value: &f64| value.is_finite())
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Model: {}. Chip: {}. Memory: {}MB. Flops: fp32: {:.2} TFLOPS, fp16: {:.2} TFLOPS, int8: {:.2} TFLOPS",
            self.model, self.chip, self.memory, self.flops.fp32, self.flops.fp16, self.flops.int8
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn read(text: &str) -> Result<Capabilities, CapabilitiesError> {
        Capabilities::from_json(&Json::parse(text.as_bytes(), 4).expect("JSON"))
    }

    #[test]
    fn numbers_as_leniently_as_the_reference() {
        let text = r#"{"model": "m", "chip": "c", "memory": " 16384.00 ",
            "flops": {"fp32": "1.5", "fp16": 2, "int8": 3.5, "x": 0}, "x": 0}"#;
        let machine = read(text).expect("capabilities");
        assert_eq!(machine.memory, 16384);
        assert_eq!(
            machine.flops,
            Flops {
                fp32: 1.5,
                fp16: 2.0,
                int8: 3.5
            }
        );
        for (json, expected) in [
            (Json::Float(3.0), Some(3)),
            (Json::Float(3.5), None),
            (Json::Float(1e300), None),
            (Json::Float(9_223_372_036_854_775_808.0), None),
            (Json::Uint(u64::MAX), None),
            (Json::from("-7"), Some(-7)),
            (Json::from("1e3"), None),
            (Json::from("12.5"), None),
            (Json::Bool(true), None),
        ] {
            assert_eq!(integer(&json), expected, "{json:?}");
        }
        assert_eq!(number(&Json::from("nan")), None);
        assert_eq!(number(&Json::from("inf")), None);
    }

    #[test]
    fn errors_name_the_key() {
        let all = r#"{"model": "m", "chip": "c", "memory": 1, "flops": {"fp32": 0, "fp16": 0, "int8": 0}}"#;
        assert!(read(all).is_ok());
        for (from, to, error) in [
            ("\"m\"", "5", "model: expected a text, got an integer"),
            ("\"chip\"", "\"chop\"", "chip: expected a text, got nothing"),
            ("1", "1.5", "memory: expected an integer, got a fraction"),
            (
                "\"int8\": 0",
                "\"int8\": null",
                "flops.int8: expected a finite number, got null",
            ),
        ] {
            let text = all.replacen(from, to, 1);
            assert_eq!(
                read(&text).map_err(|error| error.to_string()),
                Err(error.to_string())
            );
        }
        assert!(read("[]").is_err());
    }

    #[test]
    fn what_people_leave_out_is_unknown() {
        let json = Json::parse(br#"{"memory": 5, "flops": {"fp16": 1}}"#, 4).expect("JSON");
        let machine = Capabilities::from_partial_json(&json).expect("capabilities");
        assert_eq!(machine.chip, "Unknown Chip");
        assert_eq!(machine.memory, 5);
        assert_eq!(
            machine.flops,
            Flops {
                fp32: 0.0,
                fp16: 1.0,
                int8: 0.0
            }
        );
        assert!(Capabilities::from_partial_json(&Json::from(5)).is_err());
    }

    #[test]
    fn json_reads_back() {
        let machine = Capabilities {
            memory: -3,
            ..Capabilities::unknown()
        };
        let with_engine = Capabilities {
            engine: Some(EngineInfo::default()),
            speed: Some(Speed {
                decode: 1,
                prefill: 2,
            }),
            ..machine.clone()
        };
        for machine in [machine, with_engine] {
            assert_eq!(Capabilities::from_json(&machine.to_json()), Ok(machine));
        }
    }
}
