//! Which bytes of a file are there.

use std::ops::Range;

/// Ranges of bytes, apart from each other and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// These too.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|one| one.end < range.start);
        let after = self.0.partition_point(|one| one.start <= range.end);
        let touched = self.0.get(first..after).unwrap_or_default();
        let start = touched.first().map_or(range.start, |one| one.start);
        let end = touched.last().map_or(range.end, |one| one.end);
        let joined = start.min(range.start)..end.max(range.end);
        self.0.splice(first..after.max(first), [joined]);
    }

    /// How many bytes follow each other from `from` on.
    pub(crate) fn run(&self, from: u64) -> u64 {
        let with = self.0.iter().find(|one| one.contains(&from));
        with.map_or(0, |one| one.end - from)
    }

    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.run(range.start) >= range.end - range.start
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|one| one.end - one.start).sum()
    }

    /// What of a range is not there.
    fn gaps(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for one in self.0.iter().filter(|one| one.end > range.start) {
            if one.start >= range.end {
                break;
            }
            if one.start > at {
                gaps.push(at..one.start);
            }
            at = at.max(one.end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// What to fetch of a file of `size` bytes so that all of `wanted` is there. What lies between
    /// two ranges, or before the end, comes along where it is no more than `gap` bytes.
    pub(crate) fn to_fetch(&self, wanted: &[Range<u64>], gap: u64, size: u64) -> Vec<Range<u64>> {
        let mut all = self.clone();
        for range in wanted {
            all.add(range.clone());
        }
        let mut joined: Vec<Range<u64>> = Vec::new();
        for range in all.0.into_iter().chain(std::iter::once(size..size)) {
            match joined.last_mut() {
                Some(last) if range.start.saturating_sub(last.end) <= gap => {
                    last.end = last.end.max(range.end);
                }
                _ => joined.push(range),
            }
        }
        joined.iter().flat_map(|range| self.gaps(range)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(list: &[Range<u64>]) -> Ranges {
        let mut ranges = Ranges::default();
        list.iter().for_each(|range| ranges.add(range.clone()));
        ranges
    }

    #[test]
    #[expect(
        clippy::single_range_in_vec_init,
        reason = "lists of ranges, some of one"
    )]
    fn gaps_that_are_small_come_along() {
        let have = ranges(&[0..10]);
        let wanted = [15..20, 40..50];
        assert_eq!(have.to_fetch(&wanted, 0, 100), [15..20, 40..50]);
        assert_eq!(have.to_fetch(&wanted, 5, 100), [10..20, 40..50]);
        assert_eq!(have.to_fetch(&wanted, 20, 100), [10..50]);
        assert_eq!(have.to_fetch(&wanted, 50, 100), [10..100]);
        assert_eq!(have.to_fetch(&[2..8], 5, 100), []);
    }

    proptest! {
        #[test]
        fn ranges_are_sets_of_bytes(
            list in prop::collection::vec((0_u64..64, 0_u64..20), 0..12),
            from in 0_u64..64, length in 0_u64..20,
        ) {
            let list: Vec<_> = list.into_iter().map(|(at, length)| at..at + length).collect();
            let there = |byte: &u64| list.iter().any(|range| range.contains(byte));
            let ranges = ranges(&list);
            prop_assert_eq!(ranges.total(), (0..100).filter(there).count() as u64);
            let apart = ranges.0.windows(2).all(|two| two[0].end < two[1].start);
            prop_assert!(apart, "{:?}", ranges);
            let wanted = from..from + length;
            prop_assert_eq!(ranges.covers(&wanted), wanted.clone().all(|byte| there(&byte)));
            prop_assert_eq!(ranges.run(from), (from..).take_while(there).count() as u64);
            let gaps: Vec<u64> = ranges.gaps(&wanted).into_iter().flatten().collect();
            let lacking: Vec<u64> = wanted.filter(|byte| !there(byte)).collect();
            prop_assert_eq!(gaps, lacking);
        }
    }
}
