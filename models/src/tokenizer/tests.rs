use std::{path::Path, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::{MAX_TEXT, Tokenizer, from_folder, from_gguf};
use crate::{
    ModelConfig, ModelError,
    folder::Folder,
    gguf::{Array, Gguf, Value},
    test_files::{self, GgufFile, IM_END, IM_START},
};

fn config(add_bos: bool) -> ModelConfig {
    let bytes = GgufFile::tiny().bytes().0;
    let gguf = Gguf::parse(&bytes).unwrap();
    let config = crate::config::from_gguf(Path::new("tiny.gguf"), &gguf, &bytes).unwrap();
    ModelConfig { add_bos, ..config }
}

fn gguf_tokenizer(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let gguf = Gguf::parse(&file.bytes().0).unwrap();
    from_gguf(Path::new("tiny.gguf"), &gguf, &config(false))
}

fn folder_tokenizer(json: &Json, add_bos: bool) -> Result<Tokenizer, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    from_folder(&Folder::Disk(folder.path().to_owned()), &config(add_bos))
}

#[test]
fn both_formats_make_the_same_tokens() {
    let ours = gguf_tokenizer(&GgufFile::tiny()).unwrap();
    let theirs = folder_tokenizer(&test_files::tokenizer(), false).unwrap();
    for text in [
        "",
        "ab ab a b",
        "<|im_start|>ab<|im_end|> é🎉",
        "<|im_start",
        "12 'll\n\n x",
    ] {
        assert_eq!(
            ours.encode(text).unwrap(),
            theirs.encode(text).unwrap(),
            "{text}"
        );
    }
    assert_eq!(ours.vocab(), 261);
    assert_eq!(theirs.vocab(), 261);
    assert_eq!(ours.token("<|im_end|>"), Some(IM_END));
    assert_eq!(
        ours.decode(&[IM_START, 257, 256, IM_END, 99_999]).unwrap(),
        "ab a"
    );
}

/// The tiny tokenizer.json says to cut texts at three tokens.
#[test]
fn truncation_left_in_the_file_is_ignored() {
    let tokenizer = folder_tokenizer(&test_files::tokenizer(), false).unwrap();
    assert_eq!(tokenizer.encode("one two three").unwrap().len(), 13);
}

#[test]
fn a_text_begins_once() {
    let tokenizer = folder_tokenizer(&test_files::tokenizer(), true).unwrap();
    assert_eq!(tokenizer.encode("ab").unwrap(), [IM_START, 257]);
    assert_eq!(tokenizer.encode("<|im_start|>ab").unwrap(), [IM_START, 257]);
    assert_eq!(tokenizer.encode("").unwrap(), [IM_START]);
}

#[test]
fn endless_texts_are_refused() {
    let tokenizer = gguf_tokenizer(&GgufFile::tiny()).unwrap();
    let error = tokenizer.encode(&"a".repeat(MAX_TEXT + 1)).unwrap_err();
    assert!(matches!(
        error,
        ModelError::TextTooLong {
            limit: MAX_TEXT,
            ..
        }
    ));
}

#[test]
fn how_each_kind_cuts_words() {
    let cut = |pre: &str, text: &str| -> Vec<String> {
        let words = from_gguf::Words::named(pre)
            .unwrap()
            .pre_tokenizer()
            .unwrap();
        let mut pieces = PreTokenizedString::from(text);
        words.pre_tokenize(&mut pieces).unwrap();
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .into_iter()
            .map(|(_, (start, end), _)| text[start..end].to_owned())
            .collect()
    };
    let text = "IT'S 12345\r\n\nx (ok)  y";
    let expected = [
        "IT", "'", "S", " 12345", "\r\n", "\n", "x", " (", "ok", ")", " ", " y",
    ];
    assert_eq!(cut("gpt-2", text), expected);
    assert_eq!(cut("default", text), expected);
    let digits = |before: &[&'static str], digits: &[&'static str], line: &[&'static str]| {
        let rest = ["x", " (", "ok", ")", " ", " y"];
        [before, digits, line, &rest].concat()
    };
    let single = ["1", "2", "3", "4", "5"];
    let expected = digits(&["IT", "'", "S", " "], &single, &["\r\n", "\n"]);
    assert_eq!(cut("smollm", text), expected);
    let expected = digits(&["IT", "'S", " "], &["123", "45"], &["\r\n\n"]);
    assert_eq!(cut("llama-bpe", text), expected);
    assert_eq!(cut("smaug-bpe", text), expected);
    let expected = digits(&["IT", "'S", " "], &single, &["\r\n\n"]);
    assert_eq!(cut("qwen2", text), expected);
    let expected = digits(&["IT'S", " "], &["123", "45"], &["\r\n\n"]);
    assert_eq!(cut("gpt-4o", text), expected);
    let expected = ["camel", "Case", " HTTPServer's", " Straße", "!//\n"];
    assert_eq!(
        cut("gpt-4o", "camelCase HTTPServer's Straße!//\n"),
        expected
    );
}

