//! Models as users of the crate see them, in both formats.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    ChatMessage, FfnPart, LayerWeight, Model, ModelError, WeightKind, WeightName,
    test_files::{GgufFile, LAYERS, hugging_face_tensors, safetensors, write_folder},
};

/// Splits the tiny model's weights over one file per layer, as large models are.
pub(crate) fn write_sharded(folder: &Path) {
    write_folder(folder, false);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (index, tensors) in hugging_face_tensors(false).into_iter().enumerate() {
        let name = format!("model-{index}.safetensors");
        fs::write(folder.join(&name), safetensors(&tensors)).unwrap();
        map.extend(tensors.into_iter().map(|(tensor, _)| (tensor, json!(name))));
    }
    let index = json!({"metadata": {"total_size": 12345}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn both_formats_answer_to_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let hf = folder.path().join("tiny-hf");
    write_folder(&hf, true);
    let gguf = folder.path().join("tiny.Q8_0.gguf");
    GgufFile::tiny().write(&gguf);
    for (path, id, matrix, vector) in [
        (&hf, "tiny-hf", WeightKind::F16, WeightKind::F16),
        (&gguf, "tiny.Q8_0", WeightKind::Q8_0, WeightKind::F32),
    ] {
        let model = Model::open(path).unwrap();
        assert_eq!(model.id(), id);
        let weights = model.weights(0..LAYERS).unwrap();
        for (name, rows, cols, kind) in [
            (WeightName::TokenEmbedding, 261, 32, matrix),
            (WeightName::OutputNorm, 1, 32, vector),
            (WeightName::Layer(1, LayerWeight::AttnK), 16, 32, matrix),
            (
                WeightName::Layer(0, LayerWeight::Ffn(FfnPart::Down)),
                32,
                64,
                matrix,
            ),
            (WeightName::Layer(0, LayerWeight::FfnNorm), 1, 32, vector),
        ] {
            let view = weights.get(name).unwrap();
            assert_eq!(
                (view.rows, view.cols, view.kind),
                (rows, cols, kind),
                "{name:?}"
            );
            assert_eq!(view.data.len(), rows * kind.row_bytes(cols).unwrap());
        }
        // Tied, and without biases.
        assert!(weights.find(WeightName::Output).unwrap().is_none());
        let bias = WeightName::Layer(0, LayerWeight::AttnQBias);
        assert!(weights.find(bias).unwrap().is_none());
        let error = weights.get(bias).unwrap_err();
        assert!(matches!(error, ModelError::MissingTensor { .. }), "{error}");

        assert_eq!(
            model.tokenizer().unwrap().encode("ab a<|im_end|>").unwrap(),
            [257, 256, 260]
        );
        let hello = ChatMessage::new("user", "Hi");
        let text = model
            .chat_template()
            .unwrap()
            .render(&[hello], None, true)
            .unwrap();
        assert_eq!(
            text,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}

#[test]
fn views_outlive_the_model_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let mut file = GgufFile::tiny();
    let last = file.tensors.last_mut().unwrap();
    last.data = (0..128).collect();
    file.write(&path);
    let view = Model::open(&path)
        .unwrap()
        .weights(1..2)
        .unwrap()
        .get(WeightName::OutputNorm);
    drop(folder);
    assert_eq!(*view.unwrap().data, *(0..128).collect::<Vec<u8>>());
}

#[test]
fn only_the_files_of_the_layers_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path());
    let model = Model::open(folder.path()).unwrap();
    assert_eq!(model.config().weight_bytes, 12345);
    model.weights(0..LAYERS).unwrap();

    // Without the embedding and the first layer's file, the second layer is still whole.
    for gone in ["model-0.safetensors", "model-1.safetensors"] {
        fs::remove_file(folder.path().join(gone)).unwrap();
    }
    let last = model.weights(1..2).unwrap();
    last.get(WeightName::Output).unwrap();
    for other in [
        WeightName::TokenEmbedding,
        WeightName::Layer(0, LayerWeight::AttnQ),
    ] {
        assert!(matches!(
            last.find(other),
            Err(ModelError::NotLoaded { .. })
        ));
    }
    let error = model.weights(0..1).unwrap_err();
    assert!(matches!(&error, ModelError::MissingFile { .. }), "{error}");
    assert!(error.to_string().contains("model-0.safetensors"), "{error}");
}

#[test]
fn ranges_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), true);
    let model = Model::open(folder.path()).unwrap();
    for range in [0..0, 1..1, 0..LAYERS + 1, 5..6, LAYERS..u32::MAX] {
        let error = model.weights(range).unwrap_err();
        assert!(
            matches!(error, ModelError::LayerRange { layers: LAYERS, .. }),
            "{error}"
        );
    }
}

