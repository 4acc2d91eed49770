//! Understanding a request.

use super::reply::OllamaReply;
use crate::api::error::ApiError;
use crate::api::fields::{Fields, body, wrong};
use crate::api::openai::tools;
use crate::api::serve::Wish;
use crate::ask::{Ask, Format, Input};
use exo_models::ChatMessage;
use exo_protocol::engine::Shaping;
use serde_json::{Map, Value, json};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Kind {
    /// A conversation.
    Chat,
    /// A prompt.
    Generate,
}

/// More stop texts than this only cost time.
const STOPS: usize = 16;

pub(super) fn parse(bytes: &[u8], kind: Kind) -> Result<Wish<OllamaReply>, ApiError> {
    let object = body(bytes)?;
    let fields = Fields::new(&object);
    if fields.boolean("think")? == Some(true) {
        return Err(fields.unsupported("think", "thoughts are not told apart here"));
    }
    let images = fields.list("images")?;
    if images.is_some_and(|images| !images.is_empty()) {
        return Err(fields.unsupported("images", "only text is understood here"));
    }
    if fields.boolean("logprobs")? == Some(true) {
        let why = "are told by /v1/chat/completions and /v1/completions";
        return Err(fields.unsupported("logprobs", why));
    }
    let asks = match kind {
        Kind::Chat => fields
            .list("messages")?
            .is_some_and(|list| !list.is_empty()),
        Kind::Generate => fields.text("prompt")?.is_some_and(|text| !text.is_empty()),
    };
    if !asks {
        return load(&fields, kind);
    }
    let input = match kind {
        Kind::Chat => Input::Chat {
            messages: messages(&fields)?,
            tools: tools(&fields)?,
        },
        Kind::Generate => generate(&fields)?,
    };
    let empty = Map::new();
    let options = fields.object("options")?.unwrap_or(&empty);
    let options = Fields::at(options, "options.");
    let usual = Shaping::default();
    let number = |name, range, usual| Ok(options.number(name, range)?.unwrap_or(usual));
    let most = options.integer("num_predict")?.filter(|&most| most >= 0);
    let ask = Ask {
        model: fields.text("model")?,
        input,
        choices: None,
        max_tokens: most.map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        temperature: options.number("temperature", 0.0..=2.0)?,
        top_p: options.number("top_p", 0.0..=1.0)?,
        top_k: options.top_k("top_k")?,
        shaping: Shaping {
            min_p: number("min_p", 0.0..=1.0, usual.min_p)?,
            repetition: number("repeat_penalty", 0.1..=10.0, usual.repetition)?,
            frequency: number("frequency_penalty", -2.0..=2.0, usual.frequency)?,
            presence: number("presence_penalty", -2.0..=2.0, usual.presence)?,
            ..usual
        },
        seed: options.seed("seed")?,
        stop: options.stops("stop", STOPS)?,
        format: format(&fields)?,
        scores: None,
        echo: false,
        goes_on: true,
        thoughtless: fields.boolean("think")? == Some(false),
    };
    Ok(Wish {
        ask,
        stream: fields.boolean("stream")?.unwrap_or(true),
        dialect: OllamaReply::new(kind),
    })
}

/// Who asks nothing wants the model to be ready. It is when it has said something, whatever that is.
fn load(fields: &Fields<'_>, kind: Kind) -> Result<Wish<OllamaReply>, ApiError> {
    let at_once = fields.get("keep_alive").is_some_and(|time| {
        let text = time
            .as_str()
            .map(|text| text.trim_end_matches(char::is_alphabetic));
        time.as_f64() == Some(0.0) || text == Some("0")
    });
    if at_once {
        let why = "models leave this node when nobody used them for its --keep-alive";
        return Err(fields.unsupported("keep_alive", why));
    }
    let ask = Ask {
        model: fields.text("model")?,
        input: vec![ChatMessage::new("user", "")].into(),
        max_tokens: Some(1),
        ..Ask::default()
    };
    Ok(Wish {
        ask,
        stream: fields.boolean("stream")?.unwrap_or(true),
        dialect: OllamaReply::of_load(kind),
    })
}

/// `json`, or a schema.
fn format(fields: &Fields<'_>) -> Result<Option<Format>, ApiError> {
    match fields.get("format") {
        None => Ok(None),
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) if name == "json" => Ok(Some(Format::object("format"))),
        Some(schema @ Value::Object(_)) => Ok(Some(Format {
            field: "format",
            schema: schema.clone(),
        })),
        Some(other) => Err(wrong("format", "json or a schema", other)),
    }
}

/// A prompt goes through the chat template, unless it is raw.
fn generate(fields: &Fields<'_>) -> Result<Input, ApiError> {
    fields.refuse("suffix", "texts are only continued at their end here")?;
    fields.refuse("template", "the model's own template is used here")?;
    fields.refuse("context", "conversations are told with /api/chat here")?;
    let prompt = fields.wanted("prompt")?;
    if fields.boolean("raw")? == Some(true) {
        return Ok(Input::Text(prompt));
    }
    let system = fields.text("system")?;
    let system = system.map(|text| ChatMessage::new("system", text));
    let user = ChatMessage::new("user", prompt);
    Ok(Input::from(
        system.into_iter().chain([user]).collect::<Vec<_>>(),
    ))
}

