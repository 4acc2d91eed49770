//! Which names somebody may have meant.

/// The most that are worth showing.
const MOST: usize = 3;

/// The known names that are closest to `name`, if any is close at all.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let name = name.to_lowercase();
    let limit = (name.chars().count() / 4).max(1);
    let mut near: Vec<(usize, &str)> = known
        .filter_map(|known| {
            let distance = distance(&name, &known.to_lowercase());
            let part = name.len() >= 4 && known.to_lowercase().contains(&name);
            // A part of a name is as good as a small slip.
            let rank = if part { distance.min(1) } else { distance };
            (rank <= limit).then_some((rank, known))
        })
        .collect();
    near.sort();
    near.dedup();
    near.into_iter()
        .take(MOST)
        .map(|(_, known)| known.to_owned())
        .collect()
}

/// Levenshtein's distance: how many characters must be added, taken away or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (&to, (&diagonal, &above)) in b.iter().zip(row.iter().zip(row.iter().skip(1))) {
            let left = next.last().copied().unwrap_or_default();
            let change = diagonal + usize::from(from != to);
            next.push(change.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{distance, near};

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
    }

    #[test]
    fn near_names() {
        let known = ["llama-3.2-1b", "llama-3.2-3b", "qwen-2.5-7b", "stories"];
        let near = |name| near(name, known.into_iter());
        assert_eq!(near("llama3.2-1b"), ["llama-3.2-1b", "llama-3.2-3b"]);
        assert_eq!(near("Stories"), ["stories"]);
        assert_eq!(near("qwen"), ["qwen-2.5-7b"]);
        assert!(near("gpt-4o").is_empty());
    }
}
