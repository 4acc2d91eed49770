//! The Wireshark dissector: what this version's messages have, from the same table to which the codec
//! is held, and Lua that reads it.

use exo_protocol::DType;
use exo_protocol::wire::layout::{Dimension, ELEMENTS, Field, Kind, Layout, When};
use exo_protocol::wire::{MAGIC, MessageType};
use std::fmt::Write as _;

/// Reads the tables that stand before it.
const READER: &str = include_str!("dissector/dissector.lua");

/// The port of announcements.
const ANNOUNCEMENTS: u16 = 5678;

/// The Lua script.
#[must_use]
pub fn script() -> String {
    let mut out = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let magic = MAGIC.map(|byte| format!("\\{byte:03}")).concat();
    let (first, last) = (MessageType::SKIPPABLE.start(), MessageType::SKIPPABLE.end());
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!(
        "-- Wireshark dissector of the EXO ring protocol, written by exo-node {version}."
    ));
    line("-- To use it: exo-node dissector > ~/.local/lib/wireshark/plugins/exo.lua".to_owned());
    line("-- or once: tshark -X lua_script:exo.lua -r capture.pcap -Y exo".to_owned());
    line(String::new());
    line(format!("local magic = \"{magic}\""));
    line(format!("local skippable = {{ {first:#04x}, {last:#04x} }}"));
    line(format!("local announcements = {ANNOUNCEMENTS}"));
    let sizes = DType::ALL.map(|dtype| format!("{} = {}", dtype.name(), dtype.size()));
    line(format!(
        "local sizes = {{ bool_ = 1, {} }}",
        sizes.join(", ")
    ));
    let elements = ELEMENTS.map(|(code, dtype)| {
        let name = dtype.map_or("token ids", DType::name);
        format!("[{code}] = \"{name}\"")
    });
    line(format!(
        "local element_names = {{ {} }}",
        elements.join(", ")
    ));
    line(
        "local widths = { u16 = 2, u32 = 4, u64 = 8, f32 = 4, flags = 1, code = 2, message = 1, element = 1 }"
            .to_owned(),
    );
    line("local messages = {".to_owned());
    for kind in MessageType::ALL {
        line(message(kind));
    }
    line("}".to_owned());
    out + READER
}

/// A message as a field of a Lua table.
fn message(kind: MessageType) -> String {
    let (number, name) = (kind as u8, kind.name());
    let tensors = |keys: &[&str]| format!("tensors = {}", texts(keys));
    let layout = match kind.layout() {
        Layout::Opaque => "layout = \"opaque\"".to_owned(),
        Layout::Json => "layout = \"json\"".to_owned(),
        Layout::Container(keys) => format!("layout = \"container\", {}", tensors(keys)),
        Layout::JsonOrContainer(keys) => format!("layout = \"either\", {}", tensors(keys)),
        Layout::Fields(fields) => {
            let fields: String = fields.iter().map(field).collect();
            format!("layout = \"fields\", fields = {{\n{fields}  }}")
        }
    };
    format!("  [{number:#04x}] = {{ name = \"{name}\", {layout} }},")
}

fn field(field: &Field) -> String {
    let mut out = format!("    {{ name = \"{}\", ", field.name);
    let kind = match field.kind {
        Kind::U16 => "kind = \"u16\"".to_owned(),
        Kind::U32 => "kind = \"u32\"".to_owned(),
        Kind::U64 => "kind = \"u64\"".to_owned(),
        Kind::F32 => "kind = \"f32\"".to_owned(),
        Kind::Flags(names) => {
            let bits = names
                .iter()
                .map(|(bit, name)| format!("{{ {bit}, \"{name}\" }}"));
            let bits: Vec<String> = bits.collect();
            format!("kind = \"flags\", bits = {{ {} }}", bits.join(", "))
        }
        Kind::Code(names) => {
            let names = names
                .iter()
                .map(|(code, name)| format!("[{code}] = \"{name}\""));
            let names: Vec<String> = names.collect();
            format!("kind = \"code\", names = {{ {} }}", names.join(", "))
        }
        Kind::Message => "kind = \"message\"".to_owned(),
        Kind::Element => "kind = \"element\"".to_owned(),
        Kind::Text(length) => format!("kind = \"text\", of = \"{length}\""),
        Kind::Words => "kind = \"words\"".to_owned(),
        Kind::Json => "kind = \"json\"".to_owned(),
        Kind::Piece => "kind = \"piece\"".to_owned(),
        Kind::Bytes => "kind = \"bytes\"".to_owned(),
        Kind::Numbers(factors) => format!("kind = \"numbers\", of = {}", texts(factors)),
        Kind::Pairs(count) => format!("kind = \"pairs\", of = \"{count}\""),
        Kind::Tensor(shape) => {
            let shape = shape.map(|dimension| match dimension {
                Dimension::One => "1".to_owned(),
                Dimension::Field(name) => format!("\"{name}\""),
                Dimension::Rest => "\"\"".to_owned(),
            });
            format!("kind = \"tensor\", shape = {{ {} }}", shape.join(", "))
        }
    };
    out.push_str(&kind);
    // Writing into a String cannot fail.
    let _ = match field.when {
        None => Ok(()),
        Some(When::Zero(name)) => write!(out, ", zero = \"{name}\""),
        Some(When::NotZero(name)) => write!(out, ", not_zero = \"{name}\""),
    };
    out + " },\n"
}

fn texts(texts: &[&str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    format!("{{ {} }}", quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_message_is_in_the_script() {
        let script = script();
        for kind in MessageType::ALL {
            let row = format!("[{:#04x}] = {{ name = \"{}\", ", kind as u8, kind.name());
            assert_eq!(script.matches(&row).count(), 1, "{row}");
        }
    }

    /// Fields of one name are one field for filters, which has one type.
    #[test]
    fn a_field_is_of_one_type_in_all_messages() {
        let mut types: BTreeMap<&str, &str> = BTreeMap::new();
        for kind in MessageType::ALL {
            let Layout::Fields(fields) = kind.layout() else {
                continue;
            };
            for field in fields {
                let kind = match field.kind {
                    // These have a name of their message's own.
                    Kind::Code(_) | Kind::Flags(_) | Kind::Message => continue,
                    Kind::U16 => "two bytes",
                    Kind::U32 => "four bytes",
                    Kind::U64 => "eight bytes",
                    Kind::F32 => "a float",
                    Kind::Element => "an element",
                    Kind::Text(_) | Kind::Words => "a text",
                    Kind::Numbers(_) | Kind::Pairs(_) => "a list",
                    Kind::Json | Kind::Piece | Kind::Bytes | Kind::Tensor(_) => "a subtree",
                };
                let before = types.insert(field.name, kind).unwrap_or(kind);
                assert_eq!(before, kind, "{}", field.name);
            }
        }
        assert!(types.len() > 20, "{types:?}");
    }
}