fn messages(fields: &Fields<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let list = fields.list("messages")?.filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| {
        let message = "messages must be a list of at least one message";
        ApiError::field("messages", message)
    })?;
    let message = |(at, value): (usize, &Value)| {
        let place = format!("messages[{at}]");
        let object = value
            .as_object()
            .ok_or_else(|| wrong(&place, "an object", value))?;
        let dotted = format!("{place}.");
        message(&Fields::at(object, &dotted))
    };
    list.iter().enumerate().map(message).collect()
}

fn message(fields: &Fields<'_>) -> Result<ChatMessage, ApiError> {
    let role = fields.wanted("role")?;
    if !["system", "user", "assistant", "tool"].contains(&role.as_str()) {
        let name = fields.name("role");
        let message = format!("{name} must be system, user, assistant, or tool");
        return Err(ApiError::field(name, message));
    }
    let images = fields.list("images")?;
    if images.is_some_and(|images| !images.is_empty()) {
        return Err(fields.unsupported("images", "only text is understood here"));
    }
    let mut tool_calls = Vec::new();
    for (at, call) in fields.list("tool_calls")?.into_iter().flatten().enumerate() {
        let name = fields.name(&format!("tool_calls[{at}].function"));
        let function = call.get("function").and_then(Value::as_object);
        let function = function.ok_or_else(|| wrong(&name, "an object", &Value::Null))?;
        let dotted = format!("{name}.");
        let function = Fields::at(function, &dotted);
        let arguments = function.object("arguments")?.cloned().unwrap_or_default();
        let function = json!({"name": function.wanted("name")?, "arguments": arguments});
        tool_calls.push(json!({"type": "function", "function": function}));
    }
    Ok(ChatMessage {
        name: fields.text("tool_name")?,
        tool_calls,
        ..ChatMessage::new(role, fields.text("content")?.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value, kind: Kind) -> Result<Ask, ApiError> {
        parse(body.to_string().as_bytes(), kind).map(|wish| wish.ask)
    }

    #[test]
    fn options_are_read() {
        let body = json!({"prompt": "hi", "raw": true, "options": {
            "temperature": 0.5, "num_predict": 7, "stop": ["x"], "seed": 3, "repeat_penalty": 1.5,
        }});
        let asked = ask(body, Kind::Generate).unwrap();
        assert_eq!(asked.input, Input::Text("hi".into()));
        assert_eq!((asked.max_tokens, asked.seed), (Some(7), Some(3)));
        assert_eq!(
            (asked.stop, asked.shaping.repetition),
            (vec!["x".into()], 1.5)
        );
        let body = json!({"prompt": "hi", "system": "s", "options": {"num_predict": -1}});
        let asked = ask(body, Kind::Generate).unwrap();
        assert_eq!(asked.max_tokens, None);
        let messages = ["system", "user"]
            .map(|role| ChatMessage::new(role, if role == "user" { "hi" } else { "s" }));
        assert_eq!(asked.input, Input::from(messages.to_vec()));
    }

    #[test]
    fn who_asks_nothing_wants_the_model_loaded() {
        for (body, kind) in [
            (json!({"model": "m"}), Kind::Generate),
            (json!({"model": "m", "prompt": ""}), Kind::Generate),
            (json!({"model": "m", "keep_alive": "5m"}), Kind::Chat),
            (json!({"model": "m", "messages": []}), Kind::Chat),
        ] {
            let asked = ask(body.clone(), kind).unwrap();
            assert_eq!(asked.model.as_deref(), Some("m"), "{body}");
            assert_eq!(asked.max_tokens, Some(1), "{body}");
        }
    }

    #[test]
    fn thoughts_can_be_left_out_and_not_told_apart() {
        let with = |think: Value| ask(json!({"prompt": "x", "think": think}), Kind::Generate);
        assert!(with(json!(false)).unwrap().thoughtless);
        assert!(!with(Value::Null).unwrap().thoughtless);
        assert!(with(json!(true)).is_err());
    }

    #[test]
    fn mistakes_name_their_place() {
        for (body, kind, place) in [
            (json!({"prompt": 5}), Kind::Generate, "prompt"),
            (json!({"messages": "hi"}), Kind::Chat, "messages"),
            (json!({"keep_alive": 0}), Kind::Chat, "keep_alive"),
            (
                json!({"prompt": "x", "logprobs": true}),
                Kind::Generate,
                "logprobs",
            ),
            (json!({"keep_alive": "0s"}), Kind::Generate, "keep_alive"),
            (json!({"messages": [5]}), Kind::Chat, "messages[0]"),
            (
                json!({"messages": [{"role": "x"}]}),
                Kind::Chat,
                "messages[0].role",
            ),
            (
                json!({"messages": [{"role": "user"}], "format": "xml"}),
                Kind::Chat,
                "format",
            ),
            (
                json!({"messages": [{"role": "user"}], "format": 5}),
                Kind::Chat,
                "format",
            ),
            (
                json!({"prompt": "x", "options": {"top_p": 2}}),
                Kind::Generate,
                "options.top_p",
            ),
            (
                json!({"prompt": "x", "images": ["aGk="]}),
                Kind::Generate,
                "images",
            ),
        ] {
            let error = ask(body.clone(), kind).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(place), "{body}");
        }
    }
}
