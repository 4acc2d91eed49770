//! The same in GGUF files.

use crate::{engines, refused};
use exo_tests::families::gguf::{Gguf, Meta, converted};

const NAME: &str = "blk.1.attn_q.weight";

type Change = fn(&mut Gguf);

fn as_type(gguf: &mut Gguf, number: u32) {
    gguf.types.insert(NAME.to_owned(), number);
}

#[test]
fn damaged_and_lying_files() {
    let cases: [(&str, Change, &[&str]); 10] = [
        ("unknown type", |g| as_type(g, 99), &[NAME, "99"]),
        (
            "a type that is not multiplied with",
            |g| as_type(g, 16),
            &[NAME],
        ),
        ("missing tensor", |g| drop(g.tensors.remove(NAME)), &[NAME]),
        (
            "turned shape",
            |g| g.tensors.get_mut(NAME).expect("there").0.reverse(),
            &[NAME, "64", "32"],
        ),
        (
            "not a number",
            |g| g.tensors.get_mut(NAME).expect("there").1[40] = f32::NAN,
            &[NAME],
        ),
        (
            "infinite",
            |g| g.tensors.get_mut("output.weight").expect("there").1[0] = f32::INFINITY,
            &["output.weight"],
        ),
        (
            "unknown architecture",
            |g| {
                drop(
                    g.metadata
                        .insert("general.architecture".into(), Meta::Text("mamba".into())),
                );
            },
            &["mamba"],
        ),
        (
            "no layers",
            |g| drop(g.metadata.remove("llama.block_count")),
            &["block_count"],
        ),
        (
            "more heads",
            |g| {
                drop(
                    g.metadata
                        .insert("llama.attention.head_count".into(), Meta::U32(8)),
                )
            },
            &["attn_q"],
        ),
        (
            "a number as text",
            |g| {
                drop(
                    g.metadata
                        .insert("llama.embedding_length".into(), Meta::Text("wide".into())),
                );
            },
            &["embedding_length"],
        ),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.gguf");
    let mut wrong = Vec::new();
    let mut see = |name: &str, bytes: &[u8], words: &[&str]| {
        std::fs::write(&file, bytes).expect("writes");
        for kind in engines() {
            let words = [words, &["model.gguf"]].concat();
            if let Err(why) = refused(kind, &file, 4, &words) {
                wrong.push(format!("{name}, {}: {why}", kind.name()));
            }
        }
    };
    let good = converted("mistral");
    for (name, change, words) in cases {
        let mut gguf = good.clone();
        change(&mut gguf);
        see(name, &gguf.bytes(), words);
    }
    let bytes = good.bytes();
    see("cut short", &bytes[..bytes.len() / 2], &[]);
    see("cut in its header", &bytes[..500], &[]);
    see(
        "another version",
        &[b"GGUF\x63\0\0\0", &bytes[8..]].concat(),
        &["99"],
    );
    see("another format", &[b"GGML", &bytes[4..]].concat(), &[]);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
