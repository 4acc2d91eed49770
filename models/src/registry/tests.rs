use super::{entries, find};

#[test]
fn the_references_entries_come_first() {
    let reference = &entries()[..73];
    assert_eq!(
        reference.first().map(|entry| entry.id),
        Some("llama-3.3-70b")
    );
    assert_eq!(reference.last().map(|entry| entry.id), Some("dummy"));
    assert_eq!(
        reference
            .iter()
            .filter(|entry| entry.repo.is_some())
            .count(),
        72
    );
    assert_eq!(
        reference
            .iter()
            .filter(|entry| entry.tinygrad_repo.is_some())
            .count(),
        11
    );
    assert_eq!(
        reference
            .iter()
            .filter(|entry| entry.pretty.is_none())
            .count(),
        1
    );
    assert_eq!(entries().len(), 75);
}

#[test]
fn ids_are_unique_and_entries_sound() {
    for entry in entries() {
        assert_eq!(find(entry.id), Some(entry));
        assert!(entry.layers > 0);
        for repo in entry.repos() {
            assert_eq!(repo.split('/').count(), 2, "{repo}");
        }
    }
    assert_eq!(find("gpt-4o"), None);
}

#[test]
fn an_entry_of_each_kind() {
    let llama = find("llama-3.2-1b-8bit").unwrap();
    assert_eq!(llama.layers, 16);
    assert_eq!(llama.repo, Some("mlx-community/Llama-3.2-1B-Instruct-8bit"));
    assert_eq!(llama.tinygrad_repo, Some("unsloth/Llama-3.2-1B-Instruct"));
    assert_eq!(llama.pretty, Some("Llama 3.2 1B (8-bit)"));
    let dummy = find("dummy").unwrap();
    assert_eq!((dummy.layers, dummy.repos().count()), (8, 0));
    let small = find("smollm2-135m").unwrap();
    assert_eq!(
        small.repos().collect::<Vec<_>>(),
        ["HuggingFaceTB/SmolLM2-135M-Instruct"]
    );
    assert_eq!((small.layers, small.pretty), (30, Some("SmolLM2 135M")));
}
