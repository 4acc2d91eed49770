use super::*;
use crate::library::Library;
use std::fs;
use tempfile::TempDir;

fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("train.jsonl"), text).unwrap();
    folder
}

fn refused(text: &str) -> String {
    let folder = folder(text);
    let error = Dataset::open(folder.path(), Split::Train).unwrap_err();
    let told = error.to_string();
    let dir = format!("{}/", folder.path().display());
    told.replace(&dir, "")
}

fn encoder(mask_prompt: bool) -> Encoder {
    let library = Library::on_disk(exo_models::Catalog::new(Vec::new()), None);
    Encoder::new(
        library.speaker(Some(exo_models::embedded::ID)).unwrap(),
        mask_prompt,
    )
}

#[test]
fn what_is_wrong_with_a_line_is_told_with_its_number() {
    let good = "{\"text\": \"a b\"}\n";
    for (line, wanted) in [
        (
            "{\"text\": ",
            "train.jsonl:3: expected a JSON object: EOF while",
        ),
        (
            "[1]",
            "train.jsonl:3: expected a JSON object, found an array",
        ),
        ("{}", "found an empty object"),
        (
            r#"{"txt": "a", "prompt": "b"}"#,
            r#"train.jsonl:3: expected "text", or "prompt" and "completion", or "messages"; found "txt", "prompt""#,
        ),
        (
            r#"{"text": 1}"#,
            r#"train.jsonl:3: "text" should be a string, found a number"#,
        ),
        (
            r#"{"prompt": "a", "completion": null}"#,
            r#"train.jsonl:3: "completion" should be a string, found null"#,
        ),
        (
            r#"{"messages": "hi"}"#,
            r#"train.jsonl:3: "messages" should be an array, found a string"#,
        ),
        (
            r#"{"messages": []}"#,
            r#"train.jsonl:3: "messages" should not be empty"#,
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, 7]}"#,
            "train.jsonl:3: messages[1] should be an object, found a number",
        ),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            r#"train.jsonl:3: "messages[0].content" is missing"#,
        ),
    ] {
        let told = refused(&format!("{good}\n{line}\n{good}"));
        assert!(
            told.starts_with(wanted) || told.contains(wanted),
            "{line}: {told}"
        );
        assert!(told.starts_with("train.jsonl:3: "), "{told}");
    }
    assert_eq!(
        refused("\n \n"),
        "train.jsonl: no examples; expected a JSON object on each line"
    );
}

#[test]
fn a_line_without_an_end_is_not_read_into_memory() {
    let told = refused(&"x".repeat(MAX_LINE + 1));
    assert!(
        told.starts_with("train.jsonl:1: more than 9437184 bytes"),
        "{told}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = folder("{\"text\": \"a\"}");
    let error = Dataset::open(folder.path(), Split::Valid).unwrap_err();
    assert!(
        error.to_string().contains("valid.jsonl is expected there"),
        "{error}"
    );
    assert!(matches!(
        error,
        DataError::Missing {
            split: Split::Valid,
            ..
        }
    ));
}

#[test]
fn every_format_becomes_tokens_in_any_order() {
    let folder = folder(concat!(
        "{\"text\": \"Once upon a time\"}\r\n",
        "\n",
        "{\"prompt\": \"Once\", \"completion\": \"upon\", \"text\": \"ignored\"}\n",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Once\"}]}",
    ));
    let mut data = Dataset::open(folder.path(), Split::Train).unwrap();
    assert_eq!(data.len(), 3);
    assert!(
        data.place(1).ends_with("train.jsonl:3"),
        "{}",
        data.place(1)
    );
    let encoder = encoder(false);
    let library = Library::on_disk(exo_models::Catalog::new(Vec::new()), None);
    let speaker = library.speaker(Some(exo_models::embedded::ID)).unwrap();
    let end = speaker.end_tokens()[0];
    // The same again: nothing is used up.
    for index in [2, 0, 1, 0] {
        let example = data.example(index, &encoder).unwrap();
        let wanted = match index {
            0 => [speaker.encode("Once upon a time").unwrap(), vec![end]].concat(),
            1 => speaker
                .encode("<|im_start|>user\nOnce<|im_end|>\n<|im_start|>assistant\nupon<|im_end|>\n")
                .unwrap(),
            _ => speaker
                .encode("<|im_start|>user\nOnce<|im_end|>\n")
                .unwrap(),
        };
        assert_eq!(example.tokens, wanted, "{index}");
        assert_eq!(example.learned_from, 0);
    }
}

#[test]
fn only_the_answer_is_learned_if_asked_for() {
    let folder = folder("{\"prompt\": \"Once upon\", \"completion\": \"a time\"}");
    let mut data = Dataset::open(folder.path(), Split::Train).unwrap();
    let masked = data.example(0, &encoder(true)).unwrap();
    let library = Library::on_disk(exo_models::Catalog::new(Vec::new()), None);
    let speaker = library.speaker(Some(exo_models::embedded::ID)).unwrap();
    let prompt = "<|im_start|>user\nOnce upon<|im_end|>\n<|im_start|>assistant\n";
    let prompt = speaker.encode(prompt).unwrap();
    assert_eq!(masked.learned_from, prompt.len());
    assert!(masked.tokens.len() > prompt.len());
}

#[test]
fn an_example_that_teaches_nothing_is_refused_with_its_line() {
    let folder = folder("{\"text\": \"\"}");
    let mut data = Dataset::open(folder.path(), Split::Train).unwrap();
    let told = data.example(0, &encoder(false)).unwrap_err().to_string();
    assert!(
        told.contains("train.jsonl:1: expected at least two tokens"),
        "{told}"
    );
}

#[test]
fn a_file_that_changes_meanwhile_is_an_error() {
    let folder = folder("{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n");
    let mut data = Dataset::open(folder.path(), Split::Train).unwrap();
    fs::write(
        folder.path().join("train.jsonl"),
        "{\"text\": \"a b c\"}\n{\"te",
    )
    .unwrap();
    assert!(data.example(0, &encoder(false)).is_err());
    assert!(data.example(1, &encoder(false)).is_err());
}
