//! A real model: SmolLM2-135M-Instruct in GGUF, whose path `EXO_TEST_MODEL` has.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::Deserialize;

use crate::{
    ChatMessage, LayerWeight, Model, RopeLayout, Tokenizer, WeightKind, WeightName,
    gguf::{Gguf, Value},
};

fn path() -> Option<PathBuf> {
    let path = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from);
    if path.is_none() {
        eprintln!("SKIPPED: set EXO_TEST_MODEL to the path of SmolLM2-135M-Instruct.Q4_1.gguf");
    }
    path
}

#[test]
fn what_it_says_about_itself() {
    let Some(path) = path() else { return };
    let model = Model::open(&path).unwrap();
    let config = model.config();
    assert_eq!(
        (config.layers, config.hidden, config.intermediate),
        (30, 576, 1536)
    );
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!(
        (config.vocab, config.context, config.rope.theta),
        (49152, 8192, 100_000.0)
    );
    assert_eq!(config.rope.layout, RopeLayout::Interleaved);
    assert_eq!(
        (config.eos.as_slice(), config.bos, config.add_bos),
        (&[2, 0][..], Some(1), false)
    );
    assert!(config.tied_embeddings && !config.biases.qkv);

    let weights = model.weights(0..30).unwrap();
    let embedding = weights.get(WeightName::TokenEmbedding).unwrap();
    assert_eq!(
        (embedding.kind, embedding.rows, embedding.cols),
        (WeightKind::Q8_0, 49152, 576)
    );
    let keys = weights
        .get(WeightName::Layer(29, LayerWeight::AttnK))
        .unwrap();
    assert_eq!(
        (keys.kind, keys.rows, keys.cols),
        (WeightKind::Q4_1, 192, 576)
    );
}

#[test]
fn its_conversation() {
    let Some(path) = path() else { return };
    let model = Model::open(&path).unwrap();
    let message = ChatMessage::new("user", "Hi");
    let text = model
        .chat_template()
        .unwrap()
        .render(&[message], None, true)
        .unwrap();
    let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    let expected = format!(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\n"
    );
    assert_eq!(text, expected);
    let tokens = model.tokenizer().unwrap().encode(&text).unwrap();
    assert_eq!(tokens[..3], [1, 9690, 198]);
}

/// Tokens by llama.cpp, which has its own implementation, of each way to cut words.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

#[test]
fn its_tokens_are_llama_cpps() {
    let Some(path) = path() else { return };
    let golden: Golden =
        serde_json::from_str(include_str!("testdata/smollm2-tokens.json")).unwrap();
    let model = Model::open(&path).unwrap();
    let mut gguf = Gguf::parse(&std::fs::read(&path).unwrap()).unwrap();
    for (pre, expected) in golden.ids {
        gguf.metadata
            .insert("tokenizer.ggml.pre".to_owned(), Value::String(pre.clone()));
        let tokenizer = crate::tokenizer::from_gguf(&path, &gguf, model.config()).unwrap();
        let tokenizer = Arc::new(tokenizer);
        assert_eq!(expected.len(), golden.texts.len());
        for (text, expected) in golden.texts.iter().zip(expected) {
            // Qwen's own tokenizer.json composes characters first, and so do we; llama.cpp does not.
            if pre == "qwen2" && text.contains('\u{301}') {
                continue;
            }
            let tokens = tokenizer.encode(text).unwrap();
            assert_eq!(tokens, expected, "{pre}: {text:?}");
            check_decoding(&tokenizer, text, &tokens);
        }
    }
}

fn check_decoding(tokenizer: &Arc<Tokenizer>, text: &str, tokens: &[u32]) {
    let mut stream = tokenizer.stream();
    let mut streamed: String = tokens
        .iter()
        .map(|&token| stream.push(token).unwrap())
        .collect();
    streamed += &stream.finish().unwrap();
    assert_eq!(streamed, tokenizer.decode(tokens).unwrap());
    if !text.contains("<|") && !text.contains("<repo_name>") {
        assert_eq!(streamed, text);
    }
}
