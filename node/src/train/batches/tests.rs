use super::*;
use crate::library::Library;
use crate::train::Split;
use std::fs;

fn example(tokens: &[u32], learned_from: usize) -> Example {
    Example {
        tokens: tokens.to_vec(),
        learned_from,
    }
}

#[test]
fn targets_are_what_follows_and_padding_does_not_count() {
    let batch = Batch::new(&[example(&[5, 6, 7], 0), example(&[1, 2, 3, 4, 9], 3)]);
    assert_eq!(batch.sequences, 2);
    assert_eq!(batch.tokens, [5, 6, 0, 0, 1, 2, 3, 4]);
    assert_eq!(batch.targets.tokens, [6, 7, 0, 0, 2, 3, 4, 9]);
    // Three tokens are two predictions, not three; tokens 3 and 4 are predicted at positions 2, 3.
    assert_eq!(batch.targets.counted, [(0, 2), (2, 4)]);
    assert_eq!(batch.positions(), 4);
}

#[test]
fn a_prompt_that_fills_everything_teaches_nothing() {
    let batch = Batch::new(&[example(&[5, 6, 7], 9)]);
    assert_eq!(batch.targets.counted, [(2, 2)]);
    assert_eq!(batch.positions(), 0);
    assert_eq!(Batch::new(&[]).positions(), 0);
}

fn batches(lines: usize, batch_size: u32, max_seq_length: u32, seed: u64) -> Batches {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..lines)
        .map(|line| format!("{{\"text\": \"Once {}\"}}\n", "a ".repeat(line % 7 + 1)))
        .collect();
    fs::write(folder.path().join("train.jsonl"), text).unwrap();
    let data = Dataset::open(folder.path(), Split::Train).unwrap();
    let library = Library::on_disk(exo_models::Catalog::new(Vec::new()), None);
    let speaker = library.speaker(Some(exo_models::embedded::ID)).unwrap();
    let encoder = Encoder::new(speaker, false);
    Batches::new(data, encoder, batch_size, max_seq_length, seed)
}

#[test]
fn an_epoch_has_every_example_once() {
    let mut batches = batches(10, 4, 64, 3);
    assert_eq!((batches.examples(), batches.per_epoch()), (10, 3));
    for epoch in 0..2 {
        let steps = (0..3).map(|at| batches.get(epoch * 3 + at).unwrap());
        let mut sizes: Vec<u32> = steps.map(|batch| batch.sequences).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 4, 4]);
    }
}

#[test]
fn a_step_is_the_same_batch_wherever_one_begins() {
    let mut through = batches(40, 3, 64, 5);
    let all: Vec<Batch> = (0..30).map(|step| through.get(step).unwrap()).collect();
    let mut resumed = batches(40, 3, 64, 5);
    for step in [29, 3, 14, 15] {
        assert_eq!(resumed.get(step).unwrap(), all[step as usize]);
    }
    let mut other = batches(40, 3, 64, 6);
    let others: Vec<Batch> = (0..30).map(|step| other.get(step).unwrap()).collect();
    assert_ne!(others, all);
}

#[test]
fn long_examples_are_cut() {
    let mut batches = batches(7, 7, 4, 0);
    let batch = batches.get(0).unwrap();
    assert_eq!(batch.tokens.len(), 7 * 3);
    assert!(
        batch
            .targets
            .counted
            .iter()
            .all(|&(from, to)| from == 0 && to <= 3)
    );
}
