use std::{fs, path::PathBuf, sync::Arc};

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{ChatMessage, ChatTemplate, Parts, from_folder, from_gguf};
use crate::{
    ModelError, Tokenizer,
    folder::Folder,
    gguf::{Gguf, Value},
    test_files::{self, GgufFile},
};

fn template(source: &str) -> Result<ChatTemplate, ModelError> {
    ChatTemplate::new(Parts {
        default: source.to_owned(),
        tool_use: None,
        bos: Some("<s>".to_owned()),
        eos: Some("</s>".to_owned()),
        file: PathBuf::from("tokenizer_config.json"),
    })
}

fn message(role: &str, content: &str) -> ChatMessage {
    ChatMessage::new(role, content)
}

#[derive(Deserialize)]
struct Golden {
    messages: Vec<ChatMessage>,
    tools: Json,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    text: String,
}

#[test]
fn renders_what_python_renders() {
    let golden: Golden =
        serde_json::from_str(include_str!("../testdata/chat-templates.json")).unwrap();
    for case in golden.cases {
        let text = template(&case.template)
            .and_then(|template| template.render(&golden.messages, Some(&golden.tools), true));
        assert_eq!(text.unwrap(), case.text, "{}", case.template);
    }
}

#[test]
fn a_template_may_refuse() {
    let source =
        "{% if messages[0].role != 'user' %}{{ raise_exception('users first!') }}{% endif %}ok";
    let template = template(source).unwrap();
    assert_eq!(
        template.render(&[message("user", "")], None, true).unwrap(),
        "ok"
    );
    let error = template
        .render(&[message("system", "")], None, true)
        .unwrap_err();
    assert!(matches!(&error, ModelError::Refused { message } if message == "users first!"));
}

#[test]
fn broken_templates_name_their_file() {
    for source in [
        "{% for %}",
        "{{ messages | no_such_filter }}",
        "{{ no_such_function() }}",
    ] {
        let error = template(source)
            .and_then(|t| t.render(&[], None, true))
            .unwrap_err();
        assert!(matches!(error, ModelError::Template { .. }), "{error}");
        assert!(
            error.to_string().contains("tokenizer_config.json"),
            "{error}"
        );
    }
}

/// A template comes from a stranger as much as weights do.
#[test]
fn hostile_templates_come_to_an_end() {
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x' * 99999999999 }}",
        "{{ [messages] * 99999999999 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ messages | tojson(indent=9999999999) }}",
    ] {
        let error = template(source)
            .and_then(|template| template.render(&[message("user", "Hi")], None, true))
            .unwrap_err();
        assert!(
            matches!(error, ModelError::Template { .. }),
            "{source}: {error}"
        );
    }
}

#[test]
fn long_conversations_have_enough_fuel() {
    let template = template(super::CHATML).unwrap();
    let long = vec![message("user", &"word ".repeat(20)); 10_000];
    assert!(template.render(&long, None, true).unwrap().len() > 1_000_000);
}

#[test]
fn thoughts_are_left_out_where_the_template_knows_how() {
    // As Qwen 3's says it.
    let template = template(
        "{% if enable_thinking is defined and enable_thinking is false %}no{% else %}yes{% endif %}",
    );
    let template = template.unwrap();
    assert_eq!(template.render(&[], None, true).unwrap(), "yes");
    let without = template.without_thoughts();
    assert_eq!(without.render(&[], None, true).unwrap(), "no");
}

#[test]
fn the_date_can_be_told() {
    let text = template("{{ strftime_now('%d %b %Y') }}")
        .unwrap()
        .render(&[], None, true);
    let text = text.unwrap();
    let parts: Vec<&str> = text.split(' ').collect();
    assert_eq!(parts.len(), 3, "{text}");
    assert!(parts[2].parse::<u32>().unwrap() >= 2025, "{text}");
}

/// A folder with these files; its tokenizer has ChatML's tokens.
fn render_folder(files: &[(&str, String)], tools: bool) -> Result<String, ModelError> {
    let path = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(path.path().join(name), text).unwrap();
    }
    fs::write(
        path.path().join("tokenizer.json"),
        test_files::tokenizer().to_string(),
    )
    .unwrap();
    let folder = Folder::Disk(path.path().to_owned());
    let tokenizer = || -> Result<Arc<Tokenizer>, ModelError> {
        test_files::write_folder(&path.path().join("model"), true);
        crate::Model::open(&path.path().join("model"))?.tokenizer()
    };
    let tools = tools.then(|| json!([{"name": "tool"}]));
    from_folder(&folder, tokenizer)?.render(&[message("user", "Hi")], tools.as_ref(), true)
}

fn file(name: &'static str, json: Json) -> (&'static str, String) {
    (name, json.to_string())
}

#[test]
fn the_places_of_a_template() {
    let config = |template: Json| {
        file(
            "tokenizer_config.json",
            json!({
                "chat_template": template,
                "bos_token": "<s>",
                "eos_token": {"content": "</s>", "lstrip": false},
            }),
        )
    };
    let render = |files: &[_]| render_folder(files, false).unwrap();
    let one = "{{ bos_token }}one{{ eos_token }}";
    assert_eq!(render(&[config(json!(one))]), "<s>one</s>");
    let json_file = file(
        "chat_template.json",
        json!({"chat_template": "{{ bos_token }}json"}),
    );
    assert_eq!(render(&[config(json!(one)), json_file.clone()]), "<s>json");
    let jinja = ("chat_template.jinja", "{{ bos_token }}jinja\n".to_owned());
    assert_eq!(render(&[config(json!(one)), json_file, jinja]), "<s>jinja");

    let named = json!([
        {"name": "default", "template": "default"},
        {"name": "tool_use", "template": "{{ tools[0].name }}"},
        {"name": "rag", "template": "{{ broken"},
    ]);
    assert_eq!(
        render_folder(&[config(named.clone())], false).unwrap(),
        "default"
    );
    assert_eq!(render_folder(&[config(named)], true).unwrap(), "tool");
    let unnamed = json!([{"name": "rag", "template": ""}]);
    let error = render_folder(&[config(unnamed)], false).unwrap_err();
    assert!(error.to_string().contains("default"), "{error}");
    let error = render_folder(&[config(json!(7))], false).unwrap_err();
    assert!(
        error.to_string().contains("tokenizer_config.json"),
        "{error}"
    );
}

#[test]
fn models_without_a_template() {
    let text = render_folder(&[], false).unwrap();
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );

    let render = |file: &GgufFile| {
        let gguf = Gguf::parse(&file.bytes().0).unwrap();
        let template = from_gguf("tiny.gguf".as_ref(), &gguf).unwrap();
        template
            .render(
                &[message("system", "One."), message("user", "Two.")],
                None,
                true,
            )
            .unwrap()
    };
    let mut file = GgufFile::tiny();
    assert!(render(&file).starts_with("<|im_start|>system\nOne.<|im_end|>\n"));
    let template = "{{ eos_token }}{{ messages[1].content }}{{ bos_token }}";
    file.set(
        "tokenizer.chat_template",
        Value::String(template.to_owned()),
    );
    assert_eq!(render(&file), "<|im_end|>Two.<|im_start|>");
    file.remove("tokenizer.chat_template");
    file.remove("tokenizer.ggml.tokens");
    assert_eq!(render(&file), "One.\n\nTwo.");
}
