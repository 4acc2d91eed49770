//! How config.json describes weights that MLX packed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Fields, MlxQuantization, Packing};
use crate::ModelError;

const SECTION: &str = "quantization";

/// The section that mlx-lm writes, if it is there. Names in it that stand for a number or a text say
/// something about all weights, the others name a module each.
pub(crate) fn read(fields: &Fields) -> Result<Option<MlxQuantization>, ModelError> {
    let Some(section) = fields.section(SECTION)? else {
        return Ok(None);
    };
    let required = |name: &str| fields.missing(&format!("{SECTION}.{name}"));
    if !section.contains_key("group_size") {
        return Err(required("group_size"));
    }
    if !section.contains_key("bits") {
        return Err(required("bits"));
    }
    let usual = packing(fields, section, SECTION)?;
    let mut others = BTreeMap::new();
    for (module, value) in section {
        match value {
            Value::Object(own) => {
                let packing = packing(fields, own, &format!("{SECTION}.{module}"))?;
                others.insert(module.clone(), Some(packing));
            }
            Value::Bool(false) => {
                others.insert(module.clone(), None);
            }
            // True means as usual.
            _ => {}
        }
    }
    Ok(Some(MlxQuantization { usual, others }))
}

/// Group and bits; mlx's own defaults where a module's section leaves one out.
fn packing(
    fields: &Fields,
    section: &Map<String, Value>,
    path: &str,
) -> Result<Packing, ModelError> {
    match section.get("mode").and_then(Value::as_str) {
        None | Some("affine") => {}
        Some(other) => {
            let what = format!("weights that MLX packed in the mode `{other}` (`{path}.mode`)");
            return Err(fields.unsupported(what, "affine"));
        }
    }
    let one_of = |name: &str, default: u64, expected: &[u64], text: &str| {
        let value = match section.get(name) {
            None | Some(Value::Null) => return Ok(default),
            Some(value) => value,
        };
        match value.as_u64().filter(|n| expected.contains(n)) {
            Some(number) => Ok(number),
            None => {
                let field = format!("{path}.{name}");
                Err(ModelError::field(fields.file(), &field, text, value))
            }
        }
    };
    let group = one_of("group_size", 64, &[32, 64, 128], "32, 64 or 128")?;
    let bits = one_of("bits", 4, &[2, 3, 4, 6, 8], "2, 3, 4, 6 or 8")?;
    Ok(Packing {
        group: group as u16,
        bits: bits as u8,
    })
}