#[test]
fn token_types_matter() {
    let mut file = GgufFile::tiny();
    let mut types = vec![1; 261];
    types[257] = 4;
    types[260] = 3;
    file.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    let tokenizer = gguf_tokenizer(&file).unwrap();
    // User-defined tokens are found inside words, but are part of the text.
    let ids = tokenizer.encode("xabx<|im_end|>").unwrap();
    assert_eq!(ids[1..], [257, ids[0], 260]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "xabx");
    // A normal token is text, whatever it looks like.
    assert!(tokenizer.encode("<|im_start|>").unwrap().len() > 1);
}

#[test]
fn wrong_vocabularies_are_named() {
    let with = |key: &str, value: Value| {
        let mut file = GgufFile::tiny();
        file.set(key, value);
        gguf_tokenizer(&file).unwrap_err()
    };
    let texts = |texts: &[&str]| {
        Value::Array(Array::String(
            texts.iter().map(|text| (*text).to_owned()).collect(),
        ))
    };
    for (key, value, expected) in [
        (
            "tokenizer.ggml.model",
            Value::String("bert".to_owned()),
            "SentencePiece",
        ),
        ("tokenizer.ggml.model", Value::U8(1), "a text"),
        (
            "tokenizer.ggml.pre",
            Value::String("tekken".to_owned()),
            "smollm",
        ),
        (
            "tokenizer.ggml.tokens",
            texts(&["a", "a"]),
            "\"a\" at 0 and at 1",
        ),
        ("tokenizer.ggml.tokens", Value::U8(1), "a list of texts"),
        ("tokenizer.ggml.merges", texts(&["a"]), "pairs of tokens"),
        (
            "tokenizer.ggml.merges",
            texts(&["a b c"]),
            "pairs of tokens",
        ),
        // Both halves are tokens, the whole is not: the library would panic.
        (
            "tokenizer.ggml.merges",
            texts(&["<|im_start|> <|im_start|>"]),
            "pairs of tokens",
        ),
        (
            "tokenizer.ggml.token_type",
            Value::Array(Array::I32(vec![1])),
            "one per token",
        ),
    ] {
        let error = with(key, value).to_string();
        assert!(
            error.contains("tiny.gguf") && error.contains(key),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    }
    for key in [
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ] {
        let mut file = GgufFile::tiny();
        file.remove(key);
        let error = gguf_tokenizer(&file).unwrap_err().to_string();
        assert!(error.contains("has no") && error.contains(key), "{error}");
    }
}

#[test]
fn wrong_tokenizer_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = from_folder(&Folder::Disk(folder.path().to_owned()), &config(false));
    assert!(missing.unwrap_err().to_string().contains("save_pretrained"));
    let error = folder_tokenizer(&json!({"version": "1.0"}), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
    let mut broken = test_files::tokenizer();
    broken["model"]["merges"] = json!(["<|im_start|> <|im_start|>"]);
    let error = folder_tokenizer(&broken, false).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}

/// A vocabulary of SentencePiece's kind: spaces are `▁`, unknown characters are byte tokens.
fn byte_fallback() -> Arc<Tokenizer> {
    let mut vocab = vec!["<unk>".to_owned(), "<s>".to_owned(), "</s>".to_owned()];
    vocab.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    vocab.extend(["▁", "a", "b", "▁a", "é"].map(str::to_owned));
    let vocab: serde_json::Map<_, _> = vocab
        .into_iter()
        .zip(0..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": vocab, "merges": ["▁ a"],
        },
    });
    Arc::new(folder_tokenizer(&file, false).unwrap())
}

fn streamed(tokenizer: &Arc<Tokenizer>, tokens: &[u32]) -> (Vec<String>, String) {
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<_> = tokens
        .iter()
        .map(|&token| stream.push(token).unwrap())
        .collect();
    pieces.push(stream.finish().unwrap());
    let text = pieces.concat();
    (pieces, text)
}