#[test]
fn the_tied_embedding_belongs_to_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path(), true);
    let model = Model::open(folder.path()).unwrap();
    for range in [0..1, 1..2] {
        model
            .weights(range)
            .unwrap()
            .get(WeightName::TokenEmbedding)
            .unwrap();
    }
}

#[test]
fn broken_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path());
    let model = Model::open(folder.path()).unwrap();
    let path = folder.path().join("model-2.safetensors");
    let good = fs::read(&path).unwrap();

    fs::write(&path, &good[..good.len() - 1]).unwrap();
    let error = model.weights(1..2).unwrap_err().to_string();
    assert!(
        error.contains("model-2.safetensors") && error.contains("down_proj"),
        "{error}"
    );
    model.weights(0..1).unwrap();

    let mut tensors = hugging_face_tensors(false).remove(2);
    tensors[1].1 = vec![32, 16];
    fs::write(&path, safetensors(&tensors)).unwrap();
    let error = model.weights(1..2).unwrap_err().to_string();
    assert!(
        error.contains("q_proj") && error.contains("32 × 32"),
        "{error}"
    );

    tensors.remove(1);
    fs::write(&path, safetensors(&tensors)).unwrap();
    let error = model.weights(1..2).unwrap_err();
    assert!(
        matches!(&error, ModelError::MissingTensor { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("model.layers.1.self_attn.q_proj.weight"),
        "{error}"
    );
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_sharded(folder.path());
    let path = folder.path().join("model.safetensors.index.json");
    let index = fs::read_to_string(&path).unwrap();
    for outside in [
        "../model-0.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "..",
    ] {
        fs::write(&path, index.replace("model-0.safetensors", outside)).unwrap();
        let error = Model::open(folder.path())
            .unwrap()
            .weights(0..1)
            .unwrap_err();
        assert!(matches!(error, ModelError::Field { .. }), "{error}");
    }
}

#[test]
fn paths_that_are_no_models() {
    let folder = tempfile::tempdir().unwrap();
    let error = Model::open(&folder.path().join("gone")).unwrap_err();
    assert!(matches!(error, ModelError::Io { .. }), "{error}");
    let error = Model::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");

    let weights = folder.path().join("model.safetensors");
    fs::write(&weights, safetensors(&[])).unwrap();
    let error = Model::open(&weights).unwrap_err();
    assert!(error.to_string().contains("give the folder"), "{error}");

    // One GGUF file in a folder stands for the folder, of two somebody has to choose.
    GgufFile::tiny().write(&folder.path().join("a.gguf"));
    Model::open(folder.path()).unwrap();
    fs::remove_file(&weights).unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    Model::open(folder.path()).unwrap();
    fs::remove_file(folder.path().join("config.json")).unwrap();
    GgufFile::tiny().write(&folder.path().join("b.gguf"));
    let error = Model::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("2 .gguf files"), "{error}");
}

#[test]
fn the_built_in_model_is_whole() {
    let model = Model::embedded().unwrap();
    assert_eq!(model.id(), crate::embedded::ID);
    let config = model.config();
    assert_eq!(
        crate::registry::find("stories").unwrap().layers,
        config.layers
    );
    model.weights(0..config.layers).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    assert!(tokenizer.vocab() <= config.vocab);
    assert!(std::sync::Arc::ptr_eq(
        &tokenizer,
        &model.clone().tokenizer().unwrap()
    ));
    let text = "Once upon a time, there was a fox.";
    assert_eq!(
        tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(),
        text
    );
    let hello = ChatMessage::new("user", text);
    let prompt = model
        .chat_template()
        .unwrap()
        .render(&[hello], None, true)
        .unwrap();
    assert!(prompt.contains(text), "{prompt}");
}

/// `transformers` rendered and tokenized these conversations where the model was made.
#[test]
fn the_built_in_model_reads_as_it_was_taught() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../stories/golden.json")).unwrap();
    let model = Model::embedded().unwrap();
    let prompts = golden["prompts"].as_array().unwrap();
    assert!(!prompts.is_empty());
    for prompt in prompts {
        let messages: Vec<ChatMessage> =
            serde_json::from_value(prompt["messages"].clone()).unwrap();
        let text = model
            .chat_template()
            .unwrap()
            .render(&messages, None, true)
            .unwrap();
        assert_eq!(text, prompt["prompt_text"]);
        assert_eq!(
            json!(model.tokenizer().unwrap().encode(&text).unwrap()),
            prompt["prompt_tokens"]
        );
    }
}

#[test]
fn models_and_weights_go_between_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Model>();
    check::<crate::Weights>();
    check::<crate::WeightView>();
    check::<crate::Tokenizer>();
    check::<crate::TokenStream>();
    check::<crate::ChatTemplate>();
    check::<ModelError>();
    check::<crate::Catalog>();
}
