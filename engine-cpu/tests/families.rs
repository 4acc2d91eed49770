//! The same bits of every family, however the work is cut.
//!
//! That they are also the right ones is shown in the tests of all engines.

mod common;

use common::pieces::{cut, prompt, run};
use common::{engine, options};
use exo_engine_cpu::kernels::Kernels;
use exo_engine_cpu::{CpuEngine, CpuOptions, Precision};
use exo_models::Model;
use std::path::PathBuf;

/// The small checkpoints of all families.
fn checkpoints() -> Vec<(String, Model)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/families/checkpoints");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let named = paths.into_iter().map(|path| {
        let name = path.file_name().expect("a name").to_string_lossy();
        let model = Model::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.into_owned(), model)
    });
    named.collect()
}

fn with(model: &Model, options: CpuOptions, kernels: &'static Kernels) -> CpuEngine {
    let opened = model.clone();
    let open = Box::new(move |_: &str| Ok(opened.clone()));
    CpuEngine::with_kernels(options, open, kernels).expect("threads start")
}

#[test]
fn every_family_gives_the_same_bits_however_it_is_cut() {
    let mut computed = 0;
    for (name, model) in checkpoints() {
        let config = model.config();
        computed += 1;
        let layers = config.layers;
        // Longer than every window, than a page of the KV cache and than a batch of a prompt.
        let prompt = prompt(150, config.vocab);
        let scalar = &Kernels::SCALAR;
        let all = cut(&[], layers);
        let expected = run(
            &mut with(&model, options(1), scalar),
            &all,
            &prompt,
            &[150],
            4,
        );
        let finite = |bits: &u32| f32::from_bits(*bits).is_finite();
        assert!(expected.1.iter().flatten().all(finite), "{name}");
        let every: Vec<u32> = (1..layers).collect();
        let ways: [(usize, &[u32], &[usize]); 3] = [
            (3, &[], &[150]),
            (1, &every, &[150]),
            (2, &[1], &[1, 70, 3]),
        ];
        for kernels in Kernels::available() {
            for (threads, at, blocks) in ways {
                let mut engine = with(&model, options(threads), kernels);
                let got = run(&mut engine, &cut(at, layers), &prompt, blocks, 4);
                let on = kernels.name;
                assert!(
                    got == expected,
                    "{name} on {on}, {threads}, {at:?}, {blocks:?}"
                );
            }
        }
    }
    assert!(computed > 30, "only {computed} checkpoints");
}

#[test]
fn single_precision_gives_the_same_bits_too() {
    let mut single = options(1);
    single.precision = Precision::Single;
    for (name, model) in checkpoints() {
        let layers = model.config().layers;
        let prompt = prompt(70, model.config().vocab);
        let all = cut(&[], layers);
        let expected = run(&mut engine(&model, single.clone()), &all, &prompt, &[70], 2);
        let mut two = single.clone();
        two.threads = 2;
        let cuts = cut(&[1], layers);
        let got = run(&mut engine(&model, two), &cuts, &prompt, &[1, 66], 2);
        assert!(got == expected, "{name}");
        // And others than the usual precision, or it would be of no use.
        let mixed = run(&mut engine(&model, options(1)), &all, &prompt, &[70], 2);
        assert!(mixed.1 != expected.1, "{name}");
    }
}