#[test]
fn characters_are_never_split() {
    let tokenizer = Arc::new(gguf_tokenizer(&GgufFile::tiny()).unwrap());
    let tokens = tokenizer.encode("é🎉a").unwrap();
    let (pieces, _) = streamed(&tokenizer, &tokens);
    assert_eq!(pieces, ["", "é", "", "", "", "🎉", "a", ""]);
    // Cut short, and broken in the middle.
    let (pieces, _) = streamed(&tokenizer, &tokens[..4]);
    assert_eq!(pieces, ["", "é", "", "", "\u{fffd}"]);
    let broken = [&tokens[..1], &tokens[6..]].concat();
    assert_eq!(streamed(&tokenizer, &broken).0, ["", "\u{fffd}a", ""]);
}

#[test]
fn spaces_are_right_with_any_decoder() {
    let tokenizer = byte_fallback();
    let tokens = tokenizer.encode("a  a é🎉").unwrap();
    let (pieces, text) = streamed(&tokenizer, &tokens);
    assert_eq!(text, "a  a é🎉");
    assert_eq!(pieces.first().map(String::as_str), Some("a"));
    // Special tokens in between are no text and no beginning.
    assert_eq!(streamed(&tokenizer, &[262, 2, 1, 262]).1, "a a");
}

#[test]
fn a_finished_stream_begins_anew() {
    let tokenizer = byte_fallback();
    let mut stream = tokenizer.stream();
    for _ in 0..2 {
        assert_eq!(stream.push(262).unwrap(), "a");
        assert_eq!(stream.push(262).unwrap(), " a");
        assert_eq!(stream.finish().unwrap(), "");
    }
}

proptest! {
    /// Any tokens at all: with bytes, the pieces are exactly the whole.
    #[test]
    fn pieces_of_any_tokens_are_the_whole(tokens in proptest::collection::vec(0_u32..300, 0..40)) {
        let tokenizer = Arc::new(gguf_tokenizer(&GgufFile::tiny()).unwrap());
        let (_, text) = streamed(&tokenizer, &tokens);
        prop_assert_eq!(text, tokenizer.decode(&tokens).unwrap());
    }

    #[test]
    fn pieces_of_a_text_are_the_text(text in "[ab é🎉日\\n]{0,24}") {
        for tokenizer in [Arc::new(gguf_tokenizer(&GgufFile::tiny()).unwrap()), byte_fallback()] {
            let tokens = tokenizer.encode(&text).unwrap();
            let (pieces, streamed) = streamed(&tokenizer, &tokens);
            prop_assert_eq!(&streamed, &text);
            prop_assert!(pieces.iter().all(|piece| !piece.contains(char::REPLACEMENT_CHARACTER)));
        }
    }

    /// Bytes above ASCII, which alone are no text, between letters: no letter is lost.
    #[test]
    fn broken_bytes_are_survived(
        tokens in proptest::collection::vec(prop_oneof![0_u32..3, 131_u32..270], 0..40),
    ) {
        let tokenizer = byte_fallback();
        let (_, text) = streamed(&tokenizer, &tokens);
        let letters = |text: &str| text.matches(['a', 'b']).count();
        prop_assert_eq!(letters(&text), letters(&tokenizer.decode(&tokens).unwrap()));
    }
}

#[test]
fn the_bytes_of_tokens_are_those_of_their_text() {
    let (bytes, pieces) = (
        Arc::new(gguf_tokenizer(&GgufFile::tiny()).unwrap()),
        byte_fallback(),
    );
    for tokenizer in [bytes, pieces] {
        for text in ["ab a b", "é🎉 a", "x\ny"] {
            let tokens = tokenizer.encode(text).unwrap();
            let all = tokens
                .iter()
                .flat_map(|&token| tokenizer.bytes(token).unwrap());
            let all = String::from_utf8(all.collect()).unwrap();
            // Where a text begins with a space of its own, decoders drop it.
            assert_eq!(all.trim_start(), text, "{tokenizer:?}");
        }
        assert_eq!(tokenizer.bytes(99_999), None);
    }
    let special = gguf_tokenizer(&GgufFile::tiny()).unwrap();
    let bytes = special.bytes(IM_END).unwrap();
    assert_eq!((bytes[0], &bytes[1..]), (0xff, &b"<|im_end|>"[..]));
}
