//! The functions that a request offers.

use crate::api::error::ApiError;
use crate::api::fields::{Fields, wrong};
use crate::ask::Tools;
use serde_json::Value;

/// The fields `tools`, `tool_choice` and `parallel_tool_calls`.
pub(in crate::api) fn tools(fields: &Fields<'_>) -> Result<Option<Tools>, ApiError> {
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let list = fields.list("tools")?.map_or(&[][..], Vec::as_slice);
    let (mut names, mut strict) = (Vec::new(), Vec::new());
    for (at, tool) in list.iter().enumerate() {
        let (name, held) = name(&format!("tools[{at}]"), tool)?;
        if held {
            strict.push(name.clone());
        }
        names.push(name);
    }
    let forced = match fields.get("tool_choice") {
        None => None,
        Some(Value::String(choice)) => match choice.as_str() {
            "none" => return Ok(None),
            "auto" => None,
            // With one function to call there is no choice.
            "required" => Some(names.first().filter(|_| names.len() == 1).cloned()),
            _ => {
                let message = "tool_choice must be none, auto, required, or name a function";
                return Err(ApiError::field("tool_choice", message));
            }
        },
        Some(Value::Object(choice)) => {
            let choice = Fields::at(choice, "tool_choice.");
            if choice.wanted("type")? != "function" {
                return Err(choice.unsupported("type", "only function is known here"));
            }
            let function = choice.object("function")?;
            let function = function.ok_or_else(|| {
                wrong(
                    "tool_choice.function",
                    "an object with a name",
                    &Value::Null,
                )
            })?;
            let wanted = Fields::at(function, "tool_choice.function.").wanted("name")?;
            if !names.contains(&wanted) {
                let message = format!("tool_choice: {wanted} is none of the tools");
                return Err(ApiError::field("tool_choice", message));
            }
            Some(Some(wanted))
        }
        Some(other) => return Err(wrong("tool_choice", "a text or an object", other)),
    };
    if list.is_empty() {
        if forced.is_some() {
            let message = "tool_choice asks for a call, but there are no tools";
            return Err(ApiError::field("tool_choice", message));
        }
        return Ok(None);
    }
    Ok(Some(Tools {
        list: Value::Array(list.to_vec()),
        names,
        forced,
        parallel,
        strict,
    }))
}

/// The name of a tool, which must be a function, and whether it is strict.
fn name(place: &str, tool: &Value) -> Result<(String, bool), ApiError> {
    let Value::Object(tool) = tool else {
        return Err(wrong(place, "an object", tool));
    };
    let dotted = format!("{place}.");
    let fields = Fields::at(tool, &dotted);
    if fields.wanted("type")? != "function" {
        return Err(fields.unsupported("type", "only functions can be called here"));
    }
    let Some(function) = fields.object("function")? else {
        let name = fields.name("function");
        return Err(wrong(&name, "an object", &Value::Null));
    };
    let dotted = format!("{place}.function.");
    let function = Fields::at(function, &dotted);
    function.text("description")?;
    function.object("parameters")?;
    let strict = function.boolean("strict")?.unwrap_or(false);
    Ok((function.wanted("name")?, strict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Option<Tools>, ApiError> {
        let Value::Object(object) = body else {
            panic!("no object")
        };
        tools(&Fields::new(&object))
    }

    fn function(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn choices_are_read() {
        let forced = |choice: Value, names: &[&str]| {
            let list: Vec<Value> = names.iter().map(|name| function(name)).collect();
            let tools = read(json!({"tools": list, "tool_choice": choice}));
            tools.unwrap().map(|tools| tools.forced)
        };
        assert_eq!(forced(json!("none"), &["f"]), None);
        assert_eq!(forced(json!(null), &[]), None);
        assert_eq!(forced(json!("auto"), &["f"]), Some(None));
        assert_eq!(forced(json!("required"), &["f", "g"]), Some(Some(None)));
        let f = Some(Some(Some("f".to_owned())));
        assert_eq!(forced(json!("required"), &["f"]), f);
        let named = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!(forced(named, &["g", "f"]), f);
        let tools = read(json!({"tools": [function("f")], "parallel_tool_calls": false}));
        assert!(!tools.unwrap().unwrap().parallel);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (body, place) in [
            (json!({"tools": 5}), "tools"),
            (json!({"tools": [5]}), "tools[0]"),
            (json!({"tools": [{}]}), "tools[0].type"),
            (json!({"tools": [{"type": "custom"}]}), "tools[0].type"),
            (
                json!({"tools": [{"type": "function"}]}),
                "tools[0].function",
            ),
            (
                json!({"tools": [{"type": "function", "function": {}}]}),
                "tools[0].function.name",
            ),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "strict": 1}}]}),
                "tools[0].function.strict",
            ),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tool_choice": "maybe"}), "tool_choice"),
            (json!({"tool_choice": 5}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "function"}}),
                "tool_choice.function",
            ),
            (
                json!({"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
                "tool_choice",
            ),
            (json!({"parallel_tool_calls": "no"}), "parallel_tool_calls"),
        ] {
            let error = read(body.clone()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{body}");
        }
    }
}
