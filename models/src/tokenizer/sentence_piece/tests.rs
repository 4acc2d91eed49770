use std::sync::Arc;

use serde::Deserialize;

use crate::{
    ModelError, Tokenizer,
    gguf::{Array, Gguf, Value},
    test_files::GgufFile,
};

/// Two vocabularies that sentencepiece 0.2 learned from this project's documents, one as Llama 2 and
/// Mistral have theirs, one as Gemma has, and what it makes of some texts: tokens, and the text of
/// those again.
const GOLDEN: &str = include_str!("golden.json");

#[derive(Deserialize)]
struct Vocabulary {
    name: String,
    space_prefix: bool,
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    cases: Vec<(String, Vec<u32>, String)>,
}

fn golden() -> Vec<Vocabulary> {
    serde_json::from_str(GOLDEN).unwrap()
}

fn file(vocabulary: &Vocabulary) -> GgufFile {
    let Vocabulary {
        tokens,
        scores,
        types,
        ..
    } = vocabulary;
    let mut file = GgufFile::tiny();
    file.set("tokenizer.ggml.model", Value::String("llama".to_owned()));
    for (name, value) in [
        ("tokens", Array::String(tokens.clone())),
        ("scores", Array::F32(scores.clone())),
        ("token_type", Array::I32(types.clone())),
    ] {
        file.set(&format!("tokenizer.ggml.{name}"), Value::Array(value));
    }
    if !vocabulary.space_prefix {
        file.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    }
    file.remove("tokenizer.ggml.merges");
    file.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    file.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    file
}

fn tokenizer(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let bytes = file.bytes().0;
    let gguf = Gguf::parse(&bytes).unwrap();
    let config = crate::config::from_gguf("some.gguf".as_ref(), &gguf, &bytes)?;
    crate::tokenizer::from_gguf("some.gguf".as_ref(), &gguf, &config)
}

#[test]
fn tokens_are_those_of_sentencepiece() {
    for vocabulary in golden() {
        let name = &vocabulary.name;
        let tokenizer = Arc::new(tokenizer(&file(&vocabulary)).unwrap());
        for (text, expected, decoded) in &vocabulary.cases {
            let found = tokenizer.encode(text).unwrap();
            // The vocabulary does not say whether texts begin with a token; ours do then.
            let (bos, rest) = found.split_first().unwrap();
            assert_eq!((*bos, rest), (1, &**expected), "{name}: {text:?}");
            assert_eq!(&tokenizer.decode(&found).unwrap(), decoded, "{name}");
            let mut stream = tokenizer.stream();
            let mut pieces: String = found.iter().map(|&t| stream.push(t).unwrap()).collect();
            pieces += &stream.finish().unwrap();
            assert_eq!(&pieces, decoded, "{name}");
        }
    }
}

#[test]
fn special_tokens_are_found_first() {
    let mut vocabulary = golden().remove(0);
    let token = vocabulary.tokens.len() - 1;
    vocabulary.tokens[token] = "[INST]".to_owned();
    vocabulary.types[token] = 3;
    let tokenizer = tokenizer(&file(&vocabulary)).unwrap();
    let (first, space_a) = (token as u32, tokenizer.token("▁a").unwrap());
    // What follows one begins with a space of its own.
    assert_eq!(tokenizer.encode("[INST]a").unwrap(), [1, first, space_a]);
    assert_eq!(tokenizer.decode(&[1, first, space_a]).unwrap(), "a");
}

#[test]
fn wrong_scores_are_named() {
    let key = "tokenizer.ggml.scores";
    let vocabulary = golden().remove(0);
    let mut missing = file(&vocabulary);
    missing.remove(key);
    let error = tokenizer(&missing).unwrap_err().to_string();
    assert!(
        error.contains("some.gguf has no") && error.contains(key),
        "{error}"
    );

    let mut short = vocabulary.scores.clone();
    short.pop();
    let mut none = vocabulary.scores.clone();
    none[300] = f32::NAN;
    for (key, value) in [
        (key, Value::Array(Array::F32(short))),
        (key, Value::Array(Array::F32(none))),
        (key, Value::U32(1)),
        ("tokenizer.ggml.add_space_prefix", Value::U32(1)),
    ] {
        let mut wrong = file(&vocabulary);
        wrong.set(key, value);
        let error = tokenizer(&wrong).unwrap_err().to_string();
        assert!(
            error.contains("some.gguf") && error.contains(key),
            "{error}"
        );
    }
}
