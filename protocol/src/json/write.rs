//! JSON text, byte for byte as Python's `json.dumps` writes it by default.

use super::Json;
use alloc::format;
use alloc::vec::Vec;

pub(super) fn value(out: &mut Vec<u8>, json: &Json) {
    match json {
        Json::Null => out.extend_from_slice(b"null"),
        Json::Bool(true) => out.extend_from_slice(b"true"),
        Json::Bool(false) => out.extend_from_slice(b"false"),
        Json::Int(value) => write_integer(out, *value),
        Json::Uint(value) => write_integer(out, *value),
        Json::Float(value) => float(out, *value),
        Json::String(text) => write_string(out, text),
        Json::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                value(out, item);
            }
            out.push(b']');
        }
        Json::Object(entries) => {
            out.push(b'{');
            for (index, (key, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b", ");
                }
                write_string(out, key);
                out.extend_from_slice(b": ");
                value(out, item);
            }
            out.push(b'}');
        }
    }
}

/// Appends `value` in decimal, without the formatting machinery: shards and shapes are written
/// with every tensor.
pub(crate) fn write_integer(out: &mut Vec<u8>, value: impl Into<i128>) {
    let value: i128 = value.into();
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    // Nothing here is wider than 64 bits and a sign, and 128-bit division is slow.
    let mut rest = value.unsigned_abs() as u64;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends `text` in quotes, everything but printable ASCII escaped.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(needs_escape) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut characters = special.chars();
        if let Some(character) = characters.next() {
            escape(out, character);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (*unit >> shift & 0xf) as u8;
                    out.push(if digit < 10 {
                        b'0' + digit
                    } else {
                        b'a' + digit - 10
                    });
                }
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Python's `repr` of a float: the shortest digits that read back, plain between `1e-4` and
/// `1e16`, else with an exponent of at least two digits.
fn float(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        return out.extend_from_slice(b"null");
    }
    // Shortest digits as `d.ddde-5`: take them apart and lay them out anew.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.trim_start_matches('-').replace('.', "");
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let zeros = |out: &mut Vec<u8>, count: usize| out.extend(core::iter::repeat_n(b'0', count));
    match exponent {
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            zeros(out, exponent.unsigned_abs() as usize - 1);
            out.extend_from_slice(digits.as_bytes());
        }
        0..=15 => {
            let whole = exponent.unsigned_abs() as usize + 1;
            let (before, after) = digits.split_at(digits.len().min(whole));
            out.extend_from_slice(before.as_bytes());
            zeros(out, whole - before.len());
            out.push(b'.');
            out.extend_from_slice(if after.is_empty() {
                b"0"
            } else {
                after.as_bytes()
            });
        }
        _ => {
            out.extend_from_slice(mantissa.trim_start_matches('-').as_bytes());
            out.push(b'e');
            out.push(if exponent < 0 { b'-' } else { b'+' });
            let size = exponent.unsigned_abs();
            if size < 10 {
                out.push(b'0');
            }
            write_integer(out, size);
        }
    }
}
